//! One instance of the operator under test: a chain of one, with outlets that collect.

use crate::event::Portion;
use crate::output::{Output, Port};
use rivermark_data::{Batch, Element, Emit, Scatter};
use rivermark_env::Env;
use rivermark_runtime::chain::{Chain, ChainNode, ChainState, NodeSnapshot, Slice, Target};
use rivermark_runtime::channel::{Credit, Receiver, channel};
use rivermark_runtime::metrics::SubtaskCounters;
use rivermark_runtime::outbox::Outbox;
use rivermark_runtime::waker::SlotWaker;
use rivermark_runtime::{OperatorEvent, TakenOutput, TakenOutputs};
use rivermark_state::Walk;
use rivermark_state::image::ImageSink;
use rivermark_types::{Barrier, Failure, Timestamp};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// More calls without a trace than any number of timers that a test lets fire in silence.
const SILENT_CALLS: usize = 10_000;

/// What a call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is done with what it was given.
    Drained,
    /// It wants to be called again.
    Again,
    /// It waits.
    Waiting,
}

pub(crate) struct Instance {
    chain: Chain,
    outlets: Vec<Receiver>,
    ports: Rc<[Port]>,
    counters: Arc<SubtaskCounters>,
    output: Output,
    /// The highest watermark passed on, as a gate keeps it.
    watermark: Timestamp,
    silent: usize,
}

/// Hands batches on as they come, so that an operator's own batches are seen.
struct Straight;

impl Scatter for Straight {
    fn push(&mut self, batch: Batch, emit: &mut Emit<'_>) -> Result<(), Failure> {
        emit(0, batch);
        Ok(())
    }
    fn flush(&mut self, _: &mut Emit<'_>) {}
    fn pending(&self) -> usize {
        0
    }
}

/// Where each port of interest leads: to the outlet at its place in the list. Rows of other ports are dropped, as those of
/// a side output that nobody took.
pub(crate) fn targets(ports: &[Port]) -> Vec<Vec<Target>> {
    let count = ports.iter().map(|port| usize::from(port.number) + 1).max();
    let mut targets = vec![vec![]; count.unwrap_or(0)];
    for (at, port) in ports.iter().enumerate() {
        targets[usize::from(port.number)].push(Target::Outbox(at));
    }
    targets
}

/// The ports of interest that side outputs lead to.
pub(crate) fn side_outputs(ports: &[Port]) -> TakenOutputs {
    let taken = ports.iter().filter_map(|port| {
        let (name, type_name) = port.tag?;
        let taken = TakenOutput {
            port: port.number,
            type_name: type_name.to_owned(),
        };
        Some((name.to_owned(), taken))
    });
    taken.collect()
}

impl Instance {
    /// An opened operator with outlets of this credit.
    pub(crate) fn new(
        env: &Env,
        node: ChainNode,
        ports: Rc<[Port]>,
        slice: Slice,
        credit: Credit,
    ) -> Instance {
        let ends = ports
            .iter()
            .map(|_| channel(credit, SlotWaker::default(), SlotWaker::default()));
        let (senders, outlets): (Vec<_>, Vec<_>) = ends.unzip();
        let outboxes = senders
            .into_iter()
            .map(|sender| Outbox::new(Box::new(Straight), vec![sender], None));
        let counters = Arc::new(SubtaskCounters::default());
        let watermark = node.watermark;
        Instance {
            chain: Chain::new(
                env.clone(),
                vec![node],
                outboxes.collect(),
                counters.clone(),
                slice,
            ),
            outlets,
            output: Output::of(&ports, watermark),
            ports,
            counters,
            watermark,
            silent: 0,
        }
    }

    /// Puts something before it.
    pub(crate) fn give(&mut self, portion: Portion) {
        self.silent = 0;
        match portion {
            Portion::Rows(input, batch) => self.chain.push_rows(input, batch),
            Portion::Watermark(watermark) if watermark > self.watermark => {
                self.watermark = watermark;
                self.chain.push_watermark(watermark);
            }
            Portion::Watermark(_) | Portion::ProcessingTime(_) => {}
        }
    }

    /// Prepares a call of the operator without input, if it is to be called.
    pub(crate) fn wake(&mut self) -> Result<bool, String> {
        if !self.chain.is_wake_due() {
            return Ok(false);
        }
        self.silent = 0;
        if !self.chain.wake() {
            self.collect()?;
            self.chain.wake();
        }
        Ok(true)
    }

    /// Whether watermarks may still be in it.
    pub(crate) fn holds_marks(&self) -> bool {
        self.chain.nodes().iter().any(|node| node.holds_marks())
    }

    /// When the operator wants to be called without input.
    pub(crate) fn wake_at(&self) -> Option<Timestamp> {
        self.chain.wake_at()
    }

    pub(crate) fn give_barrier(&mut self, barrier: Barrier) -> Result<(), String> {
        self.silent = 0;
        self.chain
            .push_barrier(barrier)
            .map_err(|failure| failure.to_string())
    }

    /// The rows that it has not taken yet.
    pub(crate) fn rest(&self) -> Option<Batch> {
        let mut rest = self.chain.rest_of_root().into_iter();
        rest.find_map(|element| match element {
            Element::Batch(batch) => Some(batch),
            _ => None,
        })
    }

    /// A barrier overtakes the rows before it.
    pub(crate) fn give_barrier_in_front(&mut self, barrier: Barrier) {
        self.silent = 0;
        self.chain.push_barrier_in_front(barrier);
    }

    pub(crate) fn is_past_barrier(&self) -> bool {
        self.chain.has_no_barrier()
    }

    pub(crate) fn give_end(&mut self) -> Result<(), String> {
        self.silent = 0;
        self.chain.push_end().map_err(|failure| failure.to_string())
    }

    pub(crate) fn tell(&mut self, event: &OperatorEvent) -> Result<(), String> {
        self.chain
            .on_event(None, event)
            .map_err(|failure| format!("on_event({event:?}) failed: {failure}"))
    }

    /// Calls the operator once. The outlets are emptied only when rows or watermarks find no room: marks often meet full ones.
    pub(crate) fn turn(&mut self) -> Result<Turn, String> {
        let before = self.traces();
        let state = self.chain.run().map_err(|failure| {
            let place = self.chain.place();
            format!("it failed at {place}: {failure}")
        })?;
        match state {
            ChainState::Drained => Ok(Turn::Drained),
            ChainState::Waiting => Ok(Turn::Waiting),
            ChainState::NoRoom => match self.collect()? {
                0 => Err("no room although nothing waits in the outlets".to_owned()),
                _ => Ok(Turn::Again),
            },
            ChainState::Progress => {
                self.check_progress(before)?;
                Ok(Turn::Again)
            }
        }
    }

    /// What shows that a call did something: input taken, output given, state changed in size.
    fn traces(&self) -> [usize; 3] {
        let sent = self.counters.records_out.load(Ordering::Relaxed);
        [self.chain.root_remaining().0, sent as usize, self.state_rows()]
    }

    fn check_progress(&mut self, before: [usize; 3]) -> Result<(), String> {
        let [rows_before, sent_before, _] = before;
        let [rows, sent, _] = self.traces();
        if self.chain.is_drained() || self.traces() != before {
            self.silent = 0;
            return Ok(());
        }
        if rows_before > 0 && rows == rows_before && sent == sent_before {
            return Err(format!(
                "no progress: with {rows} rows before it, it returned More without taking or emitting one"
            ));
        }
        self.silent += 1;
        match self.silent > SILENT_CALLS {
            true => Err(format!(
                "no progress: it returned More {SILENT_CALLS} times without a trace"
            )),
            false => Ok(()),
        }
    }

    /// Takes what is in the outlets; how many rows that was.
    fn collect(&mut self) -> Result<usize, String> {
        let mut taken = 0;
        for (port, outlet) in self.ports.iter().zip(&self.outlets) {
            while let Some(element) = outlet.pop() {
                match element {
                    Element::Batch(batch) => {
                        taken += batch.len();
                        self.output.rows(port.number, (port.render)(batch)?);
                    }
                    Element::Watermark(mark) => self.output.watermark(port.number, mark),
                    Element::Status(_) | Element::Barrier(_) | Element::End => {}
                }
            }
        }
        Ok(taken)
    }

    /// The output since the last look.
    pub(crate) fn take_output(&mut self) -> Result<Output, String> {
        self.collect()?;
        let mut output = self.output.take();
        output.late = self.counters.late.swap(0, Ordering::Relaxed);
        Ok(output)
    }

    /// What it stored for the barrier that has passed.
    pub(crate) fn take_snapshot(&mut self) -> Result<NodeSnapshot, String> {
        let mut snapshots = self.chain.take_snapshots();
        match (snapshots.pop(), snapshots.is_empty()) {
            (Some(snapshot), true) => Ok(snapshot),
            _ => Err("a barrier did not give exactly one snapshot".to_owned()),
        }
    }

    /// Copies some rows of the frozen tables; whether any is left.
    pub(crate) fn walk(&mut self, rows: usize, sink: &mut dyn ImageSink) -> bool {
        let backends = self
            .chain
            .nodes_mut()
            .iter_mut()
            .filter_map(|node| node.backend.as_mut());
        let mut left = false;
        for backend in backends.filter(|backend| backend.is_walking()) {
            left |= backend.walk(rows, sink) == Walk::More;
        }
        left
    }

    /// Removes some of the state that has expired.
    pub(crate) fn sweep(&mut self, rows: usize) {
        self.chain.sweep(rows);
    }

    /// How many rows all its tables have.
    pub(crate) fn state_rows(&self) -> usize {
        let backends = self.chain.nodes().iter().filter_map(|node| node.backend.as_ref());
        backends.map(|backend| backend.rows()).sum()
    }
}
