//! Operators that are called without input: at the processing time they name, or because a task of theirs woke them.
//!
//! When each wants it is asked after its calls and kept here, so a step looks at numbers, not at operators.

use super::{Body, Chain, Work};
use rivermark_types::Timestamp;

impl Chain {
    /// Whether an operator is to be called without input, and then prepares it: [`Chain::run`] makes the call. Only with a
    /// drained chain. Operators without room for output are left out; whoever makes room wakes the slot.
    pub fn wake(&mut self) -> bool {
        let count = self.nodes.len();
        let mut in_turn = (1..=count).map(|step| (self.woken + step) % count);
        let Some(at) = in_turn.find(|at| self.is_due(*at) && self.room(*at) > 0) else {
            return false;
        };
        self.woken = at;
        self.nodes[at].waker.forget();
        self.nodes[at].queue.push_back(Work::Wake);
        true
    }

    /// Whether an operator is to be called without input, as soon as there is room for its output.
    pub fn is_wake_due(&self) -> bool {
        (0..self.nodes.len()).any(|at| self.is_due(at))
    }

    fn is_due(&self, at: usize) -> bool {
        let node = &self.nodes[at];
        let wake_at = node.wake_at;
        node.waker.has_woken() || wake_at.is_some_and(|time| time <= self.env.processing_time())
    }

    /// When an operator that has room for output wants to be called without input.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.wake_at?;
        let able = (0..self.nodes.len()).filter(|at| self.room(*at) > 0);
        able.filter_map(|at| self.nodes[at].wake_at).min()
    }

    /// Asks an operator that was called when it wants to be called again.
    pub(super) fn learn_wake(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Body::Operator(operator) = &node.body else {
            return;
        };
        let wake_at = operator.wake_at();
        if wake_at != node.wake_at {
            node.wake_at = wake_at;
            self.wake_at = self.nodes.iter().filter_map(|node| node.wake_at).min();
        }
    }
}
