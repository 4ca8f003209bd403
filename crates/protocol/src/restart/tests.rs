//! What follows from failures, by kind, place and strategy; the bounds of the pauses.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn fixed(attempts: u32) -> FailurePolicy {
    FailurePolicy::new(RestartStrategy::FixedDelay {
        attempts,
        delay: ms(10),
    })
}

/// 100 ms, 200, 400, 500, 500 ..; back to 100 after 1000 quiet ms; no jitter.
fn growing(attempts: Option<u32>) -> FailurePolicy {
    FailurePolicy::new(RestartStrategy::ExponentialDelay {
        initial: ms(100),
        max: ms(500),
        multiplier: 2.0,
        reset_threshold: ms(1000),
        jitter: 0.0,
        attempts,
    })
}

/// What follows from a failure in a new attempt.
fn next(policy: &mut FailurePolicy, kind: ErrorKind, place: &str, now: u64) -> Verdict {
    policy.attempt_started();
    again(policy, kind, place, now)
}

/// What follows from one more failure in the same attempt.
fn again(policy: &mut FailurePolicy, kind: ErrorKind, place: &str, now: u64) -> Verdict {
    policy.failed(&JobFailure {
        kind,
        place: place.into(),
        node: None,
        row: None,
        now: Millis(now),
        random: 1 << 63,
    })
}

fn at(ms: u64) -> Verdict {
    Verdict::Restart { at: Millis(ms) }
}

fn end(reason: EndReason) -> Verdict {
    Verdict::End { reason }
}

fn same_place(place: &str) -> Verdict {
    end(EndReason::SamePlace {
        place: place.into(),
        failures: 3,
    })
}

#[test]
fn some_kinds_end_the_job_at_once() {
    for (kind, reason) in [
        (ErrorKind::Invalid, EndReason::Invalid),
        (ErrorKind::Fenced, EndReason::Fenced),
    ] {
        assert_eq!(next(&mut growing(None), kind, "sink", 0), end(reason.clone()));
        let mut waiting = growing(None);
        next(&mut waiting, ErrorKind::Retry, "sink", 0);
        assert_eq!(
            again(&mut waiting, kind, "sink", 1),
            end(reason),
            "while a restart is planned"
        );
    }
}

#[test]
fn without_restarts_the_first_failure_is_the_last() {
    let mut policy = FailurePolicy::new(RestartStrategy::None);
    assert_eq!(
        next(&mut policy, ErrorKind::Retry, "source", 0),
        end(EndReason::RestartsOff)
    );
}

#[test]
fn fixed_delay_counts_over_the_whole_run() {
    let mut policy = fixed(2);
    assert_eq!(next(&mut policy, ErrorKind::Retry, "a", 0), at(10));
    policy.checkpoint_decided();
    assert_eq!(
        next(&mut policy, ErrorKind::External, "b", 1_000_000),
        at(1_000_010)
    );
    assert_eq!(
        next(&mut policy, ErrorKind::Retry, "a", 2_000_000),
        end(EndReason::AttemptsUsedUp { attempts: 2 })
    );
}

#[test]
fn pauses_grow_to_the_longest_and_start_over_after_a_quiet_time() {
    let mut policy = growing(None);
    let mut now = 0;
    for pause in [100, 200, 400, 500, 500] {
        assert_eq!(next(&mut policy, ErrorKind::Retry, "a", now), at(now + pause));
        now += pause + 999;
    }
    now += 1;
    assert_eq!(next(&mut policy, ErrorKind::Retry, "a", now), at(now + 100));
}

#[test]
fn a_quiet_time_gives_the_attempts_back() {
    let mut policy = growing(Some(1));
    assert_eq!(next(&mut policy, ErrorKind::Retry, "a", 0), at(100));
    assert_eq!(next(&mut policy, ErrorKind::Retry, "a", 1100), at(1200));
    assert_eq!(
        next(&mut policy, ErrorKind::Retry, "a", 1300),
        end(EndReason::AttemptsUsedUp { attempts: 1 })
    );
}

#[test]
fn failures_before_the_planned_restart_count_once() {
    let mut policy = growing(Some(2));
    assert_eq!(next(&mut policy, ErrorKind::Retry, "a", 0), at(100));
    for now in [10, 50, 100, 150] {
        assert_eq!(again(&mut policy, ErrorKind::External, "b", now), at(100));
    }
    assert_eq!(policy.restarts(), 1);
    assert_eq!(next(&mut policy, ErrorKind::Retry, "a", 200), at(400));
}

#[test]
fn the_third_attempt_that_fails_at_one_place_is_the_last() {
    for kind in [ErrorKind::Data, ErrorKind::Bug] {
        let mut policy = fixed(99);
        assert_eq!(next(&mut policy, kind, "map", 0), at(10));
        // The same record takes several subtasks down, or one of them twice.
        assert_eq!(again(&mut policy, kind, "map", 1), at(10));
        assert_eq!(again(&mut policy, kind, "map", 2), at(10));
        assert_eq!(next(&mut policy, kind, "map", 20), at(30));
        assert_eq!(next(&mut policy, kind, "map", 40), same_place("map"));
    }
}

#[test]
fn a_place_that_fails_as_company_counts_too() {
    let mut policy = fixed(99);
    for start in [0, 20] {
        next(&mut policy, ErrorKind::Retry, "sink", start);
        assert_eq!(
            again(&mut policy, ErrorKind::Bug, "map", start + 1),
            at(start + 10)
        );
    }
    next(&mut policy, ErrorKind::Retry, "sink", 40);
    assert_eq!(again(&mut policy, ErrorKind::Bug, "map", 41), same_place("map"));
}

#[test]
fn a_decided_checkpoint_or_another_place_is_no_repetition() {
    let mut policy = fixed(99);
    for (now, place) in [(0, "map"), (20, "map"), (40, "window"), (60, "window")] {
        assert_eq!(next(&mut policy, ErrorKind::Data, place, now), at(now + 10));
    }
    policy.checkpoint_decided();
    assert_eq!(next(&mut policy, ErrorKind::Data, "map", 80), at(90));
    assert_eq!(next(&mut policy, ErrorKind::Data, "map", 100), at(110));
    assert_eq!(next(&mut policy, ErrorKind::Data, "map", 120), same_place("map"));
}

#[test]
fn passing_failures_at_one_place_go_on_for_ever() {
    let mut policy = growing(None);
    assert!((0..100).all(|now| matches!(
        next(&mut policy, ErrorKind::External, "db", now),
        Verdict::Restart { .. }
    )));
}

fn rated(max_failures: u32, interval: u64) -> FailurePolicy {
    FailurePolicy::new(RestartStrategy::FailureRate {
        max_failures,
        interval: ms(interval),
        delay: ms(10),
    })
}

#[test]
fn one_failure_more_than_the_rate_allows_ends_the_job() {
    let mut policy = rated(2, 1000);
    assert_eq!(next(&mut policy, ErrorKind::Retry, "a", 0), at(10));
    // Company of the first does not count.
    assert_eq!(again(&mut policy, ErrorKind::Retry, "b", 1), at(10));
    assert_eq!(next(&mut policy, ErrorKind::Retry, "a", 900), at(910));
    // The first has slid out of the interval.
    assert_eq!(next(&mut policy, ErrorKind::Retry, "a", 1001), at(1011));
    let exceeded = EndReason::RateExceeded {
        max_failures: 2,
        interval: ms(1000),
    };
    assert_eq!(next(&mut policy, ErrorKind::Retry, "a", 1900), end(exceeded));
}

/// What follows from a failure of operator 7 at a row, in a new attempt.
fn at_row(policy: &mut FailurePolicy, row: Option<u64>, may_be_given_up: bool, now: u64) -> Verdict {
    policy.attempt_started();
    policy.failed(&JobFailure {
        kind: ErrorKind::Data,
        place: "map".into(),
        node: Some(NodeId(7)),
        row: row.map(|digest| FailedRow {
            digest,
            may_be_given_up,
        }),
        now: Millis(now),
        random: 0,
    })
}

#[test]
fn a_row_that_failed_three_times_is_the_reason_whatever_was_decided_in_between() {
    let mut policy = fixed(99);
    assert!(policy.careful().is_empty());
    assert_eq!(at_row(&mut policy, None, false, 0), at(10));
    assert!(policy.careful().contains_key(&NodeId(7)));
    policy.checkpoint_decided();
    assert_eq!(at_row(&mut policy, Some(1), false, 20), at(30));
    policy.checkpoint_decided();
    let row = EndReason::SameRow {
        place: "map".into(),
        failures: 3,
    };
    assert_eq!(row.to_string(), "map failed 3 times at this row");
    assert_eq!(at_row(&mut policy, Some(1), false, 40), end(row));
}

#[test]
fn rows_that_may_be_given_up_are_and_the_job_goes_on() {
    let mut policy = fixed(99);
    assert_eq!(at_row(&mut policy, None, true, 0), at(10));
    assert_eq!(at_row(&mut policy, Some(1), true, 20), at(30));
    assert!(policy.careful()[&NodeId(7)].is_empty());
    assert_eq!(at_row(&mut policy, Some(1), true, 40), at(50));
    assert_eq!(policy.careful()[&NodeId(7)], BTreeSet::from([1]));
    // The next row has its own three failures, though no checkpoint was decided in between.
    for now in [60, 80, 100] {
        assert_eq!(at_row(&mut policy, Some(2), true, now), at(now + 10));
    }
    assert_eq!(policy.careful()[&NodeId(7)], BTreeSet::from([1, 2]));
}

#[test]
fn operators_of_one_name_and_tasks_that_cannot_start_have_failures_of_their_own() {
    let mut policy = fixed(99);
    let mut at_node = |node: Option<u32>, now| {
        policy.attempt_started();
        policy.failed(&JobFailure {
            kind: ErrorKind::Data,
            place: "map".into(),
            node: node.map(NodeId),
            row: None,
            now: Millis(now),
            random: 0,
        })
    };
    for (turn, node) in [None, Some(1), Some(2), None, Some(1), Some(2)]
        .into_iter()
        .enumerate()
    {
        let now = turn as u64 * 100;
        assert_eq!(at_node(node, now), at(now + 10));
    }
    assert_eq!(at_node(Some(2), 900), same_place("map"));
}

#[test]
fn three_checkpoints_in_one_attempt_end_the_care() {
    let mut policy = fixed(99);
    at_row(&mut policy, None, true, 0);
    policy.attempt_started();
    for _ in 0..2 {
        policy.checkpoint_decided();
        assert_eq!(policy.careful().len(), 1);
    }
    policy.checkpoint_decided();
    assert!(policy.careful().is_empty());
}

#[test]
fn reasons_are_one_line_each() {
    let reason = EndReason::SamePlace {
        place: "operator \"map\"".into(),
        failures: 3,
    };
    assert_eq!(
        reason.to_string(),
        "operator \"map\" failed 3 times without a checkpoint in between"
    );
}

proptest! {
    #[test]
    fn pauses_stay_in_their_bounds(
        initial in 0u64..10_000, longer in 0u64..100_000, multiplier in 1.0f64..4.0, jitter in 0.0f64..=1.0,
        randoms in prop::collection::vec(any::<u64>(), 1..40),
    ) {
        let max = initial + longer;
        let mut policy = FailurePolicy::new(RestartStrategy::ExponentialDelay {
            initial: ms(initial), max: ms(max), multiplier, reset_threshold: Duration::MAX, jitter, attempts: None,
        });
        let mut floor = 0.0f64;
        for random in randoms {
            policy.attempt_started();
            let failure = JobFailure { kind: ErrorKind::Retry, place: String::new(), node: None, row: None, now: Millis(0), random };
            let Verdict::Restart { at } = policy.failed(&failure) else { panic!("no restart") };
            // Whole milliseconds: one is lost to rounding.
            let pause = at.0 as f64;
            prop_assert!(pause >= initial as f64 * (1.0 - jitter) - 1.0);
            prop_assert!(pause <= max as f64 * (1.0 + jitter) + 1.0);
            // Monotone but for the jitter: what a pause could have been at least never shrinks.
            prop_assert!(pause + 1.0 >= floor, "{pause} after at least {floor}");
            let least_base = (pause / (1.0 + jitter)).max(initial as f64);
            floor = floor.max(least_base * (1.0 - jitter));
        }
    }

    #[test]
    fn any_configuration_gives_some_pause(
        initial: u64, max: u64, multiplier in prop::num::f64::ANY, jitter in prop::num::f64::ANY, random: u64,
        times in 1usize..5,
    ) {
        let mut policy = FailurePolicy::new(RestartStrategy::ExponentialDelay {
            initial: ms(initial), max: ms(max), multiplier, reset_threshold: Duration::MAX, jitter, attempts: None,
        });
        for _ in 0..times {
            policy.attempt_started();
            let failure = JobFailure { kind: ErrorKind::Retry, place: String::new(), node: None, row: None, now: Millis(7), random };
            let verdict = policy.failed(&failure);
            let Verdict::Restart { at } = verdict else { panic!("no restart") };
            prop_assert!(at >= Millis(7));
        }
    }

    /// The plain counting of the same thing: the job ends with the first failure that has too many others behind it.
    #[test]
    fn a_failure_rate_is_a_sliding_window(
        max_failures in 0u32..5, interval in 0u64..200, gaps in prop::collection::vec(0u64..120, 1..40),
    ) {
        let mut policy = rated(max_failures, interval);
        let mut times: Vec<u64> = Vec::new();
        let mut now = 0;
        for gap in gaps {
            now += gap;
            times.push(now);
            let inside = times.iter().filter(|at| now - **at <= interval).count();
            let verdict = next(&mut policy, ErrorKind::External, "db", now);
            if inside > max_failures as usize {
                let interval = ms(interval);
                prop_assert_eq!(verdict, end(EndReason::RateExceeded { max_failures, interval }));
                break;
            }
            prop_assert_eq!(verdict, at(now + 10));
        }
    }

    /// However failures of rows mix: a job that may give rows up never ends by them, each row fails at most three times,
    /// and is never heard of again once given up.
    #[test]
    fn every_bad_row_is_given_up_after_three_failures(
        bad in prop::collection::btree_set(0u64..6, 1..6), picks in prop::collection::vec(any::<prop::sample::Index>(), 40),
    ) {
        let mut policy = fixed(u32::MAX);
        let mut failures = 0;
        for (now, pick) in picks.into_iter().enumerate() {
            let careful = policy.careful();
            let given_up = careful.get(&NodeId(7)).cloned().unwrap_or_default();
            let left: Vec<u64> = bad.difference(&given_up).copied().collect();
            if left.is_empty() {
                break;
            }
            let row = careful.contains_key(&NodeId(7)).then(|| *pick.get(&left));
            failures += 1;
            prop_assert_eq!(at_row(&mut policy, row, true, now as u64 * 20), at(now as u64 * 20 + 10));
        }
        prop_assert!(failures <= 3 * bad.len());
        prop_assert_eq!(policy.careful()[&NodeId(7)].len(), bad.len());
    }
}
