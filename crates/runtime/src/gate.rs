//! The receiving end of a task: its channels, which of them may be read, and the watermark over all of them.
//!
//! The watermark is the lowest of the channels that are neither idle nor at their end. Where all are idle it rises to the
//! highest that any of them has reached, since nobody is left to wait for, and the task is idle itself. A channel that comes
//! back from idleness behind the watermark lags: it counts again when it has caught up.

use crate::channel::{Announcements, Receiver};
use crate::in_flight::{CapturedChannel, ChannelOrigin, InFlight, RestoredInput};
use crate::metrics::{SubtaskTrace, Traces};
use crate::seams::Seams;
use rivermark_data::{Activity, Batch, Element};
use rivermark_protocol::aligner::{AlignAction, AlignEvent, AlignMode, Aligner, AlignmentStats};
use rivermark_types::{Barrier, ChannelIndex, CheckpointId, InputId, Millis, SubtaskId, Timestamp};
use std::collections::VecDeque;
use std::sync::Arc;

/// An input channel as it is wired.
pub struct InputChannel {
    /// Which input of the root it feeds.
    pub input: InputId,
    /// The subtask at its other end, for errors, e.g. `map/3`.
    pub from: String,
    /// The same, for programs; none for what was in flight at the checkpoint.
    pub producer: Option<SubtaskId>,
    /// Its elements.
    pub receiver: Receiver,
    /// What its records in flight are found by.
    pub origin: ChannelOrigin,
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
    /// How many of its barriers the aligner has heard of.
    announced: usize,
}

impl Channel {
    fn new(wired: InputChannel, watermark: Timestamp, idle: bool) -> Channel {
        Channel {
            wired,
            blocked: false,
            ended: false,
            idle,
            lags: false,
            watermark,
            rows: 0,
            announced: 0,
        }
    }

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
    /// All barriers are in, or they overtake: cut here.
    Cut(Barrier),
    /// Something was taken in that the chain need not know of.
    Nothing,
}

/// A barrier that came in by a channel that keeps its order.
struct InOrder {
    checkpoint: CheckpointId,
    from: SubtaskId,
    at: Millis,
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
    /// While channels hold what was in flight at the checkpoint: the real ones, not read before those are at their end.
    waiting: Vec<Channel>,
    /// When that ended, if there was anything.
    worked_off: Option<Millis>,
    announcements: Announcements,
    /// How many of the announcements were heard.
    heard: usize,
    /// Whether announcements matter.
    listens: bool,
    /// Rows of the last delivery that the task has not taken, while barriers overtake them.
    rest: Vec<Element>,
    /// What is in flight at the checkpoint that overtook, while channels are captured.
    capturing: Option<InFlight>,
    /// The same when all of it is known.
    captured: Option<InFlight>,
    given_up: Option<CheckpointId>,
    /// Barriers came in or were heard of since the last look.
    arrived: bool,
    /// The newest barrier in a channel that keeps its order.
    in_order: Option<InOrder>,
    /// Whose barrier was the last of what was captured.
    captured_from: Option<SubtaskId>,
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
        let mut aligner = Aligner::new(mode, channels.len());
        let in_order = (0..).zip(&channels).filter(|(_, wired)| wired.origin.keeps_order);
        in_order.for_each(|(index, _)| aligner.keep_order(ChannelIndex(index)));
        let channels = channels
            .into_iter()
            .map(|wired| Channel::new(wired, Timestamp::MIN, false));
        Gate {
            channels: channels.collect(),
            aligner,
            waiting: vec![],
            worked_off: None,
            announcements: Announcements::default(),
            heard: 0,
            listens: matches!(mode, AlignMode::Unaligned { .. }),
            rest: vec![],
            capturing: None,
            captured: None,
            given_up: None,
            arrived: false,
            in_order: None,
            captured_from: None,
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

    /// Where the barriers of its channels are announced.
    pub fn listen_to(&mut self, announcements: Announcements) {
        self.announcements = announcements;
    }

    /// Puts what was in flight at the checkpoint in front of everything.
    pub fn resume(&mut self, restored: Vec<RestoredInput>) {
        if restored.is_empty() {
            return;
        }
        let restored = restored
            .into_iter()
            .map(|input| Channel::new(input.wired, input.watermark, input.idle));
        self.waiting = std::mem::replace(&mut self.channels, restored.collect());
        // The watermark may have risen at the cut, and what it made due was not finished.
        self.follows = Some(self.changed());
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
                if let Some(capturing) = &mut self.capturing {
                    capturing.pass(at, &element);
                }
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

    /// Notes how far the barriers of the checkpoint under way are, if any came since the last time.
    pub(crate) fn note_arrivals(&mut self, traces: &Traces) {
        if !std::mem::take(&mut self.arrived) {
            return;
        }
        let Some((checkpoint, started)) = self.aligner.aligning() else {
            return;
        };
        traces.note(checkpoint, |trace| {
            trace.first_barrier.get_or_insert(started);
            trace.still_missing(self.missing());
            self.note_in_order(checkpoint, trace);
        });
    }

    /// Whose barriers are still to come.
    fn missing(&self) -> impl Iterator<Item = SubtaskId> + '_ {
        self.aligner.missing().filter_map(|index| self.producer(index))
    }

    fn producer(&self, index: ChannelIndex) -> Option<SubtaskId> {
        self.channels.get(index.0 as usize)?.wired.producer
    }

    /// Whose barrier was the last of what was captured at the last checkpoint that overtook.
    pub(crate) fn captured_from(&self) -> Option<SubtaskId> {
        self.captured_from
    }

    /// When what was in flight at the checkpoint was worked off, if there was anything.
    pub(crate) fn worked_off(&self) -> Option<Millis> {
        self.worked_off
    }

    /// Notes how the barriers of a cut came in.
    pub(crate) fn note_cut(&self, stats: AlignmentStats, trace: &mut SubtaskTrace) {
        let last = self.last.and_then(|at| self.channels.get(at));
        trace.first_barrier = Some(stats.started);
        trace.last_barrier = Some(stats.started.after(stats.duration));
        trace.last_from = last
            .filter(|_| !stats.overtook)
            .and_then(|last| last.wired.producer);
        trace.overtook = stats.overtook;
        trace.still_missing(self.missing());
        self.note_in_order(stats.checkpoint, trace);
    }

    fn note_in_order(&self, checkpoint: CheckpointId, trace: &mut SubtaskTrace) {
        let in_order = self.in_order.as_ref().filter(|of| of.checkpoint == checkpoint);
        trace.in_order = in_order.map(|in_order| (in_order.from, in_order.at));
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
            Element::Barrier(barrier) => {
                self.arrived = true;
                let wired = &self.channels[at].wired;
                if let Some(from) = wired
                    .producer
                    .filter(|_| self.listens && wired.origin.keeps_order)
                {
                    let checkpoint = barrier.checkpoint;
                    self.in_order = Some(InOrder {
                        checkpoint,
                        from,
                        at: now,
                    });
                }
                let channel = index;
                self.align(now, AlignEvent::Barrier { channel, barrier })
            }
            Element::End if !self.waiting.is_empty() => self.resumed(at, now),
            Element::End => {
                self.channels[at].ended = true;
                self.align(now, AlignEvent::ChannelEnded { channel: index })
            }
        }
    }

    /// What a change of a channel's watermark or activity means for the task.
    fn changed(&mut self) -> Delivery {
        let open = || self.channels.iter().filter(|channel| channel.is_open());
        // Behind what was in flight there may be those who are not.
        let may_idle = self.waiting.is_empty() && open().next().is_some();
        let idle = may_idle && open().all(|channel| channel.idle);
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

    /// When the last channel of what was in flight is at its end, the real ones are read. Until then each holds the watermark
    /// back, at its end too: it goes on in a real one.
    fn resumed(&mut self, at: usize, now: Millis) -> Delivery {
        self.channels[at].blocked = true;
        if self.channels.iter().any(|channel| !channel.blocked) {
            return Delivery::Nothing;
        }
        self.channels = std::mem::take(&mut self.waiting);
        self.worked_off = Some(now);
        (self.next, self.last) = (0, None);
        self.changed()
    }

    /// Tells the aligner of barriers that were put into channels since the last time.
    pub fn hear(&mut self, now: impl FnOnce() -> Millis) {
        // What was in flight at the checkpoint comes first: barriers are heard of when it has been.
        if !self.listens || !self.waiting.is_empty() {
            return;
        }
        let count = self.announcements.count();
        if count == self.heard {
            return;
        }
        self.heard = count;
        self.arrived = true;
        let now = now();
        for at in 0..self.channels.len() {
            let channel = &mut self.channels[at];
            let sent = channel.wired.receiver.barriers_sent();
            if std::mem::replace(&mut channel.announced, sent) == sent || channel.wired.origin.keeps_order {
                continue;
            }
            let channel = ChannelIndex(at as u32);
            for barrier in self.channels[at].wired.receiver.queued_barriers() {
                self.align(now, AlignEvent::Announced { channel, barrier });
            }
        }
    }

    /// From when on [`Gate::overtake`] cuts; `None` if something else must come first.
    pub fn overtake_at(&self) -> Option<Millis> {
        // What follows from a mark belongs before the cut, as the mark does.
        self.aligner.overtake_at().filter(|_| self.follows.is_none())
    }

    /// The barriers overtake, also the rows that the task has not taken yet of the last delivery.
    pub fn overtake(&mut self, now: Millis, rest: Vec<Element>) -> Delivery {
        self.rest = rest;
        let delivery = self.align(now, AlignEvent::Ready);
        debug_assert!(
            self.rest.is_empty(),
            "rows in hand come from a channel that was not cut"
        );
        delivery
    }

    /// Whether what is in flight at a checkpoint is not known yet.
    pub fn captures(&self, checkpoint: CheckpointId) -> bool {
        self.capturing()
            .is_some_and(|(captured, _)| captured == checkpoint)
    }

    /// The checkpoint at which channels are being captured, and about how many bytes are so far.
    pub fn capturing(&self) -> Option<(CheckpointId, u64)> {
        let known = self.capturing.as_ref().or(self.captured.as_ref());
        known.map(|known| (known.barrier.checkpoint, known.bytes()))
    }

    /// Gives up what is captured: the checkpoint will not be acknowledged.
    pub fn give_up_capture(&mut self) {
        if let Some((checkpoint, _)) = self.capturing() {
            self.given_up = Some(checkpoint);
        }
        (self.capturing, self.captured) = (None, None);
    }

    /// Whether the cut of a checkpoint was made, but what is in flight will never be known.
    pub fn gave_up(&self, checkpoint: CheckpointId) -> bool {
        self.given_up == Some(checkpoint)
    }

    /// What was in flight at a checkpoint that overtook, once it is known.
    pub(crate) fn take_captured(&mut self) -> Option<InFlight> {
        self.captured.take()
    }

    /// Every channel as it is at the cut.
    fn start_capture(&mut self, barrier: Barrier) {
        let capture = |channel: &Channel| {
            let (origin, input) = (channel.wired.origin.clone(), channel.wired.input.0);
            (!channel.ended).then(|| CapturedChannel::new(input, origin, channel.watermark, channel.idle))
        };
        let channels = self.channels.iter().map(capture).collect();
        self.capturing = Some(InFlight::new(barrier, channels));
    }

    /// Takes what is in flight in a channel by reference; its barrier, if that is queued and thereby delivered.
    fn capture(&mut self, index: ChannelIndex) -> Option<Barrier> {
        let at = index.0 as usize;
        let capturing = self.capturing.as_mut()?;
        if self.last == Some(at) {
            capturing.add(at, &std::mem::take(&mut self.rest), true);
        }
        let receiver = &self.channels[at].wired.receiver;
        let Some(mut overtaken) = receiver.overtake(capturing.barrier.checkpoint) else {
            capturing.add(at, &[], true);
            return None;
        };
        self.seams.overtaken(&mut overtaken);
        capturing.add(at, &overtaken, false);
        Some(capturing.barrier)
    }

    fn align(&mut self, now: Millis, event: AlignEvent) -> Delivery {
        let mut delivery = Delivery::Nothing;
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut actions = std::mem::take(&mut self.actions);
            let aligner = &mut self.aligner;
            self.seams.align(self.subtask, event, &mut |event| {
                aligner.handle(now, event, &mut actions)
            });
            debug_assert_eq!(self.aligner.check(), Ok(()));
            for action in actions.drain(..) {
                match action {
                    AlignAction::Block(channel) => self.channels[channel.0 as usize].blocked = true,
                    // Read again only after the cut: the task polls no more until its chain is drained.
                    AlignAction::Unblock(channel) => self.channels[channel.0 as usize].blocked = false,
                    AlignAction::Snapshot(barrier) => delivery = Delivery::Cut(barrier),
                    AlignAction::Overtake(barrier) => {
                        self.start_capture(barrier);
                        delivery = Delivery::Cut(barrier);
                    }
                    AlignAction::Capture(channel) => {
                        let delivered = self.capture(channel);
                        events.extend(delivered.map(|barrier| AlignEvent::Barrier { channel, barrier }));
                    }
                    AlignAction::Captured(_) => {
                        self.captured = self.capturing.take();
                        self.captured_from = match event {
                            AlignEvent::Barrier { channel, .. } => self.producer(channel),
                            _ => None,
                        };
                    }
                    AlignAction::Abandoned(_) => self.give_up_capture(),
                }
            }
            self.actions = actions;
        }
        delivery
    }
}

#[cfg(test)]
#[path = "gate_overtake_tests.rs"]
mod overtake_tests;
#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
