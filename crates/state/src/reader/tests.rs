use super::*;
use crate::image::StateKind;
use crate::manifest::{MANIFEST_FORMAT, Written};
use crate::object::pack;
use proptest::prelude::*;
use rivermark_env::{BoxFuture, RealEnv};
use rivermark_storage::{BlobEntry, BlobKey, Digest, MemoryBlob, StorageError};
use rivermark_types::{Attempt, CheckpointId, Generation, KeyGroup, SnapshotKind, Timestamp};
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

fn page(offset: u64, len: u64) -> PageEntry {
    PageEntry {
        state: StateId {
            operator: "o".into(),
            name: "s".into(),
            kind: StateKind::List,
        },
        first_group: KeyGroup(0),
        last_group: KeyGroup(0),
        rows: 1,
        offset,
        len,
        checksum: Digest::of(b""),
    }
}

#[test]
fn neighbours_are_fetched_together_and_gaps_are_not_read() {
    let pages = [
        page(0, 5),
        page(5, 0),
        page(5, 5),
        page(11, 1),
        page(12, FETCH_BYTES),
        page(12 + FETCH_BYTES, 1),
    ];
    let pages: Vec<&PageEntry> = pages.iter().collect();
    let lengths: Vec<usize> = runs_of(&pages).map(<[_]>::len).collect();
    assert_eq!(lengths, [3, 1, 1, 1]);
}

proptest! {
    #[test]
    fn every_page_is_in_exactly_one_run(cuts in proptest::collection::vec((0u64..3, 0u64..9_000_000), 0..30)) {
        let mut offset = 0;
        let mut pages = Vec::new();
        for (gap, len) in cuts {
            pages.push(page(offset + gap, len));
            offset += gap + len;
        }
        let pages: Vec<&PageEntry> = pages.iter().collect();
        let runs: Vec<&[&PageEntry]> = runs_of(&pages).collect();
        prop_assert!(runs.iter().all(|run| !run.is_empty()));
        prop_assert_eq!(runs.concat(), pages);
    }
}

/// A store that answers reads when it is asked again, and counts those that wait.
#[derive(Default)]
struct Unhurried {
    store: MemoryBlob,
    waiting: AtomicUsize,
    most: AtomicUsize,
}

impl Blob for Unhurried {
    fn put<'a>(&'a self, key: &'a BlobKey, bytes: Vec<Bytes>) -> BoxFuture<'a, Result<(), StorageError>> {
        self.store.put(key, bytes)
    }
    fn get<'a>(&'a self, key: &'a BlobKey) -> BoxFuture<'a, Result<Bytes, StorageError>> {
        self.store.get(key)
    }
    fn get_range<'a>(
        &'a self,
        key: &'a BlobKey,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, StorageError>> {
        Box::pin(async move {
            let waiting = self.waiting.fetch_add(1, Ordering::Relaxed) + 1;
            self.most.fetch_max(waiting, Ordering::Relaxed);
            let mut asked = false;
            poll_fn(|cx| {
                cx.waker().wake_by_ref();
                match std::mem::replace(&mut asked, true) {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }
            })
            .await;
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.store.get_range(key, range).await
        })
    }
    fn list<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Vec<BlobEntry>, StorageError>> {
        self.store.list(folder)
    }
    fn delete<'a>(&'a self, key: &'a BlobKey) -> BoxFuture<'a, Result<(), StorageError>> {
        self.store.delete(key)
    }
}

/// Objects with a page each, whose content is the object's number.
async fn written(store: &Unhurried, objects: u8) -> Manifest {
    let mut manifest = Manifest {
        format: MANIFEST_FORMAT,
        job: "j".into(),
        checkpoint: CheckpointId(1),
        kind: SnapshotKind::Checkpoint,
        generation: Generation(1),
        attempt: Attempt(1),
        seed: 7,
        taken_at: Timestamp(0),
        operators: vec![],
        sources: vec![],
        objects: vec![],
        written: Written::default(),
    };
    for number in 0..objects {
        let content = Bytes::from(vec![number]);
        let mut page = page(0, 1);
        page.checksum = Digest::of(&content);
        let key = BlobKey::new(format!("objects/{number:03}")).unwrap();
        let (object, tail) = pack(key.clone(), vec![page]).unwrap();
        store.put(&key, vec![content, tail]).await.unwrap();
        manifest.objects.push(object);
    }
    manifest
}

#[test]
fn some_reads_are_under_way_at_once_and_pages_keep_their_order() {
    let world = RealEnv::start().unwrap();
    world.block_on(async {
        let store = Arc::new(Unhurried::default());
        let manifest = written(&store, 30).await;
        let reader = SnapshotReader::open(store.clone(), &manifest).await.unwrap();
        assert_eq!(store.most.swap(0, Ordering::Relaxed), READS_AT_ONCE);
        let all = KeyGroupRange { start: 0, end: 1 };
        let mut restored = reader.load(&"o".into(), all).await.unwrap();
        assert_eq!(store.most.load(Ordering::Relaxed), READS_AT_ONCE);
        let pages = restored.take(&page(0, 1).state).unwrap();
        let numbers: Vec<u8> = pages.iter().map(|page| page[0]).collect();
        assert_eq!(numbers, (0..30).collect::<Vec<u8>>());
    });
}

#[test]
fn the_first_object_that_is_missing_is_the_one_that_is_named() {
    let world = RealEnv::start().unwrap();
    world.block_on(async {
        let store = Arc::new(Unhurried::default());
        let manifest = written(&store, 30).await;
        for missing in [&manifest.objects[17], &manifest.objects[9]] {
            store.delete(&missing.key).await.unwrap();
        }
        let error = SnapshotReader::open(store.clone(), &manifest)
            .await
            .err()
            .unwrap();
        assert!(error.to_string().contains("objects/009"), "{error}");
    });
}
