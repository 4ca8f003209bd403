//! The seam between a table (in its slot) and the snapshot (on the I/O side): rows as plain copies, erased by the chunk.

use rivermark_types::{KeyGroup, Uid};
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::sync::Arc;

/// What kind of state a table holds; a restore refuses to read one kind as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StateKind {
    /// One value a key.
    Value,
    /// A list a key.
    List,
    /// A map a key.
    Map,
    /// The rows of a key reduced to one.
    Reducing,
    /// An accumulator a key.
    Aggregating,
    /// Timers; the namespace is the time bucket, the value the key's times in it.
    Timers,
    /// One accumulator a key and window; the namespace is the window's end.
    Windows,
}

/// The name of a state inside a job, by which a restore finds it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StateId {
    /// The operator's uid.
    pub operator: Uid,
    /// The name the operator declared it under.
    pub name: String,
    /// What it holds.
    pub kind: StateKind,
}

/// One row of a state, as it stood at the freeze.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRow<K, V> {
    /// The key group of the key.
    pub group: KeyGroup,
    /// Window end, timer bucket, or the time of last access in a state with a time to live; 0 where there is none of these.
    pub namespace: i64,
    /// The key.
    pub key: K,
    /// The value.
    pub value: V,
}

/// Rows of one state on their way to the I/O side: a `Vec<ImageRow<K, V>>`, erased. Only the `RowEncoder` made for the
/// same `K` and `V` can open it.
pub struct ImageChunk {
    /// Which state.
    pub state: Arc<StateId>,
    /// How many rows.
    pub rows: usize,
    /// About how many bytes they hold in memory.
    pub bytes: usize,
    /// The `Vec<ImageRow<K, V>>`.
    pub content: Box<dyn Any + Send>,
    /// Opens and encodes `content`.
    pub encoder: Arc<dyn RowEncoder>,
}

/// Turns rows of one `K` and `V` into bytes of the snapshot format. Runs on the I/O side.
pub trait RowEncoder: Send + Sync {
    /// Encodes the rows of several chunks of one state (all made by the table this encoder belongs to) as pages, each
    /// holding the rows of one range of key groups, in order of key group.
    fn encode(&self, chunks: Vec<Box<dyn Any + Send>>) -> Result<Vec<EncodedPage>, String>;
}

/// Encoded rows of one state for a range of key groups: self-describing (schema and rows), readable alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedPage {
    /// The lowest key group in it.
    pub first_group: KeyGroup,
    /// The highest key group in it.
    pub last_group: KeyGroup,
    /// Rows in it.
    pub rows: u64,
    /// An Arrow IPC stream.
    pub bytes: Vec<u8>,
}

/// Where a table puts its image. Never blocks: bounding and spilling are the I/O side's.
pub trait ImageSink {
    /// Takes a chunk.
    fn push(&mut self, chunk: ImageChunk);
}
