//! The loop of the writer: takes messages, encodes, keeps the time, and has at most one call to the store under way.
//!
//! Objects are stored in order, one at a time, and a report waits in the same queue, so it is sent when all before it is
//! stored. Deletions have a queue of their own and never delay an object. A call that runs when its checkpoint is aborted
//! runs to its end (a dropped write may still happen); its key is deleted after it.

use super::part::{PageBody, Part, Plan, Rows, entry_of};
use super::scratch::{Scratch, read_page};
use super::{Message, PartReport, Room, SubtaskSnapshot, WriterConfig};
use bytes::Bytes;
use rivermark_env::{BoxFuture, Env};
use rivermark_storage::{Blob, BlobKey, StorageError, StorageErrorKind};
use rivermark_types::{CheckpointId, Millis};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// The first wait before a call is repeated; it doubles up to [`LAST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LAST_WAIT: Duration = Duration::from_secs(10);
/// How often a deletion is tried before the keys are reported.
const DELETE_TRIES: u32 = 6;

pub(super) struct Actor {
    env: Env,
    blob: Arc<dyn Blob>,
    config: WriterConfig,
    reports: mpsc::UnboundedSender<PartReport>,
    inbox: mpsc::UnboundedReceiver<Message>,
    room: Arc<Room>,
    parts: BTreeMap<CheckpointId, Part>,
    scratch: BTreeMap<CheckpointId, Scratch>,
    steps: VecDeque<Step>,
    deletions: VecDeque<Deletion>,
    call: Option<BoxFuture<'static, Called>>,
}

/// What is to be done for a checkpoint, in order.
struct Step {
    checkpoint: CheckpointId,
    work: Work,
}

enum Work {
    Store {
        plan: Arc<Plan>,
        scratch: Option<PathBuf>,
        retry: Retry,
    },
    Report(Vec<SubtaskSnapshot>),
}

struct Deletion {
    keys: Vec<BlobKey>,
    retry: Retry,
}

/// When a call may be made (again).
#[derive(Clone, Copy)]
struct Retry {
    tries: u32,
    not_before: Millis,
}

/// How a call to the store ended.
enum Called {
    Stored {
        checkpoint: CheckpointId,
        outcome: Outcome,
    },
    Deleted {
        deletion: Deletion,
        outcome: Outcome,
    },
}

enum Outcome {
    Done,
    Again(String),
    Failed(String),
}

/// What happened next.
enum Event {
    Called(Called),
    Message(Option<Message>),
    Time,
}

impl Actor {
    pub fn new(
        env: Env,
        blob: Arc<dyn Blob>,
        config: WriterConfig,
        reports: mpsc::UnboundedSender<PartReport>,
        inbox: mpsc::UnboundedReceiver<Message>,
        room: Arc<Room>,
    ) -> Actor {
        Actor {
            env,
            blob,
            config,
            reports,
            inbox,
            room,
            parts: BTreeMap::new(),
            scratch: BTreeMap::new(),
            steps: VecDeque::new(),
            deletions: VecDeque::new(),
            call: None,
        }
    }

    pub async fn run(mut self) {
        loop {
            self.seal_what_is_due().await;
            self.start_call();
            let timer = self
                .next_time()
                .map(|at| self.env.sleep(at.since(self.env.now())));
            let event = tokio::select! {
                biased;
                called = finished(&mut self.call) => Event::Called(called),
                message = self.inbox.recv() => Event::Message(message),
                () = elapsed(timer) => Event::Time,
            };
            match event {
                Event::Called(called) => {
                    self.call = None;
                    self.on_called(called).await;
                }
                Event::Message(Some(message)) => self.on_message(message).await,
                Event::Message(None) => break,
                Event::Time => {}
            }
        }
        for scratch in std::mem::take(&mut self.scratch).into_values() {
            scratch.remove(&self.env).await;
        }
    }

    async fn on_message(&mut self, message: Message) {
        match message {
            Message::Begin {
                checkpoint,
                attempt,
                key_prefix,
                expected,
            } => {
                let part = Part::new(attempt, key_prefix, expected, &self.room);
                self.parts.entry(checkpoint).or_insert(part);
            }
            Message::Chunk { checkpoint, chunk } => {
                // Counted out when dropped, also if nobody wants them.
                let rows = Rows::of(chunk, &self.room);
                let Some(part) = self.parts.get_mut(&checkpoint) else {
                    return;
                };
                if let Some(ripe) = part.add_rows(rows) {
                    self.encode(checkpoint, ripe).await;
                }
                if self.room.is_exhausted() {
                    let reason =
                        "its rows fill the memory for snapshots: the store or the encoding is too slow";
                    self.decline(checkpoint, reason.into()).await;
                }
            }
            Message::SubtaskDone(snapshot) => {
                let checkpoint = snapshot.checkpoint;
                let seal_at = self.env.now().after(self.config.seal_after);
                let Some(part) = self.parts.get_mut(&checkpoint) else {
                    return;
                };
                if snapshot.attempt != part.attempt {
                    return;
                }
                part.arrive(snapshot, seal_at);
                if part.is_complete() && part.seal_at.is_some() {
                    self.seal(checkpoint).await;
                }
            }
            Message::Abort(checkpoint) => self.give_up(checkpoint).await,
            Message::Complete(checkpoint) => {
                self.parts.remove(&checkpoint);
                self.steps.retain(|step| step.checkpoint != checkpoint);
                self.remove_scratch(checkpoint).await;
            }
        }
    }

    /// Encodes rows of a part into pages, and full objects into steps.
    async fn encode(&mut self, checkpoint: CheckpointId, rows: Rows) {
        let state = rows.state.clone();
        let pages = match rows.encode() {
            Ok(pages) => pages,
            Err(reason) => return self.decline(checkpoint, reason).await,
        };
        for page in pages {
            let entry = entry_of(&state, &page);
            let body = match self.keep(checkpoint, page.bytes).await {
                Ok(body) => body,
                Err(reason) => return self.decline(checkpoint, reason).await,
            };
            let Some(part) = self.parts.get_mut(&checkpoint) else {
                return;
            };
            part.add_page(entry, body);
            if part.is_full(self.config.object_target) {
                self.cut_object(checkpoint).await;
            }
        }
    }

    /// Finds a place for a page's bytes.
    async fn keep(&mut self, checkpoint: CheckpointId, bytes: Vec<u8>) -> Result<PageBody, String> {
        let fits = self.room.held().saturating_add(bytes.len()) <= self.config.memory_limit;
        let dir = match &self.config.scratch_dir {
            Some(dir) if !fits => dir,
            _ => return Ok(PageBody::Memory(Bytes::from(bytes))),
        };
        let full =
            |error: std::io::Error| format!("its rows fill the memory, and the scratch file fails: {error}");
        let scratch = match self.scratch.entry(checkpoint) {
            std::collections::btree_map::Entry::Occupied(place) => place.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(Scratch::create(&self.env, dir).await.map_err(full)?)
            }
        };
        scratch.append(bytes).await.map(PageBody::Scratch).map_err(full)
    }

    /// Makes an object of the pages of a part, and has it stored.
    async fn cut_object(&mut self, checkpoint: CheckpointId) {
        let Some(part) = self.parts.get_mut(&checkpoint) else {
            return;
        };
        match part.plan_object() {
            Ok(None) => {}
            Ok(Some(plan)) => {
                let scratch = self
                    .scratch
                    .get(&checkpoint)
                    .map(|scratch| scratch.path().to_owned());
                let retry = Retry {
                    tries: 0,
                    not_before: self.env.now(),
                };
                let work = Work::Store {
                    plan: Arc::new(plan),
                    scratch,
                    retry,
                };
                self.steps.push_back(Step { checkpoint, work });
            }
            Err(error) => self.decline(checkpoint, error.to_string()).await,
        }
    }

    /// Has all stored that a part has so far, and then its subtasks reported.
    async fn seal(&mut self, checkpoint: CheckpointId) {
        while let Some(rows) = self.parts.get_mut(&checkpoint).and_then(Part::take_rows) {
            self.encode(checkpoint, rows).await;
        }
        self.cut_object(checkpoint).await;
        let Some(part) = self.parts.get_mut(&checkpoint) else {
            return;
        };
        let work = Work::Report(part.take_arrived());
        self.steps.push_back(Step { checkpoint, work });
    }

    async fn seal_what_is_due(&mut self) {
        let now = self.env.now();
        let due = |part: &Part| part.seal_at.is_some_and(|at| at <= now);
        let due: Vec<CheckpointId> = self
            .parts
            .iter()
            .filter(|(_, part)| due(part))
            .map(|(id, _)| *id)
            .collect();
        for checkpoint in due {
            self.seal(checkpoint).await;
        }
    }

    /// Starts the next call that may be made now, if none is under way; sends the reports before it.
    fn start_call(&mut self) {
        if self.call.is_some() {
            return;
        }
        let now = self.env.now();
        while let Some(step) = self.steps.pop_front() {
            match step.work {
                Work::Report(subtasks) => self.report(step.checkpoint, subtasks),
                Work::Store { plan, scratch, retry } => {
                    if retry.not_before <= now {
                        let call = store(
                            self.env.clone(),
                            self.blob.clone(),
                            step.checkpoint,
                            plan.clone(),
                            scratch.clone(),
                        );
                        self.call = Some(Box::pin(call));
                    }
                    let work = Work::Store { plan, scratch, retry };
                    self.steps.push_front(Step { work, ..step });
                    break;
                }
            }
        }
        if self.call.is_none()
            && let Some(place) = self
                .deletions
                .iter()
                .position(|deletion| deletion.retry.not_before <= now)
            && let Some(deletion) = self.deletions.remove(place)
        {
            self.call = Some(Box::pin(delete(self.blob.clone(), deletion)));
        }
    }

    fn report(&mut self, checkpoint: CheckpointId, subtasks: Vec<SubtaskSnapshot>) {
        let Some(part) = self.parts.get_mut(&checkpoint) else {
            return;
        };
        let (attempt, objects) = (part.attempt, std::mem::take(&mut part.stored));
        self.send(PartReport::Sealed {
            checkpoint,
            attempt,
            subtasks,
            objects,
        });
    }

    async fn on_called(&mut self, called: Called) {
        match called {
            Called::Stored { checkpoint, outcome } => self.on_stored(checkpoint, outcome).await,
            Called::Deleted {
                mut deletion,
                outcome,
            } => match outcome {
                Outcome::Done => {}
                Outcome::Again(_) if deletion.retry.tries + 1 < DELETE_TRIES => {
                    deletion.retry = deletion.retry.again(self.env.now());
                    self.deletions.push_back(deletion);
                }
                Outcome::Again(reason) | Outcome::Failed(reason) => {
                    tracing::warn!(
                        reason,
                        "objects of a checkpoint that was given up are left behind"
                    );
                    self.send(PartReport::Orphaned { keys: deletion.keys });
                }
            },
        }
    }

    async fn on_stored(&mut self, checkpoint: CheckpointId, outcome: Outcome) {
        // The checkpoint may have been given up meanwhile, and its steps with it.
        let Some(part) = self.parts.get_mut(&checkpoint) else {
            return;
        };
        let Some(Step {
            work: Work::Store { plan, retry, .. },
            ..
        }) = self.steps.front_mut()
        else {
            return;
        };
        match outcome {
            Outcome::Done => {
                part.stored.push(plan.object.clone());
                self.steps.pop_front();
            }
            Outcome::Again(reason) => {
                tracing::warn!(reason, %checkpoint, tries = retry.tries + 1, "an object is not stored yet");
                *retry = retry.again(self.env.now());
            }
            Outcome::Failed(reason) => self.decline(checkpoint, reason).await,
        }
    }

    async fn decline(&mut self, checkpoint: CheckpointId, reason: String) {
        let Some(part) = self.parts.get(&checkpoint) else {
            return;
        };
        let attempt = part.attempt;
        self.give_up(checkpoint).await;
        self.send(PartReport::Declined {
            checkpoint,
            attempt,
            reason,
        });
    }

    /// Forgets a checkpoint and has its objects deleted.
    async fn give_up(&mut self, checkpoint: CheckpointId) {
        let Some(part) = self.parts.remove(&checkpoint) else {
            return;
        };
        self.steps.retain(|step| step.checkpoint != checkpoint);
        if !part.keys.is_empty() {
            let retry = Retry {
                tries: 0,
                not_before: self.env.now(),
            };
            self.deletions.push_back(Deletion {
                keys: part.keys,
                retry,
            });
        }
        self.remove_scratch(checkpoint).await;
    }

    async fn remove_scratch(&mut self, checkpoint: CheckpointId) {
        if let Some(scratch) = self.scratch.remove(&checkpoint) {
            scratch.remove(&self.env).await;
        }
    }

    /// When something is to be done even if nobody says anything.
    fn next_time(&self) -> Option<Millis> {
        let seals = self.parts.values().filter_map(|part| part.seal_at);
        let calls = self.deletions.iter().map(|deletion| deletion.retry.not_before);
        let store = self.steps.front().and_then(|step| match &step.work {
            Work::Store { retry, .. } => Some(retry.not_before),
            Work::Report(_) => None,
        });
        // While a call is under way, its end is what the others wait for.
        let calls = calls.chain(store).filter(|_| self.call.is_none());
        seals.chain(calls).min()
    }

    fn send(&self, report: PartReport) {
        // Nobody listens any more only when the process is ending.
        let _ = self.reports.send(report);
    }
}

impl Retry {
    fn again(self, now: Millis) -> Retry {
        let wait = FIRST_WAIT.saturating_mul(1 << self.tries.min(16)).min(LAST_WAIT);
        Retry {
            tries: self.tries + 1,
            not_before: now.after(wait),
        }
    }
}

impl Outcome {
    fn of(result: Result<(), StorageError>) -> Outcome {
        match result {
            Ok(()) => Outcome::Done,
            Err(error) if error.kind() == StorageErrorKind::Retryable => Outcome::Again(error.to_string()),
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }
}

/// One try at storing an object.
async fn store(
    env: Env,
    blob: Arc<dyn Blob>,
    checkpoint: CheckpointId,
    plan: Arc<Plan>,
    scratch: Option<PathBuf>,
) -> Called {
    let mut bytes = Vec::with_capacity(plan.pages.len() + 1);
    for (entry, body) in &plan.pages {
        match (body, &scratch) {
            (PageBody::Memory(page), _) => bytes.push(page.clone()),
            (PageBody::Scratch(offset), Some(path)) => match read_page(&env, path, *offset, entry).await {
                Ok(page) => bytes.push(Bytes::from(page)),
                Err(reason) => {
                    return Called::Stored {
                        checkpoint,
                        outcome: Outcome::Failed(reason),
                    };
                }
            },
            (PageBody::Scratch(_), None) => {
                let outcome = Outcome::Failed("its scratch file is gone".into());
                return Called::Stored { checkpoint, outcome };
            }
        }
    }
    bytes.push(plan.tail.clone());
    let outcome = Outcome::of(blob.put(&plan.object.key, bytes).await);
    Called::Stored { checkpoint, outcome }
}

/// One try at deleting some objects; those that are gone are taken off the list.
async fn delete(blob: Arc<dyn Blob>, mut deletion: Deletion) -> Called {
    while let Some(key) = deletion.keys.last() {
        match Outcome::of(blob.delete(key).await) {
            Outcome::Done => drop(deletion.keys.pop()),
            outcome => return Called::Deleted { deletion, outcome },
        }
    }
    Called::Deleted {
        deletion,
        outcome: Outcome::Done,
    }
}

async fn finished(call: &mut Option<BoxFuture<'static, Called>>) -> Called {
    match call {
        Some(call) => call.await,
        None => std::future::pending().await,
    }
}

async fn elapsed(timer: Option<BoxFuture<'static, ()>>) {
    match timer {
        Some(timer) => timer.await,
        None => std::future::pending().await,
    }
}
