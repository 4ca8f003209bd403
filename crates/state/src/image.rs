//! The seam between a table (in its slot) and the snapshot (on the I/O side): rows as plain copies, erased by the chunk.

use crate::page_memory::PageMemory;
use crate::table::KeySpace;
use bytes::Bytes;
use rivermark_data::Key;
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
    /// Records that were in flight to the operator, by channel; no keyed state.
    InFlight,
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

/// Rows as a table copies them: nothing is worked out for them yet.
pub struct ImageRows<K, V> {
    /// The rows.
    pub rows: Vec<(K, V)>,
    /// The namespaces of the rows: each of a run of them, and where the run starts. Empty if all are 0.
    pub namespaces: Vec<(i64, usize)>,
    /// What tells their key groups.
    pub groups: Groups,
    /// About how many bytes they hold in memory, with what they point to.
    pub bytes: usize,
}

/// The key groups of some rows.
pub enum Groups {
    /// To be worked out from the keys.
    Of(KeySpace),
    /// Known, a row each.
    Known(Vec<KeyGroup>),
}

impl<K, V> From<Vec<ImageRow<K, V>>> for ImageRows<K, V> {
    fn from(rows: Vec<ImageRow<K, V>>) -> Self {
        ImageRows {
            namespaces: rows
                .iter()
                .enumerate()
                .map(|(at, row)| (row.namespace, at))
                .collect(),
            groups: Groups::Known(rows.iter().map(|row| row.group).collect()),
            bytes: size_of_val(rows.as_slice()),
            rows: rows.into_iter().map(|row| (row.key, row.value)).collect(),
        }
    }
}

impl<K: Key, V> ImageRows<K, V> {
    /// The rows with all that is known of them.
    pub fn into_rows(self) -> Vec<ImageRow<K, V>> {
        let namespaces = namespaces_of(&self.namespaces, self.rows.len());
        let known = match &self.groups {
            Groups::Of(_) => &[][..],
            Groups::Known(groups) => groups,
        };
        let row = |(at, ((key, value), namespace)): (usize, ((K, V), i64))| ImageRow {
            group: match &self.groups {
                Groups::Of(keys) => keys.group(&key),
                Groups::Known(_) => known.get(at).copied().unwrap_or(KeyGroup(0)),
            },
            namespace,
            key,
            value,
        };
        self.rows
            .into_iter()
            .zip(namespaces)
            .enumerate()
            .map(row)
            .collect()
    }
}

/// The namespace of each of so many rows.
pub(crate) fn namespaces_of(runs: &[(i64, usize)], rows: usize) -> impl Iterator<Item = i64> + '_ {
    let ends = runs.iter().skip(1).map(|(_, start)| *start).chain([rows]);
    let all = runs.iter().zip(ends);
    let all = all.flat_map(|((namespace, start), end)| std::iter::repeat_n(*namespace, end - start));
    all.chain(std::iter::repeat_n(0, if runs.is_empty() { rows } else { 0 }))
}

/// Rows of one state on their way to the I/O side: an `ImageRows<K, V>`, erased. Only the `RowEncoder` made for the
/// same `K` and `V` can open it.
pub struct ImageChunk {
    /// Which state.
    pub state: Arc<StateId>,
    /// How many rows.
    pub rows: usize,
    /// About how many bytes they hold in memory, with what they point to.
    pub bytes: usize,
    /// The `ImageRows<K, V>`.
    pub content: Box<dyn Any + Send>,
    /// Opens and encodes `content`.
    pub encoder: Arc<dyn RowEncoder>,
}

/// Turns rows of one `K` and `V` into bytes of the snapshot format. Runs on the I/O side.
pub trait RowEncoder: Send + Sync {
    /// Encodes the rows of several chunks of one state (all made by the table this encoder belongs to) as pages, each
    /// holding the rows of one range of key groups, in order of key group. The pages may use the memory.
    fn encode_in(
        &self,
        chunks: Vec<Box<dyn Any + Send>>,
        memory: &Arc<PageMemory>,
    ) -> Result<Vec<EncodedPage>, String>;

    /// The same with memory of their own.
    fn encode(&self, chunks: Vec<Box<dyn Any + Send>>) -> Result<Vec<EncodedPage>, String> {
        self.encode_in(chunks, &Arc::default())
    }
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
    pub bytes: Bytes,
}

/// Where a table puts its image. Never blocks: bounding and spilling are the I/O side's.
pub trait ImageSink {
    /// Takes a chunk.
    fn push(&mut self, chunk: ImageChunk);
}
