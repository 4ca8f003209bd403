//! The same jobs in this very process: slot threads, real time, state in memory. What they do is no longer the seed's alone,
//! so a draw that fails may have to be repeated until it fails again.

use super::{Pace, Pressure, draw};
use crate::Draw;
use crate::scenario::book::Book;
use crate::scenario::hurt::{Hurts, PLANNED};
use crate::scenario::job::Outside;
use crate::scenario::oracle;
use crate::scenario::plan::{Scenario, Shape};
use crate::scenario::planted::{Plant, Planted};
use crate::scenario::report::{Counts, SeedReport};
use crate::scenario::rows::Output;
use crate::scenario::seams::SimSeams;
use crate::scenario::supervisor::{Plan, spec};
use rivermark_env::Env;
use rivermark_job::{JobControl, JobEnd, JobHandle, JobStorage, start};
use rivermark_protocol::restart::RestartStrategy;
use rivermark_stream::GuaranteeMode;
use rivermark_types::Failure;
use std::fmt::Write as _;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

/// How often it is looked whether anything has moved.
const LOOK: Duration = Duration::from_secs(1);
/// A job in which nothing has moved for so many looks hangs.
const PATIENCE: u32 = 90;

/// How a start of the job ends before its time.
#[derive(Clone, Copy, Debug)]
enum Blow {
    /// One of its next calls fails, and the job with it.
    Fail(u64),
    /// The same, and the job restarts at the same parallelism.
    FailAndRestart(u64),
    /// It is cancelled: no last checkpoint.
    Cancel,
}

/// The blow of one start, when so many checkpoints are decided: of those with records in flight, or of all.
#[derive(Clone, Copy, Debug)]
struct Due {
    in_flight: bool,
    count: u64,
    blow: Blow,
}

impl Due {
    /// Of the start of this number, from 1; all but the first may be hit while they come back.
    fn draw(draw: &mut Draw, pressure: &Pressure, number: u64) -> Due {
        let most = [2, 20, 200][draw.index(3)];
        let calls = draw.below(most);
        let at_once = number > 1 && draw.one_in(3);
        Due {
            in_flight: pressure.alignment.overtakes() && !draw.one_in(8),
            count: if at_once { 0 } else { draw.between(1, 2) },
            blow: match draw.below(6) {
                0 => Blow::FailAndRestart(calls),
                1 | 2 if !at_once => Blow::Cancel,
                _ => Blow::Fail(calls),
            },
        }
    }

    fn restarts(&self) -> RestartStrategy {
        match self.blow {
            Blow::FailAndRestart(_) => RestartStrategy::FixedDelay {
                attempts: 1,
                delay: Duration::from_millis(1),
            },
            _ => RestartStrategy::None,
        }
    }
}

/// Strikes when a checkpoint is decided; shared with the seams, which hear of that first.
struct Striker {
    book: Arc<Book>,
    hurts: Hurts,
    aim: Mutex<Aim>,
}

#[derive(Default)]
struct Aim {
    due: Option<Due>,
    control: Option<JobControl>,
    is_cancelled: bool,
}

impl Striker {
    fn aim(&self) -> MutexGuard<'_, Aim> {
        self.aim.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checkpoints decided so far.
    fn decided(&self, in_flight: bool) -> u64 {
        let entries = self.book.entries();
        if in_flight {
            entries.decided_in_flight
        } else {
            entries.decided
        }
    }

    /// Says what is to happen to the next start.
    fn aim_at_next(&self, due: Option<Due>) {
        let due = due.map(|due| Due {
            count: self.decided(due.in_flight) + due.count,
            ..due
        });
        *self.aim() = Aim {
            due,
            ..Aim::default()
        };
        self.strike();
    }

    /// The job has started.
    fn started(&self, handle: &JobHandle) {
        let mut aim = self.aim();
        aim.control = Some(handle.control());
        if aim.is_cancelled {
            handle.cancel();
        }
    }

    /// Strikes if it is time to.
    fn strike(&self) {
        let mut aim = self.aim();
        let Some(due) = aim.due.filter(|due| due.count <= self.decided(due.in_flight)) else {
            return;
        };
        aim.due = None;
        match due.blow {
            Blow::Fail(calls) => self.hurts.light_fuse(calls),
            Blow::FailAndRestart(calls) => {
                self.hurts.light_fuse(calls);
                // Nothing follows: it comes to its end.
                self.hurts.relieve(2 * calls);
            }
            Blow::Cancel => {
                self.book.fault("job cancelled");
                aim.is_cancelled = true;
                aim.control.iter().for_each(JobControl::cancel);
            }
        }
    }
}

/// One draw.
struct Trial {
    env: Env,
    striker: Arc<Striker>,
    plan: Plan,
    storage: JobStorage,
}

/// Runs the draw of a seed on the threads of this process. Completes when its job is at its end, or hangs.
pub async fn run_on_threads(env: &Env, seed: u64, planted: Option<Planted>) -> SeedReport {
    let scenario = Arc::new(draw(seed, Pace::Real));
    let Some(pressure) = &scenario.pressure else {
        return SeedReport::panicked(seed);
    };
    let trial = Trial::new(env, seed, &scenario, pressure, planted);
    let ended = match trial.run(seed, pressure).await {
        Ok(()) => trial.check().await,
        failed => failed,
    };
    trial.report(seed, ended.err())
}

impl Trial {
    fn new(
        env: &Env,
        seed: u64,
        scenario: &Arc<Scenario>,
        pressure: &Pressure,
        planted: Option<Planted>,
    ) -> Trial {
        let book = Arc::new(Book::default());
        let plant = planted.map(|bug| Arc::new(Plant::new(bug)));
        let hurts = Hurts::press(
            &mut Draw::stream(seed, "hurts"),
            pressure.crawl,
            &book,
            plant.clone(),
        );
        let striker = Arc::new(Striker {
            book: book.clone(),
            hurts: hurts.clone(),
            aim: Mutex::default(),
        });
        let strikes = striker.clone();
        let seams = SimSeams::new(book, Draw::stream(seed, "codecs"), plant);
        Trial {
            env: env.clone(),
            striker,
            plan: Plan {
                scenario: scenario.clone(),
                outside: Outside::default(),
                seams: Arc::new(seams.when_decided(move || strikes.strike())),
                hurts: Some(hurts),
                store: None,
            },
            storage: JobStorage::in_memory(),
        }
    }

    /// Starts the job until it is at its end: the first few times it is struck, then it is left alone.
    async fn run(&self, seed: u64, pressure: &Pressure) -> Result<(), String> {
        let draw = &mut Draw::stream(seed, "strikes");
        let struck = draw.between(1, 3);
        for number in 1..=struck + 1 {
            let due = (number <= struck).then(|| Due::draw(draw, pressure, number));
            if due.is_none() {
                self.striker.hurts.relieve(draw.below(30));
            }
            let shape = Shape {
                restarts: due.map_or(RestartStrategy::None, |due| due.restarts()),
                ..self.plan.scenario.shape(number, draw)
            };
            Book::count(&self.striker.book.processes);
            self.striker.aim_at_next(due);
            match self.once(shape).await? {
                Ok(JobEnd::Finished) => return Ok(()),
                Ok(JobEnd::Cancelled(_)) if due.is_some() => {}
                Err(failure) if due.is_some() && failure.to_string().contains(PLANNED) => {}
                Ok(end) => return Err(format!("start {number} ended with {end:?}")),
                Err(failure) => {
                    let kind = failure.kind;
                    return Err(format!("start {number} failed ({kind:?}): {failure}"));
                }
            }
        }
        Err("it was left alone, and ended before its end".into())
    }

    /// Starts the job and waits for its end, as long as something moves in it.
    async fn once(&self, shape: Shape) -> Result<Result<JobEnd, Failure>, String> {
        let spec = spec(&self.env, &self.plan, shape, self.storage.clone());
        let spec = spec.map_err(|failure| format!("the job cannot be built: {failure}"))?;
        let handle = match start(&self.env, spec).await {
            Ok(handle) => handle,
            Err(failure) => return Ok(Err(failure)),
        };
        self.striker.started(&handle);
        let control = handle.control();
        let mut end = pin!(handle.wait());
        let (mut seen, mut patience) = (0, PATIENCE);
        while patience > 0 {
            let mut look = self.env.sleep(LOOK);
            let ended = poll_fn(|cx| match end.as_mut().poll(cx) {
                Poll::Ready(end) => Poll::Ready(Some(end)),
                Poll::Pending => look.as_mut().poll(cx).map(|()| None),
            });
            if let Some(end) = ended.await {
                return Ok(end);
            }
            let moved = self.striker.hurts.progress() + self.striker.decided(false);
            patience = if moved == seen { patience - 1 } else { PATIENCE };
            seen = moved;
        }
        let diagnosis = self.diagnosis(&control);
        control.cancel();
        Err(diagnosis)
    }

    fn diagnosis(&self, control: &JobControl) -> String {
        let stats = control.stats();
        let mut said = format!(
            "no progress: the job is {}, in attempt {}, restored from {:?}; {} checkpoints decided, {} given up, {} under way; \
             calls by operator {:?}",
            stats.state,
            stats.attempt.0,
            stats.restored_from,
            stats.decided,
            stats.aborted,
            stats.in_progress,
            self.striker.hurts.calls(),
        );
        if let Some(failure) = &stats.last_failure {
            let _ = write!(said, "; the last failure: {failure}");
        }
        said
    }

    /// Whether everything came out that had to, and nothing is left over.
    async fn check(&self) -> Result<(), String> {
        let Plan {
            scenario, outside, ..
        } = &self.plan;
        let mut found: Vec<Output> = match scenario.mode {
            GuaranteeMode::ExactlyOnce => outside.collected.rows(),
            GuaranteeMode::AtLeastOnce => outside
                .direct
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        };
        found.sort_unstable();
        oracle::compare(scenario, None, &found)?;
        let open = outside.collected.open_transactions();
        if open > 0 {
            return Err(format!("{open} transactions are left open"));
        }
        let left = self.storage.blob.list("").await;
        let left = left.map_err(|error| format!("the objects cannot be listed: {error}"))?;
        match left.first() {
            None => Ok(()),
            Some(first) => Err(format!("{} objects are left; the first: {first:?}", left.len())),
        }
    }

    fn report(&self, seed: u64, failure: Option<String>) -> SeedReport {
        let scenario = &self.plan.scenario;
        let mut counts = Counts::of(&self.striker.book, scenario);
        counts.failures = u64::from(failure.is_some());
        SeedReport {
            seed,
            topology: scenario.topology,
            alignment: scenario.pressure.as_ref().map(|pressure| pressure.alignment),
            about: scenario.about(),
            failure,
            counts,
            trace_hash: 0,
            trace: Vec::new(),
        }
    }
}
