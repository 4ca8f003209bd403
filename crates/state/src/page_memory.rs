//! Memory of pages that are stored, and of encoders that are done, for the next ones: of fresh memory each 4 KB would cost a
//! fault, which is more than what is written there.

use bytes::Bytes;
use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What may lie here unused. Where the store is as fast as the encoding less is enough; more would be memory that rows on their
/// way could take.
const MOST_BYTES: usize = 16 << 20;

/// Hands out memory for pages, and takes it back when the last holder of a page is gone.
#[derive(Default)]
pub struct PageMemory {
    pages: Mutex<Free>,
    scratch: Mutex<Vec<Box<dyn Any + Send>>>,
}

#[derive(Default)]
struct Free {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl Free {
    fn take(&mut self) -> Option<Vec<u8>> {
        let buffer = self.buffers.pop()?;
        self.bytes -= buffer.capacity();
        Some(buffer)
    }

    /// Keeps a buffer if there is room for it; otherwise returns it.
    fn keep(&mut self, buffer: Vec<u8>) -> Option<Vec<u8>> {
        if self.bytes + buffer.capacity() > MOST_BYTES {
            return Some(buffer);
        }
        self.bytes += buffer.capacity();
        self.buffers.push(buffer);
        None
    }
}

impl PageMemory {
    /// An empty buffer with room for so many bytes.
    pub fn take(&self, bytes: usize) -> Vec<u8> {
        let mut buffer = lock(&self.pages).take().unwrap_or_default();
        if buffer.capacity() < bytes {
            // Not grown: nothing in it is worth a copy.
            buffer = Vec::with_capacity(bytes);
        }
        buffer
    }

    /// A page in such a buffer, whose memory comes back here.
    pub(crate) fn lend(self: &Arc<Self>, page: Vec<u8>) -> Bytes {
        let memory = self.clone();
        Bytes::from_owner(Lent { page, memory })
    }

    /// Something that an encoder has kept for the next one, or a new one.
    pub(crate) fn scratch<T: Default + Send + 'static>(&self) -> T {
        let mut kept = lock(&self.scratch);
        let place = kept.iter().position(|kept| kept.is::<T>());
        let found = place.and_then(|place| kept.swap_remove(place).downcast().ok());
        found.map_or_else(T::default, |found| *found)
    }

    /// Keeps something for the next encoder.
    pub(crate) fn keep<T: Send + 'static>(&self, scratch: T) {
        lock(&self.scratch).push(Box::new(scratch));
    }

    /// Gives the memory that nobody uses to the system.
    pub(crate) fn clear(&self) {
        *lock(&self.pages) = Free::default();
        *lock(&self.scratch) = Vec::new();
    }
}

fn lock<T>(memory: &Mutex<T>) -> MutexGuard<'_, T> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A page that is in use.
struct Lent {
    page: Vec<u8>,
    memory: Arc<PageMemory>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.page
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut page = std::mem::take(&mut self.page);
        page.clear();
        // What there is no room for is freed here, and not under the lock.
        let _more = lock(&self.memory.pages).keep(page);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_page_serves_the_next_one_once_nobody_holds_it() {
        let memory = Arc::new(PageMemory::default());
        let mut page = memory.take(1_000);
        page.extend_from_slice(b"rows");
        let place = page.as_ptr();
        let page = memory.lend(page);
        let part = page.slice(1..3);
        drop(page);
        let other = memory.take(1_000);
        assert_ne!(other.as_ptr(), place, "a part of it is still read");
        assert_eq!(&part[..], b"ow");
        drop(part);
        let next = memory.take(900);
        assert_eq!((next.as_ptr(), next.len()), (place, 0));
        drop(memory.lend(next));
        assert!(
            memory.take(2_000).capacity() >= 2_000,
            "it is too small for this one"
        );
        let pages: Vec<Bytes> = (0..3)
            .map(|_| memory.lend(Vec::with_capacity(MOST_BYTES / 2)))
            .collect();
        drop(pages);
        let kept: Vec<usize> = (0..3).map(|_| memory.take(0).capacity()).collect();
        assert_eq!(kept, [MOST_BYTES / 2, MOST_BYTES / 2, 0]);
        drop(memory.lend(Vec::with_capacity(10)));
        memory.clear();
        assert_eq!(memory.take(0).capacity(), 0);
    }
}
