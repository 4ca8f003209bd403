//! Deadlines: a store that hangs gives errors, and what was written late is deleted all the same.
#![allow(clippy::unwrap_used, reason = "test helpers fail their test")]

use bytes::Bytes;
use rivermark_env::RealEnv;
use rivermark_storage::timely::LATE_WRITES;
use rivermark_storage::{
    Blob, BlobKey, Cas, CasOutcome, Door, Fault, Faults, Faulty, Gated, MemoryBlob, MemoryCas,
    StorageErrorKind, Timely,
};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

const LIMIT: Duration = Duration::from_millis(5);

fn key(text: &str) -> BlobKey {
    BlobKey::new(text).unwrap()
}

#[test]
fn every_call_of_a_store_that_hangs_ends_with_an_error_that_says_so() {
    let world = RealEnv::start().unwrap();
    let hangs = Faults::new(world.env(), |_| Some(Fault::Hangs { done: false }));
    let blob = Timely::new(
        world.env(),
        Arc::new(Faulty::new(Arc::new(MemoryBlob::new()), hangs.clone())),
        LIMIT,
    );
    let cas = Timely::new(
        world.env(),
        Arc::new(Faulty::new(Arc::new(MemoryCas::new()), hangs)),
        LIMIT,
    );
    let key = key("g1/a");
    world.block_on(async {
        let errors = [
            blob.put(&key, vec![]).await.unwrap_err(),
            blob.get(&key).await.unwrap_err(),
            blob.get_range(&key, 0..1).await.unwrap_err(),
            blob.list("g1").await.unwrap_err(),
            cas.head().await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), StorageErrorKind::Retryable);
            assert!(
                error
                    .to_string()
                    .ends_with(": the store has not answered for 0.005 s"),
                "{error}"
            );
        }
        // Nothing is said of whether it was written.
        let outcome = cas.compare_and_set(None, Bytes::new()).await;
        assert!(matches!(outcome, CasOutcome::Unknown(_)), "{outcome:?}");
    });
}

#[test]
fn a_decision_that_was_made_without_an_answer_is_found_by_asking_again() {
    let world = RealEnv::start().unwrap();
    let calls = AtomicUsize::new(0);
    let first_hangs = Faults::new(world.env(), move |_| {
        (calls.fetch_add(1, Ordering::SeqCst) == 0).then_some(Fault::Hangs { done: true })
    });
    let cas = Arc::new(Faulty::new(Arc::new(MemoryCas::new()), first_hangs));
    let cas = Timely::new(world.env(), cas, LIMIT);
    world.block_on(async {
        let decision = Bytes::from_static(b"decision");
        let outcome = cas.compare_and_set(None, decision.clone()).await;
        assert!(matches!(outcome, CasOutcome::Unknown(_)), "{outcome:?}");
        let outcome = cas.compare_and_set(None, decision).await;
        assert!(
            matches!(outcome, CasOutcome::Committed { version: 1 }),
            "{outcome:?}"
        );
    });
}

#[test]
fn what_is_written_late_is_deleted_after_that() {
    let world = RealEnv::start().unwrap();
    let (memory, door) = (Arc::new(MemoryBlob::new()), Door::default());
    let gated = Arc::new(Gated::new(memory.clone(), door.clone()));
    let blob = Timely::new(world.env(), gated, LIMIT);
    let (late, other) = (key("g1/late"), key("g1/other"));
    world.block_on(async {
        blob.put(&late, vec![Bytes::from_static(b"x")]).await.unwrap_err();
        // Another key has nothing to wait for, this one does.
        blob.delete(&other).await.unwrap();
        let mut deletion = pin!(blob.delete(&late));
        assert!(
            deletion
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
        door.open();
        deletion.await.unwrap();
        assert!(
            memory.get(&late).await.is_err(),
            "it came back after its deletion"
        );
    });
}

#[test]
fn only_so_many_late_writes_are_kept_and_none_after_settling() {
    let world = RealEnv::start().unwrap();
    let door = Door::default();
    let gated = Arc::new(Gated::new(Arc::new(MemoryBlob::new()), door.clone()));
    let blob = Timely::new(world.env(), gated, LIMIT);
    world.block_on(async {
        for number in 0..2 * LATE_WRITES {
            let key = key(&format!("g1/{number}"));
            blob.put(&key, vec![]).await.unwrap_err();
        }
        door.waiting_at_most(LATE_WRITES).await;
        blob.settle().await;
        door.waiting_at_most(0).await;
    });
}
