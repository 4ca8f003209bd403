//! What has ended before a checkpoint is at its end after it too, for whatever waits for it.
#![allow(clippy::unwrap_used, reason = "a test may")]

use rivermark_env::RealEnv;
use rivermark_job::{JobEnd, JobSpec, JobStorage, StartFrom, StartOptions, start};
use rivermark_protocol::coordinator::CoordinatorConfig;
use rivermark_protocol::restart::RestartStrategy;
use rivermark_runtime::seams::NoSeams;
use rivermark_state::WriterConfig;
use rivermark_stream::{
    CollectSink, Collected, CollectionSource, Program, SourceNode, StreamEnv, Timestamp, Tumbling,
    WatermarkStrategy, Window,
};
use rivermark_types::JobName;
use std::sync::Arc;
use std::time::Duration;

type Row = (u64, i64);
/// Key, start of the window, records in it.
type Count = (u64, i64, u64);

const KEYS: u64 = 5;
const STEP_MS: i64 = 10;
const LONG_ROWS: i64 = 500;

fn source(rows: i64, rate: u64) -> SourceNode<CollectionSource<Row>> {
    let rows = (0..rows).map(|i| (i as u64 % KEYS, i * STEP_MS));
    let strategy = WatermarkStrategy::monotonous().with_timestamp(|row: &Row| Timestamp(row.1));
    SourceNode::new(CollectionSource::new(rows), strategy).rate(rate)
}

fn count(count: &mut u64, _: Row) {
    *count += 1;
}

fn counted(key: &u64, window: Window, count: u64) -> Count {
    (*key, window.start.0, count)
}

/// The windows of a short stream; and, if `joined`, these and a long stream, counted in windows together. Nothing without a
/// uid stands between the two: the watermark of such an operator is not in a checkpoint.
fn program(
    parallelism: u32,
    rate: u64,
    joined: bool,
    short: &Collected<Row>,
    both: &Collected<Count>,
) -> Program {
    let env = StreamEnv::new();
    env.set_parallelism(parallelism);
    let second = Duration::from_secs(1);
    let windows = env
        .from_source_node(source(50, 1_000_000))
        .uid("short")
        .key_by(|row| row.0)
        .window(Tumbling::of(second))
        .fold(count, |key, window, _| (*key, window.start.0))
        .uid("windows");
    let long = env.from_source_node(source(LONG_ROWS, rate)).uid("long");
    windows
        .clone()
        .sink_to(CollectSink::new(short.clone()))
        .uid("short out");
    match joined {
        true => {
            let counts = long
                .union(windows)
                .key_by(|row| row.0)
                .window(Tumbling::of(second))
                .fold(count, counted)
                .uid("joined");
            counts.sink_to(CollectSink::new(both.clone())).uid("joined out");
        }
        false => {
            long.discard();
        }
    }
    env.build().unwrap()
}

fn spec(program: Program, storage: JobStorage, from: StartFrom) -> JobSpec {
    JobSpec {
        name: JobName::from("ends"),
        program,
        chaining: true,
        storage,
        options: StartOptions {
            from,
            ..StartOptions::default()
        },
        checkpoints: CoordinatorConfig {
            interval: Some(Duration::from_millis(20)),
            ..CoordinatorConfig::default()
        },
        restarts: RestartStrategy::None,
        limits: Default::default(),
        writer: WriterConfig::default(),
        seams: Arc::new(NoSeams),
    }
}

/// Stops when the short stream is at its end everywhere, and the long one is not; goes on, at this parallelism, to the end.
fn last_windows(joined_at_first: bool, parallelism: u32) -> Vec<Count> {
    let real = RealEnv::start().unwrap();
    let env = real.env();
    let dir = tempfile::tempdir().unwrap();
    let name = JobName::from("ends");
    let (short, both) = (Collected::default(), Collected::default());
    real.block_on(async {
        // A thousandth of the long stream takes longer than anything here.
        let first = program(2, 1, joined_at_first, &short, &both);
        let storage = JobStorage::in_dir(&env, dir.path(), &name).await.unwrap();
        let handle = start(&env, spec(first, storage, StartFrom::Unsaid))
            .await
            .unwrap();
        // Only the end of the short stream closes its windows: a checkpoint that shows all of them has it.
        while short.rows().len() < KEYS as usize {
            handle.checkpoint_now().await.unwrap();
        }
        handle.stop();
        assert!(matches!(handle.wait().await.unwrap(), JobEnd::Stopped(_)));

        let second = program(parallelism, 1_000_000, true, &short, &both);
        let storage = JobStorage::in_dir(&env, dir.path(), &name).await.unwrap();
        let handle = start(&env, spec(second, storage, StartFrom::Latest))
            .await
            .unwrap();
        assert_eq!(handle.wait().await.unwrap(), JobEnd::Finished);
    });
    let last = (LONG_ROWS - 1) * STEP_MS / 1000 * 1000;
    let mut counts = both.rows();
    counts.retain(|(_, start, _)| *start == last);
    counts.sort();
    counts
}

#[test]
fn an_input_at_its_end_holds_nobody_back_after_a_restore() {
    let expected: Vec<Count> = (0..KEYS).map(|key| (key, 4000, 100 / KEYS)).collect();
    for joined_at_first in [true, false] {
        for parallelism in [1, 2, 3] {
            let found = last_windows(joined_at_first, parallelism);
            assert_eq!(found, expected, "{joined_at_first}, parallelism {parallelism}");
        }
    }
}
