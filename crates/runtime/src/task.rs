//! A task: one subtask of a vertex. Its `step` does a bounded piece of work and returns; its slot calls it again.
//!
//! The order of concerns in a step: what is inside the chain first; then a cut that is due; then what the master sent, for
//! a source; then, in turns, new input and operators that are due by themselves; and beside all of it, the walk over frozen tables. Data move only while there is room
//! downstream; barriers, events and walks always.

mod overtake;
mod trace;

pub use overtake::Overtaking;

use crate::careful::FailedRow;
use crate::chain::{Chain, ChainState, NodeSnapshot};
use crate::gate::{Delivery, Gate};
use crate::messages::{OperatorEvent, TaskCommand};
use crate::metrics::SubtaskCounters;
use crate::metrics::time::Stopwatch;
use crate::metrics::trace::{Left, Tracer};
use crate::operator::{Lists, SubtaskInfo};
use crate::source::SourcePoll;
use rivermark_env::Env;
use rivermark_state::image::ImageSink;
use rivermark_state::{SnapshotHandle, SubtaskEntry, SubtaskSnapshot, Walk};
use rivermark_types::{Barrier, CheckpointId, Millis, NodeId, Result, SnapshotKind, Timestamp, Uid};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How a task shares its slot.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How long one step may take, in measured nanoseconds.
    pub step_ns: u64,
    /// Rows of frozen tables copied between two slices of work; and rows looked at for what has expired.
    pub walk_rows: usize,
    /// How long rows may wait in an outbox while the task is busy.
    pub linger: Duration,
}

/// When to look again for room to copy frozen tables.
const WALK_RETRY: Duration = Duration::from_millis(5);

/// A walk takes a twenty-fifth of a task's time: what it copies has to be encoded and stored too, by the same processors.
const WORK_PER_WALK: u64 = 24;
/// A task that only waits for room downstream has time: it walks as if it had worked for so many steps. Whoever works in its slot
/// keeps most of the slot.
const STEPS_WITHOUT_ROOM: u64 = 6;
/// And no more slices in a step than this, however little they seem to cost.
const MOST_SLICES: usize = 64;

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Something was done: step again.
    Progress,
    /// Nothing to do before the slot is woken, or before this time.
    Idle(Option<Millis>),
    /// The task has ended.
    Done,
}

/// One subtask at work.
pub struct Task {
    info: SubtaskInfo,
    env: Env,
    chain: Chain,
    /// `None` for a source.
    gate: Option<Gate>,
    /// Barriers and events for a source, in the order the master sent them.
    orders: VecDeque<TaskCommand>,
    /// The barrier that is on its way through the chain.
    cutting: Option<Barrier>,
    /// What that barrier has taken of the slot so far, in nanoseconds.
    cut_ns: u64,
    /// The snapshot whose rows are still being copied.
    walking: Option<Walking>,
    overtaking: Overtaking,
    progress: overtake::Progress,
    snapshots: SnapshotHandle,
    counters: Arc<SubtaskCounters>,
    pace: Pace,
    /// Set by a final barrier: nothing is emitted after it, by a source or by an operator that is called without input, since
    /// nobody commits it any more. What is due then is due again after a restore.
    stopped_by: Option<CheckpointId>,
    last_flush: Millis,
    stopwatch: Stopwatch,
    /// What the step is stuck at.
    left: Left,
    tracer: Tracer,
    /// The last turn was an operator's that was called without input.
    woke: bool,
    ended: bool,
}

struct Walking {
    checkpoint: CheckpointId,
    operators: Vec<NodeSnapshot>,
    rows: u64,
    /// About how many bytes of memory these are.
    bytes: u64,
}

impl Task {
    /// A task over its chain; `gate` is `None` exactly if the root is a source.
    pub fn new(
        info: SubtaskInfo,
        env: Env,
        chain: Chain,
        gate: Option<Gate>,
        snapshots: SnapshotHandle,
        counters: Arc<SubtaskCounters>,
        pace: Pace,
    ) -> Task {
        let last_flush = env.now();
        counters.attempt.store(info.attempt.0, Ordering::Relaxed);
        counters.traces.call_ends();
        Task {
            info,
            env,
            chain,
            gate,
            orders: VecDeque::new(),
            cutting: None,
            cut_ns: 0,
            walking: None,
            overtaking: Overtaking::default(),
            progress: overtake::Progress::default(),
            snapshots,
            pace,
            stopped_by: None,
            last_flush,
            stopwatch: Stopwatch::default(),
            left: Left::Idle,
            tracer: Tracer::new(&counters.trigger),
            woke: false,
            ended: false,
            counters,
        }
    }

    /// The same task, whose barriers may overtake.
    pub fn with_overtaking(mut self, overtaking: Overtaking) -> Task {
        self.overtaking = overtaking;
        self
    }

    /// Who this is.
    pub fn info(&self) -> &SubtaskInfo {
        &self.info
    }

    /// The operator at work, and the rows it was at work on.
    pub fn place(&self) -> (String, Option<String>) {
        let origin = match &self.gate {
            Some(gate) => gate.origin(self.chain.root_remaining()),
            None => self.chain.origin(),
        };
        (self.chain.place(), origin)
    }

    /// The operator at work in the graph, and the row it was at work on, if it ran carefully.
    pub fn failed_at(&self) -> (Option<NodeId>, Option<FailedRow>) {
        self.chain.failed_at()
    }

    /// Something from the master.
    pub fn command(&mut self, command: TaskCommand) -> Result<()> {
        match command {
            // A source takes these in stream order, between two polls; operators behind it hear at once, since what they
            // wait for may be just this.
            TaskCommand::Trigger(_) if self.chain.is_source() => {
                self.note_trigger();
                self.orders.push_back(command);
                Ok(())
            }
            TaskCommand::Event(node, _) if self.chain.is_source() && node == self.info.node => {
                self.orders.push_back(command);
                Ok(())
            }
            TaskCommand::Trigger(_) => Ok(()),
            TaskCommand::Event(node, event) => self.chain.on_event(Some(node), &event),
            TaskCommand::EventAll(event) => self.on_event_all(&event),
            TaskCommand::End => {
                self.ended = true;
                self.chain.push_end()
            }
        }
    }

    fn on_event_all(&mut self, event: &OperatorEvent) -> Result<()> {
        if let OperatorEvent::Aborted(checkpoint) = event {
            if self.stopped_by == Some(*checkpoint) {
                self.stopped_by = None;
            }
            if let Some(gate) = &mut self.gate {
                gate.abort(self.env.now(), *checkpoint);
            }
            self.tracer.close(*checkpoint);
            self.orders
                .retain(|order| !matches!(order, TaskCommand::Trigger(b) if b.checkpoint == *checkpoint));
        }
        if let OperatorEvent::Committed(checkpoint) = event {
            self.tracer.close(*checkpoint);
        }
        self.chain.on_event(None, event)
    }

    /// Does a bounded piece of work.
    pub fn step(&mut self) -> Result<Step> {
        let started = self.env.cost_ns();
        self.stopwatch.begin(started, &self.counters.time);
        self.left = Left::Idle;
        self.trace_step();
        let (mut progressed, mut worked_until) = (false, started);
        let idle_until = loop {
            match self.advance()? {
                Advance::Progress => progressed = true,
                Advance::Stuck(until) => break until,
                Advance::Ended => return Ok(Step::Done),
            }
            worked_until = self.env.cost_ns();
            if worked_until.saturating_sub(started) >= self.pace.step_ns {
                self.left = Left::Ready;
                break None;
            }
        };
        let worked = self.env.cost_ns().saturating_sub(started);
        let no_room = matches!(self.left, Left::NoRoom(_));
        let walked = self.walk_beside(match (progressed, no_room) {
            (true, _) => worked,
            (false, true) => self.pace.step_ns * STEPS_WITHOUT_ROOM,
            (false, false) => self.pace.step_ns,
        })?;
        let next_sweep = self.chain.sweep(self.pace.walk_rows);
        let now = self.env.now();
        self.stopwatch
            .end(worked_until, no_room, now, &self.counters.time);
        self.trace_end_of_step(now);
        if !progressed || now.since(self.last_flush) >= self.pace.linger {
            self.chain.flush()?;
            self.last_flush = now;
        }
        if progressed || walked || next_sweep == Some(Duration::ZERO) {
            return Ok(Step::Progress);
        }
        // The I/O side has no room for the image and tells nobody when it has: without another look, a checkpoint of a
        // job at rest would wait for whatever wakes the slot next.
        let look_again = self.walking.is_some().then(|| now.after(WALK_RETRY));
        let next_sweep = next_sweep.map(|wait| now.after(wait));
        let overtake_at = self.overtake_at().filter(|at| *at > now);
        let until = [idle_until, look_again, next_sweep, overtake_at];
        let until = until.into_iter().flatten().min();
        Ok(Step::Idle(until))
    }

    /// The next small thing there is to do. While a barrier passes, that is the synchronous part of a snapshot.
    fn advance(&mut self) -> Result<Advance> {
        if self.cutting.is_none() {
            return self.advance_once();
        }
        let started = self.env.cost_ns();
        let advance = self.advance_once();
        self.cut_ns += self.env.cost_ns().saturating_sub(started);
        if self.cutting.is_none() {
            let cut = std::mem::take(&mut self.cut_ns);
            self.counters.longest_freeze_ns.fetch_max(cut, Ordering::Relaxed);
        }
        advance
    }

    fn advance_once(&mut self) -> Result<Advance> {
        if self.chain.has_no_barrier()
            && let Some(barrier) = self.cutting.take()
        {
            self.chain.release();
            self.cut(barrier)?;
            return Ok(Advance::Progress);
        }
        if self.cutting.is_none()
            && let Some(advance) = self.overtake()?
        {
            return Ok(advance);
        }
        match self.chain.run()? {
            ChainState::Progress => return Ok(Advance::Progress),
            ChainState::NoRoom => {
                self.left = Left::NoRoom(self.chain.full_channel());
                SubtaskCounters::add(&self.counters.backpressured, 1);
                return Ok(Advance::Stuck(None));
            }
            ChainState::Waiting => {
                self.left = Left::Waiting(self.chain.at());
                return Ok(Advance::Stuck(None));
            }
            ChainState::Drained => {}
        }
        if self.ended {
            return Ok(Advance::Ended);
        }
        // What comes and what is due by itself take turns, so that neither keeps the other waiting.
        let woke = std::mem::take(&mut self.woke);
        if !woke && self.wake() {
            return Ok(Advance::Progress);
        }
        let input = match self.gate.is_some() {
            true => self.take_input()?,
            false => self.poll_source()?,
        };
        match input {
            Advance::Stuck(_) if woke && self.wake() => Ok(Advance::Progress),
            Advance::Stuck(until) => {
                let wake_at = self.chain.wake_at().filter(|_| self.stopped_by.is_none());
                let wake_at = wake_at.map(|time| self.env.deadline_of(time));
                Ok(Advance::Stuck([until, wake_at].into_iter().flatten().min()))
            }
            input => Ok(input),
        }
    }

    /// Whether an operator is to be called without input; its turn is next.
    fn wake(&mut self) -> bool {
        self.woke = self.stopped_by.is_none() && self.chain.wake();
        self.woke
    }

    fn take_input(&mut self) -> Result<Advance> {
        let now = self.env.now();
        let Some(delivery) = self.gate.as_mut().and_then(|gate| gate.poll(now)) else {
            return Ok(Advance::Stuck(None));
        };
        if let (Delivery::Nothing, Some(gate)) = (&delivery, &mut self.gate) {
            gate.note_arrivals(&self.counters.traces);
        }
        match delivery {
            Delivery::Rows(input, batch) => self.chain.push_rows(input, batch),
            Delivery::Watermark(watermark) => {
                self.counters.watermark.store(watermark.0, Ordering::Relaxed);
                self.chain.push_watermark(watermark);
            }
            Delivery::Status(activity) => self.chain.push_status(activity),
            Delivery::Cut(barrier) => self.start_cut(barrier, false)?,
            Delivery::Nothing => {}
        }
        Ok(Advance::Progress)
    }

    fn poll_source(&mut self) -> Result<Advance> {
        match self.orders.pop_front() {
            Some(TaskCommand::Trigger(barrier)) => {
                self.start_cut(barrier, false)?;
                return Ok(Advance::Progress);
            }
            Some(TaskCommand::Event(node, event)) => {
                self.chain.on_event(Some(node), &event)?;
                return Ok(Advance::Progress);
            }
            _ => {}
        }
        if self.stopped_by.is_some() {
            return Ok(Advance::Stuck(None));
        }
        match self.chain.poll_source()? {
            Some(SourcePoll::Emitted) => {
                let watermark = self
                    .chain
                    .nodes()
                    .first()
                    .map_or(i64::MIN, |node| node.watermark.0);
                self.counters.watermark.store(watermark, Ordering::Relaxed);
                Ok(Advance::Progress)
            }
            Some(SourcePoll::Idle(until)) => Ok(Advance::Stuck(until)),
            None => {
                self.left = Left::NoRoom(self.chain.full_channel());
                SubtaskCounters::add(&self.counters.backpressured, 1);
                Ok(Advance::Stuck(None))
            }
        }
    }

    /// The barrier enters the chain, behind or in front of the rows before its root. An image still under way is finished
    /// first: tables have one epoch at a time.
    fn start_cut(&mut self, barrier: Barrier, in_front: bool) -> Result<()> {
        if barrier.kind == SnapshotKind::Final {
            self.stopped_by = Some(barrier.checkpoint);
        }
        let started = self.env.cost_ns();
        while self.walk(usize::MAX)? {}
        self.forget_progress();
        self.cutting = Some(barrier);
        self.note_barriers(barrier);
        match in_front {
            true => self.chain.push_barrier_in_front(barrier),
            false => self.chain.push_barrier(barrier)?,
        }
        self.cut_ns = self.env.cost_ns().saturating_sub(started);
        Ok(())
    }

    /// The barrier has left the chain: everything before it is in the frozen tables and lists.
    fn cut(&mut self, barrier: Barrier) -> Result<()> {
        self.trace_cut(barrier.checkpoint);
        let operators = self.chain.take_snapshots();
        self.walking = Some(Walking {
            checkpoint: barrier.checkpoint,
            operators,
            rows: 0,
            bytes: 0,
        });
        // Who has no rows is done; the others walk later, beside the work.
        self.walk(0).map(drop)
    }

    /// Walks for a share of the time that was worked. Tells whether it did anything.
    fn walk_beside(&mut self, worked_ns: u64) -> Result<bool> {
        if self.walking.is_none() {
            return Ok(false);
        }
        // Rows that are saved before they change do not ask for room: here they pay for it.
        let mut walked = self.snapshots.help();
        let started = self.env.cost_ns();
        for _ in 0..MOST_SLICES {
            if !self.walk(self.pace.walk_rows)? {
                break;
            }
            walked = true;
            if self.env.cost_ns().saturating_sub(started) >= worked_ns / WORK_PER_WALK {
                break;
            }
        }
        Ok(walked)
    }

    /// Copies some rows of the frozen tables to the I/O side; acknowledges when all are out. Tells whether it did anything.
    fn walk(&mut self, budget: usize) -> Result<bool> {
        let Some(walking) = &mut self.walking else {
            return Ok(false);
        };
        // Where the I/O side is behind, the copying waits, never the records; what these have copied is still handed over.
        let has_room = budget == usize::MAX || self.snapshots.has_room();
        let mut budget = if has_room { budget } else { 0 };
        let mut sink = self.snapshots.sink(walking.checkpoint);
        let mut is_done = true;
        for node in self.chain.nodes_mut() {
            let Some(backend) = &mut node.backend else {
                continue;
            };
            let mut counted = Counted {
                sink: &mut sink,
                rows: &mut walking.rows,
                bytes: &mut walking.bytes,
            };
            if backend.is_walking() && backend.walk(budget, &mut counted) == Walk::More {
                is_done = false;
                budget = 0;
            }
        }
        if !is_done {
            return Ok(has_room);
        }
        if let Some(walking) = self.walking.take() {
            self.acknowledge(walking);
        }
        Ok(true)
    }

    fn acknowledge(&mut self, walking: Walking) {
        let Some((walking, in_flight)) = self.with_in_flight(walking) else {
            return;
        };
        self.trace_captured(&walking);
        let index = self.info.subtask.index;
        let entry = |operator: NodeSnapshot| {
            (
                operator.uid,
                SubtaskEntry {
                    index,
                    watermark: operator.watermark,
                    lists: operator.lists,
                    in_flight: vec![],
                },
            )
        };
        let mut operators: Vec<(Uid, SubtaskEntry)> = walking.operators.into_iter().map(entry).collect();
        if !in_flight.is_empty() {
            let name = &self.overtaking.name;
            let root = operators.iter_mut().find(|(uid, _)| uid == name);
            match root {
                Some((_, entry)) => entry.in_flight = in_flight,
                None => operators.push((
                    name.clone(),
                    SubtaskEntry {
                        index,
                        // Without a uid it has no state that rows could be late for: it begins anew.
                        watermark: Timestamp::MIN,
                        lists: Lists::new(),
                        in_flight,
                    },
                )),
            }
        }
        self.snapshots.subtask_done(SubtaskSnapshot {
            checkpoint: walking.checkpoint,
            attempt: self.info.attempt,
            subtask: self.info.subtask,
            operators,
            rows: walking.rows,
        });
    }
}

/// Counts the rows that pass to the I/O side.
struct Counted<'a, S> {
    sink: &'a mut S,
    rows: &'a mut u64,
    bytes: &'a mut u64,
}

impl<S: ImageSink> ImageSink for Counted<'_, S> {
    fn push(&mut self, chunk: rivermark_state::image::ImageChunk) {
        *self.rows += chunk.rows as u64;
        *self.bytes += chunk.bytes as u64;
        self.sink.push(chunk);
    }
}

enum Advance {
    Progress,
    Stuck(Option<Millis>),
    Ended,
}
