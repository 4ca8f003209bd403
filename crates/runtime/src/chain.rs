//! Operators one behind the other in one task: a tree whose root is a source or takes what the gate gives.
//!
//! The chain always works at the deepest operator that has something to do, so what is on its way inside the task stays
//! small, and a barrier that enters at the root has everything before it drained out in front of it. Elements pass from
//! operator to operator by their queues; nothing here recurses, so an operator can be interrupted anywhere.

mod wake;

use crate::careful::{Care, Careful, FailedRow};
use crate::cursor::{HeldRows, RowCursor};
use crate::messages::OperatorEvent;
use crate::metrics::{MetricGroup, OperatorCounters, SubtaskCounters};
use crate::operator::{Cx, Flow, Lists, Operator, Output, SubtaskInfo};
use crate::outbox::Outbox;
use crate::side::SideOutputs;
use crate::source::{SourceDriver, SourcePoll};
use crate::waker::SlotWaker;
use rivermark_data::{Activity, Batch, Element};
use rivermark_env::Env;
use rivermark_state::KeyedBackend;
use rivermark_types::{Barrier, Failure, InputId, NodeId, Result, Timestamp, Uid};
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

/// The snapshot of one operator, taken as the barrier passed it. Its tables are frozen; their rows follow by the walk.
pub struct NodeSnapshot {
    /// Its stable name.
    pub uid: Uid,
    /// Its lists.
    pub lists: Lists,
    /// Its watermark.
    pub watermark: Timestamp,
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
    /// When the first of the operators wants to be called.
    wake_at: Option<Timestamp>,
    /// The operator that was called last without input: the others' turn is next.
    woken: usize,
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
        }
    }

    /// The operators.
    pub fn nodes(&self) -> &[ChainNode] {
        &self.nodes
    }

    /// The operators, for walking their tables.
    pub fn nodes_mut(&mut self) -> &mut [ChainNode] {
        &mut self.nodes
    }

    /// Whether the root is a source.
    pub fn is_source(&self) -> bool {
        matches!(self.nodes.first().map(|node| &node.body), Some(Body::Source(_)))
    }

    /// The operator at work or last at work: the same for the same row over attempts, whichever subtask gets it.
    pub fn place(&self) -> String {
        match self.nodes.get(self.at) {
            Some(node) if self.stage.get() > 0 => format!("{} (stage {})", node.info.name, self.stage.get()),
            Some(node) => node.info.name.clone(),
            None => "an empty chain".to_owned(),
        }
    }

    /// The operator at work or last at work, and the row it was on, if it ran carefully.
    pub fn failed_at(&self) -> (Option<NodeId>, Option<FailedRow>) {
        let node = self.nodes.get(self.at);
        let careful = node.and_then(|node| node.careful.as_ref());
        (
            node.map(|node| node.info.node),
            careful.and_then(|careful| careful.failed_row()),
        )
    }

    /// Where the rows under way came from, if the root is a source that did not fail itself (its own errors say where). For
    /// an operator next to the source that is one row, for those behind it the rows of the last poll.
    pub fn origin(&self) -> Option<String> {
        match self.nodes.first().map(|node| &node.body) {
            Some(Body::Source(driver)) if self.at > 0 => {
                let next_to_it = self.nodes[0]
                    .targets
                    .iter()
                    .flatten()
                    .any(|target| matches!(target, Target::Node(at, _) if *at == self.at));
                Some(driver.place(self.rows_left().filter(|_| next_to_it)))
            }
            _ => None,
        }
    }

    /// Rows of the root's current batch that are not taken yet; and whether the last one taken is the row at work.
    pub fn root_remaining(&self) -> (usize, bool) {
        match self.rows_left() {
            Some(left) if self.at == 0 => (left, true),
            _ => match self.nodes.first().and_then(|node| node.queue.front()) {
                Some(Work::Rows(_, held)) => (crate::cursor::AnyRows::remaining(held), false),
                _ => (0, false),
            },
        }
    }

    /// Rows that the operator at work has not taken yet of its batch.
    fn rows_left(&self) -> Option<usize> {
        match &self.in_hand {
            Some(Work::Rows(_, held)) => Some(crate::cursor::AnyRows::remaining(held)),
            _ => None,
        }
    }

    /// Puts rows before the root.
    pub fn push_rows(&mut self, input: InputId, batch: Batch) {
        SubtaskCounters::add(&self.counters.records_in, batch.len());
        SubtaskCounters::add(&self.counters.bytes_in, batch.bytes());
        self.push_root(Work::Rows(input, HeldRows::Erased(batch)));
    }

    /// Puts a watermark before the root.
    pub fn push_watermark(&mut self, watermark: Timestamp) {
        self.push_root(Work::Watermark(watermark));
    }

    /// Puts a change of activity before the root.
    pub fn push_status(&mut self, status: Activity) {
        self.push_root(Work::Status(status));
    }

    /// Puts a barrier before the root. When the chain is drained it has passed, and [`Chain::take_snapshots`] has all.
    pub fn push_barrier(&mut self, barrier: Barrier) -> Result<()> {
        if let Some(ChainNode {
            body: Body::Source(_),
            ..
        }) = self.nodes.first()
        {
            return self.barrier_passes(0, barrier);
        }
        self.push_root(Work::Barrier(barrier));
        Ok(())
    }

    /// Puts the end before the root.
    pub fn push_end(&mut self) -> Result<()> {
        if self.is_source() {
            return self.forward(0, &Work::End);
        }
        self.push_root(Work::End);
        Ok(())
    }

    fn push_root(&mut self, work: Work) {
        if let Some(root) = self.nodes.first_mut() {
            root.queue.push_back(work);
        }
    }

    /// What the operators stored for the barrier that has passed.
    pub fn take_snapshots(&mut self) -> Vec<NodeSnapshot> {
        std::mem::take(&mut self.snapshots)
    }

    /// Whether nothing is inside the chain.
    pub fn is_drained(&self) -> bool {
        self.nodes.iter().all(|node| node.queue.is_empty())
    }

    /// Sends what the outboxes keep.
    pub fn flush(&mut self) -> Result<()> {
        self.outboxes.iter_mut().try_for_each(Outbox::flush)?;
        self.count_sent();
        Ok(())
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
        node.learn_cost(taken, self.env.cost_ns().saturating_sub(started));
        Ok(flow)
    }

    /// An operator is done with an element: marks go on down.
    fn done(&mut self, at: usize, work: Work) -> Result<()> {
        match work {
            Work::Rows(..) | Work::Wake => Ok(()),
            Work::Watermark(_) | Work::Status(_) if self.nodes[at].holds_marks => Ok(()),
            Work::Barrier(barrier) => self.barrier_passes(at, barrier),
            mark => self.forward(at, &mark),
        }
    }

    /// In one step: the operator's lists, the freeze of its tables, the barrier to whatever it feeds.
    fn barrier_passes(&mut self, at: usize, barrier: Barrier) -> Result<()> {
        self.at = at;
        let node = &mut self.nodes[at];
        let lists = match &mut node.body {
            Body::Source(driver) => driver.snapshot_lists(barrier.checkpoint)?,
            Body::Operator(operator) => operator.snapshot_lists()?,
        };
        if let Some(backend) = &mut node.backend {
            backend.freeze();
        }
        match &node.info.uid {
            Some(uid) => self.snapshots.push(NodeSnapshot {
                uid: uid.clone(),
                lists,
                watermark: node.watermark,
            }),
            None if lists.is_empty() => {}
            None => return Err(Failure::bug(format!("{} has state but no uid", node.info.name))),
        }
        self.forward(at, &Work::Barrier(barrier))
    }

    /// Passes a mark on to whatever the operator feeds, once to each.
    fn forward(&mut self, at: usize, mark: &Work) -> Result<()> {
        if let Work::Watermark(watermark) = mark {
            let told = &self.nodes[at].counters.watermark_out;
            told.store(watermark.0, Ordering::Relaxed);
        }
        let targets: Vec<Target> = self.nodes[at].targets.iter().flatten().copied().collect();
        for target in targets {
            match (target, mark) {
                (Target::Node(next, _), mark) => self.nodes[next].queue.push_back(mark.copy()?),
                (Target::Outbox(out), mark) => self.outboxes[out].mark(&mark.element()?)?,
            }
        }
        self.count_sent();
        Ok(())
    }

    /// Moves what the operator emitted to where its ports lead.
    fn route(&mut self, at: usize) -> Result<()> {
        let mut emitted = std::mem::take(&mut self.emitted);
        for output in emitted.drain(..) {
            match output {
                Output::Rows(port, batch) => {
                    OperatorCounters::bump(&self.nodes[at].counters.records_out, batch.len());
                    self.route_rows(at, port, batch)?;
                }
                Output::DeadLetters(batch) => {
                    SubtaskCounters::add(&self.counters.dead_letters, batch.len());
                    if let Some(port) = self.nodes[at].dead_letters {
                        self.route_rows(at, port, batch)?;
                    }
                }
                Output::Watermark(watermark) => {
                    self.nodes[at].watermark = self.nodes[at].watermark.max(watermark);
                    self.forward(at, &Work::Watermark(watermark))?;
                }
                Output::Status(status) => self.forward(at, &Work::Status(status))?,
            }
        }
        self.emitted = emitted;
        self.count_sent();
        Ok(())
    }

    fn route_rows(&mut self, at: usize, port: u8, batch: Batch) -> Result<()> {
        match self.nodes[at].targets.get(usize::from(port)).map(Vec::as_slice) {
            // A port that leads nowhere (a side output nobody took) drops its rows: the user did not ask for them.
            None | Some([]) => Ok(()),
            Some(&[only]) => self.deliver(only, batch),
            Some(several) => {
                let several = several.to_vec();
                several
                    .into_iter()
                    .try_for_each(|target| self.deliver(target, batch.clone()))
            }
        }
    }

    fn deliver(&mut self, target: Target, batch: Batch) -> Result<()> {
        match target {
            Target::Node(next, input) => {
                self.nodes[next]
                    .queue
                    .push_back(Work::Rows(input, HeldRows::Erased(batch)));
                Ok(())
            }
            Target::Outbox(out) => self.outboxes[out].push(batch),
        }
    }

    /// How many rows the operator may emit: what the outboxes it feeds directly still take.
    fn room(&self, at: usize) -> usize {
        let outboxes = self.nodes[at]
            .targets
            .iter()
            .flatten()
            .filter_map(|target| match target {
                Target::Outbox(out) => Some(self.outboxes[*out].room()),
                Target::Node(..) => None,
            });
        outboxes.fold(usize::MAX, usize::min)
    }

    /// Lets the source emit. Only with a drained chain.
    pub fn poll_source(&mut self) -> Result<Option<SourcePoll>> {
        let room = self.room(0);
        if room == 0 {
            return Ok(None);
        }
        self.at = 0;
        let max_rows = self.source_slice().min(room);
        let poll = self.with_source(max_rows, |driver, cx| driver.poll(max_rows, cx))?;
        Ok(Some(poll))
    }

    /// How many rows a source may emit at once: by the cost of the whole chain, so that a barrier gets between soon.
    fn source_slice(&self) -> usize {
        let cost: u64 = self.nodes.iter().map(|node| node.row_cost_ns).sum();
        self.slice.rows_at(cost)
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

    fn with_source<R>(
        &mut self,
        room: usize,
        call: impl FnOnce(&mut dyn SourceDriver, &mut Cx<'_>) -> Result<R>,
    ) -> Result<R> {
        let ChainNode {
            body,
            watermark,
            sides,
            counters,
            ..
        } = &mut self.nodes[0];
        let Body::Source(driver) = body else {
            return Err(Failure::bug("the root is not a source"));
        };
        let mut cx = Cx {
            env: &self.env,
            out: &mut self.emitted,
            room,
            watermark: *watermark,
            stage: &self.stage,
            counters: &self.counters,
            operator: counters,
        };
        let started = self.env.cost_ns();
        let result = call(&mut **driver, &mut cx)?;
        sides.flush(&mut self.emitted);
        let rows: usize = self.emitted.iter().map(Output::rows).sum();
        SubtaskCounters::add(&self.counters.records_in, rows);
        OperatorCounters::bump(&self.nodes[0].counters.records_in, rows);
        let elapsed = self.env.cost_ns().saturating_sub(started);
        self.nodes[0].learn_cost(rows, elapsed);
        self.route(0)?;
        Ok(result)
    }

    fn count_sent(&mut self) {
        let sent: usize = self.outboxes.iter_mut().map(Outbox::take_sent_rows).sum();
        if sent > 0 {
            let bytes: usize = self.outboxes.iter_mut().map(Outbox::take_sent_bytes).sum();
            SubtaskCounters::add(&self.counters.records_out, sent);
            SubtaskCounters::add(&self.counters.bytes_out, bytes);
        }
    }
}

/// What state expires by during a call of the operator.
fn set_time(backend: &Option<KeyedBackend>, env: &Env) {
    if let Some(backend) = backend.as_ref().filter(|backend| backend.has_ttl()) {
        backend.set_time(env.processing_time());
    }
}

impl Work {
    /// The same mark once more.
    fn copy(&self) -> Result<Work> {
        match self {
            Work::Watermark(watermark) => Ok(Work::Watermark(*watermark)),
            Work::Status(status) => Ok(Work::Status(*status)),
            Work::Barrier(barrier) => Ok(Work::Barrier(*barrier)),
            Work::End => Ok(Work::End),
            Work::Rows(..) | Work::Wake => Err(Failure::bug("only marks are passed on")),
        }
    }

    /// The mark as it leaves the task.
    fn element(&self) -> Result<Element> {
        match self {
            Work::Watermark(watermark) => Ok(Element::Watermark(*watermark)),
            Work::Status(status) => Ok(Element::Status(*status)),
            Work::Barrier(barrier) => Ok(Element::Barrier(*barrier)),
            Work::End => Ok(Element::End),
            Work::Rows(..) | Work::Wake => Err(Failure::bug("only marks are passed on")),
        }
    }
}
