//! What a checkpoint consists of while it is being made, and the writing of its decision.

use crate::claim::OwnedHead;
use crate::retry::retrying;
use crate::storage::JobStorage;
use bytes::Bytes;
use rivermark_connector::commit::COMMITTABLES;
use rivermark_env::Env;
use rivermark_protocol::coordinator::DecisionOutcome;
use rivermark_protocol::graph::Graph;
use rivermark_protocol::plan::Plan;
use rivermark_state::{
    CheckpointRef, JobHead, Manifest, ObjectRef, OperatorEntry, SourceEntry, SubtaskEntry, SubtaskSnapshot,
    Written,
};
use rivermark_storage::{BlobKey, CasOutcome};
use rivermark_types::{Attempt, CheckpointId, Millis, Result, SnapshotKind, SubtaskId, Uid};
use std::collections::BTreeMap;

/// A checkpoint whose parts are coming in.
pub(crate) struct PendingCheckpoint {
    pub(crate) kind: SnapshotKind,
    pub(crate) attempt: Attempt,
    pub(crate) triggered: Millis,
    pub(crate) sources: Vec<SourceEntry>,
    pub(crate) objects: Vec<ObjectRef>,
    /// Barriers were sent.
    pub(crate) barriers_sent: Option<Millis>,
    /// When whose acknowledgement was in.
    pub(crate) acked: BTreeMap<SubtaskId, Millis>,
    /// The decision began.
    pub(crate) deciding: Option<Millis>,
    /// What became of it is kept already.
    pub(crate) is_kept: bool,
    entries: BTreeMap<Uid, Vec<SubtaskEntry>>,
    rows: u64,
}

impl PendingCheckpoint {
    pub(crate) fn new(kind: SnapshotKind, attempt: Attempt, triggered: Millis) -> PendingCheckpoint {
        PendingCheckpoint {
            kind,
            attempt,
            triggered,
            sources: vec![],
            objects: vec![],
            barriers_sent: None,
            acked: BTreeMap::new(),
            deciding: None,
            is_kept: false,
            entries: BTreeMap::new(),
            rows: 0,
        }
    }

    /// Keeps what a subtask acknowledged.
    pub(crate) fn add(&mut self, snapshot: &SubtaskSnapshot, now: Millis) {
        self.acked.insert(snapshot.subtask, now);
        self.rows += snapshot.rows;
        for (uid, entry) in &snapshot.operators {
            self.entries.entry(uid.clone()).or_default().push(entry.clone());
        }
    }

    /// What was stored for it.
    pub(crate) fn written(&self) -> Written {
        Written {
            bytes: self.objects.iter().map(|object| object.len).sum(),
            rows: self.rows,
        }
    }

    /// About how many bytes were in flight.
    pub(crate) fn in_flight_bytes(&self) -> u64 {
        let entries = self.entries.values().flatten();
        entries
            .flat_map(|entry| &entry.in_flight)
            .map(|channel| channel.bytes)
            .sum()
    }

    /// The operators with all their subtasks.
    pub(crate) fn operators(&self, graph: &Graph, plan: &Plan) -> Vec<OperatorEntry> {
        let mut operators = vec![];
        for vertex in &plan.vertices {
            for node in vertex.nodes.iter().filter_map(|id| graph.node(*id)) {
                let uid = graph.stable_name(node.id);
                let Some(entries) = self.entries.get(&uid) else {
                    continue;
                };
                let mut subtasks = entries.clone();
                subtasks.sort_by_key(|entry| entry.index);
                operators.push(OperatorEntry {
                    uid,
                    name: node.name.clone(),
                    max_parallelism: vertex.max_parallelism,
                    parallelism: vertex.parallelism,
                    keyed: node.keyed,
                    subtasks,
                });
            }
        }
        operators
    }
}

/// A decision about to be written, or being written again: always the same bytes.
#[derive(Clone)]
pub(crate) struct Proposal {
    pub(crate) manifest: Manifest,
    manifest_key: BlobKey,
    manifest_bytes: Bytes,
    expected: u64,
    pub(crate) head: JobHead,
    head_bytes: Bytes,
}

impl Proposal {
    /// The decision that makes `manifest` real: a head that lists it and the `retained` ones.
    pub(crate) fn new(
        manifest: Manifest,
        manifest_key: String,
        owned: &OwnedHead,
        retained: &[CheckpointId],
        decided_at: rivermark_types::Timestamp,
    ) -> Result<Proposal> {
        let (manifest_bytes, digest) = manifest.encode()?;
        let manifest_key = BlobKey::new(manifest_key)?;
        let mut head = owned.head.clone();
        let lineage_start = head.lineage_start;
        head.checkpoints
            .retain(|c| retained.contains(&c.id) || c.id <= lineage_start);
        head.checkpoints.push(CheckpointRef {
            id: manifest.checkpoint,
            kind: manifest.kind,
            manifest: manifest_key.clone(),
            digest,
            has_committables: lists_anything(&manifest, COMMITTABLES),
            decided_at,
        });
        head.next_checkpoint = CheckpointId(head.next_checkpoint.0.max(manifest.checkpoint.0 + 1));
        let head_bytes = Bytes::from(head.encode()?);
        let manifest_bytes = Bytes::from(manifest_bytes);
        Ok(Proposal {
            manifest,
            manifest_key,
            manifest_bytes,
            expected: owned.version,
            head,
            head_bytes,
        })
    }

    /// Stores the manifest, then decides. The manifest is an object like any other: only the head makes it real.
    pub(crate) async fn decide(&self, env: &Env, storage: &JobStorage) -> (DecisionOutcome, Option<u64>) {
        let put = || {
            storage
                .blob
                .put(&self.manifest_key, vec![self.manifest_bytes.clone()])
        };
        if let Err(error) = retrying(env, 5, put).await {
            return (DecisionOutcome::NotWritten(error.to_string()), None);
        }
        self.compare_and_set(storage).await
    }

    /// The same compare-and-set once more. A refusal now says nothing of the first try: that stays in doubt.
    pub(crate) async fn decide_again(&self, storage: &JobStorage) -> (DecisionOutcome, Option<u64>) {
        match self.compare_and_set(storage).await {
            (DecisionOutcome::NotWritten(_), version) => (DecisionOutcome::Unknown, version),
            answer => answer,
        }
    }

    async fn compare_and_set(&self, storage: &JobStorage) -> (DecisionOutcome, Option<u64>) {
        match storage
            .cas
            .compare_and_set(Some(self.expected), self.head_bytes.clone())
            .await
        {
            CasOutcome::Committed { version } => (DecisionOutcome::Committed, Some(version)),
            CasOutcome::Conflict(found) => {
                let by = found.and_then(|head| JobHead::decode("the job's head", &head.bytes).ok());
                let by = by.map_or("another generation".to_owned(), |head| {
                    format!("generation {}", head.generation)
                });
                (DecisionOutcome::Fenced(by), None)
            }
            CasOutcome::NotWritten(error) => (DecisionOutcome::NotWritten(error.to_string()), None),
            CasOutcome::Unknown(error) => {
                tracing::warn!(%error, checkpoint = %self.manifest.checkpoint, "the decision's outcome is unknown");
                (DecisionOutcome::Unknown, None)
            }
        }
    }

    /// Every object that exists only for this checkpoint.
    pub(crate) fn keys(&self) -> Vec<BlobKey> {
        let mut keys = object_keys(&self.manifest.objects);
        keys.push(self.manifest_key.clone());
        keys
    }
}

/// The keys of objects, for deletion.
pub(crate) fn object_keys(objects: &[ObjectRef]) -> Vec<BlobKey> {
    objects.iter().map(|object| object.key.clone()).collect()
}

/// Whether any operator keeps something under this list's name.
fn lists_anything(manifest: &Manifest, list: &str) -> bool {
    let subtasks = manifest.operators.iter().flat_map(|operator| &operator.subtasks);
    subtasks
        .into_iter()
        .any(|subtask| subtask.lists.get(list).is_some_and(|entries| !entries.is_empty()))
}
