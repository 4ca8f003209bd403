//! The records of checkpoints and recoveries, kept beside the checkpoints for whoever asks why one was slow.
//!
//! Written by a task of its own: nothing waits for it, and a record that cannot be written is left out. The newest ones are
//! kept, the others deleted. No checkpoint depends on any of it.

use crate::explain::{CheckpointRecord, RecoveryRecord};
use crate::retry::retrying;
use bytes::Bytes;
use rivermark_env::{Env, TaskHandle};
use rivermark_storage::{Blob, BlobKey};
use rivermark_types::{CheckpointId, Failure, Generation, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Where they are, in a job's directory.
pub const HISTORY: &str = "history";

/// So many checkpoints are kept.
pub const CHECKPOINTS_KEPT: usize = 100;
/// So many recoveries are kept.
pub const RECOVERIES_KEPT: usize = 20;

/// So many records wait to be written; where the store is slower, some are left out.
const QUEUE: usize = 16;
/// How long the end of a job waits for the last of them.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What a record is of, and its number: records of one kind are told apart and put in order by generation and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Of {
    Checkpoint,
    Recovery,
}

type Id = (Of, Generation, u64);

fn key((of, generation, number): Id) -> Result<BlobKey> {
    let of = match of {
        Of::Checkpoint => "checkpoint",
        Of::Recovery => "recovery",
    };
    Ok(BlobKey::new(format!("g{generation}/{of}-{number}.json"))?)
}

fn id_of(key: &BlobKey) -> Option<Id> {
    let (generation, name) = key.as_str().strip_prefix('g')?.split_once('/')?;
    let (of, number) = name.strip_suffix(".json")?.split_once('-')?;
    let of = match of {
        "checkpoint" => Of::Checkpoint,
        "recovery" => Of::Recovery,
        _ => return None,
    };
    Some((of, Generation(generation.parse().ok()?), number.parse().ok()?))
}

/// Writes the records of a run.
pub(crate) struct History {
    env: Env,
    records: Option<mpsc::Sender<(Id, Bytes)>>,
    writer: Option<TaskHandle>,
}

impl History {
    pub(crate) fn start(env: &Env, blob: Arc<dyn Blob>) -> History {
        let (records, mut due) = mpsc::channel::<(Id, Bytes)>(QUEUE);
        let writer_env = env.clone();
        let writer = env.spawn_io("history", async move {
            let mut kept = None;
            while let Some((id, bytes)) = due.recv().await {
                if let Err(failure) = keep(&writer_env, &blob, &mut kept, id, bytes).await {
                    tracing::debug!(%failure, "a record of the job's history is left out");
                }
            }
        });
        History {
            env: env.clone(),
            records: Some(records),
            writer: Some(writer),
        }
    }

    pub(crate) fn checkpoint(&self, record: &CheckpointRecord) {
        let id = (Of::Checkpoint, record.generation, record.checkpoint.0);
        self.add(id, serde_json::to_vec(record));
    }

    pub(crate) fn recovery(&self, record: &RecoveryRecord) {
        let id = (Of::Recovery, record.generation, u64::from(record.attempt.0));
        self.add(id, serde_json::to_vec(record));
    }

    fn add(&self, id: Id, json: serde_json::Result<Vec<u8>>) {
        if let (Some(records), Ok(json)) = (&self.records, json) {
            // Full: left out.
            let _ = records.try_send((id, json.into()));
        }
    }

    /// Waits a little for what is not written yet.
    pub(crate) async fn finish(&mut self) {
        self.records = None;
        let Some(writer) = self.writer.take() else { return };
        let patience = self.env.sleep(LAST_WORDS);
        tokio::select! {
            biased;
            _ = writer.join() => {}
            () = patience => {}
        }
    }
}

/// Writes one record, and deletes those beyond the newest.
async fn keep(
    env: &Env,
    blob: &Arc<dyn Blob>,
    kept: &mut Option<BTreeSet<Id>>,
    id: Id,
    bytes: Bytes,
) -> Result<()> {
    let kept = match kept {
        Some(kept) => kept,
        None => kept.insert(ids(blob).await?),
    };
    let written = key(id)?;
    retrying(env, 3, || blob.put(&written, vec![bytes.clone()])).await?;
    kept.insert(id);
    for (of, most) in [
        (Of::Checkpoint, CHECKPOINTS_KEPT),
        (Of::Recovery, RECOVERIES_KEPT),
    ] {
        while kept.iter().filter(|(other, ..)| *other == of).count() > most {
            let Some(oldest) = kept.iter().find(|(other, ..)| *other == of).copied() else {
                break;
            };
            blob.delete(&key(oldest)?).await?;
            kept.remove(&oldest);
        }
    }
    Ok(())
}

async fn ids(blob: &Arc<dyn Blob>) -> Result<BTreeSet<Id>> {
    let entries = blob.list("").await?;
    Ok(entries.iter().filter_map(|entry| id_of(&entry.key)).collect())
}

/// Reads the records of a job.
pub struct Records {
    blob: Arc<dyn Blob>,
}

impl Records {
    /// The records in a store (see [`crate::JobStorage::history`]).
    pub fn new(blob: Arc<dyn Blob>) -> Records {
        Records { blob }
    }

    /// The record of a checkpoint, or of the newest one. `Invalid` if there is none, with those that there are.
    pub async fn checkpoint(&self, checkpoint: Option<CheckpointId>) -> Result<CheckpointRecord> {
        let ids = self.of(Of::Checkpoint).await?;
        let found = match checkpoint {
            Some(checkpoint) => ids.get(&checkpoint.0),
            None => ids.values().next_back(),
        };
        match found {
            Some(id) => self.read(*id).await,
            None => Err(none_there("checkpoint", checkpoint.map(|id| id.0), &ids)),
        }
    }

    /// The record of the newest recovery.
    pub async fn recovery(&self) -> Result<RecoveryRecord> {
        let mut ids = self.ids(Of::Recovery).await?;
        match ids.pop_last() {
            Some(id) => self.read(id).await,
            None => Err(none_there("recovery", None, &BTreeMap::new())),
        }
    }

    /// By number, each of its newest generation.
    async fn of(&self, of: Of) -> Result<BTreeMap<u64, Id>> {
        let ids = self.ids(of).await?;
        Ok(ids.into_iter().map(|id| (id.2, id)).collect())
    }

    async fn ids(&self, of: Of) -> Result<BTreeSet<Id>> {
        let mut ids = ids(&self.blob).await?;
        ids.retain(|(other, ..)| *other == of);
        Ok(ids)
    }

    async fn read<T: serde::de::DeserializeOwned>(&self, id: Id) -> Result<T> {
        let key = key(id)?;
        let bytes = self.blob.get(&key).await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Failure::invalid(format!("{HISTORY}/{key} cannot be read: {error}")))
    }
}

fn none_there(of: &str, number: Option<u64>, ids: &BTreeMap<u64, Id>) -> Failure {
    let number = number.map_or_else(String::new, |number| format!(" {number}"));
    let there = match (ids.keys().next(), ids.keys().next_back()) {
        (Some(first), Some(last)) => format!("those there are: {first} to {last}"),
        _ => format!(
            "there is none: the newest {CHECKPOINTS_KEPT} checkpoints and {RECOVERIES_KEPT} recoveries are kept"
        ),
    };
    Failure::invalid(format!("no record of {of}{number}; {there}"))
}
