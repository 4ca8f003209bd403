//! Panics of code that is not ours to trust, caught and told as one line with the place in the source.
//!
//! A process that calls [`tell_caught_panics_as_errors`] prints nothing for a panic that is caught: whoever caught it tells
//! it. Non-goal: panics that nobody catches; they are printed as ever.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    /// How many calls of `catch_panic` this thread is inside of.
    static CATCHING: Cell<u32> = const { Cell::new(0) };
    /// Where the last panic of this thread began.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `work`; a panic in it becomes a line that says what it said and, where the process has called
/// [`tell_caught_panics_as_errors`], where.
pub fn catch_panic<R>(work: impl FnOnce() -> R) -> Result<R, String> {
    CATCHING.set(CATCHING.get() + 1);
    let result = catch_unwind(AssertUnwindSafe(work));
    CATCHING.set(CATCHING.get() - 1);
    result.map_err(|payload| {
        let said = panic_message(payload.as_ref()).replace('\n', "; ");
        match PLACE.take() {
            Some(place) => format!("{said} ({place})"),
            None => said,
        }
    })
}

/// From here on this process prints a panic only if nobody catches it, or if `RUST_BACKTRACE` asks for more than the place.
pub fn tell_caught_panics_as_errors() {
    let wants_more = std::env::var_os("RUST_BACKTRACE").is_some_and(|set| set != "0");
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic
            .location()
            .map(|at| format!("{}:{}:{}", at.file(), at.line(), at.column()));
        PLACE.set(place);
        if wants_more || CATCHING.get() == 0 {
            print(panic);
        }
    }));
}

/// The text of a panic.
fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_one_line() {
        assert_eq!(catch_panic(|| 7), Ok(7));
        let told = catch_panic(|| panic!("no\nnumber")).map(|()| 0);
        assert_eq!(told, Err("no; number".to_owned()));
    }
}
