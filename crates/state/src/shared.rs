//! The one cell through which an operator's handle and its task share a table.
//!
//! A `RefCell` would have to give out guards, and `update(&key) -> &mut V` could not be. So: a [`Handle`] gives out plain
//! references that live as long as the borrow of the handle; a [`TaskSide`] gives none out (so timers, which return
//! nothing borrowed, have only such sides). Why that is sound:
//!
//! - Everything here is `!Send` (`Rc`), so all access is on the slot's thread, one at a time.
//! - There is one `Handle` a cell that gives out references (it is not `Clone`), so the borrow checker orders these.
//! - The task uses its side only between operator calls. A reference from the handle borrows the handle, which lives in
//!   the operator, so it has ended by then. (`Box::leak` of a handle would give a reference that has not: the one thing
//!   that operators must not do, and that no signature of this shape can forbid.)
//! - While the task's side is in use, code of the user's types may run (`clone`, `serialize`, `drop`). If that reaches a
//!   handle, by a thread-local say, the `busy` flag stops it with a panic, which fails the attempt.

use std::cell::{Cell, UnsafeCell};
use std::rc::Rc;

struct Shared<T: ?Sized> {
    busy: Cell<bool>,
    value: UnsafeCell<T>,
}

/// The operator's side; `None` until the state is declared.
pub(crate) struct Handle<T>(Option<Rc<Shared<T>>>);

impl<T> Default for Handle<T> {
    fn default() -> Self {
        Handle(None)
    }
}

/// A handle was used before its state was declared: a mistake in the operator, which fails the attempt.
#[cold]
#[inline(never)]
pub(crate) fn undeclared() -> ! {
    panic!(
        "a state was used that `open` did not declare: keep there what `cx.value(..)`, `cx.timers()` and so on return"
    )
}

/// The task's side, whatever the operator's side sees.
pub(crate) struct TaskSide<T: ?Sized>(Rc<Shared<T>>);

/// Marks the cell as in use until dropped, also by a panic.
struct Busy<'a>(&'a Cell<bool>);

impl<'a> Busy<'a> {
    fn new(cell: &'a Cell<bool>) -> Self {
        assert!(!cell.replace(true), "a table was used while its task used it");
        Busy(cell)
    }
}
impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl<T> Handle<T> {
    pub(crate) fn new(value: T) -> Handle<T> {
        Handle(Some(Rc::new(Shared {
            busy: Cell::new(false),
            value: UnsafeCell::new(value),
        })))
    }

    #[inline(always)]
    fn shared(&self) -> &Rc<Shared<T>> {
        match &self.0 {
            Some(shared) => shared,
            None => undeclared(),
        }
    }

    #[inline(always)]
    pub(crate) fn get(&self) -> &T {
        let shared = self.shared();
        assert!(!shared.busy.get(), "a table was used while its task used it");
        // SAFETY: this is the only handle, so no `&mut` from `get_mut` is alive; the task's side is not in use (above).
        unsafe { &*shared.value.get() }
    }

    #[inline(always)]
    pub(crate) fn get_mut(&mut self) -> &mut T {
        let shared = self.shared();
        assert!(!shared.busy.get(), "a table was used while its task used it");
        // SAFETY: this is the only handle and it is borrowed mutably; the task's side is not in use (above).
        unsafe { &mut *shared.value.get() }
    }

    /// The task's side of this cell.
    pub(crate) fn task_side(&self) -> TaskSide<T> {
        TaskSide(self.shared().clone())
    }
}

impl<T: ?Sized> TaskSide<T> {
    /// Uses the value; only between operator calls, or where no reference from a handle can be alive.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
        let _busy = Busy::new(&self.0.busy);
        // SAFETY: no reference from the handle is alive (the file's argument), and `busy` keeps all others out until the
        // end of this function; `act` cannot let the reference escape, because it must work for any lifetime.
        act(unsafe { &mut *self.0.value.get() })
    }
}

impl<T: crate::table::Stored + 'static> TaskSide<T> {
    /// The same side, knowing only that it is a table.
    pub(crate) fn erased(self) -> TaskSide<dyn crate::table::Stored> {
        TaskSide(self.0)
    }
}

impl<T: ?Sized> Clone for TaskSide<T> {
    fn clone(&self) -> Self {
        TaskSide(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_see_the_same_value() {
        let mut handle = Handle::new(1);
        let task = handle.task_side();
        *handle.get_mut() += 1;
        assert_eq!(task.with(|value| std::mem::replace(value, 5)), 2);
        assert_eq!(*handle.get(), 5);
    }

    #[test]
    fn a_handle_refuses_while_the_task_is_inside_and_works_again_after() {
        let handle = Handle::new(1);
        let task = handle.task_side();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| task.with(|_| *handle.get())));
        assert!(caught.is_err());
        let nested = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            task.with(|_| task.with(|value| *value))
        }));
        assert!(nested.is_err());
        assert_eq!(*handle.get(), 1);
    }
}
