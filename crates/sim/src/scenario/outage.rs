//! Jobs whose store is away for ten minutes, or answers each decision late or not at all, and which must not care: `--part
//! store-away` and `--part late-decisions`.
//!
//! Layout: [`Outage`] (what is drawn, and what it does to the store's calls), [`draw`] (the scenario of a seed: one of the
//! usual jobs, slowed down to last long enough), [`Inspector`] (looks at the store and the scratch files from outside while
//! the job runs, and after it). Most of these jobs are struck by nothing else, and then must not restart.

use super::book::Book;
use super::lies::JOB_DIR;
use super::plan::Scenario;
use super::rows::input_rows;
use super::trouble::{Strike, Strikes};
use crate::{Draw, Limits, Machine, SimWorld};
use bytes::Bytes;
use rivermark_env::{BoxFuture, Env};
use rivermark_job::JobStats;
use rivermark_protocol::coordinator::CoordinatorConfig;
use rivermark_state::WriterConfig;
use rivermark_state::fsck::{FsckReport, Orphan, Standing, check_job};
use rivermark_state::writer::HARD_LIMIT;
use rivermark_storage::faulty::{Fault, Operation};
use rivermark_storage::{Cas, CasOutcome, Head, LocalBlob, LocalCas, StorageError};
use rivermark_types::Millis;
use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The ways in which a store is away, by their names for `--part`.
const KINDS: [(&str, Kind); 2] = [("store-away", Kind::Away), ("late-decisions", Kind::Decisions)];

/// More time than such a run takes.
pub(crate) const MAX_TIME: Duration = Duration::from_secs(2 * 3600);
/// What a checkpoint may hold in memory beyond its limits: what slots hand over before anybody looks.
const SLACK: u64 = 32 << 10;
/// Polls between two looks at the scratch files.
const LOOK_EVERY: u64 = 500;

/// What the store does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Every call fails, hangs, or is answered when it is back.
    Away,
    /// Decisions are answered late, or not, or not even made.
    Decisions,
}

/// The names of these parts.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|(name, _)| *name)
}

pub(crate) fn kind_of(name: &str) -> Option<Kind> {
    KINDS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, kind)| *kind)
}

/// An outage and what else happens.
#[derive(Clone, Debug)]
pub(crate) struct Outage {
    kind: Kind,
    from: Duration,
    until: Duration,
    /// Of calls while it is away: how many of twelve fail, and how many hang for ever; the others are answered when it is back.
    fail: u64,
    hang: u64,
    pub(crate) call_timeout: Duration,
    /// What strikes the job, and when; mostly nothing does.
    strike: Option<(Duration, Strike)>,
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outage {
            kind, from, until, ..
        } = self;
        write!(
            f,
            "{kind:?} from {from:?} to {until:?}, calls of {:?}",
            self.call_timeout
        )?;
        match self.strike {
            Some((at, strike)) => write!(f, ", {strike:?} at {at:?}"),
            None => Ok(()),
        }
    }
}

impl Outage {
    /// What happens to a call.
    pub(crate) fn fault(
        &self,
        operation: Operation,
        now: Duration,
        draw: &mut Draw,
    ) -> Option<(Fault, &'static str)> {
        if !(self.from..self.until).contains(&now) {
            return None;
        }
        let fault = match self.kind {
            Kind::Away => match draw.below(12) {
                n if n < self.fail => Fault::Failed,
                n if n < self.fail + self.hang => Fault::Hangs { done: false },
                _ => Fault::Slow(self.until - now + draw.time(Duration::ZERO, Duration::from_secs(5))),
            },
            Kind::Decisions if operation != Operation::CompareAndSet => return None,
            Kind::Decisions => match draw.below(8) {
                0 | 1 => Fault::ReplyLost,
                2 => Fault::Hangs { done: true },
                3 => Fault::Hangs { done: false },
                4 => Fault::Failed,
                5 => Fault::Slow(draw.time(Duration::from_secs(1), Duration::from_secs(90))),
                _ => return None,
            },
        };
        Some((fault, "store out"))
    }

    /// Before all faults: decisions that are made when nobody waits for them any more.
    pub(crate) fn delays(&self, clock: &WorldClock, cas: Arc<dyn Cas>, draw: Draw) -> Arc<dyn Cas> {
        match self.kind {
            Kind::Away => cas,
            Kind::Decisions => Arc::new(Delayed {
                clock: clock.clone(),
                cas,
                until: self.until,
                draw: Mutex::new(draw),
            }),
        }
    }

    /// The strikes of the run.
    pub(crate) fn strikes(&self) -> Strikes {
        Strikes::at(self.strike)
    }

    /// How many processes and attempts there may be: no more than without the outage.
    fn check_restarts(&self, processes: u64, attempts: u64) -> Result<(), String> {
        let most = match self.strike {
            None => (1, 1),
            // What takes over while the store is away may have to be started again and again.
            Some((_, Strike::Kill)) => return Ok(()),
            Some((_, Strike::Stop)) => (2, 2),
            Some(_) => (1, 2),
        };
        if processes > most.0 || attempts > most.1 {
            return Err(format!(
                "the job was restarted because of the store: {processes} processes and {attempts} attempts, {most:?} are due"
            ));
        }
        Ok(())
    }
}

/// A store of which some decisions are made late, without an answer.
struct Delayed {
    clock: WorldClock,
    cas: Arc<dyn Cas>,
    until: Duration,
    draw: Mutex<Draw>,
}

impl Cas for Delayed {
    fn head(&self) -> BoxFuture<'_, Result<Option<Head>, StorageError>> {
        self.cas.head()
    }

    fn compare_and_set(&self, expected: Option<u64>, bytes: Bytes) -> BoxFuture<'_, CasOutcome> {
        let late = {
            let draw = &mut *self.draw.lock().unwrap_or_else(PoisonError::into_inner);
            let away = self.clock.now() < self.until && draw.one_in(4);
            away.then(|| draw.time(Duration::from_secs(1), Duration::from_secs(200)))
        };
        let Some(wait) = late else {
            return self.cas.compare_and_set(expected, bytes);
        };
        let (env, cas) = (self.clock.env.clone(), self.cas.clone());
        self.clock.env.spawn_io("late decision", async move {
            env.sleep(wait).await;
            cas.compare_and_set(expected, bytes).await;
        });
        Box::pin(std::future::pending())
    }
}

/// The world's time inside of a process, whose own clock has a zero of its own.
#[derive(Clone)]
pub(crate) struct WorldClock {
    env: Env,
    born: Duration,
    zero: Millis,
}

impl WorldClock {
    /// For a process that begins now, at this time of the world.
    pub(crate) fn new(env: &Env, born: Duration) -> WorldClock {
        WorldClock {
            env: env.clone(),
            born,
            zero: env.now(),
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.born + self.env.now().since(self.zero)
    }
}

/// The scenario of a seed.
pub(crate) fn draw(seed: u64, kind: Kind) -> Scenario {
    // Of an even number it has no part of the API: these have jobs whose output depends on how fast they are.
    let mut job = Scenario::draw(seed.wrapping_mul(2), None);
    let draw = &mut Draw::stream(seed, "outage plan");
    let seconds = |low, high, draw: &mut Draw| draw.time(Duration::from_secs(low), Duration::from_secs(high));
    let from = seconds(5, 90, draw);
    let until = from + Duration::from_secs(600);
    job.duration = until + seconds(60, 240, draw);
    let rows = job.duration.as_secs();
    job.rows = job.rows.map(|rows_before| {
        let keys = rows_before.iter().map(|row| row.key + 1).max().unwrap_or(1);
        let count = if rows_before.is_empty() { 0 } else { rows };
        Arc::new(input_rows(draw, count, keys, job.disorder.as_millis() as u64))
    });
    job.watermark_interval = Duration::from_millis(draw.between(500, 5_000));
    job.checkpoints = CoordinatorConfig {
        interval: Some(seconds(4, 40, draw)),
        min_pause: Duration::from_secs(draw.below(4)),
        timeout: match draw.coin() {
            true => Duration::from_secs(600),
            false => seconds(10, 120, draw),
        },
        max_concurrent: job.checkpoints.max_concurrent,
        num_retained: draw.between(1, 3) as usize,
        ..CoordinatorConfig::default()
    };
    job.writer = WriterConfig {
        memory_limit: draw.between(1 << 10, 32 << 10) as usize,
        object_target: draw.between(256, 8 << 10) as usize,
        seal_after: Duration::from_millis(draw.between(1, 200)),
        scratch_dir: draw.coin().then(|| PathBuf::from("/scratch")),
        scratch_limit: draw.between(1 << 10, 32 << 10),
        ..job.writer.clone()
    };
    let during = |draw: &mut Draw| draw.time(from, until);
    let strike = match draw.below(8) {
        0 => Some((during(draw), Strike::Kill)),
        1 => Some((during(draw), Strike::Fail)),
        2 | 3 => Some((draw.time(from, job.duration), Strike::Stop)),
        _ => None,
    };
    let fail = [12, 0, 0, 4][draw.index(4)];
    job.outage = Some(Outage {
        kind,
        from,
        until,
        fail,
        hang: (12 - fail) * draw.below(3) / 2,
        call_timeout: seconds(5, 90, draw),
        strike,
    });
    job
}

type Found = Result<Option<FsckReport>, String>;

/// Looks at a run from outside.
pub(crate) struct Inspector {
    outage: Outage,
    writer: WriterConfig,
    machine: Machine,
    /// When to look at the store next while the job runs.
    looks: Vec<Duration>,
    next_look_at_scratch: u64,
    /// What checks that were started while the job ran have found.
    found: Rc<RefCell<Vec<Found>>>,
    /// The decision at the last look, and what it did not name.
    last: (u64, Vec<Orphan>),
    problem: Option<String>,
}

impl Inspector {
    pub(crate) fn new(job: &Scenario, machine: &Machine, draw: &mut Draw) -> Option<Inspector> {
        let outage = job.outage.clone()?;
        let moments = [outage.from, outage.until, job.duration];
        let mut looks = moments.map(|until| draw.time(Duration::ZERO, until)).to_vec();
        looks.sort();
        Some(Inspector {
            outage,
            writer: job.writer.clone(),
            machine: machine.clone(),
            looks,
            next_look_at_scratch: 0,
            found: Rc::default(),
            last: (0, vec![]),
            problem: None,
        })
    }

    /// To be called before every poll; tells whether something is wrong.
    pub(crate) fn look(&mut self, world: &mut SimWorld) -> bool {
        if self.looks.first().is_some_and(|at| *at <= world.now()) {
            self.looks.remove(0);
            let found = self.found.clone();
            self.start_check(world, move |checked| found.borrow_mut().push(checked));
        }
        if world.steps() >= self.next_look_at_scratch {
            self.next_look_at_scratch = world.steps() + LOOK_EVERY;
            let found = std::mem::take(&mut *self.found.borrow_mut());
            let killed = matches!(self.outage.strike, Some((_, Strike::Kill)));
            let wrong = found
                .into_iter()
                .find_map(|found| self.wrong_while_it_runs(found, killed).err());
            self.problem = self
                .problem
                .take()
                .or(wrong)
                .or_else(|| self.scratch_beyond_its_bound());
        }
        self.problem.is_some()
    }

    /// What was wrong while the job ran.
    pub(crate) fn problem(&mut self) -> Result<(), String> {
        self.problem.take().map_or(Ok(()), Err)
    }

    /// The process has ended by itself: what it held, and what it left.
    pub(crate) fn process_ended(&mut self, world: &mut SimWorld, stats: &JobStats) -> Result<(), String> {
        let bound = (self.writer.memory_limit * HARD_LIMIT) as u64 + SLACK;
        if stats.captured_peak > bound {
            return Err(format!(
                "checkpoints held {} bytes in memory, {bound} is the bound",
                stats.captured_peak
            ));
        }
        let checked = Rc::new(RefCell::new(None));
        let put = checked.clone();
        let id = self.start_check(world, move |found| *put.borrow_mut() = Some(found));
        let limits = Limits {
            steps: 100_000,
            time: MAX_TIME,
        };
        world.run_process(id, limits);
        let report = checked
            .borrow_mut()
            .take()
            .ok_or("the check of the store does not end")??;
        let report = report.ok_or("the job has ended and left no decision")?;
        match (report.damage.as_slice(), report.orphans.as_slice()) {
            ([], []) => Ok(()),
            (damage, orphans) => Err(format!("after its end: damage {damage:?}, orphans {orphans:?}")),
        }
    }

    /// The run is over.
    pub(crate) fn run_ended(&self, book: &Book) -> Result<(), String> {
        let processes = book.processes.load(std::sync::atomic::Ordering::Relaxed);
        self.outage.check_restarts(processes, book.entries().attempts)
    }

    /// Checks the store as it is, past all faults.
    fn start_check(&self, world: &mut SimWorld, done: impl FnOnce(Found) + 'static) -> crate::ProcessId {
        world.start(&self.machine, "fsck", move |env| async move {
            let (job, objects) = (Path::new(JOB_DIR), Path::new(JOB_DIR).join("objects"));
            let (blob, cas) = (LocalBlob::existing(&env, objects), LocalCas::existing(&env, job));
            done(check_job(&blob, &cas).await.map_err(|error| error.to_string()));
        })
    }

    /// While the job runs the store may be looked at before there is anything, and objects may be under way. What a run that was
    /// killed has left is swept at the end of the next. And as long as a decision is in doubt for the job, what it subsumed
    /// stays: only what was there for nothing at an older decision too should have gone.
    fn wrong_while_it_runs(&mut self, found: Found, killed: bool) -> Result<(), String> {
        let Ok(Some(report)) = found else {
            return Ok(());
        };
        let (decision, orphans) =
            std::mem::replace(&mut self.last, (report.decision, report.orphans.clone()));
        let is_old = |orphan: &Orphan| decision < report.decision && orphans.contains(orphan);
        let mut left = report
            .orphans
            .iter()
            .filter(|orphan| orphan.standing == Standing::Left);
        let is_clean = killed || is_ending(&report) || !left.any(is_old);
        match report.damage.is_empty() && is_clean {
            true => Ok(()),
            false => Err(format!(
                "while it runs: damage {:?}, orphans {:?}",
                report.damage, report.orphans
            )),
        }
    }

    fn scratch_beyond_its_bound(&self) -> Option<String> {
        let tree = self.machine.tree();
        let scratch = tree.iter().filter(|(path, _)| path.starts_with("/scratch"));
        let bytes: u64 = scratch.map(|(_, bytes)| bytes.len() as u64).sum();
        let limit = self.writer.scratch_limit;
        // A process that was killed leaves its file.
        let killed = matches!(self.outage.strike, Some((_, Strike::Kill)));
        (bytes > limit && !killed).then(|| format!("{bytes} bytes in scratch files, {limit} is the bound"))
    }
}

/// The last objects of a job that has finished go after its last decision.
fn is_ending(report: &FsckReport) -> bool {
    report.job.as_ref().is_some_and(|job| job.finished)
}
