//! Barriers at the gates of one task: when to hold a channel back, and when to take the snapshot.
//!
//! One [`Aligner`] serves all input channels of a task. Its caller reads channels, tells it each barrier and each end, and
//! obeys the [`AlignAction`]s in their order. The result is a consistent cut: at [`AlignAction::Snapshot`] every live channel
//! has delivered exactly its rows before the barrier (exactly-once), or at least those (at-least-once).
//!
//! - At most one checkpoint is aligned at a time. A newer barrier, on whichever channel, abandons the older alignment: it
//!   shows that the coordinator has given the older one up, or that this task can no longer complete it.
//! - Ids only grow: barriers of a checkpoint that was snapshotted, abandoned or aborted here are ignored, and so are doubles.
//! - A channel that ended counts as having delivered every barrier.
//!
//! **Unaligned checkpoints** will enter at two places and nowhere else: an urgent "announced" event beside
//! [`AlignEvent::Barrier`] and a deadline turn the current alignment into an overtaking one, which completes at once; and
//! `Aligner::hold_back`, the one place that decides which channels are read, then also names those whose queue is in flight.
//! The clock is handed to `handle` already.
//!
//! Non-goals: buffering (a channel that is not read keeps its elements itself), forwarding, in-flight data.

use rivermark_types::{Barrier, ChannelIndex, CheckpointId, Millis};
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
}

/// What happened at the gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlignEvent {
    /// A channel delivered a barrier.
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
    /// The alignment of this checkpoint was given up; there will be no snapshot of it here.
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
            AlignAction::Abandoned(checkpoint) => write!(f, "abandoned {checkpoint}"),
        }
    }
}

/// How long the channels of one snapshot took to agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlignmentStats {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// When its first barrier came in.
    pub started: Millis,
    /// From its first barrier to its last.
    pub duration: Duration,
}

/// How many aborts of checkpoints not seen yet are remembered. Forgetting one costs a snapshot that nobody wants.
const REMEMBERED_ABORTS: usize = 64;

#[derive(Clone, Debug, Default)]
struct Channel {
    /// The newest barrier it delivered.
    delivered: Option<CheckpointId>,
    blocked: bool,
    ended: bool,
}

#[derive(Clone, Debug)]
struct Alignment {
    barrier: Barrier,
    started: Millis,
    /// Live channels whose barrier is still to come: never zero between two events.
    missing: usize,
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

    /// Takes one event in and appends what must be done, in order.
    pub fn handle(&mut self, now: Millis, event: AlignEvent, out: &mut Vec<AlignAction>) {
        let before = self.aligning();
        let mut concerned = 0..0;
        match event {
            AlignEvent::Barrier { channel, barrier } => {
                concerned = channel.0 as usize..channel.0 as usize + 1;
                self.on_barrier(now, channel, barrier, out);
            }
            AlignEvent::ChannelEnded { channel } => self.on_ended(now, channel, out),
            AlignEvent::CheckpointAborted { checkpoint } => self.on_aborted(checkpoint, out),
        }
        if self.aligning() != before {
            concerned = 0..self.channels.len();
        }
        self.hold_back(concerned, out);
        debug_assert_eq!(self.check(), Ok(()));
    }

    /// How the newest snapshot was aligned; up to date as soon as its `Snapshot` is out.
    pub fn stats(&self) -> Option<AlignmentStats> {
        self.last
    }

    /// The checkpoint that is being aligned, and since when.
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

    fn on_barrier(&mut self, now: Millis, index: ChannelIndex, barrier: Barrier, out: &mut Vec<AlignAction>) {
        let is_live = self
            .channels
            .get(index.0 as usize)
            .is_some_and(|channel| !channel.ended);
        if !is_live || self.is_stale(barrier.checkpoint) {
            return;
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
            });
        }
        self.deliver(index, barrier.checkpoint);
        self.snapshot_if_complete(now, out);
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
        let Alignment { barrier, started, .. } = current;
        self.last = Some(AlignmentStats {
            checkpoint: barrier.checkpoint,
            started,
            duration: now.since(started),
        });
        out.push(AlignAction::Snapshot(barrier));
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

    /// The only place that decides which channels are read. It comes last in every event, so that a snapshot is out before
    /// any channel is read again.
    fn hold_back(&mut self, channels: Range<usize>, out: &mut Vec<AlignAction>) {
        let holding = self
            .current
            .as_ref()
            .filter(|_| self.mode == AlignMode::ExactlyOnce);
        let holding = holding.map(|current| current.barrier.checkpoint);
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
        let expected = match self.mode {
            AlignMode::ExactlyOnce => self.channels.iter().filter(delivered).count(),
            AlignMode::AtLeastOnce => 0,
        };
        if held != expected || held != blocked {
            return Err(format!(
                "{blocked} channels blocked, {held} of them delivered {checkpoint}, {expected} expected"
            ));
        }
        Ok(())
    }
}
