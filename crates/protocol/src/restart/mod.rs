//! Failures, and what follows from them: restart when, or end.
//!
//! By kind: `Invalid` and `Fenced` end the job at once. `Data` and `Bug` (panics too) follow the restart strategy, but
//! end the job after [`FailurePolicy::SAME_PLACE_LIMIT`] attempts that failed at the same place without a checkpoint
//! decided in between, or at the same row: trying again cannot help a record that always fails. An operator that may give
//! rows up does so instead. `Retry` and `External` follow the strategy alone.
//!
//! Layout: this file decides by kind and place, [`strategy`] when to try again, [`careful`] what is known of rows that
//! fail, [`lifecycle`] holds the states of a job and which may follow which.
//! Non-goals: no clock, no randomness (both come in with the failure), no restarting of parts: a job restarts whole.

pub mod careful;
pub mod lifecycle;
pub mod strategy;

pub use careful::{CarefulPlan, FailedRow};
pub use lifecycle::{IllegalMove, JobLifecycle, JobState};
pub use strategy::RestartStrategy;

use careful::{Careful, RowVerdict};
use rivermark_types::{ErrorKind, Millis, NodeId};
use std::collections::BTreeMap;
use std::fmt;
use strategy::Tries;

/// What went wrong, as far as it matters for what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFailure {
    /// The kind.
    pub kind: ErrorKind,
    /// Where: the operator (its uid or name) and not the subtask, because after a restart the same record may reach another.
    pub place: String,
    /// The operator, if it was one that failed.
    pub node: Option<NodeId>,
    /// The row it was at work on, if it ran carefully.
    pub row: Option<FailedRow>,
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
    /// The same row failed at the same place again and again.
    SameRow {
        /// The place.
        place: String,
        /// How many attempts failed at it.
        failures: u32,
    },
    /// The strategy allows no restart at all.
    RestartsOff,
    /// The strategy's restarts are used up.
    AttemptsUsedUp {
        /// How many there were.
        attempts: u32,
    },
    /// More failures in the strategy's interval than it allows.
    RateExceeded {
        /// How many it allows.
        max_failures: u32,
        /// In what time.
        interval: std::time::Duration,
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
            EndReason::SameRow { place, failures } => {
                write!(f, "{place} failed {failures} times at this row")
            }
            EndReason::RestartsOff => f.write_str("restarts are off: see restart-strategy.type"),
            EndReason::AttemptsUsedUp { attempts } => write!(f, "all {attempts} restarts are used up"),
            EndReason::RateExceeded {
                max_failures,
                interval,
            } => write!(
                f,
                "more than {max_failures} failures in {} s: see restart-strategy.failure-rate",
                interval.as_secs_f64()
            ),
        }
    }
}

/// Decides what follows from each failure of one run of a job.
#[derive(Clone, Debug)]
pub struct FailurePolicy {
    tries: Tries,
    /// The restart that is planned and has not happened yet.
    planned: Option<Millis>,
    /// By operator and place: attempts that failed there since a checkpoint was last decided. Operators may share a name, and
    /// a task that cannot start fails where its operators' rows would, but is no operator.
    strikes: BTreeMap<(Option<NodeId>, String), Strikes>,
    careful: Careful,
}

#[derive(Clone, Debug, Default)]
struct Strikes {
    count: u32,
    /// Whether the attempt of now is among them.
    counted_now: bool,
}

impl FailurePolicy {
    /// So many attempts may fail at one place between two checkpoints, or at one row, before the job ends.
    pub const SAME_PLACE_LIMIT: u32 = 3;

    /// A policy that has seen no failure yet.
    pub fn new(strategy: RestartStrategy) -> FailurePolicy {
        FailurePolicy {
            tries: Tries::new(strategy),
            planned: None,
            strikes: BTreeMap::new(),
            careful: Careful::default(),
        }
    }

    /// An attempt begins: failures count again.
    pub fn attempt_started(&mut self) {
        self.planned = None;
        self.strikes
            .values_mut()
            .for_each(|strikes| strikes.counted_now = false);
        self.careful.attempt_started();
    }

    /// The job made progress that lasts.
    pub fn checkpoint_decided(&mut self) {
        self.strikes.clear();
        self.careful.checkpoint_decided();
    }

    /// Something failed. Failures between the first of an attempt and the next attempt's start are that one failure's
    /// company: they neither count for the strategy nor move the restart, but may still end the job by their kind.
    pub fn failed(&mut self, failure: &JobFailure) -> Verdict {
        let by_kind = match failure.kind {
            ErrorKind::Invalid | ErrorKind::Damaged => Some(EndReason::Invalid),
            ErrorKind::Fenced => Some(EndReason::Fenced),
            ErrorKind::Data | ErrorKind::Bug => self.repeated(failure),
            ErrorKind::Retry | ErrorKind::External => None,
        };
        if let Some(reason) = by_kind {
            return Verdict::End { reason };
        }
        if let Some(at) = self.planned {
            return Verdict::Restart { at };
        }
        match self.tries.next_pause(failure.now, failure.random) {
            Err(reason) => Verdict::End { reason },
            Ok(pause) => {
                let at = failure.now.after(pause);
                self.planned = Some(at);
                self.tries.planned(at);
                Verdict::Restart { at }
            }
        }
    }

    /// Restarts so far; with exponential delay, since the last reset.
    pub fn restarts(&self) -> u32 {
        self.tries.restarts()
    }

    /// The operators that are to run carefully in the next attempt, with the rows that each is to give up.
    pub fn careful(&self) -> CarefulPlan {
        self.careful.plan()
    }

    /// Whether the failure is one too many at its row or place.
    fn repeated(&mut self, failure: &JobFailure) -> Option<EndReason> {
        let place = (failure.node, failure.place.clone());
        if let Some(node) = failure.node {
            match self.careful.failed(node, failure.row) {
                // The next attempts go on without the row: what it did to the place is over.
                RowVerdict::GivenUp => {
                    self.strikes.remove(&place);
                    return None;
                }
                // Every row has its own three failures.
                RowVerdict::MayBeGivenUp => return None,
                RowVerdict::Repeated(failures) => {
                    let (_, place) = place;
                    return Some(EndReason::SameRow { place, failures });
                }
                RowVerdict::Unknown => {}
            }
        }
        self.strike(place)
    }

    fn strike(&mut self, at: (Option<NodeId>, String)) -> Option<EndReason> {
        let (_, place) = at.clone();
        let strikes = self.strikes.entry(at).or_default();
        if !strikes.counted_now {
            strikes.counted_now = true;
            strikes.count += 1;
        }
        let failures = strikes.count;
        (failures >= Self::SAME_PLACE_LIMIT).then_some(EndReason::SamePlace { place, failures })
    }
}

#[cfg(test)]
mod tests;
