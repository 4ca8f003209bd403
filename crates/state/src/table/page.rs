//! One page of a table: a block of slots, how full it is, and how far its image has come.
//!
//! A dirty bit of the current epoch says "changed since the freeze, so its old row is already in the image (or it has
//! none)". Keys are probed linearly. A row never moves inside its page; only [`Page::rehome`] moves rows.

use super::block::{Block, DIRTY, EMPTY, LIVE, Row, TOMBSTONE, tag_of};
use super::image::Image;
use super::pool::Pool;
use super::{Fate, Sweep};
use rivermark_data::{Data, Key};
use rivermark_types::KeyHash;

/// Rows of one table whose hashes share a prefix of `depth` bits. One line of memory: a look-up reads it first.
#[repr(align(64))]
pub(super) struct Page<K, V> {
    block: Block<K, V>,
    live: u32,
    /// Live rows and tombstones.
    used: u32,
    limit: u32,
    depth: u32,
    /// The last freeze whose image is complete as far as this page goes.
    captured: u64,
}

impl<K, V> Page<K, V> {
    /// An empty page that counts as captured by `epoch` and takes rows until `limit` slots are in use.
    pub(super) fn new(slots: usize, limit: usize, depth: u32, epoch: u64, pool: &mut Pool) -> Self {
        debug_assert!(0 < limit && limit < slots);
        Page {
            block: Block::new(slots, pool),
            live: 0,
            used: 0,
            limit: limit as u32,
            depth,
            captured: epoch,
        }
    }

    pub(super) fn slots(&self) -> usize {
        self.block.slots()
    }
    pub(super) fn depth(&self) -> u32 {
        self.depth
    }
    pub(super) fn live(&self) -> usize {
        self.live as usize
    }
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + Block::<K, V>::bytes_of(self.slots())
    }
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.used >= self.limit
    }
    /// Whether so many used slots are tombstones that rehoming the rows at the same size makes room for long.
    pub(super) fn is_mostly_dead(&self) -> bool {
        self.live * 4 <= self.limit * 3
    }

    /// Where probing starts. The multiplication spreads the low bits, since the high ones are the same all over the page.
    #[inline(always)]
    fn start(&self, hash: KeyHash) -> usize {
        let spread = (hash.0 as u32).wrapping_mul(0x9E37_79B1);
        ((u64::from(spread) * self.slots() as u64) >> 32) as usize
    }

    fn next(&self, slot: usize) -> usize {
        if slot + 1 == self.slots() { 0 } else { slot + 1 }
    }

    /// Fetches the tags that a search for the hash begins with.
    #[inline(always)]
    pub(super) fn fetch_tags(&self, hash: KeyHash) {
        self.block.fetch_tags(self.start(hash));
    }

    /// Fetches the row that a search for the hash most likely ends at.
    #[inline(always)]
    pub(super) fn fetch_row(&self, hash: KeyHash) {
        self.block.fetch_row(tag_of(hash), self.start(hash));
    }

    /// Fetches where a row with the hash will most likely be put.
    #[inline(always)]
    pub(super) fn fetch_place(&self, hash: KeyHash) {
        self.block.fetch_place(self.start(hash));
    }

    #[inline(always)]
    pub(super) fn value(&self, slot: usize) -> &V {
        &self.block.row(slot).value
    }
    #[inline(always)]
    pub(super) fn value_mut(&mut self, slot: usize) -> &mut V {
        self.block.value_mut(slot)
    }

    fn take(&mut self, slot: usize, tag: u8) -> (K, V) {
        self.live -= 1;
        let row = self.block.take(slot, tag);
        (row.key, row.value)
    }

    /// Puts a row into the first free slot for its hash. There must be an empty slot left.
    pub(super) fn put(&mut self, hash: KeyHash, dirty: u8, key: K, value: V) -> usize {
        let mut slot = self.start(hash);
        while self.block.tag(slot) & LIVE != 0 {
            slot = self.next(slot);
        }
        if self.block.tag(slot) == EMPTY {
            self.used += 1;
        }
        self.live += 1;
        self.block
            .put(slot, tag_of(hash) | dirty & DIRTY, Row { key, value });
        slot
    }

    /// Takes the next live row at or after `slot`; `None` once there is none, and then the page starts afresh if it is empty.
    pub(super) fn take_next(&mut self, slot: &mut usize) -> Option<(K, V)> {
        while *slot < self.slots() {
            if self.block.tag(*slot) & LIVE != 0 {
                return Some(self.take(*slot, TOMBSTONE));
            }
            *slot += 1;
        }
        if self.live == 0 {
            self.block.clear();
            self.used = 0;
        }
        None
    }

    pub(super) fn for_each(&self, mut see: impl FnMut(&K, &V)) {
        for slot in self.live_slots() {
            let row = self.block.row(slot);
            see(&row.key, &row.value);
        }
    }

    fn live_slots(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.slots()).filter(|slot| self.block.tag(*slot) & LIVE != 0)
    }

    /// The hashes of all rows, in the order in which [`Page::rehome`] hands the rows out.
    pub(super) fn hashes(&self, hash: impl Fn(&K) -> KeyHash) -> Vec<KeyHash> {
        let rows = self.live_slots().map(|slot| self.block.row(slot));
        rows.map(|row| hash(&row.key)).collect()
    }

    /// Hands out all rows with their dirty bits, which say what an increment has to hold. The page must have been captured,
    /// because the rows leave it.
    pub(super) fn rehome(mut self, pool: &mut Pool, mut place: impl FnMut(u8, K, V)) {
        for slot in 0..self.slots() {
            let tag = self.block.tag(slot);
            if tag & LIVE != 0 {
                let (key, value) = self.take(slot, EMPTY);
                place(tag & DIRTY, key, value);
            }
        }
        self.block.retire(pool);
    }

    /// Drops all rows and gives the memory back.
    pub(super) fn retire(self, pool: &mut Pool) {
        self.block.retire(pool);
    }
}

impl<K: Key, V: Data> Page<K, V> {
    /// The slot of a key.
    #[inline(always)]
    pub(super) fn find(&self, key: &K, hash: KeyHash) -> Option<usize> {
        self.block
            .find(tag_of(hash), self.start(hash), |other| other == key)
    }

    /// Must come before every change of a row: its first change in an epoch saves the old row for an image that does not
    /// have it yet.
    #[inline(always)]
    pub(super) fn before_change(&mut self, slot: usize, namespace: i64, image: &mut Image<K, V>) {
        if self.block.tag(slot) & image.dirty() == 0 {
            self.save(slot, namespace, image);
            self.block.mark(slot, image.dirty(), 0);
        }
    }

    #[inline(never)]
    fn save(&self, slot: usize, namespace: i64, image: &mut Image<K, V>) {
        if self.captured != image.epoch() {
            let row = self.block.row(slot);
            image.push(namespace, &row.key, &row.value);
        }
    }

    /// Removes a row, saving it first where that is due.
    pub(super) fn remove(&mut self, slot: usize, namespace: i64, image: &mut Image<K, V>) -> V {
        self.before_change(slot, namespace, image);
        let (_, value) = self.take(slot, TOMBSTONE);
        // A run of tombstones before an empty slot leads no probe anywhere.
        if self.block.tag(self.next(slot)) == EMPTY {
            let mut slot = slot;
            while self.block.tag(slot) == TOMBSTONE {
                self.block.mark_free(slot, EMPTY);
                self.used -= 1;
                slot = slot.checked_sub(1).unwrap_or(self.slots() - 1);
            }
        }
        value
    }

    /// Sweeps slots from `from` on until the budget is used up; whether it came to the end. A page without rows starts afresh.
    pub(super) fn sweep(
        &mut self,
        from: &mut usize,
        budget: &mut usize,
        namespace: i64,
        image: &mut Image<K, V>,
        sweep: &mut impl Sweep<V>,
    ) -> bool {
        while *from < self.slots() {
            let slot = *from;
            *from += 1;
            if self.block.tag(slot) & LIVE == 0 {
                continue;
            }
            let (fate, cost) = sweep.look(self.value(slot));
            match fate {
                Fate::Keep => {}
                Fate::Trim => {
                    self.before_change(slot, namespace, image);
                    sweep.trim(self.value_mut(slot));
                }
                Fate::Remove => drop(self.remove(slot, namespace, image)),
            }
            *budget = budget.saturating_sub(cost);
            if *budget == 0 {
                break;
            }
        }
        let done = *from >= self.slots();
        if done && self.live == 0 {
            self.block.clear();
            self.used = 0;
        }
        done
    }

    /// Copies all rows into the image that it does not have yet, once a freeze; returns how many. The dirty bit of the
    /// epoch before the freeze has done its work and is cleared for the epoch after this one.
    pub(super) fn capture(&mut self, namespace: i64, image: &mut Image<K, V>) -> usize {
        if self.captured == image.epoch() {
            return 0;
        }
        let mut rows = 0;
        for first in self.block.groups() {
            let mut due = self.block.live_without(first, image.dirty());
            rows += due.count_ones() as usize;
            while due != 0 {
                let row = self.block.row(first + due.trailing_zeros() as usize);
                image.push(namespace, &row.key, &row.value);
                due &= due - 1;
            }
        }
        self.block.clear_dirty(image.dirty_before());
        self.captured = image.epoch();
        rows
    }
}
