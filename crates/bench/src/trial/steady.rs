//! Steady work: so many events in so much time and CPU time, between two readings of a run under way.

use super::job::{self, Checkpoints};
use crate::clock::{cpu_ns, now_ns, pause};
use crate::jobs::{keyed, stateless, window};
use crate::limits::{self, threads::Threads};
use rivermark::prelude::{Embedded, LocalJob, StreamEnv};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Something that goes on and on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Workload {
    /// Two closures.
    Stateless,
    /// A count by number.
    KeyedU64,
    /// A count by text.
    KeyedString,
    /// Books by account.
    KeyedStruct,
    /// Sums by sensor and window.
    Window,
}

/// Whose work it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Side {
    /// The loop's.
    Limit,
    /// The job's.
    Job(Option<Checkpoints>),
}

/// A run to be measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Steady {
    /// What runs.
    pub workload: Workload,
    /// As a loop or as a job.
    pub side: Side,
    /// Subtasks, or threads that produce.
    pub parallelism: u32,
    /// Keys.
    pub keys: u64,
    /// Events before the first reading.
    pub warm: u64,
    /// Time between the readings, in milliseconds.
    pub millis: u64,
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Events.
    pub events: u64,
    /// In so much time.
    pub wall_ns: u64,
    /// In so much CPU time of the whole process.
    pub cpu_ns: u64,
}

impl Rate {
    /// What happens in a while.
    pub fn during(wait: Duration, events: impl Fn() -> u64) -> Rate {
        Rate::during_work(|| pause(wait), events)
    }

    /// What happens during some work.
    pub fn during_work(work: impl FnOnce(), events: impl Fn() -> u64) -> Rate {
        let (events_before, cpu, wall) = (events(), cpu_ns(), now_ns());
        work();
        Rate {
            events: events() - events_before,
            wall_ns: now_ns() - wall,
            cpu_ns: cpu_ns() - cpu,
        }
    }

    /// Events a second.
    pub fn events_per_s(&self) -> f64 {
        self.events as f64 * 1e9 / self.wall_ns.max(1) as f64
    }

    /// CPU time of an event, in nanoseconds.
    pub fn cpu_ns_per_event(&self) -> f64 {
        self.cpu_ns as f64 / self.events.max(1) as f64
    }
}

impl Steady {
    pub(super) fn run(self) -> Result<Rate, String> {
        match &self.side {
            Side::Limit => {
                let threads = self.limit()?;
                let rate = self.measure(|| threads.events(), || Ok(()))?;
                threads.stop()?;
                Ok(rate)
            }
            Side::Job(checkpoints) => {
                let job = self.job(checkpoints.as_ref())?;
                let rate = self.measure(|| job::events(&job), || job::check(&job))?;
                job::cancel(job)?;
                Ok(rate)
            }
        }
    }

    fn measure(
        &self,
        events: impl Fn() -> u64,
        check: impl Fn() -> Result<(), String>,
    ) -> Result<Rate, String> {
        while events() < self.warm.max(1) {
            check()?;
            pause(Duration::from_millis(1));
        }
        let rate = Rate::during(Duration::from_millis(self.millis), events);
        check().map(|()| rate)
    }

    fn limit(&self) -> Result<Threads, String> {
        match self.workload {
            Workload::Stateless => limits::stateless::start(u64::from(self.parallelism)),
            Workload::KeyedU64 => limits::keyed::by_number(self.keys),
            Workload::KeyedString => limits::keyed::by_text(self.keys),
            Workload::KeyedStruct => limits::keyed::by_struct(self.keys),
            Workload::Window => limits::window::start(self.keys),
        }
    }

    fn job(&self, checkpoints: Option<&Checkpoints>) -> Result<LocalJob, String> {
        let env = StreamEnv::new();
        env.set_parallelism(self.parallelism);
        match self.workload {
            Workload::Stateless => stateless::stateless(&env),
            Workload::KeyedU64 => keyed::by_number(&env, self.keys),
            Workload::KeyedString => keyed::by_text(&env, self.keys),
            Workload::KeyedStruct => keyed::by_struct(&env, self.keys),
            Workload::Window => window::window(&env, self.keys),
        }
        env.start_with(job::config(checkpoints)).map_err(job::told)
    }
}
