//! The writer against a memory store, with faults in front of it where a test wants them; what it wrote is read back.

mod away;

use super::*;
use crate::codec::{RowCodec, row_codec};
use crate::image::{ImageRow, ImageRows, StateId, StateKind};
use crate::manifest::{Lists, MANIFEST_FORMAT, Manifest, Written};
use crate::reader::SnapshotReader;
use rivermark_env::RealEnv;
use rivermark_storage::{Fault, Faults, Faulty, MemoryBlob, Operation};
use rivermark_types::{Generation, KeyGroup, KeyGroupRange, SnapshotKind, Timestamp, VertexId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

const CHECKPOINT: CheckpointId = CheckpointId(17);
const PREFIX: &str = "g3/a1/chk-17";

struct World {
    real: RealEnv,
    memory: MemoryBlob,
    handle: SnapshotHandle,
    reports: mpsc::UnboundedReceiver<PartReport>,
    codec: Arc<RowCodec<u64, String>>,
    scratch: Option<tempfile::TempDir>,
}

impl World {
    fn new(config: WriterConfig) -> World {
        World::with_blob(config, |_, memory| Arc::new(memory))
    }

    fn faulty(
        config: WriterConfig,
        plan: impl Fn(Operation) -> Option<Fault> + Send + Sync + 'static,
    ) -> World {
        World::with_blob(config, |env, memory| {
            Arc::new(Faulty::new(Arc::new(memory), Faults::new(env.clone(), plan)))
        })
    }

    fn with_blob(config: WriterConfig, blob: impl FnOnce(&Env, MemoryBlob) -> Arc<dyn Blob>) -> World {
        let real = RealEnv::start().unwrap();
        let memory = MemoryBlob::new();
        let (sender, reports) = mpsc::unbounded_channel();
        let blob = blob(&real.env(), memory.clone());
        let (handle, _) = SnapshotWriter::spawn(&real.env(), blob, config, sender);
        World {
            real,
            memory,
            handle,
            reports,
            codec: row_codec(),
            scratch: None,
        }
    }

    fn spilling(memory_limit: usize, object_target: usize) -> World {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World::new(WriterConfig {
            memory_limit,
            object_target,
            scratch_dir: Some(dir.path().to_owned()),
            ..WriterConfig::default()
        });
        world.scratch = Some(dir);
        world
    }

    fn begin(&self, expected: u32) {
        self.handle.begin(CHECKPOINT, Attempt(1), PREFIX.into(), expected);
    }

    fn rows(&self, operator: &str, keys: std::ops::Range<u64>) {
        self.rows_to(&mut self.handle.sink(CHECKPOINT), operator, keys, 200);
    }

    fn rows_to(&self, sink: &mut SnapshotSink, operator: &str, keys: std::ops::Range<u64>, row_bytes: usize) {
        let rows: Vec<_> = keys.map(row).collect();
        sink.push(ImageChunk {
            state: Arc::new(state(operator)),
            rows: rows.len(),
            bytes: rows.len() * row_bytes,
            content: Box::new(ImageRows::from(rows)),
            encoder: self.codec.clone(),
        });
    }

    fn done(&self, index: u32) {
        self.handle.subtask_done(snapshot(index));
    }

    fn report(&mut self) -> PartReport {
        self.real.block_on(self.reports.recv()).expect("the writer runs")
    }

    /// The next report's objects and subtasks.
    fn sealed(&mut self) -> (Vec<u32>, Vec<ObjectRef>) {
        match self.report() {
            PartReport::Sealed {
                subtasks, objects, ..
            } => (
                subtasks.iter().map(|subtask| subtask.subtask.index).collect(),
                objects,
            ),
            other => panic!("{other:?}"),
        }
    }

    fn keys(&self) -> Vec<String> {
        let entries = self.real.block_on(self.memory.list("")).unwrap();
        entries.iter().map(|entry| entry.key.to_string()).collect()
    }

    /// Waits until the writer has taken all messages so far and made the calls that follow from them, by a checkpoint
    /// of its own that needs a call too.
    fn settle(&mut self) {
        let checkpoint = CheckpointId(1_000);
        self.handle.begin(checkpoint, Attempt(1), "settle/x".into(), 1);
        self.handle.subtask_done(SubtaskSnapshot {
            checkpoint,
            ..snapshot(0)
        });
        while !matches!(self.report(), PartReport::Sealed { checkpoint: found, .. } if found == checkpoint) {}
        self.handle.complete(checkpoint);
    }

    /// Waits until what is being encoded now is, by rows that are encoded behind it, and leaves nothing of them.
    fn settle_encoding(&mut self) {
        let checkpoint = CheckpointId(1_001);
        self.handle.begin(checkpoint, Attempt(1), "settle/y".into(), 1);
        let mut sink = self.handle.sink(checkpoint);
        self.rows_to(&mut sink, "count", 0..1, 200);
        self.handle.subtask_done(SubtaskSnapshot {
            checkpoint,
            ..snapshot(0)
        });
        while !matches!(self.report(), PartReport::Sealed { checkpoint: found, .. } if found == checkpoint) {}
        self.handle.abort(checkpoint);
        self.settle();
    }

    /// Waits for the last key to go.
    fn wait_until_empty(&self) {
        while !self.keys().is_empty() {
            std::thread::yield_now();
        }
    }

    fn read(&self, objects: Vec<ObjectRef>, operator: &str, range: KeyGroupRange) -> BTreeSet<u64> {
        let manifest = manifest(objects);
        let (state, operator) = (state(operator), Uid::from(operator));
        let pages = self.real.block_on(async {
            let reader = SnapshotReader::open(Arc::new(self.memory.clone()), &manifest)
                .await
                .unwrap();
            reader.load(&operator, range).await.unwrap().take(&state)
        });
        let rows = pages
            .unwrap_or_default()
            .into_iter()
            .flat_map(|page| self.codec.decode(&page).unwrap());
        let mut keys = BTreeSet::new();
        for found in rows.filter(|found| range.contains(found.group)) {
            assert_eq!(found, row(found.key));
            assert!(keys.insert(found.key), "{} is there twice", found.key);
        }
        keys
    }
}

fn state(operator: &str) -> StateId {
    StateId {
        operator: operator.into(),
        name: "total".into(),
        kind: StateKind::Value,
    }
}

fn row(key: u64) -> ImageRow<u64, String> {
    ImageRow {
        group: KeyGroup((key % 128) as u32),
        namespace: 0,
        key,
        value: format!("{key:0>180}"),
    }
}

fn snapshot(index: u32) -> SubtaskSnapshot {
    let subtask = SubtaskId {
        vertex: VertexId(4),
        index,
    };
    let entry = SubtaskEntry {
        index,
        watermark: Timestamp(5),
        lists: Lists::new(),
        in_flight: vec![],
    };
    SubtaskSnapshot {
        checkpoint: CHECKPOINT,
        subtask,
        attempt: Attempt(1),
        operators: vec![("count".into(), entry)],
        rows: 10,
    }
}

fn manifest(objects: Vec<ObjectRef>) -> Manifest {
    Manifest {
        format: MANIFEST_FORMAT,
        job: "flights".into(),
        checkpoint: CHECKPOINT,
        kind: SnapshotKind::Checkpoint,
        generation: Generation(3),
        attempt: Attempt(1),
        seed: 7,
        taken_at: Timestamp(0),
        operators: vec![],
        sources: vec![],
        objects,
        written: Written::default(),
    }
}

const ALL: KeyGroupRange = KeyGroupRange { start: 0, end: 128 };

#[test]
fn all_subtasks_of_a_process_share_one_object_that_restores_by_range() {
    let mut world = World::new(WriterConfig::default());
    world.begin(2);
    world.rows("count", 0..500);
    world.rows("other", 0..10);
    world.done(0);
    world.rows("count", 500..1_000);
    world.done(1);
    let (subtasks, objects) = world.sealed();
    assert_eq!(subtasks, [0, 1]);
    assert_eq!(objects.len(), 1);
    assert_eq!(world.keys(), [objects[0].key.to_string()]);
    assert_eq!(world.read(objects.clone(), "count", ALL), (0..1_000).collect());
    let part = KeyGroupRange { start: 3, end: 5 };
    let expected = (0..1_000).filter(|key| (3..5).contains(&(key % 128))).collect();
    assert_eq!(world.read(objects.clone(), "count", part), expected);
    assert_eq!(world.read(objects.clone(), "other", ALL), (0..10).collect());
    assert_eq!(world.read(objects, "nobody", ALL), BTreeSet::new());
}

#[test]
fn who_is_in_is_reported_without_the_others_after_a_while() {
    let mut world = World::new(WriterConfig::default());
    world.begin(2);
    world.rows("count", 0..10);
    world.done(0);
    let (first, mut objects) = world.sealed();
    assert_eq!(first, [0]);
    world.rows("count", 10..20);
    world.done(1);
    let (second, more) = world.sealed();
    assert_eq!(second, [1]);
    objects.extend(more);
    assert_eq!(objects.len(), 2);
    assert_eq!(world.read(objects, "count", ALL), (0..20).collect());
}

#[test]
fn a_checkpoint_without_rows_has_no_object() {
    let mut world = World::new(WriterConfig::default());
    world.begin(1);
    world.done(0);
    assert_eq!(world.sealed(), (vec![0], vec![]));
    assert!(world.keys().is_empty());
}

#[test]
fn a_second_done_and_a_dead_attempt_count_for_nothing() {
    let mut world = World::new(WriterConfig::default());
    world.begin(2);
    world.handle.subtask_done(SubtaskSnapshot {
        attempt: Attempt(9),
        ..snapshot(1)
    });
    world.done(0);
    world.done(0);
    assert_eq!(world.sealed().0, [0], "sealed by time, not because two were in");
    world.done(1);
    assert_eq!(world.sealed().0, [1]);
}

#[test]
fn a_large_state_is_cut_into_objects_and_spills() {
    let mut world = World::spilling(4 << 20, 1 << 20);
    world.begin(1);
    for start in 0..40u64 {
        world.rows("count", start * 1_000..(start + 1) * 1_000);
    }
    world.done(0);
    let (_, objects) = world.sealed();
    assert!(objects.len() > 3, "{} objects", objects.len());
    assert_eq!(world.read(objects, "count", ALL), (0..40_000).collect());
    world.handle.complete(CHECKPOINT);
    world.settle();
    let left = std::fs::read_dir(world.scratch.as_ref().unwrap().path())
        .unwrap()
        .count();
    assert_eq!(left, 0, "the scratch file is gone");
}

#[test]
fn an_abort_after_the_report_deletes_what_was_reported_but_not_after_completion() {
    for complete in [false, true] {
        let mut world = World::new(WriterConfig::default());
        world.begin(1);
        world.rows("count", 0..100);
        world.done(0);
        let (_, objects) = world.sealed();
        if complete {
            world.handle.complete(CHECKPOINT);
        }
        world.handle.abort(CHECKPOINT);
        world.settle();
        if complete {
            assert_eq!(world.keys(), [objects[0].key.to_string()]);
        } else {
            world.wait_until_empty();
        }
    }
}

/// The first calls of some kinds fail as told.
fn first(faults: &[(Operation, u32, Fault)]) -> impl Fn(Operation) -> Option<Fault> + Send + Sync + 'static {
    let left: BTreeMap<Operation, (u32, Fault)> = faults
        .iter()
        .map(|&(operation, count, fault)| (operation, (count, fault)))
        .collect();
    let left = Mutex::new(left);
    move |operation| {
        let mut left = left.lock().unwrap();
        let (count, fault) = left.get_mut(&operation)?;
        *count = count.checked_sub(1)?;
        Some(*fault)
    }
}

#[test]
fn passing_trouble_is_overcome() {
    for fault in [
        Fault::Failed,
        Fault::ReplyLost,
        Fault::Torn { after_polls: 1 },
        Fault::Duplicated,
    ] {
        let mut world = World::faulty(WriterConfig::default(), first(&[(Operation::Put, 3, fault)]));
        world.begin(1);
        world.rows("count", 0..100);
        world.done(0);
        let (_, objects) = world.sealed();
        assert_eq!(world.read(objects, "count", ALL), (0..100).collect(), "{fault:?}");
    }
}

#[test]
fn a_put_whose_reply_was_lost_is_deleted_when_the_checkpoint_is_given_up() {
    let faults = [
        (Operation::Put, 1_000, Fault::ReplyLost),
        (Operation::Delete, 2, Fault::Failed),
    ];
    let mut world = World::faulty(WriterConfig::default(), first(&faults));
    world.begin(1);
    world.rows("count", 0..100);
    world.done(0);
    while world.keys().is_empty() {
        std::thread::yield_now();
    }
    world.handle.abort(CHECKPOINT);
    world.settle();
    world.wait_until_empty();
}

#[test]
fn what_cannot_be_deleted_is_reported() {
    let mut world = World::faulty(
        WriterConfig::default(),
        first(&[(Operation::Delete, 1_000, Fault::Failed)]),
    );
    world.begin(1);
    world.rows("count", 0..100);
    world.done(0);
    let (_, objects) = world.sealed();
    world.handle.abort(CHECKPOINT);
    assert_eq!(
        world.report(),
        PartReport::Orphaned {
            keys: vec![objects[0].key.clone()]
        }
    );
}

/// Refuses what it is asked to encode, one way or the other.
struct Broken {
    panics: bool,
}

impl crate::image::RowEncoder for Broken {
    fn encode_in(
        &self,
        _: Vec<Box<dyn std::any::Any + Send>>,
        _: &Arc<crate::page_memory::PageMemory>,
    ) -> Result<Vec<crate::image::EncodedPage>, String> {
        assert!(!self.panics, "a bug in Serialize");
        Err("no such luck".into())
    }
}

#[test]
fn rows_that_cannot_be_encoded_decline_the_checkpoint_and_the_writer_goes_on() {
    for panics in [false, true] {
        let mut world = World::new(WriterConfig::default());
        world.begin(1);
        world.handle.chunk(
            CHECKPOINT,
            ImageChunk {
                state: Arc::new(state("count")),
                rows: 1,
                bytes: 100,
                content: Box::new(()),
                encoder: Arc::new(Broken { panics }),
            },
        );
        world.done(0);
        match world.report() {
            PartReport::Declined { reason, .. } => assert!(reason.contains("\"total\""), "{reason}"),
            other => panic!("{other:?}"),
        }
        world.settle();
    }
}

#[test]
fn the_end_of_the_last_handle_ends_the_writer() {
    let real = RealEnv::start().unwrap();
    let (sender, _reports) = mpsc::unbounded_channel();
    let blob = Arc::new(MemoryBlob::new());
    let (handle, task) = SnapshotWriter::spawn(&real.env(), blob, WriterConfig::default(), sender);
    let mut joined = Box::pin(task.join());
    let mut idle = Context::from_waker(Waker::noop());
    assert!(matches!(Future::poll(joined.as_mut(), &mut idle), Poll::Pending));
    drop(handle);
    assert_eq!(real.block_on(joined), rivermark_env::TaskExit::Finished);
}
