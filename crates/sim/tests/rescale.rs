//! Jobs that fail with full queues and go on at another parallelism: a few draws, and what they must find.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use rivermark_env::RealEnv;
use rivermark_sim::scenario::{Counts, Options, Planted, SeedReport, run_on_threads, run_seed};

const DRAWS: u64 = 60;
const DRAWS_ON_THREADS: u64 = 24;

fn options() -> Options {
    Options {
        rescale: true,
        ..Options::default()
    }
}

fn failure(report: &SeedReport) -> Option<String> {
    let failure = report.failure.as_ref()?;
    let (seed, about) = (report.seed, report.about.as_deref().unwrap_or_default());
    Some(format!(
        "draw {seed}: {failure}\n    {about}\n    cargo xtask rescale-test --draws 1 --seed {seed}"
    ))
}

#[test]
fn no_draw_fails_and_the_draws_go_on_from_full_queues() {
    let mut total = Counts::default();
    let mut failures = Vec::new();
    for seed in 0..DRAWS {
        let report = run_seed(seed, &options());
        failures.extend(failure(&report));
        total += &report.counts;
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(total.mean(total.restored_in_flight) >= 0.3, "{total:?}");
    assert!(total.mean(total.rescaled) >= 0.3, "{total:?}");
    assert!(total.mean(total.restored_committables) >= 0.3, "{total:?}");
    assert!(total.mean(total.rescaled_in_flight) >= 0.1, "{total:?}");
}

#[test]
fn no_draw_fails_on_real_threads() {
    let world = RealEnv::start().unwrap();
    let mut total = Counts::default();
    let mut failures = Vec::new();
    for seed in 0..DRAWS_ON_THREADS {
        let report = world.block_on(run_on_threads(&world.env(), seed, None));
        failures.extend(failure(&report).map(|failure| failure + " --threads real --again 200"));
        total += &report.counts;
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(total.checkpoints > 0 && total.process_restarts > 0, "{total:?}");
}

#[test]
fn bugs_of_what_is_in_flight_are_found() {
    for bug in [
        Planted::CapturedTwice,
        Planted::CaptureMissed,
        Planted::ResumedLate,
        Planted::WrongKeyGroup,
        Planted::WatermarkLost,
    ] {
        let options = Options {
            planted: Some(bug),
            ..options()
        };
        let found = (0..2_000).any(|seed| run_seed(seed, &options).failure.is_some());
        assert!(found, "{bug} is not found");
    }
}
