//! Loops on threads of their own, counted while they run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// What a loop and its observer share.
#[derive(Clone, Default)]
pub struct Control {
    is_over: Arc<AtomicBool>,
    events: Arc<AtomicU64>,
}

impl Control {
    /// Whether to end.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// So many more events are done: once a batch.
    #[inline]
    pub fn done(&self, events: usize) {
        self.events.fetch_add(events as u64, Ordering::Relaxed);
    }
}

/// Loops at work.
#[derive(Default)]
pub struct Threads {
    control: Control,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts one more.
    pub fn start(&mut self, work: impl FnOnce(Control) + Send + 'static) -> Result<(), String> {
        let control = self.control.clone();
        let thread = std::thread::Builder::new().spawn(move || work(control));
        self.threads
            .push(thread.map_err(|error| format!("a thread cannot be started: {error}"))?);
        Ok(())
    }

    /// Events done so far.
    pub fn events(&self) -> u64 {
        self.control.events.load(Ordering::Relaxed)
    }

    /// Ends all and waits for them.
    pub fn stop(self) -> Result<(), String> {
        self.control.is_over.store(true, Ordering::Relaxed);
        let ended = self.threads.into_iter().map(JoinHandle::join);
        match ended.filter(Result::is_err).count() {
            0 => Ok(()),
            panicked => Err(format!("{panicked} threads of the limit panicked")),
        }
    }
}
