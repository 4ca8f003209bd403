//! The table: rows of one state in one subtask, and the walk that copies them beside the work.
//!
//! Layout: `block` (slots and tags in memory) and `pool` (where that is from) with all `unsafe`, `page`, `directory` (pages by hash: growth and splits), `image` (the epoch and the
//! copied rows), `namespaces` ([`Tables`]: a directory a window or timer bucket). [`Table`] is a state with one namespace.
//!
//! `freeze` raises the epoch and copies nothing. From then on `walk` captures page by page, and a change to a row that is
//! not captured yet first copies the old row. A page is captured when its epoch is the image's; inside a page that is not,
//! a row is if its dirty bit of the current epoch is set. So each row that stood at the freeze goes out once and as it
//! stood; rows born later never do. All changes of a row pass `Page::before_change` or happen after `Page::capture`.
//!
//! Increments are not written yet. What they add: a removed key stays in its slot as long as a dirty bit says so (now a
//! tombstone has neither key nor bits), and `capture` of an increment takes the rows with the dirty bit of the epoch
//! before, which it clears already.

mod block;
mod directory;
mod image;
mod namespaces;
mod page;
mod pool;

#[cfg(test)]
pub(crate) mod tests;

pub use directory::Cursor;
pub use image::{KeySpace, Origin, Walk};
pub use namespaces::Tables;

use crate::image::ImageSink;
use directory::Directory;
use image::Image;
use rivermark_data::{Data, Key};
use rivermark_types::{KeyHash, Timestamp};

/// What a backend does with any table, whatever its rows are.
pub trait Stored {
    /// Starts the image of the rows as they are now. If a walk is under way, its rest goes to `unfinished` first.
    fn freeze(&mut self, unfinished: &mut dyn ImageSink);
    /// Copies about `budget` rows of the image to the sink and takes them off the budget.
    fn walk(&mut self, budget: &mut usize, sink: &mut dyn ImageSink) -> Walk;
    /// Whether an image is not out yet.
    fn is_walking(&self) -> bool;
    /// Brings what the next look-ups will touch nearer to the processor; changes nothing. For some sixteen keys at a time.
    fn prefetch(&self, _hashes: &[KeyHash]) {}
    /// How many rows there are.
    fn rows(&self) -> usize;
    /// About how many bytes they take, not counting what rows point to.
    fn bytes(&self) -> usize;
    /// Removes what has expired, until about so many rows were looked at. When there is more to do, in processing time (the
    /// past means at once); `None` as long as no row is added.
    fn sweep(&mut self, _budget: &mut usize) -> Option<Timestamp> {
        None
    }
}

/// What becomes of a row that a sweep has looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays as it is.
    Keep,
    /// It stays, changed by [`Sweep::trim`].
    Trim,
    /// It goes.
    Remove,
}

/// Says what becomes of rows.
pub trait Sweep<V> {
    /// What becomes of a row, and what it cost to find out; a plain row costs 1.
    fn look(&mut self, value: &V) -> (Fate, usize);
    /// Changes a row that is to be trimmed.
    fn trim(&mut self, value: &mut V);
}

/// So many rows are fetched ahead while a table is filled.
const RESTORE_BLOCK: usize = 16;

/// Rows of one state without namespaces. The caller computes each key's hash, once.
pub struct Table<K: Key, V: Data> {
    directory: Directory<K, V>,
    image: Image<K, V>,
    walked: usize,
}

impl<K: Key, V: Data> Table<K, V> {
    /// An empty table.
    pub fn new(origin: Origin, keys: KeySpace) -> Self {
        let mut image = Image::new(origin, keys);
        Table {
            directory: Directory::new(0, &mut image),
            image,
            walked: 0,
        }
    }

    /// Makes room for about so many rows at once, if there are none yet: for a restore.
    pub fn reserve(&mut self, rows: usize) {
        self.directory.reserve(rows, &mut self.image);
    }

    /// Adds rows of a snapshot; `append` joins those of one key.
    pub fn restore(&mut self, keys: Vec<K>, hashes: &[KeyHash], values: Vec<V>, append: fn(&mut V, V)) {
        let mut rows = keys.into_iter().zip(values);
        let mut ahead = hashes.chunks(RESTORE_BLOCK);
        self.directory.prefetch_places(ahead.next().unwrap_or_default());
        for block in hashes.chunks(RESTORE_BLOCK) {
            self.directory.prefetch_places(ahead.next().unwrap_or_default());
            for ((key, value), hash) in rows.by_ref().take(block.len()).zip(block) {
                self.directory.restore(&mut self.image, key, *hash, value, append);
            }
        }
    }

    /// The value of a key.
    #[inline]
    pub fn get(&self, key: &K, hash: KeyHash) -> Option<&V> {
        self.directory.get(key, hash)
    }

    /// The value of a key, to be changed; made first if there is none.
    #[inline]
    pub fn update_or_else(&mut self, key: &K, hash: KeyHash, make: impl FnOnce() -> V) -> &mut V {
        self.directory.update_or_else(&mut self.image, key, hash, make)
    }

    /// The value of a key, to be changed, if there is one.
    #[inline]
    pub fn get_mut_existing(&mut self, key: &K, hash: KeyHash) -> Option<&mut V> {
        self.directory.get_mut(&mut self.image, key, hash)
    }

    /// Sets the value of a key; returns the old one.
    pub fn insert(&mut self, key: K, hash: KeyHash, value: V) -> Option<V> {
        self.directory.insert(&mut self.image, key, hash, value)
    }

    /// Removes a key.
    pub fn remove(&mut self, key: &K, hash: KeyHash) -> Option<V> {
        self.directory.remove(&mut self.image, key, hash)
    }

    /// Takes out up to `most` rows, in no order of meaning; returns how many.
    pub fn drain_slice(&mut self, most: usize, take: impl FnMut(K, V)) -> usize {
        self.directory.drain_slice(&mut self.image, most, take)
    }

    /// Sees all rows, in no order of meaning.
    pub fn for_each(&self, see: impl FnMut(&K, &V)) {
        self.directory.for_each(see);
    }

    /// Looks at rows from the cursor on, in no order of meaning, and changes or removes those that `sweep` says, until about
    /// `budget` is used up; whether it came to the end. Rows that stay in the table from the first slice to the last are
    /// looked at, unless their page was made anew in between: those perhaps not before the next round.
    pub fn sweep(&mut self, from: &mut Cursor, budget: &mut usize, sweep: &mut impl Sweep<V>) -> bool {
        self.directory.sweep(&mut self.image, from, budget, sweep)
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.directory.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Key, V: Data> Stored for Table<K, V> {
    fn freeze(&mut self, unfinished: &mut dyn ImageSink) {
        if self.is_walking() {
            self.walk(&mut { usize::MAX }, unfinished);
        }
        self.walked = 0;
        self.image.freeze();
    }
    fn walk(&mut self, budget: &mut usize, sink: &mut dyn ImageSink) -> Walk {
        if !self.is_walking() {
            return Walk::Done;
        }
        let done = self.directory.walk(&mut self.walked, budget, &mut self.image);
        self.image.flush(done, sink)
    }
    fn is_walking(&self) -> bool {
        self.image.is_walking()
    }
    fn prefetch(&self, hashes: &[KeyHash]) {
        self.directory.prefetch(hashes);
    }
    fn rows(&self) -> usize {
        self.len()
    }
    fn bytes(&self) -> usize {
        self.directory.bytes()
    }
}
