//! Failures, and what follows from them: restart when, or end.
//!
//! By kind: `Invalid` and `Fenced` end the job at once. `Data` and `Bug` (panics too) follow the restart strategy, but
//! end the job after [`FailurePolicy::SAME_PLACE_LIMIT`] attempts that failed at the same place without a checkpoint
//! decided in between: trying again cannot help a record that always fails. `Retry` and `External` follow the strategy alone.
//!
//! Layout: this file decides, [`lifecycle`] holds the states of a job and which may follow which.
//! Non-goals: no clock, no randomness (both come in with the failure), no restarting of parts: a job restarts whole.

pub mod lifecycle;

pub use lifecycle::{IllegalMove, JobLifecycle, JobState};

use rivermark_types::{ErrorKind, Millis};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// How often and how soon a job is tried again (`restart-strategy.type`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RestartStrategy {
    /// Never.
    None,
    /// So many times, after the same pause each.
    FixedDelay {
        /// Restarts over the whole run.
        attempts: u32,
        /// The pause before each.
        delay: Duration,
    },
    /// After pauses that grow while failures follow each other.
    ExponentialDelay {
        /// The first pause.
        initial: Duration,
        /// The longest pause.
        max: Duration,
        /// By how much each pause is longer than the one before.
        multiplier: f64,
        /// So long without a failure, and the next pause is the first again.
        reset_threshold: Duration,
        /// Each pause is drawn from this share below to this share above.
        jitter: f64,
        /// Restarts in a row (until reset); `None` for no limit.
        attempts: Option<u32>,
    },
}

impl Default for RestartStrategy {
    /// Flink's default for jobs with checkpoints.
    fn default() -> Self {
        RestartStrategy::ExponentialDelay {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(60),
            multiplier: 1.5,
            reset_threshold: Duration::from_secs(3600),
            jitter: 0.1,
            attempts: None,
        }
    }
}

/// What went wrong, as far as it matters for what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFailure {
    /// The kind.
    pub kind: ErrorKind,
    /// Where: the operator (its uid or name) and not the subtask, because after a restart the same record may reach another.
    pub place: String,
    /// When.
    pub now: Millis,
    /// Random bits for the jitter.
    pub random: u64,
}

/// What follows from a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Start the next attempt at that time.
    Restart {
        /// When.
        at: Millis,
    },
    /// Give up.
    End {
        /// Why.
        reason: EndReason,
    },
}

/// Why a job is not tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The user must change something.
    Invalid,
    /// A newer generation owns the job.
    Fenced,
    /// The same place failed again and again, and no checkpoint was decided in between.
    SamePlace {
        /// The place.
        place: String,
        /// How many attempts failed there.
        failures: u32,
    },
    /// The strategy allows no restart at all.
    RestartsOff,
    /// The strategy's restarts are used up.
    AttemptsUsedUp {
        /// How many there were.
        attempts: u32,
    },
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndReason::Invalid => f.write_str("trying again cannot help: something must be changed first"),
            EndReason::Fenced => f.write_str("a newer run of the job has taken over"),
            EndReason::SamePlace { place, failures } => {
                write!(
                    f,
                    "{place} failed {failures} times without a checkpoint in between"
                )
            }
            EndReason::RestartsOff => f.write_str("restarts are off: see restart-strategy.type"),
            EndReason::AttemptsUsedUp { attempts } => write!(f, "all {attempts} restarts are used up"),
        }
    }
}

/// Decides what follows from each failure of one run of a job.
#[derive(Clone, Debug)]
pub struct FailurePolicy {
    strategy: RestartStrategy,
    /// Restarts so far; with exponential delay, since the last reset.
    restarts: u32,
    /// The latest restart that was planned, carried out or not.
    last_restart: Option<Millis>,
    /// The restart that is planned and has not happened yet.
    planned: Option<Millis>,
    /// By place: attempts that failed there since a checkpoint was last decided.
    strikes: BTreeMap<String, Strikes>,
}

#[derive(Clone, Debug, Default)]
struct Strikes {
    count: u32,
    /// Whether the attempt of now is among them.
    counted_now: bool,
}

impl FailurePolicy {
    /// So many attempts may fail at one place between two checkpoints before the job ends.
    pub const SAME_PLACE_LIMIT: u32 = 3;

    /// A policy that has seen no failure yet.
    pub fn new(strategy: RestartStrategy) -> FailurePolicy {
        FailurePolicy {
            strategy,
            restarts: 0,
            last_restart: None,
            planned: None,
            strikes: BTreeMap::new(),
        }
    }

    /// An attempt begins: failures count again.
    pub fn attempt_started(&mut self) {
        self.planned = None;
        self.strikes
            .values_mut()
            .for_each(|strikes| strikes.counted_now = false);
    }

    /// The job made progress that lasts.
    pub fn checkpoint_decided(&mut self) {
        self.strikes.clear();
    }

    /// Something failed. Failures between the first of an attempt and the next attempt's start are that one failure's
    /// company: they neither count for the strategy nor move the restart, but may still end the job by their kind.
    pub fn failed(&mut self, failure: &JobFailure) -> Verdict {
        let by_kind = match failure.kind {
            ErrorKind::Invalid | ErrorKind::Damaged => Some(EndReason::Invalid),
            ErrorKind::Fenced => Some(EndReason::Fenced),
            ErrorKind::Data | ErrorKind::Bug => self.strike(&failure.place),
            ErrorKind::Retry | ErrorKind::External => None,
        };
        if let Some(reason) = by_kind {
            return Verdict::End { reason };
        }
        if let Some(at) = self.planned {
            return Verdict::Restart { at };
        }
        match self.next_pause(failure.now, failure.random) {
            Err(reason) => Verdict::End { reason },
            Ok(pause) => {
                let at = failure.now.after(pause);
                self.restarts = self.restarts.saturating_add(1);
                (self.planned, self.last_restart) = (Some(at), Some(at));
                Verdict::Restart { at }
            }
        }
    }

    /// Restarts so far; with exponential delay, since the last reset.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    fn strike(&mut self, place: &str) -> Option<EndReason> {
        let strikes = self.strikes.entry(place.to_owned()).or_default();
        if !strikes.counted_now {
            strikes.counted_now = true;
            strikes.count += 1;
        }
        let failures = strikes.count;
        (failures >= Self::SAME_PLACE_LIMIT).then(|| EndReason::SamePlace {
            place: place.to_owned(),
            failures,
        })
    }

    fn next_pause(&mut self, now: Millis, random: u64) -> Result<Duration, EndReason> {
        match self.strategy {
            RestartStrategy::None => Err(EndReason::RestartsOff),
            RestartStrategy::FixedDelay { attempts, delay } => {
                self.attempts_left(Some(attempts))?;
                Ok(delay)
            }
            RestartStrategy::ExponentialDelay {
                initial,
                max,
                multiplier,
                reset_threshold,
                jitter,
                attempts,
            } => {
                if self
                    .last_restart
                    .is_some_and(|last| now.since(last) >= reset_threshold)
                {
                    self.restarts = 0;
                }
                self.attempts_left(attempts)?;
                Ok(jittered(
                    grown(initial, max, multiplier, self.restarts),
                    jitter,
                    random,
                ))
            }
        }
    }

    fn attempts_left(&self, attempts: Option<u32>) -> Result<(), EndReason> {
        match attempts {
            Some(attempts) if self.restarts >= attempts => Err(EndReason::AttemptsUsedUp { attempts }),
            _ => Ok(()),
        }
    }
}

/// `initial × multiplier ^ times`, at most `max`, in seconds; nonsense in (not a number, a factor below 1) grows nothing.
fn grown(initial: Duration, max: Duration, multiplier: f64, times: u32) -> f64 {
    // Bounded, because infinitely many times no pause would be no number.
    let factor = multiplier
        .max(1.0)
        .powi(i32::try_from(times).unwrap_or(i32::MAX))
        .min(f64::MAX);
    (initial.as_secs_f64() * factor).min(max.as_secs_f64())
}

fn jittered(seconds: f64, jitter: f64, random: u64) -> Duration {
    let jitter = if jitter.is_nan() {
        0.0
    } else {
        jitter.clamp(0.0, 1.0)
    };
    // 53 bits are what a double holds exactly: 0 to 1, both included.
    let share = (random >> 11) as f64 / ((1u64 << 53) - 1) as f64;
    Duration::try_from_secs_f64(seconds * (1.0 + jitter * (2.0 * share - 1.0))).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests;
