//! All instances of the operator at one parallelism, from their start or restore to their crash or end, with as much of a
//! master as they need: it decides checkpoints and opens the gate of sinks.

use crate::conditions::Conditions;
use crate::event::{Event, Keys, Portion, portions};
use crate::instance::{Instance, Turn, side_outputs, targets};
use crate::output::{Output, Port};
use crate::subject::Subject;
use rivermark_env::{Env, ManualClock};
use rivermark_runtime::Care;
use rivermark_runtime::build::NodePlan;
use rivermark_runtime::{
    Lists, NodeBody, OperatorEvent, OperatorReport, SinkPhase, SlotWaker, SubtaskInfo, TaskEvent,
    is_union_list,
};
use rivermark_state::RestoredState;
use rivermark_state::image::{ImageChunk, ImageSink, StateId};
use rivermark_types::{
    Attempt, Barrier, CheckpointId, Generation, JobName, KeyHash, MaxParallelism, NodeId, SnapshotKind,
    SubtaskId, Timestamp, Uid, VertexId,
};
use serde_json::Value;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use tokio::sync::mpsc;

const SEED: u64 = 0x5eed;
/// More wake-ups in vain than I/O tasks could have reason for while one element is worked at.
const VAIN_WAKES: usize = 100_000;

/// What all fleets of one case share: the operator, the sizes, the world.
pub(crate) struct Yard {
    pub(crate) env: Env,
    /// The processing time of `env`.
    pub(crate) clock: ManualClock,
    pub(crate) subject: Subject,
    pub(crate) conditions: Conditions,
    pub(crate) ports: Rc<[Port]>,
    pub(crate) keys: Rc<Keys>,
    pub(crate) attempts: Cell<u32>,
    pub(crate) checkpoints: Cell<u64>,
}

/// A finished snapshot, as bytes: what a restore would find in the store.
pub(crate) struct Snapshot {
    lists: Vec<String>,
    watermarks: Vec<Timestamp>,
    /// All that had been told.
    told: Vec<Timestamp>,
    /// The processing time.
    time: Timestamp,
    pages: Vec<(StateId, Vec<u8>)>,
}

/// A snapshot whose rows are still being copied.
struct Image {
    lists: Vec<String>,
    watermarks: Vec<Timestamp>,
    told: Vec<Timestamp>,
    time: Timestamp,
    frozen_rows: usize,
    chunks: Chunks,
}

#[derive(Default)]
struct Chunks(Vec<ImageChunk>);

impl ImageSink for Chunks {
    fn push(&mut self, chunk: ImageChunk) {
        self.0.push(chunk);
    }
}

pub(crate) struct Fleet {
    yard: Rc<Yard>,
    instances: Vec<Instance>,
    image: Option<Image>,
    is_restored: bool,
    /// The watermarks it was told, since the job began.
    told: Vec<Timestamp>,
    waker: SlotWaker,
    events: mpsc::UnboundedReceiver<TaskEvent>,
    /// Keeps the events open where no operator does.
    _sender: mpsc::UnboundedSender<TaskEvent>,
    /// Sink instances that have recommitted, and the checkpoint that each has committed.
    recommitted: BTreeSet<u32>,
    committed: BTreeMap<u32, CheckpointId>,
    /// The next instance that gets a row without a key.
    turn: usize,
}

impl Fleet {
    /// Starts afresh or from a snapshot, at a parallelism.
    pub(crate) fn start(yard: &Rc<Yard>, parallelism: u32, from: Option<&Snapshot>) -> Result<Fleet, String> {
        let (sender, events) = mpsc::unbounded_channel();
        let waker = SlotWaker::default();
        let attempt = yard.attempts.get() + 1;
        yard.attempts.set(attempt);
        if let Some(from) = from {
            // Before they open: state that has expired by then is not restored.
            yard.clock.set(from.time);
        }
        let shares = from.map_or_else(|| Ok(vec![]), |from| from.deal(parallelism as usize))?;
        let mut instances = vec![];
        for index in 0..parallelism {
            let (lists, watermark) = match shares.get(index as usize) {
                Some(share) => share.clone(),
                None => (Lists::new(), Timestamp::MIN),
            };
            let plan = NodePlan {
                info: info(attempt, index, parallelism),
                body: NodeBody::Operator(yard.subject.factory.clone()),
                keyed: yard.keys.is_keyed(),
                targets: targets(&yard.ports),
                side_outputs: side_outputs(&yard.ports),
                care: Care::default(),
                lists,
                watermark,
            };
            let keyed = from.map(Snapshot::keyed);
            let node = plan
                .build(&yard.env, &waker, SEED, keyed, &sender)
                .map_err(|failure| format!("instance {index} of {parallelism} does not open: {failure}"))?;
            let (slice, credit) = (yard.conditions.slice(), yard.conditions.credit());
            instances.push(Instance::new(&yard.env, node, yard.ports.clone(), slice, credit));
        }
        let told = from.map_or_else(Vec::new, |from| from.told.clone());
        if from.is_some() {
            // As sources do: operators that hold marks have not passed all of them on.
            for instance in &mut instances {
                told.iter()
                    .for_each(|mark| instance.give(Portion::Watermark(*mark)));
            }
        }
        Ok(Fleet {
            yard: yard.clone(),
            instances,
            image: None,
            is_restored: from.is_some(),
            told,
            waker,
            events,
            _sender: sender,
            recommitted: BTreeSet::new(),
            committed: BTreeMap::new(),
            turn: 0,
        })
    }

    /// Feeds events until all are worked off.
    pub(crate) async fn feed(&mut self, events: &[Event]) -> Result<(), String> {
        let dealt = self.deal(events);
        self.feed_portions(dealt).await
    }

    fn deal(&mut self, events: &[Event]) -> Vec<(usize, Portion)> {
        let count = self.instances.len();
        let max = MaxParallelism::default_for(1);
        let turn = &mut self.turn;
        let owner = |hash: Option<KeyHash>| match hash {
            Some(hash) => max.subtask_of(max.group_of(hash), count as u32) as usize,
            None => {
                *turn += 1;
                *turn % count
            }
        };
        let keys = self.yard.keys.clone();
        portions(events, self.yard.conditions.batch, &keys, SEED, count, owner)
    }

    /// Feeds what was dealt out until all is worked off.
    pub(crate) async fn feed_portions(&mut self, dealt: Vec<(usize, Portion)>) -> Result<(), String> {
        for (at, portion) in dealt {
            if let Portion::ProcessingTime(time) = portion {
                self.pass_time(time).await?;
                continue;
            }
            if let Portion::Watermark(watermark) = portion
                && at == 0
            {
                self.told.push(watermark);
            }
            self.instances[at].give(portion);
            self.settle(at).await?;
            self.instances[at].sweep(1);
        }
        Ok(())
    }

    /// Moves processing time on, with a stop wherever an operator wants to be called.
    async fn pass_time(&mut self, until: Timestamp) -> Result<(), String> {
        loop {
            for at in 0..self.instances.len() {
                self.settle(at).await?;
            }
            if self.yard.clock.time() >= until {
                return Ok(());
            }
            let next = self.instances.iter().filter_map(Instance::wake_at).min();
            self.yard.clock.set(next.map_or(until, |next| next.min(until)));
        }
    }

    /// Feeds the first batch of the events, and lets a barrier overtake it after so many calls. What is then in flight, and
    /// what is left of the events; `None` if they begin with no rows or all were taken by then.
    pub(crate) async fn overtake(
        &mut self,
        events: &[Event],
        calls: usize,
    ) -> Result<Option<(CheckpointId, Vec<(usize, Portion)>)>, String> {
        let mut left = self.deal(events);
        let Some((at, Portion::Rows(input, batch))) = left.first().cloned() else {
            return Ok(None);
        };
        self.instances[at].give(Portion::Rows(input, batch));
        for _ in 0..calls {
            self.hear_all()?;
            if self.instances[at].turn()? != Turn::Again {
                break;
            }
        }
        let Some(rest) = self.instances[at].rest() else {
            self.feed_portions(left.split_off(1)).await?;
            return Ok(None);
        };
        left[0] = (at, Portion::Rows(input, rest));
        let (checkpoint, mut image) = self.begin_image()?;
        let barrier = Barrier {
            checkpoint,
            kind: SnapshotKind::Checkpoint,
        };
        self.instances[at].give_barrier_in_front(barrier);
        while !self.instances[at].is_past_barrier() {
            self.hear_all()?;
            if self.instances[at].turn()? == Turn::Waiting {
                self.wait().await?;
            }
        }
        self.add_to_image(at, &mut image)?;
        self.image = Some(image);
        Ok(Some((checkpoint, left)))
    }

    fn begin_image(&mut self) -> Result<(CheckpointId, Image), String> {
        if self.image.is_some() {
            self.finish_image()?;
        }
        let checkpoint = CheckpointId(self.yard.checkpoints.get() + 1);
        self.yard.checkpoints.set(checkpoint.0);
        let image = Image {
            lists: vec![],
            watermarks: vec![],
            told: self.told.clone(),
            time: self.yard.clock.time(),
            frozen_rows: 0,
            chunks: Chunks::default(),
        };
        Ok((checkpoint, image))
    }

    /// What an instance stored for the barrier that has passed it.
    fn add_to_image(&mut self, at: usize, image: &mut Image) -> Result<(), String> {
        let instance = &mut self.instances[at];
        let snapshot = instance.take_snapshot()?;
        let lists = serde_json::to_string(&snapshot.lists).map_err(|error| error.to_string())?;
        image.lists.push(lists);
        image.watermarks.push(snapshot.watermark);
        image.frozen_rows += instance.state_rows();
        Ok(())
    }

    /// Lets a barrier pass; the rows of the snapshot follow by and by, at the latest in [`Fleet::finish_image`].
    pub(crate) async fn barrier(&mut self, kind: SnapshotKind) -> Result<CheckpointId, String> {
        let (checkpoint, mut image) = self.begin_image()?;
        for at in 0..self.instances.len() {
            self.instances[at].give_barrier(Barrier { checkpoint, kind })?;
            // Not woken: what comes out up to here belongs before the barrier.
            self.work_off(at).await?;
            self.add_to_image(at, &mut image)?;
        }
        self.image = Some(image);
        Ok(checkpoint)
    }

    /// The snapshot of the last barrier, encoded.
    pub(crate) fn finish_image(&mut self) -> Result<Snapshot, String> {
        while self.walk(64) {}
        let image = self.image.take().ok_or("there is no image")?;
        let copied: usize = image.chunks.0.iter().map(|chunk| chunk.rows).sum();
        if copied != image.frozen_rows {
            let frozen = image.frozen_rows;
            return Err(format!(
                "{frozen} rows of state were frozen, {copied} are in the snapshot"
            ));
        }
        let mut pages = vec![];
        for chunk in image.chunks.0 {
            let encoded = chunk.encoder.encode(vec![chunk.content]);
            let encoded = encoded.map_err(|error| format!("state cannot be encoded: {error}"))?;
            pages.extend(
                encoded
                    .into_iter()
                    .map(|page| ((*chunk.state).clone(), page.bytes.to_vec())),
            );
        }
        Ok(Snapshot {
            lists: image.lists,
            watermarks: image.watermarks,
            told: image.told,
            time: image.time,
            pages,
        })
    }

    /// The barrier's checkpoint is decided; sinks have committed it when this returns.
    pub(crate) async fn decide(&mut self, checkpoint: CheckpointId) -> Result<(), String> {
        self.tell_all(&OperatorEvent::Committed(checkpoint))?;
        // A sink has recommitted before its barrier passed; nothing else ever does.
        self.hear_all()?;
        for index in self.recommitted.clone() {
            while self.committed.get(&index).is_none_or(|done| *done < checkpoint) {
                self.wait().await?;
            }
        }
        Ok(())
    }

    /// The barrier's checkpoint will never be.
    pub(crate) fn abort(&mut self, checkpoint: CheckpointId) -> Result<(), String> {
        self.tell_all(&OperatorEvent::Aborted(checkpoint))
    }

    /// The output of all instances since the last look.
    pub(crate) fn take_output(&mut self) -> Result<Output, String> {
        let mut output: Option<Output> = None;
        for instance in &mut self.instances {
            let mut of_one = instance.take_output()?;
            of_one.is_ahead_of_marks = self.is_restored && instance.holds_marks();
            output = Some(match output {
                Some(others) => others.and(of_one),
                None => of_one,
            });
        }
        output.ok_or_else(|| "there are no instances".to_owned())
    }

    /// As a bounded job ends: a final checkpoint, its commit, the end. Returns the rest of the output and the number of rows
    /// of keyed state that are left.
    pub(crate) async fn end(mut self) -> Result<(Output, usize), String> {
        let last = self.barrier(SnapshotKind::Final).await?;
        self.finish_image()?;
        self.decide(last).await?;
        for at in 0..self.instances.len() {
            self.instances[at].give_end()?;
            self.work_off(at).await?;
        }
        let left = self.instances.iter().map(Instance::state_rows).sum();
        let mut output = self.take_output()?;
        output.outside = self.yard.subject.outside.as_ref().map_or(vec![], |look| look());
        Ok((output, left))
    }

    /// Calls an instance until it is done with what is before it and is due no more.
    async fn settle(&mut self, at: usize) -> Result<(), String> {
        loop {
            self.work_off(at).await?;
            if !self.instances[at].wake()? {
                return Ok(());
            }
        }
    }

    /// Calls an instance until it is done with what is before it.
    async fn work_off(&mut self, at: usize) -> Result<(), String> {
        let mut vain = 0;
        loop {
            if let Some(point) = self.yard.env.step_point() {
                point.await;
            }
            self.hear_all()?;
            match self.instances[at].turn()? {
                Turn::Drained => return Ok(()),
                Turn::Again => vain = 0,
                Turn::Waiting if vain < VAIN_WAKES => {
                    vain += 1;
                    self.wait().await?;
                }
                Turn::Waiting => return Err(format!("it was woken {VAIN_WAKES} times and still waits")),
            }
            self.walk(1);
            if self.yard.conditions.is_disturbed {
                self.instances[at].tell(&OperatorEvent::Aborted(CheckpointId(0)))?;
            }
        }
    }

    /// Copies some rows of an image that is under way; whether any is left.
    fn walk(&mut self, rows: usize) -> bool {
        let Some(image) = &mut self.image else {
            return false;
        };
        let mut left = false;
        for instance in &mut self.instances {
            left |= instance.walk(rows, &mut image.chunks);
        }
        left
    }

    /// Waits until an operator wakes the slot or tells the master something.
    async fn wait(&mut self) -> Result<(), String> {
        let waker = self.waker.clone();
        let mut woken = pin!(waker.woken());
        let events = &mut self.events;
        let event = poll_fn(|cx| match events.poll_recv(cx) {
            Poll::Ready(event) => Poll::Ready(event),
            Poll::Pending => woken.as_mut().poll(cx).map(|()| None),
        });
        let event = event.await;
        event.map_or(Ok(()), |event| self.hear(event))
    }

    fn hear_all(&mut self) -> Result<(), String> {
        while let Ok(event) = self.events.try_recv() {
            self.hear(event)?;
        }
        Ok(())
    }

    /// What a master makes of a report.
    fn hear(&mut self, event: TaskEvent) -> Result<(), String> {
        match event {
            TaskEvent::Failed { place, failure, .. } => Err(format!("{place} failed: {failure}")),
            TaskEvent::Report {
                subtask,
                report: OperatorReport::Sink(phase),
                ..
            } => self.hear_sink(subtask.index, phase),
            _ => Ok(()),
        }
    }

    fn hear_sink(&mut self, index: u32, phase: SinkPhase) -> Result<(), String> {
        match phase {
            SinkPhase::Recommitted => {
                self.recommitted.insert(index);
                match self.recommitted.len() == self.instances.len() {
                    true => self.instances[0].tell(&OperatorEvent::AbortUnlisted),
                    false => Ok(()),
                }
            }
            SinkPhase::UnlistedAborted => self.tell_all(&OperatorEvent::OpenGate),
            SinkPhase::Committed(checkpoint) => {
                self.committed.insert(index, checkpoint);
                Ok(())
            }
        }
    }

    fn tell_all(&mut self, event: &OperatorEvent) -> Result<(), String> {
        self.instances
            .iter_mut()
            .try_for_each(|instance| instance.tell(event))
    }
}

impl Snapshot {
    /// Lists and watermark for each instance of a new parallelism. At the old one each gets its own back; else entries are
    /// dealt one by one, more widely than the master does: an operator may not count on neighbours. Union lists go to all.
    fn deal(&self, parallelism: usize) -> Result<Vec<(Lists, Timestamp)>, String> {
        let parse = |text: &String| serde_json::from_str::<Lists>(text).map_err(|error| error.to_string());
        let lists: Vec<Lists> = self.lists.iter().map(parse).collect::<Result<_, _>>()?;
        let mut unions = Lists::new();
        for (name, entries) in lists.iter().flatten().filter(|(name, _)| is_union_list(name)) {
            unions.entry(name.clone()).or_default().extend(entries.clone());
        }
        let mut shares = self.divide(lists, parallelism);
        for (lists, _) in &mut shares {
            lists.extend(unions.clone());
        }
        Ok(shares)
    }

    fn divide(&self, lists: Vec<Lists>, parallelism: usize) -> Vec<(Lists, Timestamp)> {
        if lists.len() == parallelism {
            return lists.into_iter().zip(self.watermarks.iter().copied()).collect();
        }
        let watermark = self.watermarks.iter().copied().min().unwrap_or(Timestamp::MIN);
        let mut shares = vec![(Lists::new(), watermark); parallelism];
        let entries = lists.into_iter().flatten().flat_map(|(name, entries)| {
            let named = move |entry| (name.clone(), entry);
            entries.into_iter().map(named)
        });
        for (at, (name, entry)) in entries.enumerate() {
            let share: &mut Vec<Value> = shares[at % parallelism].0.entry(name).or_default();
            share.push(entry);
        }
        shares
    }

    /// All pages; each instance takes the rows of its own key groups.
    fn keyed(&self) -> RestoredState {
        let mut restored = RestoredState::default();
        for (state, page) in &self.pages {
            restored.add(state.clone(), page.clone());
        }
        restored
    }
}

fn info(attempt: u32, index: u32, parallelism: u32) -> SubtaskInfo {
    SubtaskInfo {
        job: JobName::from("verify"),
        generation: Generation(1),
        attempt: Attempt(attempt),
        subtask: SubtaskId {
            vertex: VertexId(0),
            index,
        },
        parallelism,
        max_parallelism: MaxParallelism::default_for(1),
        node: NodeId(0),
        uid: Some(Uid::from("under-test")),
        name: "operator under test".to_owned(),
    }
}
