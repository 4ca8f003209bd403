//! Where the chain is at work, for the error that names it: the operator, the row, and where that came from.

use super::{Body, Chain, Target, Work};
use crate::careful::FailedRow;
use rivermark_types::NodeId;

impl Chain {
    /// The operator at work or last at work: the same for the same row over attempts, whichever subtask gets it.
    pub fn place(&self) -> String {
        match self.nodes.get(self.at) {
            Some(node) if self.stage.get() > 0 => format!("{} (stage {})", node.info.name, self.stage.get()),
            Some(node) => node.info.name.clone(),
            None => "an empty chain".to_owned(),
        }
    }

    /// The operator at work or last at work, and the row it was on, if it ran carefully.
    pub fn failed_at(&self) -> (Option<NodeId>, Option<FailedRow>) {
        let node = self.nodes.get(self.at);
        let careful = node.and_then(|node| node.careful.as_ref());
        (
            node.map(|node| node.info.node),
            careful.and_then(|careful| careful.failed_row()),
        )
    }

    /// Where the rows under way came from, if the root is a source that did not fail itself (its own errors say where). For
    /// an operator next to the source that is one row, for those behind it the rows of the last poll.
    pub fn origin(&self) -> Option<String> {
        match self.nodes.first().map(|node| &node.body) {
            Some(Body::Source(driver)) if self.at > 0 => {
                let next_to_it = self.nodes[0]
                    .targets
                    .iter()
                    .flatten()
                    .any(|target| matches!(target, Target::Node(at, _) if *at == self.at));
                Some(driver.place(self.rows_left().filter(|_| next_to_it)))
            }
            _ => None,
        }
    }

    /// Rows of the root's current batch that are not taken yet; and whether the last one taken is the row at work.
    pub fn root_remaining(&self) -> (usize, bool) {
        match self.rows_left() {
            Some(left) if self.at == 0 => (left, true),
            _ => match self.nodes.first().and_then(|node| node.queue.front()) {
                Some(Work::Rows(_, held)) => (crate::cursor::AnyRows::remaining(held), false),
                _ => (0, false),
            },
        }
    }

    /// Rows that the operator at work has not taken yet of its batch.
    fn rows_left(&self) -> Option<usize> {
        match &self.in_hand {
            Some(Work::Rows(_, held)) => Some(crate::cursor::AnyRows::remaining(held)),
            _ => None,
        }
    }
}
