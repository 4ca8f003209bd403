//! Where a job keeps its state: objects, and the one decision.

use crate::history::HISTORY;
use rivermark_env::Env;
use rivermark_storage::{Blob, Cas, LocalBlob, LocalCas, MemoryBlob, MemoryCas, Timely};
use rivermark_types::{Failure, JobName, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a call may take if nobody says otherwise.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// The storage of one job.
#[derive(Clone)]
pub struct JobStorage {
    /// Its objects.
    pub blob: Arc<dyn Blob>,
    /// Its head: the newest decision.
    pub cas: Arc<dyn Cas>,
    /// What explains its slow checkpoints: nothing depends on it.
    pub history: Arc<dyn Blob>,
    /// Where it is, for people; `None` in memory, where it dies with the process.
    pub place: Option<PathBuf>,
    call_timeout: Duration,
    late: Option<Arc<Timely<dyn Blob>>>,
    local: Option<Local>,
}

/// What leaves temporary files when it crashes.
#[derive(Clone)]
struct Local {
    blobs: [Arc<LocalBlob>; 2],
    cas: Arc<LocalCas>,
}

impl JobStorage {
    /// In memory: restarts inside the process work, a new process starts anew.
    pub fn in_memory() -> JobStorage {
        JobStorage {
            blob: Arc::new(MemoryBlob::new()),
            cas: Arc::new(MemoryCas::new()),
            history: Arc::new(MemoryBlob::new()),
            place: None,
            call_timeout: CALL_TIMEOUT,
            late: None,
            local: None,
        }
    }

    /// In `<dir>/<job name>/`: decisions there, objects in `objects/` below, records in `history/`.
    pub async fn in_dir(env: &Env, dir: &Path, job: &JobName) -> Result<JobStorage> {
        check_name(job)?;
        let place = dir.join(job.as_str());
        let cas = Arc::new(LocalCas::open(env, &place).await?);
        let blob = Arc::new(LocalBlob::open(env, place.join("objects")).await?);
        let history = Arc::new(LocalBlob::open(env, place.join(HISTORY)).await?);
        let local = Some(Local {
            blobs: [blob.clone(), history.clone()],
            cas: cas.clone(),
        });
        Ok(JobStorage {
            blob,
            cas,
            history,
            place: Some(place),
            call_timeout: CALL_TIMEOUT,
            late: None,
            local,
        })
    }

    /// The same storage seen through wrappers (faulty ones, in tests).
    pub fn wrapped(
        self,
        blob: impl FnOnce(Arc<dyn Blob>) -> Arc<dyn Blob>,
        cas: impl FnOnce(Arc<dyn Cas>) -> Arc<dyn Cas>,
    ) -> JobStorage {
        JobStorage {
            blob: blob(self.blob),
            cas: cas(self.cas),
            ..self
        }
    }

    /// The same storage, each call of which may take so long ([`CALL_TIMEOUT`] if this is never said).
    pub fn with_call_timeout(self, call_timeout: Duration) -> JobStorage {
        JobStorage { call_timeout, ..self }
    }

    /// How long a call may take.
    pub fn call_timeout(&self) -> Duration {
        self.call_timeout
    }

    /// The same storage with a deadline for every call. The outermost wrapper, put on at the start of a run.
    pub(crate) fn timely(self, env: &Env) -> JobStorage {
        let blob = Arc::new(Timely::new(env.clone(), self.blob, self.call_timeout));
        JobStorage {
            cas: Arc::new(Timely::new(env.clone(), self.cas, self.call_timeout)),
            late: Some(blob.clone()),
            blob,
            ..self
        }
    }

    /// Waits for writes whose callers have given up on them, or gives up on them for good.
    pub(crate) async fn settle(&self) {
        if let Some(late) = &self.late {
            late.settle().await;
        }
    }

    /// Removes what crashed writers left half-written. Only for the owner of the newest generation: all other writers
    /// are fenced, and lose nothing by it.
    pub async fn sweep_temporaries(&self) -> Result<()> {
        if let Some(local) = &self.local {
            for blob in &local.blobs {
                blob.sweep_temporaries().await?;
            }
            local.cas.sweep_temporaries().await?;
        }
        Ok(())
    }
}

/// A job's name is a directory's name.
fn check_name(job: &JobName) -> Result<()> {
    let name = job.as_str();
    let plain = |c: char| c.is_alphanumeric() || "-_. ".contains(c);
    if name.is_empty() || name.starts_with('.') || name.len() > 200 || !name.chars().all(plain) {
        return Err(Failure::invalid(format!(
            "pipeline.name {name:?} cannot be a directory: use letters, digits, '-', '_', '.' and spaces, not \
             starting with a dot, at most 200 bytes"
        )));
    }
    Ok(())
}
