//! What makes a graph a valid one. Every fault is found, not only the first, and says what to write instead.

use super::{Edge, Graph, GuaranteeMode, Node, NodeRole, Partitioning};
use rivermark_types::{ErrorKind, Failure, MaxParallelism, NodeId, Uid};
use std::collections::{BTreeMap, BTreeSet};

/// One fault of a graph, with what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// Nothing brings rows in.
    #[error("the job has no source: begin with one, for example env.from_collection(..)")]
    NoSource,
    /// Nothing takes rows out.
    #[error("the job has no sink: end it with one, for example .sink_to(..)")]
    NoSink,
    /// Something that must be found again after a restore has no stable name.
    #[error("{role} \"{name}\" {why} but has no uid: add .uid(\"{suggestion}\") after it")]
    MissingUid {
        /// "source", "operator" or "sink".
        role: &'static str,
        /// The node's name.
        name: String,
        /// What needs the uid.
        why: &'static str,
        /// A uid that is free.
        suggestion: String,
    },
    /// Two nodes claim the same state.
    #[error("\"{first}\" and \"{second}\" have the same uid \"{uid}\": give one of them another")]
    DuplicateUid {
        /// The uid.
        uid: Uid,
        /// The name of the node that has it first.
        first: String,
        /// The name of the other.
        second: String,
    },
    /// A parallelism outside what the key groups allow.
    #[error("\"{name}\" has parallelism {parallelism}: set one from 1 to {max}, its maximum parallelism")]
    Parallelism {
        /// The node's name.
        name: String,
        /// What is set.
        parallelism: u32,
        /// The number of key groups.
        max: u32,
    },
    /// A number of key groups that cannot be.
    #[error(
        "\"{name}\" has maximum parallelism {groups}: set one from 1 to {}",
        MaxParallelism::LIMIT
    )]
    MaxParallelism {
        /// The node's name.
        name: String,
        /// What is set.
        groups: u32,
    },
    /// A forward edge cannot connect different numbers of subtasks.
    #[error(
        "\"{from}\" has parallelism {from_parallelism} and \"{to}\" has {to_parallelism}, so rows cannot be forwarded \
         from subtask to subtask: set the same parallelism, or write .rebalance() between them"
    )]
    ForwardBetweenParallelisms {
        /// The node that sends.
        from: String,
        /// Its parallelism.
        from_parallelism: u32,
        /// The node that receives.
        to: String,
        /// Its parallelism.
        to_parallelism: u32,
    },
    /// A keyed node must see all rows of a key in one subtask.
    #[error(
        "\"{to}\" works by key, but rows from \"{from}\" reach it {partitioning}: write .key_by(..) between them"
    )]
    KeyedWithoutKey {
        /// The node that sends.
        from: String,
        /// The keyed node.
        to: String,
        /// How the rows reach it.
        partitioning: &'static str,
    },
    /// A node that nothing flows into.
    #[error("{role} \"{name}\" has no input: connect a stream to it")]
    NoInput {
        /// "operator" or "sink".
        role: &'static str,
        /// The node's name.
        name: String,
    },
    /// A node whose rows go nowhere.
    #[error("the rows of {role} \"{name}\" go nowhere: end the stream with .sink_to(..)")]
    NoOutput {
        /// "source" or "operator".
        role: &'static str,
        /// The node's name.
        name: String,
    },
    /// An edge names a node, port or input that is not there.
    #[error("the stream from {from} port {port} to {to} does not fit the graph: {why}")]
    Dangling {
        /// The node that sends.
        from: NodeId,
        /// Its port.
        port: u8,
        /// The node that receives.
        to: NodeId,
        /// What does not fit.
        why: &'static str,
    },
    /// A node is not where its id says.
    #[error("the operator at place {place} has the id {id}: ids are places")]
    MisplacedNode {
        /// The index.
        place: usize,
        /// The id.
        id: NodeId,
    },
    /// Rows would run in circles.
    #[error("the stream runs in a circle through {}", quoted(.names))]
    Cycle {
        /// The nodes on the circle, in the graph's order.
        names: Vec<String>,
    },
    /// A sink's promise that the job's mode cannot keep.
    #[error(
        "sink \"{name}\" is exactly-once, but the job runs at-least-once: set execution.checkpointing.mode to \
         EXACTLY_ONCE, or give the sink a weaker guarantee"
    )]
    ExactlyOnceSinkUnderAtLeastOnce {
        /// The sink's name.
        name: String,
    },
    /// What barriers overtake would come twice, as everything does, but barriers do not wait anyway.
    #[error(
        "unaligned checkpoints are for exactly-once, but the job runs at-least-once, where barriers hold nothing back: set \
         execution.checkpointing.mode to EXACTLY_ONCE, or execution.checkpointing.unaligned.enabled to false"
    )]
    UnalignedUnderAtLeastOnce,
}

impl GraphError {
    /// Always for the user to change.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

impl From<GraphError> for Failure {
    fn from(error: GraphError) -> Failure {
        Failure::new(error.kind(), error.to_string())
    }
}

fn quoted(names: &[String]) -> String {
    names
        .iter()
        .map(|name| format!("\"{name}\""))
        .collect::<Vec<_>>()
        .join(", ")
}

impl NodeRole {
    fn word(self) -> &'static str {
        match self {
            NodeRole::Source => "source",
            NodeRole::Operator => "operator",
            NodeRole::Sink => "sink",
        }
    }
}

impl Graph {
    /// Whether the job can run and keep its word; all faults, in the order of the graph.
    pub fn validate(&self) -> Result<(), Vec<GraphError>> {
        let mut errors = Vec::new();
        self.check_shape(&mut errors);
        if errors.is_empty() {
            // The rest follows edges and may rely on both of their ends.
            self.check_uids(&mut errors);
            self.nodes
                .iter()
                .for_each(|node| self.check_node(node, &mut errors));
            self.edges
                .iter()
                .for_each(|edge| self.check_edge(edge, &mut errors));
            self.check_circles(&mut errors);
            if self.unaligned.is_some() && self.mode == GuaranteeMode::AtLeastOnce {
                errors.push(GraphError::UnalignedUnderAtLeastOnce);
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Ids are places, and edges end at nodes that can have them.
    fn check_shape(&self, errors: &mut Vec<GraphError>) {
        for (place, node) in self.nodes.iter().enumerate() {
            if node.id.0 as usize != place {
                errors.push(GraphError::MisplacedNode { place, id: node.id });
            }
        }
        for edge in &self.edges {
            let why = match (self.node(edge.from), self.node(edge.to)) {
                (None, _) => "the node that sends does not exist",
                (_, None) => "the node that receives does not exist",
                (Some(from), _) if from.role == NodeRole::Sink => "a sink has no output",
                (_, Some(to)) if to.role == NodeRole::Source => "a source has no input",
                (Some(from), _) if usize::from(edge.port) >= from.output_types.len() => {
                    "there is no such port"
                }
                _ => continue,
            };
            errors.push(GraphError::Dangling {
                from: edge.from,
                port: edge.port,
                to: edge.to,
                why,
            });
        }
        if !self.nodes.iter().any(|node| node.role == NodeRole::Source) {
            errors.push(GraphError::NoSource);
        }
        if !self.nodes.iter().any(|node| node.role == NodeRole::Sink) {
            errors.push(GraphError::NoSink);
        }
    }

    fn check_uids(&self, errors: &mut Vec<GraphError>) {
        let mut owners: BTreeMap<&Uid, &Node> = BTreeMap::new();
        for node in &self.nodes {
            let Some(uid) = &node.uid else { continue };
            match owners.get(uid) {
                None => drop(owners.insert(uid, node)),
                Some(first) => errors.push(GraphError::DuplicateUid {
                    uid: uid.clone(),
                    first: first.name.clone(),
                    second: node.name.clone(),
                }),
            }
        }
        let mut taken: BTreeSet<String> = owners.keys().map(|uid| uid.as_str().to_owned()).collect();
        for node in self.nodes.iter().filter(|node| node.uid.is_none()) {
            let Some(why) = node.why_it_needs_a_uid() else {
                continue;
            };
            let suggestion = free_uid(&node.name, &taken);
            taken.insert(suggestion.clone());
            let (role, name) = (node.role.word(), node.name.clone());
            errors.push(GraphError::MissingUid {
                role,
                name,
                why,
                suggestion,
            });
        }
    }

    fn check_node(&self, node: &Node, errors: &mut Vec<GraphError>) {
        let (name, role) = (node.name.clone(), node.role.word());
        match self.max_parallelism_of(node) {
            Some(max) if (1..=max.get()).contains(&node.parallelism) => {}
            Some(max) => errors.push(GraphError::Parallelism {
                name: name.clone(),
                parallelism: node.parallelism,
                max: max.get(),
            }),
            None => errors.push(GraphError::MaxParallelism {
                name: name.clone(),
                groups: node.max_parallelism.or(self.max_parallelism).unwrap_or_default(),
            }),
        }
        if node.role != NodeRole::Source && self.edges_into(node.id).next().is_none() {
            errors.push(GraphError::NoInput {
                role,
                name: name.clone(),
            });
        }
        if node.role != NodeRole::Sink && self.edges_out_of(node.id).next().is_none() {
            errors.push(GraphError::NoOutput {
                role,
                name: name.clone(),
            });
        }
        if node.exactly_once && node.role == NodeRole::Sink && self.mode == GuaranteeMode::AtLeastOnce {
            errors.push(GraphError::ExactlyOnceSinkUnderAtLeastOnce { name });
        }
    }

    fn check_edge(&self, edge: &Edge, errors: &mut Vec<GraphError>) {
        let (Some(from), Some(to)) = (self.node(edge.from), self.node(edge.to)) else {
            return;
        };
        if edge.partitioning == Partitioning::Forward && from.parallelism != to.parallelism {
            errors.push(GraphError::ForwardBetweenParallelisms {
                from: from.name.clone(),
                from_parallelism: from.parallelism,
                to: to.name.clone(),
                to_parallelism: to.parallelism,
            });
        }
        let by_key = matches!(
            edge.partitioning,
            Partitioning::Key | Partitioning::Forward | Partitioning::Broadcast
        );
        if to.keyed && !by_key {
            errors.push(GraphError::KeyedWithoutKey {
                from: from.name.clone(),
                to: to.name.clone(),
                partitioning: edge.partitioning.name(),
            });
        }
    }

    /// Names only nodes that lie on a circle, not those that merely read from one.
    fn check_circles(&self, errors: &mut Vec<GraphError>) {
        let sorted: BTreeSet<NodeId> = self.in_topological_order().into_iter().collect();
        let mut suspects: BTreeSet<NodeId> = self
            .nodes
            .iter()
            .map(|node| node.id)
            .filter(|id| !sorted.contains(id))
            .collect();
        loop {
            let leads_on = |id: &NodeId| {
                self.edges_out_of(*id)
                    .any(|(_, edge)| suspects.contains(&edge.to))
            };
            let on_circle: BTreeSet<NodeId> = suspects.iter().copied().filter(leads_on).collect();
            if on_circle.len() == suspects.len() {
                break;
            }
            suspects = on_circle;
        }
        if !suspects.is_empty() {
            let names = suspects
                .iter()
                .filter_map(|id| self.node(*id))
                .map(|node| node.name.clone())
                .collect();
            errors.push(GraphError::Cycle { names });
        }
    }
}

impl Node {
    /// What of this node a restore must find again, if anything.
    fn why_it_needs_a_uid(&self) -> Option<&'static str> {
        match self.role {
            NodeRole::Source => Some("keeps positions"),
            NodeRole::Sink if self.exactly_once => Some("is exactly-once"),
            _ if self.has_state => Some("keeps state"),
            _ => None,
        }
    }
}

/// `"Tumbling Window"` → `"tumbling-window-1"`, or the next number that is free.
fn free_uid(name: &str, taken: &BTreeSet<String>) -> String {
    let mut stem = String::new();
    for c in name.chars() {
        if c.is_alphanumeric() {
            stem.extend(c.to_lowercase());
        } else if !stem.is_empty() && !stem.ends_with('-') {
            stem.push('-');
        }
    }
    let stem = if stem.is_empty() {
        "operator"
    } else {
        stem.trim_end_matches('-')
    };
    (1u64..)
        .map(|n| format!("{stem}-{n}"))
        .find(|uid| !taken.contains(uid))
        .unwrap_or_default()
}
