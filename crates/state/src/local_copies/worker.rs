//! Writes and removes the files of local copies, one after the other.

use super::{Copy, Job, LocalCopies, Removal, Writing};
use bytes::Bytes;
use rivermark_env::Files;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// About so many bytes are written in one call: after each it is asked whether the copy is still wanted.
const WRITE_BYTES: usize = 2 << 20;

enum Next {
    Remove(Vec<Removal>),
    Copy(Job),
    Wait,
    End,
}

pub(super) async fn run(copies: LocalCopies) {
    let files = copies.0.env.files().clone();
    remove_older_runs(files.as_ref(), &copies.0.dir).await;
    let mut number = 0;
    let mut warned = false;
    loop {
        match copies.next() {
            Next::Remove(removals) => {
                for removal in removals {
                    copies.remove(removal).await;
                }
            }
            Next::Copy(job) => {
                number += 1;
                let path: Arc<Path> = copies.0.dir.join(format!("{number}.rows")).into();
                let result = copies.write(&path, &job.parts).await;
                if let Err(error) = &result
                    && !std::mem::replace(&mut warned, true)
                {
                    tracing::warn!(%error, "local copies cannot be written; a restart reads from the store what they lack");
                }
                copies.written(job, path, matches!(result, Ok(true)));
            }
            Next::Wait => copies.0.work.notified().await,
            Next::End => break,
        }
    }
    remove_dir(files.as_ref(), &copies.0.dir).await;
}

impl LocalCopies {
    fn next(&self) -> Next {
        let mut state = self.state();
        if !state.to_remove.is_empty() {
            return Next::Remove(std::mem::take(&mut state.to_remove));
        }
        if state.ended {
            return Next::End;
        }
        let Some(job) = state.waiting.pop_front() else {
            return Next::Wait;
        };
        state.writing = Some(Writing {
            checkpoint: job.checkpoint,
            len: job.len,
            given_up: false,
        });
        Next::Copy(job)
    }

    /// Writes a file; false if it was given up meanwhile.
    async fn write(&self, path: &Path, parts: &[Bytes]) -> io::Result<bool> {
        let files = self.0.env.files();
        files.create_dir_all(&self.0.dir).await?;
        let mut file = files.create_new(path).await?;
        let mut rest = parts;
        while !rest.is_empty() {
            if self
                .state()
                .writing
                .as_ref()
                .is_none_or(|writing| writing.given_up)
            {
                return Ok(false);
            }
            let mut bytes = 0;
            let is_within = |part: &&Bytes| {
                bytes += part.len();
                bytes <= WRITE_BYTES
            };
            let count = rest.iter().take_while(is_within).count().max(1);
            let (now, later) = rest.split_at(count);
            file.write_parts(now.to_vec()).await?;
            rest = later;
        }
        Ok(true)
    }

    /// A file has come to its end, whole or not.
    fn written(&self, job: Job, path: Arc<Path>, is_whole: bool) {
        let mut state = self.state();
        let given_up = state.writing.take().is_none_or(|writing| writing.given_up);
        let Job {
            checkpoint, key, len, ..
        } = job;
        if !is_whole || given_up {
            state.counts.not_copied += 1;
            state.to_remove.push(Removal { path, len });
            return;
        }
        state.counts.copied += 1;
        let copy = Copy {
            checkpoint,
            path,
            len,
        };
        if let Some(before) = state.copies.insert(key, copy) {
            state.remove(before);
        }
    }

    /// Removes a file. One that cannot be removed counts as gone: the next run of the job removes it.
    async fn remove(&self, removal: Removal) {
        match self.0.env.files().remove_file(&removal.path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::debug!(%error, "a local copy is left behind");
            }
            _ => {}
        }
        self.state().file_bytes -= removal.len;
    }
}

/// Removes what runs before, which are fenced, have left beside this one's folder.
pub(super) async fn remove_older_runs(files: &dyn Files, dir: &Path) {
    let (Some(above), Some(own)) = (dir.parent(), number_of(dir.file_name())) else {
        return;
    };
    // There is none before the first copy.
    let Ok(entries) = files.list(above).await else {
        return;
    };
    for entry in entries {
        if entry.is_dir && number_of(Some(OsStr::new(&entry.name))).is_some_and(|number| number < own) {
            clear(files, &above.join(&entry.name)).await;
        }
    }
}

/// Removes a run's folder, and the job's if nobody else has one in it.
pub(super) async fn remove_dir(files: &dyn Files, dir: &Path) {
    clear(files, dir).await;
    if let Some(above) = dir.parent() {
        let _ = files.remove_dir(above).await;
    }
}

/// Removes a folder of copies, as far as it can be.
async fn clear(files: &dyn Files, dir: &Path) {
    for entry in files.list(dir).await.unwrap_or_default() {
        let _ = files.remove_file(&dir.join(&entry.name)).await;
    }
    let _ = files.remove_dir(dir).await;
}

/// The number of the run that a folder's name begins with.
fn number_of(name: Option<&OsStr>) -> Option<u64> {
    let (number, _) = name?.to_str()?.strip_prefix('g')?.split_once('-')?;
    number.parse().ok()
}
