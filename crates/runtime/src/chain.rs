//! Operators one behind the other in one task: a tree whose root is a source or takes what the gate gives.
//!
//! The chain always works at the deepest operator that has something to do, so what is on its way inside the task stays
//! small, and a barrier that enters at the root has everything before it drained out in front of it. Elements pass from
//! operator to operator by their queues; nothing here recurses, so an operator can be interrupted anywhere.

mod marks;
mod overtake;
mod place;
mod route;
mod source;
mod wake;

pub use marks::NodeSnapshot;

use crate::careful::{Care, Careful};
use crate::cursor::{HeldRows, RowCursor};
use crate::messages::OperatorEvent;
use crate::metrics::trace::{Call, Calls};
use crate::metrics::{MetricGroup, OperatorCounters, SubtaskCounters, Traces};
use crate::operator::{Cx, Flow, Operator, Output, SubtaskInfo};
use crate::outbox::Outbox;
use crate::side::SideOutputs;
use crate::source::SourceDriver;
use crate::waker::SlotWaker;
use rivermark_data::{Activity, Batch};
use rivermark_env::Env;
use rivermark_state::KeyedBackend;
use rivermark_types::{Barrier, Failure, InputId, NodeId, Result, SubtaskId, Timestamp};
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Where an output port leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To an input of an operator further down the chain.
    Node(usize, InputId),
    /// Out of the task.
    Outbox(usize),
}

/// What stands at a place of the chain.
pub enum Body {
    /// A source: the root only.
    Source(Box<dyn SourceDriver>),
    /// An operator.
    Operator(Box<dyn Operator>),
}

/// An operator in its place.
pub struct ChainNode {
    /// Who it is.
    pub info: SubtaskInfo,
    /// The operator.
    pub body: Body,
    /// Its keyed state, if it has any.
    pub backend: Option<KeyedBackend>,
    /// Where each output port leads.
    pub targets: Vec<Vec<Target>>,
    /// The highest watermark it has seen.
    pub watermark: Timestamp,
    sides: SideOutputs,
    queue: VecDeque<Work>,
    /// The one it was opened with.
    waker: SlotWaker,
    /// When it wants to be called without input.
    wake_at: Option<Timestamp>,
    holds_marks: bool,
    /// Its counters.
    counters: Arc<OperatorCounters>,
    /// The user's own metrics in it.
    metrics: MetricGroup,
    /// The port that records given up leave by.
    dead_letters: Option<u8>,
    /// Set while it runs carefully.
    careful: Option<Box<Careful>>,
    /// Nanoseconds a row costs here, averaged; 0 before the first.
    row_cost_ns: u64,
}

/// What waits before an operator.
enum Work {
    Rows(InputId, HeldRows),
    Watermark(Timestamp),
    Status(Activity),
    Barrier(Barrier),
    Wake,
    End,
}

/// What a call of [`Chain::run`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainState {
    /// Nothing is left in the chain.
    Drained,
    /// Something moved, and something is left.
    Progress,
    /// Rows wait for room downstream.
    NoRoom,
    /// An operator waits for something outside.
    Waiting,
}

/// Limits of one slice.
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    /// How long an operator may hold the slot, by the measured cost of its rows.
    pub budget_ns: u64,
    /// At most so many rows, however cheap.
    pub max_rows: usize,
}

impl Slice {
    /// How many rows fit, at so many nanoseconds each; a first guess while the cost is not known.
    fn rows_at(self, row_cost_ns: u64) -> usize {
        const FIRST_GUESS: u64 = 256;
        let affordable = self.budget_ns.checked_div(row_cost_ns).unwrap_or(FIRST_GUESS);
        usize::try_from(affordable)
            .unwrap_or(usize::MAX)
            .clamp(1, self.max_rows.max(1))
    }
}

impl ChainNode {
    /// An operator with nothing before it yet.
    pub(crate) fn new(
        info: SubtaskInfo,
        body: Body,
        backend: Option<KeyedBackend>,
        targets: Vec<Vec<Target>>,
        watermark: Timestamp,
        sides: SideOutputs,
        waker: SlotWaker,
    ) -> ChainNode {
        let operator = match &body {
            Body::Operator(operator) => Some(operator),
            Body::Source(_) => None,
        };
        let wake_at = operator.and_then(|operator| operator.wake_at());
        let holds_marks = operator.is_some_and(|operator| operator.holds_marks());
        ChainNode {
            counters: Arc::new(OperatorCounters::of(&info)),
            metrics: MetricGroup::default(),
            dead_letters: None,
            careful: None,
            info,
            body,
            backend,
            targets,
            watermark,
            sides,
            queue: VecDeque::new(),
            waker,
            wake_at,
            holds_marks,
            row_cost_ns: 0,
        }
    }

    /// The same operator, treated with this care.
    pub(crate) fn with_care(mut self, care: &Care) -> ChainNode {
        self.dead_letters = care.dead_letters;
        self.careful = Careful::new(care, &self.info);
        self
    }

    /// Whether it passes watermarks and status on by itself.
    pub fn holds_marks(&self) -> bool {
        self.holds_marks
    }

    /// The same operator, which counts into these if there are any.
    pub(crate) fn counted(mut self, counters: Option<Arc<OperatorCounters>>) -> ChainNode {
        self.counters = counters.unwrap_or(self.counters);
        self
    }

    /// The same operator, with metrics of the user's own.
    pub(crate) fn with_metrics(mut self, metrics: MetricGroup) -> ChainNode {
        self.metrics = metrics;
        self
    }

    fn learn_cost(&mut self, rows: usize, elapsed_ns: u64) {
        if rows > 0 {
            let cost = (elapsed_ns / rows as u64).max(1);
            self.row_cost_ns = if self.row_cost_ns == 0 {
                cost
            } else {
                (self.row_cost_ns * 7 + cost) / 8
            };
        }
    }
}

/// The operators of a task.
pub struct Chain {
    nodes: Vec<ChainNode>,
    outboxes: Vec<Outbox>,
    env: Env,
    counters: Arc<SubtaskCounters>,
    slice: Slice,
    emitted: Vec<Output>,
    /// Snapshots of the operators that the current barrier has passed.
    snapshots: Vec<NodeSnapshot>,
    /// Where the chain is at work, for the error that names it.
    at: usize,
    /// What the operator there is at work on. After an error or a panic it still says how far the operator came.
    in_hand: Option<Work>,
    stage: Cell<u32>,
    /// Operators may emit although there is no room.
    pressed: bool,
    /// When the first of the operators wants to be called.
    wake_at: Option<Timestamp>,
    /// The operator that was called last without input: the others' turn is next.
    woken: usize,
    /// What the operators were called for in this step.
    calls: Calls,
}

impl Chain {
    /// A chain of operators in topological order (each behind the one that feeds it), with the task's outboxes.
    pub fn new(
        env: Env,
        nodes: Vec<ChainNode>,
        outboxes: Vec<Outbox>,
        counters: Arc<SubtaskCounters>,
        slice: Slice,
    ) -> Chain {
        Chain {
            wake_at: nodes.iter().filter_map(|node| node.wake_at).min(),
            woken: 0,
            pressed: false,
            nodes,
            outboxes,
            env,
            counters,
            slice,
            emitted: vec![],
            snapshots: vec![],
            at: 0,
            in_hand: None,
            stage: Cell::new(0),
            calls: Calls::default(),
        }
    }

    /// What the operators were called for, and where that is told.
    pub(crate) fn calls(&mut self) -> (&mut Calls, &Traces) {
        (&mut self.calls, &self.counters.traces)
    }

    /// The operator at work or last at work, by its place.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// A subtask downstream whose channel takes no more.
    pub(crate) fn full_channel(&self) -> Option<SubtaskId> {
        self.outboxes.iter().find_map(Outbox::full)
    }

    fn called(&mut self, operator: usize, started: u64, rows: usize) -> u64 {
        self.counters.traces.call_ends();
        let ns = self.env.cost_ns().saturating_sub(started);
        self.calls.add(Call { operator, ns, rows });
        ns
    }

    /// The operators.
    pub fn nodes(&self) -> &[ChainNode] {
        &self.nodes
    }

    /// The operators, for walking their tables.
    pub fn nodes_mut(&mut self) -> &mut [ChainNode] {
        &mut self.nodes
    }

    /// Puts rows before the root.
    pub fn push_rows(&mut self, input: InputId, batch: Batch) {
        SubtaskCounters::add(&self.counters.records_in, batch.len());
        SubtaskCounters::add(&self.counters.batches_in, 1);
        SubtaskCounters::add(&self.counters.bytes_in, batch.bytes());
        self.push_root(Work::Rows(input, HeldRows::Erased(batch)));
    }

    fn push_root(&mut self, work: Work) {
        if let Some(root) = self.nodes.first_mut() {
            root.queue.push_back(work);
        }
    }

    /// Whether nothing is inside the chain.
    pub fn is_drained(&self) -> bool {
        self.nodes.iter().all(|node| node.queue.is_empty())
    }

    /// One call of one operator.
    pub fn run(&mut self) -> Result<ChainState> {
        let Some(at) = (0..self.nodes.len())
            .rev()
            .find(|&i| !self.nodes[i].queue.is_empty())
        else {
            return Ok(ChainState::Drained);
        };
        self.at = at;
        let Some(work) = self.nodes[at].queue.pop_front() else {
            return Ok(ChainState::Drained);
        };
        let room = self.room(at);
        if room == 0 && matches!(work, Work::Rows(..) | Work::Watermark(_) | Work::Wake) {
            self.nodes[at].queue.push_front(work);
            return Ok(ChainState::NoRoom);
        }
        // Barriers and the end pass full outboxes, so what operators emit for them does too, a row a call.
        self.in_hand = Some(work);
        let flow = self.call(at, room.min(self.slice.max_rows).max(1))?;
        self.learn_wake(at);
        self.route(at)?;
        if let Some(work) = self.in_hand.take() {
            match flow {
                Flow::Done => self.done(at, work)?,
                Flow::More | Flow::Wait => self.nodes[at].queue.push_front(work),
            }
        }
        Ok(if flow == Flow::Wait {
            ChainState::Waiting
        } else {
            ChainState::Progress
        })
    }

    /// Hands the element in hand to its operator.
    fn call(&mut self, at: usize, room: usize) -> Result<Flow> {
        self.stage.set(0);
        let Some(work) = &mut self.in_hand else {
            return Ok(Flow::Done);
        };
        let node = &mut self.nodes[at];
        let slice = self.slice.rows_at(node.row_cost_ns);
        // Timers and windows cost about what rows do: one slice for both.
        let room = if matches!(work, Work::Watermark(_) | Work::Wake) {
            room.min(slice)
        } else {
            room
        };
        if let (Work::Watermark(watermark), false) = (&*work, node.holds_marks) {
            node.watermark = node.watermark.max(*watermark);
        }
        if let Work::Watermark(watermark) = work {
            node.counters.watermark_in.store(watermark.0, Ordering::Relaxed);
        }
        if let Some(careful) = &mut node.careful {
            careful.look_away();
        }
        let mut cx = Cx {
            env: &self.env,
            out: &mut self.emitted,
            room,
            watermark: node.watermark,
            stage: &self.stage,
            counters: &self.counters,
            operator: &node.counters,
        };
        let Body::Operator(operator) = &mut node.body else {
            return Err(Failure::bug("an element was queued before a source"));
        };
        set_time(&node.backend, &self.env);
        let started = self.env.cost_ns();
        self.counters.traces.call_begins(at);
        let mut taken = 0;
        let flow = match work {
            Work::Rows(input, held) => {
                let before = crate::cursor::AnyRows::remaining(held);
                let flow = operator.on_batch(
                    *input,
                    &mut RowCursor::new(held, slice, node.careful.as_deref_mut()),
                    &mut cx,
                );
                let left = crate::cursor::AnyRows::remaining(held);
                taken = before - left;
                match flow {
                    // Done with rows left would lose them.
                    Ok(Flow::Done) if left > 0 => Ok(Flow::More),
                    flow => flow,
                }
            }
            Work::Watermark(watermark) => operator.on_watermark(*watermark, &mut cx),
            Work::Barrier(barrier) => operator.before_barrier(barrier, &mut cx),
            Work::End => operator.on_end(&mut cx),
            Work::Status(status) => operator.on_status(*status, &mut cx),
            Work::Wake => operator.on_wake(&mut cx),
        };
        OperatorCounters::bump(&node.counters.records_in, taken);
        node.metrics.flush(&node.counters.user);
        let flow = flow?;
        node.sides.flush(&mut self.emitted);
        let dead = node.careful.as_mut().and_then(|careful| careful.take_dead());
        self.emitted.extend(dead.map(Output::DeadLetters));
        let ns = self.called(at, started, taken);
        self.nodes[at].learn_cost(taken, ns);
        Ok(flow)
    }

    /// Something from the master for one operator, or for all.
    pub fn on_event(&mut self, node: Option<NodeId>, event: &OperatorEvent) -> Result<()> {
        for at in 0..self.nodes.len() {
            if node.is_some_and(|node| node != self.nodes[at].info.node) {
                continue;
            }
            self.at = at;
            if matches!(event, OperatorEvent::Committed(_)) {
                let careful = &mut self.nodes[at].careful;
                careful.take_if(|careful| !careful.checkpoint_decided());
            }
            if matches!(self.nodes[at].body, Body::Source(_)) {
                self.with_source(usize::MAX, |driver, cx| driver.on_event(event, cx))?;
                continue;
            }
            let ChainNode {
                body,
                backend,
                watermark,
                sides,
                counters,
                ..
            } = &mut self.nodes[at];
            set_time(backend, &self.env);
            let mut cx = Cx {
                env: &self.env,
                out: &mut self.emitted,
                room: usize::MAX,
                watermark: *watermark,
                stage: &self.stage,
                counters: &self.counters,
                operator: counters,
            };
            if let Body::Operator(operator) = body {
                operator.on_event(event, &mut cx)?;
            }
            sides.flush(&mut self.emitted);
            self.learn_wake(at);
            self.route(at)?;
        }
        Ok(())
    }

    /// Removes expired state, looking at about so many rows of each operator; how long there is nothing more to do.
    pub fn sweep(&mut self, rows: usize) -> Option<Duration> {
        let nodes = self.nodes.iter_mut();
        let waits = nodes.filter_map(|node| {
            let backend = node.backend.as_mut().filter(|backend| backend.has_ttl())?;
            let now = self.env.processing_time();
            backend.set_time(now);
            let wait = backend.sweep(rows)?.0.saturating_sub(now.0);
            Some(Duration::from_millis(wait.max(0).unsigned_abs()))
        });
        waits.min()
    }
}

/// What state expires by during a call of the operator.
fn set_time(backend: &Option<KeyedBackend>, env: &Env) {
    if let Some(backend) = backend.as_ref().filter(|backend| backend.has_ttl()) {
        backend.set_time(env.processing_time());
    }
}
