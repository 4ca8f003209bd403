//! Standard error, shared by progress and log: lines that stay, and in a terminal one line that changes.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use tracing_subscriber::fmt::MakeWriter;

/// Erases the line of the cursor.
const ERASE: &str = "\r\x1b[2K";
/// A line that is longer than the terminal is wide is cut: one that wrapped could not be erased.
const CUT: [&str; 2] = ["\x1b[?7l", "\x1b[?7h"];

/// The one way to standard error.
#[derive(Clone)]
pub(crate) struct Console(Arc<Mutex<State>>);

struct State {
    out: Box<dyn Write + Send>,
    /// The line that changes, while it stands there.
    live: String,
}

impl Console {
    /// Standard error.
    pub(crate) fn stderr() -> Console {
        Console::new(Box::new(io::stderr()))
    }

    fn new(out: Box<dyn Write + Send>) -> Console {
        Console(Arc::new(Mutex::new(State {
            out,
            live: String::new(),
        })))
    }

    /// Whether somebody watches, so that a line may change.
    pub(crate) fn is_terminal() -> bool {
        io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
    }

    /// Whether colours are welcome (<https://no-color.org>).
    pub(crate) fn has_colours() -> bool {
        Console::is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
    }

    /// Writes a line that stays.
    pub(crate) fn line(&self, text: &str) {
        self.above_live(format!("{text}\n").as_bytes());
    }

    /// Replaces the line that changes; an empty one takes it away.
    pub(crate) fn live(&self, text: &str) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let erase = if state.live.is_empty() && text.is_empty() {
            ""
        } else {
            ERASE
        };
        state.live = if text.is_empty() {
            String::new()
        } else {
            format!("{}{text}{}", CUT[0], CUT[1])
        };
        let line = format!("{erase}{}", state.live);
        state.write(line.as_bytes());
    }

    /// Whole lines, with the one that changes kept below them.
    fn above_live(&self, lines: &[u8]) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let live = state.live.clone();
        let erase = if live.is_empty() { "" } else { ERASE };
        state.write(&[erase.as_bytes(), lines, live.as_bytes()].concat());
    }
}

impl State {
    /// A broken pipe is no reason to end a job.
    fn write(&mut self, bytes: &[u8]) {
        let _ = self.out.write_all(bytes).and_then(|()| self.out.flush());
    }
}

/// The log's way in: one call of `write` an event, which ends with its line.
impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.above_live(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Console {
    type Writer = Console;

    fn make_writer(&self) -> Console {
        self.clone()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What was written, kept.
    #[derive(Clone, Default)]
    pub(crate) struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Kept {
        pub(crate) fn console() -> (Kept, Console) {
            let kept = Kept::default();
            (kept.clone(), Console::new(Box::new(kept)))
        }
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    #[test]
    fn a_line_goes_above_the_one_that_changes() {
        let (kept, console) = Kept::console();
        console.live("1 of 2");
        console.line("careful");
        console.live("");
        console.line("done");
        let live = format!("{}1 of 2{}", CUT[0], CUT[1]);
        assert_eq!(
            kept.text(),
            format!("{ERASE}{live}{ERASE}careful\n{live}{ERASE}done\n")
        );
    }

    #[test]
    fn without_a_live_line_there_are_no_escapes() {
        let (kept, console) = Kept::console();
        console.line("one");
        console.live("");
        console.clone().write_all(b"two\n").unwrap();
        assert_eq!(kept.text(), "one\ntwo\n");
    }
}
