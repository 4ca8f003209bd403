//! What became of each checkpoint's rows in this process, and when: for explanations. A few notes for each checkpoint;
//! anybody may read meanwhile.

use rivermark_types::{CheckpointId, Millis, SubtaskId};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many checkpoints are remembered.
const REMEMBERED: usize = 16;

/// A checkpoint's rows on their way to the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartTrace {
    /// When whose rows were encoded and stored.
    pub subtasks: BTreeMap<SubtaskId, StoredRows>,
    /// Objects stored.
    pub objects: u32,
    /// Calls to the store that had to be repeated.
    pub retries: u32,
    /// Why, the last time.
    pub last_error: Option<String>,
}

/// How far the rows of one subtask have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredRows {
    /// When the last of them were encoded.
    pub encoded: Millis,
    /// When all objects that they may be in were stored.
    pub stored: Option<Millis>,
}

/// The traces of a writer's newest checkpoints.
#[derive(Default)]
pub(super) struct PartTraces(Mutex<BTreeMap<CheckpointId, PartTrace>>);

impl PartTraces {
    pub fn of(&self, checkpoint: CheckpointId) -> Option<PartTrace> {
        self.lock().get(&checkpoint).cloned()
    }

    pub fn note(&self, checkpoint: CheckpointId, change: impl FnOnce(&mut PartTrace)) {
        let mut traces = self.lock();
        change(traces.entry(checkpoint).or_default());
        if traces.len() > REMEMBERED {
            traces.pop_first();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<CheckpointId, PartTrace>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
