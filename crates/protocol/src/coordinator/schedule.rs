//! Whose turn it is: the periodic trigger, the queue of requests, and the count of failures in a row.

use super::messages::{CoordinatorConfig, RequestId};
use rivermark_types::{CheckpointId, Millis, SnapshotKind};
use std::collections::VecDeque;
use std::time::Duration;

/// When the next periodic checkpoint is due.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    interval: Option<Duration>,
    min_pause: Duration,
    next: Option<Millis>,
    last_completed: Option<Millis>,
}

impl Schedule {
    pub(super) fn new(config: &CoordinatorConfig) -> Schedule {
        Schedule {
            interval: config.interval,
            min_pause: config.min_pause,
            next: None,
            last_completed: None,
        }
    }

    /// An attempt runs: the first trigger comes after a random delay from the minimum pause to the interval, so that
    /// jobs that start together do not checkpoint together.
    pub(super) fn start(&mut self, now: Millis, random: u64) {
        self.next = self.interval.map(|interval| {
            let spread =
                u64::try_from((interval.saturating_sub(self.min_pause)).as_millis()).unwrap_or(u64::MAX - 1);
            now.after(self.min_pause)
                .after(Duration::from_millis(random % (spread + 1)))
        });
    }

    pub(super) fn stop(&mut self) {
        self.next = None;
    }

    pub(super) fn triggered(&mut self, now: Millis) {
        self.next = self.interval.map(|interval| now.after(interval));
    }

    pub(super) fn completed(&mut self, now: Millis) {
        self.last_completed = Some(now);
    }

    /// The pause after a completion postpones a trigger, it never drops one.
    pub(super) fn due_at(&self) -> Option<Millis> {
        let pause_ends = self
            .last_completed
            .map(|completed| completed.after(self.min_pause));
        self.next.map(|next| pause_ends.map_or(next, |end| next.max(end)))
    }
}

/// Requests that wait for their turn: savepoints first, then the final checkpoint, then the others; oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct RequestQueue {
    savepoints: VecDeque<RequestId>,
    finals: VecDeque<RequestId>,
    checkpoints: VecDeque<RequestId>,
}

impl RequestQueue {
    pub(super) fn push(&mut self, kind: SnapshotKind, request: RequestId) {
        match kind {
            SnapshotKind::Savepoint => self.savepoints.push_back(request),
            SnapshotKind::Final => self.finals.push_back(request),
            SnapshotKind::Checkpoint => self.checkpoints.push_back(request),
        }
    }

    pub(super) fn pop(&mut self) -> Option<(SnapshotKind, RequestId)> {
        let in_turn = [
            (SnapshotKind::Savepoint, &mut self.savepoints),
            (SnapshotKind::Final, &mut self.finals),
            (SnapshotKind::Checkpoint, &mut self.checkpoints),
        ];
        in_turn
            .into_iter()
            .find_map(|(kind, queue)| Some((kind, queue.pop_front()?)))
    }

    pub(super) fn len(&self) -> usize {
        self.savepoints.len() + self.finals.len() + self.checkpoints.len()
    }
}

/// Counts failures in a row.
#[derive(Clone, Debug)]
pub(super) struct Tolerance {
    limit: Option<u32>,
    in_a_row: u32,
    last_success: Option<CheckpointId>,
}

impl Tolerance {
    pub(super) fn new(limit: Option<u32>) -> Tolerance {
        Tolerance {
            limit,
            in_a_row: 0,
            last_success: None,
        }
    }

    /// A checkpoint was completed: a newer one than before forgives.
    pub(super) fn succeeded(&mut self, checkpoint: CheckpointId) {
        if self.last_success < Some(checkpoint) {
            self.last_success = Some(checkpoint);
            self.in_a_row = 0;
        }
    }

    /// A checkpoint failed: the number of failures in a row, if that is too many. The count then starts again.
    pub(super) fn failed(&mut self) -> Option<u32> {
        self.in_a_row += 1;
        let exceeded = self.limit.is_some_and(|limit| self.in_a_row > limit);
        exceeded.then(|| std::mem::take(&mut self.in_a_row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(interval: Duration) -> Schedule {
        Schedule::new(&CoordinatorConfig {
            interval: Some(interval),
            ..CoordinatorConfig::default()
        })
    }

    #[test]
    fn nothing_is_due_after_a_stop() {
        let mut schedule = schedule(Duration::from_millis(100));
        schedule.start(Millis(0), 7);
        assert_eq!(schedule.due_at(), Some(Millis(7)));
        schedule.stop();
        assert_eq!(schedule.due_at(), None);
    }

    #[test]
    fn an_interval_beyond_all_time_is_an_interval() {
        let mut schedule = schedule(Duration::MAX);
        schedule.start(Millis(3), 8);
        assert_eq!(schedule.due_at(), Some(Millis(11)));
    }

    #[test]
    fn only_a_newer_success_forgives() {
        let mut tolerance = Tolerance::new(Some(1));
        tolerance.succeeded(CheckpointId(5));
        assert_eq!(tolerance.failed(), None);
        tolerance.succeeded(CheckpointId(5));
        assert_eq!(tolerance.failed(), Some(2));
        assert_eq!(tolerance.failed(), None);
        tolerance.succeeded(CheckpointId(6));
        assert_eq!(tolerance.failed(), None);
    }
}
