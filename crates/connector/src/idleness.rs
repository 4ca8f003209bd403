//! Which splits, and which source, have been without rows for so long that no watermark waits for them.
//!
//! Only time in which the reader could have given rows counts: none while the source keeps to its rate, and little of what
//! backpressure or a slow operator took between two reads. Flink's terms: a split is idle, a source all of whose splits are
//! is idle as a whole and says so, and is active again with its next row.

use rivermark_types::Millis;
use std::time::Duration;

/// What counts at most of the time between two reads when the first one gave something.
const BUSY_GAP: Duration = Duration::from_millis(50);

/// What the last poll came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spent {
    /// Rows were emitted, or a mark.
    Busy,
    /// There were none.
    Waiting,
    /// Nobody looked: the rate did not allow any.
    Paced,
}

/// A moment on the clock of idleness, which stands still while nothing could have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moment(Duration);

/// The clock of idleness of one subtask.
pub(crate) struct Idleness {
    /// How long without rows is idle; never, if not set.
    timeout: Option<Duration>,
    now: Moment,
    polled: Millis,
    spent: Spent,
    /// What the source has told: that it is idle.
    pub(crate) is_told: bool,
}

impl Idleness {
    pub(crate) fn new(timeout: Option<Duration>, now: Millis) -> Idleness {
        Idleness {
            timeout,
            now: Moment::default(),
            polled: now,
            spent: Spent::Paced,
            is_told: false,
        }
    }

    /// A poll begins.
    pub(crate) fn begin(&mut self, now: Millis) {
        let gap = now.since(self.polled);
        self.polled = now;
        self.now.0 += match self.spent {
            Spent::Busy => gap.min(BUSY_GAP),
            Spent::Waiting => gap,
            Spent::Paced => Duration::ZERO,
        };
    }

    /// A poll ends.
    pub(crate) fn end(&mut self, spent: Spent) {
        self.spent = spent;
    }

    /// Where the clock stands: rows have come now.
    pub(crate) fn now(&self) -> Moment {
        self.now
    }

    /// Whether what had rows last at that moment is idle by now.
    pub(crate) fn is_idle(&self, since: Moment) -> bool {
        self.left(since) == Some(Duration::ZERO)
    }

    /// In how long it will be idle, if nothing comes.
    pub(crate) fn left(&self, since: Moment) -> Option<Duration> {
        let quiet = self.now.0.saturating_sub(since.0);
        Some(self.timeout?.saturating_sub(quiet))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_time_in_which_rows_could_have_come_counts() {
        let mut idleness = Idleness::new(Some(Duration::from_millis(100)), Millis(0));
        let since = idleness.now();
        let mut poll = |at, spent| {
            idleness.begin(Millis(at));
            idleness.end(spent);
            idleness.left(since)
        };
        let left = |ms| Some(Duration::from_millis(ms));
        assert_eq!(poll(1_000, Spent::Paced), left(100), "before the first look");
        assert_eq!(poll(2_000, Spent::Busy), left(100), "kept to the rate");
        assert_eq!(poll(3_000, Spent::Busy), left(50), "backpressure");
        assert_eq!(poll(3_010, Spent::Waiting), left(40));
        assert_eq!(poll(3_049, Spent::Waiting), left(1));
        assert_eq!(poll(3_050, Spent::Waiting), left(0));
        assert!(idleness.is_idle(since));
        assert!(!idleness.is_idle(idleness.now()));
        assert!(
            !Idleness::new(None, Millis(0)).is_idle(since),
            "never, unless asked for"
        );
    }
}
