//! The sending end of one exchange: records dealt out, packed into batches, put into channels; marks to every channel.

use crate::channel::Sender;
use crate::seams::ForcedCodec;
use rivermark_data::{Batch, Element, Scatter};
use rivermark_types::{Failure, Result, SubtaskId};
use std::sync::Arc;

/// One subtask's output on one exchange.
pub struct Outbox {
    scatter: Box<dyn Scatter>,
    channels: Vec<Sender>,
    /// Whose they are, if that is known.
    consumers: Vec<SubtaskId>,
    forced: Option<Arc<dyn ForcedCodec>>,
    sent_rows: usize,
    sent_bytes: usize,
    failure: Option<Failure>,
}

impl Outbox {
    /// An outbox over the channels to each consumer, in the order of their index.
    pub fn new(
        scatter: Box<dyn Scatter>,
        channels: Vec<Sender>,
        forced: Option<Arc<dyn ForcedCodec>>,
    ) -> Outbox {
        Outbox {
            scatter,
            channels,
            consumers: vec![],
            forced,
            sent_rows: 0,
            sent_bytes: 0,
            failure: None,
        }
    }

    /// The same outbox, which can name who takes no more.
    pub fn leading_to(self, consumers: Vec<SubtaskId>) -> Outbox {
        Outbox { consumers, ..self }
    }

    /// A consumer whose channel takes no more.
    pub fn full(&self) -> Option<SubtaskId> {
        let mut channels = self.channels.iter().zip(&self.consumers);
        channels
            .find(|(channel, _)| channel.room() == 0)
            .map(|(_, consumer)| *consumer)
    }

    /// How many rows any channel still takes.
    pub fn room(&self) -> usize {
        // Every channel is asked, so that each of the full ones wakes this slot.
        let rooms = self.channels.iter().map(Sender::room);
        rooms.fold(usize::MAX, usize::min)
    }

    /// Takes records; full batches leave.
    pub fn push(&mut self, batch: Batch) -> Result<()> {
        self.with_channels(|scatter, emit| scatter.push(batch, emit))
    }

    /// Sends what is not full yet.
    pub fn flush(&mut self) -> Result<()> {
        if self.scatter.pending() == 0 {
            return Ok(());
        }
        self.with_channels(|scatter, emit| {
            scatter.flush(emit);
            Ok(())
        })
    }

    /// Sends a mark to every channel, behind all records taken so far.
    pub fn mark(&mut self, mark: &Element) -> Result<()> {
        self.flush()?;
        self.channels
            .iter()
            .for_each(|channel| channel.send(mark.clone()));
        Ok(())
    }

    /// Records sent since the last call.
    pub fn take_sent_rows(&mut self) -> usize {
        std::mem::take(&mut self.sent_rows)
    }

    /// About how many bytes of memory the records sent since the last call hold.
    pub fn take_sent_bytes(&mut self) -> usize {
        std::mem::take(&mut self.sent_bytes)
    }

    fn with_channels(
        &mut self,
        work: impl FnOnce(&mut dyn Scatter, &mut rivermark_data::Emit<'_>) -> Result<()>,
    ) -> Result<()> {
        let Outbox {
            scatter,
            channels,
            forced,
            sent_rows,
            sent_bytes,
            failure,
            ..
        } = self;
        let mut emit = |channel: usize, batch: Batch| {
            *sent_rows += batch.len();
            *sent_bytes += batch.bytes();
            let passed = match forced {
                Some(codec) => codec.pass(batch),
                None => Ok(batch),
            };
            match passed {
                Ok(batch) => channels[channel].send(Element::Batch(batch)),
                Err(error) => *failure = Some(error),
            }
        };
        work(&mut **scatter, &mut emit)?;
        failure.take().map_or(Ok(()), Err)
    }
}
