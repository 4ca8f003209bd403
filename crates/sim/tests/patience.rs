//! A start waits for a store that is away as long as a restore does, and then says what it waited for.
#![allow(clippy::unwrap_used, reason = "a test may")]

use rivermark_env::Env;
use rivermark_job::{JobEnd, JobSpec, JobStorage, StartFrom, StartOptions, start};
use rivermark_runtime::{Program, seams::NoSeams};
use rivermark_sim::{Limits, Machine, RunEnd, SimWorld};
use rivermark_storage::{Fault, Faults, Faulty, Operation};
use rivermark_stream::{CollectSink, Collected, StreamEnv};
use rivermark_types::{ErrorKind, JobName, Result};
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

fn program() -> Program {
    let env = StreamEnv::new();
    env.from_collection(vec![1u64, 2, 3])
        .uid("numbers")
        .sink_to(CollectSink::new(Collected::default()))
        .uid("sink");
    env.build().unwrap()
}

/// Runs the job in a process of its own until it ends or is cancelled after its start; gives its end, and how long the start took.
fn run(
    world: &mut SimWorld,
    disk: &Machine,
    plan: impl Fn(Operation, Duration) -> Option<Fault> + Send + Sync + 'static,
    and_then: fn(&rivermark_job::JobHandle),
) -> (Result<JobEnd>, Duration) {
    let told = Rc::new(RefCell::new(None));
    let tell = told.clone();
    let process = world.start(disk, "p", move |env| async move {
        let began = env.now();
        let end = match begin(&env, plan).await {
            Ok(handle) => {
                let took = env.now().since(began);
                and_then(&handle);
                (handle.wait().await, took)
            }
            Err(failure) => (Err(failure), env.now().since(began)),
        };
        *tell.borrow_mut() = Some(end);
    });
    let limits = Limits {
        steps: 1_000_000,
        time: 120 * MINUTE,
    };
    assert_eq!(world.run_process(process, limits), RunEnd::Stopped);
    told.borrow_mut().take().unwrap()
}

async fn begin(
    env: &Env,
    plan: impl Fn(Operation, Duration) -> Option<Fault> + Send + Sync + 'static,
) -> Result<rivermark_job::JobHandle> {
    let name = JobName::from("patience");
    let (clock, began) = (env.clone(), env.now());
    let faults = Faults::new(env.clone(), move |operation| {
        plan(operation, clock.now().since(began))
    });
    let of_blob = faults.clone();
    let storage = JobStorage::in_dir(env, Path::new("/state"), &name)
        .await?
        .wrapped(
            |blob| Arc::new(Faulty::new(blob, of_blob)),
            |cas| Arc::new(Faulty::new(cas, faults)),
        );
    let spec = JobSpec {
        name,
        program: program(),
        chaining: true,
        storage,
        options: StartOptions {
            from: StartFrom::Latest,
            ..StartOptions::default()
        },
        checkpoints: Default::default(),
        restarts: Default::default(),
        limits: Default::default(),
        writer: Default::default(),
        seams: Arc::new(NoSeams),
    };
    start(env, spec).await
}

/// A world, and in it a disk with a job that was stopped at a checkpoint.
fn stopped() -> (SimWorld, Machine) {
    let mut world = SimWorld::new(1);
    let disk = world.machine("disk");
    let (end, took) = run(&mut world, &disk, |_, _| None, |handle| handle.stop());
    assert!(matches!(end, Ok(JobEnd::Stopped(_))), "{end:?}");
    assert!(took < MINUTE);
    (world, disk)
}

/// What a start asks of the store, and the words for it.
const ASKED: [(Operation, &str); 3] = [
    (Operation::Head, "reading the newest decision"),
    (Operation::Get, "reading g1"),
    (Operation::CompareAndSet, "generation 2 of job \"patience\""),
];

#[test]
fn a_start_waits_for_a_store_that_comes_back_within_a_quarter_of_an_hour() {
    for (operation, what) in ASKED {
        let (mut world, disk) = stopped();
        let away = move |asked, since| (asked == operation && since < 14 * MINUTE).then_some(Fault::Failed);
        let (end, took) = run(&mut world, &disk, away, |_| ());
        assert_eq!(end.unwrap(), JobEnd::Finished, "{what}");
        assert!((14 * MINUTE..16 * MINUTE).contains(&took), "{what}: {took:?}");
    }
}

#[test]
fn a_start_gives_up_after_a_quarter_of_an_hour_and_says_what_it_waited_for() {
    for (operation, what) in ASKED {
        let (mut world, disk) = stopped();
        let away = move |asked, _| (asked == operation).then_some(Fault::Hangs { done: false });
        let (end, took) = run(&mut world, &disk, away, |_| ());
        let failure = end.unwrap_err();
        assert_eq!(failure.kind, ErrorKind::Retry, "{failure}");
        assert!(
            failure.message.contains(what) && failure.message.contains("tried for 15 minutes"),
            "{failure}"
        );
        assert!((15 * MINUTE..17 * MINUTE).contains(&took), "{what}: {took:?}");
        // Nobody is fenced by it, and nothing is lost.
        let (end, _) = run(&mut world, &disk, |_, _| None, |_| ());
        assert_eq!(end.unwrap(), JobEnd::Finished, "{what}");
    }
}
