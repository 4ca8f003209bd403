//! The receiving end of a task: its channels, which of them may be read, and the watermark over all of them.
//!
//! The watermark is the lowest of the channels that are neither idle nor at their end. Where all are idle it rises to the
//! highest that any of them has reached, since nobody is left to wait for, and the task is idle itself. A channel that comes
//! back from idleness behind the watermark lags: it counts again when it has caught up.

use crate::channel::Receiver;
use crate::seams::Seams;
use rivermark_data::{Activity, Batch, Element};
use rivermark_protocol::aligner::{AlignAction, AlignEvent, AlignMode, Aligner, AlignmentStats};
use rivermark_types::{Barrier, ChannelIndex, CheckpointId, InputId, Millis, SubtaskId, Timestamp};
use std::sync::Arc;

/// An input channel as it is wired.
pub struct InputChannel {
    /// Which input of the root it feeds.
    pub input: InputId,
    /// The subtask at its other end, for errors, e.g. `map/3`.
    pub from: String,
    /// Its elements.
    pub receiver: Receiver,
}

struct Channel {
    wired: InputChannel,
    blocked: bool,
    ended: bool,
    idle: bool,
    /// It was idle, and has not caught up with the watermark since.
    lags: bool,
    watermark: Timestamp,
    rows: u64,
}

impl Channel {
    /// Whether rows may still come.
    fn is_open(&self) -> bool {
        !self.ended && self.watermark != Timestamp::MAX
    }
}

/// What the gate has for the chain.
pub enum Delivery {
    /// Rows for an input.
    Rows(InputId, Batch),
    /// The watermark over all channels rose.
    Watermark(Timestamp),
    /// All channels went idle, or one came back.
    Status(Activity),
    /// All barriers are in: cut here.
    Cut(Barrier),
    /// Something was taken in that the chain need not know of.
    Nothing,
}

/// All input channels of a task.
pub struct Gate {
    channels: Vec<Channel>,
    aligner: Aligner,
    next: usize,
    watermark: Timestamp,
    /// Whether the task has heard of it from this attempt.
    is_told: bool,
    idle: bool,
    /// What follows what was delivered last.
    follows: Option<Delivery>,
    actions: Vec<AlignAction>,
    last: Option<usize>,
    subtask: SubtaskId,
    seams: Arc<dyn Seams>,
}

impl Gate {
    /// A gate whose watermark starts at `watermark`: what the subtask had at the checkpoint.
    pub fn new(
        mode: AlignMode,
        channels: Vec<InputChannel>,
        watermark: Timestamp,
        subtask: SubtaskId,
        seams: Arc<dyn Seams>,
    ) -> Gate {
        let aligner = Aligner::new(mode, channels.len());
        let channels = channels.into_iter().map(|wired| Channel {
            wired,
            blocked: false,
            ended: false,
            idle: false,
            lags: false,
            watermark: Timestamp::MIN,
            rows: 0,
        });
        Gate {
            channels: channels.collect(),
            aligner,
            next: 0,
            watermark,
            is_told: false,
            idle: false,
            follows: None,
            actions: vec![],
            last: None,
            subtask,
            seams,
        }
    }

    /// The next element of a channel that may be read, in turns; `None` if there is none at hand.
    pub fn poll(&mut self, now: Millis) -> Option<Delivery> {
        if let Some(delivery) = self.follows.take() {
            return Some(delivery);
        }
        let count = self.channels.len();
        for step in 0..count {
            let at = (self.next + step) % count;
            let channel = &mut self.channels[at];
            if channel.blocked || channel.ended {
                continue;
            }
            if let Some(element) = channel.wired.receiver.pop() {
                self.next = (at + 1) % count;
                self.last = Some(at);
                return Some(self.take(at, element, now));
            }
        }
        None
    }

    /// Where the rows last delivered came from, with `remaining` of them not taken yet: channel and number of the last row
    /// taken, which is the row at work if `exact`.
    pub fn origin(&self, (remaining, exact): (usize, bool)) -> Option<String> {
        let at = self.last?;
        let channel = &self.channels[at];
        let row = channel.rows.saturating_sub(remaining as u64);
        let row = if exact {
            format!("row {row}")
        } else {
            format!("up to row {row}")
        };
        Some(format!(
            "channel {at} from {}, {row} of this attempt",
            channel.wired.from
        ))
    }

    /// How long the barriers of the last snapshot came in.
    pub fn last_alignment(&self) -> Option<AlignmentStats> {
        self.aligner.stats()
    }

    /// The coordinator gave a checkpoint up.
    pub fn abort(&mut self, now: Millis, checkpoint: CheckpointId) {
        self.align(now, AlignEvent::CheckpointAborted { checkpoint });
    }

    fn take(&mut self, at: usize, element: Element, now: Millis) -> Delivery {
        let index = ChannelIndex(at as u32);
        match element {
            Element::Batch(batch) => {
                self.channels[at].rows += batch.len() as u64;
                Delivery::Rows(self.channels[at].wired.input, batch)
            }
            Element::Watermark(watermark) => {
                let channel = &mut self.channels[at];
                channel.watermark = watermark;
                channel.lags &= watermark < self.watermark;
                self.changed()
            }
            Element::Status(activity) => {
                let channel = &mut self.channels[at];
                channel.lags =
                    channel.idle && activity == Activity::Active && channel.watermark < self.watermark;
                channel.idle = activity == Activity::Idle;
                self.changed()
            }
            Element::Barrier(barrier) => self.align(
                now,
                AlignEvent::Barrier {
                    channel: index,
                    barrier,
                },
            ),
            Element::End => {
                self.channels[at].ended = true;
                self.align(now, AlignEvent::ChannelEnded { channel: index })
            }
        }
    }

    /// What a change of a channel's watermark or activity means for the task.
    fn changed(&mut self) -> Delivery {
        let open = || self.channels.iter().filter(|channel| channel.is_open());
        let idle = open().next().is_some() && open().all(|channel| channel.idle);
        let risen = match idle {
            true => open().map(|channel| channel.watermark).max(),
            false => self.lowest(),
        };
        // What the checkpoint had passes once more: the gates behind this task start from nothing, and after the end of the
        // input nothing higher ever comes.
        let is_news = |risen: &Timestamp| match self.is_told {
            true => *risen > self.watermark,
            false => *risen >= self.watermark && *risen > Timestamp::MIN,
        };
        let risen = risen.filter(is_news).map(|risen| {
            (self.watermark, self.is_told) = (risen, true);
            Delivery::Watermark(risen)
        });
        if idle == self.idle {
            return risen.unwrap_or(Delivery::Nothing);
        }
        self.idle = idle;
        // Nobody heeds the watermark of one that is idle: it comes before that, or behind its end.
        let (status, is_first) = match idle {
            true => (Delivery::Status(Activity::Idle), false),
            false => (Delivery::Status(Activity::Active), true),
        };
        match risen {
            Some(risen) if is_first => {
                self.follows = Some(risen);
                status
            }
            Some(risen) => {
                self.follows = Some(status);
                risen
            }
            None => status,
        }
    }

    /// The lowest watermark of those that count; `None` if none does.
    fn lowest(&self) -> Option<Timestamp> {
        let mut open = self
            .channels
            .iter()
            .filter(|channel| channel.is_open())
            .peekable();
        if open.peek().is_none() {
            let at_end = |channel: &Channel| channel.watermark == Timestamp::MAX;
            return self.channels.iter().any(at_end).then_some(Timestamp::MAX);
        }
        open.filter(|channel| !channel.idle && !channel.lags)
            .map(|channel| channel.watermark)
            .min()
    }

    fn align(&mut self, now: Millis, event: AlignEvent) -> Delivery {
        let mut actions = std::mem::take(&mut self.actions);
        let aligner = &mut self.aligner;
        self.seams.align(self.subtask, event, &mut |event| {
            aligner.handle(now, event, &mut actions)
        });
        debug_assert_eq!(self.aligner.check(), Ok(()));
        let mut delivery = Delivery::Nothing;
        for action in actions.drain(..) {
            match action {
                AlignAction::Block(channel) => self.channels[channel.0 as usize].blocked = true,
                // Read again only after the cut: the task polls no more until its chain is drained.
                AlignAction::Unblock(channel) => self.channels[channel.0 as usize].blocked = false,
                AlignAction::Snapshot(barrier) => delivery = Delivery::Cut(barrier),
                AlignAction::Abandoned(_) => {}
                // Only in a mode that the runtime does not ask for yet.
                AlignAction::Overtake(_) | AlignAction::Capture(_) | AlignAction::Captured(_) => {}
            }
        }
        self.actions = actions;
        delivery
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
