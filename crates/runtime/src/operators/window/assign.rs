//! Which windows a row belongs to.
//!
//! An assigner is pure: the same row and time always give the same windows. [`Sliding`] windows overlap, [`Session`]s are
//! as long as rows of a key keep coming, [`Global`] is one window of all time; [`Tumbling`] has a file of its own.

use super::{Contents, MergingContents, Tumbling, Window};
use rivermark_types::Timestamp;
use std::time::Duration;

/// Says which windows a row belongs to: any number, also none.
pub trait WindowAssigner<T>: Clone + Send + Sync + 'static {
    /// Whether windows of one key that overlap become one; a row then belongs to exactly one.
    const MERGES: bool = false;
    /// Whether rows must have an event time.
    const NEEDS_TIME: bool = true;
    /// Whether windows are spans of processing time: `time` is then when the row came, and they are over when that time is.
    const PROCESSING_TIME: bool = false;
    /// Adds the row's windows to `windows`, which is empty.
    fn assign(&self, row: &T, time: Timestamp, windows: &mut Vec<Window>);
}

/// Windows that are all of one size, so that the end says which window it is: they can be kept in a table each.
pub trait SizedWindows: Clone + Send + Sync + 'static {
    /// The window that ends at a time.
    fn window_to(&self, end: Timestamp) -> Window;
    /// Shows `each` the windows a time lies in, the latest first.
    fn windows_of(&self, time: Timestamp, each: impl FnMut(Window));
}

/// How two windows' contents become one.
pub type Merge<K, C> = fn(&C, &mut <C as Contents<K>>::Acc, <C as Contents<K>>::Acc);

/// An assigner together with contents that its windows can hold: those of windows that merge must be able to, too.
#[diagnostic::on_unimplemented(
    message = "windows of type `{Self}` cannot hold `{C}`",
    note = "sessions merge when a row closes the gap between two: use `.fold_merging(add, merge, finish)`, `.reduce(..)`, \
            `.process(..)`, or an aggregate that implements `MergeAggregate`"
)]
pub trait WindowsOf<K, C: Contents<K>>: WindowAssigner<C::Input> {
    /// How contents merge, if windows do.
    fn merge() -> Option<Merge<K, C>> {
        None
    }
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl<T> WindowAssigner<T> for Tumbling {
    fn assign(&self, _: &T, time: Timestamp, windows: &mut Vec<Window>) {
        windows.push(self.window_of(time));
    }
}
impl SizedWindows for Tumbling {
    fn window_to(&self, end: Timestamp) -> Window {
        Tumbling::window_to(self, end)
    }
    #[inline]
    fn windows_of(&self, time: Timestamp, mut each: impl FnMut(Window)) {
        each(self.window_of(time));
    }
}
impl<K, C: Contents<K>> WindowsOf<K, C> for Tumbling {}

/// Windows of one size that begin at regular distances: they overlap where the distance is shorter than the size, and leave
/// gaps (whose rows belong to no window) where it is longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sliding {
    size_ms: i64,
    slide_ms: i64,
    offset_ms: i64,
}

impl Sliding {
    /// Windows of a size, one beginning at each multiple of `slide` since 1970 (UTC). Both in whole milliseconds and at least
    /// one. A row costs as much as it has windows: size over slide.
    pub fn of(size: Duration, slide: Duration) -> Sliding {
        Sliding {
            size_ms: millis(size).max(1),
            slide_ms: millis(slide).max(1),
            offset_ms: 0,
        }
    }

    /// The same windows, beginning so much later.
    pub fn with_offset(self, offset: Duration) -> Sliding {
        let offset_ms = millis(offset) % self.slide_ms;
        Sliding { offset_ms, ..self }
    }
}

impl SizedWindows for Sliding {
    fn window_to(&self, end: Timestamp) -> Window {
        Window {
            start: Timestamp(end.0.saturating_sub(self.size_ms)),
            end,
        }
    }

    /// At the ends of all time windows are cut short, and those cut to the same end are one.
    #[inline]
    fn windows_of(&self, time: Timestamp, mut each: impl FnMut(Window)) {
        let into = time.0.saturating_sub(self.offset_ms).rem_euclid(self.slide_ms);
        let mut start = time.0.saturating_sub(into);
        let mut cut_off = false;
        while time.0.saturating_sub(start) < self.size_ms {
            let end = start.saturating_add(self.size_ms);
            if end < i64::MAX || !cut_off {
                each(Window {
                    start: Timestamp(start),
                    end: Timestamp(end),
                });
            }
            cut_off |= end == i64::MAX;
            match start.checked_sub(self.slide_ms) {
                Some(earlier) => start = earlier,
                None => break,
            }
        }
    }
}
impl<T> WindowAssigner<T> for Sliding {
    fn assign(&self, _: &T, time: Timestamp, windows: &mut Vec<Window>) {
        self.windows_of(time, |window| windows.push(window));
    }
}
impl<K, C: Contents<K>> WindowsOf<K, C> for Sliding {}

/// How long a session stays open behind a row.
pub trait SessionGap<T>: Clone + Send + Sync + 'static {
    /// The gap in milliseconds, at least 1.
    fn gap_ms(&self, row: &T) -> i64;
}

/// The same gap behind every row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedGap(i64);

impl<T> SessionGap<T> for FixedGap {
    fn gap_ms(&self, _: &T) -> i64 {
        self.0
    }
}

/// A gap that depends on the row.
#[derive(Clone, Copy, Debug)]
pub struct DynamicGap<G>(G);

impl<T, G: Fn(&T) -> Duration + Clone + Send + Sync + 'static> SessionGap<T> for DynamicGap<G> {
    fn gap_ms(&self, row: &T) -> i64 {
        millis((self.0)(row)).max(1)
    }
}

/// Sessions: a window a key from its first row until no row has come for a gap. A row between two sessions makes them one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session<G = FixedGap> {
    gap: G,
}

impl Session {
    /// Sessions that end when a key has had no row for `gap`: in whole milliseconds, at least one.
    pub fn gap(gap: Duration) -> Session {
        let gap = FixedGap(millis(gap).max(1));
        Session { gap }
    }
}

impl<G> Session<DynamicGap<G>> {
    /// Sessions whose gap is each row's own: a row holds its session open until its time plus `gap(row)`.
    pub fn dynamic_gap<T>(gap: G) -> Session<DynamicGap<G>>
    where
        G: Fn(&T) -> Duration,
    {
        Session { gap: DynamicGap(gap) }
    }
}

impl<T, G: SessionGap<T>> WindowAssigner<T> for Session<G> {
    const MERGES: bool = true;
    fn assign(&self, row: &T, time: Timestamp, windows: &mut Vec<Window>) {
        windows.push(Window {
            start: time,
            end: Timestamp(time.0.saturating_add(self.gap.gap_ms(row))),
        });
    }
}
impl<K, C: MergingContents<K>, G: SessionGap<C::Input>> WindowsOf<K, C> for Session<G> {
    fn merge() -> Option<Merge<K, C>> {
        Some(C::merge)
    }
}

/// One window of all time. By itself it fires once, when its input has ended; mostly it has a trigger. Its rows need no
/// event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Global;

impl<T> WindowAssigner<T> for Global {
    const NEEDS_TIME: bool = false;
    fn assign(&self, _: &T, _: Timestamp, windows: &mut Vec<Window>) {
        windows.push(Window::ALL);
    }
}
impl<K, C: Contents<K>> WindowsOf<K, C> for Global {}
