//! The commit operator: the restore gate, what a snapshot lists and for how long, and how a writer's failure is heard.

#![allow(clippy::unwrap_used, reason = "tests")]

mod bench;

use bench::{Bench, barrier};
use rivermark_connector::{CollectSink, Collected, CommitNode, Sink, TwoPhaseSink};
use rivermark_env::{Env, RealEnv};
use rivermark_runtime::{Lists, NodeBody, OperatorEvent, OperatorFactory, SinkPhase, SubtaskInfo, TaskEvent};
use rivermark_types::{CheckpointId, ErrorKind, Failure, Result, SnapshotKind};
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;

fn node(collected: &Collected<u64>) -> Arc<dyn OperatorFactory> {
    Arc::new(CommitNode::new(CollectSink::new(collected.clone())))
}

const NOTHING: [u64; 0] = [];

fn listed(lists: &Lists) -> Vec<u64> {
    let entries = lists.get("committables").map(Vec::as_slice).unwrap_or_default();
    entries
        .iter()
        .map(|entry| entry["checkpoint"].as_u64().unwrap())
        .collect()
}

fn start(env: &Env, node: &Arc<dyn OperatorFactory>, attempt: u32, lists: Option<Lists>) -> Bench {
    Bench::new(env, NodeBody::Operator(node.clone()), Bench::info(attempt), lists).unwrap()
}

#[test]
fn a_row_waits_for_the_gate() {
    let world = RealEnv::start().unwrap();
    let (env, collected) = (world.env(), Collected::default());
    world.block_on(async {
        let mut bench = start(&env, &node(&collected), 1, None);
        bench.push(vec![1u64]);
        assert!(bench.waits().unwrap());
        bench.expect_phase(SinkPhase::Recommitted).await;
        assert!(bench.waits().unwrap());
        bench.event(OperatorEvent::AbortUnlisted).unwrap();
        bench.expect_phase(SinkPhase::UnlistedAborted).await;
        assert!(bench.waits().unwrap());
        bench.event(OperatorEvent::OpenGate).unwrap();
        assert!(!bench.waits().unwrap());
    });
}

#[test]
fn what_is_prepared_is_listed_until_it_is_committed() {
    use SnapshotKind::{Checkpoint, Final, Savepoint};
    let world = RealEnv::start().unwrap();
    let (env, collected) = (world.env(), Collected::default());
    world.block_on(async {
        let mut bench = start(&env, &node(&collected), 1, None);
        bench.open_gate().await.unwrap();
        bench.push(vec![1u64]);
        assert_eq!(
            listed(&bench.snapshot(barrier(1, Checkpoint)).await.unwrap()),
            [1]
        );
        bench.push(vec![2u64]);
        assert_eq!(
            listed(&bench.snapshot(barrier(2, Checkpoint)).await.unwrap()),
            [1, 2]
        );
        assert!(collected.is_empty());
        // The first is never decided: it goes with the next that is.
        bench.event(OperatorEvent::Aborted(CheckpointId(1))).unwrap();
        bench.push(vec![3u64]);
        assert_eq!(
            listed(&bench.snapshot(barrier(3, Savepoint)).await.unwrap()),
            [1, 2, 3]
        );
        bench.event(OperatorEvent::Committed(CheckpointId(2))).unwrap();
        bench.expect_phase(SinkPhase::Committed(CheckpointId(2))).await;
        assert_eq!(collected.rows(), [1, 2]);
        // The savepoint's rows become visible with the next checkpoint. One without rows lists nothing of its own.
        assert_eq!(
            listed(&bench.snapshot(barrier(4, Checkpoint)).await.unwrap()),
            [3]
        );
        bench.event(OperatorEvent::Committed(CheckpointId(4))).unwrap();
        bench.event(OperatorEvent::Committed(CheckpointId(4))).unwrap();
        bench.expect_phase(SinkPhase::Committed(CheckpointId(4))).await;
        bench.expect_phase(SinkPhase::Committed(CheckpointId(4))).await;
        assert_eq!(collected.rows(), [1, 2, 3]);
        assert_eq!(listed(&bench.snapshot(barrier(5, Final)).await.unwrap()), NOTHING);
    });
}

#[test]
fn a_restore_commits_what_the_checkpoint_lists_and_aborts_the_rest() {
    let world = RealEnv::start().unwrap();
    let (env, collected) = (world.env(), Collected::default());
    world.block_on(async {
        let node = node(&collected);
        let mut bench = start(&env, &node, 1, None);
        bench.open_gate().await.unwrap();
        bench.push(vec![1u64, 2]);
        let mut lists = bench
            .snapshot(barrier(1, SnapshotKind::Checkpoint))
            .await
            .unwrap();
        bench.push(vec![3u64]);
        bench
            .snapshot(barrier(2, SnapshotKind::Checkpoint))
            .await
            .unwrap();
        bench.push(vec![4u64]);
        bench.drain().await.unwrap();
        drop(bench);
        for attempt in [2, 3] {
            let mut bench = start(&env, &node, attempt, Some(lists.clone()));
            bench.expect_phase(SinkPhase::Recommitted).await;
            assert_eq!(collected.rows(), [1, 2]);
            bench.event(OperatorEvent::AbortUnlisted).unwrap();
            bench.expect_phase(SinkPhase::UnlistedAborted).await;
            assert_eq!(collected.open_transactions(), 0);
            assert_eq!(
                listed(
                    &bench
                        .snapshot(barrier(3, SnapshotKind::Checkpoint))
                        .await
                        .unwrap()
                ),
                NOTHING
            );
        }
        lists.insert(
            "committables".into(),
            vec![serde_json::json!({"checkpoint": 1, "committable": 7})],
        );
        let failure = Bench::new(&env, NodeBody::Operator(node), Bench::info(4), Some(lists))
            .err()
            .unwrap();
        assert_eq!(failure.kind, ErrorKind::Invalid);
    });
}

/// A sink whose writer does what the test tells it to.
#[derive(Clone)]
struct Puppet {
    /// A permit lets one `write` begin.
    may_write: Arc<Semaphore>,
    /// A permit lets one `commit` of something be done.
    may_commit: Arc<Semaphore>,
    /// A permit for every `write` that has begun.
    began: Arc<Semaphore>,
    log: Arc<Mutex<Vec<String>>>,
    ending: Ending,
    /// A permit for every writer that begins to go ...
    going: Arc<Semaphore>,
    /// ... which it does while nobody holds this.
    may_go: Arc<Mutex<()>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Ending {
    Well,
    Fails,
    Panics,
}

impl Puppet {
    fn new(ending: Ending) -> Puppet {
        Puppet {
            may_write: Arc::new(Semaphore::new(0)),
            may_commit: Arc::new(Semaphore::new(0)),
            began: Arc::new(Semaphore::new(0)),
            log: Arc::default(),
            ending,
            going: Arc::new(Semaphore::new(0)),
            may_go: Arc::default(),
        }
    }
    fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

impl Sink for Puppet {
    type Writer = PuppetWriter;
    fn name(&self) -> String {
        "puppet".into()
    }
    fn writer(&self, _env: &Env, info: &SubtaskInfo) -> Result<PuppetWriter> {
        Ok(PuppetWriter {
            puppet: self.clone(),
            attempt: info.attempt.0,
        })
    }
}

struct PuppetWriter {
    puppet: Puppet,
    attempt: u32,
}

impl PuppetWriter {
    fn log(&self, what: String) {
        self.puppet
            .log
            .lock()
            .unwrap()
            .push(format!("{}: {what}", self.attempt));
    }
}

impl Drop for PuppetWriter {
    fn drop(&mut self) {
        self.puppet.going.add_permits(1);
        drop(self.puppet.may_go.lock());
    }
}

impl TwoPhaseSink for PuppetWriter {
    type Row = u64;
    type Committable = u64;
    async fn write(&mut self, rows: Vec<u64>) -> Result<()> {
        self.log(format!("begin {}", rows.len()));
        self.puppet.began.add_permits(1);
        self.puppet.may_write.acquire().await.unwrap().forget();
        self.log(format!("end {}", rows.len()));
        match self.puppet.ending {
            Ending::Well => Ok(()),
            Ending::Fails => Err(Failure::external("the disk is on fire")),
            Ending::Panics => panic!("ouch"),
        }
    }
    async fn prepare(&mut self, checkpoint: CheckpointId) -> Result<Vec<u64>> {
        Ok(vec![checkpoint.0])
    }
    async fn commit(&mut self, committables: Vec<u64>) -> Result<()> {
        self.log("commit".into());
        if !committables.is_empty() {
            self.puppet.may_commit.acquire().await.unwrap().forget();
        }
        Ok(())
    }
    async fn abort_unlisted(&mut self) -> Result<()> {
        Ok(())
    }
}

fn puppet_node(puppet: &Puppet) -> Arc<dyn OperatorFactory> {
    Arc::new(CommitNode::new(puppet.clone()))
}

#[test]
fn a_writers_end_is_heard_by_the_master_and_by_the_next_call() {
    let world = RealEnv::start().unwrap();
    let env = world.env();
    for (ending, kind, text) in [
        (Ending::Fails, ErrorKind::External, "the disk is on fire"),
        (Ending::Panics, ErrorKind::Bug, "panicked"),
    ] {
        let puppet = Puppet::new(ending);
        world.block_on(async {
            let mut bench = start(&env, &puppet_node(&puppet), 1, None);
            bench.open_gate().await.unwrap();
            bench.push(vec![1u64]);
            bench.drain().await.unwrap();
            puppet.may_write.add_permits(1);
            match bench.heard().await {
                TaskEvent::Failed { failure, place, .. } => {
                    assert_eq!((failure.kind, place.as_str()), (kind, "under test/0"));
                    assert!(failure.to_string().contains(text), "{failure}");
                }
                other => panic!("heard {other:?}"),
            }
            bench.push(vec![2u64]);
            while bench.waits().is_ok() {
                bench.push(vec![2u64]);
                bench.woken().await;
            }
        });
    }
}

#[test]
fn a_call_finds_that_the_writer_panicked_before_the_writer_is_gone() {
    let world = RealEnv::start().unwrap();
    let (env, puppet) = (world.env(), Puppet::new(Ending::Panics));
    let stays = puppet.may_go.lock().unwrap();
    world.block_on(async {
        let mut bench = start(&env, &puppet_node(&puppet), 1, None);
        bench.open_gate().await.unwrap();
        bench.push(vec![1u64]);
        bench.drain().await.unwrap();
        puppet.may_write.add_permits(1);
        // The operator has had its wake-up now: there is no other.
        puppet.going.acquire().await.unwrap().forget();
        bench.push(vec![2u64]);
        assert_eq!(bench.waits().unwrap_err().kind, ErrorKind::Bug);
    });
    drop(stays);
}

#[test]
fn the_queue_is_bounded() {
    let world = RealEnv::start().unwrap();
    let (env, puppet) = (world.env(), Puppet::new(Ending::Well));
    world.block_on(async {
        let mut bench = start(&env, &puppet_node(&puppet), 1, None);
        bench.open_gate().await.unwrap();
        let mut batches = 0;
        loop {
            bench.push(vec![0u64; 1000]);
            if bench.waits().unwrap() {
                break;
            }
            batches += 1;
            assert!(batches < 100, "nobody stopped it");
        }
        assert!(batches >= 2);
        puppet.may_write.add_permits(1000);
        bench.drain().await.unwrap();
        bench
            .snapshot(barrier(1, SnapshotKind::Checkpoint))
            .await
            .unwrap();
        let log = puppet.log();
        let written = log
            .iter()
            .filter_map(|line| line.strip_prefix("1: end "))
            .map(|rows| rows.parse::<usize>().unwrap());
        assert_eq!(written.sum::<usize>(), 1000 * (batches + 1));
    });
}

#[test]
fn the_next_attempts_writer_waits_for_the_last_call_of_the_one_before() {
    let world = RealEnv::start().unwrap();
    let (env, puppet) = (world.env(), Puppet::new(Ending::Well));
    world.block_on(async {
        let node = puppet_node(&puppet);
        let mut old = start(&env, &node, 1, None);
        old.open_gate().await.unwrap();
        old.push(vec![1u64]);
        old.push(vec![2u64, 3]);
        old.drain().await.unwrap();
        puppet.began.acquire().await.unwrap().forget();
        drop(old);
        let mut new = start(&env, &node, 2, None);
        puppet.may_write.add_permits(9);
        new.expect_phase(SinkPhase::Recommitted).await;
        // The call under way was finished, the queued one never began, and only then did the new one start.
        assert_eq!(puppet.log(), ["1: commit", "1: begin 1", "1: end 1", "2: commit"]);
    });
}

#[test]
fn a_commit_that_is_under_way_is_still_listed() {
    let world = RealEnv::start().unwrap();
    let (env, puppet) = (world.env(), Puppet::new(Ending::Well));
    world.block_on(async {
        let mut bench = start(&env, &puppet_node(&puppet), 1, None);
        bench.open_gate().await.unwrap();
        let checkpoint = |id| barrier(id, SnapshotKind::Checkpoint);
        assert_eq!(listed(&bench.snapshot(checkpoint(1)).await.unwrap()), [1]);
        // The second barrier waits for its prepare when the first checkpoint is decided.
        bench.begin_snapshot(checkpoint(2)).unwrap();
        assert!(bench.waits().unwrap());
        bench.event(OperatorEvent::Committed(CheckpointId(1))).unwrap();
        assert_eq!(listed(&bench.end_snapshot().await.unwrap()), [1, 2]);
        puppet.may_commit.add_permits(1);
        bench.expect_phase(SinkPhase::Committed(CheckpointId(1))).await;
        assert_eq!(listed(&bench.snapshot(checkpoint(3)).await.unwrap()), [2, 3]);
    });
}
