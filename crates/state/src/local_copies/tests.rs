//! Copies as a writer makes them and a reader finds them, in front of a store that counts what is read from it.

use crate::codec::{RowCodec, row_codec};
use crate::image::{ImageChunk, ImageRow, ImageRows, ImageSink, StateId, StateKind};
use crate::manifest::{Lists, MANIFEST_FORMAT, Manifest, SubtaskEntry, Written};
use crate::object::ObjectRef;
use crate::reader::SnapshotReader;
use crate::writer::{PartReport, SnapshotHandle, SnapshotWriter, SubtaskSnapshot, WriterConfig};
use crate::{LocalCopies, LocalCounts};
use rivermark_env::{RealEnv, TaskHandle};
use rivermark_storage::{Blob, Faults, Faulty, MemoryBlob, Operation};
use rivermark_types::{
    Attempt, CheckpointId, Generation, KeyGroup, KeyGroupRange, SnapshotKind, SubtaskId, Timestamp, VertexId,
};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

const GROUPS: u32 = 128;
const KEYS: u64 = 3_000;

struct World {
    real: RealEnv,
    store: Arc<dyn Blob>,
    /// Calls that read from the store.
    reads: Arc<AtomicU64>,
    handle: Option<SnapshotHandle>,
    writer: Option<TaskHandle>,
    reports: mpsc::UnboundedReceiver<PartReport>,
    codec: Arc<RowCodec<u64, String>>,
    above: tempfile::TempDir,
    dir: PathBuf,
}

impl World {
    fn new(config: WriterConfig) -> World {
        World::in_dir(config, |above| above.join("g3-0001"))
    }

    fn in_dir(config: WriterConfig, dir: impl FnOnce(&Path) -> PathBuf) -> World {
        let above = tempfile::tempdir().unwrap();
        let dir = dir(above.path());
        let real = RealEnv::start().unwrap();
        let reads = Arc::new(AtomicU64::new(0));
        let counted = reads.clone();
        let faults = Faults::new(real.env(), move |operation| {
            if matches!(operation, Operation::Get | Operation::GetRange) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
            None
        });
        let store: Arc<dyn Blob> = Arc::new(Faulty::new(Arc::new(MemoryBlob::new()), faults));
        let (sender, reports) = mpsc::unbounded_channel();
        let config = WriterConfig {
            copy_dir: Some(dir.clone()),
            ..config
        };
        let (handle, writer) = SnapshotWriter::spawn(&real.env(), store.clone(), config, sender);
        World {
            real,
            store,
            reads,
            handle: Some(handle),
            writer: Some(writer),
            reports,
            codec: row_codec(),
            above,
            dir,
        }
    }

    fn handle(&self) -> &SnapshotHandle {
        self.handle.as_ref().unwrap()
    }

    fn copies(&self) -> &LocalCopies {
        self.handle().local_copies().unwrap()
    }

    /// Waits until the copies have come so far.
    fn until(&self, is_so: impl Fn(LocalCounts) -> bool) -> LocalCounts {
        loop {
            let counts = self.copies().counts();
            if is_so(counts) {
                return counts;
            }
            std::thread::yield_now();
        }
    }

    /// A checkpoint whose values tell it from others, of two subtasks with half of the key groups each.
    fn checkpoint(&mut self, id: u64) -> Manifest {
        let checkpoint = CheckpointId(id);
        let prefix = format!("g3/a1/chk-{id}");
        self.handle().begin(checkpoint, Attempt(1), prefix, 2);
        for index in 0..2 {
            let half = (0..KEYS).filter(|key| (key % u64::from(GROUPS)) / 64 == index);
            let rows: Vec<_> = half.map(|key| row(id, key)).collect();
            self.handle().sink(checkpoint).push(ImageChunk {
                state: Arc::new(state()),
                rows: rows.len(),
                bytes: rows.len() * 120,
                content: Box::new(ImageRows::from(rows)),
                encoder: self.codec.clone(),
            });
            self.handle().subtask_done(done(checkpoint, index as u32));
        }
        let mut objects = vec![];
        let mut subtasks = 0;
        while subtasks < 2 {
            match self.real.block_on(self.reports.recv()).unwrap() {
                PartReport::Sealed {
                    subtasks: of,
                    objects: more,
                    ..
                } => {
                    objects.extend(more);
                    subtasks += of.len();
                }
                other => panic!("{other:?}"),
            }
        }
        manifest(checkpoint, objects)
    }

    /// Reads a checkpoint as so many subtasks would, and checks that all is as it was written.
    fn restore(&self, manifest: &Manifest, subtasks: u32) -> u64 {
        let mut found = BTreeSet::new();
        let copies = self.copies().clone();
        let local = self.real.block_on(async {
            let open = SnapshotReader::open_near(self.store.clone(), Some(copies), manifest);
            let reader = open.await.unwrap();
            let mut local = 0;
            for at in 0..subtasks {
                let range = KeyGroupRange {
                    start: at * GROUPS / subtasks,
                    end: (at + 1) * GROUPS / subtasks,
                };
                let mut restored = reader.load(&"count".into(), range).await.unwrap();
                local += restored.local_bytes();
                for page in restored.take(&state()).unwrap_or_default() {
                    let rows = self.codec.decode(&page).unwrap();
                    for got in rows.into_iter().filter(|row| range.contains(row.group)) {
                        assert_eq!(got, row(manifest.checkpoint.0, got.key));
                        assert!(found.insert(got.key), "{} came twice", got.key);
                    }
                }
            }
            local
        });
        assert_eq!(found, (0..KEYS).collect(), "{subtasks} subtasks");
        local
    }

    fn reads(&self) -> u64 {
        self.reads.swap(0, Ordering::Relaxed)
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = fs::read_dir(&self.dir)
            .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
            .unwrap_or_default();
        files.sort();
        files
    }

    fn end(&mut self) {
        drop(self.handle.take());
        self.real.block_on(self.writer.take().unwrap().join());
    }
}

fn state() -> StateId {
    StateId {
        operator: "count".into(),
        name: "total".into(),
        kind: StateKind::Value,
    }
}

fn row(checkpoint: u64, key: u64) -> ImageRow<u64, String> {
    ImageRow {
        group: KeyGroup((key % u64::from(GROUPS)) as u32),
        namespace: 0,
        key,
        value: format!("{checkpoint}-{key:0>80}"),
    }
}

fn done(checkpoint: CheckpointId, index: u32) -> SubtaskSnapshot {
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
        checkpoint,
        subtask,
        attempt: Attempt(1),
        operators: vec![("count".into(), entry)],
        rows: KEYS / 2,
    }
}

fn manifest(checkpoint: CheckpointId, objects: Vec<ObjectRef>) -> Manifest {
    Manifest {
        format: MANIFEST_FORMAT,
        job: "flights".into(),
        checkpoint,
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

fn small_objects() -> WriterConfig {
    WriterConfig {
        object_target: 40 << 10,
        ..WriterConfig::default()
    }
}

#[test]
fn a_restart_reads_copies_and_nothing_of_the_store_at_any_parallelism() {
    let mut world = World::new(small_objects());
    let manifest = world.checkpoint(1);
    let objects = manifest.objects.len() as u64;
    assert!(objects > 1, "{objects}");
    world.until(|counts| counts.copied == objects);
    for subtasks in [1, 2, 3, 5] {
        let local = world.restore(&manifest, subtasks);
        assert!(local > KEYS * 60, "{local}");
        assert_eq!(world.reads(), 0, "{subtasks} subtasks");
    }
    let bytes: u64 = manifest.objects.iter().map(|object| object.len).sum();
    let counts = world.copies().counts();
    assert_eq!((counts.bytes, counts.lost, counts.not_copied), (bytes, 0, 0));
}

#[test]
fn whatever_happens_to_copies_the_store_has_what_they_lack() {
    type Damage = fn(&[PathBuf]);
    let removed: Damage = |files| files.iter().for_each(|file| fs::remove_file(file).unwrap());
    let one_removed: Damage = |files| fs::remove_file(&files[0]).unwrap();
    let torn: Damage = |files| {
        for file in files {
            let bytes = fs::read(file).unwrap();
            fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
        }
    };
    // The first byte is a page's, the last of those written here the index's.
    let flipped: Damage = |files| {
        for file in files {
            let mut bytes = fs::read(file).unwrap();
            bytes[3] ^= 1;
            fs::write(file, &bytes).unwrap();
        }
    };
    let index_flipped: Damage = |files| {
        for file in files {
            let mut bytes = fs::read(file).unwrap();
            let at = bytes.len() - 100;
            bytes[at] ^= 1;
            fs::write(file, &bytes).unwrap();
        }
    };
    let another: Damage = |files| {
        let bytes = fs::read(&files[1]).unwrap();
        fs::write(&files[0], bytes).unwrap();
    };
    let damages = [removed, one_removed, torn, flipped, index_flipped, another];
    for (number, damage) in damages.into_iter().enumerate() {
        let mut world = World::new(small_objects());
        let manifest = world.checkpoint(1);
        let objects = manifest.objects.len() as u64;
        world.until(|counts| counts.copied == objects);
        damage(&world.files());
        world.restore(&manifest, 3);
        let counts = world.copies().counts();
        assert!(
            counts.lost >= 1 && world.reads() >= 1,
            "damage {number}: {counts:?}"
        );
        // What is of no use is asked once.
        world.restore(&manifest, 2);
        assert_eq!(world.copies().counts().lost, counts.lost, "damage {number}");
    }
}

#[test]
fn the_copy_of_an_older_checkpoint_is_never_believed() {
    let mut world = World::new(small_objects());
    let older = world.checkpoint(1);
    world.until(|counts| counts.copied == older.objects.len() as u64);
    let stale: Vec<Vec<u8>> = world.files().iter().map(|file| fs::read(file).unwrap()).collect();
    world.copies().keep_from(CheckpointId(2));
    let newer = world.checkpoint(2);
    assert_eq!(newer.objects.len(), stale.len());
    let all = older.objects.len() + newer.objects.len();
    world.until(|counts| counts.copied == all as u64);
    while world.files().len() > stale.len() {
        std::thread::yield_now();
    }
    for (file, bytes) in world.files().iter().zip(stale) {
        fs::write(file, bytes).unwrap();
    }
    assert_eq!(world.restore(&newer, 2), 0);
    assert_eq!(world.copies().counts().lost, newer.objects.len() as u64);
}

#[test]
fn only_what_a_restart_would_start_from_is_kept() {
    let mut world = World::new(small_objects());
    let first = world.checkpoint(1).objects.len();
    let second = world.checkpoint(2).objects.len();
    world.until(|counts| counts.copied == (first + second) as u64);
    assert_eq!(world.files().len(), first + second);
    world.handle().restarts_from(CheckpointId(2));
    while world.files().len() > second {
        std::thread::yield_now();
    }
    // One that is late is not even begun.
    world.handle().complete(CheckpointId(1));
    let before = world.copies().counts().not_copied;
    let late = world.checkpoint(1);
    world.until(|counts| counts.not_copied == before + late.objects.len() as u64);
    assert_eq!(world.files().len(), second);
    // One that comes to nothing leaves nothing.
    let third = world.checkpoint(3).objects.len() as u64;
    world.until(|counts| counts.copied == (first + second) as u64 + third);
    world.handle().abort(CheckpointId(3));
    while world.files().len() > second {
        std::thread::yield_now();
    }
    world.end();
    assert!(!world.dir.exists(), "the process leaves nothing");
    assert!(!world.above.path().exists(), "nor an empty folder of the job");
}

#[test]
fn copies_keep_within_their_bytes_and_checkpoints_do_not_mind() {
    let mut world = World::new(WriterConfig {
        copy_limit: 100 << 10,
        ..small_objects()
    });
    for id in 1..4 {
        let manifest = world.checkpoint(id);
        let counts =
            world.until(|counts| counts.copied + counts.not_copied >= id * manifest.objects.len() as u64);
        assert!(counts.not_copied > 0, "{counts:?}");
        let bytes: u64 = world
            .files()
            .iter()
            .map(|file| fs::metadata(file).unwrap().len())
            .sum();
        assert!(bytes <= 100 << 10, "{bytes}");
        world.restore(&manifest, 2);
        world.handle().restarts_from(CheckpointId(id));
    }
}

#[test]
fn what_is_stored_faster_than_the_disk_takes_it_is_not_kept_in_memory_for_it() {
    // No more than half of the memory.
    let mut world = World::new(WriterConfig {
        memory_limit: 128 << 10,
        object_target: 64 << 10,
        ..WriterConfig::default()
    });
    let copies = world.copies().clone();
    let parts = vec![bytes::Bytes::from(vec![7; 65 << 10])];
    let key = rivermark_storage::BlobKey::new("g3/a1/chk-9/part-0.rows").unwrap();
    copies.offer(CheckpointId(9), key, parts, ());
    assert_eq!(copies.counts().not_copied, 1);
    let manifest = world.checkpoint(1);
    world.restore(&manifest, 2);
}

#[test]
fn a_disk_that_fails_costs_nothing_but_the_copies() {
    let mut world = World::in_dir(small_objects(), |above| {
        let file = above.join("file");
        fs::write(&file, "in the way").unwrap();
        file.join("g3-0001")
    });
    let manifest = world.checkpoint(1);
    let counts = world.until(|counts| counts.not_copied == manifest.objects.len() as u64);
    assert_eq!(counts.copied, 0);
    assert_eq!(world.restore(&manifest, 2), 0);
    world.end();
}

#[test]
fn a_run_removes_what_runs_before_it_have_left() {
    let mut world = World::in_dir(small_objects(), |above| {
        for left in ["g2-00aa", "g4-00bb", "mine"] {
            fs::create_dir(above.join(left)).unwrap();
            fs::write(above.join(left).join("1.rows"), "left").unwrap();
        }
        above.join("g3-0001")
    });
    let manifest = world.checkpoint(1);
    world.until(|counts| counts.copied == manifest.objects.len() as u64);
    let left: Vec<bool> = ["g2-00aa", "g4-00bb", "mine"]
        .map(|name| world.above.path().join(name).exists())
        .into();
    assert_eq!(left, [false, true, true]);
    world.end();
}

#[test]
fn a_run_that_copies_nothing_removes_what_runs_before_it_have_left() {
    let real = RealEnv::start().unwrap();
    let above = tempfile::tempdir().unwrap();
    let job = above.path().join("job");
    fs::create_dir_all(job.join("g2-00aa")).unwrap();
    fs::write(job.join("g2-00aa/1.rows"), "left").unwrap();
    real.block_on(LocalCopies::sweep(&real.env(), &job.join("g3-0001")));
    assert!(!job.exists());
}
