//! The JobMaster: one actor that runs a job from its claim to its end. It decides nothing about checkpoints or restarts
//! itself: it tells the machines of `protocol` what happened and does what they say, in their order.

use crate::attempt::{AttemptFailure, Ending, RunningAttempt};
use crate::checkpoints::{PendingCheckpoint, Proposal};
use crate::claim::{OwnedHead, go_back};
use crate::cleaner::Cleaner;
use crate::explain::Recovering;
use crate::handle::{JobEnd, Request};
use crate::history::History;
use crate::retry::retrying;
use crate::spec::JobSpec;
use crate::stats::JobStats;
use rivermark_env::{Env, TaskHandle};
use rivermark_protocol::coordinator::{CheckpointCoordinator, CkEvent, DecisionOutcome, RequestId};
use rivermark_protocol::graph::NodeRole;
use rivermark_protocol::plan::Plan;
use rivermark_protocol::restart::{self, IllegalMove, JobFailure, JobLifecycle, JobState, Verdict};
use rivermark_runtime::metrics::JobCounters;
use rivermark_runtime::source::{Discovery, SourceEnumerator};
use rivermark_runtime::{Program, TaskEvent};
use rivermark_state::{JobHead, Manifest, PartReport, SnapshotHandle};
use rivermark_types::{
    Attempt, CheckpointId, ErrorKind, Failure, Generation, Millis, NodeId, Result, SnapshotKind,
};
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// What the master waits for.
pub(crate) enum Event {
    Internal(Internal),
    Report(PartReport),
    Task(TaskEvent),
    Request(Request),
    Timer,
}

/// Answers of work that the master gave to the I/O runtime.
pub(crate) enum Internal {
    Decided {
        checkpoint: CheckpointId,
        outcome: DecisionOutcome,
        version: Option<u64>,
    },
    Discovered {
        attempt: Attempt,
        node: NodeId,
        enumerator: Box<dyn SourceEnumerator>,
        discovery: Result<Discovery>,
    },
}

/// How an attempt ended.
pub(crate) enum Over {
    Done(JobEnd),
    Failed(AttemptFailure),
}

pub(crate) struct Master {
    pub(crate) env: Env,
    pub(crate) spec: JobSpec,
    pub(crate) program: Arc<Program>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) counters: Arc<JobCounters>,
    pub(crate) owned: OwnedHead,
    /// The checkpoint that the user chose to start from.
    pub(crate) start_from: Option<CheckpointId>,
    /// The newest one decided by this process.
    pub(crate) decided_here: Option<CheckpointId>,
    pub(crate) coordinator: CheckpointCoordinator,
    pub(crate) lifecycle: JobLifecycle,
    /// By digest: the last error of rows that failed.
    pub(crate) row_errors: BTreeMap<u64, String>,
    pub(crate) snapshots: SnapshotHandle,
    pub(crate) writer: Option<TaskHandle>,
    pub(crate) cleaner: Cleaner,
    pub(crate) history: History,
    /// The recovery under way, until rows flow and what was in flight is worked off.
    pub(crate) recovering: Option<Recovering>,
    pub(crate) stats: watch::Sender<JobStats>,
    pub(crate) reports: mpsc::UnboundedReceiver<PartReport>,
    pub(crate) requests: mpsc::UnboundedReceiver<Request>,
    pub(crate) internal: (mpsc::UnboundedSender<Internal>, mpsc::UnboundedReceiver<Internal>),
    /// Checkpoints under way, until decided or discarded.
    pub(crate) pending: BTreeMap<CheckpointId, PendingCheckpoint>,
    /// The decision under way.
    pub(crate) proposal: Option<Proposal>,
    /// The manifests of decided checkpoints that are kept, as far as this process knows them.
    pub(crate) manifests: BTreeMap<CheckpointId, Manifest>,
    pub(crate) waiting: BTreeMap<RequestId, oneshot::Sender<Result<CheckpointId>>>,
    /// Asked for while nothing runs yet.
    pub(crate) early: Vec<oneshot::Sender<Result<CheckpointId>>>,
    pub(crate) last_request: u64,
    pub(crate) last_attempt: Attempt,
    pub(crate) stop: bool,
    pub(crate) cancel: bool,
    /// When a final checkpoint that failed is asked for again.
    pub(crate) final_retry_at: Option<Millis>,
    /// Something outside the attempt ended the job: fenced, or too many failed checkpoints.
    pub(crate) fatal: Option<Failure>,
}

impl Master {
    /// Runs the job to its end and leaves nothing of it running.
    pub(crate) async fn run(mut self) -> Result<JobEnd> {
        // What crashed runs left behind; nothing of this one is stored yet.
        self.cleaner.sweep(&self.owned.head, &self.manifests).await;
        self.recovery_begins(None);
        let end = self.attempts().await;
        self.recovery_ends(None);
        self.state(match &end {
            Ok(JobEnd::Finished) => "finished",
            Ok(JobEnd::Stopped(_)) => "stopped",
            Ok(JobEnd::Cancelled(_)) => "cancelled",
            Err(_) => "failed",
        });
        let fenced = matches!(&end, Err(failure) if failure.kind == ErrorKind::Fenced);
        if matches!(end, Ok(JobEnd::Finished)) {
            self.forget_checkpoints().await;
        }
        // Without a handle the writer ends, once nothing of it is under way.
        drop(self.snapshots);
        if let Some(writer) = self.writer.take() {
            writer.join().await;
        }
        while let Ok(report) = self.reports.try_recv() {
            self.cleaner.delete(crate::acting::keys_of(report));
        }
        self.spec.storage.settle().await;
        // A fenced process owns nothing any more: what it left is swept by the newer one.
        if !fenced {
            self.cleaner.sweep(&self.owned.head, &self.manifests).await;
        }
        self.cleaner.finish().await;
        self.history.finish().await;
        if !fenced && let Err(failure) = self.spec.storage.sweep_temporaries().await {
            tracing::warn!(%failure, "temporary files may be left; the next run removes them");
        }
        end
    }

    async fn attempts(&mut self) -> Result<JobEnd> {
        loop {
            self.moved(JobLifecycle::start);
            let over = self.run_attempt().await;
            let failed = match self.after_attempt(over).await {
                Over::Done(end) => {
                    self.moved(|lifecycle| match end {
                        JobEnd::Cancelled(_) => {
                            lifecycle.cancel().and_then(|()| lifecycle.taken_down().map(drop))
                        }
                        _ => lifecycle.finished(),
                    });
                    return Ok(end);
                }
                Over::Failed(failed) => failed,
            };
            let failed = match failed.failure.kind {
                ErrorKind::Damaged => match self.go_back(failed).await {
                    Ok(()) => continue,
                    Err(failed) => failed,
                },
                _ => failed,
            };
            let at = self.on_failure(failed)?;
            self.state("restarting");
            self.stats.send_modify(|stats| stats.restarts += 1);
            if let Some(end) = self.pause(at).await? {
                return Ok(end);
            }
        }
    }

    /// The checkpoint cannot be read: takes an older one, if nothing that was published since would be published again.
    async fn go_back(&mut self, failed: AttemptFailure) -> Result<(), AttemptFailure> {
        let Some(from) = self.decided_here.or(self.start_from) else {
            return Err(failed);
        };
        let AttemptFailure { place, failure, .. } = failed;
        let sinks = self
            .program
            .graph
            .nodes
            .iter()
            .any(|node| node.role == NodeRole::Sink && node.exactly_once);
        let may_go_back = self.spec.options.accept_duplicates || !sinks;
        let head = &self.owned.head;
        match go_back(&self.env, &self.spec.storage, head, from, may_go_back, failure).await {
            Ok(manifest) => {
                self.decided_here = None;
                self.start_from = Some(manifest.checkpoint);
                self.manifests.insert(manifest.checkpoint, manifest);
                let (now, random) = (self.env.now(), self.env.random_u64());
                self.lifecycle.failed(&JobFailure {
                    kind: ErrorKind::Retry,
                    place,
                    node: None,
                    row: None,
                    now,
                    random,
                });
                self.moved(|lifecycle| lifecycle.taken_down().map(drop));
                Ok(())
            }
            Err(failure) => Err(AttemptFailure::at(place, failure)),
        }
    }

    /// What follows from a failure: when to restart, or the failure that ends the job.
    fn on_failure(&mut self, failed: AttemptFailure) -> Result<Millis> {
        let AttemptFailure {
            place,
            node,
            row,
            failure,
        } = failed;
        let now = self.env.now();
        let random = self.env.random_u64();
        let verdict = self.lifecycle.failed(&JobFailure {
            kind: failure.kind,
            place,
            node,
            row: row.as_ref().map(|row| restart::FailedRow {
                digest: row.digest,
                may_be_given_up: row.may_be_given_up,
            }),
            now,
            random,
        });
        // Kept for the dead letter, should the row be given up.
        if let Some(row) = row {
            self.row_errors.insert(row.digest, failure.to_string());
        }
        self.moved(|lifecycle| lifecycle.taken_down().map(drop));
        self.stats
            .send_modify(|stats| stats.last_failure = Some(failure.to_string()));
        match verdict {
            Some(Verdict::Restart { at }) => {
                tracing::warn!(%failure, in_ms = at.since(now).as_millis() as u64, "the job restarts");
                Ok(at)
            }
            Some(Verdict::End { reason }) => {
                // These say it all themselves.
                let told = matches!(
                    failure.kind,
                    ErrorKind::Invalid | ErrorKind::Damaged | ErrorKind::Fenced
                );
                Err(match told {
                    true => failure,
                    false => Failure::new(failure.kind, format!("{failure} ({reason})")),
                })
            }
            None => Err(failure),
        }
    }

    /// Moves the job's life cycle; an illegal move is our bug, told but not deadly.
    pub(crate) fn moved(&mut self, step: impl FnOnce(&mut JobLifecycle) -> Result<(), IllegalMove>) {
        if let Err(error) = step(&mut self.lifecycle) {
            debug_assert!(false, "{error}");
            tracing::error!(%error, "the job's life cycle");
        }
    }

    async fn run_attempt(&mut self) -> Over {
        let mut attempt = match self.deploy_unless_cancelled().await {
            Some(Ok(attempt)) => attempt,
            Some(Err(failure)) => {
                self.recovery_begins(Some(failure.to_string()));
                return Over::Failed(AttemptFailure::at("start", failure));
            }
            None => return Over::Done(JobEnd::Cancelled(self.coordinator.latest())),
        };
        let over = loop {
            let event = self.next(Some(&mut attempt)).await;
            if let Some(over) = self.on_event(&mut attempt, event) {
                break over;
            }
        };
        if let Over::Failed(failed) = &over {
            self.recovery_begins(Some(failed.failure.to_string()));
        }
        attempt.deployed.cancel().await;
        over
    }

    /// Starts the next attempt; `None` if the job is cancelled before it has begun, which may take long while the store is away.
    async fn deploy_unless_cancelled(&mut self) -> Option<Result<RunningAttempt>> {
        let (_, nobodys) = mpsc::unbounded_channel();
        let mut requests = std::mem::replace(&mut self.requests, nobodys);
        let mut asked = vec![];
        let deployed = {
            let mut deploy = pin!(self.deploy());
            loop {
                tokio::select! {
                    biased;
                    deployed = &mut deploy => break Some(deployed),
                    Some(request) = requests.recv() => match request {
                        Request::Cancel => break None,
                        other => asked.push(other),
                    },
                }
            }
        };
        self.requests = requests;
        self.cancel |= deployed.is_none();
        for request in asked {
            self.on_request(None, request);
        }
        deployed
    }

    /// The attempt is gone: its checkpoints are given up, and a decision in doubt is waited for.
    async fn after_attempt(&mut self, over: Over) -> Over {
        // The next attempt asks for its own: a deadline that has passed and that nobody acts on would never let us wait.
        self.final_retry_at = None;
        self.coordinate(None, CkEvent::AttemptEnded);
        while self.coordinator.is_decision_pending() && !self.coordinator.is_fenced() {
            let event = self.next(None).await;
            self.on_idle_event(event);
        }
        self.recovery(|record, at| record.taken_down = Some(at));
        match (self.fatal.take(), over) {
            (Some(failure), Over::Failed(_)) => Over::Failed(AttemptFailure::at("checkpoints", failure)),
            (None, Over::Failed(failed)) if failed.failure.kind == ErrorKind::Damaged => {
                let failure = self.overtaken().await.unwrap_or(failed.failure);
                Over::Failed(AttemptFailure { failure, ..failed })
            }
            (_, over) => over,
        }
    }

    /// What looks damaged may have been deleted by a newer run of the job: then this one is fenced.
    async fn overtaken(&self) -> Option<Failure> {
        let head = retrying(&self.env, 5, || self.spec.storage.cas.head()).await;
        let newest = head.ok().flatten()?;
        let head = JobHead::decode("the job's head", &newest.bytes).ok()?;
        (head.generation > self.generation()).then(|| {
            let message = format!("fenced by generation {}", head.generation);
            Failure::new(ErrorKind::Fenced, message)
        })
    }

    /// Waits until a time, still answering.
    async fn pause(&mut self, until: Millis) -> Result<Option<JobEnd>> {
        while matches!(self.lifecycle.state(), JobState::Restarting { .. }) && self.env.now() < until {
            let event = self.next_before(None, Some(until)).await;
            self.on_idle_event(event);
            if let Some(failure) = self.fatal.take() {
                return Err(failure);
            }
            if self.stop || self.cancel {
                return Ok(Some(JobEnd::Cancelled(self.coordinator.latest())));
            }
        }
        Ok(None)
    }

    async fn next(&mut self, attempt: Option<&mut RunningAttempt>) -> Event {
        self.next_before(attempt, None).await
    }

    async fn next_before(&mut self, attempt: Option<&mut RunningAttempt>, until: Option<Millis>) -> Event {
        let deadline = [until, self.coordinator.next_deadline(), self.final_retry_at]
            .into_iter()
            .flatten()
            .min();
        let now = self.env.now();
        // Without a deadline the timer is far away.
        let wait = deadline.map_or(std::time::Duration::from_secs(3600), |at| at.since(now));
        let timer = self.env.sleep(wait);
        let task_event = async {
            match attempt {
                Some(attempt) => attempt.events.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(internal) = self.internal.1.recv() => Event::Internal(internal),
            Some(report) = self.reports.recv() => Event::Report(report),
            Some(event) = task_event => Event::Task(event),
            Some(request) = self.requests.recv() => Event::Request(request),
            () = timer => Event::Timer,
        }
    }

    /// An event while no attempt runs.
    fn on_idle_event(&mut self, event: Event) {
        match event {
            Event::Internal(Internal::Decided {
                checkpoint,
                outcome,
                version,
            }) => {
                self.on_decided(None, checkpoint, outcome, version);
            }
            Event::Internal(Internal::Discovered { .. }) | Event::Task(_) => {}
            Event::Report(report) => self.on_part(None, report),
            Event::Request(request) => self.on_request(None, request),
            Event::Timer => self.coordinate(None, CkEvent::Tick),
        }
    }

    fn on_event(&mut self, attempt: &mut RunningAttempt, event: Event) -> Option<Over> {
        match event {
            Event::Internal(Internal::Decided {
                checkpoint,
                outcome,
                version,
            }) => {
                self.on_decided(Some(attempt), checkpoint, outcome, version);
            }
            Event::Internal(Internal::Discovered {
                attempt: number,
                node,
                enumerator,
                discovery,
            }) => {
                if number == attempt.number
                    && let Err(failure) = self.on_discovered(attempt, node, enumerator, discovery)
                {
                    let place = format!("enumerator {node}");
                    return Some(Over::Failed(AttemptFailure::at(place, failure)));
                }
            }
            Event::Report(report) => self.on_part(Some(attempt), report),
            Event::Request(request) => self.on_request(Some(attempt), request),
            Event::Timer => self.coordinate(Some(attempt), CkEvent::Tick),
            Event::Task(event) => {
                if let Some(over) = self.on_task_event(attempt, event) {
                    return Some(over);
                }
            }
        }
        if let Some(failure) = self.fatal.take() {
            return Some(Over::Failed(AttemptFailure::at("checkpoints", failure)));
        }
        if self.cancel {
            return Some(Over::Done(JobEnd::Cancelled(self.coordinator.latest())));
        }
        self.approach_end(attempt);
        None
    }

    fn on_task_event(&mut self, attempt: &mut RunningAttempt, event: TaskEvent) -> Option<Over> {
        match event {
            TaskEvent::Opened { subtask } => {
                self.recovery_opened(subtask);
                if attempt.is_last_to_open(subtask) {
                    self.recovery(|record, at| record.opened = Some(at));
                }
                if attempt.opened(subtask)
                    && let Err(failure) = self.start_sources(attempt)
                {
                    return Some(enumerating(failure));
                }
            }
            TaskEvent::Report {
                subtask,
                node,
                report,
            } => {
                if let Err(failure) = self.on_report(attempt, subtask, node, report) {
                    return Some(enumerating(failure));
                }
            }
            TaskEvent::Failed {
                place,
                node,
                row,
                failure,
                ..
            } => {
                return Some(Over::Failed(AttemptFailure {
                    place,
                    node,
                    row,
                    failure,
                }));
            }
            TaskEvent::Ended { subtask } => {
                if attempt.ended(subtask)
                    && let Ending::Ended(checkpoint) = attempt.ending
                {
                    let end = if attempt.is_dry() {
                        JobEnd::Finished
                    } else {
                        JobEnd::Stopped(checkpoint)
                    };
                    return Some(Over::Done(end));
                }
            }
        }
        self.start_checkpoints(attempt);
        None
    }

    pub(crate) fn on_request(&mut self, attempt: Option<&mut RunningAttempt>, request: Request) {
        match request {
            Request::Stop => self.stop = true,
            Request::Cancel => self.cancel = true,
            // Taken as soon as the job runs: a start or a restart is no reason to fail.
            Request::Checkpoint(answer) if attempt.as_ref().is_none_or(|attempt| !attempt.running) => {
                self.early.push(answer);
            }
            Request::Checkpoint(answer) => {
                let id = self.next_request();
                self.waiting.insert(id, answer);
                self.coordinate(
                    attempt,
                    CkEvent::Requested {
                        kind: SnapshotKind::Checkpoint,
                        request: id,
                    },
                );
            }
        }
    }

    pub(crate) fn next_request(&mut self) -> RequestId {
        self.last_request += 1;
        RequestId(self.last_request)
    }

    pub(crate) fn state(&self, state: &'static str) {
        let now = self.env.now();
        self.stats.send_modify(|stats| stats.enter(state, now));
    }

    pub(crate) fn generation(&self) -> Generation {
        self.owned.head.generation
    }
}

fn enumerating(failure: Failure) -> Over {
    Over::Failed(AttemptFailure::at("enumerators", failure))
}
