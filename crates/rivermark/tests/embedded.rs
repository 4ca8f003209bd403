//! Jobs inside a test program.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use rivermark::prelude::*;

#[test]
fn a_small_job_ends_however_its_parts_are_timed() {
    for round in 0..100 {
        let env = StreamEnv::new();
        env.set_parallelism(1 + round % 3);
        let squares = env
            .from_collection(vec![1u64, 2, 3])
            .uid("numbers")
            .map(|n| n * n);
        let mut rows = env.execute_and_collect(squares).unwrap();
        rows.sort();
        assert_eq!(rows, [1, 4, 9], "round {round}");
    }
}

#[test]
fn counts_are_right_at_any_parallelism() {
    for parallelism in [1, 2, 5] {
        let env = StreamEnv::new();
        env.set_parallelism(parallelism);
        let sums = env
            .sequence(10_000)
            .uid("numbers")
            .key_by(|n| n % 10)
            .reduce(|sum, n| sum + n)
            .uid("sums");
        let mut sums = env.execute_and_collect(sums).unwrap();
        assert_eq!(sums.len(), 10_000);
        sums.sort();
        // The last sum of each key is its greatest: the numbers are not negative.
        assert_eq!(sums.last(), Some(&(0..1000u64).map(|n| n * 10 + 9).sum()));
    }
}
