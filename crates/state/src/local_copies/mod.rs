//! Local copies of what this process has stored: a restart inside the process reads them instead of the store.
//!
//! Nothing depends on a copy. It is made of the same bytes as the object, after the object is stored, and is given up before
//! anything waits for it; it is never synced, and nobody looks for one that this process has not written itself. A reader
//! checks every byte against what the manifest says, whoever it has it from, and asks the store for what is missing or not
//! as it was written ([`crate::SnapshotReader`]).
//!
//! Layout: this file knows which copies there are and which are wanted; `worker` writes and removes the files.
//! Non-goals: it decides nothing about checkpoints, and keeps nothing for a later process.

#[cfg(test)]
mod tests;
mod worker;

use bytes::Bytes;
use rivermark_env::{Env, TaskHandle};
use rivermark_storage::BlobKey;
use rivermark_types::CheckpointId;
use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How long a copy may take to be read: a disk that hangs must not be worse than none.
const PATIENCE: Duration = Duration::from_secs(20);

/// The bounds of a process's copies.
#[derive(Clone, Debug)]
pub(crate) struct CopyLimits {
    /// The bytes of all files together.
    pub files: u64,
    /// The bytes that may wait in memory for the disk.
    pub waiting: u64,
}

/// What has become of copies so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalCounts {
    /// Objects that were copied.
    pub copied: u64,
    /// Objects that were not: there was no room for their copy, its checkpoint or its memory was given up, or the disk failed.
    pub not_copied: u64,
    /// Bytes of copies that are there now.
    pub bytes: u64,
    /// Bytes that were read from copies.
    pub read: u64,
    /// Copies that were missing, cut off or damaged when they were wanted: the store had to be asked.
    pub lost: u64,
}

/// The copies of a process. Cheap to clone; clones are the same copies. No call waits for the disk but a read.
#[derive(Clone)]
pub struct LocalCopies(Arc<Inner>);

struct Inner {
    env: Env,
    dir: PathBuf,
    limits: CopyLimits,
    state: Mutex<State>,
    /// There is something to do.
    work: Notify,
}

#[derive(Default)]
struct State {
    copies: BTreeMap<BlobKey, Copy>,
    waiting: VecDeque<Job>,
    writing: Option<Writing>,
    to_remove: Vec<Removal>,
    /// What files take, from when they are planned until they are gone.
    file_bytes: u64,
    /// Checkpoints older than this are of no use to a restart.
    oldest: CheckpointId,
    ended: bool,
    counts: LocalCounts,
}

/// A copy that is whole.
struct Copy {
    checkpoint: CheckpointId,
    path: Arc<Path>,
    len: u64,
}

/// An object that is to be copied.
struct Job {
    checkpoint: CheckpointId,
    key: BlobKey,
    parts: Vec<Bytes>,
    len: u64,
    /// Whatever accounts for the memory that the parts take.
    _held: Box<dyn Any + Send + Sync>,
}

/// The copy that is being made.
struct Writing {
    checkpoint: CheckpointId,
    len: u64,
    given_up: bool,
}

struct Removal {
    path: Arc<Path>,
    len: u64,
}

impl LocalCopies {
    /// Starts with no copies. They go to `dir`, which is this process's alone, and whose name begins with `g` and the number of
    /// the run: folders beside it of runs before are removed. The task ends after [`LocalCopies::end`].
    pub(crate) fn start(env: &Env, dir: PathBuf, limits: CopyLimits) -> (LocalCopies, TaskHandle) {
        let copies = LocalCopies(Arc::new(Inner {
            env: env.clone(),
            dir,
            limits,
            state: Mutex::default(),
            work: Notify::new(),
        }));
        let task = env.spawn_io("local copies", worker::run(copies.clone()));
        (copies, task)
    }

    /// Removes what runs before have left, for one that makes no copies itself; `dir` is what it would use.
    pub async fn sweep(env: &Env, dir: &Path) {
        let files = env.files();
        worker::remove_older_runs(files.as_ref(), dir).await;
        worker::remove_dir(files.as_ref(), dir).await;
    }

    /// An object is stored and may be copied, if there is room.
    pub(crate) fn offer(
        &self,
        checkpoint: CheckpointId,
        key: BlobKey,
        parts: Vec<Bytes>,
        held: impl Any + Send + Sync,
    ) {
        let len = parts.iter().map(|part| part.len() as u64).sum();
        let mut state = self.state();
        let waiting: u64 = state.waiting.iter().map(|job| job.len).sum();
        let writing = state.writing.as_ref().map_or(0, |writing| writing.len);
        let has_room = state.file_bytes.saturating_add(len) <= self.0.limits.files
            && waiting.saturating_add(writing).saturating_add(len) <= self.0.limits.waiting;
        if !has_room || checkpoint < state.oldest || state.ended {
            state.counts.not_copied += 1;
            return;
        }
        state.file_bytes += len;
        state.waiting.push_back(Job {
            checkpoint,
            key,
            parts,
            len,
            _held: Box::new(held),
        });
        drop(state);
        self.0.work.notify_one();
    }

    /// Memory is wanted: gives up what is not copied yet.
    pub(crate) fn relieve(&self) {
        self.change(|state| state.give_up(|_| true));
    }

    /// The checkpoint has come to nothing.
    pub(crate) fn forget(&self, checkpoint: CheckpointId) {
        self.change(|state| state.drop_copies(|of| of == checkpoint));
    }

    /// A restart starts from this checkpoint from now on: nobody wants those before.
    pub(crate) fn keep_from(&self, checkpoint: CheckpointId) {
        self.change(|state| {
            state.oldest = state.oldest.max(checkpoint);
            state.drop_copies(|of| of < checkpoint);
        });
    }

    /// The copy of an object is not what it should be.
    pub(crate) fn lose(&self, key: &BlobKey, why: &dyn fmt::Display) {
        tracing::warn!(%key, %why, "the local copy of an object is of no use: the store is asked");
        self.change(|state| {
            state.counts.lost += 1;
            if let Some(copy) = state.copies.remove(key) {
                state.remove(copy);
            }
        });
    }

    /// Those bytes of an object that were asked for, if there is a copy that can be read; not checked.
    pub(crate) async fn read(&self, key: &BlobKey, range: Range<u64>) -> Option<Bytes> {
        let path = self.state().copies.get(key).map(|copy| copy.path.clone())?;
        let len = range.end.checked_sub(range.start)?;
        let read = async {
            let mut file = self.0.env.files().open(&path).await?;
            let bytes = file
                .read_at(range.start, usize::try_from(len).unwrap_or(0))
                .await?;
            match bytes.len() as u64 == len {
                true => Ok(Bytes::from(bytes)),
                false => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            }
        };
        let result = tokio::select! {
            biased;
            result = read => result,
            () = self.0.env.sleep(PATIENCE) => Err(io::Error::from(io::ErrorKind::TimedOut)),
        };
        result.map_err(|error| self.lose(key, &error)).ok()
    }

    /// So many bytes of a copy were what they should be.
    pub(crate) fn was_of_use(&self, bytes: u64) {
        self.state().counts.read += bytes;
    }

    /// What has become of copies so far.
    pub fn counts(&self) -> LocalCounts {
        let state = self.state();
        LocalCounts {
            bytes: state.copies.values().map(|copy| copy.len).sum(),
            ..state.counts
        }
    }

    /// Removes all copies, and ends the task.
    pub(crate) fn end(&self) {
        self.change(|state| {
            state.ended = true;
            state.drop_copies(|_| true);
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.0.work.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for LocalCopies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocalCopies").field(&self.0.dir).finish()
    }
}

impl State {
    /// Gives up what is not copied yet of some checkpoints.
    fn give_up(&mut self, whose: impl Fn(CheckpointId) -> bool) {
        for job in std::mem::take(&mut self.waiting) {
            match whose(job.checkpoint) {
                true => {
                    self.counts.not_copied += 1;
                    self.file_bytes -= job.len;
                }
                false => self.waiting.push_back(job),
            }
        }
        if let Some(writing) = self.writing.as_mut().filter(|writing| whose(writing.checkpoint)) {
            writing.given_up = true;
        }
    }

    /// Wants nothing more of some checkpoints.
    fn drop_copies(&mut self, whose: impl Fn(CheckpointId) -> bool) {
        self.give_up(&whose);
        for (key, copy) in std::mem::take(&mut self.copies) {
            match whose(copy.checkpoint) {
                true => self.remove(copy),
                false => drop(self.copies.insert(key, copy)),
            }
        }
    }

    fn remove(&mut self, copy: Copy) {
        let Copy { path, len, .. } = copy;
        self.to_remove.push(Removal { path, len });
    }
}
