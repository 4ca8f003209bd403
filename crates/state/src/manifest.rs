//! The manifest: all that a checkpoint consists of, in one small readable object.
//!
//! Layout: [`Manifest`] and its entries. Keyed rows are in objects, by reference ([`ObjectRef`]); everything small
//! (operator lists, committables, splits, watermarks) is here, in line. Non-goals: which manifests count (`head`), how
//! rows are kept (`object`).

use crate::StateError;
use crate::document;
use crate::in_flight::InFlightChannel;
use crate::object::ObjectRef;
use rivermark_storage::{BlobKey, Digest};
use rivermark_types::{
    Attempt, CheckpointId, Generation, JobName, MaxParallelism, SnapshotKind, Timestamp, Uid,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The format that this version writes, and the newest that it reads.
pub const MANIFEST_FORMAT: u32 = 1;
/// The most bytes a manifest may have.
pub const MAX_MANIFEST_BYTES: usize = 256 << 20;

/// Named lists of small values: operator state, committables, split positions.
pub type Lists = BTreeMap<String, Vec<Value>>;

/// All that a checkpoint or savepoint consists of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this form.
    pub format: u32,
    /// The job it belongs to; no other may restore it.
    pub job: JobName,
    /// Its id.
    pub checkpoint: CheckpointId,
    /// What it was taken for.
    pub kind: SnapshotKind,
    /// The run that took it.
    pub generation: Generation,
    /// The deployment inside that run.
    pub attempt: Attempt,
    /// What the job's key hash is keyed with.
    pub seed: u64,
    /// When it was taken, by the wall clock.
    pub taken_at: Timestamp,
    /// The operators that have state, or a watermark.
    pub operators: Vec<OperatorEntry>,
    /// The sources' enumerators.
    pub sources: Vec<SourceEntry>,
    /// Where the keyed rows are.
    pub objects: Vec<ObjectRef>,
    /// How much was written for it.
    pub written: Written,
}

/// An operator in a manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperatorEntry {
    /// What a restore finds it by.
    pub uid: Uid,
    /// Its name, for people.
    pub name: String,
    /// Its number of key groups; fixed for the life of its state.
    pub max_parallelism: MaxParallelism,
    /// How many subtasks it had.
    pub parallelism: u32,
    /// Whether it has keyed state.
    #[serde(default)]
    pub keyed: bool,
    /// Those subtasks, by index.
    pub subtasks: Vec<SubtaskEntry>,
}

/// What one subtask of an operator had, but for its keyed rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubtaskEntry {
    /// Which subtask.
    pub index: u32,
    /// Its watermark at the barrier.
    pub watermark: Timestamp,
    /// Its lists.
    #[serde(default, skip_serializing_if = "Lists::is_empty")]
    pub lists: Lists,
    /// Its channels with what was in flight in them, if the barriers overtook.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_flight: Vec<InFlightChannel>,
}

/// A source's enumerator in a manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceEntry {
    /// What a restore finds it by.
    pub uid: Uid,
    /// The state of its enumerator.
    pub enumerator: Value,
}

/// How much was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Bytes in objects.
    pub bytes: u64,
    /// Keyed rows.
    pub rows: u64,
}

impl Manifest {
    /// Its bytes, to be stored as an object, and their digest, to be kept in the head.
    pub fn encode(&self) -> Result<(Vec<u8>, Digest), StateError> {
        let bytes = document::encode(self)?;
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(StateError::Unwritable {
                type_name: "the manifest",
                reason: format!("it has {} bytes, {MAX_MANIFEST_BYTES} is the limit", bytes.len()),
            });
        }
        let digest = Digest::of(&bytes);
        Ok((bytes, digest))
    }

    /// The manifest back from the bytes of `object`, which must have the digest that was decided, if one is known.
    pub fn decode(object: &str, bytes: &[u8], decided: Option<Digest>) -> Result<Manifest, StateError> {
        if let Some(digest) = decided {
            digest.check(format_args!("the manifest {object}"), bytes)?;
        }
        let manifest: Manifest = document::decode(object, bytes, MAX_MANIFEST_BYTES, MANIFEST_FORMAT)?;
        manifest.check().map_err(|reason| StateError::Damaged {
            object: object.to_owned(),
            reason,
        })?;
        Ok(manifest)
    }

    /// The entry of an operator.
    pub fn operator(&self, uid: &Uid) -> Option<&OperatorEntry> {
        self.operators.iter().find(|operator| operator.uid == *uid)
    }

    /// The entry of a source's enumerator.
    pub fn source(&self, uid: &Uid) -> Option<&SourceEntry> {
        self.sources.iter().find(|source| source.uid == *uid)
    }

    /// The objects that must stay as long as this manifest does. The manifest's own key is not among them.
    pub fn referenced_keys(&self) -> Vec<BlobKey> {
        self.objects.iter().map(|object| object.key.clone()).collect()
    }

    fn check(&self) -> Result<(), String> {
        let mut uids = BTreeSet::new();
        for operator in &self.operators {
            operator.check()?;
            if !uids.insert(&operator.uid) {
                return Err(format!("operator {:?} is in it twice", operator.uid.as_str()));
            }
        }
        let mut keys = BTreeSet::new();
        match self.objects.iter().find(|object| !keys.insert(&object.key)) {
            Some(twice) => Err(format!("object {} is in it twice", twice.key)),
            None => Ok(()),
        }
    }
}

impl OperatorEntry {
    /// Whether a restore without this operator would lose something.
    pub fn has_state(&self) -> bool {
        let has_lists = |subtask: &SubtaskEntry| subtask.lists.values().any(|list| !list.is_empty());
        let in_flight = |subtask: &SubtaskEntry| subtask.in_flight.iter().any(|channel| channel.rows > 0);
        self.keyed
            || self
                .subtasks
                .iter()
                .any(|subtask| has_lists(subtask) || in_flight(subtask))
    }

    fn check(&self) -> Result<(), String> {
        let uid = self.uid.as_str();
        let max = self.max_parallelism.get();
        if MaxParallelism::new(max).is_none() || self.parallelism == 0 || self.parallelism > max {
            return Err(format!(
                "operator {uid:?} has parallelism {} of at most {max}",
                self.parallelism
            ));
        }
        let mut indexes = BTreeSet::new();
        let sound = |index: u32| index < self.parallelism;
        match self
            .subtasks
            .iter()
            .find(|entry| !sound(entry.index) || !indexes.insert(entry.index))
        {
            Some(entry) => Err(format!(
                "operator {uid:?} of parallelism {} has a second or impossible subtask {}",
                self.parallelism, entry.index
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
