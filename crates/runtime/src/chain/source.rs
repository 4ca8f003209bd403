//! A source at the root: it is polled instead of being handed elements.

use super::{Body, Chain, ChainNode};
use crate::metrics::{OperatorCounters, SubtaskCounters};
use crate::operator::{Cx, Output};
use crate::source::{SourceDriver, SourcePoll};
use rivermark_types::{Failure, Result};

impl Chain {
    /// Whether the root is a source.
    pub fn is_source(&self) -> bool {
        matches!(self.nodes.first().map(|node| &node.body), Some(Body::Source(_)))
    }

    /// Lets the source emit. Only with a drained chain.
    pub fn poll_source(&mut self) -> Result<Option<SourcePoll>> {
        let room = self.room(0);
        if room == 0 {
            return Ok(None);
        }
        self.at = 0;
        let max_rows = self.source_slice().min(room);
        let poll = self.with_source(max_rows, |driver, cx| driver.poll(max_rows, cx))?;
        Ok(Some(poll))
    }

    /// How many rows a source may emit at once: by the cost of the whole chain, so that a barrier gets between soon.
    fn source_slice(&self) -> usize {
        let cost: u64 = self.nodes.iter().map(|node| node.row_cost_ns).sum();
        self.slice.rows_at(cost)
    }

    pub(super) fn with_source<R>(
        &mut self,
        room: usize,
        call: impl FnOnce(&mut dyn SourceDriver, &mut Cx<'_>) -> Result<R>,
    ) -> Result<R> {
        let ChainNode {
            body,
            watermark,
            sides,
            counters,
            ..
        } = &mut self.nodes[0];
        let Body::Source(driver) = body else {
            return Err(Failure::bug("the root is not a source"));
        };
        let mut cx = Cx {
            env: &self.env,
            out: &mut self.emitted,
            room,
            watermark: *watermark,
            stage: &self.stage,
            counters: &self.counters,
            operator: counters,
        };
        let started = self.env.cost_ns();
        self.counters.traces.call_begins(0);
        let result = call(&mut **driver, &mut cx)?;
        sides.flush(&mut self.emitted);
        let rows: usize = self.emitted.iter().map(Output::rows).sum();
        SubtaskCounters::add(&self.counters.records_in, rows);
        OperatorCounters::bump(&self.nodes[0].counters.records_in, rows);
        let elapsed = self.called(0, started, rows);
        self.nodes[0].learn_cost(rows, elapsed);
        self.route(0)?;
        Ok(result)
    }
}
