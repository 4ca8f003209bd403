//! Staged situations: a checkpoint takes ten seconds of a clock that only the test moves, for one reason, and that is the one that is
//! told. Nothing is measured against real time.
#![allow(clippy::unwrap_used, reason = "a test may")]

use rivermark_env::{BoxFuture, Env, Files, LocalBoxFuture, Net, Platform, RealEnv, SlotStart, TaskHandle};
use rivermark_job::explain::{CheckpointRecord, Reason, Stage, explain, explain_recovery};
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
use rivermark_storage as storage;
use rivermark_stream::{Program, StreamEnv};
use rivermark_types::{Barrier, CheckpointId, InputId, JobName, Millis, Result, Timestamp};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

/// The real world, with a clock that can be put forward.
#[derive(Clone)]
struct Clock {
    real: Env,
    ahead_ms: Arc<AtomicU64>,
}

impl Clock {
    fn put_forward(&self, by: Duration) {
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
const LONG: Duration = Duration::from_secs(10);

/// A place of the job that lets nothing pass until it is opened.
#[derive(Clone, Default)]
struct Door(Arc<DoorState>);

#[derive(Default)]
struct DoorState {
    is_open: AtomicBool,
    wakers: Mutex<Vec<SlotWaker>>,
    reached: Notify,
    opened: Mutex<bool>,
    opens: std::sync::Condvar,
}

impl Door {
    fn open(&self) {
        self.0.is_open.store(true, Ordering::SeqCst);
        *self.0.opened.lock().unwrap() = true;
        self.0.opens.notify_all();
        self.0.wakers.lock().unwrap().iter().for_each(SlotWaker::wake);
    }
    fn is_open(&self) -> bool {
        self.0.is_open.load(Ordering::SeqCst)
    }
    /// Somebody stands before it.
    fn reached(&self) {
        self.0.reached.notify_one();
    }
    /// Blocks the thread.
    fn pass(&self) {
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
struct Stages {
    outlet: Door,
    barriers: Door,
    lookup: Door,
    /// What a row takes in the counter, in milliseconds.
    row_takes: Arc<AtomicU64>,
    parallelism: u32,
    /// Whether barriers overtake, at once and everywhere.
    unaligned: bool,
}

impl Stages {
    /// Nothing holds anything up.
    fn none() -> Stages {
        let stages = Stages {
            parallelism: 1,
            ..Stages::default()
        };
        [&stages.outlet, &stages.barriers, &stages.lookup]
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
    let (lookup, row_takes, clock) = (stages.lookup.clone(), stages.row_takes.clone(), clock.clone());
    let rows = env
        .generate(50_000, |number| match number % 10 {
            0 => (number / 10 % 64, 1u64),
            _ => (0, 1),
        })
        .uid("source");
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
        clock.put_forward(Duration::from_millis(row_takes.load(Ordering::SeqCst)));
        (row.0, so_far.1 + row.1)
    })
    .name("count")
    .uid("count")
    .set_parallelism(stages.parallelism)
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

fn spec(program: Program, storage: JobStorage) -> JobSpec {
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
            batch_rows: 200,
            ..Limits::default()
        },
        writer: WriterConfig::default(),
        seams: Arc::new(NoSeams),
    }
}

/// Runs a job, and the stage beside it; the record of the checkpoint that the stage says.
fn staged(
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
async fn long_checkpoint(
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

async fn under_way(job: &JobControl) {
    let mut job = job.clone();
    while job.stats().in_progress == 0 {
        assert!(job.changed().await, "the job has ended");
    }
}

/// Waits until a subtask of the vertex has no room downstream.
async fn backpressured(job: &JobControl, clock: &Clock, vertex: &str) {
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
async fn until_all(job: &JobControl, clock: &Clock, vertex: &str, holds: impl Fn(&SubtaskCounters) -> bool) {
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
async fn counted(job: &JobControl, clock: &Clock, vertex: &str) {
    until_all(job, clock, vertex, |of| of.records_in.load(Ordering::Relaxed) > 0).await;
}

/// Waits until the barrier has passed all of the vertex.
async fn have_cut(job: &JobControl, clock: &Clock, vertex: &str) {
    let newest = job.stats().counters.trigger.newest().0;
    let has_cut = |of: &SubtaskCounters| of.traces.of(newest).is_some_and(|trace| trace.cut.is_some());
    until_all(job, clock, vertex, has_cut).await;
}

/// Waits until all of the vertex wait for something outside.
async fn wait_outside(job: &JobControl, clock: &Clock, vertex: &str) {
    let waits = |of: &SubtaskCounters| matches!(of.traces.left(), Left::Waiting(_));
    until_all(job, clock, vertex, waits).await;
}

/// The piece that is more than half of the checkpoint's time.
fn main_piece(record: &CheckpointRecord) -> (Stage, String, Reason, String) {
    let explained = explain(record);
    let main = explained.path.iter().max_by_key(|piece| piece.ms).unwrap();
    assert!(main.ms * 2 > explained.total_ms, "{}", explained.sentence);
    (
        main.stage,
        main.subtask.clone(),
        main.reason.clone(),
        explained.sentence.clone(),
    )
}

#[test]
fn a_slow_sink() {
    let stages = Stages {
        outlet: Door::default(),
        ..Stages::none()
    };
    let record = staged(&stages, JobStorage::in_memory(), async |job, clock| {
        backpressured(&job, &clock, "count").await;
        backpressured(&job, &clock, "lookup").await;
        let held = async {
            have_cut(&job, &clock, "generator").await;
            wait_outside(&job, &clock, "outlet").await;
        };
        long_checkpoint(&job, &clock, &stages.outlet, held).await
    });
    let (stage, subtask, reason, sentence) = main_piece(&record);
    assert_eq!(stage, Stage::Barrier, "{sentence}");
    assert!(["lookup/0", "count/0"].contains(&subtask.as_str()), "{sentence}");
    let outside = Reason::Waits {
        operator: "outlet".to_owned(),
    };
    let by = "outlet/0".to_owned();
    assert_eq!(
        reason,
        Reason::Backpressure {
            by,
            why: Box::new(outside)
        },
        "{sentence}"
    );
    assert!(
        sentence.contains("held back by outlet/0 (backpressure), where outlet waited for what is outside"),
        "{sentence}"
    );
}

#[test]
fn a_slow_sink_that_barriers_overtake() {
    let stages = Stages {
        outlet: Door::default(),
        unaligned: true,
        ..Stages::none()
    };
    let door = storage::Door::default();
    let gated = |inner| Arc::new(storage::Gated::new(inner, door.clone())) as Arc<dyn storage::Blob>;
    let storage = JobStorage::in_memory().wrapped(gated, |cas| cas);
    let record = staged(&stages, storage, async |job, clock| {
        backpressured(&job, &clock, "count").await;
        backpressured(&job, &clock, "lookup").await;
        wait_outside(&job, &clock, "outlet").await;
        // The sink takes nothing until it is over, and the store takes its time.
        let slow = async {
            under_way(&job).await;
            have_cut(&job, &clock, "outlet").await;
            door.reached(1).await;
            clock.put_forward(LONG);
            door.open();
        };
        let (taken, ()) = tokio::join!(job.checkpoint_now(), slow);
        stages.outlet.open();
        taken.unwrap()
    });
    let (stage, _, _, sentence) = main_piece(&record);
    assert_eq!(stage, Stage::Upload, "{sentence}");
    assert!(
        !sentence.contains("outlet") && !sentence.contains("backpressure"),
        "{sentence}"
    );
    let in_flight = |vertex: &str| {
        let of = record.subtasks.iter().filter(|subtask| subtask.vertex == vertex);
        of.map(|subtask| subtask.in_flight_bytes).sum::<u64>()
    };
    assert!(in_flight("count") > 0 && in_flight("outlet") > 0, "{record:?}");
    assert!(sentence.contains("were in flight"), "{sentence}");
}

#[test]
fn skew() {
    let stages = Stages {
        row_takes: Arc::new(AtomicU64::new(1)),
        parallelism: 4,
        ..Stages::none()
    };
    let record = staged(&stages, JobStorage::in_memory(), async |job, clock| {
        backpressured(&job, &clock, "lookup").await;
        // What comes behind the barrier takes no time.
        let cut = async {
            under_way(&job).await;
            have_cut(&job, &clock, "count").await;
            stages.row_takes.store(0, Ordering::SeqCst);
        };
        let (taken, ()) = tokio::join!(job.checkpoint_now(), cut);
        taken.unwrap()
    });
    let most = record.subtasks.iter().filter(|subtask| subtask.vertex == "count");
    let most = most.max_by_key(|subtask| subtask.records_in).unwrap();
    let explained = explain(&record);
    let is_busy = |reason: &Reason| matches!(reason, Reason::Busy { operator, skew: Some(skew) } if operator == "count" && skew.has > 3 * skew.median);
    // The rows before it, and those before others that wait for it.
    let pieces = explained.path.iter().filter(|piece| match &piece.reason {
        Reason::Backpressure { by, why } => *by == most.name && is_busy(why),
        reason => piece.subtask == most.name && is_busy(reason),
    });
    let ms: u64 = pieces.map(|piece| piece.ms).sum();
    let sentence = &explained.sentence;
    assert!(ms * 2 > explained.total_ms, "{sentence}");
    assert!(
        sentence.contains(&format!("before {}, which was busy in count with", most.name)),
        "{sentence}"
    );
    assert!(sentence.contains("(skew)"), "{sentence}");
}

#[test]
fn a_slow_store() {
    let door = storage::Door::default();
    let gated = |inner| Arc::new(storage::Gated::new(inner, door.clone())) as Arc<dyn storage::Blob>;
    let storage = JobStorage::in_memory().wrapped(gated, |cas| cas);
    let record = staged(&Stages::none(), storage, async |job, clock| {
        counted(&job, &clock, "count").await;
        let slow = async {
            door.reached(1).await;
            clock.put_forward(LONG);
            door.open();
        };
        let (taken, ()) = tokio::join!(job.checkpoint_now(), slow);
        taken.unwrap()
    });
    let (stage, _, reason, sentence) = main_piece(&record);
    assert_eq!(stage, Stage::Upload, "{sentence}");
    assert!(matches!(reason, Reason::Writer { retries: 0, .. }), "{sentence}");
    assert!(sentence.contains("the store took"), "{sentence}");
}

#[test]
fn a_long_freeze() {
    let stages = Stages {
        barriers: Door::default(),
        ..Stages::none()
    };
    let record = staged(&stages, JobStorage::in_memory(), async |job, clock| {
        let held = async {
            have_cut(&job, &clock, "count").await;
            stages.barriers.0.reached.notified().await;
            wait_outside(&job, &clock, "outlet").await;
        };
        long_checkpoint(&job, &clock, &stages.barriers, held).await
    });
    let (stage, subtask, reason, sentence) = main_piece(&record);
    assert_eq!(
        (stage, subtask.as_str()),
        (Stage::Freeze, "outlet/0"),
        "{sentence}"
    );
    let operator = "outlet".to_owned();
    assert_eq!(reason, Reason::Waits { operator }, "{sentence}");
    assert!(
        sentence.contains("the barrier passed through outlet/0"),
        "{sentence}"
    );
}

/// Whatever subtask it is told of: all of them wait for the one call.
fn assert_one_call(reason: &Reason, sentence: &str) {
    let call = match reason {
        Reason::Slot { why, .. } | Reason::Backpressure { why, .. } => why,
        reason => reason,
    };
    assert!(
        matches!(call, Reason::OneCall { operator, .. } if operator == "lookup"),
        "{sentence}"
    );
    assert!(sentence.contains("inside one call of lookup for"), "{sentence}");
}

#[test]
fn a_blocking_user_function() {
    let stages = Stages {
        lookup: Door::default(),
        ..Stages::none()
    };
    let record = staged(&stages, JobStorage::in_memory(), async |job, clock| {
        stages.lookup.0.reached.notified().await;
        long_checkpoint(&job, &clock, &stages.lookup, async {}).await
    });
    let (stage, _, reason, sentence) = main_piece(&record);
    assert_eq!(stage, Stage::Barrier, "{sentence}");
    assert_one_call(&reason, &sentence);
}

#[test]
fn a_checkpoint_that_expires_tells_of_the_call_that_is_still_under_way() {
    let stages = Stages {
        lookup: Door::default(),
        ..Stages::none()
    };
    let record = staged(&stages, JobStorage::in_memory(), async |job, clock| {
        stages.lookup.0.reached.notified().await;
        let expires = async {
            under_way(&job).await;
            clock.put_forward(Duration::from_secs(100));
            // The master looks at its clock when it hears of something.
            let opens = async {
                let mut seen = job.clone();
                while seen.stats().aborted == 0 {
                    assert!(seen.changed().await);
                }
                stages.lookup.open();
            };
            let (again, ()) = tokio::join!(job.checkpoint_now(), opens);
            again.unwrap()
        };
        let (expired, second) = tokio::join!(job.checkpoint_now(), expires);
        assert!(expired.is_err());
        CheckpointId(second.0 - 1)
    });
    assert!(record.given_up.is_some());
    let (_, _, reason, sentence) = main_piece(&record);
    assert_one_call(&reason, &sentence);
    assert!(sentence.contains("and still is"), "{sentence}");
}

#[test]
fn a_recovery_tells_of_the_state_that_was_read() {
    let real = RealEnv::start().unwrap();
    let env = real.env();
    let storage = JobStorage::in_memory();
    let records = Records::new(storage.history.clone());
    let fails = Arc::new(AtomicBool::new(false));
    let bomb = fails.clone();
    let env_of_job = StreamEnv::new();
    env_of_job
        .generate(50_000, |number| (number % 64, 1u64))
        .uid("source")
        .key_by(|row: &(u64, u64)| row.0)
        .reduce(move |so_far: &(u64, u64), row: (u64, u64)| {
            assert!(!bomb.swap(false, Ordering::SeqCst), "a planned failure");
            (row.0, so_far.1 + row.1)
        })
        .name("count")
        .uid("count")
        .discard();
    let mut spec = spec(env_of_job.build().unwrap(), storage);
    spec.restarts = RestartStrategy::FixedDelay {
        attempts: 3,
        delay: Duration::ZERO,
    };
    let record = real.block_on(async {
        let handle = start(&env, spec).await.unwrap();
        let job = handle.control();
        let taken = loop {
            let taken = job.checkpoint_now().await.unwrap();
            if job
                .stats()
                .checkpoints
                .iter()
                .any(|of| of.id == taken && of.rows > 0)
            {
                break taken;
            }
        };
        fails.store(true, Ordering::SeqCst);
        let mut seen = job.clone();
        while seen.stats().restarts == 0 {
            assert!(seen.changed().await);
        }
        // Taken as soon as the job runs again.
        job.checkpoint_now().await.unwrap();
        handle.cancel();
        handle.wait().await.unwrap();
        let record = records.recovery().await.unwrap();
        assert_eq!(record.from, Some(taken));
        record
    });
    assert!(record.failure.as_ref().unwrap().contains("a planned failure"));
    let moments = [
        record.taken_down,
        Some(record.restarted),
        record.deployed,
        record.opened,
        record.running,
    ];
    assert!(moments.is_sorted() && moments[0].is_some(), "{moments:?}");
    let count = record
        .subtasks
        .iter()
        .find(|subtask| subtask.name.starts_with("count"))
        .unwrap();
    assert!(count.bytes > 0 && count.opened.is_some(), "{count:?}");
    let sentence = explain_recovery(&record);
    assert!(
        sentence.starts_with(&format!(
            "recovery from checkpoint {} after",
            record.from.unwrap()
        )),
        "{sentence}"
    );
}
