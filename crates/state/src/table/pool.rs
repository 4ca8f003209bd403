//! Memory for pages: cells of one size, cut from chunks of huge pages.
//!
//! A page of its own from the allocator costs a fault for every 4 KB and a miss of the address cache for nearly every
//! row. So a table that has grown beyond [`LEAST_CELLS`] full pages takes them from chunks of 2 MB, which Linux is asked to
//! back by huge pages. Cells that are given back are used again; a chunk goes with the last cell of it that anybody holds.
//! Chunks are the system's and not the allocator's, which would keep them for others and never give them back: each restart
//! of a job would leave its tables' memory behind.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::rc::Rc;

const CHUNK_BYTES: usize = 2 << 20;
const LINE: usize = 64;
/// So many full pages come from the allocator before there is a chunk: a small table must not take 2 MB.
const LEAST_CELLS: usize = 24;

/// A piece of memory, uninitialised, that belongs to its holder alone.
pub(super) struct Cell {
    start: NonNull<u8>,
    /// `None` for the cell that holds no memory.
    owner: Option<Rc<Memory>>,
}

/// Memory that is freed when the last cell of it goes.
struct Memory {
    start: NonNull<u8>,
    layout: Layout,
    /// Whether it was mapped, and not allocated.
    is_mapped: bool,
}

/// Hands out cells for the pages of one state.
pub(super) struct Pool {
    /// The size of the cells that are cut from chunks.
    cell_bytes: usize,
    /// Cells of that size handed out so far.
    handed_out: usize,
    chunk: Option<(Rc<Memory>, usize)>,
    free: Vec<Cell>,
}

impl Default for Cell {
    /// No memory.
    fn default() -> Self {
        Cell {
            start: NonNull::dangling(),
            owner: None,
        }
    }
}

impl Cell {
    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }
    pub(super) fn is_there(&self) -> bool {
        self.owner.is_some()
    }
}

impl Memory {
    fn new(bytes: usize, align: usize) -> Rc<Memory> {
        let Ok(layout) = Layout::from_size_align(bytes.max(1), align) else {
            handle_alloc_error(Layout::new::<u8>());
        };
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        Rc::new(Memory {
            start,
            layout,
            is_mapped: false,
        })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.is_mapped {
            unmap(self.start, self.layout.size());
        } else {
            // SAFETY: allocated in `new` with this layout; no cell of it is left.
            unsafe { dealloc(self.start.as_ptr(), self.layout) }
        }
    }
}

impl Pool {
    /// A pool whose chunks are cut into cells of so many bytes, a multiple of 64.
    pub(super) fn new(cell_bytes: usize) -> Pool {
        Pool {
            cell_bytes,
            handed_out: 0,
            chunk: None,
            free: Vec::new(),
        }
    }

    /// Memory of at least so many bytes.
    pub(super) fn take(&mut self, bytes: usize, align: usize) -> Cell {
        if !self.is_full_page(bytes) || align > LINE {
            return Cell::alone(bytes, align);
        }
        self.handed_out += 1;
        if let Some(cell) = self.free.pop() {
            return cell;
        }
        if self.handed_out <= LEAST_CELLS || self.cell_bytes > CHUNK_BYTES {
            return Cell::alone(bytes, align);
        }
        let (chunk, used) = match self.chunk.take() {
            Some((chunk, used)) if used + self.cell_bytes <= CHUNK_BYTES => (chunk, used),
            _ => (huge_chunk(), 0),
        };
        // SAFETY: `used + cell_bytes` is inside the chunk (above), and each part is handed out once.
        let start = unsafe { chunk.start.add(used) };
        self.chunk = Some((chunk.clone(), used + self.cell_bytes));
        Cell {
            start,
            owner: Some(chunk),
        }
    }

    /// Takes a cell back. What was never part of a chunk goes at once.
    pub(super) fn give_back(&mut self, cell: Cell) {
        let Some(owner) = &cell.owner else { return };
        let (bytes, align) = (owner.layout.size(), owner.layout.align());
        if align == CHUNK_BYTES {
            self.free.push(cell);
        } else if !self.is_full_page(bytes) || align > LINE {
            return;
        }
        self.handed_out = self.handed_out.saturating_sub(1);
        if self.handed_out == 0 {
            *self = Pool::new(self.cell_bytes);
        }
    }

    fn is_full_page(&self, bytes: usize) -> bool {
        bytes <= self.cell_bytes && bytes > self.cell_bytes / 2
    }
}

impl Cell {
    fn alone(bytes: usize, align: usize) -> Cell {
        let memory = Memory::new(bytes, align);
        Cell {
            start: memory.start,
            owner: Some(memory),
        }
    }
}

fn huge_chunk() -> Rc<Memory> {
    let mapped = map_chunk().zip(Layout::from_size_align(CHUNK_BYTES, CHUNK_BYTES).ok());
    match mapped {
        Some((start, layout)) => Rc::new(Memory {
            start,
            layout,
            is_mapped: true,
        }),
        None => Memory::new(CHUNK_BYTES, CHUNK_BYTES),
    }
}

/// A chunk from the system; `None` where that is not known how, or refused.
#[cfg(all(target_os = "linux", not(miri)))]
fn map_chunk() -> Option<NonNull<u8>> {
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
    let (wanted, rights) = (2 * CHUNK_BYTES, ProtFlags::READ | ProtFlags::WRITE);
    // SAFETY: new memory, at a place of the system's choice.
    let mapped = unsafe { mmap_anonymous(std::ptr::null_mut(), wanted, rights, MapFlags::PRIVATE) };
    let whole = NonNull::new(mapped.ok()?.cast::<u8>())?;
    // Twice the size has a chunk in it that lies as huge pages do; what is around it goes back.
    let before = whole.as_ptr().align_offset(CHUNK_BYTES);
    // SAFETY: `before` is less than `CHUNK_BYTES`, so the chunk lies inside the mapping.
    let start = unsafe { whole.add(before) };
    // SAFETY: as before: it ends inside the mapping.
    let after = unsafe { start.add(CHUNK_BYTES) };
    unmap(whole, before);
    unmap(after, wanted - CHUNK_BYTES - before);
    // SAFETY: the chunk is ours, and the advice changes no content. Without huge pages it works as well, only slower.
    let _ = unsafe { madvise(start.as_ptr().cast(), CHUNK_BYTES, Advice::LinuxHugepage) };
    Some(start)
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn map_chunk() -> Option<NonNull<u8>> {
    None
}

/// Gives a part of a mapping back. Only for parts that nobody uses.
fn unmap(start: NonNull<u8>, bytes: usize) {
    #[cfg(all(target_os = "linux", not(miri)))]
    if bytes > 0 {
        // SAFETY: the caller's: a part of a mapping of ours that nobody uses. If it fails, the part stays, unused.
        let _ = unsafe { rustix::mm::munmap(start.as_ptr().cast(), bytes) };
    }
    #[cfg(not(all(target_os = "linux", not(miri))))]
    let _ = (start, bytes);
}
