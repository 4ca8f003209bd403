//! The real world keeps the promises that the seams write down.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use bytes::Bytes;
use rivermark_env::{Env, RealEnv, TaskExit};
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

fn with_env<T>(test: impl AsyncFnOnce(Env) -> T) -> T {
    let real = RealEnv::start().unwrap();
    real.block_on(test(real.env()))
}

#[test]
fn files_write_read_list_and_refuse() {
    let dir = tempfile::tempdir().unwrap();
    with_env(async |env| {
        let files = env.files();
        let folder = dir.path().join("a/b");
        files.create_dir_all(&folder).await.unwrap();
        files.create_dir_all(&folder).await.unwrap();
        let path = folder.join("rows");
        let mut writer = files.create_new(&path).await.unwrap();
        writer.write(b"hello ".to_vec()).await.unwrap();
        writer.write(b"world".to_vec()).await.unwrap();
        writer.sync().await.unwrap();
        files.sync_dir(&folder).await.unwrap();

        let mut reader = files.open(&path).await.unwrap();
        assert_eq!(reader.read_at(6, 100).await.unwrap(), b"world");
        assert_eq!(reader.read_at(0, 5).await.unwrap(), b"hello");
        assert_eq!(reader.read_at(11, 5).await.unwrap(), b"");
        assert_eq!(reader.read_at(99, usize::MAX).await.unwrap(), b"");

        let taken = files.create_new(&path).await.err().unwrap();
        assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
        assert!(
            taken.to_string().contains("create ") && taken.to_string().contains("a/b/rows"),
            "{taken}"
        );
        let second = folder.join("second");
        files.hard_link(&path, &second).await.unwrap();
        assert_eq!(
            files.hard_link(&path, &second).await.unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        let names: Vec<_> = files
            .list(&folder)
            .await
            .unwrap()
            .into_iter()
            .map(|e| (e.name, e.len))
            .collect();
        assert_eq!(names, [("rows".to_owned(), 11), ("second".to_owned(), 11)]);

        files.rename(&second, &path).await.unwrap();
        files.remove_file(&path).await.unwrap();
        assert!(files.metadata(&path).await.unwrap().is_none());
        assert!(files.metadata(&folder).await.unwrap().unwrap().is_dir);
        assert_eq!(
            files.remove_file(&path).await.unwrap_err().kind(),
            ErrorKind::NotFound
        );
        assert_eq!(files.open(&path).await.err().unwrap().kind(), ErrorKind::NotFound);
        assert_eq!(
            files.open(&folder).await.err().unwrap().kind(),
            ErrorKind::IsADirectory
        );
    });
}

/// Large writes take another way, for the part of them that lies on the blocks of the device.
#[test]
fn large_and_small_writes_follow_each_other_without_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    with_env(async |env| {
        let path = dir.path().join("large");
        let mut writer = env.files().create_new(&path).await.unwrap();
        let mut written = Vec::new();
        let calls: [&[usize]; 7] = [
            &[1 << 20, 3 << 20],
            // Memory of this size lies on sectors, as soon as its start does.
            &[1 << 20, 512 * 3, 512 * 5, 1 << 20, 512 * 3, 4096],
            &[0, 700_001, 1, 2_500_000, 4095],
            &[3],
            &[2_000_000, 5],
            &[8192 - 4098 - 3],
            &[1 << 21],
        ];
        for lens in calls {
            let mut parts = Vec::new();
            for len in lens {
                let part: Vec<u8> = (0..*len).map(|at| (at * 31 + written.len()) as u8).collect();
                written.extend_from_slice(&part);
                // Where it starts by chance depends on the allocator.
                let mut place = vec![0; part.len() + 512];
                let start = place.as_ptr().align_offset(512).min(512);
                place[start..start + part.len()].copy_from_slice(&part);
                parts.push(Bytes::from(place).slice(start..start + part.len()));
            }
            writer.write_parts(parts).await.unwrap();
            let len = env.files().metadata(&path).await.unwrap().unwrap().len;
            assert_eq!(len, written.len() as u64, "after a call with {lens:?}");
        }
        writer.sync().await.unwrap();
        let mut reader = env.files().open(&path).await.unwrap();
        assert!(reader.read_at(0, usize::MAX).await.unwrap() == written);
    });
}

#[test]
fn renaming_one_of_two_names_of_a_file_onto_the_other_is_no_loss() {
    let dir = tempfile::tempdir().unwrap();
    with_env(async |env| {
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        env.files()
            .create_new(&a)
            .await
            .unwrap()
            .write(vec![7])
            .await
            .unwrap();
        env.files().hard_link(&a, &b).await.unwrap();
        env.files().rename(&a, &b).await.unwrap();
        assert_eq!(env.files().metadata(&b).await.unwrap().unwrap().len, 1);
    });
}

#[test]
fn handles_tell_how_tasks_ended() {
    with_env(async |env| {
        assert_eq!(env.spawn_io("fine", async {}).join().await, TaskExit::Finished);
        let slot = env.spawn_slot("slot", || {
            let local = Rc::new(7);
            Box::pin(async move { assert_eq!(*local, 7) })
        });
        assert_eq!(slot.join().await, TaskExit::Finished);
        let bad = env.spawn_io("bad", async { panic!("row {}", 3) });
        assert_eq!(bad.join().await, TaskExit::Panicked("row 3".to_owned()));
        let bad = env.spawn_slot("bad", || panic!("at the start"));
        assert_eq!(bad.join().await, TaskExit::Panicked("at the start".to_owned()));
    });
}

#[test]
fn an_aborted_task_drops_what_it_owns_before_join_returns() {
    with_env(async |env| {
        let owned = Arc::new(());
        let inside = owned.clone();
        let task = env.spawn_io("waits", async move {
            let _inside = inside;
            std::future::pending::<()>().await;
        });
        task.abort();
        assert_eq!(task.join().await, TaskExit::Aborted);
        assert_eq!(Arc::strong_count(&owned), 1);
    });
}

#[test]
fn a_slot_waits_for_timers_and_messages_of_other_threads() {
    with_env(async |env| {
        let (send, receive) = oneshot::channel();
        let inner = env.clone();
        let before = env.cost_ns();
        let slot = env.spawn_slot("slot", move || {
            Box::pin(async move {
                inner.sleep(Duration::from_millis(1)).await;
                assert_eq!(receive.await, Ok(5));
            })
        });
        env.spawn_io("sender", async move { send.send(5).unwrap() });
        assert_eq!(slot.join().await, TaskExit::Finished);
        assert!(env.cost_ns() - before >= 1_000_000);
        assert_ne!(env.random_u64(), env.random_u64());
        assert!(env.step_point().is_none());
    });
}

#[test]
fn dropping_the_world_does_not_wait_for_its_tasks() {
    let real = RealEnv::start().unwrap();
    let stuck = real.env().spawn_io("stuck", std::future::pending());
    drop(real);
    assert_eq!(
        RealEnv::start().unwrap().block_on(stuck.join()),
        TaskExit::Aborted
    );
}

#[test]
fn a_task_may_hold_the_last_env() {
    let real = RealEnv::start().unwrap();
    let env = real.env();
    let go = Arc::new(Notify::new());
    let wait = go.clone();
    let task = real.env().spawn_io("last", async move {
        wait.notified().await;
        drop(env);
    });
    drop(real);
    go.notify_one();
    let exit = RealEnv::start().unwrap().block_on(task.join());
    assert!(matches!(exit, TaskExit::Finished | TaskExit::Aborted), "{exit:?}");
}
