//! What a seed came to, and what many came to together.

use super::book::Book;
use super::plan::{Scenario, Topology};
use super::rescale::Alignment;
use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// One seed.
#[derive(Clone, Debug)]
pub struct SeedReport {
    /// The seed.
    pub seed: u64,
    /// The shape of its job.
    pub topology: Topology,
    /// How its checkpoints were aligned, of jobs that fail with full queues.
    pub alignment: Option<Alignment>,
    /// What else is to be known of its job, in a line.
    pub about: Option<String>,
    /// What was wrong, if anything: a line, or a few.
    pub failure: Option<String>,
    /// What it counts for in the sums.
    pub counts: Counts,
    /// Stands for everything that happened.
    pub trace_hash: u64,
    /// What happened, a line each, if asked for.
    pub trace: Vec<String>,
}

impl SeedReport {
    /// A seed whose run panicked.
    pub fn panicked(seed: u64) -> SeedReport {
        SeedReport {
            seed,
            topology: Scenario::draw(seed, None).topology,
            alignment: None,
            about: None,
            failure: Some("the run panicked".into()),
            counts: Counts {
                seeds: 1,
                failures: 1,
                ..Counts::default()
            },
            trace_hash: 0,
            trace: Vec::new(),
        }
    }
}

/// What is counted, of one seed or of many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Seeds.
    pub seeds: u64,
    /// Seeds that failed.
    pub failures: u64,
    /// Rows to be read.
    pub rows: u64,
    /// Checkpoints decided.
    pub checkpoints: u64,
    /// Faults met, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Processes started after the first.
    pub process_restarts: u64,
    /// Attempts started in a process after its first.
    pub attempt_restarts: u64,
    /// Attempts that got keyed rows back.
    pub restored_keyed: u64,
    /// Seeds in which an attempt got both keyed rows and work to commit back.
    pub restored_both: u64,
    /// Seeds in which an attempt got keyed rows back from local copies.
    pub restored_local: u64,
    /// Seeds in which a barrier has overtaken records in a queue.
    pub overtaken: u64,
    /// Seeds in which records came back that were in flight.
    pub restored_in_flight: u64,
    /// Seeds in which some of them were dealt out anew by key.
    pub rescaled_in_flight: u64,
    /// Seeds in which work to commit came back.
    pub restored_committables: u64,
    /// Seeds in which a process went on from a checkpoint of one with another parallelism.
    pub rescaled: u64,
    /// Polls.
    pub steps: u64,
    /// Virtual time.
    pub virtual_time: Duration,
}

impl Counts {
    /// What the book of one seed's run says.
    pub(crate) fn of(book: &Book, scenario: &Scenario) -> Counts {
        let processes = book.processes.load(Ordering::Relaxed);
        let entries = book.entries();
        Counts {
            seeds: 1,
            rows: scenario.row_count(),
            checkpoints: entries.decided,
            faults: entries.faults.clone(),
            process_restarts: processes.saturating_sub(1),
            attempt_restarts: entries.attempt_restarts,
            restored_keyed: entries.restored_keyed,
            restored_both: u64::from(entries.restored_both),
            restored_local: u64::from(entries.restored_local),
            overtaken: u64::from(entries.overtaken),
            restored_in_flight: u64::from(entries.restored_in_flight),
            rescaled_in_flight: u64::from(entries.rescaled_in_flight),
            restored_committables: u64::from(entries.restored_committables),
            rescaled: u64::from(entries.rescaled),
            ..Counts::default()
        }
    }

    /// Faults of all kinds.
    pub fn all_faults(&self) -> u64 {
        self.faults.values().sum()
    }

    /// Restarts of both kinds.
    pub fn restarts(&self) -> u64 {
        self.process_restarts + self.attempt_restarts
    }

    /// So much per seed.
    pub fn mean(&self, sum: u64) -> f64 {
        sum as f64 / (self.seeds.max(1)) as f64
    }
}

impl AddAssign<&Counts> for Counts {
    fn add_assign(&mut self, other: &Counts) {
        self.seeds += other.seeds;
        self.failures += other.failures;
        self.rows += other.rows;
        self.checkpoints += other.checkpoints;
        self.process_restarts += other.process_restarts;
        self.attempt_restarts += other.attempt_restarts;
        self.restored_keyed += other.restored_keyed;
        self.restored_both += other.restored_both;
        self.restored_local += other.restored_local;
        self.overtaken += other.overtaken;
        self.restored_in_flight += other.restored_in_flight;
        self.rescaled_in_flight += other.rescaled_in_flight;
        self.restored_committables += other.restored_committables;
        self.rescaled += other.rescaled;
        self.steps += other.steps;
        self.virtual_time += other.virtual_time;
        for (kind, count) in &other.faults {
            *self.faults.entry(kind).or_default() += count;
        }
    }
}
