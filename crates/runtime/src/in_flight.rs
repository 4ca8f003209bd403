//! What is in flight: captured at a gate while barriers overtake, and put in front of a gate when a job goes on from there.
//!
//! Elements are kept by reference; the I/O side encodes them. Non-goals: when barriers overtake (the aligner), how what was
//! captured is kept (`rivermark_state::in_flight`).

use crate::channel::{Announcements, Credit, watched_channel};
use crate::gate::InputChannel;
use crate::waker::SlotWaker;
use rivermark_data::{Batch, EdgeType, Element, Route, Router};
use rivermark_state::in_flight::{in_flight_chunk, in_flight_rows};
use rivermark_state::{InFlightChannel, SnapshotHandle, SnapshotReader};
use rivermark_types::{Barrier, Result, Timestamp, Uid};
use std::ops::Range;
use std::sync::Arc;

/// Where the elements of a channel come from, and what their records are.
#[derive(Clone)]
pub struct ChannelOrigin {
    /// The stable name of the operator that sends.
    pub operator: Uid,
    /// Its output port.
    pub port: u8,
    /// Its subtask.
    pub index: u32,
    /// The type of the records.
    pub edge: Arc<dyn EdgeType>,
    /// Whether records find it by key.
    pub by_key: bool,
    /// No barrier overtakes in it.
    pub keeps_order: bool,
}

/// One channel while barriers overtake.
pub(crate) struct CapturedChannel {
    pub(crate) origin: ChannelOrigin,
    /// What it was at the cut, and what is in flight.
    pub(crate) entry: InFlightChannel,
    batches: Vec<Batch>,
    /// Its barrier is still to come: whatever it delivers is in flight.
    is_open: bool,
}

impl CapturedChannel {
    pub(crate) fn new(input: u8, origin: ChannelOrigin, watermark: Timestamp, idle: bool) -> CapturedChannel {
        let entry = InFlightChannel {
            input,
            from: origin.operator.clone(),
            port: origin.port,
            index: origin.index,
            by_key: origin.by_key,
            watermark,
            idle,
            rows: 0,
            bytes: 0,
            marks: vec![],
        };
        CapturedChannel {
            origin,
            entry,
            batches: vec![],
            is_open: false,
        }
    }

    /// Adds elements; about how many bytes that is.
    fn add(&mut self, elements: &[Element]) -> u64 {
        let before = self.entry.bytes;
        self.entry.note(elements);
        let batches = elements.iter().filter_map(|element| match element {
            Element::Batch(batch) => Some(batch.clone()),
            _ => None,
        });
        self.batches.extend(batches);
        self.entry.bytes - before
    }
}

/// What is in flight to one subtask at a checkpoint, as far as it is known.
pub(crate) struct InFlight {
    pub(crate) barrier: Barrier,
    /// By channel; those that have ended are left out.
    channels: Vec<Option<CapturedChannel>>,
    bytes: u64,
}

impl InFlight {
    pub(crate) fn new(barrier: Barrier, channels: Vec<Option<CapturedChannel>>) -> InFlight {
        InFlight {
            barrier,
            channels,
            bytes: 0,
        }
    }

    /// Adds what is in flight in a channel; `is_open` tells whether more is to come.
    pub(crate) fn add(&mut self, channel: usize, elements: &[Element], is_open: bool) {
        if let Some(Some(captured)) = self.channels.get_mut(channel) {
            self.bytes += captured.add(elements);
            captured.is_open = is_open;
        }
    }

    /// A channel delivers an element.
    pub(crate) fn pass(&mut self, channel: usize, element: &Element) {
        if let Some(Some(captured)) = self.channels.get_mut(channel)
            && captured.is_open
        {
            let is_its_end =
                matches!(element, Element::Barrier(b) if b.checkpoint == self.barrier.checkpoint);
            captured.is_open = !is_its_end;
            self.bytes += captured.add(std::slice::from_ref(element));
        }
    }

    /// What is known of each channel.
    #[cfg(test)]
    pub(crate) fn entries(&self) -> impl Iterator<Item = &InFlightChannel> {
        self.channels.iter().flatten().map(|channel| &channel.entry)
    }

    /// About how many bytes of memory it holds.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Hands the records to the writer; what is left is for the manifest. Nothing if nothing was in flight.
    pub(crate) fn hand_over(self, operator: &Uid, to: u32, writer: &SnapshotHandle) -> Vec<InFlightChannel> {
        let is_empty = |channel: &CapturedChannel| channel.entry.rows == 0 && channel.entry.marks.is_empty();
        if self.channels.iter().flatten().all(is_empty) {
            return vec![];
        }
        let channels = self.channels.into_iter().flatten().map(|channel| {
            if channel.entry.rows > 0 {
                let state = channel.entry.state(operator, to);
                writer.chunk(
                    self.barrier.checkpoint,
                    in_flight_chunk(state, channel.batches, channel.origin.edge),
                );
            }
            channel.entry
        });
        channels.collect()
    }
}

/// A channel of the checkpoint, with what a subtask gets of what was in flight in it.
#[derive(Clone)]
pub struct RestoredChannel {
    /// What the checkpoint says of it.
    pub channel: InFlightChannel,
    /// The operator that it led to.
    pub operator: Uid,
    /// That operator's subtask, then.
    pub to: u32,
    /// The type of its records.
    pub edge: Arc<dyn EdgeType>,
    /// How the records are dealt out now, and which of the parts is this subtask's; `None` if all are. In turns means in
    /// runs: each part some of the channel's records that follow each other.
    pub part: Option<(Route, usize, usize)>,
}

impl RestoredChannel {
    /// Fetches its elements and puts them into a channel that ends behind them.
    pub(crate) async fn load(self, reader: &SnapshotReader) -> Result<RestoredInput> {
        let pages = match self.channel.rows {
            0 => vec![],
            _ => reader.pages(&self.channel.state(&self.operator, self.to)).await?,
        };
        let rows = in_flight_rows(&pages, &*self.edge)?;
        let credit = Credit { rows: 0, bytes: 0 };
        let (sender, receiver) = watched_channel(
            credit,
            SlotWaker::default(),
            SlotWaker::default(),
            Arc::default(),
            Announcements::default(),
        );
        let (all, mut done) = (self.channel.rows, 0);
        for element in self.channel.elements(rows)? {
            match (element, self.part) {
                (Element::Batch(batch), Some((Route::Rebalance, parts, own))) => {
                    let run = run_of(all, parts as u64, own as u64);
                    let end = done + batch.len() as u64;
                    let (first, last) = (run.start.max(done), run.end.min(end));
                    if first < last {
                        let ours = batch.copy_of((first - done) as usize..(last - done) as usize);
                        sender.send(Element::Batch(ours));
                    }
                    done = end;
                }
                (Element::Batch(batch), Some((route, parts, own))) => {
                    let router = Router::new(route, parts, batch.len());
                    let mut scatter = self.edge.scatter(router);
                    let mut emit = |part: usize, batch: Batch| {
                        if part == own {
                            sender.send(Element::Batch(batch));
                        }
                    };
                    scatter.push(batch, &mut emit)?;
                    scatter.flush(&mut emit);
                }
                (element, _) => sender.send(element),
            }
        }
        sender.send(Element::End);
        let InFlightChannel { from, index, .. } = &self.channel;
        Ok(RestoredInput {
            wired: InputChannel {
                input: rivermark_types::InputId(self.channel.input),
                from: format!("{from}/{index}, in flight at the checkpoint"),
                producer: None,
                receiver,
                origin: ChannelOrigin {
                    operator: from.clone(),
                    port: self.channel.port,
                    index: *index,
                    edge: self.edge,
                    by_key: self.channel.by_key,
                    keeps_order: true,
                },
            },
            watermark: self.channel.watermark,
            idle: self.channel.idle,
        })
    }
}

/// Which of so many records a part gets, when each gets some that follow each other.
fn run_of(records: u64, parts: u64, own: u64) -> Range<u64> {
    let begin = |part| (u128::from(records) * u128::from(part) / u128::from(parts.max(1))) as u64;
    begin(own)..begin(own + 1)
}

/// A finite channel of elements that were in flight.
pub struct RestoredInput {
    /// The channel; it ends behind them.
    pub wired: InputChannel,
    /// Its watermark at the cut.
    pub watermark: Timestamp,
    /// Whether it was idle at the cut.
    pub idle: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_follow_each_other_and_are_as_long_as_each_other() {
        for (records, parts) in [(0, 3), (1, 3), (2, 3), (3, 3), (10, 4), (u64::MAX, 7), (5, 1)] {
            let runs: Vec<Range<u64>> = (0..parts).map(|own| run_of(records, parts, own)).collect();
            assert_eq!((runs[0].start, runs[runs.len() - 1].end), (0, records));
            assert!(runs.windows(2).all(|two| two[0].end == two[1].start), "{runs:?}");
            let long = |run: &Range<u64>| run.end - run.start;
            assert!(
                runs.iter().all(|run| long(run) - records / parts <= 1),
                "{runs:?}"
            );
        }
    }
}
