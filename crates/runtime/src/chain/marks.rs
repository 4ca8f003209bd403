//! Marks: watermarks, status, barriers and the end, as they enter at the root and pass from operator to operator; and what
//! an operator stores as a barrier passes it.

use super::{Body, Chain, ChainNode, Target, Work};
use crate::operator::Lists;
use rivermark_data::{Activity, Element};
use rivermark_types::{Barrier, Failure, Result, Timestamp, Uid};
use std::sync::atomic::Ordering;

/// The snapshot of one operator, taken as the barrier passed it. Its tables are frozen; their rows follow by the walk.
pub struct NodeSnapshot {
    /// Its stable name.
    pub uid: Uid,
    /// Its lists.
    pub lists: Lists,
    /// Its watermark.
    pub watermark: Timestamp,
}

impl Chain {
    /// Puts a watermark before the root.
    pub fn push_watermark(&mut self, watermark: Timestamp) {
        self.push_root(Work::Watermark(watermark));
    }

    /// Puts a change of activity before the root.
    pub fn push_status(&mut self, status: Activity) {
        self.push_root(Work::Status(status));
    }

    /// Puts a barrier before the root. When the chain is drained it has passed, and [`Chain::take_snapshots`] has all.
    pub fn push_barrier(&mut self, barrier: Barrier) -> Result<()> {
        if let Some(ChainNode {
            body: Body::Source(_),
            ..
        }) = self.nodes.first()
        {
            return self.barrier_passes(0, barrier);
        }
        self.push_root(Work::Barrier(barrier));
        Ok(())
    }

    /// Puts the end before the root.
    pub fn push_end(&mut self) -> Result<()> {
        if self.is_source() {
            return self.forward(0, &Work::End);
        }
        self.push_root(Work::End);
        Ok(())
    }

    /// What the operators stored for the barrier that has passed.
    pub fn take_snapshots(&mut self) -> Vec<NodeSnapshot> {
        std::mem::take(&mut self.snapshots)
    }

    /// An operator is done with an element: marks go on down.
    pub(super) fn done(&mut self, at: usize, work: Work) -> Result<()> {
        match work {
            Work::Rows(..) | Work::Wake => Ok(()),
            Work::Watermark(_) | Work::Status(_) if self.nodes[at].holds_marks => Ok(()),
            Work::Barrier(barrier) => self.barrier_passes(at, barrier),
            mark => self.forward(at, &mark),
        }
    }

    /// In one step: the operator's lists, the freeze of its tables, the barrier to whatever it feeds.
    fn barrier_passes(&mut self, at: usize, barrier: Barrier) -> Result<()> {
        self.at = at;
        let node = &mut self.nodes[at];
        let lists = match &mut node.body {
            Body::Source(driver) => driver.snapshot_lists(barrier.checkpoint)?,
            Body::Operator(operator) => operator.snapshot_lists()?,
        };
        if let Some(backend) = &mut node.backend {
            backend.freeze();
        }
        match &node.info.uid {
            Some(uid) => self.snapshots.push(NodeSnapshot {
                uid: uid.clone(),
                lists,
                watermark: node.watermark,
            }),
            None if lists.is_empty() => {}
            None => return Err(Failure::bug(format!("{} has state but no uid", node.info.name))),
        }
        self.forward(at, &Work::Barrier(barrier))
    }

    /// Passes a mark on to whatever the operator feeds, once to each.
    pub(super) fn forward(&mut self, at: usize, mark: &Work) -> Result<()> {
        if let Work::Watermark(watermark) = mark {
            let told = &self.nodes[at].counters.watermark_out;
            told.store(watermark.0, Ordering::Relaxed);
        }
        let targets: Vec<Target> = self.nodes[at].targets.iter().flatten().copied().collect();
        for target in targets {
            match (target, mark) {
                (Target::Node(next, _), mark) => self.nodes[next].queue.push_back(mark.copy()?),
                (Target::Outbox(out), mark) => self.outboxes[out].mark(&mark.element()?)?,
            }
        }
        self.count_sent();
        Ok(())
    }
}

impl Work {
    /// The same mark once more.
    fn copy(&self) -> Result<Work> {
        match self {
            Work::Watermark(watermark) => Ok(Work::Watermark(*watermark)),
            Work::Status(status) => Ok(Work::Status(*status)),
            Work::Barrier(barrier) => Ok(Work::Barrier(*barrier)),
            Work::End => Ok(Work::End),
            Work::Rows(..) | Work::Wake => Err(Failure::bug("only marks are passed on")),
        }
    }

    /// The mark as it leaves the task.
    fn element(&self) -> Result<Element> {
        match self {
            Work::Watermark(watermark) => Ok(Element::Watermark(*watermark)),
            Work::Status(status) => Ok(Element::Status(*status)),
            Work::Barrier(barrier) => Ok(Element::Barrier(*barrier)),
            Work::End => Ok(Element::End),
            Work::Rows(..) | Work::Wake => Err(Failure::bug("only marks are passed on")),
        }
    }
}
