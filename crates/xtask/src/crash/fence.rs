//! Draws about who owns a job: of two starts at once one wins, and one that was stopped finds itself fenced.

use super::output::Output;
use super::place::JobPlace;
use super::process::{Exit, Heard, Process, Start};
use super::{Bench, PACED, UNPACED};
use rivermark_env::Env;
use rivermark_sim::Draw;
use serde_json::json;
use std::time::Duration;

/// How a fenced process exits.
const FENCED: i32 = 3;
/// How long two are listened to in turn.
const TURN: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a process runs at most before something happens to it.
const LIFETIME: Duration = Duration::from_millis(500);

/// The starts of one job.
struct Starts {
    job: String,
    place: JobPlace,
    draw: Draw,
    number: usize,
}

impl Starts {
    /// The next start, at a parallelism as it is drawn.
    fn next(&mut self, env: &Env, rate: u64) -> Result<Process, String> {
        let parallelism = self.draw.between(1, 3) as u32;
        self.number += 1;
        Process::start(env, &self.place, self.number, Start { parallelism, rate })
    }

    fn moment(&mut self) -> Duration {
        self.draw.time(Duration::ZERO, LIFETIME)
    }
}

impl Bench<'_> {
    /// Two starts at once, and one is fenced. The other is stopped, an heir takes over, and the stopped one goes on: fenced.
    pub(super) fn fence(&mut self, number: u64) -> Result<(), String> {
        let job = format!("fence-{number}");
        let mut starts = Starts {
            place: self.place.job(&job)?,
            draw: Draw::stream(self.seed, &job),
            job,
            number: 0,
        };
        let stopped = self.win(&mut starts)?;
        stopped.freeze()?;
        let soon_finished = starts.draw.coin();
        let mut heir = starts.next(&self.env, if soon_finished { UNPACED } else { PACED })?;
        heir.hear_for(2 * starts.moment())?;
        stopped.thaw()?;
        self.tally.start(&starts.job, &stopped.progress);
        let said = expect_fenced(&stopped.wait()?, "fenced by generation ")?;
        self.tally.fenced += 1;
        let text = format!("stopped, overtaken and continued, it says: {said}");
        self.voice
            .event(&text, &starts.job, "fenced", &json!({ "stopped": said }));
        if soon_finished {
            self.finish(&starts.job, heir)?;
        } else {
            // What the stopped one wrote when it went on is swept by the next start.
            if let Some(progress) = heir.kill()? {
                self.tally.start(&starts.job, &progress);
            }
            let last = starts.next(&self.env, UNPACED)?;
            self.finish(&starts.job, last)?;
        }
        let mut output = Output::read(&starts.place.output())?;
        if soon_finished {
            // The job may have finished before the stopped one went on: there is no next start that would sweep.
            self.tally.zombie_files += output.hidden.drain(..).count() as u64;
        }
        self.check(&starts.job, output);
        Ok(())
    }

    /// Two starts at once: the winner, after a while.
    fn win(&mut self, starts: &mut Starts) -> Result<Process, String> {
        let twins = [starts.next(&self.env, PACED)?, starts.next(&self.env, PACED)?];
        let (mut winner, loser) = race(&self.env, twins)?;
        let said = expect_fenced(&loser, "fenced")?;
        self.tally.races += 1;
        let text = format!("of two starts at once one won, the other says: {said}");
        self.voice
            .event(&text, &starts.job, "race", &json!({ "loser": said }));
        while !winner.progress.running {
            if winner.hear()?.is_none() {
                return Err(ended_early(winner));
            }
        }
        match winner.hear_for(starts.moment())? {
            true => Ok(winner),
            false => Err(ended_early(winner)),
        }
    }
}

fn ended_early(winner: Process) -> String {
    match winner.wait() {
        Ok(exit) => format!(
            "the winner of two starts ended ({}): {}",
            exit.status, exit.errors
        ),
        Err(problem) => problem,
    }
}

/// Listens to both until one ends: the one that runs on, and how the other ended.
fn race(env: &Env, twins: [Process; 2]) -> Result<(Process, Exit), String> {
    let [mut one, mut other] = twins;
    let deadline = env.now().after(PATIENCE);
    while env.now() < deadline {
        if matches!(one.listen(env.now().after(TURN))?, Heard::Closed) {
            return Ok((other, one.wait()?));
        }
        std::mem::swap(&mut one, &mut other);
    }
    Err("of two starts at once both run on: neither is fenced".into())
}

/// The words with which a fenced process ended.
fn expect_fenced(exit: &Exit, words: &str) -> Result<String, String> {
    let said = exit
        .errors
        .lines()
        .find_map(|line| Some(&line[line.find(words)?..]));
    let names_generation = |said: &str| {
        let generation = said.rsplit("generation ").next().unwrap_or_default();
        generation.trim().parse::<u64>().is_ok()
    };
    match said {
        Some(said) if exit.status.code() == Some(FENCED) && names_generation(said) => Ok(said.to_owned()),
        _ => Err(format!(
            "a fenced job must exit with {FENCED} and say \"{words}\", but it ended with {} and says: {:?}",
            exit.status,
            exit.errors.trim()
        )),
    }
}
