//! One attempt as the master sees it: what is deployed, how far it has come, what its sources and sinks do.

use crate::sinks::{SinkGate, SinkOrder};
use crate::sources::SourceCoordination;
use rivermark_protocol::graph::{Graph, NodeRole};
use rivermark_protocol::plan::Plan;
use rivermark_runtime::deploy::Deployed;
use rivermark_runtime::{FailedRow, OperatorEvent, TaskCommand, TaskEvent};
use rivermark_types::{Attempt, Barrier, CheckpointId, Failure, NodeId, SubtaskId, VertexId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::mpsc;

/// How far the end of an attempt has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Not at all.
    No,
    /// The final checkpoint is asked for or under way.
    Final,
    /// It is decided: sinks commit.
    Committing(CheckpointId),
    /// Everything is committed: tasks end.
    Ended(CheckpointId),
}

pub(crate) struct RunningAttempt {
    pub(crate) number: Attempt,
    pub(crate) deployed: Deployed,
    pub(crate) events: mpsc::UnboundedReceiver<TaskEvent>,
    pub(crate) sources: BTreeMap<NodeId, SourceCoordination>,
    pub(crate) gate: SinkGate,
    pub(crate) running: bool,
    pub(crate) ending: Ending,
    vertex_of: BTreeMap<NodeId, VertexId>,
    waiting_to_open: BTreeSet<SubtaskId>,
    waiting_to_end: BTreeSet<SubtaskId>,
}

/// Why an attempt is over.
pub(crate) struct AttemptFailure {
    pub(crate) place: String,
    /// The operator, if it was one.
    pub(crate) node: Option<NodeId>,
    /// The row it was at work on, if it ran carefully.
    pub(crate) row: Option<FailedRow>,
    pub(crate) failure: Failure,
}

impl AttemptFailure {
    /// A failure of something that is no operator.
    pub(crate) fn at(place: impl Into<String>, failure: Failure) -> AttemptFailure {
        AttemptFailure {
            place: place.into(),
            node: None,
            row: None,
            failure,
        }
    }
}

/// The subtasks of a plan.
pub(crate) fn subtasks(plan: &Plan) -> BTreeSet<SubtaskId> {
    plan.vertices
        .iter()
        .flat_map(|vertex| vertex.subtasks())
        .collect()
}

impl RunningAttempt {
    pub(crate) fn new(
        number: Attempt,
        graph: &Graph,
        plan: &Arc<Plan>,
        deployed: Deployed,
        events: mpsc::UnboundedReceiver<TaskEvent>,
        sources: BTreeMap<NodeId, SourceCoordination>,
    ) -> RunningAttempt {
        let nodes = plan
            .vertices
            .iter()
            .flat_map(|vertex| vertex.nodes.iter().map(move |node| (*node, vertex)));
        let vertex_of: BTreeMap<NodeId, VertexId> =
            nodes.clone().map(|(node, vertex)| (node, vertex.id)).collect();
        let two_phase = |id: NodeId| {
            graph
                .node(id)
                .is_some_and(|n| n.role == NodeRole::Sink && n.two_phase)
        };
        let sinks = nodes
            .filter(|(node, _)| two_phase(*node))
            .map(|(node, vertex)| (node, vertex.parallelism));
        RunningAttempt {
            number,
            gate: SinkGate::new(sinks),
            deployed,
            events,
            sources,
            running: false,
            ending: Ending::No,
            vertex_of,
            waiting_to_open: subtasks(plan),
            waiting_to_end: subtasks(plan),
        }
    }

    /// Whether all subtasks but this one are open.
    pub(crate) fn is_last_to_open(&self, subtask: SubtaskId) -> bool {
        self.waiting_to_open.len() == 1 && self.waiting_to_open.contains(&subtask)
    }

    /// A subtask is open; tells whether all are.
    pub(crate) fn opened(&mut self, subtask: SubtaskId) -> bool {
        self.waiting_to_open.remove(&subtask);
        self.waiting_to_open.is_empty()
    }

    /// A subtask has ended; tells whether all have.
    pub(crate) fn ended(&mut self, subtask: SubtaskId) -> bool {
        self.waiting_to_end.remove(&subtask);
        self.waiting_to_end.is_empty()
    }

    pub(crate) fn all_open(&self) -> bool {
        self.waiting_to_open.is_empty()
    }

    pub(crate) fn trigger(&self, barrier: Barrier) {
        for (node, source) in &self.sources {
            for index in source.readers() {
                self.send(*node, index, TaskCommand::Trigger(barrier));
            }
        }
    }

    /// Sends something to one subtask of an operator.
    pub(crate) fn send(&self, node: NodeId, index: u32, command: TaskCommand) {
        if let Some(vertex) = self.vertex_of.get(&node) {
            self.deployed.send(
                SubtaskId {
                    vertex: *vertex,
                    index,
                },
                command,
            );
        }
    }

    pub(crate) fn send_event(&self, node: NodeId, index: u32, event: OperatorEvent) {
        self.send(node, index, TaskCommand::Event(node, event));
    }

    pub(crate) fn carry_out(&self, order: SinkOrder) {
        match order {
            SinkOrder::One(node, index, event) => self.send_event(node, index, event),
            SinkOrder::All(node, event) => {
                let vertex = self.vertex_of.get(&node);
                let indices = self
                    .waiting_to_end
                    .iter()
                    .filter(|subtask| Some(&subtask.vertex) == vertex);
                indices.for_each(|subtask| self.send_event(node, subtask.index, event.clone()));
            }
        }
    }

    /// Whether every source has been read to its end.
    pub(crate) fn is_dry(&self) -> bool {
        self.sources.values().all(SourceCoordination::is_dry)
    }
}
