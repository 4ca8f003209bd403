//! Scenarios: a small job, drawn from a seed, that is killed, unplugged, stopped, given bad stores and failing operators,
//! and must come to what it comes to without all that.
//!
//! Layout: [`run_seed`]; `plan` (what is drawn), `rows`, `operators` and `job` (the job), `api` (the parts of the DataStream
//! API as jobs, each beside its plain computation), `trouble` and `hurt` (what goes
//! wrong around and inside of it), `seams` (what the engine lets in), `supervisor` (starts processes until the job is done),
//! `rescale` (jobs that fail with full queues and go on at another parallelism), `outage` (jobs whose store is away for ten
//! minutes), `copies` (jobs with local copies of their checkpoints, and what happens to these), `oracle` (whether it was right), [`planted`] and [`lies`] (bugs that must be found), `book` and [`report`] (the counts),
//! `log` (the engine's own words, in the trace).
//! Non-goals: no threads (a caller runs many seeds at once), no printing.

mod api;
mod book;
mod copies;
mod hurt;
mod job;
pub mod lies;
mod log;
mod operators;
mod oracle;
mod outage;
mod plan;
pub mod planted;
pub mod report;
mod rescale;
mod rows;
mod seams;
mod supervisor;
mod trouble;

pub use lies::SyncSite;
pub use plan::Topology;
pub use planted::Planted;
pub use report::{Counts, SeedReport};
pub use rescale::{Alignment, run_on_threads};

use crate::SimWorld;
use book::Book;
use copies::Spoiler;
use hurt::{Hurts, PLANNED};
use job::Outside;
use outage::Inspector;
use plan::Scenario;
use planted::Plant;
use rows::Output;
use seams::SimSeams;
use std::sync::{Arc, Once};
use supervisor::{Plan, Supervisor};
use trouble::{StoreTrouble, Strikes};

/// The names of all parts of the DataStream API, and of the ways in which a store may be away.
pub fn parts() -> impl Iterator<Item = &'static str> {
    api::parts().chain(outage::names())
}

/// A part's own name.
pub fn part_of_name(name: &str) -> Option<&'static str> {
    parts().find(|known| *known == name)
}

/// What a run is to show.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// A bug to plant.
    pub planted: Option<Planted>,
    /// A sync to leave out.
    pub lie: Option<SyncSite>,
    /// Whether to keep a readable trace.
    pub trace: bool,
    /// The only part of the API to draw jobs of: one of [`parts`].
    pub part: Option<&'static str>,
    /// Draw jobs that fail with full queues and go on at another parallelism, and none of the others.
    pub rescale: bool,
}

/// Runs the scenario of a seed: once without faults, once with them.
pub fn run_seed(seed: u64, options: &Options) -> SeedReport {
    silence_planned_panics();
    let scenario = Arc::new(match options.rescale {
        true => rescale::draw(seed, rescale::Pace::Simulated),
        false => match options.part.and_then(outage::kind_of) {
            Some(kind) => outage::draw(seed, kind),
            None => Scenario::draw(seed, options.part),
        },
    });
    // Those that fail under pressure are checked by what they come to alone.
    let expected = match options.rescale {
        true => Ok(None),
        false => run_without_faults(seed, &scenario).map(Some),
    };
    let run = Run::new(seed, scenario.clone(), options);
    let (mut report, found) = run.through();
    if report.failure.is_none() {
        let right = expected.and_then(|expected| oracle::compare(&scenario, expected.as_deref(), &found));
        report.failure = right.err();
    }
    report.counts.failures = u64::from(report.failure.is_some());
    report
}

/// The output that the seed's job has to have.
fn run_without_faults(seed: u64, scenario: &Arc<Scenario>) -> Result<Vec<Output>, String> {
    let mut world = SimWorld::new(seed ^ 0x5eed_0000_0000_0000);
    let machine = world.machine("disk");
    job::put_input(scenario, &machine)?;
    let book = Arc::new(Book::default());
    // A job that ends and is started again needs what the run before kept.
    let may_fail = scenario.part.as_ref().is_some_and(|part| part.may_fail());
    let plan = Plan {
        scenario: scenario.clone(),
        outside: Outside::default(),
        seams: Arc::new(SimSeams::new(book.clone(), world.draw("codecs"), None)),
        hurts: None,
        store: may_fail.then(|| StoreTrouble::none(&book)),
    };
    let outside = plan.outside.clone();
    let shapes = world.draw("shapes");
    let mut supervisor = Supervisor::new(plan, book, machine.clone(), Strikes::none(), shapes, true);
    let run = supervisor.run(&mut world, |_| ());
    run.map_err(|why| format!("already without faults: {why}"))?;
    oracle::output(scenario, &outside, &machine)
}

/// The run with faults.
struct Run {
    seed: u64,
    world: SimWorld,
    supervisor: Supervisor,
    trace: bool,
}

impl Run {
    fn new(seed: u64, scenario: Arc<Scenario>, options: &Options) -> Run {
        let mut world = SimWorld::new(seed);
        if options.trace {
            world.keep_trace();
        }
        let machine = world.machine("disk");
        let book = Arc::new(Book::default());
        let plant = options.planted.map(|bug| Arc::new(Plant::new(bug)));
        let mut crawl = scenario.unaligned.map(|_| world.draw("crawl"));
        lies::plant_lies(&machine, &book, options.lie);
        let (mut strikes, mut hurts) = (world.draw("strikes"), world.draw("hurts"));
        let (hurts, store, strikes) = match (&scenario.pressure, &scenario.outage) {
            (_, Some(outage)) => (
                Hurts::none(&book, plant.clone()),
                StoreTrouble::outage(outage.clone(), world.draw("store"), &book),
                outage.strikes(),
            ),
            (Some(pressure), None) => (
                Hurts::press(&mut hurts, pressure.crawl, &book, plant.clone()),
                StoreTrouble::none(&book),
                Strikes::under_pressure(&mut strikes, pressure.alignment.overtakes()),
            ),
            (None, None) => {
                trouble::plant_file_trouble(&machine, world.draw("files"), &book);
                (
                    Hurts::draw(&mut hurts, crawl.as_mut(), &book, plant.clone()),
                    StoreTrouble::draw(world.draw("store"), &book),
                    Strikes::draw(&mut strikes, scenario.duration, options.lie.is_some()),
                )
            }
        };
        let strikes = match (&scenario.outage, &scenario.writer.copy_dir) {
            (None, Some(_)) => strikes.with_failures(&mut world.draw("failures")),
            _ => strikes,
        };
        let spoiler = Spoiler::new(&machine, world.draw("copies"), &book);
        let plan = Plan {
            scenario,
            outside: Outside::default(),
            seams: Arc::new(SimSeams::new(book.clone(), world.draw("codecs"), plant).with_spoiler(spoiler)),
            hurts: Some(hurts),
            store: Some(store.with_plant(options.planted)),
        };
        let shapes = world.draw("shapes");
        let inspector = Inspector::new(&plan.scenario, &machine, &mut world.draw("inspector"));
        let mut supervisor = Supervisor::new(plan, book, machine, strikes, shapes, false);
        supervisor.inspector = inspector;
        Run {
            seed,
            supervisor,
            world,
            trace: options.trace,
        }
    }

    fn through(mut self) -> (SeedReport, Vec<Output>) {
        let ended = match self.trace {
            true => log::traced(|log| {
                let ended = self.run_to_the_end(|world| log.tell(world));
                log.tell(&mut self.world);
                ended
            }),
            false => self.run_to_the_end(|_| ()),
        };
        let (scenario, outside) = (&self.supervisor.plan.scenario, &self.supervisor.plan.outside);
        let found = oracle::output(scenario, outside, &self.supervisor.machine);
        let ended = ended.and_then(|()| found.as_ref().map(drop).map_err(Clone::clone));
        let found = found.unwrap_or_default();
        let report = SeedReport {
            seed: self.seed,
            topology: scenario.topology,
            alignment: scenario.pressure.as_ref().map(|pressure| pressure.alignment),
            about: scenario.about(),
            failure: ended.err(),
            counts: self.counts(),
            trace_hash: self.world.trace_hash(),
            trace: self.world.take_trace(),
        };
        (report, found)
    }

    fn run_to_the_end(&mut self, each_step: impl FnMut(&mut SimWorld)) -> Result<(), String> {
        let world = &mut self.world;
        job::put_input(&self.supervisor.plan.scenario, &self.supervisor.machine)?;
        self.supervisor.run(world, each_step)?;
        if let Some(inspector) = &self.supervisor.inspector {
            inspector.run_ended(&self.supervisor.book)?;
        }
        let supervisor = &mut self.supervisor;
        // What a faulty store kept from being deleted is swept by the next start. A stopped process that went on may have
        // written after its successor swept.
        if supervisor.book.entries().late_store_faults > 0 || supervisor.had_zombies {
            supervisor.resume_finished(world)?;
        }
        if supervisor.book.entries().faults.contains_key(lies::UNKNOWN_SYNC) {
            return Err("there was a sync that `lies` does not know".into());
        }
        let outside = &supervisor.plan.outside;
        // A process that was stopped for a while, or whose files fail it, may leave some to the next run.
        if !supervisor.had_zombies && supervisor.machine.fault_counts().is_empty() {
            copies::check_none_left(&supervisor.machine.tree())?;
        }
        oracle::check_leftovers(&supervisor.machine, outside, supervisor.had_zombies)
    }

    fn counts(&self) -> Counts {
        Counts {
            steps: self.world.steps(),
            virtual_time: self.world.now(),
            ..Counts::of(&self.supervisor.book, &self.supervisor.plan.scenario)
        }
    }
}

/// Planned panics are no news: they are not printed.
fn silence_planned_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let planned = panic
                .payload()
                .downcast_ref::<&str>()
                .is_some_and(|text| [PLANNED, api::BAD_ROW].contains(text));
            if !planned {
                usual(panic);
            }
        }));
    });
}
