//! Jobs inside a test program.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use rivermark::prelude::*;
use std::sync::{Arc, Mutex, mpsc};

#[test]
fn a_small_job_ends_however_its_parts_are_timed() {
    for round in 0..100 {
        let env = StreamEnv::new();
        env.set_parallelism(1 + round % 3);
        let squares = env
            .from_collection(vec![1u64, 2, 3])
            .uid("numbers")
            .map(|n| n * n);
        let mut rows = env.execute_and_collect(squares).unwrap().into_vec().unwrap();
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
        let mut sums = env.execute_and_collect(sums).unwrap().into_vec().unwrap();
        assert_eq!(sums.len(), 10_000);
        sums.sort();
        // The last sum of each key is its greatest: the numbers are not negative.
        assert_eq!(sums.last(), Some(&(0..1000u64).map(|n| n * 10 + 9).sum()));
    }
}

/// How many subtasks of a job are alive: each holds a clone.
#[derive(Clone, Default)]
struct Alive(Arc<()>);

struct Passing(#[allow(dead_code, reason = "held")] Alive);
impl ProcessOp<u64, u64> for Passing {
    fn row(&mut self, row: Timed<u64>, out: &mut Out<u64>) -> Result<()> {
        out.emit(row.value);
        Ok(())
    }
}

#[test]
fn results_stream_out_while_the_job_runs_and_a_reader_that_leaves_cancels_it() {
    let alive = Alive::default();
    let env = StreamEnv::new();
    env.set_parallelism(2);
    let held = alive.clone();
    let numbers = env
        .generate(u64::MAX / 2, |n| n)
        .uid("numbers")
        .process(move || Passing(held.clone()));
    let mut rows = env.execute_and_collect(numbers).unwrap();
    let mut seen: Vec<u64> = rows.by_ref().take(50_000).map(|row| row.unwrap()).collect();
    assert!(
        Arc::strong_count(&alive.0) > 2,
        "the job runs while its rows are read"
    );
    drop(rows);
    drop(env);
    assert_eq!(Arc::strong_count(&alive.0), 1, "nothing of the job is left");
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 50_000, "each row once");
}

#[test]
fn the_error_of_a_job_is_the_last_item() {
    let env = StreamEnv::new();
    let numbers = env.sequence(10).uid("numbers").try_map(|n| match n {
        7 => Err("seven"),
        n => Ok(n),
    });
    let rows: Vec<Result<u64>> = env.execute_and_collect(numbers).unwrap().collect();
    let (last, before) = rows.split_last().unwrap();
    assert!(before.iter().all(|row| row.as_ref().is_ok_and(|n| *n < 7)));
    let failure = last.as_ref().unwrap_err().to_string();
    assert!(failure.contains("seven"), "{failure}");
}

/// Waits for a permit for every row, as a call to something slow does.
struct Slow(Arc<Mutex<mpsc::Receiver<()>>>);
impl ProcessOp<u64, u64> for Slow {
    fn row(&mut self, row: Timed<u64>, out: &mut Out<u64>) -> Result<()> {
        let permits = self.0.lock().unwrap();
        permits.recv().unwrap();
        out.emit(row.value);
        Ok(())
    }
}

#[test]
fn an_operator_that_blocks_holds_up_nobody_else() {
    let (permit, permits) = mpsc::channel();
    let (tell, told) = mpsc::channel();
    let permits = Arc::new(Mutex::new(permits));
    let env = StreamEnv::new();
    let numbers = env.sequence(100).uid("numbers");
    let slow = numbers.clone().process(move || Slow(permits.clone())).blocking();
    // The same source, and the same slot but for `blocking`.
    numbers.rebalance().map(move |n| tell.send(n).unwrap()).discard();
    let rows = env.execute_and_collect(slow).unwrap();
    // All hundred come through beside the other, which has not been given one permit.
    for _ in 0..100 {
        told.recv_timeout(Duration::from_secs(60)).expect("it is held up");
    }
    (0..100).for_each(|_| permit.send(()).unwrap());
    assert_eq!(rows.into_vec().unwrap().len(), 100);
}

#[test]
fn what_is_configured_about_the_graph_counts_or_is_refused() {
    let start = |keys: &[(&str, &str)]| {
        let env = StreamEnv::new();
        env.sequence(10).uid("numbers").discard();
        let mut config = Config::default();
        for (key, value) in keys {
            config.set(key, *value);
        }
        env.start_with(config).map(|job| job.wait().unwrap())
    };
    let unaligned = ("execution.checkpointing.unaligned.enabled", "true");
    start(&[unaligned]).unwrap();
    // Only a job that has unaligned checkpoints minds.
    let two = ("execution.checkpointing.max-concurrent-checkpoints", "2");
    start(&[two]).unwrap();
    let refused = start(&[unaligned, two]).unwrap_err().to_string();
    assert!(
        refused.contains("unaligned checkpoints come one at a time"),
        "{refused}"
    );
    let at_least_once = ("execution.checkpointing.mode", "AT_LEAST_ONCE");
    let refused = start(&[unaligned, at_least_once]).unwrap_err().to_string();
    assert!(
        refused.contains("unaligned checkpoints are for exactly-once"),
        "{refused}"
    );
    // Operators were given theirs when they were added.
    start(&[("parallelism.default", "1")]).unwrap();
    let refused = start(&[("parallelism.default", "3")]).unwrap_err().to_string();
    assert!(refused.contains("StreamEnv::set_parallelism"), "{refused}");
}
