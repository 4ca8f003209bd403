//! A job inside another program, a test for example: nothing is printed, no signal is caught.
//!
//! ```
//! use rivermark::prelude::*;
//!
//! let env = StreamEnv::new();
//! let squares = env.from_collection(vec![1u64, 2, 3]).uid("numbers").map(|n| n * n);
//! let mut rows = env.execute_and_collect(squares)?.into_vec()?;
//! rows.sort();
//! assert_eq!(rows, [1, 4, 9]);
//! # Ok::<(), Failure>(())
//! ```

use crate::dead_letters;
use crate::launch::{complete, job_spec, program_settings};
use crate::metrics::Reporting;
use rivermark_config::{Config, ConfigError, Origin};
use rivermark_data::Data;
use rivermark_env::RealEnv;
use rivermark_job::{JobControl, JobEnd, JobHandle, StartOptions};
use rivermark_runtime::operators::Pipe;
use rivermark_runtime::seams::NoSeams;
use rivermark_stream::{CollectSink, Collected, DataStream, StreamEnv};
use rivermark_types::{Failure, Result};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::vec;

/// The uid of what [`Embedded::execute_and_collect`] adds to the graph.
const COLLECT: &str = "execute-and-collect";

const PARALLELISM: &str = "parallelism.default";

const INTERVAL: &str = "execution.checkpointing.interval";

/// How often collected records are shown to their reader.
const SHOWN_EVERY: &str = "100 ms";

/// How many records wait for their reader before the job waits for it.
const HELD_ROWS: usize = 10_000;

/// Running a graph in this process. All calls block the calling thread, which must not be a task of the job.
pub trait Embedded {
    /// Starts the job with configuration keys, which `start_with` checks: where its state is kept
    /// (`execution.checkpointing.dir`), where it starts (`execution.state-recovery.path`), and so on. Keys about the graph as a
    /// whole (mode, unaligned checkpoints, maximum parallelism) count where its code has said nothing of the kind; a
    /// `parallelism.default` that is not the graph's own is an error, because operators have taken theirs.
    fn start_with(&self, config: Config) -> Result<LocalJob>;

    /// Starts the job with its state in memory.
    fn start(&self) -> Result<LocalJob> {
        self.start_with(Config::default())
    }

    /// Runs the job to its end.
    fn execute(&self) -> Result<JobEnd> {
        self.start()?.wait()
    }

    /// Runs the job and gives the records of a stream of it, in no order, while it runs: each exactly once, with the checkpoint
    /// that covers it. The iterator ends with the job; if the job fails, its error is the last item. Dropping the iterator
    /// cancels the job.
    ///
    /// A checkpoint is taken every 100 ms, unless `config` says otherwise, and the job waits for a reader that is slow: about
    /// 10,000 records are held for it, and what comes between two checkpoints.
    ///
    /// ```
    /// use rivermark::prelude::*;
    ///
    /// let env = StreamEnv::new();
    /// let numbers = env.generate(1_000_000, |n| n).uid("numbers"); // without an end
    /// let mut even = env.execute_and_collect(numbers.filter(|n| n % 2 == 0))?;
    /// let first: Vec<u64> = even.by_ref().take(3).collect::<Result<_>>()?;
    /// assert_eq!(first.len(), 3);
    /// drop(even); // the job is cancelled
    /// # Ok::<(), Failure>(())
    /// ```
    fn execute_and_collect<T, I, P>(&self, stream: DataStream<T, I, P>) -> Result<CollectedRows<T>>
    where
        T: Data,
        I: Data,
        P: Pipe<I, Out = T>,
    {
        self.execute_and_collect_with(Config::default(), stream)
    }

    /// The same with configuration keys, e.g. `metrics.reporter.prom.port` for [`CollectedRows::metrics_addresses`].
    fn execute_and_collect_with<T, I, P>(
        &self,
        mut config: Config,
        stream: DataStream<T, I, P>,
    ) -> Result<CollectedRows<T>>
    where
        T: Data,
        I: Data,
        P: Pipe<I, Out = T>,
    {
        if config.get(INTERVAL).is_none() {
            config.set(INTERVAL, SHOWN_EVERY);
        }
        let collected = Collected::bounded(HELD_ROWS);
        stream.sink_to(CollectSink::new(collected.clone())).uid(COLLECT);
        Ok(CollectedRows::new(self.start_with(config)?, collected))
    }
}

/// Operators take their parallelism when they are added: a configuration that comes later must not be passed over in silence.
fn check_parallelism(graph: &StreamEnv, config: &Config) -> Result<()> {
    match config.get(PARALLELISM) {
        Some((given, origin)) if origin != Origin::Default && given != graph.parallelism().to_string() => {
            Err(Failure::invalid(format!(
                "{PARALLELISM} is {given}, but the graph was built with {}: call StreamEnv::set_parallelism before adding operators",
                graph.parallelism()
            )))
        }
        _ => Ok(()),
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
        complete(self, &config).map_err(joined)?;
        check_parallelism(self, &config)?;
        dead_letters::attach(&env, self, &config).map_err(joined)?;
        let program = self.build()?;
        let settings = program_settings(config, &program).map_err(joined)?;
        let (handle, reporting) = world.block_on(async {
            let spec = job_spec(
                &env,
                &settings,
                program,
                StartOptions::default(),
                Arc::new(NoSeams),
            )
            .await?;
            let name = spec.name.clone();
            let handle = rivermark_job::start(&env, spec).await?;
            let mut reporting = Vec::new();
            for reporter in &settings.reporters {
                match Reporting::start(&env, reporter, &name, handle.control()).await {
                    Ok(started) => reporting.push(started),
                    Err(failure) => {
                        handle.cancel();
                        let _ = handle.wait().await;
                        return Err(failure);
                    }
                }
            }
            Ok((handle, reporting))
        })?;
        Ok(LocalJob {
            world,
            handle,
            reporting,
        })
    }
}

/// A job that runs in this process. Dropping it lets the job run on; only its metrics are served no longer.
pub struct LocalJob {
    world: RealEnv,
    handle: JobHandle,
    reporting: Vec<Reporting>,
}

impl LocalJob {
    /// Waits for the job's end.
    pub fn wait(self) -> Result<JobEnd> {
        let (world, end) = self.into_end();
        world.block_on(end)
    }

    /// The job's end; behind it nothing of it runs any more.
    fn into_end(self) -> (RealEnv, impl Future<Output = Result<JobEnd>> + Send + 'static) {
        let LocalJob {
            world,
            handle,
            reporting,
        } = self;
        let end = async {
            let end = handle.wait().await;
            for reporter in reporting {
                reporter.stop().await;
            }
            end
        };
        (world, end)
    }

    /// Where the job's metrics can be read, e.g. `127.0.0.1:9249`, one for each `metrics.reporters`.
    pub fn metrics_addresses(&self) -> Vec<&str> {
        let addresses = self.reporting.iter().map(|reporter| reporter.address.as_str());
        addresses.collect()
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

type Ending = Pin<Box<dyn Future<Output = Result<JobEnd>> + Send>>;

/// The records of a running job, as [`Embedded::execute_and_collect`] gives them.
pub struct CollectedRows<T> {
    world: RealEnv,
    control: JobControl,
    /// `None` when the job has ended.
    end: Option<Ending>,
    collected: Collected<T>,
    ready: vec::IntoIter<T>,
    failure: Option<Failure>,
    metrics_addresses: Vec<String>,
}

impl<T> CollectedRows<T> {
    fn new(job: LocalJob, collected: Collected<T>) -> CollectedRows<T> {
        let control = job.control();
        let metrics_addresses = job.metrics_addresses().into_iter().map(str::to_owned).collect();
        let (world, end) = job.into_end();
        CollectedRows {
            control,
            metrics_addresses,
            world,
            end: Some(Box::pin(end)),
            collected,
            ready: vec![].into_iter(),
            failure: None,
        }
    }

    /// All that is left, when the job has ended. Only for bounded sources.
    pub fn into_vec(self) -> Result<Vec<T>> {
        self.collect()
    }

    /// To ask things of the job.
    pub fn control(&self) -> JobControl {
        self.control.clone()
    }

    /// Where the job's metrics can be read while it runs, one for each `metrics.reporters` of the configuration.
    pub fn metrics_addresses(&self) -> Vec<&str> {
        self.metrics_addresses.iter().map(String::as_str).collect()
    }

    /// Waits until there are records to see, or the job has ended.
    fn wait(&mut self) {
        let Some(end) = &mut self.end else { return };
        let mut shown = pin!(self.collected.shown());
        let ended = self.world.block_on(poll_fn(|cx| match end.as_mut().poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending => shown.as_mut().poll(cx).map(|()| None),
        }));
        if let Some(ended) = ended {
            self.end = None;
            self.failure = ended.err();
        }
    }
}

impl<T> Iterator for CollectedRows<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        loop {
            if let Some(row) = self.ready.next() {
                return Some(Ok(row));
            }
            // Asked before the look: what the job showed last is seen.
            let is_over = self.end.is_none();
            self.ready = self.collected.take().into_iter();
            if self.ready.len() > 0 {
                continue;
            }
            if is_over {
                return self.failure.take().map(Err);
            }
            self.wait();
        }
    }
}

impl<T> Drop for CollectedRows<T> {
    fn drop(&mut self) {
        self.collected.close();
        if let Some(end) = self.end.take() {
            self.control.cancel();
            // Nothing of the job runs on behind this; how it ended no longer matters.
            let _ = self.world.block_on(end);
        }
    }
}
