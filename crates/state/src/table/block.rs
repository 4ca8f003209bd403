//! The memory of one page: a tag byte a slot, padded, and behind them the rows; and how tags are searched.
//!
//! All `unsafe` of the table is here and in `pool`. It rests on one invariant: **row `i` is initialised exactly when tag `i` has the live
//! bit**. `tags` and `rows` lie in one piece of memory that belongs to the block alone and does not move while it lives.
//!
//! Tags are compared sixteen at a time, so that how long a probe is costs no mispredicted branch. Behind the last tag lie
//! [`GROUP`] bytes of padding that are neither live nor empty: a group may reach into them and finds nothing there.

use super::pool::{Cell, Pool};
use rivermark_types::KeyHash;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

/// No row was here since the page was last built.
pub(super) const EMPTY: u8 = 0;
/// A row was here, and probes for others have to go on behind it.
pub(super) const TOMBSTONE: u8 = 0b0000_0100;
/// A row is here.
pub(super) const LIVE: u8 = 0b1000_0000;
/// Two bits of alternating epochs: the row was changed in that epoch.
pub(super) const DIRTY: u8 = 0b0000_0011;

/// Tags compared at once.
const GROUP: usize = 16;
/// How much of a row is fetched ahead; what lies behind it follows in order, which the processor sees by itself.
const LINES_AHEAD: usize = 4;
const LINE: usize = 64;

/// The tag of a live, clean row: five bits that choose neither the page nor the slot, nor, within a subtask, the key group.
#[inline(always)]
pub(super) fn tag_of(hash: KeyHash) -> u8 {
    LIVE | (((hash.0 >> 32) as u8) & 0b0001_1111) << 2
}

/// A key and its value in their slot.
pub(super) struct Row<K, V> {
    pub(super) key: K,
    pub(super) value: V,
}

/// Tags and rows of one page.
pub(super) struct Block<K, V> {
    tags: NonNull<u8>,
    slots: u32,
    cell: Cell,
    rows: PhantomData<Row<K, V>>,
}

impl<K, V> Block<K, V> {
    /// The bytes that a slot takes.
    pub(super) const SLOT_BYTES: usize = size_of::<Row<K, V>>() + 1;
    const ALIGN: usize = if align_of::<Row<K, V>>() > LINE {
        align_of::<Row<K, V>>()
    } else {
        LINE
    };

    /// Where the rows start.
    #[inline(always)]
    const fn rows_at(slots: usize) -> usize {
        (slots + GROUP + Self::ALIGN - 1) & !(Self::ALIGN - 1)
    }

    /// The bytes that a block of so many slots takes.
    pub(super) const fn bytes_of(slots: usize) -> usize {
        Self::rows_at(slots) + slots * size_of::<Row<K, V>>()
    }

    /// The most slots that fit into so many bytes.
    pub(super) const fn slots_in(bytes: usize) -> usize {
        let mut slots = bytes / Self::SLOT_BYTES;
        while slots > 0 && Self::bytes_of(slots) > bytes {
            slots -= 1;
        }
        slots
    }

    /// A block whose slots are all empty.
    pub(super) fn new(slots: usize, pool: &mut Pool) -> Self {
        assert!(slots > 0 && slots < u32::MAX as usize / 2);
        let cell = pool.take(Self::bytes_of(slots), Self::ALIGN);
        let tags = cell.start();
        // SAFETY: the cell is ours alone and has `bytes_of(slots)` bytes, so `slots + GROUP` at least.
        unsafe {
            tags.write_bytes(EMPTY, slots);
            tags.add(slots).write_bytes(TOMBSTONE, GROUP);
        }
        Block {
            tags,
            slots: slots as u32,
            cell,
            rows: PhantomData,
        }
    }

    /// Gives the memory back to the pool. Without it the memory goes when nobody uses the neighbouring pages either.
    pub(super) fn retire(mut self, pool: &mut Pool) {
        self.drop_rows();
        pool.give_back(std::mem::take(&mut self.cell));
    }

    #[inline(always)]
    pub(super) fn slots(&self) -> usize {
        self.slots as usize
    }

    #[inline(always)]
    pub(super) fn tag(&self, slot: usize) -> u8 {
        assert!(slot < self.slots());
        // SAFETY: in bounds; all tags are initialised from the start.
        unsafe { self.tags.add(slot).read() }
    }

    /// Private: whoever sets a tag keeps the invariant.
    #[inline(always)]
    fn set_tag(&mut self, slot: usize, tag: u8) {
        debug_assert!(slot < self.slots());
        // SAFETY: callers have read the tag of the slot before, which checks the bounds.
        unsafe { self.tags.add(slot).write(tag) }
    }

    /// Sets and clears dirty bits.
    #[inline(always)]
    pub(super) fn mark(&mut self, slot: usize, set: u8, clear: u8) {
        let tag = self.tag(slot);
        self.set_tag(slot, tag & !(clear & DIRTY) | (set & DIRTY));
    }

    /// Clears dirty bits of all rows. (Tags that are not live have none, but for the bits that make up a tombstone.)
    pub(super) fn clear_dirty(&mut self, clear: u8) {
        for slot in 0..self.slots() {
            let tag = self.tag(slot);
            self.set_tag(slot, tag & !(clear & DIRTY));
        }
    }

    /// Makes a slot that is not live a tombstone or empty.
    pub(super) fn mark_free(&mut self, slot: usize, tag: u8) {
        assert!(self.tag(slot) & LIVE == 0 && tag & LIVE == 0);
        self.set_tag(slot, tag);
    }

    #[inline(always)]
    fn place(&self, slot: usize) -> NonNull<MaybeUninit<Row<K, V>>> {
        debug_assert!(slot < self.slots());
        // SAFETY: the row area begins at `rows_at` and has `slots` rows; `slot` is in bounds (all callers check).
        unsafe {
            self.tags
                .add(Self::rows_at(self.slots()))
                .cast::<MaybeUninit<Row<K, V>>>()
                .add(slot)
        }
    }

    #[inline(always)]
    pub(super) fn row(&self, slot: usize) -> &Row<K, V> {
        assert!(self.tag(slot) & LIVE != 0);
        // SAFETY: the live bit says that the row is initialised; the slot is in bounds (`tag` checks).
        unsafe { self.place(slot).as_ref().assume_init_ref() }
    }

    #[inline(always)]
    pub(super) fn value_mut(&mut self, slot: usize) -> &mut V {
        assert!(self.tag(slot) & LIVE != 0);
        // SAFETY: as in `row`; the block is borrowed mutably.
        unsafe { &mut self.place(slot).as_mut().assume_init_mut().value }
    }

    /// Moves the row out and marks its slot with a tag that is not live.
    #[inline]
    pub(super) fn take(&mut self, slot: usize, tag: u8) -> Row<K, V> {
        assert!(self.tag(slot) & LIVE != 0 && tag & LIVE == 0);
        self.set_tag(slot, tag);
        // SAFETY: the live bit was set, so the row is initialised; it is cleared now, so nobody reads or drops it again.
        unsafe { self.place(slot).as_ref().assume_init_read() }
    }

    /// Puts a row into a slot that is not live.
    #[inline]
    pub(super) fn put(&mut self, slot: usize, tag: u8, row: Row<K, V>) {
        assert!(self.tag(slot) & LIVE == 0 && tag & LIVE != 0);
        // SAFETY: in bounds (`tag` checks). The slot is not live, so nothing is overwritten undropped; the row is written
        // before its tag says so.
        unsafe { self.place(slot).write(MaybeUninit::new(row)) };
        self.set_tag(slot, tag);
    }

    /// Makes all slots empty. There must be no row left.
    pub(super) fn clear(&mut self) {
        for slot in 0..self.slots() {
            self.mark_free(slot, EMPTY);
        }
    }

    /// The slot of a row with this tag for which `is_it`, looking from a slot on until there is an empty one.
    #[inline(always)]
    pub(super) fn find(&self, tag: u8, from: usize, mut is_it: impl FnMut(&K) -> bool) -> Option<usize> {
        let mut slot = from;
        loop {
            let group = self.group(slot);
            let empty = group.equal(EMPTY, u8::MAX);
            // Only what comes before the first empty slot.
            let mut hits = group.equal(tag, !DIRTY) & empty.wrapping_sub(1) & !empty;
            while hits != 0 {
                let hit = slot + hits.trailing_zeros() as usize;
                if is_it(&self.row(hit).key) {
                    return Some(hit);
                }
                hits &= hits - 1;
            }
            if empty != 0 {
                return None;
            }
            slot += GROUP;
            if slot >= self.slots() {
                slot = 0;
            }
        }
    }

    const fn may_straddle() -> bool {
        let size = size_of::<Row<K, V>>();
        size > 0 && size < LINE * LINES_AHEAD && !LINE.is_multiple_of(size)
    }

    /// Fetches the first tags from a slot on.
    #[inline(always)]
    pub(super) fn fetch_tags(&self, from: usize) {
        fetch(self.tags.as_ptr().wrapping_add(from));
    }

    /// Fetches the row that a search from a slot on most likely ends at. The tags are best there already.
    #[inline(always)]
    pub(super) fn fetch_row(&self, tag: u8, from: usize) {
        self.fetch_first(from, self.group(from).equal(tag, !DIRTY));
    }

    /// Fetches the slot that a new row goes to which is put from a slot on.
    #[inline(always)]
    pub(super) fn fetch_place(&self, from: usize) {
        self.fetch_first(from, self.group(from).equal(EMPTY, u8::MAX));
    }

    #[inline(always)]
    fn fetch_first(&self, from: usize, hits: u32) {
        // Without a hit (a new key, or a long probe) the row does not matter. A wrong one costs a fetch.
        let slot = from + (hits | 1 << (GROUP - 1)).trailing_zeros() as usize;
        let rows = self.tags.as_ptr().wrapping_add(Self::rows_at(self.slots()));
        let row = rows.wrapping_add(slot * size_of::<Row<K, V>>());
        let lines = const { size_of::<Row<K, V>>().div_ceil(LINE) };
        for line in 0..lines.clamp(1, LINES_AHEAD) {
            fetch(row.wrapping_add(line * LINE));
        }
        // A row whose size does not divide a line may end in one line more.
        if const { Self::may_straddle() } {
            fetch(row.wrapping_add(size_of::<Row<K, V>>() - 1));
        }
    }

    /// The slots of `GROUP` tags from a slot on that are live and have none of the dirty bits, as bits.
    #[inline(always)]
    pub(super) fn live_without(&self, from: usize, dirty: u8) -> u32 {
        self.group(from).equal(LIVE, LIVE | dirty & DIRTY)
    }

    /// Steps for [`Block::live_without`].
    pub(super) fn groups(&self) -> impl Iterator<Item = usize> + use<K, V> {
        (0..self.slots()).step_by(GROUP)
    }

    #[inline(always)]
    fn group(&self, from: usize) -> Group {
        assert!(from < self.slots());
        // SAFETY: `GROUP` initialised bytes follow any tag, if need be those of the padding.
        unsafe { Group::load(self.tags.add(from)) }
    }

    fn drop_rows(&mut self) {
        if !std::mem::needs_drop::<Row<K, V>>() {
            return;
        }
        for slot in 0..self.slots() {
            if self.tag(slot) & LIVE != 0 {
                drop(self.take(slot, EMPTY));
            }
        }
    }
}

impl<K, V> Drop for Block<K, V> {
    fn drop(&mut self) {
        // A block that was retired has no memory any more.
        if self.cell.is_there() {
            self.drop_rows();
        }
    }
}

/// Sixteen tags.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Group(std::arch::x86_64::__m128i);

#[cfg(target_arch = "x86_64")]
impl Group {
    /// # Safety
    /// There are sixteen initialised bytes.
    #[inline(always)]
    unsafe fn load(from: NonNull<u8>) -> Group {
        // SAFETY: the caller's; the load needs no alignment, and every processor of this architecture has it.
        Group(unsafe { std::arch::x86_64::_mm_loadu_si128(from.as_ptr().cast()) })
    }

    /// Which tags equal `wanted` in the bits of the mask, as bits.
    #[inline(always)]
    fn equal(self, wanted: u8, mask: u8) -> u32 {
        use std::arch::x86_64::{_mm_and_si128, _mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set1_epi8};
        // SAFETY: plain arithmetic that every processor of this architecture has.
        unsafe {
            let masked = _mm_and_si128(self.0, _mm_set1_epi8(mask as i8));
            _mm_movemask_epi8(_mm_cmpeq_epi8(masked, _mm_set1_epi8(wanted as i8))) as u32
        }
    }
}

/// Sixteen tags.
#[cfg(not(target_arch = "x86_64"))]
#[derive(Clone, Copy)]
struct Group([u8; GROUP]);

#[cfg(not(target_arch = "x86_64"))]
impl Group {
    /// # Safety
    /// There are sixteen initialised bytes.
    #[inline(always)]
    unsafe fn load(from: NonNull<u8>) -> Group {
        // SAFETY: the caller's.
        Group(unsafe { from.cast::<[u8; GROUP]>().read_unaligned() })
    }

    /// Which tags equal `wanted` in the bits of the mask, as bits.
    #[inline(always)]
    fn equal(self, wanted: u8, mask: u8) -> u32 {
        let bits = self.0.iter().enumerate();
        bits.fold(0, |bits, (i, tag)| bits | u32::from(tag & mask == wanted) << i)
    }
}

/// Asks the processor to bring a line nearer; means nothing else, wherever it points.
#[inline(always)]
fn fetch(line: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch touches no memory that the program could see and faults nowhere.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = line;
}
