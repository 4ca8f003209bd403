//! One open checkpoint: who has acknowledged, and who has not.

use super::messages::{AckVerdict, CheckpointStats, CheckpointStatus, RequestId};
use rivermark_types::{Attempt, CheckpointId, Millis, SnapshotKind, SubtaskId};
use std::collections::BTreeMap;

/// How far an open checkpoint is. It only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// The enumerators are being snapshotted; no barrier exists yet.
    Enumerators,
    /// The barriers are on their way; acknowledgements come in.
    Barriers,
    /// The decision was asked for: it cannot be given up any more.
    Deciding,
}

/// An open checkpoint.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) kind: SnapshotKind,
    pub(super) attempt: Attempt,
    /// Who asked for it; none: the timer.
    pub(super) request: Option<RequestId>,
    pub(super) triggered: Millis,
    pub(super) phase: Phase,
    /// Every subtask that must acknowledge, and whether it has.
    acked: BTreeMap<SubtaskId, bool>,
    missing: usize,
}

impl Pending {
    pub(super) fn new(
        kind: SnapshotKind,
        attempt: Attempt,
        subtasks: impl Iterator<Item = SubtaskId>,
        request: Option<RequestId>,
        triggered: Millis,
    ) -> Pending {
        let acked: BTreeMap<_, _> = subtasks.map(|subtask| (subtask, false)).collect();
        let missing = acked.len();
        Pending {
            kind,
            attempt,
            request,
            triggered,
            phase: Phase::Enumerators,
            acked,
            missing,
        }
    }

    /// Counts an acknowledgement, if it is worth anything.
    pub(super) fn ack(&mut self, attempt: Attempt, subtask: SubtaskId) -> AckVerdict {
        if !self.expects(attempt, subtask) {
            return AckVerdict::Zombie;
        }
        match self.acked.get_mut(&subtask) {
            Some(acked) if !*acked => {
                *acked = true;
                self.missing -= 1;
                AckVerdict::Accepted
            }
            _ => AckVerdict::Duplicate,
        }
    }

    /// Whether a word of this subtask about this checkpoint can be genuine.
    pub(super) fn expects(&self, attempt: Attempt, subtask: SubtaskId) -> bool {
        self.phase > Phase::Enumerators && self.attempt == attempt && self.acked.contains_key(&subtask)
    }

    /// Whether every part is in and only the decision is left.
    pub(super) fn is_ready(&self) -> bool {
        self.phase == Phase::Barriers && self.missing == 0
    }

    pub(super) fn stats(&self, id: CheckpointId, now: Millis, status: CheckpointStatus) -> CheckpointStats {
        CheckpointStats {
            id,
            kind: self.kind,
            triggered: self.triggered,
            duration: now.since(self.triggered),
            status,
            acks: self.acked.len() - self.missing,
            subtasks: self.acked.len(),
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let missing = self.acked.values().filter(|acked| !**acked).count();
        if missing != self.missing {
            return Err(format!(
                "{missing} acknowledgements are missing, {} counted",
                self.missing
            ));
        }
        match self.phase {
            Phase::Enumerators if missing < self.acked.len() => Err("acknowledged before its barrier".into()),
            Phase::Deciding if missing > 0 => Err(format!("being decided while {missing} parts are missing")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rivermark_types::VertexId;

    const SUBTASKS: [SubtaskId; 2] = [subtask(0), subtask(1)];

    const fn subtask(index: u32) -> SubtaskId {
        SubtaskId {
            vertex: VertexId(0),
            index,
        }
    }

    /// One of two subtasks has acknowledged.
    fn half() -> Pending {
        let subtasks = SUBTASKS.into_iter();
        let mut pending = Pending::new(SnapshotKind::Checkpoint, Attempt(1), subtasks, None, Millis(0));
        assert_eq!(pending.check(), Ok(()));
        pending.phase = Phase::Barriers;
        assert_eq!(pending.ack(Attempt(1), subtask(0)), AckVerdict::Accepted);
        assert_eq!(pending.check(), Ok(()));
        pending
    }

    #[test]
    fn each_broken_invariant_is_noticed() {
        type Break = fn(&mut Pending);
        let broken: [(Break, &str); 3] = [
            (
                |pending| pending.missing = 2,
                "1 acknowledgements are missing, 2 counted",
            ),
            (
                |pending| pending.phase = Phase::Enumerators,
                "acknowledged before its barrier",
            ),
            (
                |pending| pending.phase = Phase::Deciding,
                "being decided while 1 parts are missing",
            ),
        ];
        for (spoil, says) in broken {
            let mut pending = half();
            spoil(&mut pending);
            assert_eq!(pending.check(), Err(says.to_owned()));
        }
    }

    #[test]
    fn a_decision_with_all_parts_is_sound() {
        let mut pending = half();
        pending.ack(Attempt(1), subtask(1));
        pending.phase = Phase::Deciding;
        assert_eq!(pending.check(), Ok(()));
    }
}
