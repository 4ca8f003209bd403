//! Rows back to the program that runs the job, exactly once. Also the model of an external system with transactions: the
//! store is outside the job and outlives its attempts and, in a simulation, its processes.

use crate::sink::{Sink, TwoPhaseSink};
use rivermark_data::Data;
use rivermark_env::Env;
use rivermark_runtime::SubtaskInfo;
use rivermark_types::{CheckpointId, Failure, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// A transaction of one writer. Orders by age of the writer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Transaction {
    generation: u64,
    attempt: u32,
    subtask: u32,
    counter: u64,
}

impl Transaction {
    /// Whether an earlier attempt wrote it, of this process or of one before it.
    fn is_before(&self, info: &SubtaskInfo) -> bool {
        (self.generation, self.attempt) < (info.generation.0, info.attempt.0)
    }
}

struct Store<T> {
    visible: Vec<T>,
    invisible: BTreeMap<Transaction, Vec<T>>,
    committed: BTreeSet<Transaction>,
    /// Writers wait while so many rows are visible and not taken.
    limit: usize,
    /// Nobody will take rows any more.
    is_closed: bool,
}

/// Who waits for whom.
#[derive(Default)]
struct Bells {
    /// Rows became visible.
    shown: Notify,
    /// Rows were taken, or never will be.
    taken: Notify,
}

/// What a [`CollectSink`] has made visible so far.
pub struct Collected<T>(Arc<(Mutex<Store<T>>, Bells)>);

impl<T> Clone for Collected<T> {
    fn clone(&self) -> Self {
        Collected(self.0.clone())
    }
}

impl<T> Default for Collected<T> {
    fn default() -> Self {
        Collected::bounded(usize::MAX)
    }
}

impl<T> Collected<T> {
    /// A store whose writers wait while `limit` rows or more are visible and not taken. What becomes visible at once, the
    /// rows between two checkpoints, may be more.
    pub fn bounded(limit: usize) -> Collected<T> {
        let store = Store {
            visible: Vec::new(),
            invisible: BTreeMap::new(),
            committed: BTreeSet::new(),
            limit,
            is_closed: false,
        };
        Collected(Arc::new((Mutex::new(store), Bells::default())))
    }

    fn store(&self) -> MutexGuard<'_, Store<T>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bells(&self) -> &Bells {
        &self.0.1
    }

    /// Takes out the visible rows, in the order in which they were committed.
    pub fn take(&self) -> Vec<T> {
        let rows = std::mem::take(&mut self.store().visible);
        self.bells().taken.notify_waiters();
        rows
    }

    /// Completes when rows have become visible since the last time; for one who waits.
    pub async fn shown(&self) {
        self.bells().shown.notified().await;
    }

    /// Nobody will take rows any more: writers drop theirs and wait no longer.
    pub fn close(&self) {
        self.store().is_closed = true;
        self.bells().taken.notify_waiters();
    }

    /// Completes when a writer may go on.
    async fn has_room(&self) {
        loop {
            let mut taken = pin!(self.bells().taken.notified());
            // Listens before it looks: nothing that is taken in between is missed.
            taken.as_mut().enable();
            {
                let store = self.store();
                if store.is_closed || store.visible.len() < store.limit {
                    return;
                }
            }
            taken.await;
        }
    }

    /// How many rows are visible.
    pub fn len(&self) -> usize {
        self.store().visible.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many transactions are open: 0 after a job has ended.
    pub fn open_transactions(&self) -> usize {
        self.store().invisible.len()
    }
}

impl<T: Clone> Collected<T> {
    /// The visible rows, in the order in which they were committed.
    pub fn rows(&self) -> Vec<T> {
        self.store().visible.clone()
    }
}

/// A sink into a [`Collected`].
pub struct CollectSink<T> {
    collected: Collected<T>,
}

impl<T: Data> CollectSink<T> {
    /// A sink into this store.
    pub fn new(collected: Collected<T>) -> CollectSink<T> {
        CollectSink { collected }
    }
}

impl<T: Data> Sink for CollectSink<T> {
    type Writer = CollectWriter<T>;

    fn name(&self) -> String {
        "collect".to_owned()
    }

    fn writer(&self, _env: &Env, info: &SubtaskInfo) -> Result<CollectWriter<T>> {
        Ok(CollectWriter {
            collected: self.collected.clone(),
            info: info.clone(),
            counter: 0,
            prepared: false,
        })
    }
}

/// One subtask's writer; one transaction a checkpoint.
pub struct CollectWriter<T> {
    collected: Collected<T>,
    info: SubtaskInfo,
    counter: u64,
    prepared: bool,
}

impl<T> CollectWriter<T> {
    fn transaction(&self) -> Transaction {
        Transaction {
            generation: self.info.generation.0,
            attempt: self.info.attempt.0,
            subtask: self.info.subtask.index,
            counter: self.counter,
        }
    }
}

impl<T: Data> TwoPhaseSink for CollectWriter<T> {
    type Row = T;
    type Committable = Transaction;

    async fn write(&mut self, mut rows: Vec<T>) -> Result<()> {
        if std::mem::take(&mut self.prepared) {
            self.counter += 1;
        }
        self.collected.has_room().await;
        let transaction = self.transaction();
        self.collected
            .store()
            .invisible
            .entry(transaction)
            .or_default()
            .append(&mut rows);
        Ok(())
    }

    async fn prepare(&mut self, _checkpoint: CheckpointId) -> Result<Vec<Transaction>> {
        let transaction = self.transaction();
        let written = !self.prepared && self.collected.store().invisible.contains_key(&transaction);
        self.prepared |= written;
        Ok(if written { vec![transaction] } else { Vec::new() })
    }

    async fn commit(&mut self, transactions: Vec<Transaction>) -> Result<()> {
        let mut store = self.collected.store();
        for transaction in transactions {
            if store.committed.contains(&transaction) {
                continue;
            }
            let mut rows = store.invisible.remove(&transaction).ok_or_else(|| {
                Failure::invalid(format!(
                    "the collected rows of {transaction:?} are gone: what is collected lives only as long as its program"
                ))
            })?;
            if !store.is_closed {
                store.visible.append(&mut rows);
            }
            store.committed.insert(transaction);
        }
        drop(store);
        self.collected.bells().shown.notify_one();
        Ok(())
    }

    async fn abort_unlisted(&mut self) -> Result<()> {
        // Not those of a later writer: this one may be of a process that was stopped for a while and has been replaced.
        let info = &self.info;
        self.collected
            .store()
            .invisible
            .retain(|transaction, _| !transaction.is_before(info));
        Ok(())
    }
}
