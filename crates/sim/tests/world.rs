//! The simulated world: equal seeds give equal runs, crashes take everything that they should, and nothing more.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use rivermark_env::{Env, FileWriter, TaskExit};
use rivermark_sim::{Fault, FileOp, Limits, ProcessStatus, RunEnd, SimWorld};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

const TEN_MS: Duration = Duration::from_millis(10);

/// Runs one process to its end in a world of its own.
fn run<T: 'static>(seed: u64, main: impl AsyncFnOnce(Env) -> T + 'static) -> T {
    let mut world = SimWorld::new(seed);
    let machine = world.machine("m");
    let result = Rc::new(RefCell::new(None));
    let cell = result.clone();
    let process = world.start(&machine, "p", move |env| async move {
        let value = main(env).await;
        cell.borrow_mut().replace(value);
    });
    assert_eq!(world.run_process(process, Limits::default()), RunEnd::Stopped);
    assert_eq!(
        world.status(process),
        Some(&ProcessStatus::Exited(TaskExit::Finished))
    );
    let value = result.borrow_mut().take();
    value.unwrap()
}

async fn append(env: &Env, path: &str, bytes: &[u8]) -> Box<dyn FileWriter> {
    let mut writer = env.files().create_new(Path::new(path)).await.unwrap();
    writer.write(bytes.to_vec()).await.unwrap();
    writer
}

/// Tasks, slots, channels, timers, files and randomness, all at once.
async fn busy(env: Env) {
    let (tell, told) = watch::channel(0u64);
    let (send, mut receive) = mpsc::channel(2);
    let mut tasks = Vec::new();
    for worker in 0..6u64 {
        let (inner, send, mut told) = (env.clone(), send.clone(), told.clone());
        tasks.push(env.spawn_io(&format!("io {worker}"), async move {
            told.wait_for(|&told| told > 0).await.unwrap();
            inner.sleep(Duration::from_millis(inner.random_u64() % 20)).await;
            append(&inner, &format!("/{worker}"), &inner.cost_ns().to_le_bytes()).await;
            send.send(worker).await.unwrap();
        }));
    }
    for slot in 0..3 {
        let inner = env.clone();
        let start = move || -> rivermark_env::LocalBoxFuture<'static, ()> {
            Box::pin(async move {
                for _ in 0..50 {
                    if let Some(point) = inner.step_point() {
                        point.await;
                    }
                }
            })
        };
        tasks.push(env.spawn_slot(&format!("slot {slot}"), start));
    }
    drop(send);
    tell.send_replace(1);
    while receive.recv().await.is_some() {}
    for task in tasks {
        assert_eq!(task.join().await, TaskExit::Finished);
    }
}

fn busy_hash(seed: u64) -> (u64, Vec<String>) {
    let mut world = SimWorld::new(seed);
    world.keep_trace();
    let machine = world.machine("m");
    let process = world.start(&machine, "p", busy);
    assert_eq!(world.run_process(process, Limits::default()), RunEnd::Stopped);
    assert_eq!(
        world.status(process),
        Some(&ProcessStatus::Exited(TaskExit::Finished))
    );
    (world.trace_hash(), world.take_trace())
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    for seed in 0..20 {
        assert_eq!(busy_hash(seed), busy_hash(seed));
    }
    let hashes: BTreeSet<u64> = (0..50).map(|seed| busy_hash(seed).0).collect();
    assert_eq!(hashes.len(), 50);
}

#[test]
fn sleeps_end_in_the_order_of_their_deadlines_and_cost_no_real_time() {
    let order = run(3, async |env| {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for minutes in [5u64, 1, 4, 2, 3] {
            let (inner, order) = (env.clone(), order.clone());
            tasks.push(env.spawn_io("sleeper", async move {
                let before = inner.now();
                inner.sleep(Duration::from_secs(60 * minutes)).await;
                let slept = inner.now().since(before).as_secs();
                assert!((60 * minutes..60 * minutes + 2).contains(&slept), "{slept}");
                order.lock().unwrap().push(minutes);
            }));
        }
        for task in tasks {
            task.join().await;
        }
        order.lock().unwrap().clone()
    });
    assert_eq!(order, [1, 2, 3, 4, 5]);
}

#[test]
fn ready_tasks_run_in_any_order() {
    let first = |seed| {
        run(seed, async |env| {
            let (send, mut receive) = mpsc::channel(8);
            for task in 0..3 {
                let send = send.clone();
                env.spawn_io("racer", async move { send.send(task).await.unwrap() });
            }
            receive.recv().await.unwrap()
        })
    };
    assert_eq!(
        (0..50).map(first).collect::<BTreeSet<i32>>(),
        BTreeSet::from([0, 1, 2])
    );
}

#[test]
fn handles_tell_how_tasks_ended() {
    run(1, async |env| {
        let bad = env.spawn_io("bad", async { panic!("row {}", 3) });
        assert_eq!(bad.join().await, TaskExit::Panicked("row 3".to_owned()));
        let bad = env.spawn_slot("bad", || panic!("at the start"));
        assert_eq!(bad.join().await, TaskExit::Panicked("at the start".to_owned()));
        let owned = Arc::new(());
        let inside = owned.clone();
        let stuck = env.spawn_io("stuck", async move {
            let _inside = inside;
            std::future::pending::<()>().await;
        });
        env.sleep(TEN_MS).await;
        stuck.abort();
        assert_eq!(stuck.join().await, TaskExit::Aborted);
        assert_eq!(Arc::strong_count(&owned), 1);
    });
}

#[test]
fn a_deadlock_names_who_waits() {
    let mut world = SimWorld::new(1);
    let machine = world.machine("m");
    let process = world.start(&machine, "job", |env| async move {
        let stuck = env.spawn_io("gate", std::future::pending());
        stuck.join().await;
    });
    let end = world.run_process(process, Limits::default());
    assert_eq!(
        end,
        RunEnd::Deadlock(vec!["job/main".to_owned(), "job/gate".to_owned()])
    );
}

#[test]
fn runs_end_at_their_limits() {
    let run = |limits| {
        let mut world = SimWorld::new(1);
        let machine = world.machine("m");
        world.start(&machine, "p", |env| async move {
            loop {
                env.sleep(TEN_MS).await;
            }
        });
        world.run(limits, |_| ControlFlow::Continue(()))
    };
    let all = vec!["p/main".to_owned()];
    assert_eq!(
        run(Limits {
            steps: 100,
            ..Limits::default()
        }),
        RunEnd::StepLimit(all.clone())
    );
    assert_eq!(
        run(Limits {
            time: Duration::from_secs(1),
            ..Limits::default()
        }),
        RunEnd::TimeLimit(all)
    );
}

#[test]
fn the_end_of_main_is_the_end_of_the_process() {
    let mut world = SimWorld::new(1);
    let machine = world.machine("m");
    let owned = Arc::new(());
    let inside = owned.clone();
    let process = world.start(&machine, "p", |env| async move {
        env.spawn_io("runs on", async move {
            let _inside = inside;
            std::future::pending::<()>().await;
        });
        env.sleep(TEN_MS).await;
        panic!("main");
    });
    assert_eq!(world.run_process(process, Limits::default()), RunEnd::Stopped);
    let panicked = TaskExit::Panicked("main".to_owned());
    assert_eq!(world.status(process), Some(&ProcessStatus::Exited(panicked)));
    assert_eq!(Arc::strong_count(&owned), 1);
}

/// Kills a process at a given step and returns what its machine has then.
fn killed_at(step: u64, power_loss: bool) -> BTreeMap<String, Vec<u8>> {
    let mut world = SimWorld::new(9);
    let machine = world.machine("m");
    let owned = Arc::new(());
    let inside = owned.clone();
    let process = world.start(&machine, "p", |env| async move {
        let helper = env.clone();
        env.spawn_io("helper", async move {
            let _inside = inside;
            let _open = append(&helper, "/helper", b"never synced").await;
            std::future::pending::<()>().await;
        });
        let mut writer = append(&env, "/new", b"all of it").await;
        writer.sync().await.unwrap();
        env.files()
            .rename(Path::new("/new"), Path::new("/done"))
            .await
            .unwrap();
        env.files().sync_dir(Path::new("/")).await.unwrap();
        std::future::pending::<()>().await;
    });
    world.run(Limits::default(), |world| match world.steps() < step {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(()),
    });
    if power_loss {
        world.power_loss(&machine)
    } else {
        world.kill(process)
    }
    assert_eq!(world.status(process), Some(&ProcessStatus::Killed));
    assert_eq!(Arc::strong_count(&owned), 1, "a killed process owns nothing");
    assert_eq!(
        world.run(Limits::default(), |_| ControlFlow::Continue(())),
        RunEnd::Finished
    );
    machine
        .tree()
        .into_iter()
        .map(|(path, bytes)| (path.display().to_string(), bytes))
        .collect()
}

#[test]
fn a_kill_hits_between_any_two_effects_and_keeps_what_was_written() {
    let seen: BTreeSet<_> = (0..60).map(|step| killed_at(step, false)).collect();
    let has = |test: &dyn Fn(&BTreeMap<String, Vec<u8>>) -> bool| seen.iter().any(test);
    assert!(has(&|tree| tree.is_empty()));
    assert!(
        has(&|tree| tree.get("/new").is_some_and(Vec::is_empty)),
        "created, not written"
    );
    assert!(
        has(&|tree| tree.get("/new").is_some_and(|bytes| bytes == b"all of it")),
        "written, not renamed"
    );
    assert!(
        has(&|tree| tree.get("/done").is_some_and(|bytes| bytes == b"all of it")),
        "renamed"
    );
    assert!(has(&|tree| tree
        .get("/helper")
        .is_some_and(|bytes| bytes == b"never synced")));
    assert!(
        seen.iter()
            .all(|tree| !(tree.contains_key("/new") && tree.contains_key("/done")))
    );
}

#[test]
fn after_the_last_sync_a_power_loss_takes_only_what_was_not_synced() {
    let left = killed_at(1_000, true);
    assert_eq!(left.get("/done").map(Vec::as_slice), Some(&b"all of it"[..]));
    assert!(!left.contains_key("/new"));
}

#[test]
fn each_sync_is_missed_when_it_lies() {
    let lossy = |op: FileOp| {
        (0..200).any(|seed| {
            let mut world = SimWorld::new(seed);
            let machine = world.machine("m");
            machine.lie_about_sync(move |call| call.op == op);
            let process = world.start(&machine, "p", |env| async move {
                append(&env, "/x", b"row").await.sync().await.unwrap();
                env.files().sync_dir(Path::new("/")).await.unwrap();
            });
            world.run_process(process, Limits::default());
            assert_eq!(machine.fault_counts()["file sync lied"], 1);
            world.power_loss(&machine);
            machine.tree().get(Path::new("/x")).map(Vec::as_slice) != Some(b"row")
        })
    };
    assert!(lossy(FileOp::Sync) && lossy(FileOp::SyncDir));
    assert!(!lossy_without_lies());
}

fn lossy_without_lies() -> bool {
    (0..200).any(|seed| {
        let mut world = SimWorld::new(seed);
        let machine = world.machine("m");
        let process = world.start(&machine, "p", |env| async move {
            append(&env, "/x", b"row").await.sync().await.unwrap();
            env.files().sync_dir(Path::new("/")).await.unwrap();
        });
        world.run_process(process, Limits::default());
        world.power_loss(&machine);
        machine.tree().get(Path::new("/x")).map(Vec::as_slice) != Some(b"row")
    })
}

#[test]
fn of_two_processes_that_link_one_name_one_wins() {
    let mut winners = BTreeSet::new();
    for seed in 0..50 {
        let mut world = SimWorld::new(seed);
        let machine = world.machine("m");
        let wins = Rc::new(RefCell::new(Vec::new()));
        for process in ["one", "two"] {
            let wins = wins.clone();
            world.start(&machine, process, move |env| async move {
                let temporary = format!("/{process}");
                append(&env, &temporary, process.as_bytes()).await;
                match env
                    .files()
                    .hard_link(temporary.as_ref(), Path::new("/decision"))
                    .await
                {
                    Ok(()) => wins.borrow_mut().push(process),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::AlreadyExists),
                }
            });
        }
        assert_eq!(
            world.run(Limits::default(), |_| ControlFlow::Continue(())),
            RunEnd::Finished
        );
        let wins = wins.borrow();
        assert_eq!(wins.len(), 1);
        assert_eq!(machine.tree()[Path::new("/decision")], wins[0].as_bytes());
        winners.insert(wins[0]);
    }
    assert_eq!(winners.len(), 2, "either may win");
}

#[test]
fn a_paused_process_goes_on_where_it_was() {
    let mut world = SimWorld::new(4);
    let machine = world.machine("m");
    let ticks = Rc::new(Cell::new(0));
    let count = ticks.clone();
    let process = world.start(&machine, "p", move |env| async move {
        while count.get() < 10 {
            env.sleep(TEN_MS).await;
            count.set(count.get() + 1);
        }
    });
    world.start(&machine, "clock", |env| async move {
        env.sleep(Duration::from_secs(60)).await
    });
    world.run(Limits::default(), |_| match ticks.get() < 3 {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(()),
    });
    world.pause(process);
    let end = world.run(Limits::default(), |_| ControlFlow::Continue(()));
    assert_eq!(
        (end, ticks.get()),
        (RunEnd::Deadlock(vec!["p/main".to_owned()]), 3)
    );
    world.resume(process);
    assert_eq!(
        world.run(Limits::default(), |_| ControlFlow::Continue(())),
        RunEnd::Finished
    );
    assert_eq!(ticks.get(), 10);
}

#[test]
fn planted_faults_fail_delay_and_lose_replies() {
    let mut world = SimWorld::new(4);
    let machine = world.machine("m");
    machine.plant(|call, _| match (call.op, call.path.to_str()) {
        (FileOp::CreateNew, Some("/refused")) => Some(Fault::Fail(ErrorKind::PermissionDenied)),
        (FileOp::CreateNew, Some("/lost")) => Some(Fault::LoseReply(ErrorKind::TimedOut)),
        (FileOp::SyncDir, _) => Some(Fault::Delay(Duration::from_secs(7))),
        _ => None,
    });
    let process = world.start(&machine, "p", |env| async move {
        let files = env.files();
        let refused = files.create_new(Path::new("/refused")).await.err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
        assert_eq!(refused.to_string(), "create /refused: permission denied");
        let lost = files.create_new(Path::new("/lost")).await.err().unwrap();
        assert_eq!(lost.kind(), ErrorKind::TimedOut);
        let before = env.now();
        files.sync_dir(Path::new("/")).await.unwrap();
        assert!(env.now().since(before) >= Duration::from_secs(7));
    });
    world.run_process(process, Limits::default());
    assert_eq!(
        world.status(process),
        Some(&ProcessStatus::Exited(TaskExit::Finished))
    );
    assert_eq!(machine.tree().keys().collect::<Vec<_>>(), [Path::new("/lost")]);
    let counts: Vec<_> = machine.fault_counts().into_iter().collect();
    assert_eq!(
        counts,
        [("file failed", 1), ("file reply lost", 1), ("file slow", 1)]
    );
}

#[test]
fn a_new_process_finds_the_files_of_a_killed_one() {
    let mut world = SimWorld::new(6);
    let machine = world.machine("m");
    machine.put_file("/in/rows", "a\nb\n").unwrap();
    let first = world.start(&machine, "first", |env| async move {
        env.files().create_dir_all(Path::new("/out/deep")).await.unwrap();
        append(&env, "/out/deep/x", b"1").await;
        std::future::pending::<()>().await;
    });
    world.run(Limits::default(), |_| ControlFlow::Continue(()));
    world.kill(first);
    let second = world.start(&machine, "second", |env| async move {
        let files = env.files();
        let names = files.list(Path::new("/out/deep")).await.unwrap();
        assert_eq!(
            names
                .iter()
                .map(|entry| (entry.name.as_str(), entry.len))
                .collect::<Vec<_>>(),
            [("x", 1)]
        );
        let mut rows = files.open(Path::new("/in/rows")).await.unwrap();
        assert_eq!(rows.read_at(2, 100).await.unwrap(), b"b\n");
    });
    world.run_process(second, Limits::default());
    assert_eq!(
        world.status(second),
        Some(&ProcessStatus::Exited(TaskExit::Finished))
    );
}

#[test]
fn wall_clocks_jump_both_ways_and_the_monotonic_one_never_back() {
    run(2, async |env| {
        let (mut forth, mut back) = (false, false);
        let mut last = (env.now(), env.wall_clock());
        for _ in 0..500 {
            env.sleep(Duration::from_millis(1)).await;
            let next = (env.now(), env.wall_clock());
            assert!(next.0 >= last.0);
            forth |= next.1.0 > last.1.0 + 60_000;
            back |= next.1.0 < last.1.0;
            last = next;
        }
        assert!(forth && back);
    });
}
