//! The mark that cuts a stream into "before the checkpoint" and "after it" (Chandy and Lamport 1985; Carbone et al. 2015).

use crate::ids::CheckpointId;
use serde::{Deserialize, Serialize};

/// Why a snapshot is taken; it decides who may delete it and whether sinks commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotKind {
    /// Taken by the timer or on request, deleted when subsumed.
    Checkpoint,
    /// Asked for by the user, kept for ever, never used for automatic recovery; sinks do not commit on it.
    Savepoint,
    /// The last checkpoint of a run that ends (bounded input used up, or a graceful stop); sinks commit on it.
    Final,
}

/// Travels with the records. Rows before it are in the snapshot, rows after it are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Barrier {
    /// The checkpoint it belongs to; later barriers carry greater ids.
    pub checkpoint: CheckpointId,
    /// What the snapshot is for.
    pub kind: SnapshotKind,
}
