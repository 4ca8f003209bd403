//! A barrier that overtakes: it passes in front of the rows that the root has not taken yet, not behind them.

use super::{Chain, ChainState, Work};
use crate::cursor::{AnyRows, HeldRows};
use crate::in_flight::RestoredInput;
use rivermark_data::{Batch, Element};
use rivermark_types::{Barrier, Result};

impl Chain {
    /// Whether a barrier could pass now in front of what waits before the root: rows wait between two calls, everything
    /// else is finished first.
    pub fn root_can_wait(&self) -> bool {
        let root = self.nodes.first();
        root.is_none_or(|root| root.queue.iter().all(|work| matches!(work, Work::Rows(..))))
    }

    /// Lets operators emit although there is no room downstream, until [`Chain::release`]: what is inside the chain must leave
    /// it before the barrier. That is the output of one slice at most.
    pub fn press(&mut self) {
        self.pressed = true;
    }

    /// Ends [`Chain::press`].
    pub fn release(&mut self) {
        self.pressed = false;
    }

    /// One call of an operator behind the root, if one has something to do.
    pub fn run_behind_root(&mut self) -> Result<ChainState> {
        // The deepest with work goes first, so the root gets no turn while another has some.
        match self.nodes.iter().skip(1).all(|node| node.queue.is_empty()) {
            true => Ok(ChainState::Drained),
            false => self.run(),
        }
    }

    /// A copy of the rows that the root has not taken yet.
    pub fn rest_of_root(&self) -> Vec<Element> {
        let root = self.nodes.first();
        let rest = |work: &Work| match work {
            Work::Rows(_, held) => held.rest(),
            _ => None,
        };
        let rest = root
            .into_iter()
            .flat_map(|root| root.queue.iter().filter_map(rest));
        rest.map(|batch: Batch| Element::Batch(batch)).collect()
    }

    /// Puts a barrier before the root, in front of everything that waits there.
    pub fn push_barrier_in_front(&mut self, barrier: Barrier) {
        if let Some(root) = self.nodes.first_mut() {
            root.queue.push_front(Work::Barrier(barrier));
        }
    }

    /// Puts records that were in flight at the checkpoint before an operator. Their marks are told by those in front of it.
    pub fn put_before(&mut self, at: usize, restored: RestoredInput) {
        let Some(node) = self.nodes.get_mut(at) else {
            return;
        };
        while let Some(element) = restored.wired.receiver.pop() {
            if let Element::Batch(batch) = element {
                node.queue
                    .push_back(Work::Rows(restored.wired.input, HeldRows::Erased(batch)));
            }
        }
    }

    /// Whether no barrier is inside the chain.
    pub fn has_no_barrier(&self) -> bool {
        let is_barrier = |work: &Work| matches!(work, Work::Barrier(_));
        !self.nodes.iter().any(|node| node.queue.iter().any(is_barrier))
    }
}
