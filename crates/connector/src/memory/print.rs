//! Rows to standard output, at once: at least once, since what is printed cannot be taken back.

use crate::sink::{Sink, TwoPhaseSink};
use rivermark_data::Data;
use rivermark_env::Env;
use rivermark_runtime::SubtaskInfo;
use rivermark_types::{CheckpointId, Failure, Result};
use std::fmt::Debug;
use std::io::{ErrorKind, Write};
use std::sync::Arc;

type Format<T> = Arc<dyn Fn(&T) -> String + Send + Sync>;

/// Prints a line a row, with the subtask in front where there are several.
pub struct PrintSink<T> {
    format: Format<T>,
}

impl<T: Data> PrintSink<T> {
    /// Prints rows as this function writes them.
    pub fn new(format: impl Fn(&T) -> String + Send + Sync + 'static) -> PrintSink<T> {
        PrintSink {
            format: Arc::new(format),
        }
    }

    /// Prints rows as Rust's `Debug` writes them.
    pub fn debug() -> PrintSink<T>
    where
        T: Debug,
    {
        PrintSink::new(|row| format!("{row:?}"))
    }
}

impl<T: Data> Sink for PrintSink<T> {
    /// What is printed cannot be taken back: at least once.
    fn is_exactly_once(&self) -> bool {
        false
    }

    type Writer = Printer<T>;

    fn name(&self) -> String {
        "print".to_owned()
    }

    fn writer(&self, _env: &Env, info: &SubtaskInfo) -> Result<Printer<T>> {
        let prefix = if info.parallelism > 1 {
            format!("{}> ", info.subtask.index)
        } else {
            String::new()
        };
        Ok(Printer {
            format: self.format.clone(),
            prefix,
        })
    }
}

/// One subtask's printer. It has nothing to prepare.
pub struct Printer<T> {
    format: Format<T>,
    prefix: String,
}

impl<T: Data> TwoPhaseSink for Printer<T> {
    type Row = T;
    type Committable = ();

    async fn write(&mut self, rows: Vec<T>) -> Result<()> {
        let mut text = String::new();
        for row in &rows {
            text.push_str(&self.prefix);
            text.push_str(&(self.format)(row));
            text.push('\n');
        }
        let mut stdout = std::io::stdout().lock();
        let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        written.map_err(|error| match error.kind() {
            // No restart brings the reader back.
            ErrorKind::BrokenPipe => Failure::invalid(
                "nobody reads standard output any more: let the reader run on, or write to files with FileSink",
            ),
            _ => Failure::external("cannot write to standard output").caused_by(error),
        })
    }

    async fn prepare(&mut self, _checkpoint: CheckpointId) -> Result<Vec<()>> {
        Ok(Vec::new())
    }

    async fn commit(&mut self, _committables: Vec<()>) -> Result<()> {
        Ok(())
    }

    async fn abort_unlisted(&mut self) -> Result<()> {
        Ok(())
    }
}
