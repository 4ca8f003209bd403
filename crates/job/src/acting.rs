//! What the master does when the coordinator says so: snapshots of enumerators, triggers, decisions, notifications,
//! deletions; and what it tells the coordinator in return.

use crate::attempt::{Ending, RunningAttempt};
use crate::checkpoints::{PendingCheckpoint, Proposal, object_keys};
use crate::master::{Internal, Master};
use crate::stats::{CheckpointSummary, REMEMBERED};
use rivermark_protocol::coordinator::{CkAction, CkEvent, DecisionOutcome};
use rivermark_runtime::{OperatorEvent, TaskCommand};
use rivermark_state::{CheckpointRef, Manifest, PartReport, SourceEntry};
use rivermark_types::{Barrier, CheckpointId, ErrorKind, Failure, Result, SnapshotKind};
use std::collections::VecDeque;
use std::time::Duration;

impl Master {
    /// Tells the coordinator something and does what it answers, until it has nothing more to say.
    pub(crate) fn coordinate(&mut self, mut attempt: Option<&mut RunningAttempt>, event: CkEvent) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut actions = Vec::new();
            self.coordinator.handle(self.env.now(), event, &mut actions);
            debug_assert_eq!(self.coordinator.check(), Ok(()));
            for action in actions {
                if let (Some(attempt), Some(command)) = (&attempt, self.spec.seams.coordinate(&action)) {
                    attempt.deployed.send_all(&command);
                }
                if let Some(answer) = self.act(attempt.as_deref_mut(), action) {
                    events.push_back(answer);
                }
            }
        }
        let in_progress = self.pending.len() as u64;
        self.stats
            .send_if_modified(|stats| std::mem::replace(&mut stats.in_progress, in_progress) != in_progress);
    }

    fn act(&mut self, attempt: Option<&mut RunningAttempt>, action: CkAction) -> Option<CkEvent> {
        tracing::debug!(%action, "checkpoints");
        match action {
            CkAction::SnapshotEnumerators { checkpoint, kind } => {
                return Some(self.snapshot_enumerators(attempt?, checkpoint, kind));
            }
            CkAction::TriggerSources(barrier) => self.trigger(attempt?, barrier),
            // Kept when the part came in.
            CkAction::KeepAck { .. } | CkAction::DiscardAck { .. } => {}
            CkAction::Decide { checkpoint, retained } => return self.decide(checkpoint, &retained),
            CkAction::DecideAgain { checkpoint } => self.spawn_decision(checkpoint, true),
            CkAction::NotifyComplete(committed) => self.notify_complete(attempt, committed.checkpoint()),
            CkAction::NotifyAborted { checkpoint, reason } => {
                if reason.is_failure() {
                    tracing::warn!("checkpoint {checkpoint} was given up, the job goes on: {reason}");
                }
                self.keep_record_of_abort(checkpoint, &reason.to_string());
                self.stats.send_modify(|stats| stats.aborted += 1);
                if let Some(attempt) = attempt {
                    attempt
                        .deployed
                        .send_all(&TaskCommand::EventAll(OperatorEvent::Aborted(checkpoint)));
                }
            }
            CkAction::Discard { checkpoint } => self.discard(checkpoint),
            CkAction::Subsume { checkpoints } => checkpoints.into_iter().for_each(|id| self.subsume(id)),
            CkAction::FailJob { reason } => {
                self.fatal = Some(Failure::new(ErrorKind::External, reason.to_string()));
            }
            CkAction::Fenced { by } => {
                self.fatal = Some(Failure::new(ErrorKind::Fenced, format!("fenced by {by}")));
            }
            CkAction::RequestAnswered { request, result } => match (self.waiting.remove(&request), result) {
                (Some(answer), result) => {
                    let _ =
                        answer.send(result.map_err(|why| Failure::external(format!("no checkpoint: {why}"))));
                }
                // The final checkpoint is the master's own request.
                (None, Err(why)) => self.final_failed(attempt, &why.to_string()),
                (None, Ok(_)) => {}
            },
        }
        None
    }

    fn snapshot_enumerators(
        &mut self,
        attempt: &mut RunningAttempt,
        checkpoint: CheckpointId,
        kind: SnapshotKind,
    ) -> CkEvent {
        let mut pending = PendingCheckpoint::new(kind, attempt.number, self.env.now());
        for (node, source) in &mut attempt.sources {
            let uid = self.program.graph.node(*node).and_then(|node| node.uid.clone());
            match (uid, source.snapshot()) {
                (Some(uid), Ok(enumerator)) => pending.sources.push(SourceEntry { uid, enumerator }),
                (None, _) => {
                    return CkEvent::EnumeratorFailed {
                        checkpoint,
                        reason: format!("source {node} has no uid"),
                    };
                }
                (_, Err(failure)) => {
                    return CkEvent::EnumeratorFailed {
                        checkpoint,
                        reason: failure.to_string(),
                    };
                }
            }
        }
        self.pending.insert(checkpoint, pending);
        CkEvent::EnumeratorsSnapshotted { checkpoint }
    }

    fn trigger(&mut self, attempt: &RunningAttempt, barrier: Barrier) {
        let prefix = self.prefix(attempt.number, barrier.checkpoint);
        let now = self.env.now();
        self.counters.trigger.set(barrier.checkpoint, now);
        if let Some(pending) = self.pending.get_mut(&barrier.checkpoint) {
            pending.barriers_sent = Some(now);
        }
        let expected = crate::attempt::subtasks(&self.plan).len() as u32;
        self.snapshots
            .begin(barrier.checkpoint, attempt.number, prefix, expected);
        attempt.trigger(barrier);
    }

    fn prefix(&self, attempt: rivermark_types::Attempt, checkpoint: CheckpointId) -> String {
        format!("g{}/a{attempt}/chk-{checkpoint}", self.generation())
    }

    /// A part of a snapshot from this process's writer.
    pub(crate) fn on_part(&mut self, mut attempt: Option<&mut RunningAttempt>, report: PartReport) {
        match report {
            PartReport::Sealed {
                checkpoint,
                attempt: number,
                subtasks,
                objects,
            } => {
                let now = self.env.now();
                match self.pending.get_mut(&checkpoint) {
                    Some(pending) if pending.attempt == number => {
                        pending.objects.extend(objects);
                        subtasks.iter().for_each(|subtask| pending.add(subtask, now));
                    }
                    // Nobody waits for it any more: its objects are nobody's.
                    _ => self.cleaner.delete(object_keys(&objects)),
                }
                for snapshot in subtasks {
                    let ack = CkEvent::Ack {
                        attempt: number,
                        checkpoint,
                        subtask: snapshot.subtask,
                    };
                    self.coordinate(attempt.as_deref_mut(), ack);
                }
            }
            PartReport::Declined {
                checkpoint,
                attempt: number,
                reason,
            } => {
                // The writer speaks for all subtasks of this process.
                let Some(subtask) = crate::attempt::subtasks(&self.plan).pop_first() else {
                    return;
                };
                let declined = CkEvent::Declined {
                    attempt: number,
                    checkpoint,
                    subtask,
                    reason,
                };
                self.coordinate(attempt, declined);
            }
            PartReport::Orphaned { keys } => self.cleaner.delete(keys),
        }
    }

    fn decide(&mut self, checkpoint: CheckpointId, retained: &[CheckpointId]) -> Option<CkEvent> {
        match self.propose(checkpoint, retained) {
            Ok(proposal) => {
                if let Some(pending) = self.pending.get_mut(&checkpoint) {
                    pending.deciding = Some(self.env.now());
                }
                self.proposal = Some(proposal);
                self.spawn_decision(checkpoint, false);
                None
            }
            Err(failure) => {
                let outcome = DecisionOutcome::NotWritten(failure.to_string());
                Some(CkEvent::Decision { checkpoint, outcome })
            }
        }
    }

    fn propose(&mut self, checkpoint: CheckpointId, retained: &[CheckpointId]) -> Result<Proposal> {
        let pending = self.pending.get(&checkpoint).ok_or_else(|| {
            Failure::bug(format!(
                "checkpoint {checkpoint} is to be decided, but nothing is known of it"
            ))
        })?;
        let wall = self.env.wall_clock();
        let manifest = Manifest {
            format: rivermark_state::manifest::MANIFEST_FORMAT,
            job: self.spec.name.clone(),
            checkpoint,
            kind: pending.kind,
            generation: self.generation(),
            attempt: pending.attempt,
            seed: self.owned.head.seed,
            taken_at: wall,
            operators: pending.operators(&self.program.graph, &self.plan),
            sources: pending.sources.clone(),
            objects: pending.objects.clone(),
            written: pending.written(),
        };
        let key = format!("{}/manifest.json", self.prefix(pending.attempt, checkpoint));
        Proposal::new(manifest, key, &self.owned, retained, wall)
    }

    fn spawn_decision(&mut self, checkpoint: CheckpointId, again: bool) {
        let Some(proposal) = self.proposal.clone() else {
            return;
        };
        let (env, storage, answers) = (
            self.env.clone(),
            self.spec.storage.clone(),
            self.internal.0.clone(),
        );
        self.env.spawn_io("decide", async move {
            let (outcome, version) = match again {
                false => proposal.decide(&env, &storage).await,
                true => proposal.decide_again(&storage).await,
            };
            let _ = answers.send(Internal::Decided {
                checkpoint,
                outcome,
                version,
            });
        });
    }

    pub(crate) fn on_decided(
        &mut self,
        attempt: Option<&mut RunningAttempt>,
        checkpoint: CheckpointId,
        outcome: DecisionOutcome,
        version: Option<u64>,
    ) {
        let ours = self
            .proposal
            .as_ref()
            .is_some_and(|proposal| proposal.manifest.checkpoint == checkpoint);
        match (&outcome, version) {
            (DecisionOutcome::Committed, Some(version)) if ours => {
                if let Some(proposal) = self.proposal.take() {
                    self.adopt(proposal, version);
                }
            }
            (DecisionOutcome::NotWritten(_), _) if ours => {
                if let Some(proposal) = self.proposal.take() {
                    self.cleaner.delete(proposal.keys());
                }
            }
            _ => {}
        }
        self.coordinate(attempt, CkEvent::Decision { checkpoint, outcome });
    }

    /// The decision is written: from here on the checkpoint is real.
    fn adopt(&mut self, proposal: Proposal, version: u64) {
        self.owned.version = version;
        let before = std::mem::replace(&mut self.owned.head, proposal.head);
        // Of those that an older process decided nobody here has the manifest: they can only be deleted by their entry.
        let gone = |listed: &CheckpointRef| self.owned.head.find(listed.id).is_none();
        self.owned
            .unlisted
            .extend(before.checkpoints.into_iter().filter(gone));
        let manifest = proposal.manifest;
        self.lifecycle.checkpoint_decided();
        self.snapshots.complete(manifest.checkpoint);
        if manifest.kind != SnapshotKind::Savepoint {
            self.decided_here = Some(manifest.checkpoint);
            self.snapshots.restarts_from(manifest.checkpoint);
        }
        let pending = self.pending.remove(&manifest.checkpoint);
        if let Some(pending) = &pending {
            self.keep_record(manifest.checkpoint, pending, None);
        }
        self.recovery_ends(None);
        let in_flight_bytes = pending.as_ref().map_or(0, PendingCheckpoint::in_flight_bytes);
        let summary = CheckpointSummary {
            in_flight_bytes,
            id: manifest.checkpoint,
            kind: manifest.kind,
            duration: pending.map_or(Duration::ZERO, |pending| self.env.now().since(pending.triggered)),
            bytes: manifest.written.bytes,
            rows: manifest.written.rows,
            completed_at: self.env.wall_clock(),
        };
        let captured_peak = self.snapshots.peak_bytes() as u64;
        self.stats.send_modify(|stats| {
            stats.decided += 1;
            stats.captured_peak = captured_peak;
            stats.checkpoints.push(summary);
            if stats.checkpoints.len() > REMEMBERED {
                stats.checkpoints.remove(0);
            }
        });
        self.manifests.insert(manifest.checkpoint, manifest);
    }

    fn notify_complete(&mut self, attempt: Option<&mut RunningAttempt>, checkpoint: CheckpointId) {
        let Some(attempt) = attempt else { return };
        attempt
            .deployed
            .send_all(&TaskCommand::EventAll(OperatorEvent::Committed(checkpoint)));
        let kind = self.manifests.get(&checkpoint).map(|manifest| manifest.kind);
        if kind == Some(SnapshotKind::Final) {
            attempt.ending = Ending::Committing(checkpoint);
            self.state("committing");
        }
    }

    fn discard(&mut self, checkpoint: CheckpointId) {
        // Unless it was told before: who fails with the attempt is not.
        self.keep_record_of_abort(checkpoint, "its attempt ended");
        if let Some(pending) = self.pending.remove(&checkpoint) {
            self.cleaner.delete(object_keys(&pending.objects));
        }
        self.snapshots.abort(checkpoint);
    }

    fn subsume(&mut self, checkpoint: CheckpointId) {
        match self.manifests.remove(&checkpoint) {
            Some(manifest) => {
                let mut keys = object_keys(&manifest.objects);
                let key = format!(
                    "g{}/a{}/chk-{checkpoint}/manifest.json",
                    manifest.generation, manifest.attempt
                );
                keys.extend(rivermark_storage::BlobKey::new(key).ok());
                self.cleaner.delete(keys);
            }
            None => {
                let unlisted = self.owned.unlisted.iter().find(|listed| listed.id == checkpoint);
                if let Some(listed) = unlisted {
                    self.cleaner.delete_checkpoint(listed.clone());
                }
            }
        }
        self.owned.unlisted.retain(|listed| listed.id != checkpoint);
    }

    fn final_failed(&mut self, attempt: Option<&mut RunningAttempt>, why: &str) {
        if let Some(attempt) = attempt {
            tracing::warn!(
                "the last checkpoint is tried again, a second Ctrl-C ends the job without it: {why}"
            );
            attempt.ending = Ending::No;
            self.moved(|lifecycle| lifecycle.running());
            self.final_retry_at = Some(self.env.now().after(Duration::from_millis(200)));
        }
    }
}

/// The objects that a report is about, when nobody waits for them any more.
pub(crate) fn keys_of(report: PartReport) -> Vec<rivermark_storage::BlobKey> {
    match report {
        PartReport::Sealed { objects, .. } => object_keys(&objects),
        PartReport::Orphaned { keys } => keys,
        PartReport::Declined { .. } => vec![],
    }
}
