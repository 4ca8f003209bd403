//! The life of one run of a job, as states and the moves between them.
//!
//! ```text
//! Created ──→ Starting ──→ Running ⇄ Stopping ──→ Finished
//!    │         ↑    ↓         ↓         ↓
//!    │         │    └──────→ Failing ←──┘
//!    ├──→ Restarting ←──────────┤
//!    └───────→ └─────→ Failed ←─┘
//! each of them but Finished and Failed ──→ Canceling ──→ Canceled
//! ```

use super::{CarefulPlan, EndReason, FailurePolicy, JobFailure, RestartStrategy, Verdict};
use rivermark_types::{ErrorKind, Failure, Millis};
use serde::{Deserialize, Serialize};

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobState {
    /// Known, nothing runs.
    Created,
    /// Subtasks are built and restored, restored committables are committed; no row flows yet.
    Starting,
    /// Rows flow.
    Running,
    /// An attempt failed; what is left of it is being taken down.
    Failing,
    /// Nothing runs until the pause is over.
    Restarting {
        /// When the next attempt starts.
        at: Millis,
    },
    /// The last checkpoint is on its way: input is used up, or somebody asked for the end.
    Stopping,
    /// Somebody cancelled; what runs is being taken down.
    Canceling,
    /// All is done and committed.
    Finished,
    /// Given up after a failure.
    Failed,
    /// Taken down on request.
    Canceled,
}

impl JobState {
    /// Whether nothing can follow.
    pub fn is_terminal(self) -> bool {
        matches!(self, JobState::Finished | JobState::Failed | JobState::Canceled)
    }

    /// Whether `next` may follow.
    pub fn may_become(self, next: JobState) -> bool {
        use JobState::*;
        match (self, next) {
            (Created | Restarting { .. }, Starting) => true,
            (Starting, Running) => true,
            (Running, Stopping) => true,
            // A stop whose last checkpoint failed leaves the job running.
            (Stopping, Running | Finished) => true,
            (Starting | Running | Stopping, Failing) => true,
            // A job may fail before anything of it runs: its storage may be away, or hold another job.
            (Created | Failing, Restarting { .. }) => true,
            (Created | Failing | Restarting { .. }, Failed) => true,
            (Canceling, Canceled) => true,
            (Canceling, Canceling) => false,
            (from, Canceling) => !from.is_terminal(),
            _ => false,
        }
    }
}

/// A move that the state does not allow: the caller lost track of its job, which is a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a job that is {from:?} cannot become {to:?}")]
pub struct IllegalMove {
    /// The state.
    pub from: JobState,
    /// What it was to become.
    pub to: JobState,
}

impl From<IllegalMove> for Failure {
    fn from(error: IllegalMove) -> Failure {
        Failure::new(ErrorKind::Bug, error.to_string())
    }
}

/// The state of one run of a job together with what its failures lead to.
#[derive(Clone, Debug)]
pub struct JobLifecycle {
    state: JobState,
    policy: FailurePolicy,
    /// What follows once the failed attempt is taken down.
    verdict: Option<Verdict>,
}

impl JobLifecycle {
    /// A job of which nothing runs yet.
    pub fn new(strategy: RestartStrategy) -> JobLifecycle {
        JobLifecycle {
            state: JobState::Created,
            policy: FailurePolicy::new(strategy),
            verdict: None,
        }
    }

    /// Where the job is.
    pub fn state(&self) -> JobState {
        self.state
    }

    /// Why the job was given up, as soon as that is decided.
    pub fn end_reason(&self) -> Option<&EndReason> {
        match &self.verdict {
            Some(Verdict::End { reason }) => Some(reason),
            _ => None,
        }
    }

    /// Restarts so far; with exponential delay, since the last reset.
    pub fn restarts(&self) -> u32 {
        self.policy.restarts()
    }

    /// The operators that are to run carefully in the next attempt, with the rows that each is to give up.
    pub fn careful(&self) -> CarefulPlan {
        self.policy.careful()
    }

    /// An attempt starts.
    pub fn start(&mut self) -> Result<(), IllegalMove> {
        self.become_state(JobState::Starting)?;
        self.verdict = None;
        self.policy.attempt_started();
        Ok(())
    }

    /// All subtasks are restored and running, or a stop was given up and they go on.
    pub fn running(&mut self) -> Result<(), IllegalMove> {
        self.become_state(JobState::Running)
    }

    /// A checkpoint was decided (in any state: a decision may come late).
    pub fn checkpoint_decided(&mut self) {
        self.policy.checkpoint_decided();
    }

    /// Something failed. What is left of the attempt must be taken down and [`JobLifecycle::taken_down`] called. A
    /// failure during or after the end changes nothing: `None`.
    pub fn failed(&mut self, failure: &JobFailure) -> Option<Verdict> {
        if self.state == JobState::Canceling || self.state.is_terminal() {
            return None;
        }
        // Once a job is given up, company of that failure cannot bring it back.
        if self.end_reason().is_none() {
            self.verdict = Some(self.policy.failed(failure));
        }
        let nothing_runs = matches!(self.state, JobState::Created | JobState::Restarting { .. });
        self.state = match &self.verdict {
            _ if !nothing_runs => JobState::Failing,
            Some(Verdict::Restart { at }) => JobState::Restarting { at: *at },
            _ => JobState::Failed,
        };
        self.verdict.clone()
    }

    /// Nothing of the attempt runs any more: the job waits for its restart, or has failed, or is cancelled.
    pub fn taken_down(&mut self) -> Result<JobState, IllegalMove> {
        let next = match (self.state, &self.verdict) {
            (JobState::Canceling, _) => JobState::Canceled,
            (_, Some(Verdict::Restart { at })) => JobState::Restarting { at: *at },
            _ => JobState::Failed,
        };
        self.become_state(next)?;
        Ok(next)
    }

    /// Input is used up, or somebody asked for a graceful end: the last checkpoint comes next.
    pub fn stop(&mut self) -> Result<(), IllegalMove> {
        self.become_state(JobState::Stopping)
    }

    /// The last checkpoint is committed and all subtasks have ended.
    pub fn finished(&mut self) -> Result<(), IllegalMove> {
        self.become_state(JobState::Finished)
    }

    /// Somebody wants the job gone: take down what runs, then call [`JobLifecycle::taken_down`].
    pub fn cancel(&mut self) -> Result<(), IllegalMove> {
        self.become_state(JobState::Canceling)
    }

    fn become_state(&mut self, to: JobState) -> Result<(), IllegalMove> {
        if !self.state.may_become(to) {
            return Err(IllegalMove { from: self.state, to });
        }
        self.state = to;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rivermark_types::NodeId;
    use std::time::Duration;

    fn job() -> JobLifecycle {
        JobLifecycle::new(RestartStrategy::FixedDelay {
            attempts: 2,
            delay: Duration::from_millis(5),
        })
    }

    fn failure(kind: ErrorKind, now: u64) -> JobFailure {
        JobFailure {
            kind,
            place: "map".into(),
            node: None,
            row: None,
            now: Millis(now),
            random: 0,
        }
    }

    #[test]
    fn a_bounded_job_finishes() {
        let mut job = job();
        job.start().unwrap();
        job.running().unwrap();
        job.stop().unwrap();
        job.finished().unwrap();
        assert_eq!(job.state(), JobState::Finished);
        assert_eq!(job.failed(&failure(ErrorKind::Fenced, 1)), None);
        assert_eq!(
            job.cancel(),
            Err(IllegalMove {
                from: JobState::Finished,
                to: JobState::Canceling
            })
        );
    }

    #[test]
    fn a_failed_attempt_is_taken_down_before_the_next_starts() {
        let mut job = job();
        job.start().unwrap();
        let at = Millis(15);
        assert_eq!(
            job.failed(&failure(ErrorKind::Retry, 10)),
            Some(Verdict::Restart { at })
        );
        assert_eq!(job.state(), JobState::Failing);
        assert!(job.start().is_err() && job.running().is_err());
        assert_eq!(job.taken_down(), Ok(JobState::Restarting { at }));
        assert_eq!(
            job.failed(&failure(ErrorKind::Retry, 12)),
            Some(Verdict::Restart { at })
        );
        assert_eq!(job.state(), JobState::Restarting { at });
        job.start().unwrap();
        job.running().unwrap();
        assert_eq!(job.restarts(), 1);
        job.failed(&failure(ErrorKind::Retry, 20));
        assert_eq!(job.restarts(), 2);
    }

    #[test]
    fn what_the_policy_knows_of_rows_and_checkpoints_goes_through() {
        let mut job = JobLifecycle::new(RestartStrategy::FixedDelay {
            attempts: 9,
            delay: Duration::from_millis(5),
        });
        // More failures at one place than may be, were there no checkpoint between them.
        for now in [10, 20, 30, 40] {
            job.start().unwrap();
            let failed = JobFailure {
                node: Some(NodeId(7)),
                ..failure(ErrorKind::Bug, now)
            };
            let at = Millis(now + 5);
            assert_eq!(job.failed(&failed), Some(Verdict::Restart { at }));
            job.taken_down().unwrap();
            assert!(job.careful().contains_key(&NodeId(7)));
            job.checkpoint_decided();
        }
    }

    #[test]
    fn company_of_the_last_failure_does_not_bring_a_job_back() {
        let mut job = job();
        job.start().unwrap();
        job.failed(&failure(ErrorKind::Fenced, 1));
        let end = Verdict::End {
            reason: EndReason::Fenced,
        };
        assert_eq!(job.failed(&failure(ErrorKind::Retry, 2)), Some(end));
        assert_eq!(job.taken_down(), Ok(JobState::Failed));
        assert_eq!(job.end_reason(), Some(&EndReason::Fenced));
    }

    #[test]
    fn a_job_can_fail_before_anything_runs() {
        let mut away = job();
        away.failed(&failure(ErrorKind::External, 1));
        assert_eq!(away.state(), JobState::Restarting { at: Millis(6) });
        away.failed(&failure(ErrorKind::Invalid, 2));
        assert_eq!(away.state(), JobState::Failed);
    }

    #[test]
    fn a_cancelled_job_stays_cancelled() {
        let mut job = job();
        job.start().unwrap();
        job.failed(&failure(ErrorKind::Retry, 1));
        job.cancel().unwrap();
        assert!(job.cancel().is_err(), "once is enough");
        assert_eq!(job.failed(&failure(ErrorKind::Bug, 2)), None);
        assert_eq!(job.taken_down(), Ok(JobState::Canceled));
        assert!(job.start().is_err());
    }

    #[test]
    fn a_failed_stop_may_leave_the_job_running() {
        let mut job = job();
        job.start().unwrap();
        job.running().unwrap();
        job.stop().unwrap();
        job.running().unwrap();
        assert_eq!(job.state(), JobState::Running);
    }

    proptest! {
        #[test]
        fn whatever_is_called_only_legal_moves_happen(calls in prop::collection::vec((0u8..8, 0u8..4), 0..60)) {
            let mut job = job();
            for (now, (call, kind)) in calls.into_iter().enumerate() {
                let before = job.state();
                let kinds = [ErrorKind::Retry, ErrorKind::Data, ErrorKind::Bug, ErrorKind::Invalid];
                let refused = match call {
                    0 => job.start().is_err(),
                    1 => job.running().is_err(),
                    2 => job.stop().is_err(),
                    3 => job.finished().is_err(),
                    4 => job.taken_down().is_err(),
                    5 if kind == 0 => job.cancel().is_err(),
                    _ => job.failed(&failure(kinds[usize::from(kind)], now as u64)).is_none(),
                };
                let after = job.state();
                prop_assert!(before == after || before.may_become(after), "{before:?} became {after:?}");
                prop_assert!(!refused || before == after, "a refused call moved {before:?} to {after:?}");
            }
        }
    }
}
