//! What is kept of every checkpoint: who did what for it, and when. Plain data, one JSON document each.

use rivermark_types::{Attempt, CheckpointId, Generation, SnapshotKind, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The form of these documents. A reader takes any, and leaves out what it does not know.
pub const RECORD_FORMAT: u32 = 1;

/// A checkpoint from its trigger to its end. All moments are milliseconds after the trigger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointRecord {
    /// The form of this document.
    pub format: u32,
    /// The job.
    pub job: String,
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// Why it was taken.
    pub kind: SnapshotKind,
    /// The process's generation.
    pub generation: Generation,
    /// The attempt in it.
    pub attempt: Attempt,
    /// How barriers were aligned, e.g. `aligned`.
    pub alignment: String,
    /// The date of its trigger.
    pub triggered_at: Timestamp,
    /// Why it was given up; none if it was completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up: Option<String>,
    /// The enumerators were snapshotted and barriers sent to the sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barriers_sent: Option<u64>,
    /// All parts were in, and the decision began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deciding: Option<u64>,
    /// It was decided, or given up.
    pub ended: u64,
    /// Bytes stored.
    pub bytes: u64,
    /// Rows of keyed state.
    pub rows: u64,
    /// Calls to the store.
    #[serde(default)]
    pub store: StoreRecord,
    /// Its subtasks, in the order of the stream.
    pub subtasks: Vec<SubtaskRecord>,
}

/// What a checkpoint took of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoreRecord {
    /// Objects stored.
    pub objects: u32,
    /// Calls that had to be repeated.
    #[serde(skip_serializing_if = "is_zero_u32")]
    pub retries: u32,
    /// Why, the last time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// What one subtask did for a checkpoint. Other subtasks are told by their names, e.g. `map/3`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SubtaskRecord {
    /// Its name: the vertex's, and its index.
    pub name: String,
    /// The vertex's name.
    pub vertex: String,
    /// Its slot: a thread that it may share with others.
    pub slot: u32,
    /// Whether it begins with a source.
    #[serde(skip_serializing_if = "is_false")]
    pub is_source: bool,
    /// The first barrier was heard of; a source took its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_barrier: Option<u64>,
    /// The last barrier was in, or barriers overtook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_barrier: Option<u64>,
    /// Who sent the barrier that came last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_from: Option<String>,
    /// Whether barriers overtook.
    #[serde(skip_serializing_if = "is_false")]
    pub overtook: bool,
    /// The last barrier in a channel that none may overtake in: who sent it, and when it was in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_order: Option<(String, u64)>,
    /// Whose barriers were still missing, some of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// The barrier had passed its operators, and their state was frozen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<u64>,
    /// The frozen state was copied, and what was in flight known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub captured: Option<u64>,
    /// It was encoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoded: Option<u64>,
    /// It was stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored: Option<u64>,
    /// The acknowledgement was in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acked: Option<u64>,
    /// Rows of keyed state that it handed over.
    pub rows: u64,
    /// About how many bytes of memory these were.
    pub bytes: u64,
    /// About how many bytes were in flight to it.
    #[serde(skip_serializing_if = "is_zero")]
    pub in_flight_bytes: u64,
    /// Records it has taken so far.
    pub records_in: u64,
    /// What its time went into until its last barrier was in.
    #[serde(skip_serializing_if = "TimeUse::is_empty")]
    pub before: TimeUse,
    /// While the barrier passed its operators.
    #[serde(skip_serializing_if = "TimeUse::is_empty")]
    pub freeze: TimeUse,
    /// While its state was copied.
    #[serde(skip_serializing_if = "TimeUse::is_empty")]
    pub capture: TimeUse,
    /// While it was done and others were not.
    #[serde(skip_serializing_if = "TimeUse::is_empty")]
    pub after: TimeUse,
    /// Until when that is known: not beyond the begin of a call that was still under way at the end.
    pub known_until: u64,
    /// The operator whose call was under way at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_work: Option<String>,
}

/// What a subtask's time went into, in milliseconds; operators and subtasks by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TimeUse {
    /// Calls of its operators.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub busy: BTreeMap<String, u64>,
    /// The longest single one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest: Option<CallRecord>,
    /// Waiting for room in the channel to a subtask.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub no_room: BTreeMap<String, u64>,
    /// With an operator that waited for something outside.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub waits: BTreeMap<String, u64>,
    /// Ready, while other subtasks of its slot were at work.
    #[serde(skip_serializing_if = "is_zero")]
    pub others: u64,
    /// With nothing to do.
    #[serde(skip_serializing_if = "is_zero")]
    pub idle: u64,
    /// With rows to copy, while encoding or the store was behind.
    #[serde(skip_serializing_if = "is_zero")]
    pub writer: u64,
}

/// One call of an operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CallRecord {
    /// The operator.
    pub operator: String,
    /// How long it took.
    pub ms: u64,
    /// How many rows it took.
    pub rows: u64,
}

impl TimeUse {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == TimeUse::default()
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}
fn is_zero(n: &u64) -> bool {
    *n == 0
}
fn is_zero_u32(n: &u32) -> bool {
    *n == 0
}
