//! Runs something for many seeds, on several threads, and tells how far it is and what it found.

use rivermark_sim::scenario::SeedReport;
use serde_json::{Value, json};
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

/// Searches until a seed fails: how many were run, and the lowest of those that failed.
pub(crate) fn first_failure(
    draws: Draws,
    run: impl Fn(u64) -> SeedReport + Sync,
) -> (u64, Option<SeedReport>) {
    let (mut runs, mut found) = (0, None::<SeedReport>);
    search(draws, run, |report| {
        runs += 1;
        if report.failure.is_some() && found.as_ref().is_none_or(|found| report.seed < found.seed) {
            found = Some(report);
        }
        found.is_none()
    });
    (runs, found)
}

/// Tells of a search for a bug by [`first_failure`], of a command that calls its seeds by some name.
pub(crate) fn tell_hunt(
    (command, unit): (&str, &str),
    bug: &str,
    (runs, found): &(u64, Option<SeedReport>),
    as_json: bool,
) {
    if as_json {
        let mut told = json!({ "command": command, "bug": bug,
                               "found_by": found.as_ref().map(|report| report.seed),
                               "failure": found.as_ref().and_then(|report| report.failure.clone()) });
        told[unit] = Value::from(*runs);
        println!("{told}");
        return;
    }
    match found {
        Some(_) => println!("{bug}: found after {runs} {unit}"),
        None => println!("{bug}: NOT found in {runs} {unit}"),
    }
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
