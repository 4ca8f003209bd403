//! A job inside another program, a test for example: nothing is printed, no signal is caught.
//!
//! ```
//! use rivermark::prelude::*;
//!
//! let env = StreamEnv::new();
//! let squares = env.from_collection(vec![1u64, 2, 3]).uid("numbers").map(|n| n * n);
//! let mut rows = env.execute_and_collect(squares)?;
//! rows.sort();
//! assert_eq!(rows, [1, 4, 9]);
//! # Ok::<(), Failure>(())
//! ```

use crate::dead_letters;
use crate::launch::{job_spec, program_settings};
use rivermark_config::{Config, ConfigError};
use rivermark_data::Data;
use rivermark_env::RealEnv;
use rivermark_job::{JobControl, JobEnd, JobHandle, StartOptions};
use rivermark_runtime::operators::Pipe;
use rivermark_runtime::seams::NoSeams;
use rivermark_stream::{CollectSink, Collected, DataStream, StreamEnv};
use rivermark_types::{Failure, Result};
use std::sync::Arc;

/// The uid of what [`Embedded::execute_and_collect`] adds to the graph.
const COLLECT: &str = "execute-and-collect";

/// Running a graph in this process. All calls block the calling thread, which must not be a task of the job.
pub trait Embedded {
    /// Starts the job with configuration keys, which `start_with` checks: where its state is kept
    /// (`execution.checkpointing.dir`), where it starts (`execution.state-recovery.path`), and so on.
    fn start_with(&self, config: Config) -> Result<LocalJob>;

    /// Starts the job with its state in memory.
    fn start(&self) -> Result<LocalJob> {
        self.start_with(Config::default())
    }

    /// Runs the job to its end.
    fn execute(&self) -> Result<JobEnd> {
        self.start()?.wait()
    }

    /// Runs the job to its end and returns the records of a stream of it, in no order. Only for bounded sources.
    fn execute_and_collect<T, I, P>(&self, stream: DataStream<T, I, P>) -> Result<Vec<T>>
    where
        T: Data,
        I: Data,
        P: Pipe<I, Out = T>,
    {
        let collected = Collected::default();
        stream.sink_to(CollectSink::new(collected.clone())).uid(COLLECT);
        self.execute()?;
        Ok(collected.take())
    }
}

fn joined(errors: Vec<ConfigError>) -> Failure {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    Failure::invalid(lines.join("\n"))
}

impl Embedded for StreamEnv {
    fn start_with(&self, config: Config) -> Result<LocalJob> {
        let world = RealEnv::start()
            .map_err(|error| Failure::external("the I/O threads cannot be started").caused_by(error))?;
        let env = world.env();
        dead_letters::configure(self, &config).map_err(joined)?;
        dead_letters::attach(&env, self, &config).map_err(joined)?;
        let program = self.build()?;
        let settings = program_settings(config, &program).map_err(joined)?;
        let handle = world.block_on(async {
            let spec = job_spec(
                &env,
                &settings,
                program,
                StartOptions::default(),
                Arc::new(NoSeams),
            )
            .await?;
            rivermark_job::start(&env, spec).await
        })?;
        Ok(LocalJob { world, handle })
    }
}

/// A job that runs in this process. Dropping it lets the job run on.
pub struct LocalJob {
    world: RealEnv,
    handle: JobHandle,
}

impl LocalJob {
    /// Waits for the job's end.
    pub fn wait(self) -> Result<JobEnd> {
        self.world.block_on(self.handle.wait())
    }

    /// To ask things of the job: to stop, to take a checkpoint, how it does.
    pub fn control(&self) -> JobControl {
        self.handle.control()
    }

    /// Runs a future on the calling thread, for the calls of [`JobControl`] that take time.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.world.block_on(future)
    }
}
