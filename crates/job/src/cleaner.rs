//! Deletes objects that nobody needs any more, beside the job: failures are tried again, and what is still there at the
//! end of the run is found by a sweep.

use crate::retry::retrying;
use crate::storage::JobStorage;
use rivermark_env::{Env, TaskHandle};
use rivermark_state::{CheckpointRef, JobHead, Manifest};
use rivermark_storage::BlobKey;
use rivermark_types::{CheckpointId, Generation, Result};
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::mpsc;

pub(crate) struct Cleaner {
    env: Env,
    storage: JobStorage,
    due: Option<mpsc::UnboundedSender<Due>>,
    worker: Option<TaskHandle>,
}

/// What is to be deleted.
enum Due {
    Keys(Vec<BlobKey>),
    /// A whole checkpoint, whose manifest has to be read to know what that is.
    Checkpoint(CheckpointRef),
}

impl Cleaner {
    pub(crate) fn start(env: &Env, storage: &JobStorage) -> Cleaner {
        let (sender, mut due) = mpsc::unbounded_channel();
        let (worker_env, worker_storage) = (env.clone(), storage.clone());
        let worker = env.spawn_io("clean", async move {
            while let Some(due) = due.recv().await {
                let keys = match due {
                    Due::Keys(keys) => keys,
                    Due::Checkpoint(checkpoint) => keys_of(&worker_env, &worker_storage, &checkpoint).await,
                };
                for key in keys {
                    delete(&worker_env, &worker_storage, &key).await;
                }
            }
        });
        Cleaner {
            env: env.clone(),
            storage: storage.clone(),
            due: Some(sender),
            worker: Some(worker),
        }
    }

    /// Deletes objects some time soon.
    pub(crate) fn delete(&self, keys: Vec<BlobKey>) {
        if let (Some(sender), false) = (&self.due, keys.is_empty()) {
            let _ = sender.send(Due::Keys(keys));
        }
    }

    /// Deletes all objects of a checkpoint some time soon.
    pub(crate) fn delete_checkpoint(&self, checkpoint: CheckpointRef) {
        if let Some(sender) = &self.due {
            let _ = sender.send(Due::Checkpoint(checkpoint));
        }
    }

    /// Waits until everything asked for is deleted, or given up.
    pub(crate) async fn finish(&mut self) {
        self.due = None;
        if let Some(worker) = self.worker.take() {
            worker.join().await;
        }
    }

    /// Deletes every object that no listed checkpoint names: what crashed or fenced processes left behind. Only for the
    /// owner of the newest generation, while nothing of its own is being written. What a newer generation wrote is spared:
    /// a start may have taken one since the head was read.
    pub(crate) async fn sweep(&self, head: &JobHead, manifests: &BTreeMap<CheckpointId, Manifest>) {
        if let Err(failure) = self.storage.sweep_temporaries().await {
            tracing::warn!(%failure, "temporary files could not be removed; the next run's sweep finds them");
        }
        let objects = match retrying(&self.env, 5, || self.storage.blob.list("")).await {
            Ok(objects) => objects,
            Err(error) => return tracing::warn!(%error, "no sweep: the objects cannot be listed"),
        };
        let mut wanted = BTreeSet::new();
        for checkpoint in &head.checkpoints {
            wanted.insert(checkpoint.manifest.clone());
            let manifest = match manifests.get(&checkpoint.id) {
                Some(manifest) => Ok(manifest.clone()),
                None => read_manifest(&self.env, &self.storage, checkpoint).await,
            };
            match manifest {
                Ok(manifest) => wanted.extend(manifest.objects.into_iter().map(|object| object.key)),
                // What a manifest names is unknown: nothing may be deleted.
                Err(failure) => return tracing::warn!(%failure, "no sweep: a checkpoint cannot be read"),
            }
        }
        for object in objects {
            if !wanted.contains(&object.key) && !is_newer(&object.key, head.generation) {
                delete(&self.env, &self.storage, &object.key).await;
            }
        }
    }
}

/// The keys of a checkpoint, its manifest's last: without that nobody would know the others.
async fn keys_of(env: &Env, storage: &JobStorage, checkpoint: &CheckpointRef) -> Vec<BlobKey> {
    match read_manifest(env, storage, checkpoint).await {
        Ok(manifest) => {
            let mut keys = manifest.referenced_keys();
            keys.push(checkpoint.manifest.clone());
            keys
        }
        Err(failure) => {
            tracing::warn!(%failure, "a checkpoint cannot be deleted now; the sweep at the end finds its objects");
            vec![]
        }
    }
}

/// Reads and checks a manifest. Nobody waits for a store that is away: the next sweep comes.
async fn read_manifest(env: &Env, storage: &JobStorage, checkpoint: &CheckpointRef) -> Result<Manifest> {
    let key = &checkpoint.manifest;
    let bytes = retrying(env, 20, || storage.blob.get(key)).await?;
    Ok(Manifest::decode(key.as_str(), &bytes, Some(checkpoint.digest))?)
}

/// Whether an object is of a newer generation: the first folder of its key tells.
fn is_newer(key: &BlobKey, than: Generation) -> bool {
    let folder = key.as_str().split('/').next().unwrap_or_default();
    let generation = folder.strip_prefix('g').and_then(|number| number.parse().ok());
    generation.is_some_and(|generation: u64| generation > than.0)
}

async fn delete(env: &Env, storage: &JobStorage, key: &BlobKey) {
    if let Err(error) = retrying(env, 8, || storage.blob.delete(key)).await {
        tracing::warn!(%key, %error, "an object could not be deleted; the next run's sweep finds it");
    }
}
