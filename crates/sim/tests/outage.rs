//! Jobs whose store is away for ten minutes, or answers decisions late or not at all.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use rivermark_sim::scenario::{Counts, Options, Planted, part_of_name, run_seed};

/// `cargo xtask sim --part store-away --seeds 1000` runs more.
const SEEDS: std::ops::Range<u64> = 0..24;

/// Whether the end of the job was written is in doubt.
const END_IN_DOUBT: u64 = 1104;

/// A run goes on from one that was stopped, and is looked at when it has subsumed the other's checkpoints.
const STOPPED_AND_RESUMED: u64 = 1041;

/// A start gets no decision for longer than four minutes.
const START_IN_DOUBT: u64 = 701_272;

/// A scratch file grows by whole blocks, and the next would pass its bound.
const SCRATCH_NEARLY_FULL: u64 = 880_005;

fn run(part: &str, seeds: impl Iterator<Item = u64>) -> Counts {
    let options = Options {
        part: part_of_name(part),
        ..Options::default()
    };
    assert!(options.part.is_some(), "there is no part {part}");
    let mut total = Counts::default();
    let mut failures = Vec::new();
    for seed in seeds {
        let report = run_seed(seed, &options);
        if let Some(failure) = report.failure {
            let about = report.about.unwrap_or_default();
            failures.push(format!("seed {seed} ({}, {about}): {failure}", report.topology));
        }
        total += &report.counts;
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    total
}

#[test]
fn a_store_that_takes_doubt_for_a_refusal_is_found_out() {
    let options = Options {
        part: part_of_name("late-decisions"),
        planted: Some(Planted::UnknownRefused),
        ..Options::default()
    };
    let found = (0..50).find(|seed| run_seed(*seed, &options).failure.is_some());
    assert!(found.is_some(), "nothing came of it");
}

#[test]
fn a_store_that_is_away_for_ten_minutes_makes_checkpoints_late_and_nothing_else() {
    let total = run(
        "store-away",
        SEEDS.chain([STOPPED_AND_RESUMED, SCRATCH_NEARLY_FULL]),
    );
    assert!(total.mean(total.all_faults()) >= 20.0, "{total:?}");
    assert!(total.mean(total.checkpoints) >= 5.0, "{total:?}");
}

#[test]
fn decisions_that_are_answered_late_or_not_at_all_are_decided_once() {
    let total = run("late-decisions", SEEDS.chain([END_IN_DOUBT, START_IN_DOUBT]));
    assert!(total.mean(total.all_faults()) >= 10.0, "{total:?}");
    assert!(total.mean(total.checkpoints) >= 5.0, "{total:?}");
}
