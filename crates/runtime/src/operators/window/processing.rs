//! Windows of processing time: which windows a row belongs to is a matter of when it comes.

use super::assign::{Merge, WindowsOf};
use super::{Contents, FixedGap, Session, Sliding, Tumbling, Window, WindowAssigner};
use rivermark_types::Timestamp;
use std::time::Duration;

/// Windows of processing time: a row belongs to those of the time at which it comes, whatever its own time is, and no row is
/// late. They fire when the machine's clock reaches their end, also without further rows; what was due while the job was down
/// fires when it is back. What a run comes to is therefore not repeatable, though each row is counted exactly once; and
/// windows that are not over when a bounded job ends do not fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InProcessingTime<W>(W);

/// Tumbling windows of processing time.
pub type TumblingProcessingTime = InProcessingTime<Tumbling>;
/// Sliding windows of processing time.
pub type SlidingProcessingTime = InProcessingTime<Sliding>;
/// Sessions of processing time.
pub type SessionProcessingTime<G = FixedGap> = InProcessingTime<Session<G>>;

impl<W> InProcessingTime<W> {
    /// The same windows, in processing time; e.g. sessions with a gap of each row's own.
    pub fn of_windows(windows: W) -> InProcessingTime<W> {
        InProcessingTime(windows)
    }
}

impl TumblingProcessingTime {
    /// Windows of a size, one after the other; see [`Tumbling::of`].
    pub fn of(size: Duration) -> TumblingProcessingTime {
        InProcessingTime(Tumbling::of(size))
    }

    /// The same windows, beginning so much later.
    pub fn with_offset(self, offset: Duration) -> TumblingProcessingTime {
        InProcessingTime(self.0.with_offset(offset))
    }
}

impl SlidingProcessingTime {
    /// Windows of a size, one beginning at each multiple of `slide`; see [`Sliding::of`].
    pub fn of(size: Duration, slide: Duration) -> SlidingProcessingTime {
        InProcessingTime(Sliding::of(size, slide))
    }

    /// The same windows, beginning so much later.
    pub fn with_offset(self, offset: Duration) -> SlidingProcessingTime {
        InProcessingTime(self.0.with_offset(offset))
    }
}

impl SessionProcessingTime {
    /// Sessions that end when no row of a key has come for `gap`.
    pub fn gap(gap: Duration) -> SessionProcessingTime {
        InProcessingTime(Session::gap(gap))
    }
}

impl<T, W: WindowAssigner<T>> WindowAssigner<T> for InProcessingTime<W> {
    const MERGES: bool = W::MERGES;
    const NEEDS_TIME: bool = false;
    const PROCESSING_TIME: bool = true;
    fn assign(&self, row: &T, time: Timestamp, windows: &mut Vec<Window>) {
        self.0.assign(row, time, windows);
    }
}

impl<K, C: Contents<K>, W: WindowsOf<K, C>> WindowsOf<K, C> for InProcessingTime<W> {
    fn merge() -> Option<Merge<K, C>> {
        W::merge()
    }
}
