//! Rows that are ready to be encoded, and who does it: a task of the I/O runtime, and slots whose rows outrun it.
//!
//! Encoding is work, not waiting: where rows come faster than the task encodes them, more memory would only put off the
//! end. More tasks would end a checkpoint sooner and take more processors from the slots meanwhile. So a slot that has filled the queue takes a job from it between two batches ([`Encoding::help`]), which slows its
//! records by what their rows cost, and by nothing else. What is encoded goes to the writer's loop.

use super::part::{Held, Rows, entry_of};
use super::{Message, Room};
use crate::object::PageEntry;
use crate::page_memory::PageMemory;
use bytes::Bytes;
use rivermark_types::CheckpointId;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedSender, WeakUnboundedSender};

/// Rows to be encoded.
pub(super) struct Job {
    pub checkpoint: CheckpointId,
    pub rows: Rows,
}

/// Encoded rows, and the memory that they take.
pub(super) struct Encoded {
    pub pages: Vec<(PageEntry, Bytes)>,
    pub held: Held,
}

/// The queue.
#[derive(Default)]
pub(super) struct Encoding {
    jobs: Mutex<VecDeque<Job>>,
    added: Notify,
    closed: AtomicBool,
    memory: Arc<PageMemory>,
}

impl Encoding {
    pub fn add(&self, job: Job) {
        self.jobs().push_back(job);
        self.added.notify_one();
    }

    /// Drops what is queued of a checkpoint.
    pub fn forget(&self, checkpoint: CheckpointId) {
        self.jobs().retain(|job| job.checkpoint != checkpoint);
    }

    /// Gives the memory of pages back that nobody uses; for when no checkpoint is under way.
    pub fn rest(&self) {
        self.memory.clear();
    }

    /// Ends the task; what is queued is dropped.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.jobs().clear();
        self.added.notify_one();
    }

    /// Encodes one job, if there is one. For threads with other work to do.
    pub fn help(&self, room: &Arc<Room>, done: &UnboundedSender<Message>) -> bool {
        let job = self.jobs().pop_front();
        let found = job.is_some();
        if let Some(job) = job {
            let _ = done.send(job.encode(room, &self.memory));
        }
        found
    }

    /// What the task does until the queue is closed.
    pub async fn work(self: Arc<Self>, room: Arc<Room>, done: WeakUnboundedSender<Message>) {
        loop {
            if self.closed.load(Ordering::Acquire) {
                return;
            }
            // Not in the condition of a branch: the lock would be held all through it.
            let job = self.jobs().pop_front();
            let Some(job) = job else {
                // What was added or closed since the look is remembered, and completes this at once.
                self.added.notified().await;
                continue;
            };
            let encoded = job.encode(&room, &self.memory);
            match done.upgrade() {
                Some(done) => drop(done.send(encoded)),
                None => return,
            }
            // Jobs take milliseconds, and others have their work on this thread too.
            yield_once().await;
        }
    }

    fn jobs(&self) -> MutexGuard<'_, VecDeque<Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Job {
    fn encode(self, room: &Arc<Room>, memory: &Arc<PageMemory>) -> Message {
        let Job { checkpoint, rows } = self;
        let state = rows.state.clone();
        let result = rows.encode(memory).map(|pages| {
            let pages: Vec<_> = pages
                .into_iter()
                .map(|page| (entry_of(&state, &page), page.bytes))
                .collect();
            let bytes = pages.iter().map(|(_, bytes)| bytes.len()).sum();
            let held = Held::some(room, bytes);
            Encoded { pages, held }
        });
        Message::Encoded { checkpoint, result }
    }
}

async fn yield_once() {
    let mut yielded = false;
    poll_fn(|cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::row_codec;
    use crate::image::{ImageChunk, ImageRow, ImageRows, StateId, StateKind};
    use rivermark_types::KeyGroup;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn who_helps_encodes_what_waits_and_its_memory_is_counted_until_it_goes() {
        let room = Arc::new(Room {
            queued: AtomicUsize::new(100),
            held: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            limit: 1_000,
        });
        let row = ImageRow {
            group: KeyGroup(3),
            namespace: 0,
            key: 1u64,
            value: 2u64,
        };
        let chunk = ImageChunk {
            state: Arc::new(StateId {
                operator: "count".into(),
                name: "total".into(),
                kind: StateKind::Value,
            }),
            rows: 1,
            bytes: 100,
            content: Box::new(ImageRows::from(vec![row])),
            encoder: row_codec::<u64, u64>(),
        };
        let (done, mut inbox) = tokio::sync::mpsc::unbounded_channel();
        let queue = Encoding::default();
        let checkpoint = CheckpointId(4);
        queue.add(Job {
            checkpoint,
            rows: Rows::of(chunk, &room),
        });
        assert!(queue.help(&room, &done));
        assert!(!queue.help(&room, &done), "nothing is left");
        let Ok(Message::Encoded { result, .. }) = inbox.try_recv() else {
            panic!("nothing was encoded")
        };
        let encoded = result.unwrap();
        assert_eq!(room.queued.load(Ordering::Relaxed), 0);
        assert_eq!(room.held(), encoded.pages[0].1.len());
        drop(encoded);
        assert_eq!(room.held(), 0);
    }
}
