//! The parent: starts the job, kills it, starts it again, compares.

use crate::job::FLAG;
use crate::report::{Comparison, Results, say, tell};
use clap::Parser;
use rivermark::announce::Announcement;
use rivermark::prelude::*;
use rivermark_env::RealEnv;
use rivermark_types::CheckpointId;
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};

/// A run is killed after its third decided checkpoint, or one of the next few.
const KILL_AFTER: std::ops::Range<u64> = 3..9;
/// So long after that decision; the next follows 200 ms later.
const KILL_DELAY_MS: std::ops::Range<u64> = 20..220;

/// All flights that left New York in 2013, as a stream; and a crash that leaves no trace in the results.
#[derive(Parser)]
#[command(after_help = "With --job it is the job itself; `--job --help` shows what every job understands.")]
pub struct Options {
    /// When to crash; drawn and printed if not given
    #[arg(long)]
    seed: Option<u64>,
    /// Leave the crash out
    #[arg(long)]
    no_crash: bool,
    /// Where results and checkpoints go, to look at them afterwards (a new directory); else they are removed in the end
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Flights a second
    #[arg(long, default_value_t = 84_000)]
    rate: u64,
    /// Subtasks of every operator
    #[arg(long, default_value_t = 2)]
    parallelism: u32,
    /// Where the flights and the weather are
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/data"))]
    data: PathBuf,
}

pub fn main(options: Options) -> ExitCode {
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Tells whether everything is as it must be.
fn run(options: &Options) -> Result<bool> {
    let world = RealEnv::start().map_err(|error| Failure::external("no I/O threads").caused_by(error))?;
    let seed = options
        .seed
        .unwrap_or_else(|| world.env().random_u64() % 1_000_000);
    let kept = match &options.dir {
        Some(dir) => Place::Kept(dir.clone()),
        None => Place::Passing(
            tempfile::tempdir()
                .map_err(|error| Failure::external("no temporary directory").caused_by(error))?,
        ),
    };
    let runs = Runs {
        world,
        options,
        dir: kept.path(),
    };
    say!(
        "336,776 flights out of New York in 2013{}\n",
        if options.no_crash {
            ""
        } else {
            ", once in peace and once with a crash"
        }
    );

    let peace = runs.to_the_end("peace", None)?;
    let expected = Results::read(&runs.dir.join("peace"))?;
    tell::peace(&peace);
    let right = if options.no_crash {
        peace.late == 0
    } else {
        let kill = Kill::of(seed);
        let (killed, resumed) = runs.killed_and_resumed("crash", kill)?;
        let comparison = Comparison::of(&expected, &Results::read(&runs.dir.join("crash"))?);
        let replayed = (killed.read + resumed.read).saturating_sub(peace.read);
        tell::crash(seed, kill, &killed, &resumed, replayed);
        tell::comparison(&comparison);
        comparison.is_identical() && peace.late + resumed.late == 0 && replayed > 0
    };
    tell::insights(&expected)?;
    if !options.no_crash {
        say!("\noutput identical: {}", if right { "yes" } else { "no" });
    }
    Ok(right)
}

/// Where everything goes.
enum Place {
    Kept(PathBuf),
    Passing(tempfile::TempDir),
}

impl Place {
    fn path(&self) -> &Path {
        match self {
            Place::Kept(dir) => dir,
            Place::Passing(dir) => dir.path(),
        }
    }
}

/// A moment to kill at.
#[derive(Clone, Copy)]
pub struct Kill {
    /// So many checkpoints must be decided.
    pub after: u64,
    /// So long after the last of them.
    pub delay: Duration,
}

impl Kill {
    fn of(seed: u64) -> Kill {
        // One round of a mixer: neighbouring seeds give unlike moments.
        let mixed = (seed ^ 0x5eed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let draw = |bits: u64, range: std::ops::Range<u64>| range.start + bits % (range.end - range.start);
        Kill {
            after: draw(mixed >> 48, KILL_AFTER),
            delay: Duration::from_millis(draw(mixed >> 16 & 0xffff_ffff, KILL_DELAY_MS)),
        }
    }
}

/// What a run of the job announced.
#[derive(Default)]
pub struct Run {
    pub elapsed: Duration,
    pub from: Option<CheckpointId>,
    /// Records read: of a killed run those it had announced.
    pub read: u64,
    pub late: u64,
    /// Bytes and milliseconds of each decided checkpoint.
    pub checkpoints: Vec<(CheckpointId, u64, u64)>,
    pub ended: bool,
}

impl Run {
    fn take(&mut self, announcement: Announcement) {
        match announcement {
            Announcement::Running(from) => self.from = from,
            Announcement::Read(read) => self.read = self.read.max(read),
            Announcement::Decided {
                checkpoint,
                bytes,
                millis,
            } => self.checkpoints.push((checkpoint, bytes, millis)),
            Announcement::Ended { read, late } => (self.read, self.late, self.ended) = (read, late, true),
            // Phases: for those who aim.
            _ => {}
        }
    }
}

struct Runs<'a> {
    world: RealEnv,
    options: &'a Options,
    dir: &'a Path,
}

impl Runs<'_> {
    /// A run that nobody disturbs.
    fn to_the_end(&self, name: &str, from: Option<&str>) -> Result<Run> {
        let (mut child, lines) = self.start(name, from)?;
        let run = self.watch(&mut child, lines, None)?;
        let status = child
            .wait()
            .map_err(|error| Failure::external("the job is gone").caused_by(error))?;
        match run.ended && status.success() {
            true => Ok(run),
            false => Err(Failure::external(format!(
                "the job failed ({status}); its own error stands above"
            ))),
        }
    }

    fn killed_and_resumed(&self, name: &str, kill: Kill) -> Result<(Run, Run)> {
        let (mut child, lines) = self.start(name, None)?;
        let killed = self.watch(&mut child, lines, Some(kill))?;
        child
            .wait()
            .map_err(|error| Failure::external("the job is gone").caused_by(error))?;
        if killed.ended {
            return Err(Failure::invalid(
                "the job ended before it could be killed: give it a lower --rate",
            ));
        }
        if std::io::stderr().is_terminal() {
            // The line that changed died with its writer.
            eprint!("\r\x1b[2K");
        }
        Ok((killed, self.to_the_end(name, Some("latest"))?))
    }

    /// Starts this very program as the job.
    fn start(&self, name: &str, from: Option<&str>) -> Result<(Child, BufReader<ChildStdout>)> {
        let failed = |error: std::io::Error| Failure::external("the job cannot be started").caused_by(error);
        let dir = self.dir.join(name);
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command
            .arg(FLAG)
            .arg("--data")
            .arg(&self.options.data)
            .arg("--out")
            .arg(&dir)
            .args([
                "--rate",
                &self.options.rate.to_string(),
                "--parallelism",
                &self.options.parallelism.to_string(),
            ])
            .args([
                "--set",
                "pipeline.name=flights",
                "--set",
                "execution.checkpointing.interval=200 ms",
            ])
            .args([
                "--set",
                &format!("execution.checkpointing.dir={}", dir.join("state").display()),
            ])
            .args(["--announce", "/dev/stdout"])
            .stdout(Stdio::piped());
        if let Some(from) = from {
            command.args(["--from", from]);
        }
        if !std::io::stderr().is_terminal() {
            command.arg("--quiet");
        }
        let mut child = command.spawn().map_err(failed)?;
        let lines = child.stdout.take().map(BufReader::new);
        Ok((
            child,
            lines.ok_or_else(|| Failure::bug("the job has no standard output"))?,
        ))
    }

    /// Reads what the job announces until it is gone; kills it when its moment has come.
    fn watch(&self, child: &mut Child, lines: BufReader<ChildStdout>, mut kill: Option<Kill>) -> Result<Run> {
        let env = self.world.env();
        let started = env.now();
        let mut run = Run::default();
        for line in lines.lines() {
            let line = line.map_err(|error| Failure::external("the job cannot be heard").caused_by(error))?;
            run.take(line.parse()?);
            if let Some(moment) = kill.take_if(|kill| run.checkpoints.len() as u64 >= kill.after) {
                self.world.block_on(env.sleep(moment.delay));
                // SIGKILL: no last words, no cleaning up.
                child
                    .kill()
                    .map_err(|error| Failure::external("the job cannot be killed").caused_by(error))?;
            }
        }
        run.elapsed = env.now().since(started);
        Ok(run)
    }
}
