//! Keeps a job's process alive: starts it, lets it be struck, starts it again with `--from latest`, until the job is done.

use super::book::Book;
use super::hurt::{Hurts, PLANNED};
use super::job::{Outside, program};
use super::lies::STATE_DIR;
use super::outage::{self, Inspector, WorldClock};
use super::plan::{Scenario, Shape};
use super::seams::SimSeams;
use super::trouble::{StoreTrouble, Strike, Strikes};
use crate::{Draw, Limits, Machine, ProcessId, RunEnd, SimWorld};
use rivermark_env::Env;
use rivermark_job::{JobControl, JobEnd, JobSpec, JobStorage, StartFrom, StartOptions, start};
use rivermark_types::{ErrorKind, Failure, JobName, Result};
use std::cell::RefCell;
use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// More polls than that, and the run makes no progress.
const MAX_STEPS: u64 = 4_000_000;
/// More virtual time than that, likewise.
const MAX_TIME: Duration = Duration::from_secs(600);
/// More attempts than that, likewise.
const MAX_ATTEMPTS: u64 = 400;

/// Everything a process of the job is started with but its shape.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) scenario: Arc<Scenario>,
    pub(crate) outside: Outside,
    pub(crate) seams: Arc<SimSeams>,
    pub(crate) hurts: Option<Hurts>,
    /// `None`: the state is in memory.
    pub(crate) store: Option<StoreTrouble>,
}

/// What a process tells of itself.
#[derive(Default)]
struct Word {
    control: Option<JobControl>,
    end: Option<Result<JobEnd>>,
}

/// A process and what it tells.
struct Running {
    id: ProcessId,
    word: Rc<RefCell<Word>>,
}

/// The run of one job through all its processes.
pub(crate) struct Supervisor {
    pub(crate) plan: Plan,
    pub(crate) book: Arc<Book>,
    pub(crate) machine: Machine,
    pub(crate) strikes: Strikes,
    /// Looks at a run whose store is away.
    pub(crate) inspector: Option<Inspector>,
    shapes: Draw,
    fast: bool,
    current: Option<Running>,
    /// Paused processes, and when they go on; without a time they have gone on.
    zombies: Vec<(Option<Duration>, Running)>,
    pub(crate) had_zombies: bool,
}

impl Supervisor {
    /// Nothing is started yet. A fast job reads as fast as it can.
    pub(crate) fn new(
        plan: Plan,
        book: Arc<Book>,
        machine: Machine,
        strikes: Strikes,
        shapes: Draw,
        fast: bool,
    ) -> Supervisor {
        Supervisor {
            plan,
            book,
            machine,
            strikes,
            inspector: None,
            shapes,
            fast,
            current: None,
            zombies: Vec::new(),
            had_zombies: false,
        }
    }

    /// Runs until the job has finished; the error says what went wrong. `each_step` is called before every poll.
    pub(crate) fn run(
        &mut self,
        world: &mut SimWorld,
        mut each_step: impl FnMut(&mut SimWorld),
    ) -> Result<(), String> {
        self.start(world);
        loop {
            let time = match &self.plan.scenario.outage {
                Some(_) => outage::MAX_TIME,
                None => MAX_TIME,
            };
            let limits = Limits {
                steps: MAX_STEPS.saturating_sub(world.steps()),
                time,
            };
            let end = world.run(limits, |world| {
                each_step(world);
                self.before_poll(world)
            });
            match end {
                RunEnd::Stopped | RunEnd::Finished => {}
                stuck => return Err(no_progress(world, &stuck)),
            }
            self.inspector.as_mut().map_or(Ok(()), Inspector::problem)?;
            if self.book.entries().attempts > MAX_ATTEMPTS {
                return Err(format!("no progress: {MAX_ATTEMPTS} attempts were started"));
            }
            if self
                .current
                .as_ref()
                .is_some_and(|running| world.is_running(running.id))
            {
                continue;
            }
            if self.follows(world)? {
                return self.settle(world);
            }
            self.start(world);
        }
    }

    /// Once more with a well store: a job that has finished is not run again, and what is left is swept.
    pub(crate) fn resume_finished(&mut self, world: &mut SimWorld) -> Result<(), String> {
        if let Some(store) = &self.plan.store {
            store.end();
        }
        self.machine.heal();
        self.strikes = Strikes::none();
        self.run(world, |_| ())
    }

    fn start(&mut self, world: &mut SimWorld) {
        let number = Book::count(&self.book.processes);
        let shape = match self.fast {
            true => self.plan.scenario.fast_shape(&mut self.shapes),
            false => self.plan.scenario.shape(number, &mut self.shapes),
        };
        let wait = match number {
            1 => Duration::ZERO,
            _ => self.shapes.time(Duration::ZERO, Duration::from_millis(50)),
        };
        let word = Rc::new(RefCell::new(Word::default()));
        let (plan, told, born) = (self.plan.clone(), word.clone(), world.now());
        let id = world.start(&self.machine, &format!("p{number}"), move |env| async move {
            let clock = WorldClock::new(&env, born);
            env.sleep(wait).await;
            let end = process(&env, &clock, plan, shape, &told).await;
            told.borrow_mut().end = Some(end);
        });
        self.current = Some(Running { id, word });
    }

    fn before_poll(&mut self, world: &mut SimWorld) -> ControlFlow<()> {
        self.wake_zombies(world);
        if self
            .inspector
            .as_mut()
            .is_some_and(|inspector| inspector.look(world))
        {
            return ControlFlow::Break(());
        }
        if self.book.entries().attempts > MAX_ATTEMPTS {
            return ControlFlow::Break(());
        }
        if let Some(strike) = self.strikes.next(&self.book, || world.now()) {
            self.strike(world, strike);
        }
        match &self.current {
            Some(running) if world.is_running(running.id) => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    }

    fn strike(&mut self, world: &mut SimWorld, strike: Strike) {
        let Some(running) = &self.current else { return };
        if self.strikes.are_over()
            && let Some(hurts) = &self.plan.hurts
        {
            let left = if self.shapes.coin() {
                self.shapes.below(60)
            } else {
                0
            };
            hurts.relieve(left);
        }
        match strike {
            Strike::Fail => {
                if let Some(hurts) = &self.plan.hurts {
                    hurts.light_fuse(self.shapes.below(30));
                }
            }
            Strike::Kill => {
                self.book.fault("process killed");
                world.kill(running.id);
            }
            Strike::PowerLoss => {
                self.book.fault("power lost");
                self.zombies.clear();
                world.power_loss(&self.machine);
            }
            Strike::Pause(length) => {
                self.book.fault("process paused");
                world.pause(running.id);
                let until = world.now() + length;
                if let Some(running) = self.current.take() {
                    self.zombies.push((Some(until), running));
                }
                self.had_zombies = true;
                self.start(world);
            }
            Strike::Stop => {
                if let Some(control) = &running.word.borrow().control {
                    self.book.fault("job stopped");
                    control.stop();
                }
            }
        }
    }

    fn wake_zombies(&mut self, world: &mut SimWorld) {
        for (until, zombie) in &mut self.zombies {
            if until.is_some_and(|until| until <= world.now()) {
                world.resume(zombie.id);
                *until = None;
            }
        }
    }

    /// What follows from the end of the current process: whether the job is done.
    fn follows(&mut self, world: &mut SimWorld) -> Result<bool, String> {
        let Some(running) = self.current.take() else {
            return Ok(false);
        };
        let end = running.word.borrow_mut().end.take();
        let status = world.status(running.id).cloned();
        world.remark(format_args!("the process ended: {end:?}, {status:?}"));
        if let (Some(inspector), Some(Ok(_)), Some(control)) =
            (&mut self.inspector, &end, &running.word.borrow().control)
        {
            inspector.process_ended(world, &control.stats())?;
        }
        match end {
            Some(Ok(JobEnd::Finished)) => Ok(true),
            Some(Ok(JobEnd::Stopped(_) | JobEnd::Cancelled(_))) => Ok(false),
            Some(Err(failure)) if may_restart(&failure) || self.mend(&failure)? => Ok(false),
            Some(Err(failure)) => Err(format!("the job failed ({:?}): {failure}", failure.kind)),
            // Killed.
            None if matches!(status, Some(crate::ProcessStatus::Killed)) => Ok(false),
            None => Err(format!("the process ended by itself: {status:?}")),
        }
    }

    /// Whether the failure is one that the user can put right, and it was.
    fn mend(&self, failure: &Failure) -> Result<bool, String> {
        match &self.plan.scenario.part {
            Some(part) => part.mend(&self.plan.scenario, failure, &self.machine),
            None => Ok(false),
        }
    }

    /// The job is done: processes that were stopped for a while end too, by themselves.
    fn settle(&mut self, world: &mut SimWorld) -> Result<(), String> {
        for (_, zombie) in std::mem::take(&mut self.zombies) {
            world.resume(zombie.id);
            let limits = Limits {
                steps: MAX_STEPS / 8,
                time: MAX_TIME * 2,
            };
            match world.run_process(zombie.id, limits) {
                RunEnd::Stopped => {}
                stuck => {
                    return Err(format!(
                        "of a process that went on: {}",
                        no_progress(world, &stuck)
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Failures that a supervisor starts a process again after.
fn may_restart(failure: &Failure) -> bool {
    match failure.kind {
        ErrorKind::Retry | ErrorKind::External | ErrorKind::Fenced => true,
        ErrorKind::Data | ErrorKind::Bug => failure.to_string().contains(PLANNED),
        ErrorKind::Invalid | ErrorKind::Damaged => false,
    }
}

fn no_progress(world: &SimWorld, end: &RunEnd) -> String {
    let (what, names) = match end {
        RunEnd::Deadlock(names) => ("nothing can go on", names.as_slice()),
        RunEnd::StepLimit(names) => ("too many polls", names.as_slice()),
        RunEnd::TimeLimit(names) => ("too much time", names.as_slice()),
        RunEnd::Stopped | RunEnd::Finished => ("it ended", &[][..]),
    };
    format!(
        "no progress: {what} after {} polls and {:?}; these tasks wait: {}",
        world.steps(),
        world.now(),
        names.join(", ")
    )
}

/// The `main` of a process.
async fn process(
    env: &Env,
    clock: &WorldClock,
    plan: Plan,
    shape: Shape,
    word: &RefCell<Word>,
) -> Result<JobEnd> {
    let storage = match &plan.store {
        Some(trouble) => {
            let storage = JobStorage::in_dir(env, Path::new(STATE_DIR), &job_name()).await?;
            trouble.wrap(env, clock, storage)
        }
        None => JobStorage::in_memory(),
    };
    let handle = start(env, spec(env, &plan, shape, storage)?).await?;
    word.borrow_mut().control = Some(handle.control());
    handle.wait().await
}

/// What a process of the job starts.
pub(crate) fn spec(env: &Env, plan: &Plan, shape: Shape, storage: JobStorage) -> Result<JobSpec> {
    let mut program = program(&plan.scenario, &shape, &plan.outside, env)?;
    plan.seams.started(&program.graph);
    if let Some(hurts) = &plan.hurts {
        hurts.wrap(&mut program);
    }
    Ok(JobSpec {
        name: job_name(),
        program,
        chaining: shape.chaining,
        storage,
        options: StartOptions {
            from: StartFrom::Latest,
            ..StartOptions::default()
        },
        checkpoints: plan.scenario.checkpoints.clone(),
        restarts: shape.restarts,
        limits: shape.limits,
        writer: plan.scenario.writer.clone(),
        seams: plan.seams.clone(),
    })
}

fn job_name() -> JobName {
    JobName::from("sim")
}
