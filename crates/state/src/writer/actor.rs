//! The loop of the writer: takes messages, packs pages into objects, keeps the time, and has calls to the store made.
//!
//! A report waits in the queue of what is to be stored, so it is sent when all objects of its checkpoint before it are
//! there. Deletions have a queue of their own and never delay an object.

use super::calls::{Called, Calls, Deletion, Outcome, Retry, Spilled, StoreId};
use super::encoding::{Encoded, Encoding, Job};
use super::part::{Part, Plan, Rows};
use super::scratch::Scratch;
use super::trace::{PartTraces, StoredRows};
use super::{Message, PartReport, Room, SubtaskSnapshot, WriterConfig};
use crate::local_copies::LocalCopies;
use bytes::Bytes;
use rivermark_env::{BoxFuture, Env, TaskHandle};
use rivermark_storage::{Blob, BlobKey};
use rivermark_types::{CheckpointId, Millis};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use tokio::sync::mpsc;

/// How often a deletion is tried before the keys are reported.
const DELETE_TRIES: u32 = 6;

pub(super) struct Actor {
    env: Env,
    config: WriterConfig,
    reports: mpsc::UnboundedSender<PartReport>,
    inbox: mpsc::UnboundedReceiver<Message>,
    room: Arc<Room>,
    encoding: Arc<Encoding>,
    traces: Arc<PartTraces>,
    parts: BTreeMap<CheckpointId, Part>,
    scratch: BTreeMap<CheckpointId, Scratch>,
    steps: VecDeque<Step>,
    next_store: u64,
    deletions: VecDeque<Deletion>,
    calls: Calls,
    copies: Option<(LocalCopies, TaskHandle)>,
}

/// What is to be done for a checkpoint, in order.
struct Step {
    checkpoint: CheckpointId,
    work: Work,
}

enum Work {
    Store {
        id: StoreId,
        plan: Arc<Plan>,
        retry: Retry,
    },
    Report(Vec<SubtaskSnapshot>),
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
        (room, encoding, traces): (Arc<Room>, Arc<Encoding>, Arc<PartTraces>),
        copies: Option<(LocalCopies, TaskHandle)>,
    ) -> Actor {
        Actor {
            calls: Calls::new(env.clone(), blob),
            env,
            config,
            reports,
            inbox,
            room,
            encoding,
            traces,
            parts: BTreeMap::new(),
            scratch: BTreeMap::new(),
            steps: VecDeque::new(),
            next_store: 0,
            deletions: VecDeque::new(),
            copies,
        }
    }

    pub async fn run(mut self) {
        loop {
            self.seal_what_is_due().await;
            self.start_calls();
            let timer = self
                .next_time()
                .map(|at| self.env.sleep(at.since(self.env.now())));
            let event = tokio::select! {
                biased;
                called = self.calls.next() => Event::Called(called),
                message = self.inbox.recv() => Event::Message(message),
                () = elapsed(timer) => Event::Time,
            };
            match event {
                Event::Called(called) => self.on_called(called).await,
                Event::Message(Some(message)) => self.on_message(message).await,
                Event::Message(None) => break,
                Event::Time => {}
            }
        }
        self.encoding.close();
        if let Some(scratch) = self.calls.spilled().await.and_then(|spilled| spilled.scratch) {
            scratch.remove(&self.env).await;
        }
        for scratch in std::mem::take(&mut self.scratch).into_values() {
            scratch.remove(&self.env).await;
        }
        if let Some((copies, task)) = self.copies.take() {
            copies.end();
            task.join().await;
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
                if let Some(rows) = part.add_rows(rows) {
                    self.encode(checkpoint, rows);
                }
                self.bound_memory(checkpoint).await;
            }
            Message::Encoded { checkpoint, result } => self.on_encoded(checkpoint, result).await,
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
            Message::Decline { checkpoint, reason } => self.decline(checkpoint, reason).await,
            Message::Abort(checkpoint) => self.give_up(checkpoint).await,
            Message::Complete(checkpoint) => {
                self.parts.remove(&checkpoint);
                self.steps.retain(|step| step.checkpoint != checkpoint);
                self.remove_scratch(checkpoint).await;
                self.rest_if_idle();
            }
        }
    }

    fn rest_if_idle(&self) {
        if self.parts.is_empty() {
            self.encoding.rest();
        }
    }

    /// Has rows of a part encoded.
    fn encode(&mut self, checkpoint: CheckpointId, rows: Rows) {
        if let Some(part) = self.parts.get_mut(&checkpoint) {
            part.encoding += 1;
            self.encoding.add(Job { checkpoint, rows });
        }
    }

    /// Takes pages of a part, and cuts objects where they are full.
    async fn on_encoded(&mut self, checkpoint: CheckpointId, result: Result<Encoded, String>) {
        let Some(part) = self.parts.get_mut(&checkpoint) else {
            return;
        };
        part.encoding -= 1;
        let Encoded { pages, mut held } = match result {
            Ok(encoded) => encoded,
            Err(reason) => return self.decline(checkpoint, reason).await,
        };
        for (entry, bytes) in pages {
            let held = held.split(bytes.len());
            let Some(part) = self.parts.get_mut(&checkpoint) else {
                return;
            };
            part.add_page(entry, bytes, held);
            if part.is_full(self.config.object_target) {
                self.cut_object(checkpoint).await;
            }
        }
        self.bound_memory(checkpoint).await;
        if self.parts.get(&checkpoint).is_some_and(|part| part.is_sealing) {
            self.seal(checkpoint).await;
        }
    }

    /// Makes an object of the pages of a part, and has it stored.
    async fn cut_object(&mut self, checkpoint: CheckpointId) {
        let Some(part) = self.parts.get_mut(&checkpoint) else {
            return;
        };
        match part.plan_object() {
            Ok(None) => {}
            Ok(Some(plan)) => {
                self.next_store += 1;
                let work = Work::Store {
                    id: StoreId(self.next_store),
                    plan: Arc::new(plan),
                    retry: Retry::first(self.env.now()),
                };
                self.steps.push_back(Step { checkpoint, work });
            }
            Err(error) => self.decline(checkpoint, error.to_string()).await,
        }
    }

    /// Has all stored that a part has so far, and then its subtasks reported. Goes on when the last rows are encoded.
    async fn seal(&mut self, checkpoint: CheckpointId) {
        while let Some(rows) = self.parts.get_mut(&checkpoint).and_then(Part::take_rows) {
            self.encode(checkpoint, rows);
        }
        let Some(part) = self.parts.get_mut(&checkpoint) else {
            return;
        };
        part.seal_at = None;
        part.is_sealing = part.encoding > 0;
        if part.is_sealing {
            return;
        }
        self.cut_object(checkpoint).await;
        let Some(part) = self.parts.get_mut(&checkpoint) else {
            return;
        };
        let subtasks = part.take_arrived();
        let (encoded, stored) = (self.env.now(), None);
        let seen = subtasks
            .iter()
            .map(|of| (of.subtask, StoredRows { encoded, stored }));
        self.traces.note(checkpoint, |trace| trace.subtasks.extend(seen));
        let work = Work::Report(subtasks);
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

    /// Starts the calls that may be made now, and sends the reports that nothing is before.
    fn start_calls(&mut self) {
        let now = self.env.now();
        let mut unstored = BTreeSet::new();
        let mut left = VecDeque::with_capacity(self.steps.len());
        for Step { checkpoint, work } in std::mem::take(&mut self.steps) {
            match work {
                Work::Report(subtasks) if !unstored.contains(&checkpoint) => {
                    self.report(checkpoint, subtasks);
                    continue;
                }
                Work::Report(_) => {}
                Work::Store { id, ref plan, retry } => {
                    unstored.insert(checkpoint);
                    if retry.not_before <= now && self.calls.may_store() && !self.calls.is_busy_with(id) {
                        self.calls.store(id, plan.clone());
                    }
                }
            }
            left.push_back(Step { checkpoint, work });
        }
        self.steps = left;
        self.spill_if_full();
        let due = |deletion: &Deletion| deletion.retry.not_before <= now;
        if !self.calls.is_deleting()
            && let Some(place) = self.deletions.iter().position(due)
            && let Some(deletion) = self.deletions.remove(place)
        {
            self.calls.delete(deletion);
        }
    }

    /// Where memory is full, has the object that is stored last moved to the scratch file, if it has room there.
    fn spill_if_full(&mut self) {
        let is_full = self.room.held() > self.config.memory_limit;
        if let (Some((copies, _)), true) = (&self.copies, is_full) {
            copies.relieve();
        }
        let Some(dir) = self.config.scratch_dir.as_ref().filter(|_| is_full) else {
            return;
        };
        if self.calls.is_spilling() {
            return;
        }
        let waiting = self.steps.iter().rev().find_map(|step| match &step.work {
            Work::Store { id, plan, .. } if plan.is_in_memory() && !self.calls.is_busy_with(*id) => {
                Some((step.checkpoint, *id, plan.clone()))
            }
            _ => None,
        });
        let taken: u64 = self.scratch.values().map(Scratch::len).sum();
        let room = |plan: &Plan| taken.saturating_add(Scratch::room_for(plan.page_bytes()));
        let has_room = |plan: &Plan| room(plan) <= self.config.scratch_limit;
        if let Some((checkpoint, id, plan)) = waiting.filter(|(_, _, plan)| has_room(plan)) {
            let scratch = self.scratch.remove(&checkpoint);
            self.calls.spill((checkpoint, id), plan, scratch, dir.clone());
        }
    }

    /// The object is in the scratch file: what it held in memory goes.
    async fn on_spilled(&mut self, spilled: Spilled) {
        let Spilled {
            checkpoint,
            id,
            scratch,
            result,
        } = spilled;
        if !self.parts.contains_key(&checkpoint) {
            if let Some(scratch) = scratch {
                scratch.remove(&self.env).await;
            }
            return;
        }
        if let Some(scratch) = scratch {
            self.scratch.insert(checkpoint, scratch);
        }
        let bodies = match result {
            Ok(bodies) => bodies,
            Err(error) => {
                let reason = format!("its rows fill the memory, and the scratch file fails: {error}");
                return self.decline(checkpoint, reason).await;
            }
        };
        for step in &mut self.steps {
            if let Work::Store { id: other, plan, .. } = &mut step.work
                && *other == id
            {
                *plan = Arc::new(plan.moved_to(bodies));
                return;
            }
        }
    }

    fn report(&mut self, checkpoint: CheckpointId, subtasks: Vec<SubtaskSnapshot>) {
        let Some(part) = self.parts.get_mut(&checkpoint) else {
            return;
        };
        let (attempt, objects) = (part.attempt, std::mem::take(&mut part.stored));
        let now = self.env.now();
        self.traces.note(checkpoint, |trace| {
            trace.objects += objects.len() as u32;
            for subtask in &subtasks {
                if let Some(known) = trace.subtasks.get_mut(&subtask.subtask) {
                    known.stored = Some(now);
                }
            }
        });
        self.send(PartReport::Sealed {
            checkpoint,
            attempt,
            subtasks,
            objects,
        });
    }

    async fn on_called(&mut self, called: Called) {
        match called {
            Called::Stored {
                id,
                key,
                parts,
                outcome,
            } => self.on_stored(id, key, parts, outcome).await,
            Called::Spilled(spilled) => self.on_spilled(spilled).await,
            Called::Deleted {
                mut deletion,
                outcome,
            } => match outcome {
                Outcome::Done => {}
                Outcome::Again(_) if deletion.retry.tries + 1 < DELETE_TRIES => {
                    deletion.retry = deletion.retry.again(&self.env);
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

    async fn on_stored(&mut self, stored: StoreId, key: BlobKey, parts: Vec<Bytes>, outcome: Outcome) {
        let place = self
            .steps
            .iter()
            .position(|step| matches!(step.work, Work::Store { id, .. } if id == stored));
        let Some(place) = place else {
            // Its checkpoint was given up meanwhile.
            return self.delete(vec![key]);
        };
        let step = &mut self.steps[place];
        let (checkpoint, Work::Store { plan, retry, .. }) = (step.checkpoint, &mut step.work) else {
            return;
        };
        match outcome {
            Outcome::Done => {
                if let Some(part) = self.parts.get_mut(&checkpoint) {
                    part.stored.push(plan.object.clone());
                }
                if let Some((copies, _)) = &self.copies {
                    copies.offer(checkpoint, key, parts, plan.clone());
                }
                self.steps.remove(place);
            }
            Outcome::Again(reason) => {
                tracing::warn!(reason = %reason, %checkpoint, tries = retry.tries + 1, "an object is not stored yet");
                *retry = retry.again(&self.env);
                self.traces.note(checkpoint, |trace| {
                    trace.retries += 1;
                    trace.last_error = Some(reason);
                });
            }
            Outcome::Failed(reason) => self.decline(checkpoint, reason).await,
        }
    }

    /// Where memory is beyond its hard limit, nothing more is taken in before enough of it is in the scratch file; a checkpoint
    /// of which that takes nothing more is declined.
    async fn bound_memory(&mut self, checkpoint: CheckpointId) {
        while self.room.is_exhausted() {
            self.spill_if_full();
            match self.calls.spilled().await {
                Some(spilled) => self.on_spilled(spilled).await,
                None => {
                    let reason =
                        "its rows fill the memory for snapshots: the store or the encoding is too slow";
                    return self.decline(checkpoint, reason.into()).await;
                }
            }
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

    /// Forgets a checkpoint and has its objects deleted: those that are being stored now, when that has ended.
    async fn give_up(&mut self, checkpoint: CheckpointId) {
        let Some(part) = self.parts.remove(&checkpoint) else {
            return;
        };
        self.encoding.forget(checkpoint);
        if let Some((copies, _)) = &self.copies {
            copies.forget(checkpoint);
        }
        let mut keys = part.keys;
        self.steps.retain(|step| match &step.work {
            _ if step.checkpoint != checkpoint => true,
            Work::Store { id, plan, .. } if self.calls.is_storing(*id) => {
                keys.retain(|key| *key != plan.object.key);
                false
            }
            _ => false,
        });
        self.delete(keys);
        self.remove_scratch(checkpoint).await;
        self.rest_if_idle();
    }

    fn delete(&mut self, keys: Vec<BlobKey>) {
        if !keys.is_empty() {
            let retry = Retry::first(self.env.now());
            self.deletions.push_back(Deletion { keys, retry });
        }
    }

    async fn remove_scratch(&mut self, checkpoint: CheckpointId) {
        if let Some(scratch) = self.scratch.remove(&checkpoint) {
            scratch.remove(&self.env).await;
        }
    }

    /// When something is to be done even if nobody says anything.
    fn next_time(&self) -> Option<Millis> {
        let seals = self.parts.values().filter_map(|part| part.seal_at);
        let stores = self.steps.iter().filter_map(|step| match &step.work {
            Work::Store { id, retry, .. } if !self.calls.is_busy_with(*id) => Some(retry.not_before),
            _ => None,
        });
        let deletions = self.deletions.iter().map(|deletion| deletion.retry.not_before);
        // While as many calls are under way as may be, the end of one is what the others wait for.
        let stores = stores.filter(|_| self.calls.may_store());
        let deletions = deletions.filter(|_| !self.calls.is_deleting());
        seals.chain(stores).chain(deletions).min()
    }

    fn send(&self, report: PartReport) {
        // Nobody listens any more only when the process is ending.
        let _ = self.reports.send(report);
    }
}

async fn elapsed(timer: Option<BoxFuture<'static, ()>>) {
    match timer {
        Some(timer) => timer.await,
        None => std::future::pending().await,
    }
}
