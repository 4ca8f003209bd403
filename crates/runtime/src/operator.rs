//! What an operator is, and what it sees of the engine.

use crate::cursor::RowCursor;
use crate::messages::{OperatorEvent, OperatorReport, TaskEvent};
use crate::metrics::{Counter, Gauge, Histogram, Meter, MetricGroup, OperatorCounters, SubtaskCounters};
use crate::side::{OutputTag, SideOutput, SideOutputs};
use crate::waker::SlotWaker;
use rivermark_data::{Activity, Batch, Data, DeadLetter, Typed};
use rivermark_env::Env;
use rivermark_state::KeyedBackend;
use rivermark_types::{
    Attempt, Barrier, Failure, Generation, InputId, JobName, MaxParallelism, NodeId, Result, SubtaskId,
    Timestamp, Uid,
};
use serde_json::Value;
use std::cell::Cell;
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// Operator state: small named lists, redistributed entry by entry when the parallelism changes. Kept as JSON in the
/// manifest, readable and evolvable by field name.
pub type Lists = BTreeMap<String, Vec<Value>>;

/// What an operator says after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The call's work is done: the cursor is used up, no timer is due any more, the barrier may pass.
    Done,
    /// Interrupted between rows or timers (slice used up or no room for output): call again with the same arguments.
    More,
    /// Waits for something outside; it wakes the slot by [`OpenCx::waker`] when it is there. Then call again.
    Wait,
}

/// One operator of a chain: synchronous, single-threaded, built on its slot's thread, never sent.
///
/// Order of calls: `open` once; then any of `on_batch`, `on_watermark`, `on_status`, `on_event` in stream order, and `on_wake`
/// between any two of them; `before_barrier` when a barrier has been through all inputs, followed by `snapshot_lists`
/// without anything in between; `on_end` last, after which nothing comes. A call that returned `More` or `Wait` is repeated
/// until `Done` before any other but `on_event`; but a barrier that overtakes may come between two calls of `on_batch` with the
/// same rows, so nothing about them is kept outside of the cursor.
///
/// No call may block: work outside the process goes to the I/O runtime, and the operator returns `Wait`. No call sees
/// alignment, channels or snapshots. After a failure the operator is dropped without a further call.
pub trait Operator {
    /// Declares state and timers; what was restored is in them when this returns.
    fn open(&mut self, cx: &mut OpenCx<'_>) -> Result<()>;

    /// Takes rows. Emits through `cx`; stops with `More` when [`Cx::room`] is used up or the slice is.
    fn on_batch(&mut self, input: InputId, rows: &mut RowCursor<'_>, cx: &mut Cx<'_>) -> Result<Flow>;

    /// The watermark over all inputs has risen. Fires what is due; the engine forwards the watermark after `Done`.
    fn on_watermark(&mut self, _watermark: Timestamp, _cx: &mut Cx<'_>) -> Result<Flow> {
        Ok(Flow::Done)
    }

    /// All inputs went idle, or one came back. The engine forwards it after `Done`.
    fn on_status(&mut self, _status: Activity, _cx: &mut Cx<'_>) -> Result<Flow> {
        Ok(Flow::Done)
    }

    /// Whether it passes watermarks and status on by itself, with [`Cx::emit_watermark`] and [`Cx::emit_status`], because rows
    /// from before them may still be in it. What it has not passed on is not part of its snapshot: it comes again. Asked once,
    /// after `open`.
    fn holds_marks(&self) -> bool {
        false
    }

    /// The processing time ([`Cx::processing_time`]) at which it wants `on_wake`, whether or not there is input. Asked after
    /// `open` and after every call, so it must be cheap. Time passed by is as good as now.
    fn wake_at(&self) -> Option<Timestamp> {
        None
    }

    /// The time of `wake_at` is there, or the waker from [`OpenCx::waker`] was used. May come for nothing. Input and barriers
    /// get their turn between two wakes: with much to do, do a slice of it and return `Done` with `wake_at` still due.
    fn on_wake(&mut self, _cx: &mut Cx<'_>) -> Result<Flow> {
        Ok(Flow::Done)
    }

    /// The barrier is about to pass: emit or store outside all that belongs before it. May `Wait`.
    fn before_barrier(&mut self, _barrier: &Barrier, _cx: &mut Cx<'_>) -> Result<Flow> {
        Ok(Flow::Done)
    }

    /// The operator's lists, as part of the snapshot for the barrier that is passing.
    fn snapshot_lists(&mut self) -> Result<Lists> {
        Ok(Lists::new())
    }

    /// Something from the master: a checkpoint completed or aborted, a phase of a sink's restore.
    fn on_event(&mut self, _event: &OperatorEvent, _cx: &mut Cx<'_>) -> Result<()> {
        Ok(())
    }

    /// The job ends (after its final checkpoint has been committed): release what is held.
    fn on_end(&mut self, _cx: &mut Cx<'_>) -> Result<Flow> {
        Ok(Flow::Done)
    }
}

/// Who an operator is.
#[derive(Clone, Debug)]
pub struct SubtaskInfo {
    /// The job.
    pub job: JobName,
    /// The process's generation.
    pub generation: Generation,
    /// The attempt inside it.
    pub attempt: Attempt,
    /// The subtask.
    pub subtask: SubtaskId,
    /// How many subtasks the vertex has.
    pub parallelism: u32,
    /// The number of key groups.
    pub max_parallelism: MaxParallelism,
    /// The operator in the graph.
    pub node: NodeId,
    /// Its stable name, if it has one.
    pub uid: Option<Uid>,
    /// Its name for people.
    pub name: String,
}

/// Sends an operator's reports to the master; `Send`, so that its I/O tasks can report too.
#[derive(Clone)]
pub struct Reporter {
    pub(crate) subtask: SubtaskId,
    pub(crate) node: NodeId,
    pub(crate) events: mpsc::UnboundedSender<TaskEvent>,
}

impl Reporter {
    /// Sends a report. After the master is gone it goes nowhere: the task is about to be dropped.
    pub fn report(&self, report: OperatorReport) {
        let _ = self.events.send(TaskEvent::Report {
            subtask: self.subtask,
            node: self.node,
            report,
        });
    }

    /// Fails the subtask from one of its I/O tasks: the operator may not be called again before the master needs to know.
    pub fn fail(&self, place: impl Into<String>, failure: Failure) {
        let _ = self.events.send(TaskEvent::Failed {
            subtask: self.subtask,
            place: place.into(),
            node: Some(self.node),
            row: None,
            failure,
        });
    }
}

/// What an operator opens itself with.
pub struct OpenCx<'a> {
    pub(crate) env: &'a Env,
    pub(crate) info: &'a SubtaskInfo,
    pub(crate) backend: Option<&'a mut KeyedBackend>,
    pub(crate) lists: Lists,
    pub(crate) restored: bool,
    pub(crate) watermark: Timestamp,
    pub(crate) waker: &'a SlotWaker,
    pub(crate) reporter: Reporter,
    pub(crate) sides: SideOutputs,
    pub(crate) metrics: MetricGroup,
}

impl OpenCx<'_> {
    /// A counter of the user's own under this name. Two metrics of an operator cannot have one name.
    pub fn counter(&self, name: &str) -> Result<Counter> {
        self.metrics.counter(name)
    }
    /// A meter: a rate a second under this name.
    pub fn meter(&self, name: &str) -> Result<Meter> {
        self.metrics.meter(name)
    }
    /// A gauge under this name.
    pub fn gauge(&self, name: &str) -> Result<Gauge> {
        self.metrics.gauge(name)
    }
    /// A histogram under this name.
    pub fn histogram(&self, name: &str) -> Result<Histogram> {
        self.metrics.histogram(name)
    }
    /// The world.
    pub fn env(&self) -> &Env {
        self.env
    }
    /// Who this operator is.
    pub fn info(&self) -> &SubtaskInfo {
        self.info
    }
    /// Whether the attempt starts from a checkpoint.
    pub fn is_restored(&self) -> bool {
        self.restored
    }
    /// The watermark the subtask had at the checkpoint; [`Timestamp::MIN`] on a fresh start.
    pub fn watermark(&self) -> Timestamp {
        self.watermark
    }
    /// This subtask's share of a restored list; empty on a fresh start. A list nobody takes is an error after `open`.
    pub fn take_list(&mut self, name: &str) -> Vec<Value> {
        self.lists.remove(name).unwrap_or_default()
    }
    /// Keyed state; fails for an operator that is not behind a `key_by` or has no uid.
    pub fn keyed(&mut self) -> Result<&mut KeyedBackend> {
        self.backend
            .as_deref_mut()
            .ok_or_else(|| no_keyed_state(self.info))
    }
    /// Declares a side output and gives the handle that its rows go into. They leave behind the call that emitted them.
    pub fn side_output<T: Data>(&mut self, tag: &OutputTag<T>) -> Result<SideOutput<T>> {
        self.sides.declare(tag, &self.info.name)
    }
    /// Wakes this operator's slot, and has the operator's `on_wake` called if no call of it waits.
    pub fn waker(&self) -> SlotWaker {
        self.waker.clone()
    }
    /// Reports to the master.
    pub fn reporter(&self) -> Reporter {
        self.reporter.clone()
    }
}

/// An operator without keyed state asked for it.
#[cold]
pub(crate) fn no_keyed_state(info: &SubtaskInfo) -> Failure {
    Failure::invalid(format!(
        "operator {} has no keyed state: put it behind a key_by and give it a uid",
        info.name
    ))
}

/// What an operator sees during a call: where output goes, how much of it, what time it is.
pub struct Cx<'a> {
    pub(crate) env: &'a Env,
    pub(crate) out: &'a mut Vec<Output>,
    pub(crate) room: usize,
    pub(crate) watermark: Timestamp,
    /// Which closure of a fused run failed or panicked, for the error that names it.
    pub(crate) stage: &'a Cell<u32>,
    pub(crate) counters: &'a SubtaskCounters,
    pub(crate) operator: &'a OperatorCounters,
}

/// Something an operator emitted.
pub(crate) enum Output {
    Rows(u8, Batch),
    DeadLetters(Batch),
    Watermark(Timestamp),
    Status(Activity),
}

impl Output {
    pub(crate) fn rows(&self) -> usize {
        match self {
            Output::Rows(_, batch) => batch.len(),
            Output::DeadLetters(_) | Output::Watermark(_) | Output::Status(_) => 0,
        }
    }
}

impl<'a> Cx<'a> {
    /// The world.
    pub fn env(&self) -> &Env {
        self.env
    }

    /// What time it is for timers and windows of processing time: see [`Env::processing_time`].
    pub fn processing_time(&self) -> Timestamp {
        self.env.processing_time()
    }

    /// How many rows may be emitted in this call before the operator should return [`Flow::More`]; at least 1. One input
    /// row may overshoot it by its own output.
    pub fn room(&self) -> usize {
        self.room
    }

    /// The operator's watermark. During `on_watermark` it is already the new one.
    pub fn watermark(&self) -> Timestamp {
        self.watermark
    }

    /// Emits rows on an output port (0 is the main one). An empty batch is not sent.
    pub fn emit<T: Data>(&mut self, port: u8, rows: Typed<T>) {
        if rows.is_empty() {
            return rows.recycle();
        }
        self.room = self.room.saturating_sub(rows.len()).max(1);
        self.out.push(Output::Rows(port, Batch::new(rows)));
    }

    /// Emits records that are given up, on the port for dead letters. If nobody takes these, they are dropped.
    pub fn emit_dead_letters(&mut self, letters: Vec<DeadLetter>) {
        if !letters.is_empty() {
            self.out
                .push(Output::DeadLetters(Batch::new(Typed::untimed(letters))));
        }
    }

    /// Emits a watermark (sources, and operators that hold marks: for the others the engine forwards it).
    pub fn emit_watermark(&mut self, watermark: Timestamp) {
        self.out.push(Output::Watermark(watermark));
    }

    /// Emits that this stream went idle or came back (sources, and operators that hold marks).
    pub fn emit_status(&mut self, status: Activity) {
        self.out.push(Output::Status(status));
    }

    /// Counts rows that came behind the watermark and were dropped.
    pub fn count_late(&self, rows: usize) {
        if rows > 0 {
            SubtaskCounters::add(&self.counters.late, rows);
            OperatorCounters::bump(&self.operator.late, rows);
        }
    }

    /// Counts records that could not be decoded and were passed over (sources only).
    pub fn count_undecodable(&self, records: usize) {
        if records > 0 {
            SubtaskCounters::add(&self.counters.undecodable, records);
        }
    }

    /// Where an operator of several closures notes which of them (counted from 1) failed or panicked.
    pub(crate) fn stage(&self) -> &'a Cell<u32> {
        self.stage
    }
}
