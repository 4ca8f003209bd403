//! A sink that takes nothing holds no checkpoint up that may overtake, and what was in flight comes out once.
#![allow(clippy::unwrap_used, reason = "a test may")]

use rivermark_env::RealEnv;
use rivermark_job::{JobEnd, JobSpec, JobStorage, StartFrom, StartOptions, start};
use rivermark_protocol::coordinator::CoordinatorConfig;
use rivermark_protocol::restart::RestartStrategy;
use rivermark_runtime::channel::Credit;
use rivermark_runtime::deploy::Limits;
use rivermark_runtime::seams::NoSeams;
use rivermark_runtime::{Cx, Flow, OpenCx, Operator, RowCursor, SlotWaker};
use rivermark_state::WriterConfig;
use rivermark_stream::{CollectionSource, Program, SourceNode, StreamEnv, WatermarkStrategy};
use rivermark_types::{InputId, JobName, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const ROWS: u64 = 40_000;
const KEYS: u64 = 7;
/// Key, and the how manieth row of it.
type Count = (u64, u64);

/// Where the sink writes; while it is shut, it takes nothing.
#[derive(Clone, Default)]
struct Outlet {
    rows: Arc<Mutex<Vec<Count>>>,
    is_open: Arc<AtomicBool>,
    wakers: Arc<Mutex<Vec<SlotWaker>>>,
}

impl Outlet {
    fn open(&self) {
        self.is_open.store(true, Ordering::SeqCst);
        self.wakers.lock().unwrap().iter().for_each(SlotWaker::wake);
    }
}

struct Sink {
    outlet: Outlet,
}

impl Operator for Sink {
    fn open(&mut self, cx: &mut OpenCx<'_>) -> Result<()> {
        self.outlet.wakers.lock().unwrap().push(cx.waker());
        Ok(())
    }

    fn on_batch(&mut self, _: InputId, rows: &mut RowCursor<'_>, _: &mut Cx<'_>) -> Result<Flow> {
        if !self.outlet.is_open.load(Ordering::SeqCst) {
            return Ok(Flow::Wait);
        }
        let mut written = self.outlet.rows.lock().unwrap();
        let rows = rows.typed::<Count>()?;
        rows.each_row(|row, _| {
            written.push(row);
            true
        });
        Ok(if rows.is_exhausted() {
            Flow::Done
        } else {
            Flow::More
        })
    }
}

/// Counts rows by key, and deals the counts out to the sink.
fn program(parallelism: [u32; 2], outlet: &Outlet) -> Program {
    let env = StreamEnv::new();
    env.set_parallelism(parallelism[0]);
    env.set_max_parallelism(12);
    env.set_unaligned_checkpoints(Duration::ZERO);
    let source = CollectionSource::new((0..ROWS).map(|row| (row % KEYS, 1)));
    let outlet = outlet.clone();
    env.from_source_node(SourceNode::new(source, WatermarkStrategy::none()))
        .uid("source")
        .key_by(|row: &Count| row.0)
        .reduce(|so_far, row| (row.0, so_far.1 + row.1))
        .uid("count")
        .rebalance()
        .sink_with("outlet", move || {
            Ok(Box::new(Sink {
                outlet: outlet.clone(),
            }) as Box<dyn Operator>)
        })
        .uid("outlet")
        .set_parallelism(parallelism[1]);
    env.build().unwrap()
}

fn spec(program: Program, storage: JobStorage, from: StartFrom) -> JobSpec {
    JobSpec {
        name: JobName::from("unaligned"),
        program,
        chaining: true,
        storage,
        options: StartOptions {
            from,
            ..StartOptions::default()
        },
        checkpoints: CoordinatorConfig {
            interval: None,
            ..CoordinatorConfig::default()
        },
        restarts: RestartStrategy::None,
        // All channels together hold a part of the rows: the job does not come to its end.
        limits: Limits {
            credit: Credit {
                rows: 1_000,
                bytes: 1 << 20,
            },
            batch_rows: 200,
            ..Limits::default()
        },
        writer: WriterConfig::default(),
        seams: Arc::new(NoSeams),
    }
}

/// Takes a checkpoint while the sink takes nothing, and goes on from it with one that does. The rows that came out.
fn rows_after(before: [u32; 2], behind: [u32; 2]) -> Vec<Count> {
    let real = RealEnv::start().unwrap();
    let env = real.env();
    let dir = tempfile::tempdir().unwrap();
    let name = JobName::from("unaligned");
    let outlet = Outlet::default();
    real.block_on(async {
        let storage = JobStorage::in_dir(&env, dir.path(), &name).await.unwrap();
        let first = spec(program(before, &outlet), storage, StartFrom::Unsaid);
        let handle = start(&env, first).await.unwrap();
        loop {
            let id = handle.checkpoint_now().await.unwrap();
            let stats = handle.stats();
            let taken = stats.checkpoints.iter().find(|taken| taken.id == id).unwrap();
            if taken.in_flight_bytes > 10_000 {
                break;
            }
        }
        handle.cancel();
        handle.wait().await.unwrap();
        outlet.open();
        let storage = JobStorage::in_dir(&env, dir.path(), &name).await.unwrap();
        let second = spec(program(behind, &outlet), storage, StartFrom::Latest);
        let handle = start(&env, second).await.unwrap();
        assert_eq!(handle.wait().await.unwrap(), JobEnd::Finished);
    });
    let mut rows = outlet.rows.lock().unwrap().clone();
    rows.sort();
    rows
}

/// Every row once.
fn expected() -> Vec<Count> {
    (0..KEYS)
        .flat_map(|key| (1..=(ROWS - key).div_ceil(KEYS)).map(move |count| (key, count)))
        .collect()
}

#[test]
fn a_sink_that_takes_nothing_holds_nothing_up_and_every_row_comes_out_once() {
    let expected = expected();
    for (before, behind) in [([2, 1], [2, 1]), ([2, 1], [3, 2]), ([3, 2], [1, 3])] {
        let found = rows_after(before, behind);
        assert!(found == expected, "{before:?} → {behind:?}: {} rows", found.len());
    }
}

#[test]
fn several_at_once_are_refused() {
    let real = RealEnv::start().unwrap();
    let mut spec = spec(
        program([1, 1], &Outlet::default()),
        JobStorage::in_memory(),
        StartFrom::Unsaid,
    );
    spec.checkpoints.max_concurrent = 2;
    let refused = real.block_on(start(&real.env(), spec)).err().unwrap();
    assert!(
        refused.message.contains("max-concurrent-checkpoints to 1"),
        "{refused}"
    );
}

#[test]
fn too_much_in_flight_declines_the_checkpoint_and_the_job_goes_on() {
    let real = RealEnv::start().unwrap();
    let env = real.env();
    let outlet = Outlet::default();
    let storage = JobStorage::in_memory();
    let mut spec = spec(program([2, 1], &outlet), storage.clone(), StartFrom::Unsaid);
    // Of each of the three subtasks that have channels.
    spec.limits.in_flight_bytes = 5_000;
    let stats = real.block_on(async {
        let handle = start(&env, spec).await.unwrap();
        // The queues are not full at once.
        let declined = loop {
            let id = match handle.checkpoint_now().await {
                Ok(id) => id,
                Err(declined) => break declined,
            };
            let stats = handle.stats();
            let taken = stats.checkpoints.iter().find(|taken| taken.id == id).unwrap();
            assert!(taken.in_flight_bytes <= 3 * 5_000, "{taken:?}");
        };
        let why = declined.to_string();
        assert!(why.contains("rivermark.checkpoint.max-in-flight-bytes"), "{why}");
        let stats = handle.stats();
        let control = handle.control();
        outlet.open();
        assert_eq!(handle.wait().await.unwrap(), JobEnd::Finished);
        // The last one is aligned, whatever was in flight.
        assert!(control.stats().decided > stats.decided);
        stats
    });
    assert_eq!((stats.state, stats.restarts), ("running", 0));
    assert!(stats.aborted > 0);
    let mut rows = outlet.rows.lock().unwrap().clone();
    rows.sort();
    assert!(rows == expected(), "{} rows", rows.len());
    let left = real.block_on(storage.blob.list("")).unwrap();
    assert!(left.is_empty(), "{left:?}");
}
