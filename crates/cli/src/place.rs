//! From DIR to the storage of one job, for reading: nothing is made, changed or fenced.

use rivermark_env::{Env, RealEnv};
use rivermark_state::JobHead;
use rivermark_storage::{Cas, LocalBlob, LocalCas, StorageErrorKind};
use std::path::{Path, PathBuf};

/// The storage of one job.
pub(crate) struct Place {
    /// Its directory, `<execution.checkpointing.dir>/<job name>`.
    pub(crate) dir: PathBuf,
    /// Its objects.
    pub(crate) blob: LocalBlob,
    /// Its decisions.
    pub(crate) cas: LocalCas,
}

/// Runs a command in the real world.
pub(crate) fn in_world<T>(command: impl AsyncFnOnce(&Env) -> Result<T, String>) -> Result<T, String> {
    let world = RealEnv::start().map_err(|error| format!("the I/O threads cannot be started: {error}"))?;
    let env = world.env();
    world.block_on(command(&env))
}

impl Place {
    /// The storage in a job's directory, or in a directory that holds that of exactly one job.
    pub(crate) async fn find(env: &Env, dir: &Path) -> Result<Place, String> {
        let dir = match holds_decisions(env, dir).await? {
            true => dir.to_owned(),
            false => only_job_in(env, dir).await?,
        };
        Ok(Place {
            blob: LocalBlob::existing(env, dir.join("objects")),
            cas: LocalCas::existing(env, &dir),
            dir,
        })
    }

    /// What is decided of the job.
    pub(crate) async fn head(&self) -> Result<JobHead, String> {
        let head = self.cas.head().await.map_err(|error| error.to_string())?;
        let head = head.ok_or_else(|| nothing_in(&self.dir))?;
        let name = format!("{}, decision {}", self.dir.display(), head.version);
        JobHead::decode(&name, &head.bytes).map_err(|error| error.to_string())
    }
}

async fn holds_decisions(env: &Env, dir: &Path) -> Result<bool, String> {
    LocalCas::is_in(env, dir)
        .await
        .map_err(|error| match error.kind() {
            StorageErrorKind::NotFound => {
                format!(
                    "there is no directory {}: name a job's checkpoint directory, \
                 <execution.checkpointing.dir>/<pipeline.name>",
                    dir.display()
                )
            }
            _ => format!("{} cannot be read: {error}", dir.display()),
        })
}

async fn only_job_in(env: &Env, dir: &Path) -> Result<PathBuf, String> {
    let unreadable = |error| format!("{} cannot be read: {error}", dir.display());
    let entries = env.files().list(dir).await.map_err(unreadable)?;
    let mut jobs = Vec::new();
    for entry in entries.into_iter().filter(|entry| entry.is_dir) {
        if holds_decisions(env, &dir.join(&entry.name)).await? {
            jobs.push(entry.name);
        }
    }
    match jobs.as_slice() {
        [] => Err(nothing_in(dir)),
        [job] => Ok(dir.join(job)),
        several => Err(format!(
            "{} holds the checkpoints of several jobs ({}): name one of these directories",
            dir.display(),
            several.join(", ")
        )),
    }
}

fn nothing_in(dir: &Path) -> String {
    format!(
        "{} holds no job's checkpoints: nothing was ever decided there; name a job's checkpoint directory, \
         <execution.checkpointing.dir>/<pipeline.name>",
        dir.display()
    )
}
