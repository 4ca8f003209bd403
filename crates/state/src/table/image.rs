//! The table's side of an image: which epoch it is, and the rows that are on their way to the sink.

use super::directory::Directory;
use super::pool::Pool;
use crate::image::{Groups, ImageChunk, ImageRows, ImageSink, RowEncoder, StateId};
use postcard::experimental::serialized_size;
use rivermark_data::{Data, Key};
use rivermark_types::{KeyGroup, KeyHash, MaxParallelism, hash_key};
use std::panic::{AssertUnwindSafe, catch_unwind};
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
    /// Rows copied since the last chunk was full.
    rows: Vec<(K, V)>,
    namespaces: Vec<(i64, usize)>,
    full: Vec<ImageRows<K, V>>,
}

/// The size of a chunk, without what its rows point to. Small enough for the caches, and for allocators to use the memory
/// of the last chunk for the next.
const CHUNK_BYTES: usize = 64 << 10;
/// So many rows of a chunk tell how much all of them point to.
const SAMPLE_ROWS: usize = 8;

impl<K: Key, V: Data> Image<K, V> {
    pub(super) fn new(origin: Origin, keys: KeySpace) -> Self {
        Image {
            keys,
            pool: Directory::<K, V>::pool(),
            origin,
            epoch: 0,
            walking: false,
            rows: Vec::new(),
            namespaces: Vec::new(),
            full: Vec::new(),
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
    #[inline]
    pub(super) fn push(&mut self, namespace: i64, key: &K, value: &V) {
        debug_assert!(self.walking);
        if self.rows.len() >= Self::CHUNK_ROWS || self.rows.len() == self.rows.capacity() {
            self.make_room();
        }
        if self.namespaces.last().map_or(0, |(last, _)| *last) != namespace {
            if self.namespaces.is_empty() && !self.rows.is_empty() {
                self.namespaces.push((0, 0));
            }
            self.namespaces.push((namespace, self.rows.len()));
        }
        self.rows.push((key.clone(), value.clone()));
    }

    const CHUNK_ROWS: usize = {
        let row = size_of::<(K, V)>();
        let rows = CHUNK_BYTES / if row == 0 { 1 } else { row };
        if rows < 16 { 16 } else { rows }
    };

    #[inline(never)]
    fn make_room(&mut self) {
        self.cut();
        self.rows.reserve_exact(Self::CHUNK_ROWS);
    }

    /// Makes a chunk of the rows that there are.
    fn cut(&mut self) {
        if self.rows.is_empty() {
            return;
        }
        let mut rows = std::mem::take(&mut self.rows);
        if rows.len() < Self::CHUNK_ROWS / 2 {
            rows.shrink_to_fit();
        }
        let bytes = rows.len() * (size_of::<(K, V)>() + pointed_to(&rows));
        self.full.push(ImageRows {
            rows,
            namespaces: std::mem::take(&mut self.namespaces),
            groups: Groups::Of(self.keys),
            bytes,
        });
    }

    /// Hands the chunks that are full to the sink, and the last one too if `done`: then the walk ends.
    pub(super) fn flush(&mut self, done: bool, sink: &mut dyn ImageSink) -> Walk {
        if done {
            self.cut();
        }
        for rows in self.full.drain(..) {
            sink.push(ImageChunk {
                state: self.origin.state.clone(),
                rows: rows.rows.len(),
                bytes: rows.bytes,
                content: Box::new(rows),
                encoder: self.origin.encoder.clone(),
            });
        }
        self.walking = !done;
        if done { Walk::Done } else { Walk::More }
    }
}

/// About how many bytes a row points to: a few of them are measured as they would be written. 0 for plain rows.
fn pointed_to<K: Key, V: Data>(rows: &[(K, V)]) -> usize {
    if !std::mem::needs_drop::<(K, V)>() {
        return 0;
    }
    let step = rows.len().div_ceil(SAMPLE_ROWS).max(1);
    let sample = || {
        rows.iter()
            .step_by(step)
            .map(|row| serialized_size(row).unwrap_or(0))
            .sum::<usize>()
    };
    // A panic in the user's `Serialize` is the I/O side's to meet.
    let bytes = catch_unwind(AssertUnwindSafe(sample)).unwrap_or(0);
    bytes / rows.len().div_ceil(step).max(1)
}
