//! The one place where a process writes snapshots: packs the rows of all its subtasks into objects, uploads them, and
//! only then reports.
//!
//! Layout: this file has the messages and the handle; `part` holds one checkpoint's share and decides what becomes an
//! object (pure); `encoding` is the queue of rows that are ready for it, and who takes from it; `actor` runs the loop: time,
//! packing, retries, cleaning up; `calls` are those to the store; `scratch` is the file that takes pages when memory is full;
//! `trace` keeps what explains a slow checkpoint. Non-goals: it decides nothing about a checkpoint's fate, writes no manifest, and
//! never makes a slot wait.
//!
//! Memory: rows on their way and encoded pages are held up to [`WriterConfig::memory_limit`]; further pages go to the
//! scratch file, up to [`WriterConfig::scratch_limit`]; then walks wait. At [`HARD_LIMIT`] times the limit (no scratch file or no room in it, or rows arrive faster than they are encoded) the
//! checkpoint is declined. A slot that asks [`SnapshotHandle::has_room`] before each slice of its walk, and
//! [`SnapshotHandle::help`] after each slice of its work, does not get there. The store
//! takes an object in one piece, so an object is at most a sixth of the limit however large its target is.

mod actor;
mod calls;
mod encoding;
mod part;
mod scratch;
#[cfg(test)]
mod tests;
mod trace;

pub use trace::{PartTrace, StoredRows};

use crate::image::{ImageChunk, ImageSink};
use crate::local_copies::{CopyLimits, LocalCopies};
use crate::manifest::SubtaskEntry;
use crate::object::ObjectRef;
use encoding::{Encoded, Encoding};
use rivermark_env::{Env, TaskHandle};
use rivermark_storage::{Blob, BlobKey};
use rivermark_types::{Attempt, CheckpointId, SubtaskId, Uid};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use trace::PartTraces;

/// How far beyond its memory limit a writer goes before it declines a checkpoint.
pub const HARD_LIMIT: usize = 4;

/// A walk goes on as long as rows that wait take less than this part of the memory limit: it keeps the encoding busy.
const WALK_SHARE: usize = 8;
/// Slots help when they take more than this part, so not for the rows of the walk, which can wait.
const HELP_SHARE: usize = 4;

/// What is stored and waits for the disk to be copied may take this part: the objects that are stored at once.
const COPY_SHARE: usize = 2;

/// The bounds of a writer.
#[derive(Clone, Debug)]
pub struct WriterConfig {
    /// The bytes of rows and pages to hold in memory.
    pub memory_limit: usize,
    /// The size at which an object is full; a sixth of the memory limit if that is less.
    pub object_target: usize,
    /// How long to wait for the process's other subtasks before sealing what is there.
    pub seal_after: Duration,
    /// Where scratch files go; without it, memory is all there is.
    pub scratch_dir: Option<PathBuf>,
    /// The bytes of all scratch files together.
    pub scratch_limit: u64,
    /// Where copies of what is stored are kept for a restart inside the process ([`LocalCopies`]); without it there are none. A
    /// job's start makes it a folder of this run alone.
    pub copy_dir: Option<PathBuf>,
    /// The bytes of all copies together.
    pub copy_limit: u64,
}

impl Default for WriterConfig {
    fn default() -> Self {
        WriterConfig {
            memory_limit: 64 << 20,
            object_target: 256 << 20,
            seal_after: Duration::from_millis(200),
            scratch_dir: None,
            scratch_limit: 16 << 30,
            copy_dir: None,
            copy_limit: 16 << 30,
        }
    }
}

/// What one subtask adds to a checkpoint when the last of its rows is handed over.
#[derive(Clone, Debug, PartialEq)]
pub struct SubtaskSnapshot {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// The subtask.
    pub subtask: SubtaskId,
    /// The deployment it belongs to.
    pub attempt: Attempt,
    /// What its operators had besides keyed rows.
    pub operators: Vec<(Uid, SubtaskEntry)>,
    /// How many keyed rows it handed over.
    pub rows: u64,
}

/// What a writer tells whoever started it.
#[derive(Clone, Debug, PartialEq)]
pub enum PartReport {
    /// These subtasks' rows are stored. A checkpoint may get several of these; it is whole with all objects of all.
    Sealed {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The deployment.
        attempt: Attempt,
        /// The subtasks, none of which was in an earlier report.
        subtasks: Vec<SubtaskSnapshot>,
        /// The objects, none of which was in an earlier report.
        objects: Vec<ObjectRef>,
    },
    /// This process cannot take part in the checkpoint. What it stored is being deleted.
    Declined {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The deployment.
        attempt: Attempt,
        /// Why, in one line.
        reason: String,
    },
    /// Objects that belong to nothing and could not be deleted (they may not even exist): somebody must try later.
    Orphaned {
        /// Their keys.
        keys: Vec<BlobKey>,
    },
}

/// Starts the writer of a process.
pub struct SnapshotWriter;

impl SnapshotWriter {
    /// Runs the writer on the I/O runtime until the last handle is gone; it then drops what is unfinished.
    pub fn spawn(
        env: &Env,
        blob: Arc<dyn Blob>,
        config: WriterConfig,
        reports: mpsc::UnboundedSender<PartReport>,
    ) -> (SnapshotHandle, TaskHandle) {
        let (sender, inbox) = mpsc::unbounded_channel();
        let room = Arc::new(Room {
            queued: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            limit: config.memory_limit,
        });
        let encoding = Arc::new(Encoding::default());
        let work = encoding.clone().work(room.clone(), sender.downgrade());
        env.spawn_io("snapshot encoder", work);
        let traces = Arc::new(PartTraces::default());
        let shared = (room.clone(), encoding.clone(), traces.clone());
        let limits = CopyLimits {
            files: config.copy_limit,
            waiting: (config.memory_limit / COPY_SHARE) as u64,
        };
        let copies = config
            .copy_dir
            .clone()
            .map(|dir| LocalCopies::start(env, dir, limits));
        let known = copies.as_ref().map(|(copies, _)| copies.clone());
        let actor = actor::Actor::new(env.clone(), blob, config, reports, inbox, shared, copies);
        let task = env.spawn_io("snapshot writer", actor.run());
        let handle = SnapshotHandle {
            sender,
            room,
            encoding,
            traces,
            copies: known,
        };
        (handle, task)
    }
}

/// Talks to the writer of the process. No call blocks or fails; after the writer's end they do nothing.
#[derive(Clone)]
pub struct SnapshotHandle {
    sender: mpsc::UnboundedSender<Message>,
    room: Arc<Room>,
    encoding: Arc<Encoding>,
    traces: Arc<PartTraces>,
    copies: Option<LocalCopies>,
}

impl SnapshotHandle {
    /// Announces a checkpoint, before any of its barriers is sent: `expected` subtasks of this process take part. Objects
    /// go below `key_prefix`, which no other process, attempt or checkpoint may use.
    pub fn begin(&self, checkpoint: CheckpointId, attempt: Attempt, key_prefix: String, expected: u32) {
        self.send(Message::Begin {
            checkpoint,
            attempt,
            key_prefix,
            expected,
        });
    }

    /// Hands over rows. Those of a checkpoint that is unknown, aborted or declined are dropped.
    pub fn chunk(&self, checkpoint: CheckpointId, chunk: ImageChunk) {
        let bytes = chunk.bytes;
        self.room.queued.fetch_add(bytes, Ordering::Relaxed);
        self.room.note_peak();
        if self.sender.send(Message::Chunk { checkpoint, chunk }).is_err() {
            self.room.queued.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Ends a subtask's part: all its chunks were handed over before, by the same thread.
    pub fn subtask_done(&self, snapshot: SubtaskSnapshot) {
        self.send(Message::SubtaskDone(snapshot));
    }

    /// Gives a checkpoint up and deletes what was stored for it, reported or not. Never after its decision was proposed.
    pub fn abort(&self, checkpoint: CheckpointId) {
        self.send(Message::Abort(checkpoint));
    }

    /// A subtask cannot take part: the process does not either.
    pub fn decline(&self, checkpoint: CheckpointId, reason: String) {
        self.send(Message::Decline { checkpoint, reason });
    }

    /// Lets go of a checkpoint that was decided: its objects now belong to the manifest.
    pub fn complete(&self, checkpoint: CheckpointId) {
        self.send(Message::Complete(checkpoint));
    }

    /// A restart starts from this checkpoint from now on: copies of those before go.
    pub fn restarts_from(&self, checkpoint: CheckpointId) {
        if let Some(copies) = &self.copies {
            copies.keep_from(checkpoint);
        }
    }

    /// The local copies of what was stored, if any are kept.
    pub fn local_copies(&self) -> Option<&LocalCopies> {
        self.copies.as_ref()
    }

    /// Whether a walk had better go on now, or later. An update to a row that is not captured yet need not ask.
    pub fn has_room(&self) -> bool {
        let held = self.room.held.load(Ordering::Relaxed);
        let queued = self.room.queued.load(Ordering::Relaxed);
        held <= self.room.limit && queued <= self.room.limit / WALK_SHARE
    }

    /// Encodes some rows on this thread if so many wait that the writer is behind; tells whether it did. Milliseconds of
    /// work, no waiting. For whoever hands over rows without asking for room.
    pub fn help(&self) -> bool {
        let queued = self.room.queued.load(Ordering::Relaxed);
        queued > self.room.limit / HELP_SHARE && self.encoding.help(&self.room, &self.sender)
    }

    /// What has become of a checkpoint's rows, if it is one of the newest.
    pub fn trace(&self, checkpoint: CheckpointId) -> Option<PartTrace> {
        self.traces.of(checkpoint)
    }

    /// The most bytes of rows and pages that were ever in memory at once.
    pub fn peak_bytes(&self) -> usize {
        self.room.peak.load(Ordering::Relaxed)
    }

    /// Where the tables put their rows for a checkpoint.
    pub fn sink(&self, checkpoint: CheckpointId) -> SnapshotSink {
        SnapshotSink {
            handle: self.clone(),
            checkpoint,
        }
    }

    fn send(&self, message: Message) {
        // The writer is gone only when its process is ending.
        let _ = self.sender.send(message);
    }
}

/// A checkpoint's end of a [`SnapshotHandle`].
pub struct SnapshotSink {
    handle: SnapshotHandle,
    checkpoint: CheckpointId,
}

impl ImageSink for SnapshotSink {
    fn push(&mut self, chunk: ImageChunk) {
        self.handle.chunk(self.checkpoint, chunk);
    }
}

/// What the slots and the JobMaster tell the writer.
enum Message {
    Begin {
        checkpoint: CheckpointId,
        attempt: Attempt,
        key_prefix: String,
        expected: u32,
    },
    Chunk {
        checkpoint: CheckpointId,
        chunk: ImageChunk,
    },
    Encoded {
        checkpoint: CheckpointId,
        result: Result<Encoded, String>,
    },
    SubtaskDone(SubtaskSnapshot),
    Decline {
        checkpoint: CheckpointId,
        reason: String,
    },
    Abort(CheckpointId),
    Complete(CheckpointId),
}

/// Bytes in memory, counted on both sides.
struct Room {
    /// Rows that are handed over and not encoded yet.
    queued: AtomicUsize,
    /// Encoded pages that are in memory and not stored yet.
    held: AtomicUsize,
    /// The most that both ever were together.
    peak: AtomicUsize,
    /// The memory limit.
    limit: usize,
}

impl Room {
    fn note_peak(&self) {
        let total = self.held().saturating_add(self.queued.load(Ordering::Relaxed));
        self.peak.fetch_max(total, Ordering::Relaxed);
    }
    fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
    fn is_exhausted(&self) -> bool {
        let total = self.held().saturating_add(self.queued.load(Ordering::Relaxed));
        total > self.limit.saturating_mul(HARD_LIMIT)
    }
}
