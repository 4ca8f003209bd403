//! Draws about who owns a job: of two starts at once one wins, and one that was stopped finds itself fenced.

use super::process::{Exit, Heard, Process, Start};
use super::{Bench, PACED, UNPACED};
use rivermark_sim::Draw;
use serde_json::json;
use std::time::Duration;

/// How a fenced process exits.
const FENCED: i32 = 3;
/// How often the two are listened to in turn.
const TURN: Duration = Duration::from_millis(2);
const LIFETIME: Duration = Duration::from_millis(500);

impl Bench<'_> {
    /// Two starts at once, and one is fenced. The other is stopped, a third takes over and the stopped one goes on: fenced.
    pub(super) fn fence(&mut self, number: u64) -> Result<(), String> {
        let job = format!("fence-{number}");
        let place = self.place.job(&job)?;
        let mut draw = Draw::stream(self.seed, &job);
        let mut starts = 0..;
        let mut start = |parallelism: u64, rate: u64| {
            let start = Start {
                parallelism: parallelism as u32,
                rate,
            };
            Process::start(&self.env, &place, starts.next().unwrap_or_default(), start)
        };
        let twins = [start(2, PACED)?, start(draw.between(1, 3), PACED)?];
        let (mut winner, loser) = race(&self.env, twins)?;
        let said = expect_fenced(&loser, "fenced")?;
        self.tally.races += 1;
        self.voice.event(
            &format!("of two starts at once one won, the other says: {said}"),
            &job,
            "race",
            &json!({ "loser": said }),
        );
        // It has to be heard of again, so that it surely runs.
        if winner.hear()?.is_none() || !winner.hear_for(draw.time(Duration::ZERO, LIFETIME))? {
            let exit = winner.wait()?;
            return Err(format!(
                "the winner of two starts ended ({}): {}",
                exit.status, exit.errors
            ));
        }
        winner.freeze()?;
        // An unpaced heir may well be finished before the stopped one goes on.
        let rate = if draw.coin() { UNPACED } else { 4 * PACED };
        let mut heir = start(draw.between(1, 3), rate)?;
        heir.hear_for(draw.time(Duration::ZERO, 2 * LIFETIME))?;
        winner.thaw()?;
        self.tally.start(&job, &winner.progress);
        let said = expect_fenced(&winner.wait()?, "fenced by generation ")?;
        self.tally.fenced += 1;
        self.voice.event(
            &format!("stopped, overtaken and continued, it says: {said}"),
            &job,
            "fenced",
            &json!({ "stopped": said }),
        );
        self.finish(&job, heir)?;
        self.check(&job, &place)
    }
}

/// Listens to both until one ends: the one that runs on, and the one that ended.
fn race(env: &rivermark_env::Env, twins: [Process; 2]) -> Result<(Process, Exit), String> {
    let [mut one, mut other] = twins;
    let deadline = env.now().after(Duration::from_secs(60));
    while env.now() < deadline {
        if matches!(one.listen(env.now().after(TURN))?, Heard::Closed) {
            return Ok((other, one.wait()?));
        }
        std::mem::swap(&mut one, &mut other);
    }
    Err("of two starts at once both run on: neither is fenced".into())
}

/// The error with which a fenced process ended.
fn expect_fenced(exit: &Exit, words: &str) -> Result<String, String> {
    let found = exit.errors.lines().find_map(|line| {
        let rest = &line[line.find(words)?..];
        let generation = rest[words.len()..].chars().next();
        (!words.ends_with("generation ") || generation.is_some_and(|first| first.is_ascii_digit()))
            .then(|| rest.to_owned())
    });
    match found {
        Some(line) if exit.status.code() == Some(FENCED) => Ok(line),
        _ => Err(format!(
            "a fenced job must exit with {FENCED} and say {words:?}, but it ended with {} and says: {:?}",
            exit.status,
            exit.errors.trim()
        )),
    }
}
