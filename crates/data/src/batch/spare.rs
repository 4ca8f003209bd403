//! Memory of used-up batches, kept by the thread for the next ones: a large vector that goes back to the allocator may go back
//! to the system, and then every page of the next one is a page fault.
//!
//! Batches move between threads and their memory with them: a thread keeps what is used up on it. What it keeps is bounded
//! (`MOST_BYTES`); beyond that, memory is the allocator's as ever. Non-goal: anything but plain vectors.

use std::any::{Any, TypeId};
use std::cell::RefCell;

/// Bytes that a thread keeps at most.
const MOST_BYTES: usize = 8 << 20;
/// Vectors of one type that a thread keeps at most.
const MOST_OF_A_TYPE: usize = 32;

/// The spare vectors of a thread: one `Vec<Vec<T>>` a type. There are few types, so a search costs less than a map.
#[derive(Default)]
struct Spares {
    shelves: Vec<(TypeId, Box<dyn Any>)>,
    bytes: usize,
}

thread_local! {
    static SPARES: RefCell<Spares> = RefCell::default();
}

impl Spares {
    fn shelf<T: 'static>(&mut self) -> Option<&mut Vec<Vec<T>>> {
        let wanted = TypeId::of::<T>();
        let at = self.shelves.iter().position(|(found, _)| *found == wanted);
        let at = at.unwrap_or_else(|| {
            self.shelves.push((wanted, Box::new(Vec::<Vec<T>>::new())));
            self.shelves.len() - 1
        });
        self.shelves[at].1.downcast_mut()
    }
}

fn bytes_of<T>(vector: &Vec<T>) -> usize {
    vector.capacity() * size_of::<T>()
}

/// An empty vector with room for so many items.
pub fn vector<T: 'static>(room: usize) -> Vec<T> {
    // A thread that is ending has no spares any more.
    let spare = SPARES.try_with(|spares| {
        let mut spares = spares.try_borrow_mut().ok()?;
        let shelf = spares.shelf::<T>()?;
        let fits = shelf.iter().rposition(|vector| vector.capacity() >= room)?;
        let vector = shelf.swap_remove(fits);
        spares.bytes -= bytes_of(&vector);
        Some(vector)
    });
    // By powers of two, so that lengths that vary a little fit the same spares.
    let new = || Vec::with_capacity(if room == 0 { 0 } else { room.next_power_of_two() });
    spare.ok().flatten().unwrap_or_else(new)
}

/// Drops what is in a vector and keeps its memory, if there is room for it.
pub fn keep<T: 'static>(mut vector: Vec<T>) {
    // What the items do when they are dropped may well come back here.
    vector.clear();
    let bytes = bytes_of(&vector);
    if bytes == 0 {
        return;
    }
    let _ = SPARES.try_with(|spares| {
        let mut spares = spares.try_borrow_mut().ok()?;
        if spares.bytes + bytes > MOST_BYTES {
            return None;
        }
        let shelf = spares.shelf::<T>()?;
        if shelf.len() < MOST_OF_A_TYPE {
            shelf.push(vector);
            spares.bytes += bytes;
        }
        Some(())
    });
}

/// Drops what is left of an iteration and keeps its memory.
#[expect(
    clippy::map_identity,
    reason = "an `IntoIter` alone is collected into new memory once half of it is gone"
)]
pub fn keep_rest<T: 'static>(rest: std::vec::IntoIter<T>) {
    // Collecting a mapped `IntoIter` works in place, so this is the same memory. (Where it is not, only speed is lost.)
    keep(rest.map(|item| item).collect::<Vec<T>>());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_empty_and_only_for_its_type() {
        let full = vec![7u64; 1000];
        let address = full.as_ptr();
        keep(full);
        let other = vector::<i64>(1000);
        assert_ne!(other.as_ptr().cast(), address);
        assert!(
            vector::<u64>(5000).capacity() >= 5000,
            "too small a spare is left"
        );
        let again = vector::<u64>(10);
        assert_eq!((again.as_ptr(), again.len()), (address, 0));
    }

    #[test]
    fn the_rest_of_an_iteration_keeps_its_memory_and_drops_its_items() {
        let item = std::rc::Rc::new(());
        let mut items = vec![item.clone(); 100].into_iter();
        let address = items.as_slice().as_ptr();
        items.next();
        keep_rest(items);
        assert_eq!(std::rc::Rc::strong_count(&item), 1);
        let again = vector::<std::rc::Rc<()>>(100);
        assert_eq!(again.as_ptr(), address);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        for _ in 0..100 {
            keep(vec![0u8; 1 << 20]);
        }
        let kept = SPARES.with(|spares| spares.borrow().bytes);
        assert_eq!(kept, MOST_BYTES);
    }
}
