//! Barriers at the gates of one task: when to hold a channel back, and when to take the snapshot.
//!
//! One [`Aligner`] serves all input channels of a task. Its caller reads channels, tells it each barrier and each end, and
//! obeys the [`AlignAction`]s in their order. The result is a consistent cut: at [`AlignAction::Snapshot`] every live channel
//! has delivered exactly its rows before the barrier (exactly-once), or at least those (at-least-once). At
//! [`AlignAction::Overtake`] (unaligned) some have delivered fewer: what they have in front of the barrier is in flight, and is
//! part of the snapshot as it is.
//!
//! - At most one checkpoint is aligned at a time. A newer barrier, on whichever channel, abandons the older alignment: it
//!   shows that the coordinator has given the older one up, or that this task can no longer complete it.
//! - Ids only grow: barriers of a checkpoint that was snapshotted, abandoned or aborted here are ignored, and so are doubles.
//! - A channel that ended counts as having delivered every barrier.
//!
//! **Overtaking.** In mode [`AlignMode::Unaligned`] a barrier that only lies in a channel's queue ([`AlignEvent::Announced`])
//! begins the alignment too. When it has lasted long enough, the next [`AlignEvent::Ready`] (the task could cut now) makes
//! the barriers overtake: the cut is made, held channels are let go, and each channel whose barrier is missing is captured up
//! to it. With the last of them comes [`AlignAction::Captured`]. Channels that must keep their order ([`Aligner::keep_order`])
//! are waited for first; savepoints and final checkpoints never overtake.
//!
//! Non-goals: buffering (a channel that is not read keeps its elements itself), forwarding, keeping what is in flight.

use rivermark_types::{Barrier, ChannelIndex, CheckpointId, Millis, SnapshotKind};
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

/// What the cut must be good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlignMode {
    /// A channel that delivered its barrier is held back until the snapshot is taken.
    ExactlyOnce,
    /// Nothing is ever held back; rows after the barrier may be part of the snapshot and come again after a restore.
    AtLeastOnce,
    /// Exactly once too, but a checkpoint that has been aligned for this long overtakes what lies in front of its barriers.
    Unaligned {
        /// How long; 0 is at once.
        after: Duration,
    },
}

/// What happened at the gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlignEvent {
    /// A barrier lies in a channel's queue, behind elements that were not read yet.
    Announced {
        /// The channel.
        channel: ChannelIndex,
        /// The barrier.
        barrier: Barrier,
    },
    /// The task could cut now. It need not ask before [`Aligner::overtake_at`].
    Ready,
    /// A channel delivered a barrier, in its turn or because it was captured up to there.
    Barrier {
        /// The channel.
        channel: ChannelIndex,
        /// The barrier.
        barrier: Barrier,
    },
    /// A channel delivered its end; nothing comes after it.
    ChannelEnded {
        /// The channel.
        channel: ChannelIndex,
    },
    /// The coordinator gave a checkpoint up.
    CheckpointAborted {
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
}

/// What the task must do, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlignAction {
    /// Do not read this channel until it is unblocked.
    Block(ChannelIndex),
    /// Read this channel again.
    Unblock(ChannelIndex),
    /// The cut is here: snapshot and forward the barrier before anything else is read.
    Snapshot(Barrier),
    /// The cut is here, like [`AlignAction::Snapshot`]; what is in flight follows by [`AlignAction::Capture`].
    Overtake(Barrier),
    /// Whatever this channel has in front of its barrier is part of the snapshot: what is queued if the barrier is (the barrier
    /// is then delivered), else all that comes until it does. Comes again when the barrier is announced.
    Capture(ChannelIndex),
    /// The last barrier of the checkpoint that overtook is in: what is in flight is known.
    Captured(CheckpointId),
    /// This checkpoint was given up; there will be no snapshot of it here, or what is in flight stays unknown.
    Abandoned(CheckpointId),
}

impl fmt::Display for AlignAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AlignAction::Block(channel) => write!(f, "block {channel}"),
            AlignAction::Unblock(channel) => write!(f, "unblock {channel}"),
            AlignAction::Snapshot(barrier) => {
                write!(f, "snapshot {} ({:?})", barrier.checkpoint, barrier.kind)
            }
            AlignAction::Overtake(barrier) => {
                write!(f, "overtake {} ({:?})", barrier.checkpoint, barrier.kind)
            }
            AlignAction::Capture(channel) => write!(f, "capture {channel}"),
            AlignAction::Captured(checkpoint) => write!(f, "captured {checkpoint}"),
            AlignAction::Abandoned(checkpoint) => write!(f, "abandoned {checkpoint}"),
        }
    }
}

/// How long the channels of one snapshot took to agree, or until the barriers overtook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlignmentStats {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// When its first barrier came in or was announced.
    pub started: Millis,
    /// From then to the cut.
    pub duration: Duration,
    /// Whether barriers overtook.
    pub overtook: bool,
}

/// How many aborts of checkpoints not seen yet are remembered. Forgetting one costs a snapshot that nobody wants.
const REMEMBERED_ABORTS: usize = 64;

#[derive(Clone, Debug, Default)]
struct Channel {
    /// The newest barrier it delivered.
    delivered: Option<CheckpointId>,
    blocked: bool,
    ended: bool,
    /// No barrier of it may overtake.
    in_order: bool,
}

#[derive(Clone, Debug)]
struct Alignment {
    barrier: Barrier,
    started: Millis,
    /// Live channels whose barrier is still to come: never zero between two events.
    missing: usize,
    /// The cut was made; the missing channels are being captured.
    overtook: bool,
}

/// The alignment machine of one task. See the module's text for its rules.
#[derive(Clone, Debug)]
pub struct Aligner {
    mode: AlignMode,
    channels: Vec<Channel>,
    current: Option<Alignment>,
    /// The newest checkpoint that was snapshotted or abandoned here.
    settled: Option<CheckpointId>,
    /// Checkpoints that were aborted before their first barrier came in; all newer than `settled`.
    aborted: BTreeSet<CheckpointId>,
    last: Option<AlignmentStats>,
}

impl Aligner {
    /// The aligner of a task with so many input channels.
    pub fn new(mode: AlignMode, channels: usize) -> Aligner {
        let channels = vec![Channel::default(); channels];
        Aligner {
            mode,
            channels,
            current: None,
            settled: None,
            aborted: BTreeSet::new(),
            last: None,
        }
    }

    /// Barriers of this channel wait for what is in front of them, whatever the mode.
    pub fn keep_order(&mut self, channel: ChannelIndex) {
        if let Some(channel) = self.channels.get_mut(channel.0 as usize) {
            channel.in_order = true;
        }
    }

    /// Takes one event in and appends what must be done, in order.
    pub fn handle(&mut self, now: Millis, event: AlignEvent, out: &mut Vec<AlignAction>) {
        let before = self.holding();
        let mut concerned = 0..0;
        match event {
            AlignEvent::Announced { channel, barrier } => self.on_announced(now, channel, barrier, out),
            AlignEvent::Ready => self.overtake_if_due(now, out),
            AlignEvent::Barrier { channel, barrier } => {
                concerned = channel.0 as usize..channel.0 as usize + 1;
                self.on_barrier(now, channel, barrier, out);
            }
            AlignEvent::ChannelEnded { channel } => self.on_ended(now, channel, out),
            AlignEvent::CheckpointAborted { checkpoint } => self.on_aborted(checkpoint, out),
        }
        if self.holding() != before {
            concerned = 0..self.channels.len();
        }
        self.hold_back(concerned, out);
        debug_assert_eq!(self.check(), Ok(()));
    }

    /// How the newest snapshot was aligned; up to date as soon as its `Snapshot` is out.
    pub fn stats(&self) -> Option<AlignmentStats> {
        self.last
    }

    /// From when on [`AlignEvent::Ready`] makes the barriers overtake; `None` if something else must come first.
    pub fn overtake_at(&self) -> Option<Millis> {
        let AlignMode::Unaligned { after } = self.mode else {
            return None;
        };
        let current = self.current.as_ref()?;
        let may = !current.overtook && current.barrier.kind == SnapshotKind::Checkpoint;
        (may && self.waits_in_order().next().is_none()).then(|| current.started.after(after))
    }

    /// The channels that the barriers cannot overtake although they are still missing: what holds an unaligned checkpoint up.
    pub fn waits_in_order(&self) -> impl Iterator<Item = ChannelIndex> + '_ {
        let current = self.current.as_ref().filter(|current| !current.overtook);
        let current = current.map(|current| current.barrier.checkpoint);
        let waits =
            move |channel: &Channel| channel.in_order && !channel.ended && channel.delivered != current;
        let channels = (0..).zip(&self.channels);
        channels
            .filter(move |(_, channel)| current.is_some() && waits(channel))
            .map(|(index, _)| ChannelIndex(index))
    }

    /// The live channels whose barrier of the checkpoint under way is still to come.
    pub fn missing(&self) -> impl Iterator<Item = ChannelIndex> + '_ {
        let current = self.current.as_ref().map(|current| current.barrier.checkpoint);
        let is_missing = move |channel: &Channel| !channel.ended && channel.delivered != current;
        let channels = (0..).zip(&self.channels);
        channels
            .filter(move |(_, channel)| current.is_some() && is_missing(channel))
            .map(|(index, _)| ChannelIndex(index))
    }

    /// The checkpoint that is being aligned or captured, and since when.
    pub fn aligning(&self) -> Option<(CheckpointId, Millis)> {
        self.current
            .as_ref()
            .map(|current| (current.barrier.checkpoint, current.started))
    }

    /// Whether the channel must not be read now.
    pub fn is_blocked(&self, channel: ChannelIndex) -> bool {
        self.channels
            .get(channel.0 as usize)
            .is_some_and(|channel| channel.blocked)
    }

    fn on_announced(
        &mut self,
        now: Millis,
        index: ChannelIndex,
        barrier: Barrier,
        out: &mut Vec<AlignAction>,
    ) {
        let unaligned = matches!(self.mode, AlignMode::Unaligned { .. });
        if !unaligned || !self.begin(now, index, barrier, out) {
            return;
        }
        let is_missing = |channel: &Channel| channel.delivered != Some(barrier.checkpoint);
        if self.current.as_ref().is_some_and(|current| current.overtook)
            && self.channels.get(index.0 as usize).is_some_and(is_missing)
        {
            out.push(AlignAction::Capture(index));
        }
    }

    fn on_barrier(&mut self, now: Millis, index: ChannelIndex, barrier: Barrier, out: &mut Vec<AlignAction>) {
        if self.begin(now, index, barrier, out) {
            self.deliver(index, barrier.checkpoint);
            self.snapshot_if_complete(now, out);
        }
    }

    /// Makes the barrier's checkpoint the current one; false if the barrier says nothing new.
    fn begin(
        &mut self,
        now: Millis,
        index: ChannelIndex,
        barrier: Barrier,
        out: &mut Vec<AlignAction>,
    ) -> bool {
        let is_live = self
            .channels
            .get(index.0 as usize)
            .is_some_and(|channel| !channel.ended);
        if !is_live || self.is_stale(barrier.checkpoint) {
            return false;
        }
        if self
            .current
            .as_ref()
            .is_none_or(|current| current.barrier.checkpoint < barrier.checkpoint)
        {
            self.abandon(out);
            let missing = self.channels.iter().filter(|channel| !channel.ended).count();
            self.current = Some(Alignment {
                barrier,
                started: now,
                missing,
                overtook: false,
            });
        }
        true
    }

    fn overtake_if_due(&mut self, now: Millis, out: &mut Vec<AlignAction>) {
        if self.overtake_at().is_none_or(|at| now < at) {
            return;
        }
        let Some(current) = &mut self.current else { return };
        current.overtook = true;
        let barrier = current.barrier;
        self.last = Some(AlignmentStats {
            checkpoint: barrier.checkpoint,
            started: current.started,
            duration: now.since(current.started),
            overtook: true,
        });
        out.push(AlignAction::Overtake(barrier));
        let missing = (0..)
            .zip(&self.channels)
            .filter(|(_, channel)| !channel.ended && channel.delivered != Some(barrier.checkpoint));
        out.extend(missing.map(|(index, _)| AlignAction::Capture(ChannelIndex(index))));
    }

    fn on_ended(&mut self, now: Millis, index: ChannelIndex, out: &mut Vec<AlignAction>) {
        let Some(channel) = self.channels.get_mut(index.0 as usize) else {
            return;
        };
        if std::mem::replace(&mut channel.ended, true) {
            return;
        }
        if let Some(current) = &mut self.current
            && channel.delivered != Some(current.barrier.checkpoint)
        {
            current.missing -= 1;
        }
        self.snapshot_if_complete(now, out);
    }

    fn on_aborted(&mut self, checkpoint: CheckpointId, out: &mut Vec<AlignAction>) {
        if self.aligning().is_some_and(|(current, _)| current == checkpoint) {
            self.abandon(out);
        } else if !self.is_stale(checkpoint) {
            self.aborted.insert(checkpoint);
            if self.aborted.len() > REMEMBERED_ABORTS {
                self.aborted.pop_first();
            }
        }
    }

    fn is_stale(&self, checkpoint: CheckpointId) -> bool {
        self.settled.is_some_and(|settled| checkpoint <= settled)
            || self.aligning().is_some_and(|(current, _)| checkpoint < current)
            || self.aborted.contains(&checkpoint)
    }

    /// Notes the current barrier on a live channel.
    fn deliver(&mut self, index: ChannelIndex, checkpoint: CheckpointId) {
        let (Some(current), Some(channel)) = (&mut self.current, self.channels.get_mut(index.0 as usize))
        else {
            return;
        };
        if channel.delivered != Some(checkpoint) {
            channel.delivered = Some(checkpoint);
            current.missing -= 1;
        }
    }

    fn snapshot_if_complete(&mut self, now: Millis, out: &mut Vec<AlignAction>) {
        let Some(current) = self.current.take_if(|current| current.missing == 0) else {
            return;
        };
        let barrier = current.barrier;
        if current.overtook {
            out.push(AlignAction::Captured(barrier.checkpoint));
        } else {
            self.last = Some(AlignmentStats {
                checkpoint: barrier.checkpoint,
                started: current.started,
                duration: now.since(current.started),
                overtook: false,
            });
            out.push(AlignAction::Snapshot(barrier));
        }
        self.settle(barrier.checkpoint);
    }

    fn abandon(&mut self, out: &mut Vec<AlignAction>) {
        if let Some(current) = self.current.take() {
            out.push(AlignAction::Abandoned(current.barrier.checkpoint));
            self.settle(current.barrier.checkpoint);
        }
    }

    /// The one way out of an alignment: the checkpoint never comes back.
    fn settle(&mut self, checkpoint: CheckpointId) {
        self.settled = Some(checkpoint);
        self.aborted.retain(|aborted| *aborted > checkpoint);
    }

    /// The checkpoint whose barriers hold their channels back.
    fn holding(&self) -> Option<CheckpointId> {
        let holds = |current: &&Alignment| self.mode != AlignMode::AtLeastOnce && !current.overtook;
        let current = self.current.as_ref().filter(holds);
        current.map(|current| current.barrier.checkpoint)
    }

    /// The only place that decides which channels are read. It comes last in every event, so that a snapshot is out before
    /// any channel is read again.
    fn hold_back(&mut self, channels: Range<usize>, out: &mut Vec<AlignAction>) {
        let holding = self.holding();
        for (index, channel) in self
            .channels
            .iter_mut()
            .enumerate()
            .skip(channels.start)
            .take(channels.len())
        {
            let hold = holding.is_some() && channel.delivered == holding;
            if std::mem::replace(&mut channel.blocked, hold) != hold {
                let index = ChannelIndex(index as u32);
                out.push(if hold {
                    AlignAction::Block(index)
                } else {
                    AlignAction::Unblock(index)
                });
            }
        }
    }

    /// The invariants between two events; asserted after each in debug builds.
    pub fn check(&self) -> Result<(), String> {
        let blocked = self.channels.iter().filter(|channel| channel.blocked).count();
        let Some(current) = &self.current else {
            return if blocked == 0 {
                Ok(())
            } else {
                Err(format!("{blocked} channels blocked without an alignment"))
            };
        };
        let checkpoint = current.barrier.checkpoint;
        if self.settled.is_some_and(|settled| checkpoint <= settled) {
            return Err(format!("aligning {checkpoint}, which is settled"));
        }
        let delivered = |channel: &&Channel| channel.delivered == Some(checkpoint);
        let missing = self.channels.iter().filter(|c| !c.ended && !delivered(c)).count();
        if missing == 0 || missing != current.missing {
            return Err(format!(
                "{missing} barriers of {checkpoint} are missing, {} counted",
                current.missing
            ));
        }
        let held = self
            .channels
            .iter()
            .filter(delivered)
            .filter(|channel| channel.blocked)
            .count();
        let expected = match self.holding() {
            Some(_) => self.channels.iter().filter(delivered).count(),
            None => 0,
        };
        let in_order = |channel: &&Channel| channel.in_order && !channel.ended && !delivered(channel);
        if current.overtook && self.channels.iter().any(|channel| in_order(&channel)) {
            return Err(format!("{checkpoint} overtook on a channel that keeps its order"));
        }
        if held != expected || held != blocked {
            return Err(format!(
                "{blocked} channels blocked, {held} of them delivered {checkpoint}, {expected} expected"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "aligner_tests.rs"]
mod tests;
