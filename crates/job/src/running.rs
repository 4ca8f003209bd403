//! An attempt from its deployment to its end: restore, sources, sinks, and the approach to the final checkpoint.

use crate::attempt::{Ending, RunningAttempt, subtasks};
use crate::claim::read_manifest;
use crate::handle::Request;
use crate::master::{Internal, Master};
use crate::restore::{Restored, restore};
use crate::retry::{PATIENCE, PatientBlob};
use crate::sources::{ReaderOrders, SourceCoordination};
use rivermark_protocol::coordinator::CkEvent;
use rivermark_runtime::deploy::{Deployment, Restore};
use rivermark_runtime::source::{Discovery, SourceEnumerator};
use rivermark_runtime::{NodeBody, OperatorReport, SinkPhase, TaskCommand};
use rivermark_state::{Manifest, SnapshotReader};
use rivermark_storage::backoff;
use rivermark_types::{Attempt, CheckpointId, Failure, NodeId, Result, SnapshotKind, SubtaskId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How often the end of a job is written while it is known not to be, and the waits between.
const END_TRIES: u32 = 10;
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

impl Master {
    /// Starts the next attempt from the newest decided checkpoint.
    pub(crate) async fn deploy(&mut self) -> Result<RunningAttempt> {
        let number = self.spec.seams.attempt(Attempt(self.last_attempt.0 + 1));
        self.last_attempt = number;
        self.recovery(|record, at| (record.restarted, record.attempt) = (at, number));
        let manifest = self.newest_manifest().await?;
        let from = manifest.as_ref().map(|manifest| manifest.checkpoint);
        self.recovery(|record, _| record.from = from);
        let (now, wall) = (self.env.now(), self.env.wall_clock());
        self.stats.send_modify(|stats| {
            stats.generation = self.owned.head.generation;
            stats.attempt = number;
            stats.restored_from = manifest.as_ref().map(|manifest| manifest.checkpoint);
            let (state, restored_at) = match &manifest {
                Some(_) => ("restoring", Some(wall)),
                None => ("starting", stats.restored_at),
            };
            stats.enter(state, now);
            stats.restored_at = restored_at;
        });
        let mut restored = match &manifest {
            Some(manifest) => restore(
                &self.program.graph,
                &self.plan,
                manifest,
                self.spec.options.ignore_unclaimed,
            )?,
            None => Restored::default(),
        };
        let sources = self.sources(&mut restored)?;
        let (events_sender, events) = mpsc::unbounded_channel();
        let reader = match &manifest {
            Some(manifest) => {
                let blob = self.spec.storage.blob.clone();
                let patient = Arc::new(PatientBlob {
                    env: self.env.clone(),
                    blob,
                });
                let copies = self.snapshots.local_copies().cloned();
                Some(Arc::new(
                    SnapshotReader::open_near(patient, copies, manifest).await?,
                ))
            }
            None => None,
        };
        let deployment = Deployment {
            env: self.env.clone(),
            job: self.spec.name.clone(),
            generation: self.generation(),
            attempt: number,
            program: self.program.clone(),
            plan: self.plan.clone(),
            seed: self.owned.head.seed,
            limits: self.spec.limits,
            restore: reader.map(|reader| Restore {
                shares: restored.shares,
                reader,
            }),
            snapshots: self.snapshots.clone(),
            events: events_sender,
            counters: self.counters.clone(),
            careful: self.careful(),
            seams: self.spec.seams.clone(),
        };
        let deployed = deployment.start()?;
        self.recovery(|record, at| record.deployed = Some(at));
        Ok(RunningAttempt::new(
            number,
            &self.program.graph,
            &self.plan,
            deployed,
            events,
            sources,
        ))
    }

    /// The operators to run carefully, and the rows to give up, each with its last error.
    fn careful(&mut self) -> BTreeMap<NodeId, BTreeMap<u64, String>> {
        let plan = self.lifecycle.careful();
        if plan.is_empty() {
            self.row_errors.clear();
        }
        let why = |digest: u64| {
            let error = self.row_errors.get(&digest).cloned().unwrap_or_default();
            (digest, error)
        };
        plan.into_iter()
            .map(|(node, rows)| (node, rows.into_iter().map(why).collect()))
            .collect()
    }

    /// The checkpoint the next attempt starts from: the newest decided in this process, else what the user chose.
    async fn newest_manifest(&mut self) -> Result<Option<Manifest>> {
        let newest = match self.decided_here {
            Some(id) => Some(id),
            None => self.start_from,
        };
        let Some(id) = newest else { return Ok(None) };
        if let Some(manifest) = self.manifests.get(&id) {
            return Ok(Some(manifest.clone()));
        }
        let listed = self
            .owned
            .head
            .checkpoints
            .iter()
            .find(|checkpoint| checkpoint.id == id);
        let listed =
            listed.ok_or_else(|| Failure::bug(format!("checkpoint {id} is not in the job's head")))?;
        let manifest = read_manifest(&self.env, &self.spec.storage, listed).await?;
        self.manifests.insert(id, manifest.clone());
        Ok(Some(manifest))
    }

    fn sources(&self, restored: &mut Restored) -> Result<BTreeMap<NodeId, SourceCoordination>> {
        let mut sources = BTreeMap::new();
        for vertex in &self.plan.vertices {
            if let Some(NodeBody::Source(factory)) = self.program.nodes.get(vertex.head.0 as usize) {
                let enumerator = factory.enumerator(&self.env)?;
                let returned = restored.sources.remove(&vertex.head);
                let source = SourceCoordination::new(enumerator, vertex.parallelism, returned)?;
                sources.insert(vertex.head, source);
            }
        }
        Ok(sources)
    }

    /// Every task is open: sources may look for splits.
    pub(crate) fn start_sources(&mut self, attempt: &mut RunningAttempt) -> Result<()> {
        let number = attempt.number;
        for (node, source) in &mut attempt.sources {
            if source.needs_discovery() {
                source.look(&self.env, None, self.discovered(number, *node))?;
            }
        }
        Ok(())
    }

    /// Brings a discovery back to the master.
    fn discovered(
        &self,
        attempt: Attempt,
        node: NodeId,
    ) -> impl FnOnce(Box<dyn SourceEnumerator>, Result<Discovery>) + Send + 'static {
        let answers = self.internal.0.clone();
        move |enumerator, discovery| {
            let _ = answers.send(Internal::Discovered {
                attempt,
                node,
                enumerator,
                discovery,
            });
        }
    }

    pub(crate) fn on_discovered(
        &mut self,
        attempt: &mut RunningAttempt,
        node: NodeId,
        enumerator: Box<dyn SourceEnumerator>,
        discovery: Result<Discovery>,
    ) -> Result<()> {
        let discovery = discovery?;
        if let Some(source) = attempt.sources.get_mut(&node) {
            let orders = source.on_discovery(enumerator, discovery);
            if let Some(wait) = source.look_again() {
                source.look(&self.env, Some(wait), self.discovered(attempt.number, node))?;
            }
            tell_readers(attempt, node, orders);
        }
        self.start_checkpoints(attempt);
        Ok(())
    }

    pub(crate) fn on_report(
        &mut self,
        attempt: &mut RunningAttempt,
        subtask: SubtaskId,
        node: NodeId,
        report: OperatorReport,
    ) -> Result<()> {
        match report {
            OperatorReport::FinishedSplit(split) => {
                if let Some(source) = attempt.sources.get_mut(&node) {
                    source.on_finished(subtask.index, &split)?;
                }
            }
            OperatorReport::WantsSplits => {
                if let Some(source) = attempt.sources.get_mut(&node) {
                    let orders = source.on_wants_splits(subtask.index);
                    tell_readers(attempt, node, orders);
                }
            }
            OperatorReport::Dry => {
                if let Some(source) = attempt.sources.get_mut(&node) {
                    source.on_dry(subtask.index);
                }
            }
            OperatorReport::Sink(phase) => {
                if let Some(order) = attempt.gate.on_report(node, subtask.index, phase) {
                    attempt.carry_out(order);
                }
                if let SinkPhase::Committed(checkpoint) = phase
                    && attempt.gate.all_committed(checkpoint)
                {
                    self.spec.seams.committed(checkpoint);
                }
            }
        }
        Ok(())
    }

    /// Checkpoints begin when every task is open, every split known and every sink's gate open.
    pub(crate) fn start_checkpoints(&mut self, attempt: &mut RunningAttempt) {
        let known = attempt.sources.values().all(|source| !source.needs_discovery());
        if attempt.running || !attempt.all_open() || !attempt.gate.is_open() || !known {
            return;
        }
        attempt.running = true;
        self.moved(|lifecycle| lifecycle.running());
        self.state("running");
        self.recovery(|record, at| record.running = Some(at));
        self.recovery_may_end();
        let started = CkEvent::AttemptStarted {
            attempt: attempt.number,
            subtasks: subtasks(&self.plan).into_iter().collect(),
            restored: self.decided_here.or(self.start_from),
            next_id: self.owned.head.next_checkpoint.max(CheckpointId(1)),
            random: self.env.random_u64(),
        };
        self.coordinate(Some(attempt), started);
        for answer in std::mem::take(&mut self.early) {
            self.on_request(Some(attempt), Request::Checkpoint(answer));
        }
    }

    /// All input read, or a stop asked for: the final checkpoint; when it is committed everywhere, the end.
    pub(crate) fn approach_end(&mut self, attempt: &mut RunningAttempt) {
        match attempt.ending {
            Ending::No if attempt.running && (self.stop || attempt.is_dry()) => {
                if self.final_retry_at.is_some_and(|at| self.env.now() < at) {
                    return;
                }
                self.final_retry_at = None;
                attempt.ending = Ending::Final;
                self.moved(|lifecycle| lifecycle.stop());
                let request = self.next_request();
                self.coordinate(
                    Some(attempt),
                    CkEvent::Requested {
                        kind: SnapshotKind::Final,
                        request,
                    },
                );
            }
            Ending::Committing(checkpoint) if attempt.gate.all_committed(checkpoint) => {
                attempt.ending = Ending::Ended(checkpoint);
                attempt.deployed.send_all(&TaskCommand::End);
            }
            _ => {}
        }
    }

    /// Deletes the job's checkpoints after it has read and committed everything: there is nothing left to resume.
    pub(crate) async fn forget_checkpoints(&mut self) {
        let lineage = self.owned.head.lineage_start;
        let mut head = self.owned.head.clone();
        head.finished = true;
        head.checkpoints
            .retain(|c| c.id <= lineage || c.kind == SnapshotKind::Savepoint);
        let bytes = match head.encode() {
            Ok(bytes) => bytes::Bytes::from(bytes),
            Err(error) => {
                return tracing::warn!(%error, "the job's head cannot be written; its checkpoints are kept");
            }
        };
        // In doubt it is asked for longer: if it was written, nobody names the objects any more.
        let (until, mut in_doubt) = (self.env.now().after(PATIENCE), false);
        for tries in 0.. {
            use rivermark_storage::CasOutcome::*;
            let cas = &self.spec.storage.cas;
            let error = match cas.compare_and_set(Some(self.owned.version), bytes.clone()).await {
                Committed { version } => {
                    self.owned.version = version;
                    self.owned.head = head;
                    return;
                }
                Conflict(_) => {
                    return tracing::warn!("a newer run has taken over; the checkpoints are its own");
                }
                NotWritten(error) => error,
                Unknown(error) => {
                    in_doubt = true;
                    error
                }
            };
            let goes_on = if in_doubt {
                self.env.now() < until
            } else {
                tries < END_TRIES
            };
            if !goes_on {
                break;
            }
            tracing::debug!(%error, "the end of the job is written again");
            let wait = backoff(FIRST_WAIT, LONGEST_WAIT, tries, self.env.random_u64());
            self.env.sleep(wait).await;
        }
        tracing::warn!("the store does not answer: the finished job's checkpoints are kept");
    }
}

fn tell_readers(attempt: &RunningAttempt, node: NodeId, orders: ReaderOrders) {
    for (reader, event) in orders {
        attempt.send_event(node, reader, event);
    }
}
