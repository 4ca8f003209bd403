//! The one write that makes a checkpoint real, from the moment it is asked for until its outcome is certain.
//!
//! At most one decision is in flight. Once asked for, it can only end in three ways: committed, fenced, or (on the first
//! answer alone) certainly not written. After an unknown outcome the first write may still land, so a later "not written"
//! says nothing about it: the same write is repeated until the store shows whose head is there.

use super::messages::{CoordinatorConfig, DecisionOutcome};
use rivermark_types::{CheckpointId, Millis, SnapshotKind};
use std::time::Duration;

/// The proof that a checkpoint was decided. Only the code that saw the store say "committed" can make one, and
/// `NotifyComplete` cannot be built without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    checkpoint: CheckpointId,
    kind: SnapshotKind,
}

impl Committed {
    /// The checkpoint that was decided.
    pub fn checkpoint(self) -> CheckpointId {
        self.checkpoint
    }
    /// What it is for; never a savepoint inside `NotifyComplete`.
    pub fn kind(self) -> SnapshotKind {
        self.kind
    }
}

/// What an outcome means for the checkpoint.
pub(super) enum Answer {
    Committed(Committed),
    Fenced(String),
    NotWritten(String),
    /// Nothing is certain yet.
    Wait,
}

#[derive(Clone, Debug)]
enum Asked {
    /// The store works on it.
    InFlight,
    /// The outcome is unknown; ask again then.
    RetryAt(Millis),
}

/// A decision in flight.
#[derive(Clone, Debug)]
pub(super) struct Decision {
    pub(super) checkpoint: CheckpointId,
    kind: SnapshotKind,
    asked: Asked,
    was_unknown: bool,
    backoff: Duration,
    backoff_max: Duration,
}

impl Decision {
    pub(super) fn begin(
        checkpoint: CheckpointId,
        kind: SnapshotKind,
        config: &CoordinatorConfig,
    ) -> Decision {
        Decision {
            checkpoint,
            kind,
            asked: Asked::InFlight,
            was_unknown: false,
            backoff: config.decision_retry,
            backoff_max: config.decision_retry_max,
        }
    }

    /// Takes the store's answer in.
    pub(super) fn answer(&mut self, now: Millis, outcome: DecisionOutcome) -> Answer {
        match outcome {
            DecisionOutcome::Committed => Answer::Committed(Committed {
                checkpoint: self.checkpoint,
                kind: self.kind,
            }),
            DecisionOutcome::Fenced(by) => Answer::Fenced(by),
            DecisionOutcome::NotWritten(reason) if !self.was_unknown => Answer::NotWritten(reason),
            DecisionOutcome::NotWritten(_) | DecisionOutcome::Unknown => {
                self.was_unknown = true;
                if let Asked::InFlight = self.asked {
                    self.asked = Asked::RetryAt(now.after(self.backoff));
                    self.backoff = (self.backoff * 2).min(self.backoff_max);
                }
                Answer::Wait
            }
        }
    }

    /// When to ask again.
    pub(super) fn retry_at(&self) -> Option<Millis> {
        match self.asked {
            Asked::InFlight => None,
            Asked::RetryAt(at) => Some(at),
        }
    }

    /// Whether it is time to ask again; if so it counts as asked.
    pub(super) fn take_retry(&mut self, now: Millis) -> bool {
        let due = self.retry_at().is_some_and(|at| at <= now);
        if due {
            self.asked = Asked::InFlight;
        }
        due
    }
}
