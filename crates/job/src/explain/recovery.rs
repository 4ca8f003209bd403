//! What is kept of a recovery: from the failure, or the start of the process, until rows flow again.

use super::record::RECORD_FORMAT;
use rivermark_types::{Attempt, CheckpointId, Generation, Timestamp};
use serde::{Deserialize, Serialize};

/// A recovery. All moments are milliseconds after its begin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecoveryRecord {
    /// The form of this document.
    pub format: u32,
    /// The job.
    pub job: String,
    /// The process's generation.
    pub generation: Generation,
    /// The attempt that it led to.
    pub attempt: Attempt,
    /// The checkpoint that the attempt starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<CheckpointId>,
    /// The date of its begin.
    pub began_at: Timestamp,
    /// Why the attempt before failed; none for the first attempt of a process, which begins with its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Nothing of the attempt before was left, and every decision known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_down: Option<u64>,
    /// The pause of the restart strategy was over.
    pub restarted: u64,
    /// The checkpoint's manifest and the indexes of its objects were read, and the tasks sent to their slots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployed: Option<u64>,
    /// All subtasks were open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened: Option<u64>,
    /// Sinks had committed and aborted what was restored, sources knew their splits: rows flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<u64>,
    /// Why it came to nothing, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_again: Option<String>,
    /// Its subtasks, in the order of the stream.
    pub subtasks: Vec<RestoredSubtask>,
}

impl RecoveryRecord {
    /// A recovery that has just begun.
    pub fn begun(
        job: String,
        generation: Generation,
        at: Timestamp,
        failure: Option<String>,
    ) -> RecoveryRecord {
        RecoveryRecord {
            format: RECORD_FORMAT,
            job,
            generation,
            attempt: Attempt(0),
            from: None,
            began_at: at,
            failure,
            taken_down: None,
            restarted: 0,
            deployed: None,
            opened: None,
            running: None,
            failed_again: None,
            subtasks: vec![],
        }
    }
}

/// What one subtask did to be there again, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestoredSubtask {
    /// Its name, e.g. `map/3`.
    pub name: String,
    /// Its slot: subtasks of one slot open one after the other.
    pub slot: u32,
    /// Reading state from the store.
    pub download_ms: u64,
    /// Bytes of that.
    pub bytes: u64,
    /// Rebuilding tables and opening operators.
    pub decode_ms: u64,
    /// Reading what was in flight at the checkpoint.
    pub in_flight_ms: u64,
    /// Records of that.
    pub in_flight_rows: u64,
    /// When it was open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened: Option<u64>,
    /// When the last record in flight was worked off and new ones were read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worked_off: Option<u64>,
}
