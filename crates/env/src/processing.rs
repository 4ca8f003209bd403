//! Processing time: the date at the start of the process, carried on by the monotonic clock.

use rivermark_types::{Millis, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// A processing time that a test sets.
///
/// ```
/// use rivermark_env::ManualClock;
/// use rivermark_types::Timestamp;
///
/// let clock = ManualClock::at(Timestamp(1_000));
/// clock.set(Timestamp(5_000));
/// assert_eq!(clock.time(), Timestamp(5_000));
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// A clock that shows this time until it is set.
    pub fn at(time: Timestamp) -> ManualClock {
        ManualClock(Arc::new(AtomicI64::new(time.0)))
    }

    /// What it shows.
    pub fn time(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }

    /// Sets it. For operators at work it should only go on.
    pub fn set(&self, time: Timestamp) {
        self.0.store(time.0, Ordering::Relaxed);
    }
}

/// Where processing time comes from.
#[derive(Clone)]
pub(crate) enum Clock {
    /// So many milliseconds ahead of the monotonic clock.
    Anchored(i64),
    /// A test's.
    Manual(ManualClock),
}

impl Clock {
    pub(crate) fn anchored(date: Timestamp, now: Millis) -> Clock {
        Clock::Anchored(date.0.saturating_sub(signed(now)))
    }

    pub(crate) fn at(&self, now: Millis) -> Timestamp {
        match self {
            Clock::Anchored(ahead) => Timestamp(ahead.saturating_add(signed(now))),
            Clock::Manual(clock) => clock.time(),
        }
    }
}

fn signed(time: Millis) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

/// How long from one time to a later one; nothing to an earlier.
pub(crate) fn span(from: Timestamp, to: Timestamp) -> Duration {
    let ahead = i128::from(to.0) - i128::from(from.0);
    Duration::from_millis(u64::try_from(ahead.max(0)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_from_the_date_with_the_monotonic_clock() {
        let clock = Clock::anchored(Timestamp(1_000_000), Millis(40));
        assert_eq!(clock.at(Millis(40)), Timestamp(1_000_000));
        assert_eq!(clock.at(Millis(45)), Timestamp(1_000_005));
    }

    #[test]
    fn spans_do_not_overflow_and_end_at_nothing() {
        assert_eq!(span(Timestamp(5), Timestamp(3)), Duration::ZERO);
        assert_eq!(
            span(Timestamp::MIN, Timestamp::MAX),
            Duration::from_millis(u64::MAX)
        );
    }
}
