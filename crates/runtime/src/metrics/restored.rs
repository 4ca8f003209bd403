//! What a subtask did to start from a checkpoint: for explanations of a recovery.

use super::SubtaskCounters;
use rivermark_types::Millis;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

/// What the start of a subtask went into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestoredTrace {
    /// Reading its state, from the store or from local copies.
    pub download: Duration,
    /// Bytes of that.
    pub bytes: u64,
    /// Of these, those that came from local copies.
    pub local_bytes: u64,
    /// Rebuilding tables and opening operators.
    pub decode: Duration,
    /// Reading what was in flight at the checkpoint.
    pub in_flight: Duration,
    /// Records of that.
    pub in_flight_rows: u64,
    /// When the last of them was taken.
    pub worked_off: Option<Millis>,
}

impl SubtaskCounters {
    /// What the start of the attempt that runs went into.
    pub fn restored(&self) -> RestoredTrace {
        *self.restored_lock()
    }

    /// Changes what is noted of the start.
    pub(crate) fn note_restored(&self, change: impl FnOnce(&mut RestoredTrace)) {
        change(&mut self.restored_lock());
    }

    fn restored_lock(&self) -> MutexGuard<'_, RestoredTrace> {
        self.restored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
