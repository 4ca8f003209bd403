//! Snapshots made by hand in a memory store: sound ones, and each thing that can be wrong with one.

use super::*;
use crate::codec::{batch_rows, row_codec};
use crate::image::{EncodedPage, ImageRow, ImageRows, RowEncoder, StateId, StateKind};
use crate::in_flight::{InFlightChannel, InFlightMark, Mark, in_flight_chunk};
use crate::manifest::{Lists, MANIFEST_FORMAT, OperatorEntry, SubtaskEntry, Written};
use crate::object::{FOOTER_BYTES, PageEntry, pack};
use crate::{CheckpointRef, Manifest};
use bytes::Bytes;
use rivermark_data::{Batch, EdgeType, Typed, TypedEdge};
use rivermark_storage::{Digest, MemoryBlob, MemoryCas};
use rivermark_types::{Attempt, KeyGroup, MaxParallelism};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// A job with one checkpoint: an operator of two subtasks with ten keyed rows and three records in flight.
struct Job {
    blob: MemoryBlob,
    cas: MemoryCas,
    head: JobHead,
    manifest: Manifest,
    pages: Vec<(PageEntry, Bytes)>,
}

fn key(text: &str) -> BlobKey {
    BlobKey::new(text).unwrap()
}

fn part() -> BlobKey {
    key("g2/a1/chk-7/part-0.rows")
}

fn manifest_key() -> BlobKey {
    key("g2/a1/chk-7/manifest.json")
}

fn channel() -> InFlightChannel {
    InFlightChannel {
        input: 0,
        from: "source".into(),
        port: 0,
        index: 0,
        by_key: true,
        watermark: Timestamp(3),
        idle: false,
        rows: 3,
        bytes: 24,
        marks: vec![InFlightMark {
            after: 1,
            mark: Mark::Watermark(Timestamp(4)),
        }],
    }
}

fn keyed_rows(operator: &str) -> (StateId, EncodedPage) {
    let rows = (0..10u64).map(|n| ImageRow {
        group: KeyGroup(n as u32 * 10),
        namespace: 0,
        key: n,
        value: n * n,
    });
    let rows = ImageRows::from(rows.collect::<Vec<_>>());
    let mut pages = row_codec::<u64, u64>().encode(vec![Box::new(rows)]).unwrap();
    let state = StateId {
        operator: operator.into(),
        name: "sums".into(),
        kind: StateKind::Value,
    };
    (state, pages.remove(0))
}

fn records_in_flight(records: u64) -> (StateId, EncodedPage) {
    let edge: Arc<dyn EdgeType> = Arc::new(TypedEdge::<u64>::new(batch_rows::<u64>()));
    let state = channel().state(&"sums".into(), 1);
    let rows = Batch::new(Typed::untimed((0..records).collect()));
    let chunk = in_flight_chunk(state.clone(), vec![rows], edge);
    (
        state,
        chunk.encoder.encode(vec![chunk.content]).unwrap().remove(0),
    )
}

impl Job {
    fn sound() -> Job {
        let subtask = |index| SubtaskEntry {
            index,
            watermark: Timestamp(5),
            lists: Lists::new(),
            in_flight: if index == 1 { vec![channel()] } else { vec![] },
        };
        let manifest = Manifest {
            format: MANIFEST_FORMAT,
            job: "sums".into(),
            checkpoint: CheckpointId(7),
            kind: SnapshotKind::Checkpoint,
            generation: Generation(2),
            attempt: Attempt(1),
            seed: 1,
            taken_at: Timestamp(0),
            operators: vec![OperatorEntry {
                uid: "sums".into(),
                name: "sums".into(),
                max_parallelism: MaxParallelism::new(128).unwrap(),
                parallelism: 2,
                keyed: true,
                subtasks: vec![subtask(0), subtask(1)],
            }],
            sources: vec![],
            objects: vec![],
            written: Written { bytes: 0, rows: 10 },
        };
        let mut head = JobHead::new("sums".into(), 1);
        head.generation = Generation(2);
        head.next_checkpoint = CheckpointId(8);
        let mut job = Job {
            blob: MemoryBlob::new(),
            cas: MemoryCas::new(),
            head,
            manifest,
            pages: vec![],
        };
        job.add_page(keyed_rows("sums"));
        job.add_page(records_in_flight(3));
        job
    }

    fn add_page(&mut self, (state, page): (StateId, EncodedPage)) {
        let entry = PageEntry {
            state,
            first_group: page.first_group,
            last_group: page.last_group,
            rows: page.rows,
            offset: 0,
            len: page.bytes.len() as u64,
            checksum: Digest::of(&page.bytes),
        };
        self.pages.push((entry, page.bytes));
    }

    /// Stores all of it, and decides.
    fn decide(mut self) -> Job {
        let entries = self.pages.iter().map(|(entry, _)| entry.clone()).collect();
        let (object, tail) = pack(part(), entries).unwrap();
        self.manifest.written.bytes = object.len;
        self.manifest.objects = vec![object];
        let mut bytes: Vec<Bytes> = self.pages.iter().map(|(_, bytes)| bytes.clone()).collect();
        bytes.push(tail);
        self.put(&part(), bytes);
        let (bytes, digest) = self.manifest.encode().unwrap();
        self.put(&manifest_key(), vec![bytes.into()]);
        self.head.checkpoints = vec![CheckpointRef {
            id: CheckpointId(7),
            kind: SnapshotKind::Checkpoint,
            manifest: manifest_key(),
            digest,
            decided_at: Timestamp(1_000),
            has_committables: false,
        }];
        let head = self.head.encode().unwrap();
        now(self.cas.compare_and_set(None, head.into()));
        self
    }

    fn put(&self, key: &BlobKey, bytes: Vec<Bytes>) {
        now(self.blob.put(key, bytes)).unwrap();
    }

    fn get(&self, key: &BlobKey) -> Vec<u8> {
        now(self.blob.get(key)).unwrap().to_vec()
    }

    /// Replaces an object by what a change makes of it.
    fn spoil(&self, key: &BlobKey, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.get(key);
        change(&mut bytes);
        now(self.blob.delete(key)).unwrap();
        self.put(key, vec![bytes.into()]);
    }

    fn check(&self) -> FsckReport {
        now(check_job(&self.blob, &self.cas)).unwrap().unwrap()
    }

    /// The only damage, in a line.
    fn damage(&self) -> String {
        let report = self.check();
        assert!(!report.is_clean());
        assert_eq!(report.checkpoints.iter().filter(|check| check.sound).count(), 0);
        match report.damage.as_slice() {
            [one] => format!("{}: {} instead of {}", one.place, one.found, one.expected),
            several => panic!("{several:#?}"),
        }
    }
}

/// The memory store answers at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("the memory store waits"),
    }
}

#[test]
fn a_sound_job_is_clean_and_counted() {
    let job = Job::sound().decide();
    let report = job.check();
    assert_eq!(
        (report.damage.as_slice(), report.orphans.as_slice()),
        (&[][..], &[][..])
    );
    assert!(report.is_clean());
    let [check] = report.checkpoints.as_slice() else {
        panic!()
    };
    assert_eq!(
        (check.objects, check.pages, check.rows, check.in_flight_rows),
        (2, 2, 10, 3)
    );
    let bytes = job.get(&part()).len() + job.get(&manifest_key()).len();
    assert_eq!(check.bytes, bytes as u64);
    assert_eq!(report.newest_sound(), Some(CheckpointId(7)));
}

#[test]
fn a_job_that_never_decided_has_nothing_to_check() {
    assert!(
        now(check_job(&MemoryBlob::new(), &MemoryCas::new()))
            .unwrap()
            .is_none()
    );
}

#[test]
fn no_byte_of_any_object_can_be_changed_unnoticed() {
    let job = Job::sound().decide();
    for key in [part(), manifest_key()] {
        let whole = job.get(&key);
        for at in 0..whole.len() {
            job.spoil(&key, |bytes| bytes[at] ^= 0x20);
            let report = job.check();
            assert!(!report.damage.is_empty(), "byte {at} of {key}");
            assert!(
                report
                    .damage
                    .iter()
                    .all(|damage| damage.object.as_ref() == Some(&key))
            );
            assert!(
                report.orphans.is_empty(),
                "byte {at} of {key}: {:?}",
                report.orphans
            );
            job.spoil(&key, |bytes| *bytes = whole.clone());
        }
    }
    assert!(job.check().is_clean());
}

#[test]
fn a_changed_byte_is_placed() {
    let job = Job::sound().decide();
    job.spoil(&part(), |bytes| bytes[100] ^= 1);
    let damage = job.damage();
    assert!(
        damage.starts_with("the page of state \"sums\" of operator \"sums\" at byte 0, "),
        "{damage}"
    );
    let job = Job::sound().decide();
    job.spoil(&part(), |bytes| {
        let at = bytes.len() - FOOTER_BYTES as usize;
        bytes[at] ^= 1;
    });
    assert!(job.damage().starts_with("the footer: "));
}

#[test]
fn what_is_missing_or_cut_off_is_damage() {
    let job = Job::sound().decide();
    now(job.blob.delete(&part())).unwrap();
    assert!(
        job.damage()
            .starts_with("the object: no such object instead of an object of ")
    );
    let job = Job::sound().decide();
    now(job.blob.delete(&manifest_key())).unwrap();
    assert!(
        job.damage()
            .starts_with("the manifest: no such object instead of ")
    );
    let job = Job::sound().decide();
    job.spoil(&part(), |bytes| bytes.truncate(500));
    assert!(
        job.damage()
            .starts_with("the object: 500 bytes instead of an object of ")
    );
}

#[test]
fn key_groups_are_whole_and_those_of_the_rows() {
    let mut job = Job::sound();
    job.manifest.operators[0].subtasks.remove(0);
    assert_eq!(
        job.decide().damage(),
        "operator \"sums\": none of subtasks [0]: key groups 0..64 are missing instead of all 2 subtasks"
    );
    let mut job = Job::sound();
    job.pages[0].0.last_group = KeyGroup(80);
    assert!(
        job.decide()
            .damage()
            .ends_with(": key groups 0 to 90 instead of key groups 0 to 80")
    );
    let mut job = Job::sound();
    job.manifest.operators[0].max_parallelism = MaxParallelism::new(64).unwrap();
    assert!(
        job.decide()
            .damage()
            .ends_with(": key groups 0 to 90 instead of key groups below 64")
    );
    let mut job = Job::sound();
    job.manifest.operators[0].keyed = false;
    assert!(
        job.decide()
            .damage()
            .ends_with("no keyed state: operator \"sums\" has none")
    );
}

#[test]
fn rows_are_those_that_were_handed_over() {
    let mut job = Job::sound();
    job.manifest.written.rows = 11;
    assert!(
        job.decide()
            .damage()
            .starts_with("all objects: 10 keyed rows in ")
    );
    let mut job = Job::sound();
    job.pages[0].0.rows = 9;
    assert!(job.decide().damage().ends_with(": 10 rows instead of 9 rows"));
    let mut job = Job::sound();
    job.manifest.written.rows = 20;
    job.add_page(keyed_rows("unknown"));
    assert!(
        job.decide()
            .damage()
            .ends_with(": none instead of an operator \"unknown\" in the manifest")
    );
}

#[test]
fn a_page_that_does_not_decode_is_damage_although_its_checksum_is_right() {
    let mut job = Job::sound();
    let (entry, bytes) = &mut job.pages[0];
    *bytes = bytes.slice(..bytes.len() - 9);
    (entry.len, entry.checksum) = (bytes.len() as u64, Digest::of(bytes));
    assert!(job.decide().damage().contains(" instead of a page of rows"));
}

#[test]
fn records_in_flight_are_those_of_the_channels() {
    let mut job = Job::sound();
    job.pages.pop();
    job.add_page(records_in_flight(2));
    assert!(
        job.decide()
            .damage()
            .ends_with(": 2 records instead of 3 records")
    );
    let mut job = Job::sound();
    job.pages.pop();
    assert!(job.decide().damage().ends_with(": none instead of 3 records"));
    let mut job = Job::sound();
    job.manifest.operators[0].subtasks[1].in_flight.clear();
    assert!(
        job.decide()
            .damage()
            .ends_with(": 3 records instead of 0 records")
    );
    let mut job = Job::sound();
    job.manifest.operators[0].subtasks[1].in_flight[0].marks[0].after = 4;
    assert!(
        job.decide()
            .damage()
            .ends_with("instead of marks in order among 3 records")
    );
}

#[test]
fn a_checkpoint_of_another_job_is_not_this_ones() {
    let mut job = Job::sound();
    job.manifest.job = "others".into();
    let damage = job.decide().damage();
    assert_eq!(
        damage,
        "the manifest: checkpoint 7 of job \"others\" instead of checkpoint 7 of job \"sums\""
    );
}

#[test]
fn orphans_are_left_unless_their_run_may_be_alive() {
    let job = Job::sound().decide();
    let orphans = |job: &Job| -> Vec<(String, Standing)> {
        let orphans = job.check().orphans.into_iter();
        orphans
            .map(|orphan| (orphan.object.to_string(), orphan.standing))
            .collect()
    };
    for name in [
        "g1/a1/chk-5/part-0.rows",
        "g2/a1/chk-8/part-0.rows",
        "g3/a1/chk-9/part-0.rows",
        "other/thing",
    ] {
        job.put(&key(name), vec![Bytes::from_static(b"x")]);
    }
    let expected = [
        ("g1/a1/chk-5/part-0.rows", Standing::Left),
        ("g2/a1/chk-8/part-0.rows", Standing::MayBeInUse),
        ("g3/a1/chk-9/part-0.rows", Standing::MayBeInUse),
        ("other/thing", Standing::Left),
    ];
    assert_eq!(
        orphans(&job),
        expected.map(|(name, standing)| (name.to_owned(), standing))
    );
    assert!(!job.check().is_clean());
    for name in ["g1/a1/chk-5/part-0.rows", "other/thing"] {
        now(job.blob.delete(&key(name))).unwrap();
    }
    assert!(job.check().is_clean());
    // A job that has finished has nothing in progress.
    let mut head = job.head.clone();
    head.finished = true;
    now(job.cas.compare_and_set(Some(1), head.encode().unwrap().into()));
    assert_eq!(orphans(&job)[0].1, Standing::Left);
}

#[test]
fn a_damaged_decision_is_all_that_is_said() {
    let job = Job::sound().decide();
    let mut bytes = job.head.encode().unwrap();
    bytes[10] ^= 1;
    now(job.cas.compare_and_set(Some(1), bytes.into()));
    let report = job.check();
    assert_eq!((report.decision, report.job.as_ref()), (2, None));
    assert_eq!(report.damage[0].place, "the newest decision");
    assert!(report.orphans.is_empty());
}
