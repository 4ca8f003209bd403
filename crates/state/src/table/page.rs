//! One page of a table: rows at fixed slots, and apart from them one tag byte a slot.
//!
//! A tag is `EMPTY`, `TOMBSTONE`, or a live row's: the live bit, five bits of the key's hash, and two dirty bits of
//! alternating epochs. A dirty bit of the current epoch says "changed since the freeze, so its old row is already in the
//! image (or it has none)". Keys are probed linearly. A row never moves inside its page; only [`Page::rehome`] moves rows.
//! All `unsafe` of the table is here. It rests on one invariant: **`rows[i]` is initialised exactly when `tags[i]` has the
//! live bit**, and `tags` and `rows` have the same length.

use super::image::Image;
use super::{Fate, Sweep};
use rivermark_data::{Data, Key};
use rivermark_types::KeyHash;
use std::mem::MaybeUninit;

const EMPTY: u8 = 0;
const TOMBSTONE: u8 = 0b0000_0100;
const LIVE: u8 = 0b1000_0000;
const DIRTY: u8 = 0b0000_0011;

struct Row<K, V> {
    key: K,
    value: V,
}

/// Rows of one table whose hashes share a prefix of `depth` bits.
pub(super) struct Page<K, V> {
    tags: Box<[u8]>,
    rows: Box<[MaybeUninit<Row<K, V>>]>,
    live: usize,
    /// Live rows and tombstones.
    used: usize,
    limit: usize,
    /// The last freeze whose image is complete as far as this page goes.
    captured: u64,
    depth: u32,
}

/// The tag of a live, clean row: five bits that choose neither the page nor the slot, nor, within a subtask, the key group.
#[inline(always)]
fn tag_of(hash: KeyHash) -> u8 {
    LIVE | (((hash.0 >> 32) as u8) & 0b0001_1111) << 2
}

impl<K, V> Page<K, V> {
    /// The bytes that a slot takes.
    pub(super) const SLOT_BYTES: usize = size_of::<Row<K, V>>() + 1;

    /// An empty page that counts as captured by `epoch` and takes rows until `limit` slots are in use.
    pub(super) fn new(slots: usize, limit: usize, depth: u32, epoch: u64) -> Self {
        debug_assert!(0 < limit && limit < slots);
        let tags = vec![EMPTY; slots].into_boxed_slice();
        Page {
            tags,
            rows: Box::new_uninit_slice(slots),
            live: 0,
            used: 0,
            limit,
            captured: epoch,
            depth,
        }
    }

    pub(super) fn slots(&self) -> usize {
        self.tags.len()
    }
    pub(super) fn depth(&self) -> u32 {
        self.depth
    }
    pub(super) fn live(&self) -> usize {
        self.live
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
        ((u64::from(spread) * self.tags.len() as u64) >> 32) as usize
    }

    #[inline(always)]
    fn next(&self, slot: usize) -> usize {
        if slot + 1 == self.tags.len() { 0 } else { slot + 1 }
    }

    #[inline(always)]
    fn row(&self, slot: usize) -> &Row<K, V> {
        assert!(self.tags[slot] & LIVE != 0);
        // SAFETY: the live bit says that the row is initialised; `slot` is in bounds of `tags`, hence of `rows`.
        unsafe { self.rows.get_unchecked(slot).assume_init_ref() }
    }

    #[inline(always)]
    pub(super) fn value_mut(&mut self, slot: usize) -> &mut V {
        assert!(self.tags[slot] & LIVE != 0);
        // SAFETY: as in `row`.
        unsafe { &mut self.rows.get_unchecked_mut(slot).assume_init_mut().value }
    }

    #[inline(always)]
    pub(super) fn value(&self, slot: usize) -> &V {
        &self.row(slot).value
    }

    /// Moves the row out and marks its slot with a tag that is not live.
    #[inline]
    fn take(&mut self, slot: usize, tag: u8) -> (K, V) {
        assert!(self.tags[slot] & LIVE != 0);
        debug_assert!(tag & LIVE == 0);
        self.tags[slot] = tag;
        self.live -= 1;
        // SAFETY: the live bit was set, so the row is initialised; it is cleared now, so nobody reads or drops it again.
        let row = unsafe { self.rows[slot].assume_init_read() };
        (row.key, row.value)
    }

    /// Puts a row into the first free slot for its hash. There must be an empty slot left.
    pub(super) fn put(&mut self, hash: KeyHash, dirty: u8, key: K, value: V) -> usize {
        let mut slot = self.start(hash);
        while self.tags[slot] & LIVE != 0 {
            slot = self.next(slot);
        }
        if self.tags[slot] == EMPTY {
            self.used += 1;
        }
        self.live += 1;
        // The slot is not live, so nothing is overwritten undropped. The row is written before its tag says so.
        self.rows[slot].write(Row { key, value });
        self.tags[slot] = tag_of(hash) | dirty;
        slot
    }

    /// Takes the next live row at or after `slot`; `None` once there is none, and then the page starts afresh if it is empty.
    pub(super) fn take_next(&mut self, slot: &mut usize) -> Option<(K, V)> {
        while let Some(tag) = self.tags.get(*slot) {
            if tag & LIVE != 0 {
                return Some(self.take(*slot, TOMBSTONE));
            }
            *slot += 1;
        }
        if self.live == 0 {
            self.tags.fill(EMPTY);
            self.used = 0;
        }
        None
    }

    pub(super) fn for_each(&self, mut see: impl FnMut(&K, &V)) {
        for slot in self.live_slots() {
            let row = self.row(slot);
            see(&row.key, &row.value);
        }
    }

    fn live_slots(&self) -> impl Iterator<Item = usize> + '_ {
        self.tags
            .iter()
            .enumerate()
            .filter(|(_, tag)| **tag & LIVE != 0)
            .map(|(slot, _)| slot)
    }

    /// The hashes of all rows, in the order in which [`Page::rehome`] hands the rows out.
    pub(super) fn hashes(&self, hash: impl Fn(&K) -> KeyHash) -> Vec<KeyHash> {
        self.live_slots().map(|slot| hash(&self.row(slot).key)).collect()
    }

    /// Hands out all rows with their dirty bits, which say what an increment has to hold. The page must have been captured,
    /// because the rows leave it.
    pub(super) fn rehome(mut self, mut place: impl FnMut(u8, K, V)) {
        for slot in 0..self.tags.len() {
            let tag = self.tags[slot];
            if tag & LIVE != 0 {
                let (key, value) = self.take(slot, EMPTY);
                place(tag & DIRTY, key, value);
            }
        }
    }
}

impl<K: Key, V: Data> Page<K, V> {
    /// The slot of a key.
    #[inline(always)]
    pub(super) fn find(&self, key: &K, hash: KeyHash) -> Option<usize> {
        let wanted = tag_of(hash);
        let mut slot = self.start(hash);
        loop {
            let tag = self.tags[slot];
            if tag & !DIRTY == wanted && self.row(slot).key == *key {
                return Some(slot);
            }
            if tag == EMPTY {
                return None;
            }
            slot = self.next(slot);
        }
    }

    /// Must come before every change of a row: its first change in an epoch saves the old row for an image that does not
    /// have it yet.
    #[inline(always)]
    pub(super) fn before_change(&mut self, slot: usize, namespace: i64, image: &mut Image<K, V>) {
        if self.tags[slot] & image.dirty() == 0 {
            self.save(slot, namespace, image);
            self.tags[slot] |= image.dirty();
        }
    }

    #[inline(never)]
    fn save(&self, slot: usize, namespace: i64, image: &mut Image<K, V>) {
        if self.captured != image.epoch() {
            let row = self.row(slot);
            image.push(namespace, &row.key, &row.value);
        }
    }

    /// Removes a row, saving it first where that is due.
    pub(super) fn remove(&mut self, slot: usize, namespace: i64, image: &mut Image<K, V>) -> V {
        self.before_change(slot, namespace, image);
        let (_, value) = self.take(slot, TOMBSTONE);
        // A run of tombstones before an empty slot leads no probe anywhere.
        if self.tags[self.next(slot)] == EMPTY {
            let mut slot = slot;
            while self.tags[slot] == TOMBSTONE {
                self.tags[slot] = EMPTY;
                self.used -= 1;
                slot = slot.checked_sub(1).unwrap_or(self.tags.len() - 1);
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
        while *from < self.tags.len() {
            let slot = *from;
            *from += 1;
            if self.tags[slot] & LIVE == 0 {
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
        let done = *from >= self.tags.len();
        if done && self.live == 0 {
            self.tags.fill(EMPTY);
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
        image.reserve(self.live);
        let (dirty, before) = (image.dirty(), image.dirty_before());
        let mut rows = 0;
        for slot in 0..self.tags.len() {
            let tag = self.tags[slot];
            if tag & LIVE == 0 {
                continue;
            }
            if tag & dirty == 0 {
                let row = self.row(slot);
                image.push(namespace, &row.key, &row.value);
                rows += 1;
            }
            self.tags[slot] = tag & !before;
        }
        self.captured = image.epoch();
        rows
    }
}

impl<K, V> Drop for Page<K, V> {
    fn drop(&mut self) {
        if !std::mem::needs_drop::<Row<K, V>>() {
            return;
        }
        for slot in 0..self.tags.len() {
            if self.tags[slot] & LIVE != 0 {
                drop(self.take(slot, EMPTY));
            }
        }
    }
}
