//! What a job tells about itself while it runs.

use rivermark_runtime::metrics::{JobCounters, SubtaskCounters};
use rivermark_state::LocalCopies;
use rivermark_types::{Attempt, CheckpointId, Generation, Millis, SnapshotKind, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A decided checkpoint, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointSummary {
    /// Its id.
    pub id: CheckpointId,
    /// Why it was taken.
    pub kind: SnapshotKind,
    /// From trigger to decision.
    pub duration: Duration,
    /// Bytes stored.
    pub bytes: u64,
    /// Rows of keyed state in it.
    pub rows: u64,
    /// About how many bytes were in flight in it, because its barriers overtook them.
    pub in_flight_bytes: u64,
    /// When it was decided.
    pub completed_at: Timestamp,
}

/// A moment of a job's life. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct JobStats {
    /// What it does now: `starting`, `restoring`, `running`, `restarting`, `stopping`, `finished`, ...
    pub state: &'static str,
    /// The process's generation.
    pub generation: Generation,
    /// The attempt in it.
    pub attempt: Attempt,
    /// Restarts in this process.
    pub restarts: u32,
    /// The checkpoint that the attempt started from.
    pub restored_from: Option<CheckpointId>,
    /// Checkpoints decided by this process.
    pub decided: u64,
    /// Checkpoints given up by this process.
    pub aborted: u64,
    /// Checkpoints under way.
    pub in_progress: u64,
    /// When the state of now began.
    pub state_since: Millis,
    /// Since when it has been running, if it is.
    pub running_since: Option<Millis>,
    /// Since when it has not been running, after it was.
    pub down_since: Option<Millis>,
    /// When a checkpoint was last restored.
    pub restored_at: Option<Timestamp>,
    /// The newest decided ones, oldest first.
    pub checkpoints: Vec<CheckpointSummary>,
    /// Why the last attempt failed.
    pub last_failure: Option<String>,
    /// The most bytes of captured state that were in memory at once, in this process, up to the newest decided checkpoint.
    pub captured_peak: u64,
    /// The local copies of its checkpoints, if any are kept.
    pub local_copies: Option<LocalCopies>,
    /// The job's counters.
    pub counters: Arc<JobCounters>,
}

/// How many decided checkpoints [`JobStats::checkpoints`] remembers.
pub(crate) const REMEMBERED: usize = 256;

impl JobStats {
    /// Whether rows flow.
    pub fn is_running(&self) -> bool {
        matches!(self.state, "running" | "stopping" | "committing")
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, "finished" | "stopped" | "cancelled" | "failed")
    }

    /// It is in another state from now on.
    pub(crate) fn enter(&mut self, state: &'static str, now: Millis) {
        if self.state == state {
            return;
        }
        let ran = self.is_running();
        (self.state, self.state_since) = (state, now);
        match (ran, self.is_running()) {
            (false, true) => (self.running_since, self.down_since) = (Some(now), None),
            (true, false) => (self.running_since, self.down_since) = (None, Some(now)),
            _ => {}
        }
    }

    /// Records read by all sources so far, rows read again after a restart counted again.
    pub fn records_in(&self) -> u64 {
        self.sum_sources(|subtask| subtask.records_in.load(Ordering::Relaxed))
    }

    /// Rows dropped as late by all operators.
    pub fn late(&self) -> u64 {
        self.sum_all(|subtask| &subtask.late)
    }

    /// Records that sources passed over because they could not be decoded; those read again count again.
    pub fn undecodable(&self) -> u64 {
        self.sum_all(|subtask| &subtask.undecodable)
    }

    /// Records that went to the dead letters; those given up again after a restart count again.
    pub fn dead_letters(&self) -> u64 {
        self.sum_all(|subtask| &subtask.dead_letters)
    }

    fn sum_all(&self, counter: impl Fn(&SubtaskCounters) -> &AtomicU64) -> u64 {
        self.counters
            .subtasks
            .values()
            .map(|subtask| counter(subtask).load(Ordering::Relaxed))
            .sum()
    }

    /// The lowest watermark of the sources.
    pub fn watermark(&self) -> Option<Timestamp> {
        let sources = self
            .counters
            .sources
            .iter()
            .filter_map(|id| self.counters.subtasks.get(id));
        sources
            .map(|subtask| Timestamp(subtask.watermark.load(Ordering::Relaxed)))
            .min()
    }

    /// Rows that reached the sinks so far.
    pub fn records_out(&self) -> u64 {
        let sinks = self
            .counters
            .sinks
            .iter()
            .filter_map(|id| self.counters.subtasks.get(id));
        sinks
            .map(|subtask| subtask.records_in.load(Ordering::Relaxed))
            .sum()
    }

    fn sum_sources(&self, count: impl Fn(&SubtaskCounters) -> u64) -> u64 {
        let sources = self
            .counters
            .sources
            .iter()
            .filter_map(|id| self.counters.subtasks.get(id));
        sources.map(|subtask| count(subtask)).sum()
    }
}
