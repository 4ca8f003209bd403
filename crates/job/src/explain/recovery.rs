//! What is kept of a recovery: from the failure, or the start of the process, until rows flow again.

use super::record::RECORD_FORMAT;
use super::sentence::ms;
use crate::wording::{counted, size};
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
    /// Reading state, from the store or from local copies.
    pub download_ms: u64,
    /// Bytes of that.
    pub bytes: u64,
    /// Of these, those that came from local copies.
    pub local_bytes: u64,
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

/// Why a recovery took as long as it did, in one sentence.
pub fn explain_recovery(record: &RecoveryRecord) -> String {
    let mut parts = vec![];
    let mut at = 0;
    let mut part = |until: Option<u64>, what: String| {
        if let Some(until) = until {
            if until > at {
                parts.push((until - at, what));
            }
            at = at.max(until);
        }
    };
    part(
        record.taken_down,
        "the old tasks ended and the last decision was known".to_owned(),
    );
    let pause = match record.failure {
        Some(_) => "the restart strategy paused",
        None => "the start was prepared",
    };
    part(Some(record.restarted), pause.to_owned());
    part(
        record.deployed,
        "the checkpoint's manifest and indexes were read".to_owned(),
    );
    part(record.opened, opening(record));
    part(
        record.running,
        "sinks committed and aborted what was restored, sources found their splits".to_owned(),
    );
    let worked_off = record
        .subtasks
        .iter()
        .filter_map(|subtask| Some((subtask.worked_off?, subtask)));
    if let Some((until, subtask)) = worked_off.max_by_key(|(until, _)| *until) {
        let rows = counted(subtask.in_flight_rows, "record");
        part(
            Some(until),
            format!(
                "{} worked off what was in flight at the checkpoint ({rows})",
                subtask.name
            ),
        );
    }
    let parts: Vec<String> = parts
        .into_iter()
        .map(|(took, what)| format!("{} {what}", ms(took)))
        .collect();
    let from = match record.from {
        Some(checkpoint) => format!("from checkpoint {checkpoint}"),
        None => "from nothing".to_owned(),
    };
    let after = match &record.failure {
        Some(failure) => format!(" after {:?}", failure.lines().next().unwrap_or_default()),
        None => String::new(),
    };
    let end = match (&record.failed_again, record.running) {
        (Some(again), _) => format!(", which came to nothing: {again}"),
        (None, None) => ", which was cut short".to_owned(),
        (None, Some(_)) => String::new(),
    };
    let sum = match parts.is_empty() {
        true => "too short to tell".to_owned(),
        false => parts.join(" + "),
    };
    format!("recovery {from}{after}{end}: {} = {sum}", ms(at))
}

/// The subtask that was open last, and what its slot did until then: subtasks of one slot open one after the other.
fn opening(record: &RecoveryRecord) -> String {
    let Some(last) = record.subtasks.iter().max_by_key(|subtask| subtask.opened) else {
        return "tasks opened".to_owned();
    };
    let of_slot = || record.subtasks.iter().filter(|subtask| subtask.slot == last.slot);
    let sum = |what: fn(&RestoredSubtask) -> u64| of_slot().map(what).sum::<u64>();
    let most = of_slot().max_by_key(|subtask| subtask.download_ms + subtask.decode_ms + subtask.in_flight_ms);
    let who = most.map_or(&last.name, |most| &most.name);
    let bytes = sum(|subtask| subtask.bytes);
    let local = match sum(|subtask| subtask.local_bytes) {
        0 => String::new(),
        local if local == bytes => " (all of it from local copies)".to_owned(),
        local => format!(" ({} of it from local copies)", size(local)),
    };
    format!(
        "until {} was open, whose slot read {}{local} in {}, decoded and opened in {} and read what was in flight in {}, most of it \
         for {who}",
        last.name,
        size(bytes),
        ms(sum(|subtask| subtask.download_ms)),
        ms(sum(|subtask| subtask.decode_ms)),
        ms(sum(|subtask| subtask.in_flight_ms)),
    )
}
