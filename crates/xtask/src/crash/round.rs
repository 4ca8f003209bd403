//! One job from its beginning to its end, killed on the way again and again.

use super::output::Output;
use super::phase::{Phase, Progress};
use super::process::{Process, Start, pause};
use super::{Bench, PACED, UNPACED};
use rivermark_sim::Draw;
use serde_json::json;
use std::time::Duration;

/// An aimed kill comes so late at most after the announcement.
const LATEST: Duration = Duration::from_millis(5);
/// A kill at random comes in this time; starting takes part of it.
const LIFETIME: Duration = Duration::from_millis(600);

/// When a kill comes.
#[derive(Clone, Copy)]
enum Moment {
    /// So long after the phase was announced for the `turn`th time.
    Aimed {
        phase: Phase,
        turn: u64,
        delay: Duration,
    },
    /// So long after the start.
    Random(Duration),
}

/// How a start came to its end.
enum End {
    Killed(Progress),
    /// It had finished before.
    Finished,
}

impl Moment {
    /// Every other kill is aimed, at the phases in turn. A job that is not paced has a short life.
    fn draw(draw: &mut Draw, number: u64, paced: bool) -> Moment {
        if number.is_multiple_of(2) {
            Moment::Aimed {
                phase: Phase::ALL[(number / 2 % 3) as usize],
                turn: draw.between(1, if paced { 4 } else { 1 }),
                delay: draw.time(Duration::ZERO, LATEST),
            }
        } else {
            Moment::Random(draw.time(Duration::ZERO, if paced { LIFETIME } else { LIFETIME / 3 }))
        }
    }

    fn is_aimed(self) -> bool {
        matches!(self, Moment::Aimed { .. })
    }

    /// Waits for the moment and kills.
    fn strike(self, mut process: Process) -> Result<End, String> {
        match self {
            Moment::Random(after) => drop(process.hear_for(after)?),
            Moment::Aimed { phase, turn, delay } => {
                let mut seen = 0;
                while seen < turn
                    && let Some(heard) = process.hear()?
                {
                    seen += u64::from(Phase::begun_by(&heard).is_some_and(|(begun, _)| begun == phase));
                }
                pause(delay);
            }
        }
        // Killing one that has ended by itself tells whether it ended well.
        Ok(process.kill()?.map_or(End::Finished, End::Killed))
    }
}

impl Bench<'_> {
    /// Runs a job with at most so many kills. The last of them strikes a job that reads as fast as it can, so that the end of
    /// a job is hit too; then it is left in peace.
    pub(super) fn round(&mut self, number: u64, kills: u64) -> Result<(), String> {
        let job = format!("round-{number}");
        let place = self.place.job(&job)?;
        let mut draw = Draw::stream(self.seed, &job);
        for start in 0.. {
            let paced = start == 0 || start + 1 < kills;
            let rate = if paced { PACED } else { UNPACED };
            let parallelism = if start == 0 { 2 } else { draw.between(1, 3) as u32 };
            let process = Process::start(&self.env, &place, start as usize, Start { parallelism, rate })?;
            if start == kills {
                self.finish(&job, process)?;
                break;
            }
            let moment = Moment::draw(&mut draw, self.tally.kills, paced);
            match moment.strike(process)? {
                End::Finished => {
                    self.voice
                        .event("ended before it was killed", &job, "ended", &json!({}));
                    break;
                }
                End::Killed(progress) => self.killed(&job, moment, parallelism, &progress),
            }
        }
        self.check(&job, Output::read(&place.output())?);
        Ok(())
    }

    fn killed(&mut self, job: &str, moment: Moment, parallelism: u32, progress: &Progress) {
        self.tally.kill(job, moment.is_aimed(), progress);
        let hit = match (progress.running, progress.phase()) {
            (false, _) => "starting".to_owned(),
            (true, None) => "between checkpoints".to_owned(),
            (true, Some(phase)) => phase.to_string(),
        };
        let restored = progress.restored.map(|checkpoint| checkpoint.0);
        let from = restored.map_or("the beginning".to_owned(), |id| format!("checkpoint {id}"));
        let aim = if moment.is_aimed() { "aimed" } else { "random" };
        let detail = json!({
            "kill": self.tally.kills, "aim": aim, "hit": hit, "parallelism": parallelism,
            "restored": restored, "decided": progress.decided,
        });
        let from = if progress.running {
            format!(", from {from}")
        } else {
            String::new()
        };
        let text = format!(
            "kill {} ({aim}) hit: {hit}; parallelism {parallelism}{from}, {} decided",
            self.tally.kills, progress.decided
        );
        self.voice.event(&text, job, "kill", &detail);
    }
}
