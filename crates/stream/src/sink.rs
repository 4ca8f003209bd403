//! The end of a stream.

use crate::draft::{DraftNode, SharedDraft};
use rivermark_protocol::graph::Chaining;
use rivermark_types::{NodeId, Uid};

/// A sink in the graph, to be given a uid, a name, a parallelism.
pub struct StreamSink {
    draft: SharedDraft,
    node: NodeId,
}

impl StreamSink {
    pub(crate) fn new(draft: SharedDraft, node: NodeId) -> StreamSink {
        StreamSink { draft, node }
    }

    pub(crate) fn change(self, change: impl FnOnce(&mut DraftNode)) -> StreamSink {
        self.draft.borrow_mut().change_node(self.node, change);
        self
    }

    /// Gives the sink the stable name that what it still has to commit is found by when a job is resumed.
    pub fn uid(self, uid: &str) -> StreamSink {
        self.change(|draft| draft.node.uid = Some(Uid::from(uid)))
    }

    /// Names the sink in logs, metrics and explanations.
    pub fn name(self, name: &str) -> StreamSink {
        self.change(|draft| draft.node.name = name.to_owned())
    }

    /// Sets in how many subtasks the sink runs, instead of the environment's number.
    pub fn set_parallelism(self, parallelism: u32) -> StreamSink {
        self.change(|draft| draft.parallelism = Some(parallelism))
    }

    /// Lets the sink run in a task of its own.
    pub fn disable_chaining(self) -> StreamSink {
        self.change(|draft| draft.node.chaining = Chaining::Never)
    }
}
