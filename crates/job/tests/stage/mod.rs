//! A job whose places can be held up, on a clock that only the test moves.

use rivermark_env::{BoxFuture, Env, Files, LocalBoxFuture, Net, Platform, RealEnv, SlotStart, TaskHandle};
use rivermark_job::explain::CheckpointRecord;
use rivermark_job::history::Records;
use rivermark_job::{JobControl, JobSpec, JobStorage, StartOptions, start};
use rivermark_protocol::coordinator::CoordinatorConfig;
use rivermark_protocol::restart::RestartStrategy;
use rivermark_runtime::channel::Credit;
use rivermark_runtime::deploy::Limits;
use rivermark_runtime::metrics::SubtaskCounters;
use rivermark_runtime::metrics::trace::Left;
use rivermark_runtime::seams::NoSeams;
use rivermark_runtime::{Cx, Flow, OpenCx, Operator, RowCursor, SlotWaker};
use rivermark_state::WriterConfig;
use rivermark_stream::{Program, StreamEnv};
use rivermark_types::{Barrier, CheckpointId, InputId, JobName, Millis, Result, Timestamp};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

/// The real world, with a clock that can be put forward.
#[derive(Clone)]
pub struct Clock {
    real: Env,
    ahead_ms: Arc<AtomicU64>,
}

impl Clock {
    pub fn put_forward(&self, by: Duration) {
        self.ahead_ms.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }
    fn ahead(&self) -> Duration {
        Duration::from_millis(self.ahead_ms.load(Ordering::SeqCst))
    }
}

impl Platform for Clock {
    fn now(&self) -> Millis {
        self.real.now().after(self.ahead())
    }
    fn wall_clock(&self) -> Timestamp {
        self.real.wall_clock()
    }
    fn cost_ns(&self) -> u64 {
        self.real.cost_ns() + self.ahead().as_nanos() as u64
    }
    fn random_u64(&self) -> u64 {
        self.real.random_u64()
    }
    fn spawn_io(&self, name: &str, future: BoxFuture<'static, ()>) -> TaskHandle {
        self.real.spawn_io(name, future)
    }
    fn spawn_slot(&self, name: &str, start: SlotStart) -> TaskHandle {
        self.real.spawn_slot(name, start)
    }
    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        self.real.sleep(wait)
    }
    fn step_point(&self) -> Option<LocalBoxFuture<'static, ()>> {
        None
    }
    fn files(&self) -> &Arc<dyn Files> {
        self.real.files()
    }
    fn net(&self) -> &Arc<dyn Net> {
        self.real.net()
    }
}

/// How long a checkpoint takes for the one reason.
pub const LONG: Duration = Duration::from_secs(10);

/// Rows of a batch.
pub const BATCH: u64 = 200;

/// What a slow row takes.
pub const SLOW_ROW: Duration = Duration::from_millis(20);

/// A place of the job that lets nothing pass until it is opened.
#[derive(Clone, Default)]
pub struct Door(Arc<DoorState>);

#[derive(Default)]
struct DoorState {
    is_open: AtomicBool,
    wakers: Mutex<Vec<SlotWaker>>,
    reached: Notify,
    opened: Mutex<bool>,
    opens: std::sync::Condvar,
}

impl Door {
    pub fn open(&self) {
        self.0.is_open.store(true, Ordering::SeqCst);
        *self.0.opened.lock().unwrap() = true;
        self.0.opens.notify_all();
        self.0.wakers.lock().unwrap().iter().for_each(SlotWaker::wake);
    }
    pub fn is_open(&self) -> bool {
        self.0.is_open.load(Ordering::SeqCst)
    }
    /// Somebody stands before it.
    pub fn reached(&self) {
        self.0.reached.notify_one();
    }
    /// Completes when somebody has come to it.
    pub async fn somebody_came(&self) {
        self.0.reached.notified().await;
    }
    /// Blocks the thread.
    pub fn pass(&self) {
        self.reached();
        let opened = self.0.opened.lock().unwrap();
        drop(self.0.opens.wait_while(opened, |opened| !*opened).unwrap());
    }
}

/// A sink with two doors: before its rows, and before its barriers.
struct Outlet {
    rows: Door,
    barriers: Door,
}

impl Operator for Outlet {
    fn open(&mut self, cx: &mut OpenCx<'_>) -> Result<()> {
        for door in [&self.rows, &self.barriers] {
            door.0.wakers.lock().unwrap().push(cx.waker());
        }
        Ok(())
    }
    fn on_batch(&mut self, _: InputId, rows: &mut RowCursor<'_>, _: &mut Cx<'_>) -> Result<Flow> {
        self.rows.reached();
        if !self.rows.is_open() {
            return Ok(Flow::Wait);
        }
        drop(rows.take_batch());
        Ok(Flow::Done)
    }
    fn before_barrier(&mut self, _: &Barrier, _: &mut Cx<'_>) -> Result<Flow> {
        self.barriers.reached();
        Ok(if self.barriers.is_open() {
            Flow::Done
        } else {
            Flow::Wait
        })
    }
}

/// What may be staged.
#[derive(Clone, Default)]
pub struct Stages {
    pub outlet: Door,
    pub barriers: Door,
    pub lookup: Door,
    /// Before the counter's rows with key 0.
    pub counter: Door,
    /// So many of them take [`SLOW_ROW`], once a first batch of them has passed.
    pub slow_rows: u64,
    /// So many rows pass the source; all, if not said.
    pub rows: Option<u64>,
    pub parallelism: u32,
    /// Whether barriers overtake, at once and everywhere.
    pub unaligned: bool,
}

impl Stages {
    /// Nothing holds anything up.
    pub fn none() -> Stages {
        let stages = Stages {
            parallelism: 1,
            ..Stages::default()
        };
        [&stages.outlet, &stages.barriers, &stages.lookup, &stages.counter]
            .into_iter()
            .for_each(Door::open);
        stages
    }
}

/// Rows without an end, nearly all with key 0 → `lookup` → `count` by key → `outlet`.
fn program(stages: &Stages, clock: &Clock) -> Program {
    let env = StreamEnv::new();
    if stages.unaligned {
        env.set_unaligned_checkpoints(Duration::ZERO);
    }
    let (outlet, barriers) = (stages.outlet.clone(), stages.barriers.clone());
    let (lookup, counter, clock) = (stages.lookup.clone(), stages.counter.clone(), clock.clone());
    let (passed, slow_rows) = (Arc::new(AtomicU64::new(0)), BATCH..BATCH + stages.slow_rows);
    let sent = Arc::new(AtomicU64::new(0));
    let rows = env
        .generate(50_000, |number| match number % 10 {
            0 => (number / 10 % 64, 1u64),
            _ => (0, 1),
        })
        .uid("source");
    let rows = match stages.rows {
        Some(most) => rows
            .filter(move |_| sent.fetch_add(1, Ordering::SeqCst) < most)
            .name("most"),
        None => rows,
    };
    // No barrier overtakes where rows are handed from subtask to subtask.
    let rows = match stages.unaligned {
        true => rows.rebalance(),
        false => rows,
    };
    rows.map(move |row: (u64, u64)| {
        if !lookup.is_open() {
            lookup.pass();
        }
        row
    })
    .name("lookup")
    .uid("lookup")
    .disable_chaining()
    .key_by(|row: &(u64, u64)| row.0)
    .reduce(move |so_far: &(u64, u64), row: (u64, u64)| {
        if row.0 == 0 {
            if !counter.is_open() {
                counter.pass();
            }
            if slow_rows.contains(&passed.fetch_add(1, Ordering::SeqCst)) {
                clock.put_forward(SLOW_ROW);
            }
        }
        (row.0, so_far.1 + row.1)
    })
    .name("count")
    .uid("count")
    .set_parallelism(stages.parallelism)
    // A counter that stands before its door holds up its slot.
    .slot_sharing_group(if stages.parallelism > 1 {
        "counts"
    } else {
        "default"
    })
    .rebalance()
    .sink_with("outlet", move || {
        Ok(Box::new(Outlet {
            rows: outlet.clone(),
            barriers: barriers.clone(),
        }) as Box<dyn Operator>)
    })
    .uid("outlet")
    .set_parallelism(1);
    env.build().unwrap()
}

pub fn spec(program: Program, storage: JobStorage) -> JobSpec {
    JobSpec {
        name: JobName::from("staged"),
        program,
        chaining: true,
        storage,
        options: StartOptions::default(),
        checkpoints: CoordinatorConfig {
            interval: None,
            timeout: Duration::from_secs(60),
            ..CoordinatorConfig::default()
        },
        restarts: RestartStrategy::None,
        limits: Limits {
            credit: Credit {
                rows: 1_000,
                bytes: 1 << 20,
            },
            batch_rows: BATCH as usize,
            ..Limits::default()
        },
        writer: WriterConfig::default(),
        seams: Arc::new(NoSeams),
    }
}

/// Runs a job, and the stage beside it; the record of the checkpoint that the stage says.
pub fn staged(
    stages: &Stages,
    storage: JobStorage,
    stage: impl AsyncFnOnce(JobControl, Clock) -> CheckpointId,
) -> CheckpointRecord {
    let real = RealEnv::start().unwrap();
    let clock = Clock {
        real: real.env(),
        ahead_ms: Arc::default(),
    };
    let env = Env::new(Arc::new(clock.clone()));
    let records = Records::new(storage.history.clone());
    real.block_on(async {
        let spec = spec(program(stages, &clock), storage);
        let handle = start(&env, spec).await.unwrap();
        let checkpoint = stage(handle.control(), clock).await;
        handle.cancel();
        handle.wait().await.unwrap();
        records.checkpoint(Some(checkpoint)).await.unwrap()
    })
}

/// Takes a checkpoint; when it is under way and the condition is there, puts the clock forward and opens the door.
pub async fn long_checkpoint(
    job: &JobControl,
    clock: &Clock,
    door: &Door,
    condition: impl Future<Output = ()>,
) -> CheckpointId {
    let held = async {
        under_way(job).await;
        condition.await;
        clock.put_forward(LONG);
        door.open();
    };
    let (taken, ()) = tokio::join!(job.checkpoint_now(), held);
    taken.unwrap()
}

pub async fn under_way(job: &JobControl) {
    let mut job = job.clone();
    while job.stats().in_progress == 0 {
        assert!(job.changed().await, "the job has ended");
    }
}

/// Waits until a subtask of the vertex has no room downstream.
pub async fn backpressured(job: &JobControl, clock: &Clock, vertex: &str) {
    loop {
        let snapshot = job.stats().counters.snapshot(clock.now());
        let mut subtasks = snapshot.subtasks.iter();
        let is_it = |name: &str| name.starts_with(vertex);
        if subtasks.any(|(id, of)| is_it(&snapshot.vertices[&id.vertex]) && of.time.is_backpressured) {
            return;
        }
        clock.sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until a condition holds for every subtask of the vertex.
pub async fn until_all(
    job: &JobControl,
    clock: &Clock,
    vertex: &str,
    holds: impl Fn(&SubtaskCounters) -> bool,
) {
    let counters = job.stats().counters;
    let mut subtasks = counters.subtasks.iter();
    let subtasks: Vec<_> = subtasks
        .by_ref()
        .filter(|(id, _)| counters.vertices[&id.vertex].starts_with(vertex))
        .collect();
    assert!(!subtasks.is_empty());
    while !subtasks.iter().all(|(_, of)| holds(of)) {
        clock.sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until rows have come to all of the vertex.
pub async fn counted(job: &JobControl, clock: &Clock, vertex: &str) {
    until_all(job, clock, vertex, |of| of.records_in.load(Ordering::Relaxed) > 0).await;
}

/// Waits until the barrier has passed all of the vertex.
pub async fn have_cut(job: &JobControl, clock: &Clock, vertex: &str) {
    let newest = job.stats().counters.trigger.newest().0;
    until_all(job, clock, vertex, |of| has_cut(of, newest)).await;
}

/// Waits until the barrier has passed so many of the vertex.
pub async fn until_cut(job: &JobControl, clock: &Clock, vertex: &str, many: usize) {
    let counters = job.stats().counters;
    let newest = counters.trigger.newest().0;
    loop {
        let cut = counters
            .subtasks
            .iter()
            .filter(|(id, of)| counters.vertices[&id.vertex].starts_with(vertex) && has_cut(of, newest));
        if cut.count() >= many {
            return;
        }
        clock.sleep(Duration::from_millis(1)).await;
    }
}

fn has_cut(of: &SubtaskCounters, checkpoint: CheckpointId) -> bool {
    of.traces.of(checkpoint).is_some_and(|trace| trace.cut.is_some())
}

/// Waits until all of the vertex wait for something outside.
pub async fn wait_outside(job: &JobControl, clock: &Clock, vertex: &str) {
    let waits = |of: &SubtaskCounters| matches!(of.traces.left(), Left::Waiting(_));
    until_all(job, clock, vertex, waits).await;
}
