//! The user's graph: operators and the streams between them, before chaining. Data travels, code does not.
//!
//! Layout: this file holds the graph and its digest, [`check`] what makes a graph a valid one, `names` the stable names of
//! operators without uid. A graph is cut into tasks by [`crate::plan`].
//! Non-goals: no operators' code (the program beside the graph has it, found by [`NodeId`]), no chaining, no slots.

pub mod check;
mod names;

pub use check::GraphError;

use crate::aligner::AlignMode;
use rivermark_types::{InputId, JobName, MaxParallelism, NodeId, Uid, hash_key};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What a node does at the border of the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NodeRole {
    /// Brings rows in; has no input.
    Source,
    /// Turns rows into rows.
    Operator,
    /// Takes rows out; has no output.
    Sink,
}

/// Whether a node may run in one task with its neighbours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Chaining {
    /// With the one before and the ones behind.
    #[default]
    Allowed,
    /// Starts a new chain: not with the one before.
    Head,
    /// Always alone.
    Never,
}

/// How the rows of an edge find their subtask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Partitioning {
    /// Subtask i sends to subtask i; both sides have one parallelism.
    Forward,
    /// By the key group of the row's key.
    Key,
    /// In turns.
    Rebalance,
    /// In turns among a few: subtasks of the two sides are grouped so that as few channels as possible connect them.
    Rescale,
    /// By chance.
    Shuffle,
    /// Every row to every subtask.
    Broadcast,
    /// All rows to the first subtask.
    Global,
    /// By a function of the user's, which the program has.
    Custom,
}

impl Partitioning {
    /// What an edge gets when the user says nothing: forward where it can be, in turns elsewhere.
    pub fn default_between(from_parallelism: u32, to_parallelism: u32) -> Partitioning {
        if from_parallelism == to_parallelism {
            Partitioning::Forward
        } else {
            Partitioning::Rebalance
        }
    }

    /// Flink's word for it, as explanations show it.
    pub fn name(self) -> &'static str {
        match self {
            Partitioning::Forward => "forward",
            Partitioning::Key => "hash",
            Partitioning::Rebalance => "rebalance",
            Partitioning::Rescale => "rescale",
            Partitioning::Shuffle => "shuffle",
            Partitioning::Broadcast => "broadcast",
            Partitioning::Global => "global",
            Partitioning::Custom => "custom",
        }
    }

    /// Whether no barrier overtakes on such an edge. Records in flight could not be dealt out again so that each subtask of
    /// another parallelism finds all and only those that it would have got.
    pub fn keeps_order(self) -> bool {
        matches!(
            self,
            Partitioning::Forward | Partitioning::Rescale | Partitioning::Broadcast
        )
    }

    /// Whether subtask `from` of `senders` has a channel to subtask `to` of `receivers`. All but forward and rescale connect
    /// everybody, so that marks reach those whom no row does.
    pub fn connects(self, from: u32, senders: u32, to: u32, receivers: u32) -> bool {
        let share =
            |index: u32, of: u32, among: u32| u64::from(index) * u64::from(of) / u64::from(among.max(1));
        match self {
            Partitioning::Forward => from == to,
            // Consecutive runs of the wider side, one for each subtask of the narrower.
            Partitioning::Rescale if senders >= receivers => {
                let run = share(to, senders, receivers)..share(to + 1, senders, receivers);
                run.contains(&u64::from(from))
            }
            Partitioning::Rescale => share(to, senders, receivers) == u64::from(from),
            _ => true,
        }
    }
}

/// What the job's checkpoints promise (`execution.checkpointing.mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum GuaranteeMode {
    /// Each input counts once in the state.
    #[default]
    ExactlyOnce,
    /// Inputs between two checkpoints may count again after a failure; no channel is ever held back.
    AtLeastOnce,
}

/// Checkpoints whose barriers overtake the records in front of them (`execution.checkpointing.unaligned.enabled`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Unaligned {
    /// For how long a checkpoint is aligned before it overtakes (`execution.checkpointing.aligned-checkpoint-timeout`); 0 is
    /// not at all.
    pub after: Duration,
    /// Whether barriers overtake behind a partitioner of the user's too (`execution.checkpointing.unaligned.forced`). It must
    /// then give the same subtask for the same record, or records in flight are lost or doubled at another parallelism.
    pub forced: bool,
}

/// One operator, source or sink.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Node {
    /// Its index in [`Graph::nodes`].
    pub id: NodeId,
    /// The user's stable name, which its state is found by.
    pub uid: Option<Uid>,
    /// What logs and explanations call it.
    pub name: String,
    /// Source, operator or sink.
    pub role: NodeRole,
    /// How many subtasks it has.
    pub parallelism: u32,
    /// How many key groups its keys fall into, if the user or a restored snapshot says so.
    pub max_parallelism: Option<u32>,
    /// Whether it works by key, so that its inputs must arrive by key.
    pub keyed: bool,
    /// Whether it keeps state or timers.
    pub has_state: bool,
    /// Whether it is a sink that publishes each row exactly once.
    pub exactly_once: bool,
    /// Whether it is a sink that recommits and aborts before rows may flow, and commits when a checkpoint is decided: the
    /// master waits for these phases.
    pub two_phase: bool,
    /// With whom it may share a task.
    pub chaining: Chaining,
    /// The slot sharing group that the user gave it; without one it has that of its inputs.
    pub slot_group: Option<String>,
    /// Whether its code may block: its subtasks then share their slots, and so their threads, with nobody.
    pub blocking: bool,
    /// The type of the rows of each output port; port 0 is the main output, others are side outputs.
    pub output_types: Vec<String>,
    /// The side outputs that somebody takes: the tag's name, and its port. (A list: the digest takes no maps.)
    pub side_outputs: Vec<(String, u8)>,
    /// The port that records given up leave by, if it gives up any.
    #[serde(default)]
    pub dead_letters: Option<u8>,
}

impl Node {
    /// A stateless node with one output (none if it is a sink), to be refined by setting fields.
    pub fn new(id: NodeId, role: NodeRole, name: impl Into<String>, parallelism: u32) -> Node {
        let output_types = if role == NodeRole::Sink {
            vec![]
        } else {
            vec![String::new()]
        };
        Node {
            id,
            uid: None,
            name: name.into(),
            role,
            parallelism,
            max_parallelism: None,
            keyed: false,
            has_state: false,
            exactly_once: false,
            two_phase: false,
            chaining: Chaining::Allowed,
            slot_group: None,
            blocking: false,
            output_types,
            side_outputs: vec![],
            dead_letters: None,
        }
    }
}

/// A stream from an output port of one node to an input of another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Edge {
    /// The node that sends.
    pub from: NodeId,
    /// Its output port.
    pub port: u8,
    /// The node that receives.
    pub to: NodeId,
    /// Which of its inputs; several edges into one input are a union.
    pub input: InputId,
    /// How rows find their subtask.
    pub partitioning: Partitioning,
    /// The type of the rows.
    pub type_name: String,
}

/// A whole job, as data: the same in every process of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Graph {
    /// The job's name, once it has one (`pipeline.name`).
    pub name: Option<JobName>,
    /// The number of key groups of all nodes that do not say otherwise (`pipeline.max-parallelism`).
    pub max_parallelism: Option<u32>,
    /// What checkpoints promise.
    pub mode: GuaranteeMode,
    /// Whether and when their barriers overtake; `None` is never.
    #[serde(default)]
    pub unaligned: Option<Unaligned>,
    /// The operators; a node's id is its index.
    pub nodes: Vec<Node>,
    /// The streams between them.
    pub edges: Vec<Edge>,
}

/// Keeps graph digests apart from hashes of keys.
const DIGEST_SEED: u64 = 0x6772_6170_6800_0001;

impl Graph {
    /// A number that is equal for equal graphs, in every process and build: names, uids, types, parallelism and
    /// configuration, not the code of closures.
    pub fn digest(&self) -> u64 {
        hash_key(DIGEST_SEED, self).0
    }

    /// How its gates align barriers.
    pub fn align_mode(&self) -> AlignMode {
        match (self.mode, self.unaligned) {
            (GuaranteeMode::AtLeastOnce, _) => AlignMode::AtLeastOnce,
            (GuaranteeMode::ExactlyOnce, None) => AlignMode::ExactlyOnce,
            (GuaranteeMode::ExactlyOnce, Some(Unaligned { after, .. })) => AlignMode::Unaligned { after },
        }
    }

    /// Whether no barrier overtakes on an edge.
    pub fn keeps_order(&self, partitioning: Partitioning) -> bool {
        match self.unaligned {
            None => true,
            Some(unaligned) => {
                partitioning.keeps_order() || (partitioning == Partitioning::Custom && !unaligned.forced)
            }
        }
    }

    /// The node of an id.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.0 as usize)
    }

    /// The number of key groups a node's keys fall into: its own, the job's, or Flink's default for its parallelism.
    /// `None` if what is set is not between 1 and 32,768.
    pub fn max_parallelism_of(&self, node: &Node) -> Option<MaxParallelism> {
        match node.max_parallelism.or(self.max_parallelism) {
            Some(groups) => MaxParallelism::new(groups),
            None => Some(MaxParallelism::default_for(node.parallelism)),
        }
    }

    /// The edges into a node, in the graph's order, with their indices.
    pub fn edges_into(&self, node: NodeId) -> impl Iterator<Item = (usize, &Edge)> {
        self.edges
            .iter()
            .enumerate()
            .filter(move |(_, edge)| edge.to == node)
    }

    /// The edges out of a node, in the graph's order, with their indices.
    pub fn edges_out_of(&self, node: NodeId) -> impl Iterator<Item = (usize, &Edge)> {
        self.edges
            .iter()
            .enumerate()
            .filter(move |(_, edge)| edge.from == node)
    }

    /// All nodes, each after the ones it reads from, the smallest id first where there is a choice. Nodes on a cycle,
    /// and behind one, are left out.
    pub fn in_topological_order(&self) -> Vec<NodeId> {
        let mut unread: Vec<usize> = self.nodes.iter().map(|n| self.edges_into(n.id).count()).collect();
        let mut ready: std::collections::BTreeSet<NodeId> = self
            .nodes
            .iter()
            .zip(&unread)
            .filter(|(_, inputs)| **inputs == 0)
            .map(|(n, _)| n.id)
            .collect();
        let mut order = Vec::with_capacity(self.nodes.len());
        while let Some(node) = ready.pop_first() {
            order.push(node);
            for (_, edge) in self.edges_out_of(node) {
                let Some(left) = unread.get_mut(edge.to.0 as usize) else {
                    continue;
                };
                *left -= 1;
                if *left == 0 {
                    ready.insert(edge.to);
                }
            }
        }
        order
    }
}

#[cfg(test)]
pub(crate) mod builder;
#[cfg(test)]
mod tests;
