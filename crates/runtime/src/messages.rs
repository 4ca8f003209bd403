//! What master and slots say to each other.

use crate::careful::FailedRow;
use rivermark_types::{Barrier, CheckpointId, Failure, NodeId, SubtaskId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// From the master to one subtask. The commands to a subtask arrive in the order they were sent: that a split assigned
/// before a trigger is in the reader's snapshot, and one assigned after it is not, rests on this.
#[derive(Clone, Debug)]
pub enum TaskCommand {
    /// Inject a barrier (source subtasks only).
    Trigger(Barrier),
    /// Something for one operator of the chain.
    Event(NodeId, OperatorEvent),
    /// Something for every operator of the chain.
    EventAll(OperatorEvent),
    /// The final checkpoint is committed: end.
    End,
}

/// From the master to an operator.
#[derive(Clone, Debug)]
pub enum OperatorEvent {
    /// The checkpoint is decided: commit, acknowledge upstream. Implies all earlier ones. Idempotent.
    Committed(CheckpointId),
    /// The checkpoint will never be; what was prepared for it goes into the next.
    Aborted(CheckpointId),
    /// To a source: read these.
    Assign(Vec<SourceAssignment>),
    /// To a source: nothing more will be assigned.
    NoMoreSplits,
    /// To a source: unassigned splits hold the watermark back to this.
    WatermarkHold(Timestamp),
    /// To a sink after a restore: all subtasks have recommitted; subtask 0 aborts what no checkpoint lists.
    AbortUnlisted,
    /// To a sink: rows may be written.
    OpenGate,
}

/// A split for a reader, with where to begin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceAssignment {
    /// The split, as its enumerator wrote it.
    pub split: Value,
    /// The position of the first record to read; 0 at a split's beginning. What it counts is the reader's matter.
    pub position: u64,
    /// The split's watermark so far; [`Timestamp::MIN`] for one never read.
    pub watermark: Timestamp,
}

/// From an operator to the master.
#[derive(Clone, Debug)]
pub enum OperatorReport {
    /// A source has no split to read and wants one.
    WantsSplits,
    /// A source has read this split to its end.
    FinishedSplit(Value),
    /// A source was told that no more splits come and has read all it had; it goes on passing barriers.
    Dry,
    /// A sink has finished a phase.
    Sink(SinkPhase),
}

/// The phases of a sink subtask's life that the master waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkPhase {
    /// Everything restored is committed.
    Recommitted,
    /// Everything unlisted is aborted (subtask 0 only).
    UnlistedAborted,
    /// Everything up to this checkpoint is committed.
    Committed(CheckpointId),
}

/// From a slot to the master.
#[derive(Debug)]
pub enum TaskEvent {
    /// The subtask is open: state restored, ready for rows.
    Opened {
        /// Which.
        subtask: SubtaskId,
    },
    /// An operator reports.
    Report {
        /// Of which subtask.
        subtask: SubtaskId,
        /// Which operator.
        node: NodeId,
        /// What.
        report: OperatorReport,
    },
    /// The subtask failed; the attempt is over.
    Failed {
        /// Which.
        subtask: SubtaskId,
        /// The operator, without its subtask: a restart may hand the same row to another one.
        place: String,
        /// The operator in the graph, if it was one.
        node: Option<NodeId>,
        /// The row it was at work on, if it ran carefully.
        row: Option<FailedRow>,
        /// Why.
        failure: Failure,
    },
    /// The subtask has ended after [`TaskCommand::End`].
    Ended {
        /// Which.
        subtask: SubtaskId,
    },
}
