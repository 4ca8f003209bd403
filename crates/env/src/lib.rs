//! The only door to clock, randomness, spawning, measured cost, files and network. Production opens it with [`RealEnv`], the
//! simulator with its own [`Platform`]; nothing else in Rivermark may touch what it hides (`clippy.toml` sees to it).
//!
//! Layout: [`Env`] (the handle everybody carries), [`processing`] (the time that timers and windows of processing time go
//! by), [`platform`] (what an implementation provides), [`files`] and [`net`] (the seams to files and network),
//! [`supervise`] (how a task's end becomes known), [`panics`] (panics as errors), `real` (threads, tokio, `std::fs`).
//! Non-goals: it knows nothing of jobs, tasks or storage.

pub mod files;
pub mod net;
pub mod panics;
pub mod platform;
pub mod processing;
mod real;
pub mod supervise;

pub use files::{DirEntry, FileMeta, FileReader, FileWriter, Files, create_dir_durably};
pub use net::{Connection, Listener, Net, NetReader, NetWriter};
pub use panics::{catch_panic, tell_caught_panics_as_errors};
pub use platform::{BoxFuture, LocalBoxFuture, Platform, SlotStart, TaskExit, TaskHandle};
pub use processing::ManualClock;
pub use real::{RealEnv, ShutdownSignals, grow_arena};

use rivermark_types::{Millis, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// The handle to the world. Cheap to clone; the same for every part of one process.
#[derive(Clone)]
pub struct Env {
    platform: Arc<dyn Platform>,
    processing: processing::Clock,
}

impl Env {
    /// The world as a platform provides it.
    pub fn new(platform: Arc<dyn Platform>) -> Env {
        let processing = processing::Clock::anchored(platform.wall_clock(), platform.now());
        Env { platform, processing }
    }

    /// The same world with a processing time that a test sets by hand.
    pub fn with_manual_clock(self, clock: ManualClock) -> Env {
        Env {
            processing: processing::Clock::Manual(clock),
            ..self
        }
    }

    /// The clock of deadlines: monotonic milliseconds with an arbitrary zero.
    pub fn now(&self) -> Millis {
        self.platform.now()
    }

    /// Processing time: what users' timers and windows go by, comparable over processes and so fit for a snapshot. It is the
    /// date as it was at the start of the process plus what [`Env::now`] has counted since: it never jumps and never goes
    /// back while the process lives, whatever is done to the machine's clock.
    pub fn processing_time(&self) -> Timestamp {
        self.processing.at(self.now())
    }

    /// When on the clock of [`Env::now`] a processing time will be there; now if it is there already.
    pub fn deadline_of(&self, time: Timestamp) -> Millis {
        let now = self.now();
        now.after(processing::span(self.processing.at(now), time))
    }

    /// The date, for people and file names; never for deadlines, it may jump.
    pub fn wall_clock(&self) -> Timestamp {
        self.platform.wall_clock()
    }

    /// A reading of the cost clock in nanoseconds: the difference of two readings on one thread is the measured cost of
    /// what ran in between. The simulator draws it from its seed.
    pub fn cost_ns(&self) -> u64 {
        self.platform.cost_ns()
    }

    /// 64 random bits (from the seed under simulation).
    pub fn random_u64(&self) -> u64 {
        self.platform.random_u64()
    }

    /// Runs a future on the I/O runtime. It may be cancelled at any await by [`TaskHandle::abort`].
    pub fn spawn_io(&self, name: &str, future: impl Future<Output = ()> + Send + 'static) -> TaskHandle {
        self.platform.spawn_io(name, Box::pin(future))
    }

    /// Runs a future on a thread of its own (a task slot). It is built there, so neither it nor what it owns needs `Send`.
    pub fn spawn_slot(
        &self,
        name: &str,
        start: impl FnOnce() -> LocalBoxFuture<'static, ()> + Send + 'static,
    ) -> TaskHandle {
        self.platform.spawn_slot(name, Box::new(start))
    }

    /// Completes after the time has passed.
    pub fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        self.platform.sleep(wait)
    }

    /// Where a slot offers to be interrupted between two steps: free in production, a scheduling (and crash) point
    /// under simulation. `None` means "go on".
    pub fn step_point(&self) -> Option<LocalBoxFuture<'static, ()>> {
        self.platform.step_point()
    }

    /// The files of this process.
    pub fn files(&self) -> &Arc<dyn Files> {
        self.platform.files()
    }

    /// The network of this process.
    pub fn net(&self) -> &Arc<dyn Net> {
        self.platform.net()
    }
}
