//! Records that cannot be processed: failing, passed over, or in the dead letters, each exactly once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use rivermark::prelude::*;
use rivermark_config::Config;
use rivermark_format::JsonLines;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Order {
    id: u32,
}

const ORDERS: &str = "{\"id\":1}\nno order\n{\"id\":2}\n{\"id\":\"x\"}\n\n{\"id\":3}\n";

fn orders() -> (tempfile::TempDir, FileSource<JsonLines<Order>>) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("in")).unwrap();
    fs::write(dir.path().join("in/orders.jsonl"), ORDERS).unwrap();
    let source = FileSource::json(dir.path().join("in"));
    (dir, source)
}

fn config(assignments: &[&str]) -> Config {
    let mut config = Config::default();
    assignments
        .iter()
        .for_each(|assignment| config.add_argument(assignment).unwrap());
    config
}

/// Restarts soon and often.
const RESTARTING: [&str; 3] = [
    "restart-strategy.type=fixed-delay",
    "restart-strategy.fixed-delay.attempts=1000",
    "restart-strategy.fixed-delay.delay=1 ms",
];

fn ids(mut orders: Vec<Order>) -> Vec<u32> {
    orders.sort();
    orders.into_iter().map(|order| order.id).collect()
}

#[test]
fn without_a_word_the_first_bad_record_fails_the_job_and_is_named() {
    let (_dir, source) = orders();
    let env = StreamEnv::new();
    let rows = env.from_source(source, WatermarkStrategy::none()).uid("orders");
    let failure = env
        .execute_and_collect(rows)
        .unwrap()
        .into_vec()
        .unwrap_err()
        .to_string();
    assert!(
        failure.contains("orders.jsonl:2: expected") && failure.contains("correct the line"),
        "{failure}"
    );
}

#[test]
fn bad_records_are_passed_over_and_counted() {
    let (_dir, source) = orders();
    let env = StreamEnv::new();
    let collected = Collected::default();
    env.from_source(
        source.on_undecodable(Undecodable::Skip),
        WatermarkStrategy::none(),
    )
    .uid("orders")
    .sink_to(CollectSink::new(collected.clone()))
    .uid("out");
    let job = env.start().unwrap();
    let control = job.control();
    job.wait().unwrap();
    assert_eq!(ids(collected.take()), [1, 2, 3]);
    let stats = control.stats();
    assert_eq!((stats.undecodable(), stats.dead_letters()), (2, 0));
}

#[test]
fn dead_letters_that_a_stream_takes_say_where_the_record_stood() {
    let (_dir, source) = orders();
    let env = StreamEnv::new();
    let (good, bad) = (Collected::default(), Collected::default());
    let (rows, letters) = env
        .from_source(source, WatermarkStrategy::none())
        .uid("orders")
        .with_dead_letters();
    rows.sink_to(CollectSink::new(good.clone())).uid("good");
    letters.sink_to(CollectSink::new(bad.clone())).uid("bad");
    let job = env.start().unwrap();
    let control = job.control();
    job.wait().unwrap();
    assert_eq!(ids(good.take()), [1, 2, 3]);
    let letters: Vec<DeadLetter> = bad.take();
    let told: Vec<_> = letters
        .iter()
        .map(|letter| (letter.position, letter.record.as_str()))
        .collect();
    assert_eq!(told, [(Some(9), "no order"), (Some(27), "{\"id\":\"x\"}")]);
    assert_eq!(letters[0].operator, "orders");
    assert!(letters[0].split.as_ref().unwrap().ends_with("orders.jsonl"));
    assert!(
        letters[1].error.contains("orders.jsonl:4: "),
        "{}",
        letters[1].error
    );
    assert_eq!(control.stats().dead_letters(), 2);
}

/// The letters in the finished files under a directory.
fn letters_in(dir: &Path) -> Vec<DeadLetter> {
    let mut letters = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            letters.extend(letters_in(&path));
        } else {
            assert!(!path.file_name().unwrap().to_string_lossy().starts_with('.'));
            let text = fs::read_to_string(path).unwrap();
            letters.extend(
                text.lines()
                    .map(|line| serde_json::from_str::<DeadLetter>(line).unwrap()),
            );
        }
    }
    letters
}

#[test]
fn dead_letters_that_nobody_takes_go_to_files_once_though_the_job_restarts() {
    let (dir, source) = orders();
    let env = StreamEnv::new();
    env.set_name("orders");
    let good = Collected::default();
    let failed = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    env.from_source(source, WatermarkStrategy::none())
        .uid("orders")
        .map(move |order: Order| {
            // Passing trouble behind the bad records: they are read three times.
            let trouble = order.id == 3 && failed.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 2;
            assert!(!trouble, "passing trouble");
            order
        })
        .sink_to(CollectSink::new(good.clone()))
        .uid("good");
    let letters = format!(
        "rivermark.dead-letters.dir={}",
        dir.path().join("letters").display()
    );
    let state = format!(
        "execution.checkpointing.dir={}",
        dir.path().join("state").display()
    );
    let mut settings = vec!["rivermark.source.on-undecodable=dead-letter", &*letters, &*state];
    settings.extend(RESTARTING);
    let job = env.start_with(config(&settings)).unwrap();
    let control = job.control();
    job.wait().unwrap();
    assert_eq!(control.stats().restarts, 2);
    assert_eq!(ids(good.take()), [1, 2, 3]);
    let records: Vec<String> = letters_in(&dir.path().join("letters/orders"))
        .into_iter()
        .map(|letter| letter.record)
        .collect();
    assert_eq!(records, ["no order", "{\"id\":\"x\"}"]);
    assert!(control.stats().undecodable() >= 2);
}

#[test]
fn a_job_that_keeps_nothing_writes_its_dead_letters_to_a_new_folder_every_time() {
    let (dir, source) = orders();
    let letters = format!(
        "rivermark.dead-letters.dir={}",
        dir.path().join("letters").display()
    );
    for run in 1..=2 {
        let env = StreamEnv::new();
        env.from_source(source.clone(), WatermarkStrategy::none())
            .uid("orders")
            .discard();
        let settings = config(&["rivermark.source.on-undecodable=dead-letter", &letters]);
        env.start_with(settings).unwrap().wait().unwrap();
        assert_eq!(letters_in(&dir.path().join("letters")).len(), 2 * run);
    }
}

/// A stream that fails at two of its rows, one by a panic and one by an error.
fn stumbling(env: &StreamEnv) -> DataStream<u64> {
    env.sequence(1000)
        .uid("numbers")
        .try_map(|n| match n {
            500 => panic!("500 is too much"),
            7 => Err("7 is unlucky"),
            n => Ok(n),
        })
        .end_fusion()
}

#[test]
fn after_three_failures_the_error_shows_the_row() {
    let env = StreamEnv::new();
    stumbling(&env).discard();
    let failure = env.start_with(config(&RESTARTING)).unwrap().wait().unwrap_err();
    let told = failure.to_string();
    assert!(
        told.contains("row 7: 7 is unlucky") && told.contains("failed 3 times at this row"),
        "{told}"
    );
}

#[test]
fn rows_given_up_are_in_the_dead_letters_and_all_others_in_the_result() {
    for chained in [true, false] {
        let env = StreamEnv::new();
        let (good, bad) = (Collected::default(), Collected::default());
        let (rows, letters) = stumbling(&env).with_dead_letters();
        let rows = if chained { rows } else { rows.rebalance() };
        rows.sink_to(CollectSink::new(good.clone())).uid("good");
        letters.sink_to(CollectSink::new(bad.clone())).uid("bad");
        let job = env.start_with(config(&RESTARTING)).unwrap();
        let control = job.control();
        job.wait().unwrap();
        let mut rows = good.take();
        rows.sort();
        let all_others: Vec<u64> = (0..1000).filter(|n| ![7, 500].contains(n)).collect();
        assert_eq!(rows, all_others);
        let mut letters: Vec<DeadLetter> = bad.take();
        letters.sort_by_key(|letter| letter.record.len());
        let records: Vec<&str> = letters.iter().map(|letter| letter.record.as_str()).collect();
        assert_eq!(records, ["7", "500"]);
        assert!(letters[0].error.contains("7 is unlucky"), "{}", letters[0].error);
        assert!(
            letters[1].error.contains("500 is too much"),
            "{}",
            letters[1].error
        );
        assert_eq!(letters[0].operator, "try_map");
        // Three failures a row, and no more.
        assert_eq!(control.stats().restarts, 6);
    }
}

#[derive(Default)]
struct Count(ValueState<u64, u64>);

impl KeyedOp<u64, u64, (u64, u64)> for Count {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u64>) -> Result<()> {
        self.0 = cx.value("count")?;
        Ok(())
    }
    fn row(&mut self, key: &Key<u64>, row: Timed<u64>, out: &mut Out<(u64, u64)>) -> Result<()> {
        *self.0.update(key) += 1;
        if row.value == 41 {
            // The state is changed already: a row given up must not count.
            return Err(Failure::data("41 does not count"));
        }
        out.emit((key.value, *self.0.get(key).unwrap_or(&0)));
        Ok(())
    }
}

#[test]
fn a_row_given_up_leaves_no_trace_in_keyed_state() {
    let env = StreamEnv::new();
    env.set_on_failing_row(FailingRow::DeadLetter);
    env.set_parallelism(2);
    let (good, bad) = (Collected::default(), Collected::default());
    let numbers = env.sequence(100).uid("numbers").set_parallelism(1);
    let (counts, letters) = numbers
        .key_by(|n| n % 3)
        .process(Count::default)
        .uid("counts")
        .with_dead_letters();
    counts.sink_to(CollectSink::new(good.clone())).uid("good");
    letters.sink_to(CollectSink::new(bad.clone())).uid("bad");
    env.start_with(config(&RESTARTING)).unwrap().wait().unwrap();
    let mut most: BTreeMap<u64, u64> = BTreeMap::new();
    for (key, count) in good.take() {
        let most = most.entry(key).or_default();
        *most = count.max(*most);
    }
    assert_eq!(most, BTreeMap::from([(0, 34), (1, 33), (2, 32)]));
    let letters: Vec<DeadLetter> = bad.take();
    assert_eq!(letters.len(), 1);
    assert_eq!(
        (letters[0].record.as_str(), letters[0].operator.as_str()),
        ("41", "counts")
    );
}

#[test]
fn dead_letters_that_cannot_be_are_refused() {
    let (_dir, source) = orders();
    let env = StreamEnv::new();
    let (rows, letters) = env
        .from_source(
            source.on_undecodable(Undecodable::Skip),
            WatermarkStrategy::none(),
        )
        .uid("orders")
        .with_dead_letters();
    rows.discard();
    letters.discard();
    let failure = env.build().map(drop).unwrap_err().to_string();
    assert!(failure.contains("has no dead letters to take"), "{failure}");
    let env = StreamEnv::new();
    stumbling(&env).on_failing_row(FailingRow::DeadLetter).discard();
    let failure = env.build().map(drop).unwrap_err().to_string();
    assert!(failure.contains("lead nowhere"), "{failure}");
}
