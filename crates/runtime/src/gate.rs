//! The receiving end of a task: its channels, which of them may be read, and the watermark over all of them.

use crate::channel::Receiver;
use crate::seams::Seams;
use rivermark_data::{Activity, Batch, Element};
use rivermark_protocol::aligner::{AlignAction, AlignEvent, AlignMode, Aligner};
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
    watermark: Timestamp,
    rows: u64,
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
    idle: bool,
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
            watermark: Timestamp::MIN,
            rows: 0,
        });
        Gate {
            channels: channels.collect(),
            aligner,
            next: 0,
            watermark,
            idle: false,
            actions: vec![],
            last: None,
            subtask,
            seams,
        }
    }

    /// The next element of a channel that may be read, in turns; `None` if there is none at hand.
    pub fn poll(&mut self, now: Millis) -> Option<Delivery> {
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
                self.channels[at].watermark = watermark;
                self.risen()
            }
            Element::Status(activity) => self.activity(at, activity),
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

    fn risen(&mut self) -> Delivery {
        let live = self
            .channels
            .iter()
            .filter(|channel| !channel.ended && !channel.idle);
        let lowest = live
            .map(|channel| channel.watermark)
            .min()
            .unwrap_or(self.watermark);
        if lowest <= self.watermark {
            return Delivery::Nothing;
        }
        self.watermark = lowest;
        Delivery::Watermark(lowest)
    }

    fn activity(&mut self, at: usize, activity: Activity) -> Delivery {
        self.channels[at].idle = activity == Activity::Idle;
        let all_idle = self.channels.iter().all(|channel| channel.idle || channel.ended);
        if all_idle != self.idle {
            self.idle = all_idle;
            return Delivery::Status(if all_idle {
                Activity::Idle
            } else {
                Activity::Active
            });
        }
        self.risen()
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
            }
        }
        self.actions = actions;
        delivery
    }
}
