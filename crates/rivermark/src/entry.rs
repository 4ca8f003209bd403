//! A job's `main`: command line, configuration, graph, run, signals, last words, exit code.
//!
//! Non-goal: running a job inside another program (see [`crate::local`]).

use crate::announce::{Announcement, Announcer};
use crate::console::Console;
use crate::dead_letters;
use crate::launch::{job_spec, program_settings, stream_env, without_effect};
use crate::log;
use crate::metrics::Reporting;
use crate::options::{EngineOptions, Explanation, NoOptions, parse, resume_line};
use crate::progress::{Manner, Progress, summary};
use clap::Args;
use rivermark_config::{ConfigError, Settings};
use rivermark_env::{Env, RealEnv, TaskHandle, catch_panic, tell_caught_panics_as_errors};
use rivermark_job::{JobControl, JobEnd, JobHandle, StartOptions};
use rivermark_protocol::plan::Plan;
use rivermark_runtime::Program;
use rivermark_runtime::seams::{NoSeams, Seams};
use rivermark_stream::StreamEnv;
use rivermark_types::{ErrorKind, Failure, Result};
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// The largest configuration file.
const CONFIG_LIMIT: usize = 1 << 20;
/// What an aborted job gets to end in order.
const ABORT_WITHIN: Duration = Duration::from_secs(3);

/// The job failed.
const FAILED: u8 = 1;
/// Options, configuration, graph or checkpoint are wrong: the user must change something.
const WRONG: u8 = 2;
/// A newer start of the same job took over.
const FENCED: u8 = 3;
/// Aborted by a second Ctrl-C, as shells count it.
const ABORTED: u8 = 130;

/// Runs a job: `main` of a program that has no options of its own. The closure only builds the graph; it may be called in
/// every process of a job, so it reads and writes nothing.
///
/// ```no_run
/// use rivermark::prelude::*;
///
/// fn main() -> std::process::ExitCode {
///     rivermark::run(|env| {
///         let words = env.from_collection(vec!["to be".to_string(), "or not to be".to_string()]).uid("lines");
///         words
///             .flat_map(|line: String| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
///             .map(|word| (word, 1u64))
///             .key_by(|(word, _)| word.clone())
///             .reduce(|sum, (word, n)| (word, sum.1 + n))
///             .uid("counts")
///             .sink_to(PrintSink::debug())
///             .uid("print");
///         Ok(())
///     })
/// }
/// ```
///
/// Every job has the same command line (`--help` shows it) and the same exit codes: 0 finished or stopped, 1 the job failed,
/// 2 options, configuration, graph or checkpoint are wrong, 3 a newer start of the same job took over, 130 aborted. What goes
/// wrong is one line on standard error that begins with `error: ` (a graph or configuration with several faults: a line each).
pub fn run(build: impl FnOnce(&StreamEnv) -> Result<()>) -> ExitCode {
    run_with(|env, _: NoOptions| build(env))
}

/// Runs a job with options of its own, which stand beside the engine's on the command line.
///
/// ```no_run
/// use rivermark::prelude::*;
///
/// /// Squares numbers.
/// #[derive(clap::Args)]
/// struct Options {
///     /// How many
///     #[arg(long, default_value_t = 10)]
///     count: u64,
/// }
///
/// fn main() -> std::process::ExitCode {
///     rivermark::run_with(|env, options: Options| {
///         let numbers = env.sequence(options.count).uid("numbers");
///         numbers.map(|n| n * n).sink_to(PrintSink::debug()).uid("squares");
///         Ok(())
///     })
/// }
/// ```
pub fn run_with<A: Args>(build: impl FnOnce(&StreamEnv, A) -> Result<()>) -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let (engine, own) = match parse::<A>(&arguments) {
        Ok(parsed) => parsed,
        Err(error) => {
            // Help is not an error. A closed pipe is nobody's problem.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(WRONG)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    tell_caught_panics_as_errors();
    let console = Console::stderr();
    log::start(&console, log::level(engine.quiet, engine.verbose));
    let entry = Entry {
        console: console.clone(),
        engine,
        arguments,
    };
    entry.run(|env| build(env, own)).unwrap_or_else(|failures| {
        failures
            .iter()
            .flat_map(error_lines)
            .for_each(|line| console.line(&line));
        ExitCode::from(failures.first().map_or(FAILED, |failure| exit_code(failure.kind)))
    })
}

fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Invalid | ErrorKind::Damaged => WRONG,
        ErrorKind::Fenced => FENCED,
        ErrorKind::Retry | ErrorKind::Data | ErrorKind::External | ErrorKind::Bug => FAILED,
    }
}

/// One line an error; a message of several lines is a list of errors.
fn error_lines(failure: &Failure) -> Vec<String> {
    let text = failure.to_string();
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| format!("error: {line}"))
        .collect()
}

fn all(errors: Vec<ConfigError>) -> Vec<Failure> {
    errors.into_iter().map(Failure::from).collect()
}

fn one(failure: Failure) -> Vec<Failure> {
    vec![failure]
}

/// One run of the program.
struct Entry {
    console: Console,
    engine: EngineOptions,
    arguments: Vec<OsString>,
}

impl Entry {
    fn run(&self, build: impl FnOnce(&StreamEnv) -> Result<()>) -> Result<ExitCode, Vec<Failure>> {
        let world = RealEnv::start()
            .map_err(|error| one(Failure::external("the I/O threads cannot be started").caused_by(error)))?;
        let env = world.env();
        let text = match &self.engine.config {
            Some(path) => Some((
                path.as_path(),
                world.block_on(read_config(&env, path)).map_err(one)?,
            )),
            None => None,
        };
        let config = self
            .engine
            .config(text.as_ref().map(|(path, text)| (*path, text.as_str())))
            .map_err(all)?;
        let graph = stream_env(&config).map_err(all)?;
        catch_panic(|| build(&graph))
            .unwrap_or_else(|panic| {
                Err(Failure::bug(format!(
                    "the code that builds the graph panicked: {panic}"
                )))
            })
            .map_err(one)?;
        dead_letters::attach(&env, &graph, &config).map_err(all)?;
        let program = graph.build().map_err(one)?;
        let settings = program_settings(config, &program).map_err(all)?;
        if let Some(form) = self.engine.explain_graph {
            let plan = Plan::new(&program.graph, settings.pipeline.chaining, None);
            let plan = plan.map_err(|errors| one(errors.into()))?;
            let text = match form {
                Explanation::Text => plan.explain(),
                Explanation::Dot => plan.dot(),
            };
            // A reader that has seen enough is no error.
            let _ = std::io::stdout().write_all(text.as_bytes());
            return Ok(ExitCode::SUCCESS);
        }
        self.tell_settings(&settings);
        world
            .block_on(self.execute(&world, &settings, program))
            .map_err(one)
    }

    /// What a user should know before the job runs.
    fn tell_settings(&self, settings: &Settings) {
        if self.engine.quiet {
            return;
        }
        if let Some(line) = without_effect(settings) {
            self.console.line(&format!("note: {line}"));
        }
        if settings.checkpoint.dir.is_none() {
            self.console.line(
                "note: state is kept in memory and ends with this process; to keep it, set execution.checkpointing.dir \
                 and pipeline.name",
            );
        }
    }

    async fn execute(&self, world: &RealEnv, settings: &Settings, program: Program) -> Result<ExitCode> {
        let env = world.env();
        let announcer = self.engine.announce.as_deref().map(Announcer::open).transpose()?;
        let seams: Arc<dyn Seams> = match &announcer {
            Some(announcer) => Arc::new(announcer.clone()),
            None => Arc::new(NoSeams),
        };
        let options = StartOptions {
            from: self.engine.from.clone().unwrap_or_default(),
            accept_duplicates: self.engine.accept_duplicates,
            ignore_unclaimed: false,
        };
        let spec = job_spec(&env, settings, program, options, seams).await?;
        let name = spec.name.clone();
        let started = env.now();
        let handle = rivermark_job::start(&env, spec).await?;
        let control = handle.control();
        let mut reporting = Vec::new();
        for reporter in &settings.reporters {
            match Reporting::start(&env, reporter, &name, handle.control()).await {
                Ok(started) => {
                    if !self.engine.quiet {
                        self.console
                            .line(&format!("note: metrics at http://{}/metrics", started.address));
                    }
                    reporting.push(started);
                }
                Err(failure) => {
                    // Nothing has been read yet.
                    handle.cancel();
                    let _ = handle.wait().await;
                    return Err(failure);
                }
            }
        }
        let watchers = self.watch(world, &handle, announcer.as_ref());
        let end = handle.wait().await;
        for reporter in reporting {
            reporter.stop().await;
        }
        for watcher in watchers {
            watcher.abort();
            watcher.join().await;
        }
        self.console.live("");
        let stats = control.stats();
        if let (Some(announcer), Ok(_)) = (&announcer, &end) {
            announcer.say(Announcement::peaks(&stats));
            announcer.say(Announcement::Ended {
                read: stats.records_in(),
                late: stats.late(),
            });
        }
        let end = end?;
        self.last_words(&end, settings, &summary(&stats, env.now().since(started)));
        Ok(match end {
            JobEnd::Finished | JobEnd::Stopped(_) => ExitCode::SUCCESS,
            JobEnd::Cancelled(_) => ExitCode::from(ABORTED),
        })
    }

    /// Everything that runs beside the job.
    fn watch(&self, world: &RealEnv, handle: &JobHandle, announcer: Option<&Announcer>) -> Vec<TaskHandle> {
        let env = world.env();
        let mut watchers = Vec::new();
        match world.shutdown_signals() {
            Ok(signals) => {
                let obey = obey(env.clone(), self.console.clone(), signals, handle.control());
                watchers.push(env.spawn_io("signals", obey));
            }
            Err(error) => self
                .console
                .line(&format!("note: Ctrl-C ends the job at once: {error}")),
        }
        if !self.engine.quiet {
            let manner = Manner {
                live: Console::is_terminal(),
                colours: Console::has_colours(),
                checkpoints: self.engine.verbose > 0,
            };
            let progress = Progress::new(&env, self.console.clone(), manner);
            watchers.push(env.spawn_io("progress", progress.run(handle.control())));
        }
        if let Some(announcer) = announcer {
            watchers.push(env.spawn_io(
                "announcements",
                announcer.clone().follow(env.clone(), handle.control()),
            ));
        }
        watchers
    }

    fn last_words(&self, end: &JobEnd, settings: &Settings, summary: &str) {
        let kept = settings.checkpoint.dir.is_some();
        let line = match end {
            JobEnd::Finished => format!("finished: {summary}"),
            // How to go on is worth a line even to the quiet.
            JobEnd::Stopped(checkpoint) if kept => {
                let resume = resume_line(&self.arguments);
                self.console.line(&format!(
                    "stopped at checkpoint {checkpoint}; resume with: {resume}"
                ));
                format!("stopped: {summary}")
            }
            JobEnd::Stopped(_) => format!("stopped; what was in memory is gone: {summary}"),
            JobEnd::Cancelled(Some(checkpoint)) if kept => {
                let resume = resume_line(&self.arguments);
                self.console.line(&format!(
                    "aborted; the newest checkpoint is {checkpoint}; resume with: {resume}"
                ));
                format!("aborted: {summary}")
            }
            JobEnd::Cancelled(_) => format!("aborted: {summary}"),
        };
        if !self.engine.quiet {
            self.console.line(&line);
        }
    }
}

/// The first request to end takes a last checkpoint, the second aborts, and then patience ends.
async fn obey(env: Env, console: Console, mut signals: rivermark_env::ShutdownSignals, job: JobControl) {
    if !signals.next().await {
        return;
    }
    console.line("stopping: a last checkpoint; once more aborts");
    job.stop();
    if !signals.next().await {
        return;
    }
    console.line("aborting");
    job.cancel();
    env.sleep(ABORT_WITHIN).await;
    console.line("aborted: the user code of the job does not end; the last decided checkpoint stands");
    std::process::exit(ABORTED.into());
}

async fn read_config(env: &Env, path: &Path) -> Result<String> {
    let wrong = |why: String| Failure::invalid(format!("--config {}: {why}", path.display()));
    let mut file = env
        .files()
        .open(path)
        .await
        .map_err(|error| wrong(error.to_string()))?;
    let bytes = file
        .read_at(0, CONFIG_LIMIT + 1)
        .await
        .map_err(|error| wrong(error.to_string()))?;
    if bytes.len() > CONFIG_LIMIT {
        return Err(wrong("larger than 1 MB: is it a configuration file?".to_owned()));
    }
    String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8 text".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_failure_is_the_exit_code() {
        assert_eq!(exit_code(ErrorKind::Invalid), 2);
        assert_eq!(exit_code(ErrorKind::Fenced), 3);
        for kind in [
            ErrorKind::Retry,
            ErrorKind::Data,
            ErrorKind::External,
            ErrorKind::Bug,
        ] {
            assert_eq!(exit_code(kind), 1);
        }
    }

    #[test]
    fn every_error_is_one_line() {
        let failure = Failure::invalid("source needs a uid\nwindow needs a uid");
        assert_eq!(
            error_lines(&failure),
            ["error: source needs a uid", "error: window needs a uid"]
        );
        let failure = Failure::external("open x").caused_by(std::io::Error::other("no such file"));
        assert_eq!(error_lines(&failure), ["error: open x: no such file"]);
    }

    #[test]
    fn a_configuration_that_cannot_be_read_is_the_users_to_put_right() {
        let world = RealEnv::start().unwrap();
        let failure = world
            .block_on(read_config(&world.env(), Path::new("/nowhere/job.yaml")))
            .unwrap_err();
        assert_eq!(failure.kind, ErrorKind::Invalid);
        assert!(
            failure.message.starts_with("--config /nowhere/job.yaml: "),
            "{failure}"
        );
    }
}
