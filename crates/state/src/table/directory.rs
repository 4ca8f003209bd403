//! The rows of one namespace: pages in an extendible directory.
//!
//! The top bits of the low half of a key's hash choose the page. A page that is full grows up to full size, then splits in
//! two. How full is full differs from page to page, so that uniform keys do not make all pages split in the same batch.
//! A page is captured before its rows move, so the walk meets each frozen row exactly once.

use super::Sweep;
use super::block::Block;
use super::image::Image;
use super::page::Page;
use super::pool::Pool;
use rivermark_data::{Data, Key};
use rivermark_types::KeyHash;

const FIRST_BYTES: usize = 1 << 10;
/// An odd number of lines, as is the other: at powers of two the tags of all pages would share a few sets of the caches.
const FULL_BYTES: usize = 963 * 64;
const FULL_BYTES_OF_WIDE_ROWS: usize = 243 * 64;
const WIDE_ROW: usize = 64;
/// About what the first two levels of caches hold.
const NEAR_BYTES: usize = 256 << 10;
const LEAST_SLOTS: usize = 4;
/// Beyond it pages grow instead of splitting: keys that agree in so many bits would only blow up the directory.
const MOST_DEPTH: u32 = 22;

/// Where a sweep goes on. The default is the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor {
    page: usize,
    slot: usize,
}

/// Pages by the prefix of the hash.
pub(super) struct Directory<K, V> {
    namespace: i64,
    /// The page of each prefix of `depth` bits.
    entries: Vec<u32>,
    depth: u32,
    pages: Vec<Page<K, V>>,
    /// What the pages take.
    page_bytes: usize,
    len: usize,
    /// The page where draining goes on.
    drained: usize,
}

impl<K: Key, V: Data> Directory<K, V> {
    pub(super) fn new(namespace: i64, image: &mut Image<K, V>) -> Self {
        let mut slots = Self::full_slots();
        while Block::<K, V>::bytes_of(slots) > FIRST_BYTES && slots / 2 >= LEAST_SLOTS {
            slots /= 2;
        }
        let mut directory = Directory {
            namespace,
            entries: vec![0],
            depth: 0,
            pages: Vec::new(),
            page_bytes: 0,
            len: 0,
            drained: 0,
        };
        let page = directory.new_page(0, slots, 0, image);
        directory.page_bytes = page.bytes();
        directory.pages.push(page);
        directory
    }

    /// A pool for the pages of such rows.
    pub(super) fn pool() -> Pool {
        Pool::new(Block::<K, V>::bytes_of(Self::full_slots()).next_multiple_of(64))
    }

    /// Makes room for about so many rows at once, if there are none yet.
    pub(super) fn reserve(&mut self, rows: usize, image: &mut Image<K, V>) {
        let full = Self::full_slots();
        // A page is between a third and two thirds full then, as it would be had it grown.
        let pages = (rows / (full * 2 / 3)).next_power_of_two().min(1 << MOST_DEPTH);
        if self.len > 0 || pages < 2 {
            return;
        }
        let depth = pages.trailing_zeros();
        let made = (0..pages).map(|id| self.new_page(id, full, depth, image));
        let made: Vec<_> = made.collect();
        std::mem::replace(&mut self.pages, made)
            .into_iter()
            .for_each(|page| page.retire(&mut image.pool));
        self.page_bytes = self.pages.iter().map(Page::bytes).sum();
        self.entries = (0..pages as u32).collect();
        self.depth = depth;
    }

    fn full_slots() -> usize {
        let bytes = if Block::<K, V>::SLOT_BYTES > WIDE_ROW {
            FULL_BYTES_OF_WIDE_ROWS
        } else {
            FULL_BYTES
        };
        Block::<K, V>::slots_in(bytes).max(2 * LEAST_SLOTS)
    }

    fn new_page(&self, id: usize, slots: usize, depth: u32, image: &mut Image<K, V>) -> Page<K, V> {
        let limit = self.limit(id, slots, depth, image);
        Page::new(slots, limit, depth, image.epoch(), &mut image.pool)
    }

    /// How many slots of a page may be in use: between 0.59 and 0.875 of them, drawn from seed and page.
    fn limit(&self, id: usize, slots: usize, depth: u32, image: &Image<K, V>) -> usize {
        let page = (id as u64) << 8 | u64::from(depth);
        let mut draw = image.keys.seed ^ (self.namespace as u64).rotate_left(32) ^ page;
        draw = (draw ^ (draw >> 31)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        draw = (draw ^ (draw >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let per_1024 = 604 + (draw >> 32) as usize % 293;
        (slots * per_1024 / 1024).clamp(1, slots - 1)
    }

    #[inline(always)]
    fn page_of(&self, hash: KeyHash) -> usize {
        let prefix = (hash.0 & 0xFFFF_FFFF) >> (32 - self.depth);
        self.entries[prefix as usize] as usize
    }

    pub(super) fn namespace(&self) -> i64 {
        self.namespace
    }
    pub(super) fn len(&self) -> usize {
        self.len
    }
    pub(super) fn bytes(&self) -> usize {
        self.page_bytes + self.entries.len() * size_of::<u32>()
    }

    /// Brings what look-ups of these keys will touch nearer to the processor, so that many wait for memory at once and not
    /// each for itself. A table that fits into the nearest caches has nothing to gain.
    pub(super) fn prefetch(&self, hashes: &[KeyHash]) {
        self.fetch_ahead(hashes, Page::fetch_row);
    }

    /// The same for rows that are most likely new: where they will be put.
    pub(super) fn prefetch_places(&self, hashes: &[KeyHash]) {
        self.fetch_ahead(hashes, Page::fetch_place);
    }

    #[inline(always)]
    fn fetch_ahead(&self, hashes: &[KeyHash], fetch: impl Fn(&Page<K, V>, KeyHash)) {
        if self.page_bytes < NEAR_BYTES {
            return;
        }
        for hash in hashes {
            self.pages[self.page_of(*hash)].fetch_tags(*hash);
        }
        for hash in hashes {
            fetch(&self.pages[self.page_of(*hash)], *hash);
        }
    }

    /// Drops all rows and gives their memory back.
    pub(super) fn retire(self, image: &mut Image<K, V>) {
        self.pages
            .into_iter()
            .for_each(|page| page.retire(&mut image.pool));
    }

    #[inline]
    pub(super) fn get(&self, key: &K, hash: KeyHash) -> Option<&V> {
        let page = &self.pages[self.page_of(hash)];
        page.find(key, hash).map(|slot| page.value(slot))
    }

    #[inline]
    pub(super) fn get_mut(&mut self, image: &mut Image<K, V>, key: &K, hash: KeyHash) -> Option<&mut V> {
        let at = self.page_of(hash);
        let page = &mut self.pages[at];
        let slot = page.find(key, hash)?;
        page.before_change(slot, self.namespace, image);
        Some(page.value_mut(slot))
    }

    #[inline]
    pub(super) fn update_or_else(
        &mut self,
        image: &mut Image<K, V>,
        key: &K,
        hash: KeyHash,
        make: impl FnOnce() -> V,
    ) -> &mut V {
        let at = self.page_of(hash);
        let page = &mut self.pages[at];
        match page.find(key, hash) {
            Some(slot) => {
                page.before_change(slot, self.namespace, image);
                self.pages[at].value_mut(slot)
            }
            None => self.add(image, key.clone(), hash, make()),
        }
    }

    pub(super) fn insert(&mut self, image: &mut Image<K, V>, key: K, hash: KeyHash, value: V) -> Option<V> {
        match self.get_mut(image, &key, hash) {
            Some(old) => Some(std::mem::replace(old, value)),
            None => {
                self.add(image, key, hash, value);
                None
            }
        }
    }

    /// Adds a row of a snapshot, joined with what is there of its key.
    #[inline]
    pub(super) fn restore(
        &mut self,
        image: &mut Image<K, V>,
        key: K,
        hash: KeyHash,
        value: V,
        append: fn(&mut V, V),
    ) {
        let at = self.page_of(hash);
        let page = &mut self.pages[at];
        match page.find(&key, hash) {
            Some(slot) => {
                page.before_change(slot, self.namespace, image);
                append(page.value_mut(slot), value);
            }
            None => {
                self.add(image, key, hash, value);
            }
        }
    }

    pub(super) fn remove(&mut self, image: &mut Image<K, V>, key: &K, hash: KeyHash) -> Option<V> {
        let at = self.page_of(hash);
        let slot = self.pages[at].find(key, hash)?;
        self.len -= 1;
        Some(self.pages[at].remove(slot, self.namespace, image))
    }

    /// Takes out up to `most` rows, in no order of meaning. Pages that the image does not have are captured first.
    pub(super) fn drain_slice(
        &mut self,
        image: &mut Image<K, V>,
        most: usize,
        mut take: impl FnMut(K, V),
    ) -> usize {
        let mut taken = 0;
        while taken < most && self.len > 0 {
            self.drained %= self.pages.len();
            let page = &mut self.pages[self.drained];
            page.capture(self.namespace, image);
            let mut slot = 0;
            while taken < most {
                let Some((key, value)) = page.take_next(&mut slot) else {
                    self.drained += 1;
                    break;
                };
                self.len -= 1;
                taken += 1;
                take(key, value);
            }
        }
        taken
    }

    pub(super) fn for_each(&self, mut see: impl FnMut(&K, &V)) {
        self.pages.iter().for_each(|page| page.for_each(&mut see));
    }

    /// Captures pages from `page` on until the budget is used up; whether the last page is done.
    pub(super) fn walk(&mut self, page: &mut usize, budget: &mut usize, image: &mut Image<K, V>) -> bool {
        while let Some(next) = self.pages.get_mut(*page) {
            if *budget == 0 {
                return false;
            }
            // A page without rows costs something too.
            *budget = budget.saturating_sub(next.capture(self.namespace, image).max(1));
            *page += 1;
        }
        true
    }

    /// Sweeps slots from the cursor on until the budget is used up; whether it came to the end. The upper half of a page that
    /// splits meanwhile is behind all others, so it is still to come.
    pub(super) fn sweep(
        &mut self,
        image: &mut Image<K, V>,
        from: &mut Cursor,
        budget: &mut usize,
        sweep: &mut impl Sweep<V>,
    ) -> bool {
        while let Some(page) = self.pages.get_mut(from.page) {
            if *budget == 0 {
                return false;
            }
            let before = page.live();
            let done = page.sweep(&mut from.slot, budget, self.namespace, image, sweep);
            self.len -= before - page.live();
            if done {
                // A page without rows costs something too.
                *budget = budget.saturating_sub(1);
                *from = Cursor {
                    page: from.page + 1,
                    slot: 0,
                };
            }
        }
        true
    }

    #[inline(never)]
    fn add(&mut self, image: &mut Image<K, V>, key: K, hash: KeyHash, value: V) -> &mut V {
        let mut at = self.page_of(hash);
        while self.pages[at].is_full() {
            self.make_room(at, hash, image);
            at = self.page_of(hash);
        }
        self.len += 1;
        let slot = self.pages[at].put(hash, image.dirty(), key, value);
        self.pages[at].value_mut(slot)
    }

    /// Makes a full page smaller, larger or two. `hash` is any hash that belongs to it.
    fn make_room(&mut self, at: usize, hash: KeyHash, image: &mut Image<K, V>) {
        self.pages[at].capture(self.namespace, image);
        let (slots, full) = (self.pages[at].slots(), Self::full_slots());
        if self.pages[at].is_mostly_dead() {
            self.resize(at, slots, image);
        } else if slots < full {
            let larger = (0..usize::BITS)
                .map(|halvings| full >> halvings)
                .take_while(|size| *size > slots);
            self.resize(at, larger.last().unwrap_or(full), image);
        } else if !self.split(at, hash, image) {
            self.resize(at, slots * 2, image);
        }
    }

    /// Puts a page in the place of another, which is handed out.
    fn exchange(&mut self, at: usize, mut page: Page<K, V>) -> Page<K, V> {
        self.page_bytes += page.bytes();
        std::mem::swap(&mut page, &mut self.pages[at]);
        self.page_bytes -= page.bytes();
        page
    }

    fn resize(&mut self, at: usize, slots: usize, image: &mut Image<K, V>) {
        let page = self.new_page(at, slots, self.pages[at].depth(), image);
        let page = self.exchange(at, page);
        let keys = image.keys;
        let home = &mut self.pages[at];
        page.rehome(&mut image.pool, |dirty, key, value| {
            home.put(keys.hash(&key), dirty, key, value);
        });
    }

    /// Splits a page by the next bit of the hash; false if all rows would stay together.
    fn split(&mut self, at: usize, hash: KeyHash, image: &mut Image<K, V>) -> bool {
        let depth = self.pages[at].depth();
        if depth == MOST_DEPTH {
            return false;
        }
        let keys = image.keys;
        let is_upper = |hash: KeyHash| hash.0 >> (31 - depth) & 1 == 1;
        let hashes = self.pages[at].hashes(|key| keys.hash(key));
        let upper_rows = hashes.iter().filter(|hash| is_upper(**hash)).count();
        if upper_rows == 0 || upper_rows == hashes.len() {
            return false;
        }
        if depth == self.depth {
            self.entries = self.entries.iter().flat_map(|page| [*page, *page]).collect();
            self.depth += 1;
        }
        let mut upper = self.half(self.pages.len(), depth + 1, upper_rows, image);
        let lower = self.half(at, depth + 1, hashes.len() - upper_rows, image);
        let whole = self.exchange(at, lower);
        let lower = &mut self.pages[at];
        let mut hashes = hashes.into_iter();
        whole.rehome(&mut image.pool, |dirty, key, value| {
            let hash = hashes.next().unwrap_or_else(|| keys.hash(&key));
            let home = if is_upper(hash) { &mut upper } else { &mut *lower };
            home.put(hash, dirty, key, value);
        });
        // The entries of the whole page are a run of a power of two; the upper half of it goes to the new page.
        let run = 1usize << (self.depth - depth);
        let first = ((hash.0 & 0xFFFF_FFFF) >> (32 - self.depth)) as usize & !(run - 1);
        self.entries[first + run / 2..first + run].fill(self.pages.len() as u32);
        self.page_bytes += upper.bytes();
        self.pages.push(upper);
        true
    }

    /// A page of full size, or larger if that is too small for so many rows.
    fn half(&self, id: usize, depth: u32, rows: usize, image: &mut Image<K, V>) -> Page<K, V> {
        let mut slots = Self::full_slots();
        while self.limit(id, slots, depth, image) <= rows {
            slots *= 2;
        }
        self.new_page(id, slots, depth, image)
    }
}
