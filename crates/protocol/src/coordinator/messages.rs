//! What goes into the coordinator and what comes out of it.

use super::decision::Committed;
use rivermark_types::{Attempt, Barrier, CheckpointId, Millis, SnapshotKind, SubtaskId};
use std::fmt;
use std::time::Duration;

/// Names one request of a user (or of the job itself, for a final checkpoint), so that it can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// When checkpoints are taken, how long they may take, how many may fail, and how many are kept.
#[derive(Clone, Debug)]
pub struct CoordinatorConfig {
    /// From one periodic trigger to the next; none: only on request. One below `min_pause` is raised to it.
    pub interval: Option<Duration>,
    /// From the completion of a checkpoint to the next periodic trigger, at least.
    pub min_pause: Duration,
    /// A checkpoint whose decision has not begun after this time is aborted.
    pub timeout: Duration,
    /// How many checkpoints may be open at a time, at least 1.
    pub max_concurrent: usize,
    /// How many in a row may fail before the job does; none: any number.
    pub tolerable_failures: Option<u32>,
    /// How many completed checkpoints are kept, at least 1; savepoints are not counted.
    pub num_retained: usize,
    /// How many requests may wait for their turn.
    pub max_requests: usize,
    /// The wait before a decision of unknown outcome is asked for again; it doubles each time ...
    pub decision_retry: Duration,
    /// ... up to this.
    pub decision_retry_max: Duration,
}

impl Default for CoordinatorConfig {
    fn default() -> Self {
        CoordinatorConfig {
            interval: Some(Duration::from_secs(10)),
            min_pause: Duration::ZERO,
            timeout: Duration::from_secs(600),
            max_concurrent: 1,
            tolerable_failures: None,
            num_retained: 3,
            max_requests: 1000,
            decision_retry: Duration::from_millis(100),
            decision_retry_max: Duration::from_secs(10),
        }
    }
}

impl CoordinatorConfig {
    /// The same with every number at least at its smallest meaning, so that no deadline lies at its own begin.
    pub(super) fn within_bounds(self) -> CoordinatorConfig {
        const TICK: Duration = Duration::from_millis(1);
        CoordinatorConfig {
            interval: self
                .interval
                .map(|interval| interval.max(self.min_pause).max(TICK)),
            timeout: self.timeout.max(TICK),
            max_concurrent: self.max_concurrent.max(1),
            num_retained: self.num_retained.max(1),
            decision_retry: self.decision_retry.max(TICK),
            decision_retry_max: self.decision_retry_max.max(self.decision_retry).max(TICK),
            ..self
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CkEvent {
    /// All subtasks of an attempt run. Must not come while a decision is pending (see `is_decision_pending`).
    AttemptStarted {
        /// The attempt; each is greater than the one before.
        attempt: Attempt,
        /// Who must acknowledge each checkpoint.
        subtasks: Vec<SubtaskId>,
        /// The checkpoint it was restored from.
        restored: Option<CheckpointId>,
        /// A lower bound for the next checkpoint's id (1 in a job's first start).
        next_id: CheckpointId,
        /// Random bits, for the delay of the first periodic trigger.
        random: u64,
    },
    /// The attempt is over, for whatever reason: its subtasks are gone or being cancelled.
    AttemptEnded,
    /// A deadline may have passed; any other event does as well.
    Tick,
    /// Somebody wants a checkpoint, a savepoint, or the last checkpoint of a run that ends.
    Requested {
        /// What for.
        kind: SnapshotKind,
        /// Comes back in [`CkAction::RequestAnswered`], exactly once.
        request: RequestId,
    },
    /// All enumerators are snapshotted.
    EnumeratorsSnapshotted {
        /// For this checkpoint.
        checkpoint: CheckpointId,
    },
    /// An enumerator could not be snapshotted.
    EnumeratorFailed {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// One line.
        reason: String,
    },
    /// A subtask's part is durable.
    Ack {
        /// The attempt that the subtask belongs to.
        attempt: Attempt,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The subtask.
        subtask: SubtaskId,
    },
    /// A subtask cannot contribute its part.
    Declined {
        /// The attempt that the subtask belongs to.
        attempt: Attempt,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The subtask.
        subtask: SubtaskId,
        /// One line.
        reason: String,
    },
    /// The answer to `Decide` or `DecideAgain`.
    Decision {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// What the store said.
        outcome: DecisionOutcome,
    },
}

/// What the store said to the one write that makes a checkpoint real.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecisionOutcome {
    /// The head names this checkpoint, by this call or by an earlier one.
    Committed,
    /// Somebody else's head is there; the text says whose ("generation 7").
    Fenced(String),
    /// This call certainly wrote nothing and never will.
    NotWritten(String),
    /// It may have been written, or may yet be.
    Unknown,
}

/// What must be done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CkAction {
    /// A checkpoint begins: snapshot the enumerators, then report. Nothing else of it may happen before.
    SnapshotEnumerators {
        /// The new checkpoint.
        checkpoint: CheckpointId,
        /// What it is for.
        kind: SnapshotKind,
    },
    /// Inject this barrier at all sources.
    TriggerSources(Barrier),
    /// The acknowledgement counts: keep its payload for the manifest.
    KeepAck {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Whose part it is.
        subtask: SubtaskId,
    },
    /// The acknowledgement came too late or from a zombie: delete the objects that it names and no kept one does.
    DiscardAck {
        /// The attempt that sent it.
        attempt: Attempt,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Whose part it is.
        subtask: SubtaskId,
        /// Which of the two.
        verdict: AckVerdict,
    },
    /// All parts are in: write the manifest, then compare-and-set the head, and report the outcome.
    Decide {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// What the new head lists, in the order of completion: this checkpoint is the last.
        retained: Vec<CheckpointId>,
    },
    /// The very same compare-and-set once more, because its outcome is unknown.
    DecideAgain {
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
    /// Tell all subtasks that the checkpoint is real: sinks commit, readers acknowledge upstream.
    NotifyComplete(Committed),
    /// Tell all subtasks that the checkpoint was given up.
    NotifyAborted {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Why.
        reason: AbortReason,
    },
    /// Delete all objects of an aborted checkpoint.
    Discard {
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
    /// Delete these completed checkpoints: the head does not list them any more.
    Subsume {
        /// Oldest first.
        checkpoints: Vec<CheckpointId>,
    },
    /// Fail the running attempt; the restart strategy decides what follows. For the coordinator the attempt is over.
    FailJob {
        /// Why.
        reason: FailReason,
    },
    /// Another process owns the job: stop at once and touch nothing. The coordinator does nothing from here on.
    Fenced {
        /// Whose head was found.
        by: String,
    },
    /// The answer to a request.
    RequestAnswered {
        /// The request.
        request: RequestId,
        /// The completed checkpoint, or why there is none.
        result: Result<CheckpointId, RequestError>,
    },
}

/// What an acknowledgement is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckVerdict {
    /// It counts.
    Accepted,
    /// It was counted before; its objects are in use.
    Duplicate,
    /// Its checkpoint was aborted.
    Late,
    /// It is from another attempt, an unknown subtask, or about a barrier that nobody injected.
    Zombie,
}

/// Why a checkpoint was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AbortReason {
    /// It took longer than the time-out.
    Expired,
    /// A subtask could not contribute.
    Declined {
        /// Which one.
        subtask: SubtaskId,
        /// Its words.
        reason: String,
    },
    /// An enumerator could not be snapshotted.
    EnumeratorFailed(String),
    /// The manifest or the head could not be written.
    NotWritten(String),
    /// A newer one was completed.
    Subsumed,
    /// Its attempt ended.
    AttemptEnded,
}

impl AbortReason {
    /// Whether it counts against the tolerable failures: subsumption and the end of an attempt are nobody's failure.
    pub fn is_failure(&self) -> bool {
        !matches!(self, AbortReason::Subsumed | AbortReason::AttemptEnded)
    }
}

/// Why the coordinator wants the attempt to fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailReason {
    /// More checkpoints failed in a row than are tolerable.
    ToleranceExceeded {
        /// How many.
        failures: u32,
        /// Why the last one failed.
        last: AbortReason,
    },
    /// An attempt was started before the outcome of a decision was known: it may have been restored from too old a state.
    StartedDuringDecision(CheckpointId),
    /// An attempt was started under the number of an earlier one: its zombies could not be told apart.
    AttemptReused(Attempt),
}

/// Why a request got no checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// It was begun and given up.
    Aborted(CheckpointId, AbortReason),
    /// No attempt runs, or it ended while the request waited.
    NotRunning,
    /// Too many requests wait already.
    TooMany,
    /// The final checkpoint of this run was completed.
    Ending,
    /// Another process owns the job.
    Fenced,
}

/// What is told about one checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointStats {
    /// The checkpoint.
    pub id: CheckpointId,
    /// What it is for.
    pub kind: SnapshotKind,
    /// When it was begun.
    pub triggered: Millis,
    /// From its begin to its end, or until now.
    pub duration: Duration,
    /// What became of it.
    pub status: CheckpointStatus,
    /// Acknowledgements counted.
    pub acks: usize,
    /// Acknowledgements needed.
    pub subtasks: usize,
}

/// What became of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckpointStatus {
    /// It is still open.
    InProgress,
    /// It was decided.
    Completed,
    /// It was given up.
    Failed(AbortReason),
}

impl fmt::Display for AbortReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AbortReason::Expired => f.write_str("it took longer than the time-out"),
            AbortReason::Declined { subtask, reason } => write!(f, "{subtask} declined: {reason}"),
            AbortReason::EnumeratorFailed(reason) => write!(f, "an enumerator failed: {reason}"),
            AbortReason::NotWritten(reason) => write!(f, "it could not be written: {reason}"),
            AbortReason::Subsumed => f.write_str("a newer one was completed"),
            AbortReason::AttemptEnded => f.write_str("its attempt ended"),
        }
    }
}

impl fmt::Display for FailReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FailReason::ToleranceExceeded { failures, last } => {
                write!(
                    f,
                    "{failures} checkpoints failed in a row, more than are tolerable; the last one: {last}"
                )
            }
            FailReason::StartedDuringDecision(checkpoint) => {
                write!(
                    f,
                    "started before the decision on checkpoint {checkpoint} was known"
                )
            }
            FailReason::AttemptReused(attempt) => {
                write!(f, "started under the used number of attempt {attempt}")
            }
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::Aborted(checkpoint, reason) => {
                write!(f, "checkpoint {checkpoint} was given up: {reason}")
            }
            RequestError::NotRunning => f.write_str("the job is not running"),
            RequestError::TooMany => f.write_str("too many requests are waiting"),
            RequestError::Ending => f.write_str("the job is ending, its final checkpoint is complete"),
            RequestError::Fenced => f.write_str("another process owns the job"),
        }
    }
}

/// One line each, for traces and golden scripts.
impl fmt::Display for CkAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CkAction::SnapshotEnumerators { checkpoint, kind } => {
                write!(f, "snapshot enumerators {checkpoint} ({kind:?})")
            }
            CkAction::TriggerSources(barrier) => {
                write!(f, "trigger sources {} ({:?})", barrier.checkpoint, barrier.kind)
            }
            CkAction::KeepAck { checkpoint, subtask } => write!(f, "keep ack {checkpoint} {subtask}"),
            CkAction::DiscardAck {
                attempt,
                checkpoint,
                subtask,
                verdict,
            } => {
                write!(
                    f,
                    "discard ack {checkpoint} {subtask} of attempt {attempt} ({verdict:?})"
                )
            }
            CkAction::Decide { checkpoint, retained } => {
                write!(f, "decide {checkpoint}, keeping {}", Ids(retained))
            }
            CkAction::DecideAgain { checkpoint } => write!(f, "decide {checkpoint} again"),
            CkAction::NotifyComplete(committed) => write!(f, "notify complete {}", committed.checkpoint()),
            CkAction::NotifyAborted { checkpoint, reason } => {
                write!(f, "notify aborted {checkpoint}: {reason}")
            }
            CkAction::Discard { checkpoint } => write!(f, "discard {checkpoint}"),
            CkAction::Subsume { checkpoints } => write!(f, "subsume {}", Ids(checkpoints)),
            CkAction::FailJob { reason } => write!(f, "fail job: {reason}"),
            CkAction::Fenced { by } => write!(f, "fenced by {by}"),
            CkAction::RequestAnswered {
                request,
                result: Ok(id),
            } => write!(f, "answer request {}: completed {id}", request.0),
            CkAction::RequestAnswered {
                request,
                result: Err(why),
            } => write!(f, "answer request {}: {why}", request.0),
        }
    }
}

struct Ids<'a>(&'a [CheckpointId]);

impl fmt::Display for Ids<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, id) in self.0.iter().enumerate() {
            write!(f, "{}{id}", if position == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_raised_to_its_smallest_meaning() {
        let nothing = CoordinatorConfig {
            interval: Some(Duration::ZERO),
            min_pause: Duration::ZERO,
            timeout: Duration::ZERO,
            max_concurrent: 0,
            tolerable_failures: Some(0),
            num_retained: 0,
            max_requests: 0,
            decision_retry: Duration::ZERO,
            decision_retry_max: Duration::ZERO,
        };
        let least = nothing.clone().within_bounds();
        let tick = Duration::from_millis(1);
        assert_eq!(least.interval, Some(tick));
        assert_eq!(
            (least.timeout, least.max_concurrent, least.num_retained),
            (tick, 1, 1)
        );
        assert_eq!((least.decision_retry, least.decision_retry_max), (tick, tick));
        let waits = Duration::from_secs(2);
        let raised = CoordinatorConfig {
            min_pause: waits,
            decision_retry: waits,
            ..nothing
        };
        let raised = raised.within_bounds();
        assert_eq!((raised.interval, raised.decision_retry_max), (Some(waits), waits));
    }
}
