//! What operators emit, on its way to where their ports lead; and how much room there is for it.

use super::{Chain, HeldRows, Target, Work};
use crate::metrics::{OperatorCounters, SubtaskCounters};
use crate::operator::Output;
use crate::outbox::Outbox;
use rivermark_data::Batch;
use rivermark_types::Result;

impl Chain {
    /// Moves what the operator emitted to where its ports lead.
    pub(super) fn route(&mut self, at: usize) -> Result<()> {
        let mut emitted = std::mem::take(&mut self.emitted);
        for output in emitted.drain(..) {
            match output {
                Output::Rows(port, batch) => {
                    OperatorCounters::bump(&self.nodes[at].counters.records_out, batch.len());
                    self.route_rows(at, port, batch)?;
                }
                Output::DeadLetters(batch) => {
                    SubtaskCounters::add(&self.counters.dead_letters, batch.len());
                    if let Some(port) = self.nodes[at].dead_letters {
                        self.route_rows(at, port, batch)?;
                    }
                }
                Output::Watermark(watermark) => {
                    self.nodes[at].watermark = self.nodes[at].watermark.max(watermark);
                    self.forward(at, &Work::Watermark(watermark))?;
                }
                Output::Status(status) => self.forward(at, &Work::Status(status))?,
            }
        }
        self.emitted = emitted;
        self.count_sent();
        Ok(())
    }

    fn route_rows(&mut self, at: usize, port: u8, batch: Batch) -> Result<()> {
        match self.nodes[at].targets.get(usize::from(port)).map(Vec::as_slice) {
            // A port that leads nowhere (a side output nobody took) drops its rows: the user did not ask for them.
            None | Some([]) => Ok(()),
            Some(&[only]) => self.deliver(only, batch),
            Some(several) => {
                let several = several.to_vec();
                several
                    .into_iter()
                    .try_for_each(|target| self.deliver(target, batch.clone()))
            }
        }
    }

    fn deliver(&mut self, target: Target, batch: Batch) -> Result<()> {
        match target {
            Target::Node(next, input) => {
                self.nodes[next]
                    .queue
                    .push_back(Work::Rows(input, HeldRows::Erased(batch)));
                Ok(())
            }
            Target::Outbox(out) => self.outboxes[out].push(batch),
        }
    }

    /// How many rows the operator may emit: what the outboxes it feeds directly still take.
    pub(super) fn room(&self, at: usize) -> usize {
        let outboxes = self.nodes[at]
            .targets
            .iter()
            .flatten()
            .filter_map(|target| match target {
                Target::Outbox(out) => Some(self.outboxes[*out].room()),
                Target::Node(..) => None,
            });
        let room = outboxes.fold(usize::MAX, usize::min);
        match self.pressed {
            true => room.max(self.slice.max_rows),
            false => room,
        }
    }

    /// Sends what the outboxes keep.
    pub fn flush(&mut self) -> Result<()> {
        self.outboxes.iter_mut().try_for_each(Outbox::flush)?;
        self.count_sent();
        Ok(())
    }

    pub(super) fn count_sent(&mut self) {
        let sent: usize = self.outboxes.iter_mut().map(Outbox::take_sent_rows).sum();
        if sent > 0 {
            let bytes: usize = self.outboxes.iter_mut().map(Outbox::take_sent_bytes).sum();
            SubtaskCounters::add(&self.counters.records_out, sent);
            SubtaskCounters::add(&self.counters.bytes_out, bytes);
        }
    }
}
