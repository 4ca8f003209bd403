//! The table's side of an image: which epoch it is, and the rows that are on their way to the sink.

use super::directory::Directory;
use super::pool::Pool;
use crate::image::{ImageChunk, ImageRow, ImageSink, RowEncoder, StateId};
use rivermark_data::{Data, Key};
use rivermark_types::{KeyGroup, KeyHash, MaxParallelism, hash_key};
use std::sync::Arc;

/// How keys become hashes and key groups in one job.
#[derive(Clone, Copy, Debug)]
pub struct KeySpace {
    /// The job's seed.
    pub seed: u64,
    /// The job's number of key groups.
    pub groups: MaxParallelism,
}

impl KeySpace {
    /// The hash of a key.
    #[inline]
    pub fn hash<K: Key>(&self, key: &K) -> KeyHash {
        hash_key(self.seed, key)
    }
    /// The key group of a key.
    #[inline]
    pub fn group<K: Key>(&self, key: &K) -> KeyGroup {
        self.groups.group_of(self.hash(key))
    }
}

/// What a table's rows are called outside, and who can encode them.
#[derive(Clone)]
pub struct Origin {
    /// Which state the rows belong to.
    pub state: Arc<StateId>,
    /// Made for the same `K` and `V` as the table.
    pub encoder: Arc<dyn RowEncoder>,
}

/// Whether a walk has more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// Rows are left: walk on.
    More,
    /// All rows of the image are with the sink.
    Done,
}

/// The epoch, raised by a freeze, and the rows copied since the walk last drained them.
pub(super) struct Image<K, V> {
    pub(super) keys: KeySpace,
    /// Where the state's pages get their memory.
    pub(super) pool: Pool,
    origin: Origin,
    epoch: u64,
    walking: bool,
    rows: Vec<ImageRow<K, V>>,
}

impl<K: Key, V: Data> Image<K, V> {
    pub(super) fn new(origin: Origin, keys: KeySpace) -> Self {
        Image {
            keys,
            pool: Directory::<K, V>::pool(),
            origin,
            epoch: 0,
            walking: false,
            rows: Vec::new(),
        }
    }

    #[inline(always)]
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }
    /// The dirty bit of this epoch.
    #[inline(always)]
    pub(super) fn dirty(&self) -> u8 {
        1 << (self.epoch & 1)
    }
    /// The dirty bit of the epoch before: what changed between the last two freezes.
    #[inline(always)]
    pub(super) fn dirty_before(&self) -> u8 {
        1 << (!self.epoch & 1)
    }

    pub(super) fn is_walking(&self) -> bool {
        self.walking
    }
    pub(super) fn freeze(&mut self) {
        debug_assert!(!self.walking && self.rows.is_empty());
        self.epoch += 1;
        self.walking = true;
    }

    /// Copies a row. The only place where keys and values are cloned for an image.
    pub(super) fn push(&mut self, namespace: i64, key: &K, value: &V) {
        debug_assert!(self.walking);
        let group = self.keys.group(key);
        self.rows.push(ImageRow {
            group,
            namespace,
            key: key.clone(),
            value: value.clone(),
        });
    }

    /// Hands the copied rows to the sink; the walk ends if `done`.
    pub(super) fn flush(&mut self, done: bool, sink: &mut dyn ImageSink) -> Walk {
        if !self.rows.is_empty() {
            let rows = std::mem::take(&mut self.rows);
            sink.push(ImageChunk {
                state: self.origin.state.clone(),
                rows: rows.len(),
                bytes: rows.len() * size_of::<ImageRow<K, V>>(),
                content: Box::new(rows),
                encoder: self.origin.encoder.clone(),
            });
        }
        self.walking = !done;
        if done { Walk::Done } else { Walk::More }
    }
}
