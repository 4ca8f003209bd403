//! From the graph to what runs: operators into tasks, tasks into subtasks, subtasks into slots.
//!
//! A new task starts where the parallelism changes or rows are re-dealt (`key_by` and every other edge that is not
//! forward), where several streams meet, and where chaining is off; everything else runs as a chain in one task, which
//! may branch into a tree.
//!
//! Layout: this file holds the plan and how it is made, [`slots`] who shares a slot, [`wiring`] which channels exist between
//! subtasks, [`explain`] the text for people, [`dot`] the picture.
//! Non-goals: which process has which slot, and when anything is deployed.

pub mod dot;
pub mod explain;
pub mod slots;
pub mod wiring;

pub use slots::Slot;
pub use wiring::{InputChannel, OutputChannel, OutputExchange};

use crate::graph::{Chaining, Edge, Graph, GraphError, Partitioning};
use rivermark_types::{
    EdgeId, ErrorKind, Failure, InputId, JobName, MaxParallelism, NodeId, SubtaskId, VertexId,
};
use serde::{Deserialize, Serialize};
use slots::SlotGroups;
use std::collections::BTreeMap;

/// Why a graph cannot be planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The graph has faults.
    #[error("{}", lines(.0))]
    Graph(Vec<GraphError>),
    /// Every subtask of a vertex needs a slot of its own.
    #[error(
        "\"{vertex}\" needs {needed} slots, but there are {offered}: lower its parallelism, or raise \
         taskmanager.numberOfTaskSlots"
    )]
    TooFewSlots {
        /// The widest vertex.
        vertex: String,
        /// Its parallelism.
        needed: u32,
        /// What there is.
        offered: u32,
    },
    /// Slot sharing groups and blocking operators need slots of their own.
    #[error(
        "the job needs {needed} slots, but there are {offered}: {}; lower a parallelism, put operators into one slot sharing \
         group, or raise taskmanager.numberOfTaskSlots",
        .users.join(", ")
    )]
    TooFewSlotsForGroups {
        /// What the job needs.
        needed: u32,
        /// What there is.
        offered: u32,
        /// Who needs how many.
        users: Vec<String>,
    },
}

impl PlanError {
    /// Always for the user to change.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Failure {
        Failure::new(error.kind(), error.to_string())
    }
}

fn lines(errors: &[GraphError]) -> String {
    errors
        .iter()
        .map(GraphError::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// A chain (or tree) of operators that runs as one task, `parallelism` times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vertex {
    /// Its index in [`Plan::vertices`].
    pub id: VertexId,
    /// The operators' names, as Flink writes them: `"a -> b"`, `"a -> (b, c -> d)"`.
    pub name: String,
    /// The operators, each after the one that feeds it.
    pub nodes: Vec<NodeId>,
    /// The first of them: the only one that reads from channels (or is a source).
    pub head: NodeId,
    /// How rows pass inside the task, in the graph's order.
    pub links: Vec<Link>,
    /// How many subtasks there are.
    pub parallelism: u32,
    /// The number of key groups: that of its keyed operators, or else of its head.
    pub max_parallelism: MaxParallelism,
    /// Its slot sharing group.
    pub slot_group: String,
    /// Whether its code may block, so that it shares its slots with nobody.
    pub blocking: bool,
}

/// A hand-over from operator to operator inside a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The edge's index in [`Graph::edges`].
    pub edge: u32,
    /// The operator that sends.
    pub from: NodeId,
    /// Its output port.
    pub port: u8,
    /// The operator that receives.
    pub to: NodeId,
    /// Its input.
    pub to_input: InputId,
}

/// A stream between two vertices; it consists of channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// Its index in [`Plan::exchanges`].
    pub id: EdgeId,
    /// The edge's index in [`Graph::edges`].
    pub edge: u32,
    /// The vertex that sends.
    pub from: VertexId,
    /// The operator in it that sends.
    pub from_node: NodeId,
    /// The operator's output port.
    pub port: u8,
    /// The vertex that receives, at its head.
    pub to: VertexId,
    /// The head's input.
    pub to_input: InputId,
    /// How rows find their channel.
    pub partitioning: Partitioning,
}

/// A graph cut into tasks, subtasks and slots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The job's name, if it has one.
    pub name: Option<JobName>,
    /// The tasks, each after those it reads from.
    pub vertices: Vec<Vertex>,
    /// The streams between them, in the order of the graph's edges.
    pub exchanges: Vec<Exchange>,
    /// As many slots as the widest vertex of each slot sharing group has subtasks, and one for each blocking subtask.
    pub slots: Vec<Slot>,
}

impl Plan {
    /// Cuts a graph, which is checked first. `chaining_enabled` is `pipeline.operator-chaining.enabled`; `slots` is how
    /// many there are, `None` if as many as needed can be had.
    pub fn new(graph: &Graph, chaining_enabled: bool, slots: Option<u32>) -> Result<Plan, PlanError> {
        graph.validate().map_err(PlanError::Graph)?;
        let cut = Cut::new(graph, chaining_enabled);
        let vertices = cut.vertices(graph);
        let slots = slots::assign(&vertices, slots)?;
        Ok(Plan {
            name: graph.name.clone(),
            exchanges: cut.exchanges(graph),
            vertices,
            slots,
        })
    }

    /// The vertex of an id.
    pub fn vertex(&self, id: VertexId) -> Option<&Vertex> {
        self.vertices.get(id.0 as usize)
    }

    /// All subtasks, vertex by vertex.
    pub fn subtasks(&self) -> impl Iterator<Item = SubtaskId> {
        self.vertices.iter().flat_map(Vertex::subtasks)
    }
}

impl Vertex {
    /// Its subtasks.
    pub fn subtasks(&self) -> impl Iterator<Item = SubtaskId> + use<> {
        let vertex = self.id;
        (0..self.parallelism).map(move |index| SubtaskId { vertex, index })
    }
}

/// Whether both ends of an edge run in one task, if chaining is on at all.
fn may_chain(graph: &Graph, groups: &SlotGroups, edge: &Edge) -> bool {
    let (Some(from), Some(to)) = (graph.node(edge.from), graph.node(edge.to)) else {
        return false;
    };
    edge.partitioning == Partitioning::Forward
        && from.parallelism == to.parallelism
        && graph.edges_into(to.id).count() == 1
        && from.chaining != Chaining::Never
        && to.chaining == Chaining::Allowed
        && groups.of(from.id) == groups.of(to.id)
        && !from.blocking
        && !to.blocking
}

/// Whether a node's keys are divided as those of the others in a task: a task has one division into key groups.
fn shares_key_groups(graph: &Graph, node: NodeId, others: &[NodeId]) -> bool {
    let groups = |id: &NodeId| {
        graph
            .node(*id)
            .filter(|node| node.keyed)
            .and_then(|n| graph.max_parallelism_of(n))
    };
    let own = groups(&node);
    own.is_none() || others.iter().filter_map(groups).all(|others| Some(others) == own)
}

/// Which node belongs to which vertex. A node that is not chained to the one before starts a vertex.
struct Cut {
    members: Vec<Vec<NodeId>>,
    vertex_of: BTreeMap<NodeId, VertexId>,
    /// By edge: whether it runs inside a task.
    chained: Vec<bool>,
    groups: SlotGroups,
}

impl Cut {
    fn new(graph: &Graph, chaining_enabled: bool) -> Cut {
        let chained = vec![false; graph.edges.len()];
        let mut cut = Cut {
            members: Vec::new(),
            vertex_of: BTreeMap::new(),
            chained,
            groups: SlotGroups::new(graph),
        };
        for node in graph.in_topological_order() {
            let link = graph
                .edges_into(node)
                .find(|(_, edge)| chaining_enabled && may_chain(graph, &cut.groups, edge));
            let joined = link.and_then(|(index, edge)| Some((index, *cut.vertex_of.get(&edge.from)?)));
            let vertex = match joined {
                Some((index, vertex)) if shares_key_groups(graph, node, &cut.members[vertex.0 as usize]) => {
                    cut.chained[index] = true;
                    vertex
                }
                _ => {
                    cut.members.push(Vec::new());
                    VertexId(cut.members.len() as u32 - 1)
                }
            };
            cut.members[vertex.0 as usize].push(node);
            cut.vertex_of.insert(node, vertex);
        }
        cut
    }

    fn vertices(&self, graph: &Graph) -> Vec<Vertex> {
        let heads = self
            .members
            .iter()
            .filter_map(|nodes| graph.node(*nodes.first()?));
        heads
            .zip(&self.members)
            .enumerate()
            .map(|(index, (head, nodes))| {
                let keyed = nodes
                    .iter()
                    .filter_map(|id| graph.node(*id))
                    .find(|node| node.keyed);
                Vertex {
                    id: VertexId(index as u32),
                    name: chain_name(graph, &self.chained, head.id),
                    nodes: nodes.clone(),
                    head: head.id,
                    links: links(graph, &self.chained, nodes),
                    parallelism: head.parallelism,
                    max_parallelism: graph
                        .max_parallelism_of(keyed.unwrap_or(head))
                        .unwrap_or(MaxParallelism::default_for(head.parallelism)),
                    slot_group: self.groups.of(head.id).to_owned(),
                    blocking: head.blocking,
                }
            })
            .collect()
    }

    fn exchanges(&self, graph: &Graph) -> Vec<Exchange> {
        let between = graph
            .edges
            .iter()
            .enumerate()
            .filter(|(index, _)| !self.chained[*index]);
        between
            .filter_map(|(index, edge)| {
                let (from, to) = (self.vertex_of.get(&edge.from)?, self.vertex_of.get(&edge.to)?);
                Some((index, edge, *from, *to))
            })
            .enumerate()
            .map(|(id, (index, edge, from, to))| Exchange {
                id: EdgeId(id as u32),
                edge: index as u32,
                from,
                from_node: edge.from,
                port: edge.port,
                to,
                to_input: edge.input,
                partitioning: edge.partitioning,
            })
            .collect()
    }
}

fn links(graph: &Graph, chained: &[bool], nodes: &[NodeId]) -> Vec<Link> {
    let inside = graph
        .edges
        .iter()
        .enumerate()
        .filter(|(i, edge)| chained[*i] && nodes.contains(&edge.from));
    inside
        .map(|(index, edge)| Link {
            edge: index as u32,
            from: edge.from,
            port: edge.port,
            to: edge.to,
            to_input: edge.input,
        })
        .collect()
}

fn chain_name(graph: &Graph, chained: &[bool], node: NodeId) -> String {
    let own = graph.node(node).map_or("", |node| &node.name);
    let next = graph.edges_out_of(node).filter(|(index, _)| chained[*index]);
    let next: Vec<String> = next
        .map(|(_, edge)| chain_name(graph, chained, edge.to))
        .collect();
    match next.as_slice() {
        [] => own.to_owned(),
        [only] => format!("{own} -> {only}"),
        several => format!("{own} -> ({})", several.join(", ")),
    }
}

#[cfg(test)]
mod placement_tests;
#[cfg(test)]
mod tests;
