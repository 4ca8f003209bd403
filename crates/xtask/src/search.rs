//! Runs something for many seeds, on several threads.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

/// Which seeds, and on how many threads; as many as there are cores if that is not given.
#[derive(Clone, Copy)]
pub(crate) struct Draws {
    pub(crate) first: u64,
    pub(crate) count: u64,
    pub(crate) threads: Option<NonZeroUsize>,
}

/// Runs seeds on all threads until there are no more or `each` says no.
pub(crate) fn search<R: Send>(draws: Draws, run: impl Fn(u64) -> R + Sync, mut each: impl FnMut(R) -> bool) {
    let threads = draws
        .threads
        .or_else(|| std::thread::available_parallelism().ok())
        .map_or(1, NonZeroUsize::get);
    let (next, enough) = (AtomicU64::new(0), AtomicBool::new(false));
    let (reports, inbox) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (reports, next, enough, run) = (reports.clone(), &next, &enough, &run);
            scope.spawn(move || {
                while !enough.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= draws.count || reports.send(run(draws.first + number)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(reports);
        for report in inbox {
            if !each(report) {
                enough.store(true, Ordering::Relaxed);
            }
        }
    });
}

/// Time since the first call.
pub(crate) fn now() -> Duration {
    #[expect(
        clippy::disallowed_methods,
        reason = "a tool's own clock, outside of every simulation"
    )]
    fn clock() -> Instant {
        Instant::now()
    }
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let first = *FIRST.get_or_init(clock);
    clock() - first
}
