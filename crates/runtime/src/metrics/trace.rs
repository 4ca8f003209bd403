//! What each subtask did for the checkpoints under way, and when: what an explanation of a slow checkpoint is made of.
//!
//! A task notes moments as they come (a handful for each checkpoint) and, only while a checkpoint is open, what each of its
//! steps went into. Anybody may read meanwhile: of a checkpoint that never comes to its end, that is all there is.
//! Non-goals: which of it mattered (the master's side, `rivermark_job::explain`).

use crate::metrics::LastTrigger;
use rivermark_types::{CheckpointId, Millis, SubtaskId, VertexId};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// So many checkpoints are remembered; more are hardly ever under way.
const REMEMBERED: usize = 16;
/// So many missing channels are named.
const NAMED: usize = 8;

/// What a subtask did for one checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubtaskTrace {
    /// The first barrier was heard of; a source took its own.
    pub first_barrier: Option<Millis>,
    /// The last barrier was in, or barriers overtook: the cut began.
    pub last_barrier: Option<Millis>,
    /// Who sent the barrier that came last; where barriers overtook, the last up to which was captured.
    pub last_from: Option<SubtaskId>,
    /// Whether barriers overtook what lay in front of them.
    pub overtook: bool,
    /// The last barrier in a channel that keeps its order: who sent it, and when it was in.
    pub in_order: Option<(SubtaskId, Millis)>,
    /// Whose barriers are still missing, some of them.
    pub missing: Vec<SubtaskId>,
    /// The barrier had left the chain.
    pub cut: Option<Millis>,
    /// Everything was handed to the I/O side.
    pub captured: Option<Millis>,
    /// Rows of keyed state.
    pub rows: u64,
    /// About how many bytes of memory these are.
    pub bytes: u64,
    /// About how many bytes were in flight.
    pub in_flight_bytes: u64,
    /// Until when what follows is known.
    pub until: Millis,
    /// What its time went into, by [`Phase`].
    pub phases: [TimeUse; 4],
}

/// How far a subtask is with a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Its last barrier is still to come.
    #[default]
    Before,
    /// The barrier is inside its chain.
    Freeze,
    /// Its rows are being copied.
    Capture,
    /// It is done, others are not.
    After,
}

/// What a time went into, in nanoseconds unless said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimeUse {
    /// Calls of its operators, by their place in the chain.
    pub busy: Vec<u64>,
    /// The longest single call.
    pub longest: Option<Call>,
    /// Without room in the channel to another subtask, in milliseconds.
    pub no_room_ms: BTreeMap<SubtaskId, u64>,
    /// With an operator that waits for something outside, by its place in the chain, in milliseconds.
    pub waits_ms: BTreeMap<usize, u64>,
    /// Ready to go on while other tasks of its slot were at work, in milliseconds.
    pub others_ms: u64,
    /// With nothing to do, in milliseconds.
    pub idle_ms: u64,
    /// With rows to copy, but the I/O side behind, in milliseconds.
    pub writer_ms: u64,
}

/// One call of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its place in the chain.
    pub operator: usize,
    /// How long it took.
    pub ns: u64,
    /// How many rows it took.
    pub rows: usize,
}

/// What a task was left with by its last step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Left {
    /// Nothing to do.
    #[default]
    Idle,
    /// More to do.
    Ready,
    /// Rows for a channel without room.
    NoRoom(Option<SubtaskId>),
    /// An operator that waits for something outside.
    Waiting(usize),
}

impl Left {
    /// In one number, so that a step tells it with one store: three bits of kind, thirty of vertex, the rest.
    fn encoded(self) -> u64 {
        let (kind, vertex, rest) = match self {
            Left::Idle => (0, 0, 0),
            Left::Ready => (1, 0, 0),
            Left::NoRoom(None) => (2, 0, 0),
            Left::NoRoom(Some(to)) => (3, u64::from(to.vertex.0), u64::from(to.index)),
            Left::Waiting(operator) => (4, 0, operator as u64),
        };
        kind << 61 | vertex << 31 | rest
    }

    fn decoded(number: u64) -> Left {
        let rest = number & ((1 << 31) - 1);
        match number >> 61 {
            1 => Left::Ready,
            2 => Left::NoRoom(None),
            3 => Left::NoRoom(Some(SubtaskId {
                vertex: VertexId((number >> 31 & ((1 << 30) - 1)) as u32),
                index: rest as u32,
            })),
            4 => Left::Waiting(rest as usize),
            _ => Left::Idle,
        }
    }
}

/// The traces of one subtask, newest checkpoints only. Its task writes, anybody reads.
#[derive(Debug, Default)]
pub struct Traces {
    of: Mutex<BTreeMap<CheckpointId, SubtaskTrace>>,
    /// The operator in a call now, counted from 1.
    at_work: AtomicUsize,
    /// What the last step left the task with.
    left: AtomicU64,
}

impl Traces {
    /// What is known of a checkpoint.
    pub fn of(&self, checkpoint: CheckpointId) -> Option<SubtaskTrace> {
        self.lock().get(&checkpoint).cloned()
    }

    /// The operator that is in a call at this moment, by its place in the chain.
    pub fn at_work(&self) -> Option<usize> {
        self.at_work.load(Ordering::Relaxed).checked_sub(1)
    }

    /// What the task is left with since its last step.
    pub fn left(&self) -> Left {
        Left::decoded(self.left.load(Ordering::Relaxed))
    }

    /// An operator is called.
    pub(crate) fn call_begins(&self, operator: usize) {
        self.at_work.store(operator + 1, Ordering::Relaxed);
    }

    /// The call is over.
    pub(crate) fn call_ends(&self) {
        self.at_work.store(0, Ordering::Relaxed);
    }

    /// Changes what is noted of a checkpoint.
    pub(crate) fn note(&self, checkpoint: CheckpointId, change: impl FnOnce(&mut SubtaskTrace)) {
        let mut traces = self.lock();
        change(traces.entry(checkpoint).or_default());
        if traces.len() > REMEMBERED {
            traces.pop_first();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<CheckpointId, SubtaskTrace>> {
        // Numbers only: a poisoned lock holds whole ones.
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SubtaskTrace {
    /// A barrier is in and others are missing: the first ones of these are noted.
    pub(crate) fn still_missing(&mut self, missing: impl Iterator<Item = SubtaskId>) {
        self.missing = missing.take(NAMED).collect();
    }
}

impl TimeUse {
    fn calls(&mut self, calls: &mut Calls, at_most: u64) {
        self.busy.resize(calls.busy.len().max(self.busy.len()), 0);
        for (sum, ns) in self.busy.iter_mut().zip(&calls.busy) {
            *sum += (*ns).min(at_most);
        }
        if let Some(mut longest) = calls.longest {
            longest.ns = longest.ns.min(at_most);
            self.longest = self
                .longest
                .filter(|known| known.ns >= longest.ns)
                .or(Some(longest));
        }
    }

    fn left(&mut self, left: Left, ms: u64) {
        match left {
            Left::NoRoom(Some(channel)) => *self.no_room_ms.entry(channel).or_default() += ms,
            Left::Waiting(operator) => *self.waits_ms.entry(operator).or_default() += ms,
            Left::Ready => self.others_ms += ms,
            Left::Idle | Left::NoRoom(None) => self.idle_ms += ms,
        }
    }
}

/// What the operators of a chain were called for since the last look.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    busy: Vec<u64>,
    longest: Option<Call>,
}

impl Calls {
    /// A call was made.
    pub(crate) fn add(&mut self, call: Call) {
        if self.busy.len() <= call.operator {
            self.busy.resize(call.operator + 1, 0);
        }
        self.busy[call.operator] += call.ns;
        if self.longest.is_none_or(|longest| longest.ns < call.ns) {
            self.longest = Some(call);
        }
    }

    fn clear(&mut self) {
        self.busy.fill(0);
        self.longest = None;
    }
}

/// The task's side: follows the newest checkpoint that was triggered.
#[derive(Debug, Default)]
pub(crate) struct Tracer {
    newest: CheckpointId,
    open: Option<CheckpointId>,
    phase: Phase,
    last: Millis,
    left: Left,
}

impl Tracer {
    /// A tracer that follows what is triggered from now on.
    pub(crate) fn new(trigger: &LastTrigger) -> Tracer {
        Tracer {
            newest: trigger.newest().0,
            ..Tracer::default()
        }
    }

    /// A step begins. Costs a comparison while no checkpoint is open.
    pub(crate) fn begin(
        &mut self,
        now: impl FnOnce() -> Millis,
        (calls, traces): (&mut Calls, &Traces),
        trigger: &LastTrigger,
    ) {
        calls.clear();
        self.follow(trigger);
        let Some(checkpoint) = self.open else { return };
        let now = now();
        let ms = now.since(std::mem::replace(&mut self.last, now)).as_millis() as u64;
        let (phase, left) = (self.phase, self.left);
        if ms > 0 {
            traces.note(checkpoint, |trace| {
                trace.until = now;
                trace.phases[phase as usize].left(left, ms);
            });
        }
    }

    /// The step is over. One during which a checkpoint was triggered counts from the trigger on.
    pub(crate) fn end(
        &mut self,
        now: Millis,
        left: Left,
        writer_is_behind: bool,
        (calls, traces): (&mut Calls, &Traces),
        trigger: &LastTrigger,
    ) {
        self.left = left;
        traces.left.store(left.encoded(), Ordering::Relaxed);
        self.follow(trigger);
        if let Some(checkpoint) = self.open {
            let took = now.since(self.last);
            let phase = self.phase;
            // What no call took: the thread did not run, or the step only looked whether there is something to do.
            let rest = took.saturating_sub(Duration::from_nanos(calls.busy.iter().sum()));
            let rest_ms = rest.as_millis() as u64;
            if writer_is_behind || rest_ms > 0 {
                traces.note(checkpoint, |trace| {
                    if writer_is_behind {
                        trace.phases[Phase::Capture as usize].writer_ms += took.as_millis() as u64;
                    }
                    if rest_ms > 0 {
                        trace.phases[phase as usize].left(left, rest_ms);
                    }
                });
            }
        }
        self.settle(now, calls, traces);
    }

    fn follow(&mut self, trigger: &LastTrigger) {
        let (newest, at) = trigger.newest();
        if newest > self.newest {
            (self.newest, self.open) = (newest, Some(newest));
            (self.phase, self.last) = (Phase::Before, at);
        }
    }

    /// A checkpoint has come further: what was done up to now belongs to the phase before.
    pub(crate) fn enter(
        &mut self,
        checkpoint: CheckpointId,
        phase: Phase,
        now: Millis,
        (calls, traces): (&mut Calls, &Traces),
        trigger: &LastTrigger,
    ) {
        self.follow(trigger);
        if self.open != Some(checkpoint) {
            return;
        }
        self.settle(now, calls, traces);
        self.phase = phase;
    }

    fn settle(&mut self, now: Millis, calls: &mut Calls, traces: &Traces) {
        if let Some(checkpoint) = self.open {
            let at_most = now.since(self.last).as_nanos() as u64 + 1_000_000;
            let phase = self.phase;
            traces.note(checkpoint, |trace| {
                trace.until = now;
                trace.phases[phase as usize].calls(calls, at_most);
            });
            self.last = now;
        }
        calls.clear();
    }

    /// A checkpoint was decided or given up.
    pub(crate) fn close(&mut self, checkpoint: CheckpointId) {
        if self.open == Some(checkpoint) {
            self.open = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const SINK: SubtaskId = SubtaskId {
        vertex: VertexId(7),
        index: 300_000,
    };

    #[test]
    fn what_a_task_is_left_with_passes_through_one_number() {
        for left in [
            Left::Idle,
            Left::Ready,
            Left::NoRoom(None),
            Left::NoRoom(Some(SINK)),
            Left::Waiting(3),
        ] {
            assert_eq!(Left::decoded(left.encoded()), left);
        }
    }

    fn call(operator: usize, ms: u64) -> Call {
        Call {
            operator,
            ns: ms * MS,
            rows: 1,
        }
    }

    #[test]
    fn time_counts_from_the_trigger_by_phase_and_the_wait_by_what_the_step_before_left() {
        let (trigger, traces, mut calls) = (LastTrigger::default(), Traces::default(), Calls::default());
        let mut tracer = Tracer::new(&trigger);
        let checkpoint = CheckpointId(4);
        // A step from 0 to 100, of which a call took 90; the trigger came at 70.
        tracer.begin(|| Millis(0), (&mut calls, &traces), &trigger);
        calls.add(call(1, 90));
        trigger.set(checkpoint, Millis(70));
        tracer.end(
            Millis(100),
            Left::NoRoom(Some(SINK)),
            false,
            (&mut calls, &traces),
            &trigger,
        );
        // Twenty without room, then a barrier after five at work, then eight in the freeze.
        tracer.begin(|| Millis(120), (&mut calls, &traces), &trigger);
        calls.add(call(0, 5));
        tracer.enter(
            checkpoint,
            Phase::Freeze,
            Millis(125),
            (&mut calls, &traces),
            &trigger,
        );
        calls.add(call(1, 8));
        // Three more went by in that step, and four until the next.
        tracer.end(
            Millis(136),
            Left::Waiting(1),
            false,
            (&mut calls, &traces),
            &trigger,
        );
        tracer.begin(|| Millis(140), (&mut calls, &traces), &trigger);
        tracer.close(checkpoint);
        tracer.end(Millis(500), Left::Idle, false, (&mut calls, &traces), &trigger);

        let trace = traces.of(checkpoint).unwrap();
        let [before, freeze, ..] = &trace.phases;
        assert_eq!(
            before.busy,
            [5 * MS, 31 * MS],
            "no more than since the trigger, and a little"
        );
        assert_eq!(before.longest.unwrap().operator, 1);
        assert_eq!(before.no_room_ms, BTreeMap::from([(SINK, 20)]));
        assert_eq!(freeze.busy, [0, 8 * MS]);
        assert_eq!(freeze.waits_ms, BTreeMap::from([(1, 7)]));
        assert_eq!(trace.until, Millis(140));
    }
}
