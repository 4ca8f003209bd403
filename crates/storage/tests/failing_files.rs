//! The local stores over files that fail: at every call in turn, before and after it took effect; and what of their
//! files a loss of power would take when they say that a write is durable.
#![allow(clippy::unwrap_used, reason = "test helpers fail their test")]

use bytes::Bytes;
use rivermark_env::{
    BoxFuture, DirEntry, Env, FileMeta, FileReader, FileWriter, Files, LocalBoxFuture, Net, Platform,
    RealEnv, SlotStart, TaskHandle,
};
use rivermark_storage::{Blob, BlobKey, Cas, CasOutcome, LocalBlob, LocalCas};
use rivermark_types::{Millis, Timestamp};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the file seam was asked and how it is to fail.
#[derive(Default)]
struct Script {
    calls: usize,
    /// The number of the call that fails, and whether it takes effect nevertheless.
    failing: Option<(usize, bool)>,
    /// All calls whose name contains this fail.
    broken: Option<&'static str>,
    /// What happens elsewhere just before the next link is made.
    before_link: Option<BoxFuture<'static, ()>>,
    /// Files with bytes, and names, that a loss of power may take.
    unsynced: BTreeSet<PathBuf>,
    unsynced_names: BTreeSet<PathBuf>,
}

#[derive(Clone)]
struct FailingFiles {
    files: Arc<dyn Files>,
    script: Arc<Mutex<Script>>,
}

impl FailingFiles {
    async fn pass<T>(&self, name: &str, call: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let (fails, takes_effect) = {
            let mut script = self.script.lock().unwrap();
            let number = script.calls;
            script.calls += 1;
            let broken = script.broken.is_some_and(|broken| name.contains(broken));
            match script.failing {
                Some((failing, takes_effect)) if failing == number => (true, takes_effect),
                _ => (broken, false),
            }
        };
        if fails && !takes_effect {
            return Err(io::Error::other(format!("{name} failed")));
        }
        let done = call.await;
        if fails {
            Err(io::Error::other(format!("{name} failed")))
        } else {
            done
        }
    }

    fn note(&self, note: impl FnOnce(&mut Script)) {
        note(&mut self.script.lock().unwrap());
    }
}

impl Files for FailingFiles {
    fn open<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Box<dyn FileReader>>> {
        Box::pin(self.pass("open", self.files.open(path)))
    }
    fn create_new<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Box<dyn FileWriter>>> {
        Box::pin(self.pass("create_new", async move {
            let writer = self.files.create_new(path).await?;
            self.note(|script| script.unsynced_names.extend([path.to_owned()]));
            let writer = FailingWriter {
                writer,
                path: path.to_owned(),
                files: self.clone(),
            };
            Ok(Box::new(writer) as Box<dyn FileWriter>)
        }))
    }
    fn rename<'a>(&'a self, from: &'a Path, to: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(self.pass("rename", self.files.rename(from, to)))
    }
    fn hard_link<'a>(&'a self, from: &'a Path, to: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(self.pass("hard_link", async move {
            let meanwhile = self.script.lock().unwrap().before_link.take();
            if let Some(meanwhile) = meanwhile {
                meanwhile.await;
            }
            self.files.hard_link(from, to).await?;
            self.note(|script| {
                assert!(
                    !script.unsynced.contains(from),
                    "{from:?} got its name before its bytes were synced"
                );
                script.unsynced_names.insert(to.to_owned());
            });
            Ok(())
        }))
    }
    fn remove_file<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(self.pass("remove_file", self.files.remove_file(path)))
    }
    fn remove_dir<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(self.pass("remove_dir", self.files.remove_dir(path)))
    }
    fn create_dir_all<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(self.pass("create_dir_all", async move {
            let missing: Vec<PathBuf> = path
                .ancestors()
                .filter(|dir| !dir.exists())
                .map(Path::to_owned)
                .collect();
            self.note(|script| script.unsynced_names.extend(missing));
            self.files.create_dir_all(path).await
        }))
    }
    fn sync_dir<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(self.pass("sync_dir", async move {
            self.files.sync_dir(path).await?;
            self.note(|script| script.unsynced_names.retain(|name| name.parent() != Some(path)));
            Ok(())
        }))
    }
    fn list<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Vec<DirEntry>>> {
        Box::pin(self.pass("list", self.files.list(path)))
    }
    fn metadata<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Option<FileMeta>>> {
        Box::pin(self.pass("metadata", self.files.metadata(path)))
    }
}

struct FailingWriter {
    writer: Box<dyn FileWriter>,
    path: PathBuf,
    files: FailingFiles,
}

impl FileWriter for FailingWriter {
    fn write_parts(&mut self, parts: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>> {
        self.files
            .note(|script| script.unsynced.extend([self.path.clone()]));
        Box::pin(self.files.pass("write", self.writer.write_parts(parts)))
    }
    fn sync(&mut self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            self.files.pass("sync", self.writer.sync()).await?;
            self.files
                .note(|script| assert!(script.unsynced.remove(&self.path)));
            Ok(())
        })
    }
}

/// The real world with other files.
struct World {
    env: Env,
    files: Arc<dyn Files>,
}

impl Platform for World {
    fn now(&self) -> Millis {
        self.env.now()
    }
    fn wall_clock(&self) -> Timestamp {
        self.env.wall_clock()
    }
    fn cost_ns(&self) -> u64 {
        self.env.cost_ns()
    }
    fn random_u64(&self) -> u64 {
        self.env.random_u64()
    }
    fn spawn_io(&self, name: &str, future: BoxFuture<'static, ()>) -> TaskHandle {
        self.env.spawn_io(name, future)
    }
    fn spawn_slot(&self, name: &str, start: SlotStart) -> TaskHandle {
        self.env.spawn_slot(name, start)
    }
    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        self.env.sleep(wait)
    }
    fn step_point(&self) -> Option<LocalBoxFuture<'static, ()>> {
        self.env.step_point()
    }
    fn files(&self) -> &Arc<dyn Files> {
        &self.files
    }
    fn net(&self) -> &Arc<dyn Net> {
        self.env.net()
    }
}

/// Runs a test in a fresh directory over files that its script makes fail.
fn over_failing_files<F: Future>(test: impl FnOnce(Env, PathBuf, FailingFiles) -> F) -> F::Output {
    let world = RealEnv::start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let files = FailingFiles {
        files: Arc::clone(world.env().files()),
        script: Arc::default(),
    };
    let env = Env::new(Arc::new(World {
        env: world.env(),
        files: Arc::new(files.clone()),
    }));
    world.block_on(test(env, dir.path().join("new/root"), files))
}

fn value(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn is_committed(outcome: &CasOutcome, expected: u64) -> bool {
    matches!(outcome, CasOutcome::Committed { version } if *version == expected)
}

impl FailingFiles {
    /// From now on the call of this number fails.
    fn arm(&self, number: usize, takes_effect: bool) {
        self.note(|script| (script.calls, script.failing) = (0, Some((number, takes_effect))));
    }

    /// All calls succeed again; whether the failing one was reached.
    fn disarm(&self) -> bool {
        let mut script = self.script.lock().unwrap();
        script.broken = None;
        script
            .failing
            .take()
            .is_some_and(|(number, _)| number < script.calls)
    }

    /// Everything that a loss of power may take, but for temporaries.
    fn at_risk(&self) -> Vec<PathBuf> {
        let script = self.script.lock().unwrap();
        let names = script
            .unsynced_names
            .iter()
            .filter(|name| !name.to_string_lossy().contains(".tmp-"));
        names.cloned().collect()
    }
}

/// Runs a test with every call of its operation failing in turn, before and after it took effect. The test arms and
/// disarms, and says whether the failing call was reached.
fn at_every_call(least: usize, test: impl AsyncFn(Env, PathBuf, FailingFiles, usize, bool) -> bool) {
    for takes_effect in [false, true] {
        let mut number = 0;
        while over_failing_files(|env, root, files| test(env, root, files, number, takes_effect)) {
            number += 1;
        }
        assert!(number >= least, "only {number} calls were made");
    }
}

#[test]
fn a_decision_is_settled_by_repetition_after_any_failed_call() {
    at_every_call(7, async |env, root, files, number, takes_effect| {
        let cas = LocalCas::open(&env, &root).await.unwrap();
        for expected in [
            None,
            Some(1),
            Some(2),
            Some(3),
            Some(4),
            Some(5),
            Some(6),
            Some(7),
        ] {
            assert!(is_committed(
                &cas.compare_and_set(expected, value("v")).await,
                expected.unwrap_or(0) + 1
            ));
        }
        files.arm(number, takes_effect);
        let outcome = cas.compare_and_set(Some(8), value("w")).await;
        let reached = files.disarm();
        let head = LocalCas::open(&env, &root)
            .await
            .unwrap()
            .head()
            .await
            .unwrap()
            .unwrap();
        match outcome {
            CasOutcome::Committed { version } => assert_eq!((version, head.version), (9, 9)),
            CasOutcome::NotWritten(_) => assert_eq!(head.version, 8, "what was not written is there"),
            CasOutcome::Unknown(_) => assert!(reached),
            CasOutcome::Conflict(_) => panic!("nobody else wrote"),
        }
        let repeated = cas.compare_and_set(Some(8), value("w")).await;
        assert!(is_committed(&repeated, 9), "{repeated:?}");
        assert_eq!(files.at_risk(), Vec::<PathBuf>::new());
        reached
    });
}

#[test]
fn an_object_is_put_and_deleted_by_repetition_after_any_failed_call() {
    let key = BlobKey::new("g1/a0/x").unwrap();
    at_every_call(10, async |env, root, files, number, takes_effect| {
        let blob = LocalBlob::open(&env, &root).await.unwrap();
        files.arm(number, takes_effect);
        let put = blob.put(&key, vec![value("content")]).await;
        if put.is_ok() {
            assert_eq!(files.at_risk(), Vec::<PathBuf>::new());
        }
        let deleted = blob.delete(&key).await;
        let reached = files.disarm();
        let found = blob.list("").await.unwrap();
        assert!(deleted.is_err() || found.is_empty(), "a deleted object shows");
        assert!(
            found.iter().all(|entry| entry.len == 7),
            "a part of an object shows"
        );
        blob.put(&key, vec![value("content")]).await.unwrap();
        assert_eq!(files.at_risk(), Vec::<PathBuf>::new());
        assert_eq!(blob.get(&key).await.unwrap(), "content");
        blob.delete(&key).await.unwrap();
        LocalBlob::open(&env, &root)
            .await
            .unwrap()
            .sweep_temporaries()
            .await
            .unwrap();
        assert!(!root.join("g1").exists(), "something is left");
        reached
    });
}

#[test]
fn a_doubtful_decision_stays_unknown_until_the_directory_answers() {
    over_failing_files(|env, root, files| async move {
        let cas = LocalCas::open(&env, &root).await.unwrap();
        // Linked but not durable, then not even legible: nothing here may say `NotWritten`.
        for broken in ["sync_dir", "sync_dir", "list", "open"] {
            files.note(|script| script.broken = Some(broken));
            let outcome = cas.compare_and_set(None, value("v")).await;
            assert!(matches!(outcome, CasOutcome::Unknown(_)), "{broken}: {outcome:?}");
        }
        files.note(|script| script.broken = Some("sync_dir"));
        let reader = LocalCas::open(&env, &root).await;
        assert!(
            reader.is_err(),
            "a store was opened without its directory being durable"
        );
        assert!(cas.head().await.is_err(), "a head that power may take was shown");
        files.disarm();
        assert!(!files.at_risk().is_empty());
        assert_eq!(cas.head().await.unwrap().unwrap().version, 1);
        assert_eq!(files.at_risk(), Vec::<PathBuf>::new());
        assert!(is_committed(&cas.compare_and_set(None, value("v")).await, 1));
    });
}

#[test]
fn a_write_that_fails_for_lack_of_room_leaves_nothing() {
    over_failing_files(|env, root, files| async move {
        let blob = LocalBlob::open(&env, &root).await.unwrap();
        let cas = LocalCas::open(&env, &root).await.unwrap();
        files.note(|script| script.broken = Some("write"));
        blob.put(&BlobKey::new("g1/x").unwrap(), vec![value("x")])
            .await
            .unwrap_err();
        let outcome = cas.compare_and_set(None, value("v")).await;
        assert!(matches!(outcome, CasOutcome::NotWritten(_)), "{outcome:?}");
        files.disarm();
        let left = |dir: &Path| {
            std::fs::read_dir(dir)
                .unwrap()
                .filter(|e| e.as_ref().unwrap().path().is_file())
                .count()
        };
        assert_eq!((left(&root), left(&root.join("g1"))), (0, 0));
    });
}

#[test]
fn a_writer_that_sleeps_before_its_link_does_not_revive_a_pruned_version() {
    over_failing_files(|env, root, files| async move {
        let stale = LocalCas::open(&env, &root).await.unwrap();
        let lively = LocalCas::open(&env, &root).await.unwrap();
        assert!(is_committed(&stale.compare_and_set(None, value("v")).await, 1));
        let many = async move {
            for expected in 1..13 {
                assert!(is_committed(
                    &lively.compare_and_set(Some(expected), value("v")).await,
                    expected + 1
                ));
            }
        };
        files.note(|script| script.before_link = Some(Box::pin(many)));
        let outcome = stale.compare_and_set(Some(1), value("late")).await;
        assert!(
            matches!(&outcome, CasOutcome::Conflict(Some(head)) if head.version == 13),
            "{outcome:?}"
        );
        assert!(
            !root.join("decision-00000000000000000002").exists(),
            "the late version stayed"
        );
        assert_eq!(stale.head().await.unwrap().unwrap().version, 13);
    });
}
