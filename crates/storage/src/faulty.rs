//! Any store, with faults on the way to it: for simulation and tests.
//!
//! A [`FaultPlan`] draws the faults (from randomness that its owner seeds), [`Faults`] makes them happen and counts them,
//! [`Faulty`] puts them in front of a store. No fault breaks a contract of [`Blob`] or [`Cas`]: they are what the
//! contracts allow to happen. A *torn* write is one that is stopped half-way and never answered; what it leaves is what
//! the store below leaves (the local one a partial temporary, or the whole object), never a part under the key.

use crate::cut::cut_after;
use crate::{Blob, BlobEntry, BlobKey, Cas, CasOutcome, Head, InDoubt, StorageError};
use bytes::Bytes;
use rivermark_env::{BoxFuture, Env};
use rivermark_types::Millis;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The calls that a fault can hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// [`Blob::put`]
    Put,
    /// [`Blob::get`]
    Get,
    /// [`Blob::get_range`]
    GetRange,
    /// [`Blob::list`]
    List,
    /// [`Blob::delete`]
    Delete,
    /// [`Cas::head`]
    Head,
    /// [`Cas::compare_and_set`]
    CompareAndSet,
}

/// What goes wrong with one call. The caller of a read gets an error for all but the slow and the duplicated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It takes longer.
    Slow(Duration),
    /// It fails without having done anything.
    Failed,
    /// It is stopped after so many polls, done in part or whole, and not answered.
    Torn {
        /// How often it is polled before it is dropped.
        after_polls: u32,
    },
    /// It is done, but the answer is lost.
    ReplyLost,
    /// It is done twice.
    Duplicated,
    /// It is never answered, not even by an error.
    Hangs {
        /// Whether it is done all the same.
        done: bool,
    },
    /// The store is away from now on: this call and all others fail until the time is over.
    Away(Duration),
}

/// The kinds of [`Fault`], to count by. Their text is for reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// [`Fault::Slow`]
    Slow,
    /// [`Fault::Failed`]
    Failed,
    /// [`Fault::Torn`]
    Torn,
    /// [`Fault::ReplyLost`]
    ReplyLost,
    /// [`Fault::Duplicated`]
    Duplicated,
    /// [`Fault::Hangs`]
    Hangs,
    /// [`Fault::Away`], counted once a period
    Away,
}

impl Fault {
    /// Its kind.
    pub fn kind(&self) -> FaultKind {
        match self {
            Fault::Slow(_) => FaultKind::Slow,
            Fault::Failed => FaultKind::Failed,
            Fault::Torn { .. } => FaultKind::Torn,
            Fault::ReplyLost => FaultKind::ReplyLost,
            Fault::Duplicated => FaultKind::Duplicated,
            Fault::Hangs { .. } => FaultKind::Hangs,
            Fault::Away(_) => FaultKind::Away,
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FaultKind::Slow => "slow",
            FaultKind::Failed => "failed",
            FaultKind::Torn => "torn",
            FaultKind::ReplyLost => "reply lost",
            FaultKind::Duplicated => "duplicated",
            FaultKind::Hangs => "hangs",
            FaultKind::Away => "away",
        })
    }
}

/// Decides what goes wrong. A closure is one.
pub trait FaultPlan: Send + Sync {
    /// The fault of the next call, if any.
    fn draw(&self, operation: Operation) -> Option<Fault>;
}

impl<F: Fn(Operation) -> Option<Fault> + Send + Sync> FaultPlan for F {
    fn draw(&self, operation: Operation) -> Option<Fault> {
        self(operation)
    }
}

/// The faults of one store (its objects and its head go away together), and how many there were.
pub struct Faults {
    env: Env,
    plan: Box<dyn FaultPlan>,
    away_until: Mutex<Option<Millis>>,
    counts: Mutex<BTreeMap<FaultKind, u64>>,
}

/// How a call fared on its way.
enum Passage<T> {
    Answered(T),
    NotDone(StorageError),
    Unanswered(StorageError),
}

impl Faults {
    /// Faults as a plan draws them, in the time of an [`Env`].
    pub fn new(env: Env, plan: impl FaultPlan + 'static) -> Arc<Faults> {
        Arc::new(Faults {
            env,
            plan: Box::new(plan),
            away_until: Mutex::default(),
            counts: Mutex::default(),
        })
    }

    /// How many faults there were, by kind; kinds that did not happen are missing.
    pub fn counts(&self) -> BTreeMap<FaultKind, u64> {
        lock(&self.counts).clone()
    }

    fn is_away(&self) -> bool {
        let mut away_until = lock(&self.away_until);
        let away = away_until.is_some_and(|until| self.env.now() < until);
        if !away {
            *away_until = None;
        }
        away
    }

    fn next(&self, operation: Operation) -> Option<Fault> {
        if self.is_away() {
            return Some(Fault::Failed);
        }
        let fault = self.plan.draw(operation)?;
        *lock(&self.counts).entry(fault.kind()).or_default() += 1;
        if let Fault::Away(period) = fault {
            *lock(&self.away_until) = Some(self.env.now().after(period));
        }
        Some(fault)
    }

    async fn pass<'a, T: Send>(
        &self,
        operation: Operation,
        call: impl Fn() -> BoxFuture<'a, T> + Send,
    ) -> Passage<T> {
        let error = |what: &str| StorageError::retryable(format!("{operation:?}: {what} (injected fault)"));
        match self.next(operation) {
            None => Passage::Answered(call().await),
            Some(Fault::Slow(wait)) => {
                self.env.sleep(wait).await;
                Passage::Answered(call().await)
            }
            Some(Fault::Failed | Fault::Away(_)) => Passage::NotDone(error("the store is away")),
            Some(Fault::Torn { after_polls }) => {
                cut_after(after_polls, call()).await;
                Passage::Unanswered(error("the connection broke"))
            }
            Some(Fault::ReplyLost) => {
                call().await;
                Passage::Unanswered(error("no answer came"))
            }
            Some(Fault::Duplicated) => {
                call().await;
                Passage::Answered(call().await)
            }
            Some(Fault::Hangs { done }) => {
                if done {
                    call().await;
                }
                std::future::pending().await
            }
        }
    }
}

/// A store behind faults.
pub struct Faulty<S: ?Sized> {
    store: Arc<S>,
    faults: Arc<Faults>,
    in_doubt: InDoubt,
}

impl<S: ?Sized> Faulty<S> {
    /// Puts faults in front of a store.
    pub fn new(store: Arc<S>, faults: Arc<Faults>) -> Faulty<S> {
        Faulty {
            store,
            faults,
            in_doubt: InDoubt::default(),
        }
    }
}

impl<T> Passage<Result<T, StorageError>> {
    fn result(self) -> Result<T, StorageError> {
        match self {
            Passage::Answered(result) => result,
            Passage::NotDone(error) | Passage::Unanswered(error) => Err(error),
        }
    }
}

impl<S: Blob + ?Sized> Blob for Faulty<S> {
    fn put<'a>(&'a self, key: &'a BlobKey, bytes: Vec<Bytes>) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(async move {
            self.faults
                .pass(Operation::Put, || self.store.put(key, bytes.clone()))
                .await
                .result()
        })
    }

    fn get<'a>(&'a self, key: &'a BlobKey) -> BoxFuture<'a, Result<Bytes, StorageError>> {
        Box::pin(async move {
            self.faults
                .pass(Operation::Get, || self.store.get(key))
                .await
                .result()
        })
    }

    fn get_range<'a>(
        &'a self,
        key: &'a BlobKey,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, StorageError>> {
        Box::pin(async move {
            let call = || self.store.get_range(key, range.clone());
            self.faults.pass(Operation::GetRange, call).await.result()
        })
    }

    fn list<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Vec<BlobEntry>, StorageError>> {
        Box::pin(async move {
            self.faults
                .pass(Operation::List, || self.store.list(folder))
                .await
                .result()
        })
    }

    fn delete<'a>(&'a self, key: &'a BlobKey) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(async move {
            self.faults
                .pass(Operation::Delete, || self.store.delete(key))
                .await
                .result()
        })
    }
}

impl<S: Cas + ?Sized> Cas for Faulty<S> {
    fn head(&self) -> BoxFuture<'_, Result<Option<Head>, StorageError>> {
        Box::pin(async move {
            self.faults
                .pass(Operation::Head, || self.store.head())
                .await
                .result()
        })
    }

    fn compare_and_set(&self, expected: Option<u64>, bytes: Bytes) -> BoxFuture<'_, CasOutcome> {
        Box::pin(async move {
            let done = AtomicBool::new(false);
            let call = async {
                let set = || -> BoxFuture<'_, CasOutcome> {
                    Box::pin(async {
                        let outcome = self.store.compare_and_set(expected, bytes.clone()).await;
                        done.fetch_or(!matches!(outcome, CasOutcome::NotWritten(_)), Ordering::Relaxed);
                        outcome
                    })
                };
                match self.faults.pass(Operation::CompareAndSet, set).await {
                    // The second of two calls has not written; the first one may have.
                    Passage::Answered(CasOutcome::NotWritten(error)) if done.load(Ordering::Relaxed) => {
                        CasOutcome::Unknown(error)
                    }
                    Passage::Answered(outcome) => outcome,
                    Passage::NotDone(error) => CasOutcome::NotWritten(error),
                    Passage::Unanswered(error) => CasOutcome::Unknown(error),
                }
            };
            self.in_doubt.settle(expected, &bytes, call).await
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
