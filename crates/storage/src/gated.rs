//! A store whose writes wait at a door: for tests that look at what goes on meanwhile.

use crate::{Blob, BlobEntry, BlobKey, StorageError};
use bytes::Bytes;
use rivermark_env::BoxFuture;
use std::future::poll_fn;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// What writes wait at until it is opened. Cheap to clone; clones are the same door.
#[derive(Clone, Default)]
pub struct Door(Arc<Mutex<Traffic>>);

#[derive(Default)]
struct Traffic {
    is_open: bool,
    came: usize,
    waiting: usize,
    wakers: Vec<Waker>,
}

impl Door {
    /// Lets everybody through from now on.
    pub fn open(&self) {
        self.change(|traffic| traffic.is_open = true);
    }

    /// How many writes have come to it so far.
    pub fn came(&self) -> usize {
        self.lock().came
    }

    /// Completes when so many writes have come.
    pub async fn reached(&self, writes: usize) {
        self.until(|traffic| traffic.came >= writes).await;
    }

    /// Completes when no more writes than this wait; one that is given up waits no longer.
    pub async fn waiting_at_most(&self, writes: usize) {
        self.until(|traffic| traffic.waiting <= writes).await;
    }

    async fn pass(&self) {
        self.change(|traffic| (traffic.came, traffic.waiting) = (traffic.came + 1, traffic.waiting + 1));
        let _waiting = Waiting(self);
        self.until(|traffic| traffic.is_open).await;
    }

    async fn until(&self, is_so: impl Fn(&Traffic) -> bool) {
        poll_fn(|cx| {
            let mut traffic = self.lock();
            if is_so(&traffic) {
                return Poll::Ready(());
            }
            traffic.wakers.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn change(&self, change: impl FnOnce(&mut Traffic)) {
        let wakers = {
            let mut traffic = self.lock();
            change(&mut traffic);
            std::mem::take(&mut traffic.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Traffic> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A write at the door, until it is through or given up.
struct Waiting<'a>(&'a Door);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.change(|traffic| traffic.waiting -= 1);
    }
}

/// A store behind a door for writes; all other calls pass.
pub struct Gated {
    store: Arc<dyn Blob>,
    door: Door,
}

impl Gated {
    /// Puts a door in front of a store.
    pub fn new(store: Arc<dyn Blob>, door: Door) -> Gated {
        Gated { store, door }
    }
}

impl Blob for Gated {
    fn put<'a>(&'a self, key: &'a BlobKey, bytes: Vec<Bytes>) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(async move {
            self.door.pass().await;
            self.store.put(key, bytes).await
        })
    }
    fn get<'a>(&'a self, key: &'a BlobKey) -> BoxFuture<'a, Result<Bytes, StorageError>> {
        self.store.get(key)
    }
    fn get_range<'a>(
        &'a self,
        key: &'a BlobKey,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, StorageError>> {
        self.store.get_range(key, range)
    }
    fn list<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Vec<BlobEntry>, StorageError>> {
        self.store.list(folder)
    }
    fn delete<'a>(&'a self, key: &'a BlobKey) -> BoxFuture<'a, Result<(), StorageError>> {
        self.store.delete(key)
    }
}
