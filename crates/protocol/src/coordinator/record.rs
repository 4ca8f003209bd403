//! What became of checkpoints: the completed ones that are kept, the aborted ones that late words may still be about, and
//! a short history for people.

use super::decision::Committed;
use super::messages::CheckpointStats;
use rivermark_types::{CheckpointId, SnapshotKind};
use std::collections::{BTreeSet, VecDeque};

/// A completed checkpoint or savepoint that still exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completed {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// What it is for; savepoints are never subsumed and never used for automatic recovery.
    pub kind: SnapshotKind,
}

/// How many checkpoints since the start of the process met which end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckpointCounts {
    /// Begun.
    pub triggered: u64,
    /// Decided.
    pub completed: u64,
    /// Given up.
    pub failed: u64,
}

/// An acknowledgement of an aborted checkpoint is discarded as long as the abort is remembered; afterwards its objects
/// stay until the next clean-up. To discard those of a checkpoint that is not known to be aborted would risk a completed one.
const REMEMBERED_ABORTS: usize = 1024;
const HISTORY: usize = 32;

#[derive(Clone, Debug)]
pub(super) struct Record {
    num_retained: usize,
    /// In the order of completion, which for all but savepoints is the order of ids.
    completed: Vec<Completed>,
    aborted: BTreeSet<CheckpointId>,
    history: VecDeque<CheckpointStats>,
    pub(super) counts: CheckpointCounts,
}

impl Record {
    pub(super) fn new(num_retained: usize, completed: Vec<Completed>) -> Record {
        Record {
            num_retained,
            completed,
            aborted: BTreeSet::new(),
            history: VecDeque::new(),
            counts: CheckpointCounts::default(),
        }
    }

    pub(super) fn completed(&self) -> &[Completed] {
        &self.completed
    }

    pub(super) fn history(&self) -> impl Iterator<Item = &CheckpointStats> {
        self.history.iter()
    }

    /// What would exist after the completion of a checkpoint, and what it would subsume.
    fn split_by(&self, checkpoint: CheckpointId, kind: SnapshotKind) -> (Vec<Completed>, Vec<CheckpointId>) {
        let mut kept = self.completed.clone();
        kept.push(Completed { checkpoint, kind });
        let subsumable = |completed: &Completed| completed.kind != SnapshotKind::Savepoint;
        let mut excess = kept
            .iter()
            .filter(|c| subsumable(c))
            .count()
            .saturating_sub(self.num_retained);
        let mut subsumed = Vec::new();
        kept.retain(|completed| {
            let goes = excess > 0 && subsumable(completed);
            if goes {
                excess -= 1;
                subsumed.push(completed.checkpoint);
            }
            !goes
        });
        (kept, subsumed)
    }

    /// What the head lists once this checkpoint is decided.
    pub(super) fn retained_with(&self, checkpoint: CheckpointId, kind: SnapshotKind) -> Vec<CheckpointId> {
        self.split_by(checkpoint, kind)
            .0
            .into_iter()
            .map(|completed| completed.checkpoint)
            .collect()
    }

    /// Enters a decided checkpoint; what it subsumes comes back.
    pub(super) fn complete(&mut self, committed: Committed, stats: CheckpointStats) -> Vec<CheckpointId> {
        let (kept, subsumed) = self.split_by(committed.checkpoint(), committed.kind());
        self.completed = kept;
        self.counts.completed += 1;
        self.remember(stats);
        subsumed
    }

    pub(super) fn abort(&mut self, checkpoint: CheckpointId, stats: CheckpointStats) {
        self.counts.failed += 1;
        self.aborted.insert(checkpoint);
        if self.aborted.len() > REMEMBERED_ABORTS {
            self.aborted.pop_first();
        }
        self.remember(stats);
    }

    pub(super) fn was_aborted(&self, checkpoint: CheckpointId) -> bool {
        self.aborted.contains(&checkpoint)
    }

    fn remember(&mut self, stats: CheckpointStats) {
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(stats);
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let mut newest = None;
        for completed in self
            .completed
            .iter()
            .filter(|completed| completed.kind != SnapshotKind::Savepoint)
        {
            if newest >= Some(completed.checkpoint) {
                return Err(format!(
                    "checkpoint {} was completed after a newer one",
                    completed.checkpoint
                ));
            }
            newest = Some(completed.checkpoint);
        }
        match self
            .completed
            .iter()
            .find(|completed| self.was_aborted(completed.checkpoint))
        {
            Some(both) => Err(format!(
                "checkpoint {} is both completed and aborted",
                both.checkpoint
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::messages::CheckpointStatus;
    use rivermark_types::Millis;
    use std::time::Duration;

    fn stats(id: u64) -> CheckpointStats {
        CheckpointStats {
            id: CheckpointId(id),
            kind: SnapshotKind::Checkpoint,
            triggered: Millis(0),
            duration: Duration::ZERO,
            status: CheckpointStatus::InProgress,
            acks: 0,
            subtasks: 0,
        }
    }

    fn completed(id: u64) -> Completed {
        Completed {
            checkpoint: CheckpointId(id),
            kind: SnapshotKind::Checkpoint,
        }
    }

    #[test]
    fn the_newest_ended_checkpoints_are_remembered() {
        let mut record = Record::new(1, vec![]);
        for id in 1..=HISTORY as u64 + 2 {
            record.remember(stats(id));
        }
        let ids: Vec<u64> = record.history().map(|stats| stats.id.0).collect();
        assert_eq!(ids, (3..=HISTORY as u64 + 2).collect::<Vec<_>>());
    }

    #[test]
    fn so_many_aborts_are_remembered_and_then_the_oldest_is_forgotten() {
        let mut record = Record::new(1, vec![]);
        for id in 1..=REMEMBERED_ABORTS as u64 {
            record.abort(CheckpointId(id), stats(id));
        }
        assert!(record.was_aborted(CheckpointId(1)));
        let next = REMEMBERED_ABORTS as u64 + 1;
        record.abort(CheckpointId(next), stats(next));
        assert!(!record.was_aborted(CheckpointId(1)) && record.was_aborted(CheckpointId(2)));
        assert_eq!(record.counts.failed, next);
    }

    #[test]
    fn each_broken_invariant_is_noticed() {
        let sound = Record::new(3, vec![completed(1), completed(4)]);
        assert_eq!(sound.check(), Ok(()));
        for order in [[4, 1], [4, 4]] {
            let record = Record::new(3, order.map(completed).to_vec());
            let says = format!("checkpoint {} was completed after a newer one", order[1]);
            assert_eq!(record.check(), Err(says));
        }
        let mut both = sound;
        both.abort(CheckpointId(4), stats(4));
        assert_eq!(
            both.check(),
            Err("checkpoint 4 is both completed and aborted".to_owned())
        );
    }
}
