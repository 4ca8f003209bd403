//! A whole job in one process, on the real world: started, checkpointed, failed, resumed, ended.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may")]

use rivermark_connector::commit::CommitNode;
use rivermark_connector::{CollectSink, Collected, CollectionSource, SourceNode, WatermarkStrategy};
use rivermark_data::{Batch, RowCodec, TypedEdge};
use rivermark_env::{Env, RealEnv};
use rivermark_job::{JobEnd, JobSpec, JobStorage, StartFrom, StartOptions, start};
use rivermark_protocol::coordinator::CoordinatorConfig;
use rivermark_protocol::graph::{Edge, Graph, Node, NodeRole, Partitioning};
use rivermark_protocol::restart::RestartStrategy;
use rivermark_runtime::operators::{Fold, LateRows, Tumbling, Window, WindowOperator};
use rivermark_runtime::{NodeBody, Operator, Program, seams::NoSeams};
use rivermark_state::WriterConfig;
use rivermark_storage::{Fault, Faults, Faulty, Operation};
use rivermark_types::{Failure, InputId, JobName, NodeId, Result, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

type Row = (u64, i64);
type Count = (u64, i64, u64);

struct NoRows;
impl RowCodec for NoRows {
    fn encode(&self, _: &Batch) -> Result<Vec<u8>> {
        Err(Failure::bug("not in this test"))
    }
    fn decode(&self, _: &[u8]) -> Result<Batch> {
        Err(Failure::bug("not in this test"))
    }
}

fn node(id: u32, role: NodeRole, name: &str, parallelism: u32) -> Node {
    Node {
        uid: Some(name.into()),
        ..Node::new(NodeId(id), role, name, parallelism)
    }
}

fn edge(from: u32, to: u32, partitioning: Partitioning) -> Edge {
    Edge {
        from: NodeId(from),
        port: 0,
        to: NodeId(to),
        input: InputId(0),
        partitioning,
        type_name: String::new(),
    }
}

/// Counts rows per key and 100 ms; `bombs` says how many more rows pass before a failure (never, if negative).
fn program(rows: u64, parallelism: u32, rate: u64, bombs: Arc<AtomicI64>, out: &Collected<Count>) -> Program {
    let input = (0..rows).map(|i| (i % 17, (i as i64) * 10 + (i as i64 * 7919) % 300));
    let strategy = WatermarkStrategy::bounded_out_of_orderness(Duration::from_millis(400))
        .with_timestamp(|row: &Row| Timestamp(row.1));
    let source = SourceNode::new(CollectionSource::new(input).with_splits(3), strategy).rate(rate);
    let add = move |acc: &mut u64, _: Row| {
        if bombs.fetch_sub(1, Ordering::SeqCst) == 0 {
            panic!("a planned panic");
        }
        *acc += 1;
    };
    let finish = |key: &u64, window: Window, count: u64| (*key, window.start.0, count);
    let window = move || {
        let fold = Fold::new(add.clone(), finish);
        let windows = Tumbling::of(Duration::from_millis(100));
        Ok(Box::new(WindowOperator::new(
            |row: &Row| row.0,
            windows,
            fold,
            LateRows::Drop,
        )) as Box<dyn Operator>)
    };
    let mut nodes = vec![
        node(0, NodeRole::Source, "source", parallelism),
        node(1, NodeRole::Operator, "window", parallelism),
        node(2, NodeRole::Sink, "sink", 1),
    ];
    (nodes[1].keyed, nodes[1].has_state) = (true, true);
    (nodes[2].exactly_once, nodes[2].two_phase) = (true, true);
    let rebalance = Partitioning::default_between(parallelism, 1);
    Program {
        graph: Graph {
            nodes,
            edges: vec![edge(0, 1, Partitioning::Key), edge(1, 2, rebalance)],
            ..Graph::default()
        },
        nodes: vec![
            NodeBody::Source(Arc::new(source)),
            NodeBody::Operator(Arc::new(window)),
            NodeBody::Operator(Arc::new(CommitNode::new(CollectSink::new(out.clone())))),
        ],
        edges: vec![
            Arc::new(TypedEdge::<Row>::keyed(Arc::new(NoRows), |row: &Row| row.0)),
            Arc::new(TypedEdge::<Count>::new(Arc::new(NoRows))),
        ],
    }
}

fn spec(program: Program, storage: JobStorage, from: StartFrom) -> JobSpec {
    JobSpec {
        name: JobName::from("embedded"),
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
        restarts: RestartStrategy::FixedDelay {
            attempts: 5,
            delay: Duration::from_millis(10),
        },
        limits: Default::default(),
        writer: WriterConfig::default(),
        seams: Arc::new(NoSeams),
    }
}

fn expected(rows: u64) -> BTreeMap<(u64, i64), u64> {
    let mut counts = BTreeMap::new();
    for i in 0..rows {
        let time = (i as i64) * 10 + (i as i64 * 7919) % 300;
        *counts.entry((i % 17, time - time.rem_euclid(100))).or_default() += 1;
    }
    counts
}

fn found(out: &Collected<Count>) -> BTreeMap<(u64, i64), u64> {
    let mut counts = BTreeMap::new();
    for (key, start, count) in out.rows() {
        assert!(
            counts.insert((key, start), count).is_none(),
            "window {start} of key {key} came twice"
        );
    }
    counts
}

fn never() -> Arc<AtomicI64> {
    Arc::new(AtomicI64::new(-1))
}

fn env() -> (RealEnv, Env) {
    let real = RealEnv::start().unwrap();
    let env = real.env();
    (real, env)
}

#[test]
fn a_bounded_job_ends_as_a_whole() {
    let (real, env) = env();
    for parallelism in [1, 2, 3] {
        let out = Collected::default();
        let program = program(2000, parallelism, 1_000_000, never(), &out);
        let end = real.block_on(async {
            let handle = start(&env, spec(program, JobStorage::in_memory(), StartFrom::Unsaid)).await?;
            handle.wait().await
        });
        assert_eq!(end.unwrap(), JobEnd::Finished);
        assert_eq!(found(&out), expected(2000), "parallelism {parallelism}");
        assert_eq!(out.open_transactions(), 0);
    }
}

#[test]
fn a_panic_restarts_the_attempt_and_nothing_is_lost_or_doubled() {
    let (real, env) = env();
    let out = Collected::default();
    let bombs = Arc::new(AtomicI64::new(1500));
    let program = program(2000, 2, 10_000, bombs, &out);
    let (end, restarts) = real.block_on(async {
        let handle = start(&env, spec(program, JobStorage::in_memory(), StartFrom::Unsaid))
            .await
            .unwrap();
        let control = handle.control();
        let end = handle.wait().await;
        (end, control.stats().restarts)
    });
    assert_eq!(end.unwrap(), JobEnd::Finished);
    assert_eq!(restarts, 1);
    assert_eq!(found(&out), expected(2000));
}

#[test]
fn a_stopped_job_resumes_in_a_directory_at_another_parallelism() {
    let (real, env) = env();
    let dir = tempfile::tempdir().unwrap();
    let out = Collected::default();
    let name = JobName::from("embedded");
    for (run, parallelism) in [2, 3, 1].into_iter().enumerate() {
        let rate = if run < 2 { 4_000 } else { 1_000_000 };
        let program = program(2000, parallelism, rate, never(), &out);
        let end = real.block_on(async {
            let storage = JobStorage::in_dir(&env, dir.path(), &name).await?;
            let from = if run == 0 {
                StartFrom::Unsaid
            } else {
                StartFrom::Latest
            };
            let handle = start(&env, spec(program, storage, from)).await?;
            if run < 2 {
                handle.checkpoint_now().await?;
                handle.checkpoint_now().await?;
                handle.stop();
            }
            handle.wait().await
        });
        match (run, end.unwrap()) {
            (2, JobEnd::Finished) => {}
            (0 | 1, JobEnd::Stopped(_)) => {}
            (run, end) => panic!("run {run} ended as {end:?}"),
        }
    }
    assert_eq!(found(&out), expected(2000));
}

#[test]
fn a_finished_job_is_not_run_again_by_a_resume() {
    let (real, env) = env();
    let dir = tempfile::tempdir().unwrap();
    let name = JobName::from("embedded");
    let out = Collected::default();
    for _ in 0..2 {
        let program = program(300, 2, 1_000_000, never(), &out);
        let end = real.block_on(async {
            let storage = JobStorage::in_dir(&env, dir.path(), &name).await?;
            start(&env, spec(program, storage, StartFrom::Latest))
                .await?
                .wait()
                .await
        });
        assert_eq!(end.unwrap(), JobEnd::Finished);
        assert_eq!(found(&out), expected(300));
    }
}

#[test]
fn a_restore_that_waits_for_the_store_can_be_cancelled() {
    let (real, env) = env();
    let dir = tempfile::tempdir().unwrap();
    let name = JobName::from("embedded");
    let out = Collected::default();
    let run = |from: StartFrom, hangs: bool| {
        let program = program(2000, 1, 2_000, never(), &out);
        real.block_on(async {
            let storage = JobStorage::in_dir(&env, dir.path(), &name).await?;
            let faults = Faults::new(env.clone(), move |operation| {
                let restores = operation == Operation::GetRange;
                (hangs && restores).then_some(Fault::Hangs { done: false })
            });
            let storage = storage.wrapped(|blob| Arc::new(Faulty::new(blob, faults)), |cas| cas);
            let handle = start(&env, spec(program, storage, from)).await?;
            if !hangs {
                handle.checkpoint_now().await?;
            }
            handle.cancel();
            handle.wait().await
        })
    };
    assert!(matches!(
        run(StartFrom::Unsaid, false),
        Ok(JobEnd::Cancelled(Some(_)))
    ));
    assert!(matches!(run(StartFrom::Latest, true), Ok(JobEnd::Cancelled(_))));
}

#[test]
fn a_start_must_say_where_from_and_another_jobs_storage_is_refused() {
    let (real, env) = env();
    let dir = tempfile::tempdir().unwrap();
    let name = JobName::from("embedded");
    let out = Collected::default();
    let begin = |from: StartFrom, job: &str| {
        let program = program(2000, 1, 2_000, never(), &out);
        real.block_on(async {
            let storage = JobStorage::in_dir(&env, dir.path(), &name).await?;
            let spec = JobSpec {
                name: JobName::from(job),
                ..spec(program, storage, from)
            };
            let handle = start(&env, spec).await?;
            handle.checkpoint_now().await?;
            handle.cancel();
            handle.wait().await
        })
    };
    assert!(matches!(
        begin(StartFrom::Unsaid, "embedded"),
        Ok(JobEnd::Cancelled(Some(_)))
    ));
    let unsaid = begin(StartFrom::Unsaid, "embedded").unwrap_err();
    assert!(
        unsaid.message.contains("--from latest") && unsaid.message.contains("--from none"),
        "{unsaid}"
    );
    let other = begin(StartFrom::Latest, "other").unwrap_err();
    assert!(
        other.message.contains("\"embedded\"") && other.message.contains("\"other\""),
        "{other}"
    );
    let missing = begin(
        StartFrom::Checkpoint(rivermark_types::CheckpointId(999)),
        "embedded",
    )
    .unwrap_err();
    assert!(missing.message.contains("999"), "{missing}");
    assert!(begin(StartFrom::Beginning, "embedded").is_ok());
}

/// Flips a byte in the middle of every file below `dir` whose name `which` accepts; tells how many.
fn damage(dir: &std::path::Path, which: &dyn Fn(&str) -> bool) -> usize {
    let mut damaged = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            damaged += damage(&path, which);
        } else if which(&path.to_string_lossy()) {
            let mut bytes = std::fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            damaged += 1;
        }
    }
    damaged
}

#[test]
fn a_damaged_checkpoint_stops_the_start_unless_duplicates_are_accepted() {
    let (real, env) = env();
    let name = JobName::from("embedded");
    let out = Collected::default();
    let run = |dir: &std::path::Path, options: StartOptions, stop: bool| {
        let program = program(2000, 1, if stop { 4_000 } else { 1_000_000 }, never(), &out);
        real.block_on(async {
            let storage = JobStorage::in_dir(&env, dir, &name).await?;
            let handle = start(
                &env,
                JobSpec {
                    options,
                    ..spec(program, storage, StartFrom::Unsaid)
                },
            )
            .await?;
            if stop {
                // Two at least, the newest with rows of keyed state in it.
                handle.checkpoint_now().await?;
                while handle.stats().checkpoints.last().is_none_or(|c| c.rows == 0) {
                    handle.checkpoint_now().await?;
                }
                handle.checkpoint_now().await?;
                handle.cancel();
            }
            handle.wait().await
        })
    };
    for object in ["manifest", "part"] {
        let dir = tempfile::tempdir().unwrap();
        let newest = match run(dir.path(), StartOptions::default(), true) {
            Ok(JobEnd::Cancelled(Some(newest))) => newest,
            end => panic!("{end:?}"),
        };
        let newest = format!("chk-{newest}/");
        let is_manifest = |path: &str| path.contains("manifest");
        let hit = damage(dir.path(), &|path| {
            path.contains(&newest) && is_manifest(path) == (object == "manifest")
        });
        assert!(hit > 0, "{object}");
        let latest = StartOptions {
            from: StartFrom::Latest,
            ..StartOptions::default()
        };
        let refused = run(dir.path(), latest.clone(), false).unwrap_err();
        assert!(
            refused.message.contains("damaged") && refused.message.contains("--accept-duplicates"),
            "{refused}"
        );
        let accepted = StartOptions {
            accept_duplicates: true,
            ..latest
        };
        assert_eq!(
            run(dir.path(), accepted, false).unwrap(),
            JobEnd::Finished,
            "{object}"
        );
    }
}

#[test]
fn a_sink_chained_to_its_source_is_let_through_its_gate() {
    let (real, env) = env();
    let out = Collected::default();
    let streams = rivermark_stream::StreamEnv::new();
    let rows: Vec<u64> = (0..1000).collect();
    streams
        .from_collection(rows.clone())
        .uid("rows")
        .sink_to(CollectSink::new(out.clone()))
        .uid("sink");
    let program = streams.build().unwrap();
    let handle = real
        .block_on(start(
            &env,
            spec(program, JobStorage::in_memory(), StartFrom::Unsaid),
        ))
        .unwrap();
    assert_eq!(real.block_on(handle.wait()).unwrap(), JobEnd::Finished);
    let mut found = out.rows();
    found.sort();
    assert_eq!(found, rows);
}
