//! Any store, with a deadline for every call: whoever calls a store that hangs gets an error to go on with.
//!
//! A read that is not answered in time is dropped. A write of an object may happen later all the same, so it is not dropped
//! but left to itself: its key is deleted only after it has ended, and only the last few are kept. A compare-and-set that is
//! not answered in time is in doubt, as any other without an answer.

use crate::{Blob, BlobEntry, BlobKey, Cas, CasOutcome, Head, InDoubt, StorageError};
use bytes::Bytes;
use rivermark_env::{BoxFuture, Env, TaskHandle};
use std::future::poll_fn;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

/// So many writes without an answer are kept, with the bytes that they hold; the oldest is dropped for one more.
pub const LATE_WRITES: usize = 3;

/// A store with a deadline for every call.
pub struct Timely<S: ?Sized> {
    store: Arc<S>,
    deadline: Deadline,
    in_doubt: InDoubt,
    late: Mutex<Vec<LateWrite>>,
}

/// A write whose caller was told that it is late.
struct LateWrite {
    key: BlobKey,
    task: TaskHandle,
}

/// How long a call may take.
struct Deadline {
    env: Env,
    limit: Duration,
}

impl Deadline {
    /// What a call answers, or the call if it does not in time.
    async fn meet<F: Future + Unpin>(&self, mut call: F) -> Result<F::Output, F> {
        let mut timer = self.env.sleep(self.limit);
        let answer = poll_fn(|cx| match Pin::new(&mut call).poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending => timer.as_mut().poll(cx).map(|()| None),
        });
        answer.await.ok_or(call)
    }

    /// The same for a call that may be dropped.
    async fn meet_or_drop<T>(
        &self,
        call: BoxFuture<'_, Result<T, StorageError>>,
        (verb, name): (&'static str, &str),
    ) -> Result<T, StorageError> {
        match self.meet(call).await {
            Ok(answer) => answer,
            Err(_) => Err(self.missed(verb, name)),
        }
    }

    fn missed(&self, verb: &'static str, name: &str) -> StorageError {
        let seconds = self.limit.as_secs_f64();
        StorageError::retryable(format!(
            "{verb} {name}: the store has not answered for {seconds} s"
        ))
    }
}

impl<S: ?Sized> Timely<S> {
    /// Gives every call of a store so much time.
    pub fn new(env: Env, store: Arc<S>, limit: Duration) -> Timely<S> {
        Timely {
            store,
            deadline: Deadline { env, limit },
            in_doubt: InDoubt::default(),
            late: Mutex::default(),
        }
    }

    /// Waits for the writes that are late, up to the time of a call; those that are still late then are dropped.
    pub async fn settle(&self) {
        let late = std::mem::take(&mut *self.late());
        let all = async {
            for write in &late {
                write.task.ended().await;
            }
        };
        if self.deadline.meet(Box::pin(all)).await.is_err() {
            late.iter().for_each(|write| write.task.abort());
        }
    }

    fn late(&self) -> MutexGuard<'_, Vec<LateWrite>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a write that is late go on by itself.
    fn keep(&self, key: &BlobKey, call: BoxFuture<'static, Result<(), StorageError>>) {
        let task = self.deadline.env.spawn_io("late write", async move {
            // Its caller has given up on it: the answer is nobody's.
            let _ = call.await;
        });
        let mut late = self.late();
        late.retain(|write| write.task.exit().is_none());
        if late.len() >= LATE_WRITES {
            late.remove(0).task.abort();
        }
        late.push(LateWrite {
            key: key.clone(),
            task,
        });
    }

    /// Completes when no late write of a key is under way.
    fn written(&self, key: &BlobKey) -> impl Future<Output = ()> + Send + use<S> {
        let of_key = |write: &&LateWrite| write.key == *key;
        let ends: Vec<_> = self
            .late()
            .iter()
            .filter(of_key)
            .map(|write| write.task.ended())
            .collect();
        async move {
            for end in ends {
                end.await;
            }
        }
    }
}

impl<S: Blob + ?Sized + 'static> Blob for Timely<S> {
    fn put<'a>(&'a self, key: &'a BlobKey, bytes: Vec<Bytes>) -> BoxFuture<'a, Result<(), StorageError>> {
        let (store, to) = (self.store.clone(), key.clone());
        let call: BoxFuture<'static, _> = Box::pin(async move { store.put(&to, bytes).await });
        Box::pin(async move {
            match self.deadline.meet(call).await {
                Ok(answer) => answer,
                Err(call) => {
                    self.keep(key, call);
                    Err(self.deadline.missed("writing", key.as_str()))
                }
            }
        })
    }

    fn get<'a>(&'a self, key: &'a BlobKey) -> BoxFuture<'a, Result<Bytes, StorageError>> {
        let call = self.store.get(key);
        Box::pin(async move { self.deadline.meet_or_drop(call, ("reading", key.as_str())).await })
    }

    fn get_range<'a>(
        &'a self,
        key: &'a BlobKey,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, StorageError>> {
        let call = self.store.get_range(key, range);
        Box::pin(async move { self.deadline.meet_or_drop(call, ("reading", key.as_str())).await })
    }

    fn list<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Vec<BlobEntry>, StorageError>> {
        let call = self.store.list(folder);
        Box::pin(async move { self.deadline.meet_or_drop(call, ("listing", folder)).await })
    }

    fn delete<'a>(&'a self, key: &'a BlobKey) -> BoxFuture<'a, Result<(), StorageError>> {
        let written = self.written(key);
        let call = Box::pin(async move {
            written.await;
            self.store.delete(key).await
        });
        Box::pin(async move { self.deadline.meet_or_drop(call, ("deleting", key.as_str())).await })
    }
}

impl<S: Cas + ?Sized> Cas for Timely<S> {
    fn head(&self) -> BoxFuture<'_, Result<Option<Head>, StorageError>> {
        let call = self.store.head();
        Box::pin(async move {
            self.deadline
                .meet_or_drop(call, ("reading", "the newest decision"))
                .await
        })
    }

    fn compare_and_set(&self, expected: Option<u64>, bytes: Bytes) -> BoxFuture<'_, CasOutcome> {
        Box::pin(async move {
            let call = async {
                match self
                    .deadline
                    .meet(self.store.compare_and_set(expected, bytes.clone()))
                    .await
                {
                    Ok(outcome) => outcome,
                    Err(_) => CasOutcome::Unknown(self.deadline.missed("writing", "a decision")),
                }
            };
            self.in_doubt.settle(expected, &bytes, call).await
        })
    }
}
