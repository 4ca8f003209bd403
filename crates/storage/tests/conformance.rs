//! The conformance suite, run on every implementation, plain and behind faults.
#![allow(clippy::unwrap_used, reason = "test helpers fail their test")]

use bytes::Bytes;
use rivermark_env::{BoxFuture, RealEnv};
use rivermark_storage::conformance::{check_blob, check_cas};
use rivermark_storage::{
    Blob, BlobEntry, BlobKey, Cas, CasOutcome, Fault, FaultKind, Faults, Faulty, Head, LocalBlob, LocalCas,
    MemoryBlob, MemoryCas, Operation, StorageError, StorageErrorKind,
};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Repeats calls as the callers of a store do.
struct Retrying<S>(S);

async fn retry<'a, T>(call: impl Fn() -> BoxFuture<'a, Result<T, StorageError>>) -> Result<T, StorageError> {
    loop {
        match call().await {
            Err(error) if error.kind() == StorageErrorKind::Retryable => {}
            settled => return settled,
        }
    }
}

impl<S: Blob> Blob for Retrying<S> {
    fn put<'a>(&'a self, key: &'a BlobKey, bytes: Vec<Bytes>) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(async move { retry(|| self.0.put(key, bytes.clone())).await })
    }
    fn get<'a>(&'a self, key: &'a BlobKey) -> BoxFuture<'a, Result<Bytes, StorageError>> {
        Box::pin(async move { retry(|| self.0.get(key)).await })
    }
    fn get_range<'a>(
        &'a self,
        key: &'a BlobKey,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, StorageError>> {
        Box::pin(async move { retry(|| self.0.get_range(key, range.clone())).await })
    }
    fn list<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Vec<BlobEntry>, StorageError>> {
        Box::pin(async move { retry(|| self.0.list(folder)).await })
    }
    fn delete<'a>(&'a self, key: &'a BlobKey) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(async move { retry(|| self.0.delete(key)).await })
    }
}

impl<S: Cas> Cas for Retrying<S> {
    fn head(&self) -> BoxFuture<'_, Result<Option<Head>, StorageError>> {
        Box::pin(async move { retry(|| self.0.head()).await })
    }
    fn compare_and_set(&self, expected: Option<u64>, bytes: Bytes) -> BoxFuture<'_, CasOutcome> {
        Box::pin(async move {
            let mut was_unknown = false;
            loop {
                match self.0.compare_and_set(expected, bytes.clone()).await {
                    CasOutcome::Unknown(_) => was_unknown = true,
                    CasOutcome::NotWritten(error) => {
                        assert!(
                            !was_unknown,
                            "an unknown outcome turned into `NotWritten`: {error}"
                        );
                        if error.kind() != StorageErrorKind::Retryable {
                            return CasOutcome::NotWritten(error);
                        }
                    }
                    settled => return settled,
                }
            }
        })
    }
}

/// Every third call goes wrong, in turn in every way, drawn from a seed.
fn plan(seed: u64) -> impl Fn(Operation) -> Option<Fault> + Send + Sync {
    let state = AtomicU64::new(seed);
    move |_| {
        let drawn = state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (drawn ^ (drawn >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32;
        match mixed % 18 {
            0 => Some(Fault::Failed),
            1 => Some(Fault::Torn {
                after_polls: (mixed / 18 % 12) as u32,
            }),
            2 => Some(Fault::ReplyLost),
            3 => Some(Fault::Duplicated),
            4 => Some(Fault::Slow(Duration::from_micros(10))),
            5 if (mixed / 18).is_multiple_of(20) => Some(Fault::Away(Duration::from_millis(2))),
            _ => None,
        }
    }
}

#[test]
fn memory_conforms() {
    let world = RealEnv::start().unwrap();
    world.block_on(async {
        check_blob(&MemoryBlob::new()).await.unwrap();
        let one = MemoryCas::new();
        check_cas(&one, &one.another_writer()).await.unwrap();
    });
}

#[test]
fn a_local_directory_conforms() {
    let world = RealEnv::start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    // Both stores of a job share a directory.
    let root = dir.path().join("store/job");
    world.block_on(async {
        let one = LocalCas::open(&world.env(), &root).await.unwrap();
        let other = LocalCas::open(&world.env(), &root).await.unwrap();
        check_cas(&one, &other).await.unwrap();
        check_blob(&LocalBlob::open(&world.env(), &root).await.unwrap())
            .await
            .unwrap();
        let head = one.head().await.unwrap().unwrap();
        assert_eq!(
            LocalCas::open(&world.env(), &root)
                .await
                .unwrap()
                .head()
                .await
                .unwrap(),
            Some(head)
        );
    });
}

#[test]
fn stores_behind_faults_conform_when_calls_are_repeated() {
    let world = RealEnv::start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::new(world.env(), plan(7));
    world.block_on(async {
        let faulty = Faulty::new(Arc::new(MemoryBlob::new()), Arc::clone(&faults));
        check_blob(&Retrying(faulty)).await.unwrap();
        let one = Arc::new(MemoryCas::new());
        let other = Faulty::new(Arc::new(one.another_writer()), Arc::clone(&faults));
        let one = Faulty::new(one, Arc::clone(&faults));
        check_cas(&Retrying(one), &Retrying(other)).await.unwrap();

        let blob = Arc::new(LocalBlob::open(&world.env(), dir.path()).await.unwrap());
        check_blob(&Retrying(Faulty::new(blob, Arc::clone(&faults))))
            .await
            .unwrap();
        let one = Arc::new(LocalCas::open(&world.env(), dir.path()).await.unwrap());
        let other = Arc::new(LocalCas::open(&world.env(), dir.path()).await.unwrap());
        let one = Retrying(Faulty::new(one, Arc::clone(&faults)));
        let other = Retrying(Faulty::new(other, Arc::clone(&faults)));
        check_cas(&one, &other).await.unwrap();
    });
    let counts = faults.counts();
    for kind in [
        FaultKind::Slow,
        FaultKind::Failed,
        FaultKind::Torn,
        FaultKind::ReplyLost,
        FaultKind::Duplicated,
    ] {
        assert!(
            counts.get(&kind).is_some_and(|&n| n > 0),
            "no call was {kind}: {counts:?}"
        );
    }
}

/// A store that keeps its word except for one sentence.
struct Forgetful(MemoryBlob);

impl Blob for Forgetful {
    fn put<'a>(&'a self, key: &'a BlobKey, bytes: Vec<Bytes>) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(async move {
            // Replaces what is there.
            self.0.delete(key).await?;
            self.0.put(key, bytes).await
        })
    }
    fn get<'a>(&'a self, key: &'a BlobKey) -> BoxFuture<'a, Result<Bytes, StorageError>> {
        self.0.get(key)
    }
    fn get_range<'a>(
        &'a self,
        key: &'a BlobKey,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, StorageError>> {
        self.0.get_range(key, range)
    }
    fn list<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Vec<BlobEntry>, StorageError>> {
        self.0.list(folder)
    }
    fn delete<'a>(&'a self, key: &'a BlobKey) -> BoxFuture<'a, Result<(), StorageError>> {
        self.0.delete(key)
    }
}

#[test]
fn the_suite_notices_a_broken_promise() {
    let world = RealEnv::start().unwrap();
    let verdict = world
        .block_on(check_blob(&Forgetful(MemoryBlob::new())))
        .unwrap_err();
    assert!(verdict.message.contains("another content is Taken"), "{verdict}");
    // Two handles of one writer are no two writers.
    let cas = MemoryCas::new();
    let verdict = world.block_on(check_cas(&cas, &cas)).unwrap_err();
    assert!(
        verdict.message.contains("equal bytes of another writer"),
        "{verdict}"
    );
}
