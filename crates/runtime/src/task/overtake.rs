//! Barriers that overtake: when the task lets them, what they leave in flight, and the part of the snapshot that is
//! complete only when all of that is known.
//!
//! A barrier overtakes the rows that wait before the root and everything in the channels; what is inside the chain behind the
//! root leaves it first, for which no room downstream is asked.

use super::{Advance, Task, Walking};
use crate::chain::ChainState;
use crate::gate::Delivery;
use crate::in_flight::InFlight;
use crate::messages::TaskCommand;
use rivermark_protocol::aligner::AlignMode;
use rivermark_state::InFlightChannel;
use rivermark_types::{CheckpointId, Millis, Result, SnapshotKind, Uid};
use std::sync::atomic::Ordering;

/// How a task lets barriers overtake.
#[derive(Clone, Debug)]
pub struct Overtaking {
    /// The stable name of the task's root, which what is in flight to it is found by.
    pub name: Uid,
    /// How barriers are aligned.
    pub mode: AlignMode,
    /// The most bytes that may be in flight to the task at a checkpoint; with more it is declined.
    pub max_bytes: u64,
}

/// What has become of the current checkpoint beside its rows.
#[derive(Default)]
pub(super) struct Progress {
    /// When a source was told of the barrier that it has not taken yet.
    triggered: Option<Millis>,
    /// Its rows are handed over, and what is in flight is not known yet.
    walked: Option<Walking>,
    /// What was in flight, and its rows are not handed over yet.
    in_flight: Option<(CheckpointId, Vec<InFlightChannel>)>,
}

impl Task {
    /// Lets a barrier overtake that is due to. `None` if there is none.
    pub(super) fn overtake(&mut self) -> Result<Option<Advance>> {
        if !matches!(self.overtaking.mode, AlignMode::Unaligned { .. }) {
            return Ok(None);
        }
        self.look_for_captured();
        let is_due = self.overtake_at().is_some_and(|at| at <= self.env.now());
        if !is_due || !self.chain.root_can_wait() {
            self.chain.release();
            return Ok(None);
        }
        self.chain.press();
        match self.chain.run_behind_root()? {
            ChainState::Progress => return Ok(Some(Advance::Progress)),
            ChainState::Waiting | ChainState::NoRoom => return Ok(Some(Advance::Stuck(None))),
            ChainState::Drained => {}
        }
        let Some(gate) = &mut self.gate else {
            // A source has nothing in front of the barrier now: it takes it in its turn.
            return Ok(None);
        };
        if let Delivery::Cut(barrier) = gate.overtake(self.env.now(), self.chain.rest_of_root()) {
            self.start_cut(barrier, true)?;
        }
        Ok(Some(Advance::Progress))
    }

    /// When the next barrier overtakes, if nothing happens before.
    pub(super) fn overtake_at(&self) -> Option<Millis> {
        let AlignMode::Unaligned { after } = self.overtaking.mode else {
            return None;
        };
        match &self.gate {
            Some(gate) => gate.overtake_at(),
            None => self.triggered().map(|at| at.after(after)),
        }
    }

    /// When a source was told of a barrier that may hurry.
    fn triggered(&self) -> Option<Millis> {
        let may_hurry = |order: &TaskCommand| matches!(order, TaskCommand::Trigger(barrier) if barrier.kind == SnapshotKind::Checkpoint);
        self.progress
            .triggered
            .filter(|_| self.orders.iter().any(may_hurry))
    }

    /// A source is told of a barrier.
    pub(super) fn note_trigger(&mut self) {
        self.progress.triggered = Some(self.triggered().unwrap_or(self.env.now()));
    }

    /// Hears of announced barriers; hands over what was in flight as soon as all of it is known.
    fn look_for_captured(&mut self) {
        let Some(gate) = &mut self.gate else { return };
        gate.hear(|| self.env.now());
        gate.note_arrivals(&self.counters.traces);
        if let Some((checkpoint, bytes)) = gate.capturing()
            && bytes > self.overtaking.max_bytes
        {
            gate.give_up_capture();
            let limit = self.overtaking.max_bytes;
            self.snapshots.decline(
                checkpoint,
                format!(
                    "{bytes} bytes are in flight to {}/{}, {limit} are allowed: raise \
                     rivermark.checkpoint.max-in-flight-bytes, or make channels smaller",
                    self.info.name, self.info.subtask.index
                ),
            );
        }
        if let Some(in_flight) = gate.take_captured() {
            self.hand_over(in_flight);
        }
    }

    fn hand_over(&mut self, in_flight: InFlight) {
        let checkpoint = in_flight.barrier.checkpoint;
        let bytes = in_flight.bytes();
        self.counters.in_flight_bytes.store(bytes, Ordering::Relaxed);
        let channels = in_flight.hand_over(&self.overtaking.name, self.info.subtask.index, &self.snapshots);
        self.progress.in_flight = Some((checkpoint, channels));
        if let Some(walked) = self
            .progress
            .walked
            .take_if(|walked| walked.checkpoint == checkpoint)
        {
            self.acknowledge(walked);
        }
    }

    /// The next checkpoint begins: what is left of an older one is nobody's.
    pub(super) fn forget_progress(&mut self) {
        self.progress = Progress::default();
        self.counters.in_flight_bytes.store(0, Ordering::Relaxed);
    }

    /// What was in flight at a checkpoint whose rows are handed over. `None` if the snapshot must wait for that, or is given up.
    pub(super) fn with_in_flight(&mut self, walking: Walking) -> Option<(Walking, Vec<InFlightChannel>)> {
        let checkpoint = walking.checkpoint;
        match &self.gate {
            Some(gate) if gate.gave_up(checkpoint) => return None,
            Some(gate) if gate.captures(checkpoint) => {
                self.progress.walked = Some(walking);
                return None;
            }
            _ => {}
        }
        let known = self.progress.in_flight.take_if(|(of, _)| *of == checkpoint);
        Some((walking, known.map_or_else(Vec::new, |(_, channels)| channels)))
    }
}

/// No barrier overtakes.
impl Default for Overtaking {
    fn default() -> Self {
        Overtaking {
            name: Uid::from(""),
            mode: AlignMode::ExactlyOnce,
            max_bytes: 0,
        }
    }
}
