//! What a task spends its time on: work, waiting for room downstream, or nothing.
//!
//! Measured once a step with readings that the step takes anyway. What is neither busy nor back-pressured is idle; that
//! includes the time in which other tasks of its slot work.

use rivermark_types::Millis;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Sums of a task's time. One writer, any readers.
#[derive(Debug, Default)]
pub struct TimeSpent {
    busy_ns: AtomicU64,
    backpressured_ns: AtomicU64,
    is_backpressured: AtomicBool,
    /// When the last step ended, in milliseconds.
    since: AtomicU64,
}

/// What a task has spent until a moment, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// At work.
    pub busy_ms: u64,
    /// With work at hand, but no room for its output.
    pub backpressured_ms: u64,
    /// Whether it waits for room at the moment.
    pub is_backpressured: bool,
}

/// The task's side: between which readings of the cost clock it did what.
#[derive(Debug, Default)]
pub(crate) struct Stopwatch {
    last_reading: Option<u64>,
    was_backpressured: bool,
}

impl Stopwatch {
    /// A step begins.
    pub(crate) fn begin(&mut self, reading: u64, spent: &TimeSpent) {
        if let Some(last) = self.last_reading.filter(|_| self.was_backpressured) {
            add(&spent.backpressured_ns, reading.saturating_sub(last));
        }
        self.last_reading = Some(reading);
    }

    /// The step ends: it was at work until the last reading, and waits for room or does not.
    pub(crate) fn end(&mut self, last: u64, backpressured: bool, now: Millis, spent: &TimeSpent) {
        if let Some(began) = self.last_reading {
            add(&spent.busy_ns, last.saturating_sub(began));
        }
        self.last_reading = Some(last);
        self.was_backpressured = backpressured;
        spent.since.store(now.0, Ordering::Relaxed);
        spent.is_backpressured.store(backpressured, Ordering::Relaxed);
    }
}

fn add(sum: &AtomicU64, ns: u64) {
    sum.store(sum.load(Ordering::Relaxed).wrapping_add(ns), Ordering::Relaxed);
}

impl TimeSpent {
    /// The sums at a moment, with the wait that is not over yet.
    pub fn until(&self, now: Millis) -> Spent {
        let is_backpressured = self.is_backpressured.load(Ordering::Relaxed);
        let waiting = match is_backpressured {
            true => now.0.saturating_sub(self.since.load(Ordering::Relaxed)),
            false => 0,
        };
        Spent {
            busy_ms: self.busy_ns.load(Ordering::Relaxed) / 1_000_000,
            backpressured_ms: self.backpressured_ns.load(Ordering::Relaxed) / 1_000_000 + waiting,
            is_backpressured,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn steps_are_busy_and_gaps_are_what_the_step_before_ended_with() {
        let (spent, mut watch) = (TimeSpent::default(), Stopwatch::default());
        watch.begin(0, &spent);
        watch.end(5 * MS, false, Millis(5), &spent);
        watch.begin(100 * MS, &spent);
        watch.end(107 * MS, true, Millis(107), &spent);
        let so_far = spent.until(Millis(110));
        assert_eq!((so_far.busy_ms, so_far.backpressured_ms), (12, 3));
        assert!(so_far.is_backpressured);
        watch.begin(127 * MS, &spent);
        watch.end(128 * MS, false, Millis(128), &spent);
        let so_far = spent.until(Millis(500));
        assert_eq!((so_far.busy_ms, so_far.backpressured_ms), (13, 20));
    }
}
