//! What a run has seen so far, counted outside of the simulated processes: it outlives them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The counts of one run; shared by seams, faults and the supervisor.
#[derive(Default)]
pub(crate) struct Book {
    /// Calls of the file seam so far.
    pub(crate) file_calls: AtomicU64,
    /// Orders of the coordinator so far, those that change something.
    pub(crate) orders: AtomicU64,
    /// Processes started so far.
    pub(crate) processes: AtomicU64,
    entries: Mutex<Entries>,
}

#[derive(Default)]
pub(crate) struct Entries {
    /// Faults met, by kind.
    pub(crate) faults: BTreeMap<&'static str, u64>,
    /// Checkpoints decided.
    pub(crate) decided: u64,
    /// Attempts started, in all processes.
    pub(crate) attempts: u64,
    /// Those that were not a process's first.
    pub(crate) attempt_restarts: u64,
    /// Store faults since the last checkpoint of a run was asked for.
    pub(crate) late_store_faults: u64,
    /// What the attempt that starts now has got back.
    keyed: bool,
    committables: bool,
    /// Attempts that got keyed rows back.
    pub(crate) restored_keyed: u64,
    /// Whether an attempt got keyed rows back from local copies.
    pub(crate) restored_local: bool,
    /// Whether an attempt got keyed rows and work to commit back.
    pub(crate) restored_both: bool,
    /// Whether work to commit came back.
    pub(crate) restored_committables: bool,
    /// The parallelism of every operator in the process that was started last, and in the one that decided last.
    parallelism: Vec<u32>,
    decided_with: Option<Vec<u32>>,
    /// Whether a process went on from a checkpoint of one with another parallelism.
    pub(crate) rescaled: bool,
    /// Whether a barrier has overtaken records in a queue.
    pub(crate) overtaken: bool,
    /// The same since the last decision; decisions after such a barrier.
    overtook: bool,
    pub(crate) decided_in_flight: u64,
    /// Whether records came back that were in flight, and whether at another parallelism by key.
    pub(crate) restored_in_flight: bool,
    pub(crate) rescaled_in_flight: bool,
}

impl Book {
    pub(crate) fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fault was met.
    pub(crate) fn fault(&self, kind: &'static str) {
        *self.entries().faults.entry(kind).or_default() += 1;
    }

    /// A fault of the store was met.
    pub(crate) fn store_fault(&self, kind: &'static str) {
        self.fault(kind);
        self.entries().late_store_faults += 1;
    }

    /// One more; returns how many there are now.
    pub(crate) fn count(counter: &AtomicU64) -> u64 {
        counter.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Entries {
    /// A new attempt starts.
    pub(crate) fn attempt(&mut self, is_first: bool) {
        self.attempts += 1;
        self.attempt_restarts += u64::from(!is_first);
        (self.keyed, self.committables) = (false, false);
    }

    /// A process is started with so many subtasks of each operator.
    pub(crate) fn started(&mut self, parallelism: Vec<u32>) {
        self.parallelism = parallelism;
    }

    /// A barrier has overtaken records.
    pub(crate) fn overtook(&mut self) {
        (self.overtaken, self.overtook) = (true, true);
    }

    /// A checkpoint is decided.
    pub(crate) fn decided(&mut self) {
        self.decided += 1;
        self.decided_in_flight += u64::from(std::mem::take(&mut self.overtook));
        self.decided_with = Some(self.parallelism.clone());
    }

    /// A subtask gets records back that were in flight.
    pub(crate) fn restored_in_flight(&mut self, rows: u64, rescaled: bool) {
        self.restored_in_flight |= rows > 0;
        self.rescaled_in_flight |= rows > 0 && rescaled;
    }

    /// An operator gets something back.
    pub(crate) fn restored(&mut self, keyed: bool, committables: bool) {
        self.restored_keyed += u64::from(keyed && !self.keyed);
        self.keyed |= keyed;
        self.committables |= committables;
        self.restored_committables |= committables;
        let decided_with = self.decided_with.as_ref();
        self.rescaled |= decided_with.is_some_and(|then| *then != self.parallelism);
        self.restored_both |= self.keyed && self.committables;
    }
}
