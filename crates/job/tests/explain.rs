//! Staged situations: a checkpoint takes ten seconds of a clock that only the test moves, for one reason, and that is the one that is
//! told. Nothing is measured against real time.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod stage;

use rivermark_env::RealEnv;
use rivermark_job::explain::{CheckpointRecord, Reason, Stage, explain, explain_recovery};
use rivermark_job::history::Records;
use rivermark_job::{JobStorage, start};
use rivermark_protocol::restart::RestartStrategy;
use rivermark_runtime::metrics::SubtaskCounters;
use rivermark_storage as storage;
use rivermark_stream::StreamEnv;
use rivermark_types::CheckpointId;
use stage::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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
        backpressured(&job, &clock, "generator").await;
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
        backpressured(&job, &clock, "generator").await;
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
        counter: Door::default(),
        slow_rows: 500,
        rows: Some(800),
        parallelism: 4,
        ..Stages::none()
    };
    let record = staged(&stages, JobStorage::in_memory(), async |job, clock| {
        let taken = |of: &SubtaskCounters| Some(of.records_in.load(Ordering::Relaxed)) == stages.rows;
        until_all(&job, &clock, "lookup", taken).await;
        // When all others have cut, what is queued before one of the counters takes its time, and nothing else does.
        let cut = async {
            under_way(&job).await;
            until_cut(&job, &clock, "count", 3).await;
            stages.counter.open();
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
            stages.barriers.somebody_came().await;
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
        stages.lookup.somebody_came().await;
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
        stages.lookup.somebody_came().await;
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
