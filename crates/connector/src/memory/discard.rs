//! A sink that drops everything, for measuring what comes before it.

use rivermark_runtime::{Cx, Flow, OpenCx, Operator, OperatorFactory, RowCursor};
use rivermark_types::{InputId, Result};

/// Drops all rows, without a look at their type.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiscardNode;

struct Discard;

impl OperatorFactory for DiscardNode {
    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Discard))
    }
}

impl Operator for Discard {
    fn open(&mut self, _cx: &mut OpenCx<'_>) -> Result<()> {
        Ok(())
    }

    fn on_batch(&mut self, _input: InputId, rows: &mut RowCursor<'_>, _cx: &mut Cx<'_>) -> Result<Flow> {
        drop(rows.take_batch());
        Ok(Flow::Done)
    }
}
