//! How often and how soon a job is tried again (`restart-strategy.type`).

use super::EndReason;
use rivermark_types::Millis;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
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
    /// As long as failures are rare enough, after the same pause each.
    FailureRate {
        /// So many failures may fall into one interval; one more ends the job.
        max_failures: u32,
        /// The length of the interval, which slides.
        interval: Duration,
        /// The pause before each restart.
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

/// What a strategy remembers of one run.
#[derive(Clone, Debug)]
pub(super) struct Tries {
    strategy: RestartStrategy,
    /// Restarts so far; with exponential delay, since the last reset.
    restarts: u32,
    /// The latest restart that was planned, carried out or not.
    last_restart: Option<Millis>,
    /// With a failure rate: the newest failures, at most one more than it allows.
    failures: VecDeque<Millis>,
}

impl Tries {
    pub(super) fn new(strategy: RestartStrategy) -> Tries {
        Tries {
            strategy,
            restarts: 0,
            last_restart: None,
            failures: VecDeque::new(),
        }
    }

    pub(super) fn restarts(&self) -> u32 {
        self.restarts
    }

    /// A restart is planned.
    pub(super) fn planned(&mut self, at: Millis) {
        self.restarts = self.restarts.saturating_add(1);
        self.last_restart = Some(at);
    }

    /// An attempt failed: the pause before the next, or why there is none.
    pub(super) fn next_pause(&mut self, now: Millis, random: u64) -> Result<Duration, EndReason> {
        match self.strategy {
            RestartStrategy::None => Err(EndReason::RestartsOff),
            RestartStrategy::FixedDelay { attempts, delay } => {
                self.attempts_left(Some(attempts))?;
                Ok(delay)
            }
            RestartStrategy::FailureRate {
                max_failures,
                interval,
                delay,
            } => {
                self.rate_kept(now, max_failures, interval)?;
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

    fn rate_kept(&mut self, now: Millis, max_failures: u32, interval: Duration) -> Result<(), EndReason> {
        self.failures.push_back(now);
        // What is too old to count is forgotten, so the list is never longer than one more than is allowed.
        while self.failures.front().is_some_and(|at| now.since(*at) > interval) {
            self.failures.pop_front();
        }
        if self.failures.len() > max_failures as usize {
            return Err(EndReason::RateExceeded {
                max_failures,
                interval,
            });
        }
        Ok(())
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
mod tests {
    use super::*;

    #[test]
    fn the_jitter_goes_from_its_share_below_to_its_share_above() {
        let pause = |random| jittered(10.0, 0.1, random).as_secs_f64();
        assert_eq!((pause(0), pause(u64::MAX)), (9.0, 11.0));
        assert!((pause(1 << 63) - 10.0).abs() < 1e-9);
        // Both ends are reached exactly, which shows where seconds are many.
        assert_eq!(jittered(1e9, 1.0, u64::MAX), Duration::from_secs(2_000_000_000));
        assert_eq!(jittered(1e9, 1.0, 0), Duration::ZERO);
    }
}
