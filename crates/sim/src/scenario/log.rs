//! The engine's own words (`tracing`) as remarks in the trace of a world.

use crate::SimWorld;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use tracing_subscriber::fmt::MakeWriter;

/// What was said and is not in the trace yet.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Puts what was said since the last call into the trace.
    pub(crate) fn tell(&self, world: &mut SimWorld) {
        let said = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for line in String::from_utf8_lossy(&said).lines() {
            world.remark(format_args!("  {}", line.trim_start()));
        }
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;
    fn make_writer(&'a self) -> Log {
        self.clone()
    }
}

/// Runs something on this thread and hears what the engine says meanwhile.
pub(crate) fn traced<T>(run: impl FnOnce(&Log) -> T) -> T {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(log.clone())
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .finish();
    // While there is one subscriber only, `tracing` asks the thread that first passes a line of code whether anybody wants
    // to hear of it; that may be another thread, which has none, and its answer would be kept for ours.
    let second = tracing::Dispatch::new(tracing_subscriber::registry());
    let result = tracing::subscriber::with_default(subscriber, || run(&log));
    drop(second);
    result
}
