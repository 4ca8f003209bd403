//! Whole jobs under faults: 200 seeds, and what the search must be able to find.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use rivermark_sim::scenario::{Counts, Options, Planted, SeedReport, SyncSite, part_of_name, run_seed};

const SEEDS: u64 = 200;

fn failure(report: &SeedReport) -> Option<String> {
    let SeedReport {
        seed,
        topology,
        failure,
        ..
    } = report;
    let failure = failure.as_ref()?;
    Some(format!(
        "seed {seed} ({topology}): {failure}\n    cargo xtask sim --seeds 1 --seed {seed} --trace"
    ))
}

/// The first of so many seeds that fails with a bug that is there on purpose.
fn hunt(options: Options, seeds: u64) -> Option<SeedReport> {
    (0..seeds)
        .map(|seed| run_seed(seed, &options))
        .find(|report| report.failure.is_some())
}

#[test]
fn no_seed_fails_and_the_seeds_are_rough_enough() {
    let mut total = Counts::default();
    let mut failures = Vec::new();
    for seed in 0..SEEDS {
        let report = run_seed(seed, &Options::default());
        failures.extend(failure(&report));
        total += &report.counts;
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(total.mean(total.checkpoints) >= 5.0, "{total:?}");
    assert!(total.mean(total.all_faults()) >= 3.0, "{total:?}");
    assert!(total.mean(total.restarts()) >= 1.0, "{total:?}");
    assert!(total.mean(total.restored_both) >= 0.3, "{total:?}");
    assert!(total.mean(total.overtaken) >= 0.3, "{total:?}");
    assert!(total.mean(total.restored_in_flight) >= 0.1, "{total:?}");
    assert!(total.mean(total.rescaled_in_flight) >= 0.03, "{total:?}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in (0..SEEDS).step_by(11) {
        let first = run_seed(seed, &Options::default());
        let second = run_seed(seed, &Options::default());
        assert_eq!(first.trace_hash, second.trace_hash, "seed {seed}");
        assert_eq!(first.counts, second.counts, "seed {seed}");
    }
}

#[test]
fn a_readable_trace_changes_nothing() {
    let options = Options {
        trace: true,
        ..Options::default()
    };
    let told = run_seed(1, &options);
    assert_eq!(told.trace_hash, run_seed(1, &Options::default()).trace_hash);
    assert!(told.trace.iter().any(|line| line.contains("start p1")));
    assert!(told.trace.iter().any(|line| line.contains("notify complete 1")));
}

#[test]
fn every_planted_bug_is_found() {
    for bug in Planted::ALL {
        let options = Options {
            planted: Some(bug),
            ..Options::default()
        };
        assert!(hunt(options, 2_000).is_some(), "{bug} is not found");
    }
}

#[test]
fn a_sync_left_out_is_found() {
    for site in SyncSite::NEEDED {
        let options = Options {
            lie: Some(site),
            // The same jobs whatever parts there are: some of these syncs matter in one seed of a thousand.
            part: part_of_name("tumbling"),
            ..Options::default()
        };
        assert!(hunt(options, 2_000).is_some(), "{site} is not found");
    }
}
