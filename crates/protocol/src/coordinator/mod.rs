//! The life of checkpoints, from the timer (or a request) to the decision, and what follows from it.
//!
//! ```text
//! request or timer → SnapshotEnumerators → TriggerSources → all acks in → Decide → NotifyComplete, Subsume
//!                            └──────────────┬──────────────────┘            │
//!                 time-out, decline, failure, newer one, end of the attempt  │ not written (first answer only)
//!                                           └───────── Discard ◄────────────┘
//! ```
//!
//! Rules that hold whatever comes in, in any order (asserted by [`CheckpointCoordinator::check`] and the property tests):
//!
//! - Enumerators first, then barriers; one checkpoint at a time is in its enumerator phase, so barriers leave in id order.
//! - A checkpoint is decided when every subtask of its attempt has acknowledged it, and at most one decision is in
//!   flight. From then on it cannot be given up: not by a time-out, not by the end of its attempt. While the outcome is unknown,
//!   nobody is notified, no later one is decided, and the same write is asked for again, for ever.
//! - Only a decided checkpoint is notified, and only to the attempt that took it; savepoints never are (sinks commit
//!   their part with the next checkpoint).
//! - Ids count up and are never used twice, also when a checkpoint is given up.
//! - Objects of a checkpoint that may have been decided are never discarded.
//!
//! Layout: `messages` (events, actions, configuration), `schedule` (whose turn it is), `pending` (one open checkpoint),
//! `decision` (the one write), `record` (what became of them). Non-goals: payloads of acknowledgements, manifests and
//! objects, which are the job master's; restart and restore.

mod decision;
mod messages;
mod pending;
mod record;
mod schedule;

pub use decision::Committed;
pub use messages::{
    AbortReason, AckVerdict, CheckpointStats, CheckpointStatus, CkAction, CkEvent, CoordinatorConfig,
    DecisionOutcome, FailReason, RequestError, RequestId,
};
pub use record::{CheckpointCounts, Completed};

use decision::{Answer, Decision};
use pending::{Pending, Phase};
use record::Record;
use rivermark_types::{Attempt, Barrier, CheckpointId, Millis, SnapshotKind, SubtaskId};
use schedule::{RequestQueue, Schedule, Tolerance};
use std::collections::{BTreeMap, BTreeSet};

/// The attempt that runs.
#[derive(Clone, Debug)]
struct Run {
    attempt: Attempt,
    subtasks: BTreeSet<SubtaskId>,
    /// Its final checkpoint is complete: nothing is taken after it.
    ending: bool,
}

/// The checkpoint machine of one job in one process. See the module's text for its rules.
#[derive(Clone, Debug)]
pub struct CheckpointCoordinator {
    config: CoordinatorConfig,
    run: Option<Run>,
    last_attempt: Option<Attempt>,
    next_id: CheckpointId,
    pending: BTreeMap<CheckpointId, Pending>,
    decision: Option<Decision>,
    requests: RequestQueue,
    schedule: Schedule,
    tolerance: Tolerance,
    record: Record,
    restored: Option<CheckpointId>,
    fenced: bool,
}

impl CheckpointCoordinator {
    /// A coordinator for a job whose head lists these completed checkpoints, in that order.
    pub fn new(config: CoordinatorConfig, completed: Vec<Completed>) -> CheckpointCoordinator {
        let config = config.within_bounds();
        let newest = completed.iter().map(|completed| completed.checkpoint.0).max();
        CheckpointCoordinator {
            schedule: Schedule::new(&config),
            tolerance: Tolerance::new(config.tolerable_failures),
            record: Record::new(config.num_retained, completed),
            config,
            run: None,
            last_attempt: None,
            next_id: CheckpointId(newest.unwrap_or(0) + 1),
            pending: BTreeMap::new(),
            decision: None,
            requests: RequestQueue::default(),
            restored: None,
            fenced: false,
        }
    }

    /// Takes one event in and appends what must be done, in order. Every event also does what [`CkEvent::Tick`] does.
    pub fn handle(&mut self, now: Millis, event: CkEvent, out: &mut Vec<CkAction>) {
        if self.fenced {
            if let CkEvent::Requested { request, .. } = event {
                answer(Some(request), Err(RequestError::Fenced), out);
            }
            return;
        }
        match event {
            CkEvent::AttemptStarted {
                attempt,
                subtasks,
                restored,
                next_id,
                random,
            } => {
                self.end_attempt(now, out);
                self.next_id = self
                    .next_id
                    .max(next_id)
                    .max(restored.map_or(next_id, |id| CheckpointId(id.0 + 1)));
                self.restored = restored;
                self.start_attempt(now, attempt, subtasks, random, out);
            }
            CkEvent::AttemptEnded => self.end_attempt(now, out),
            CkEvent::Tick => {}
            CkEvent::Requested { kind, request } => self.on_requested(kind, request, out),
            CkEvent::EnumeratorsSnapshotted { checkpoint } => self.on_enumerators(checkpoint, out),
            CkEvent::EnumeratorFailed { checkpoint, reason } => {
                if self
                    .pending
                    .get(&checkpoint)
                    .is_some_and(|pending| pending.phase == Phase::Enumerators)
                {
                    self.abort(now, checkpoint, AbortReason::EnumeratorFailed(reason), out);
                }
            }
            CkEvent::Ack {
                attempt,
                checkpoint,
                subtask,
            } => self.on_ack(attempt, checkpoint, subtask, out),
            CkEvent::Declined {
                attempt,
                checkpoint,
                subtask,
                reason,
            } => {
                let open = self
                    .pending
                    .get(&checkpoint)
                    .filter(|pending| pending.phase == Phase::Barriers);
                if open.is_some_and(|pending| pending.expects(attempt, subtask)) {
                    self.abort(now, checkpoint, AbortReason::Declined { subtask, reason }, out);
                }
            }
            CkEvent::Decision { checkpoint, outcome } => self.on_decision(now, checkpoint, outcome, out),
        }
        if !self.fenced {
            self.advance(now, out);
        }
        debug_assert_eq!(self.check(), Ok(()));
    }

    /// When to send the next [`CkEvent::Tick`] at the latest; always in the future, right after an event.
    pub fn next_deadline(&self) -> Option<Millis> {
        let undecided = self
            .pending
            .values()
            .filter(|pending| pending.phase < Phase::Deciding);
        let expiries = undecided.map(|pending| pending.triggered.after(self.config.timeout));
        let trigger = if self.may_trigger() {
            self.schedule.due_at()
        } else {
            None
        };
        let retry = self.decision.as_ref().and_then(Decision::retry_at);
        expiries.chain(trigger).chain(retry).min()
    }

    /// Whether the outcome of a decision is open. A restore, a stop or an end of the process must wait for it.
    pub fn is_decision_pending(&self) -> bool {
        self.decision.is_some()
    }

    /// Whether another process was found to own the job.
    pub fn is_fenced(&self) -> bool {
        self.fenced
    }

    /// Everything completed that still exists, savepoints included, in the order of completion.
    pub fn completed(&self) -> &[Completed] {
        self.record.completed()
    }

    /// What a recovery restores from: the newest completed checkpoint, never an intermediate savepoint.
    pub fn latest(&self) -> Option<CheckpointId> {
        let recoverable = |completed: &&Completed| completed.kind != SnapshotKind::Savepoint;
        self.completed()
            .iter()
            .rfind(recoverable)
            .map(|completed| completed.checkpoint)
    }

    /// What the running (or the last) attempt was restored from.
    pub fn restored(&self) -> Option<CheckpointId> {
        self.restored
    }

    /// The newest ended checkpoints and all open ones, in the order in which they ended, then of their ids.
    pub fn stats(&self, now: Millis) -> Vec<CheckpointStats> {
        let open = self
            .pending
            .iter()
            .map(|(id, pending)| pending.stats(*id, now, CheckpointStatus::InProgress));
        self.record.history().cloned().chain(open).collect()
    }

    /// Totals since the start of the process.
    pub fn counts(&self) -> CheckpointCounts {
        self.record.counts
    }

    fn start_attempt(
        &mut self,
        now: Millis,
        attempt: Attempt,
        subtasks: Vec<SubtaskId>,
        random: u64,
        out: &mut Vec<CkAction>,
    ) {
        let refused = if let Some(decision) = &self.decision {
            Some(FailReason::StartedDuringDecision(decision.checkpoint))
        } else {
            (self.last_attempt >= Some(attempt)).then_some(FailReason::AttemptReused(attempt))
        };
        if let Some(reason) = refused {
            out.push(CkAction::FailJob { reason });
            return;
        }
        self.last_attempt = Some(attempt);
        self.run = Some(Run {
            attempt,
            subtasks: subtasks.into_iter().collect(),
            ending: false,
        });
        self.schedule.start(now, random);
    }

    /// Everything open is given up, but for a decision in flight, which only the store can end.
    fn end_attempt(&mut self, now: Millis, out: &mut Vec<CkAction>) {
        self.run = None;
        self.schedule.stop();
        self.refuse_waiting(RequestError::NotRunning, out);
        self.abort_where(now, AbortReason::AttemptEnded, out, |_, _| true);
    }

    fn on_requested(&mut self, kind: SnapshotKind, request: RequestId, out: &mut Vec<CkAction>) {
        let refused = match &self.run {
            None => Some(RequestError::NotRunning),
            Some(run) if run.ending => Some(RequestError::Ending),
            Some(_) => (self.requests.len() >= self.config.max_requests).then_some(RequestError::TooMany),
        };
        match refused {
            Some(error) => answer(Some(request), Err(error), out),
            None => self.requests.push(kind, request),
        }
    }

    fn on_enumerators(&mut self, checkpoint: CheckpointId, out: &mut Vec<CkAction>) {
        let Some(pending) = self.pending.get_mut(&checkpoint) else {
            return;
        };
        if pending.phase == Phase::Enumerators {
            pending.phase = Phase::Barriers;
            out.push(CkAction::TriggerSources(Barrier {
                checkpoint,
                kind: pending.kind,
            }));
        }
    }

    fn on_ack(
        &mut self,
        attempt: Attempt,
        checkpoint: CheckpointId,
        subtask: SubtaskId,
        out: &mut Vec<CkAction>,
    ) {
        let verdict = match self.pending.get_mut(&checkpoint) {
            Some(pending) => pending.ack(attempt, subtask),
            None => self.verdict_when_not_open(attempt, checkpoint),
        };
        match verdict {
            AckVerdict::Accepted => out.push(CkAction::KeepAck { checkpoint, subtask }),
            AckVerdict::Duplicate => {}
            AckVerdict::Late | AckVerdict::Zombie => out.push(CkAction::DiscardAck {
                attempt,
                checkpoint,
                subtask,
                verdict,
            }),
        }
    }

    fn verdict_when_not_open(&self, attempt: Attempt, checkpoint: CheckpointId) -> AckVerdict {
        let is_of_this_run = self.run.as_ref().is_some_and(|run| run.attempt == attempt);
        if self.record.was_aborted(checkpoint) {
            if is_of_this_run {
                AckVerdict::Late
            } else {
                AckVerdict::Zombie
            }
        } else if checkpoint >= self.next_id {
            AckVerdict::Zombie
        } else {
            // Completed, as far as anybody knows: every part of it was counted, and its objects are in use.
            AckVerdict::Duplicate
        }
    }

    fn on_decision(
        &mut self,
        now: Millis,
        checkpoint: CheckpointId,
        outcome: DecisionOutcome,
        out: &mut Vec<CkAction>,
    ) {
        let Some(decision) = self
            .decision
            .as_mut()
            .filter(|decision| decision.checkpoint == checkpoint)
        else {
            return;
        };
        let ended = decision.answer(now, outcome);
        if !matches!(ended, Answer::Wait) {
            self.decision = None;
        }
        match ended {
            Answer::Wait => {}
            Answer::Committed(committed) => self.complete(now, committed, out),
            Answer::NotWritten(reason) => self.abort(now, checkpoint, AbortReason::NotWritten(reason), out),
            Answer::Fenced(by) => self.fence(by, out),
        }
    }

    fn complete(&mut self, now: Millis, committed: Committed, out: &mut Vec<CkAction>) {
        let checkpoint = committed.checkpoint();
        let Some(pending) = self.pending.remove(&checkpoint) else {
            return;
        };
        self.tolerance.succeeded(checkpoint);
        self.schedule.completed(now);
        let subsumed = self.record.complete(
            committed,
            pending.stats(checkpoint, now, CheckpointStatus::Completed),
        );
        if committed.kind() != SnapshotKind::Savepoint {
            if let Some(run) = self.run.as_mut().filter(|run| run.attempt == pending.attempt) {
                run.ending |= committed.kind() == SnapshotKind::Final;
                out.push(CkAction::NotifyComplete(committed));
            }
            self.abort_where(now, AbortReason::Subsumed, out, |id, pending| {
                id < checkpoint && pending.kind != SnapshotKind::Savepoint
            });
        }
        if !subsumed.is_empty() {
            out.push(CkAction::Subsume {
                checkpoints: subsumed,
            });
        }
        answer(pending.request, Ok(checkpoint), out);
        if self.run.as_ref().is_some_and(|run| run.ending) {
            self.refuse_waiting(RequestError::Ending, out);
        }
    }

    /// The other process may go on from what this one wrote: nothing is discarded, open or not.
    fn fence(&mut self, by: String, out: &mut Vec<CkAction>) {
        self.fenced = true;
        self.run = None;
        self.schedule.stop();
        out.push(CkAction::Fenced { by });
        for pending in std::mem::take(&mut self.pending).into_values() {
            answer(pending.request, Err(RequestError::Fenced), out);
        }
        self.refuse_waiting(RequestError::Fenced, out);
    }

    fn abort_where(
        &mut self,
        now: Millis,
        reason: AbortReason,
        out: &mut Vec<CkAction>,
        which: impl Fn(CheckpointId, &Pending) -> bool,
    ) {
        let open = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.phase < Phase::Deciding);
        let chosen: Vec<_> = open
            .filter(|(id, pending)| which(**id, pending))
            .map(|(id, _)| *id)
            .collect();
        for checkpoint in chosen {
            self.abort(now, checkpoint, reason.clone(), out);
        }
    }

    fn abort(&mut self, now: Millis, checkpoint: CheckpointId, reason: AbortReason, out: &mut Vec<CkAction>) {
        let Some(pending) = self.pending.remove(&checkpoint) else {
            return;
        };
        let status = CheckpointStatus::Failed(reason.clone());
        self.record
            .abort(checkpoint, pending.stats(checkpoint, now, status));
        if self.run.is_some() {
            out.push(CkAction::NotifyAborted {
                checkpoint,
                reason: reason.clone(),
            });
        }
        out.push(CkAction::Discard { checkpoint });
        answer(
            pending.request,
            Err(RequestError::Aborted(checkpoint, reason.clone())),
            out,
        );
        // A savepoint that fails is the user's to repeat; a failure of an attempt that is gone is no news.
        let counts = reason.is_failure() && pending.kind != SnapshotKind::Savepoint && self.run.is_some();
        if let Some(failures) = counts.then(|| self.tolerance.failed()).flatten() {
            out.push(CkAction::FailJob {
                reason: FailReason::ToleranceExceeded {
                    failures,
                    last: reason,
                },
            });
            self.end_attempt(now, out);
        }
    }

    fn refuse_waiting(&mut self, error: RequestError, out: &mut Vec<CkAction>) {
        while let Some((_, request)) = self.requests.pop() {
            answer(Some(request), Err(error.clone()), out);
        }
    }

    /// Whatever is due: expiry, the repetition of a decision, the next decision, the next trigger.
    fn advance(&mut self, now: Millis, out: &mut Vec<CkAction>) {
        let timeout = self.config.timeout;
        self.abort_where(now, AbortReason::Expired, out, |_, pending| {
            pending.triggered.after(timeout) <= now
        });
        if let Some(decision) = &mut self.decision
            && decision.take_retry(now)
        {
            out.push(CkAction::DecideAgain {
                checkpoint: decision.checkpoint,
            });
        }
        self.decide_next(out);
        self.trigger_next(now, out);
    }

    fn decide_next(&mut self, out: &mut Vec<CkAction>) {
        if self.decision.is_some() {
            return;
        }
        let Some((&checkpoint, pending)) = self.pending.iter_mut().find(|(_, pending)| pending.is_ready())
        else {
            return;
        };
        pending.phase = Phase::Deciding;
        let retained = self.record.retained_with(checkpoint, pending.kind);
        self.decision = Some(Decision::begin(checkpoint, pending.kind, &self.config));
        out.push(CkAction::Decide { checkpoint, retained });
    }

    fn may_trigger(&self) -> bool {
        self.run.as_ref().is_some_and(|run| !run.ending)
            && self.pending.len() < self.config.max_concurrent
            && self
                .pending
                .values()
                .all(|p| p.phase > Phase::Enumerators && p.kind != SnapshotKind::Final)
    }

    fn trigger_next(&mut self, now: Millis, out: &mut Vec<CkAction>) {
        if !self.may_trigger() {
            return;
        }
        let (kind, request) = match self.requests.pop() {
            Some((kind, request)) => (kind, Some(request)),
            None if self.schedule.due_at().is_some_and(|due| due <= now) => {
                self.schedule.triggered(now);
                (SnapshotKind::Checkpoint, None)
            }
            None => return,
        };
        let Some(run) = &self.run else { return };
        let checkpoint = self.next_id;
        self.next_id = CheckpointId(checkpoint.0 + 1);
        let pending = Pending::new(kind, run.attempt, run.subtasks.iter().copied(), request, now);
        self.pending.insert(checkpoint, pending);
        self.record.counts.triggered += 1;
        out.push(CkAction::SnapshotEnumerators { checkpoint, kind });
    }

    /// The invariants between two events; asserted after each in debug builds.
    pub fn check(&self) -> Result<(), String> {
        self.record.check()?;
        if self.requests.len() > self.config.max_requests {
            return Err(format!("{} requests wait", self.requests.len()));
        }
        if self.fenced && !(self.pending.is_empty() && self.decision.is_none() && self.run.is_none()) {
            return Err("fenced, but something is still open".into());
        }
        let open = self.pending.len();
        if open > self.config.max_concurrent {
            return Err(format!("{open} checkpoints are open"));
        }
        if self
            .pending
            .values()
            .filter(|pending| pending.phase == Phase::Enumerators)
            .count()
            > 1
        {
            return Err("two checkpoints are in their enumerator phase".into());
        }
        for (id, pending) in &self.pending {
            pending
                .check()
                .map_err(|broken| format!("checkpoint {id}: {broken}"))?;
            self.check_open(*id, pending)
                .map_err(|broken| format!("checkpoint {id}: {broken}"))?;
        }
        match &self.decision {
            Some(decision) if !self.pending.contains_key(&decision.checkpoint) => Err(format!(
                "checkpoint {} is being decided, but not open",
                decision.checkpoint
            )),
            _ => Ok(()),
        }
    }

    fn check_open(&self, id: CheckpointId, pending: &Pending) -> Result<(), String> {
        let in_decision = self
            .decision
            .as_ref()
            .is_some_and(|decision| decision.checkpoint == id);
        if in_decision != (pending.phase == Phase::Deciding) {
            return Err("its phase and the decision in flight disagree".into());
        }
        if id >= self.next_id || self.record.was_aborted(id) {
            return Err("its id was not given out, or is used up".into());
        }
        let is_of_this_run = self
            .run
            .as_ref()
            .is_some_and(|run| run.attempt == pending.attempt);
        // Only a decision may outlive its attempt, and no other attempt may run beside it.
        if !is_of_this_run && (self.run.is_some() || !in_decision) {
            return Err("its attempt does not run".into());
        }
        if self.decision.is_none() && pending.is_ready() {
            return Err("it is ready, but nobody decides it".into());
        }
        Ok(())
    }
}

fn answer(request: Option<RequestId>, result: Result<CheckpointId, RequestError>, out: &mut Vec<CkAction>) {
    if let Some(request) = request {
        out.push(CkAction::RequestAnswered { request, result });
    }
}

#[cfg(test)]
mod tests;
