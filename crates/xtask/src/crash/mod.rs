//! `cargo xtask crash-test`: a job's process is killed hard, again and again, and its output stays what it would have been.
//!
//! Layout: [`job`] (the job; this executable is started again under its name), `place` (directories and input), `process` (a
//! started job: listened to, stopped, killed), `phase` (what was under way), `round` (a job and its kills), `fence` (several
//! starts of one job), `output` (finished files, compared), `tally` (counts and what they must come to).
//! Non-goals: loss of power and faulty disks, which the simulator has.

mod fence;
pub(crate) mod job;
mod output;
mod phase;
mod place;
pub(crate) mod process;
mod round;
mod tally;

use crate::Outcome;
use output::Output;
use place::Place;
use process::{Process, Start};
use rivermark_env::{Env, RealEnv};
use serde_json::json;
use tally::{Tally, Voice};

/// Payments of the input: more than a round reads while it is paced.
const ROWS: usize = 30_000;
/// Payments a second of a job that is to be killed.
const PACED: u64 = 4_000;
/// As fast as it goes.
const UNPACED: u64 = 100_000_000;
const KILLS_PER_ROUND: u64 = 10;

/// Kills the process of a job hard, half of the times aimed at the phases of a checkpoint, and starts it again at the same
/// and at another parallelism; then lets starts of one job compete. Compares the finished files with those of a run
/// that nobody disturbed. Exit code 1 if a row is lost or doubled, or a file left over.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often a job is killed
    #[arg(long, default_value_t = 50)]
    kills: u64,
    /// How often a job is started twice at once, then stopped, overtaken and continued
    #[arg(long, default_value_t = 5)]
    fences: u64,
    /// Where input, moments and parallelism are drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print what happens and the counts as a JSON object a line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let world = RealEnv::start().map_err(|error| format!("the I/O threads cannot be started: {error}"))?;
    let place = Place::create(args.seed, ROWS)?;
    let mut bench = Bench {
        env: world.env(),
        seed: args.seed,
        place: &place,
        voice: Voice { json: args.json },
        tally: Tally::default(),
        expected: Output::default(),
    };
    let complaints = match bench.run(args) {
        Ok(()) => bench.tally.complaints(),
        Err(problem) => vec![problem],
    };
    bench.voice.summary(&bench.tally, &complaints);
    if !complaints.is_empty() {
        eprintln!("kept for a look: {}", place.keep().display());
        return Ok(false);
    }
    Ok(true)
}

/// What all jobs of the test share.
struct Bench<'a> {
    env: Env,
    seed: u64,
    place: &'a Place,
    voice: Voice,
    tally: Tally,
    expected: Output,
}

impl Bench<'_> {
    fn run(&mut self, args: &Args) -> Result<(), String> {
        self.undisturbed()?;
        let mut number = 0;
        while self.tally.kills < args.kills {
            number += 1;
            self.round(number, KILLS_PER_ROUND.min(args.kills - self.tally.kills))?;
        }
        (1..=args.fences).try_for_each(|number| self.fence(number))
    }

    /// What the output should be.
    fn undisturbed(&mut self) -> Result<(), String> {
        let place = self.place.job("undisturbed")?;
        let start = Start {
            parallelism: 2,
            rate: UNPACED,
        };
        let exit = Process::start(&self.env, &place, 0, start)?.wait()?;
        exit.expect_success()?;
        self.expected = Output::read(&place.output())?;
        if self.expected.payments != ROWS as u64 || !self.expected.flaws.is_empty() {
            return Err(format!(
                "the undisturbed run is wrong itself: it counts {} of {ROWS} payments; {}",
                self.expected.payments,
                self.expected.flaws.join("; ")
            ));
        }
        Ok(())
    }

    /// Waits for a job's last start, which nobody disturbs.
    fn finish(&mut self, job: &str, process: Process) -> Result<(), String> {
        let exit = process.wait()?;
        self.tally.start(job, &exit.progress);
        exit.expect_success()
            .map_err(|problem| format!("{job}: {problem}"))
    }

    /// Compares what a finished job left with what it should have.
    fn check(&mut self, job: &str, output: Output) {
        let (files, flaws) = (output.files, output.flaws.len() + output.hidden.len());
        let difference = self.tally.job(job, output, &self.expected);
        let (checked, lost, doubled) = (difference.checked, difference.lost, difference.doubled);
        self.voice.event(
            &format!(
                "{checked} rows in {files} files checked: {lost} lost, {doubled} doubled, {flaws} files wrong"
            ),
            job,
            "checked",
            &json!({ "rows": checked, "files": files, "lost": lost, "doubled": doubled, "wrong": flaws }),
        );
    }
}
