//! The graph while it is being written: nodes, edges, and what is wrong with them so far.
//!
//! Streams only note down what they are told; parallelism and partitioning are settled in [`Draft::build`], because a
//! later line may still change them. Non-goal: types. Streams keep them; here they are erased.

use crate::failures::FailingRow;
use rivermark_connector::Undecodable;
use rivermark_data::{DeadLetter, EdgeType};
use rivermark_protocol::graph::{Edge, Graph, Node, NodeRole, Partitioning};
use rivermark_runtime::{NodeBody, Program};
use rivermark_types::{Failure, InputId, NodeId, Result};
use std::any::type_name;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// The one draft that an environment and all its streams write to.
pub(crate) type SharedDraft = Rc<RefCell<Draft>>;

/// The port of dead letters, until the graph is built: then it is the one behind the node's others.
pub(crate) const DEAD_LETTERS: u8 = u8::MAX;

/// A source as soon as it is known what becomes of records that it cannot decode.
pub(crate) type SettledSource = Rc<dyn Fn(Undecodable) -> NodeBody>;

/// Where the rows of a stream come from.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) node: NodeId,
    pub(crate) port: u8,
    /// What the user asked for; else it depends on the parallelism of both ends.
    pub(crate) via: Option<Partitioning>,
    /// What the records travel by, if a partitioner looks at them.
    pub(crate) edge: Option<Arc<dyn EdgeType>>,
}

impl Origin {
    /// The main output of a node.
    pub(crate) fn of(node: NodeId) -> Origin {
        Origin {
            node,
            port: 0,
            via: None,
            edge: None,
        }
    }

    /// What a node gives up.
    pub(crate) fn dead_letters(node: NodeId) -> Origin {
        Origin {
            port: DEAD_LETTERS,
            ..Origin::of(node)
        }
    }
}

/// A node as far as it is known.
pub(crate) struct DraftNode {
    /// Its parallelism counts only if `parallelism` below is set.
    pub(crate) node: Node,
    pub(crate) parallelism: Option<u32>,
    /// What a source says becomes of records that it cannot decode.
    pub(crate) undecodable: Option<Undecodable>,
    /// Set for a source: its body by that.
    pub(crate) source: Option<SettledSource>,
    /// What is said to become of rows that an operator fails at.
    pub(crate) failing_row: Option<FailingRow>,
    /// Whether a stream takes what it gives up.
    pub(crate) takes_dead_letters: bool,
    body: NodeBody,
}

/// What holds for nodes that say nothing of records that cannot be processed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BadRecords {
    pub(crate) undecodable: Option<Undecodable>,
    pub(crate) failing_row: Option<FailingRow>,
}

struct DraftEdge {
    from: Origin,
    to: NodeId,
    input: InputId,
    kind: Arc<dyn EdgeType>,
}

/// See the file.
pub(crate) struct Draft {
    /// Name, maximum parallelism and mode; its nodes and edges are below.
    pub(crate) job: Graph,
    /// The parallelism of nodes that do not say otherwise.
    pub(crate) parallelism: u32,
    pub(crate) bad_records: BadRecords,
    nodes: Vec<DraftNode>,
    edges: Vec<DraftEdge>,
    faults: Vec<String>,
}

impl Draft {
    pub(crate) fn new() -> Draft {
        Draft {
            job: Graph::default(),
            parallelism: 1,
            bad_records: BadRecords::default(),
            nodes: vec![],
            edges: vec![],
            faults: vec![],
        }
    }

    /// Adds a node. `shape` sets what is not as [`Node::new`] has it.
    pub(crate) fn add(
        &mut self,
        role: NodeRole,
        name: impl Into<String>,
        body: NodeBody,
        shape: impl FnOnce(&mut Node),
    ) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        let mut node = Node::new(id, role, name, 1);
        shape(&mut node);
        self.nodes.push(DraftNode {
            node,
            parallelism: None,
            undecodable: None,
            source: None,
            failing_row: None,
            takes_dead_letters: false,
            body,
        });
        id
    }

    /// Connects all of some origins with one input.
    pub(crate) fn connect(&mut self, from: &[Origin], to: NodeId, input: InputId, kind: Arc<dyn EdgeType>) {
        self.edges.extend(from.iter().map(|from| DraftEdge {
            from: from.clone(),
            to,
            input,
            kind: from.edge.clone().unwrap_or_else(|| kind.clone()),
        }));
    }

    /// Notes something the user must change; `build` reports it.
    pub(crate) fn fault(&mut self, message: impl Into<String>) {
        self.faults.push(message.into());
    }

    /// Changes the node that a stream comes from. `what` is the line the user wrote.
    pub(crate) fn change(&mut self, from: &[Origin], what: &str, change: impl FnOnce(&mut DraftNode)) {
        let misplaced = match from {
            [
                Origin {
                    node,
                    port: 0,
                    via: None,
                    ..
                },
            ] => return self.change_node(*node, change),
            [Origin { port: 0, .. }] => "behind a partitioner such as rebalance(), which is no operator",
            [
                Origin {
                    port: DEAD_LETTERS, ..
                },
            ] => "on dead letters",
            [_] => "on a side output of an operator",
            _ => "behind union(..), which is no operator",
        };
        self.fault(format!(
            "{what} stands {misplaced}: write it right behind the operator that it is for"
        ));
    }

    /// The port that a side output of a node leads to, numbered when it is first taken.
    pub(crate) fn side_port(&mut self, id: NodeId, tag: &str, type_name: &str) -> u8 {
        let Some(DraftNode { node, .. }) = self.nodes.get_mut(id.0 as usize) else {
            return 0;
        };
        let taken = node.side_outputs.iter().find(|(taken, _)| taken == tag);
        let fault = match taken {
            Some((_, port)) => match &node.output_types[usize::from(*port)] {
                taken if taken == type_name => return *port,
                taken => format!(
                    "side output {tag:?} of \"{}\" is taken with rows of {taken} and of {type_name}: use one constant for \
                     both",
                    node.name
                ),
            },
            None => match u8::try_from(node.output_types.len()) {
                Ok(port) => {
                    node.output_types.push(type_name.to_owned());
                    node.side_outputs.push((tag.to_owned(), port));
                    return port;
                }
                Err(_) => format!(
                    "\"{}\" has more outputs than can be counted: 256 at most",
                    node.name
                ),
            },
        };
        self.fault(fault);
        0
    }

    /// Changes a node.
    pub(crate) fn change_node(&mut self, id: NodeId, change: impl FnOnce(&mut DraftNode)) {
        if let Some(node) = self.nodes.get_mut(id.0 as usize) {
            change(node);
        }
    }

    /// The program as written so far, or everything that is wrong with it.
    pub(crate) fn build(&self) -> Result<Program> {
        let mut graph = self.job.clone();
        graph.nodes = self.nodes.iter().map(|draft| self.settled(draft)).collect();
        graph.edges = self.edges.iter().map(|edge| edge.settled(&graph)).collect();
        let mut faults = self.faults.clone();
        faults.extend(self.dead_letter_faults());
        if let Err(errors) = graph.validate() {
            faults.extend(errors.iter().map(ToString::to_string));
        }
        if !faults.is_empty() {
            return Err(Failure::invalid(faults.join("\n")));
        }
        Ok(Program {
            graph,
            nodes: self.nodes.iter().map(|draft| self.body(draft)).collect(),
            edges: self.edges.iter().map(|edge| edge.kind.clone()).collect(),
        })
    }

    fn settled(&self, draft: &DraftNode) -> Node {
        let mut node = Node {
            parallelism: draft.parallelism.unwrap_or(self.parallelism),
            ..draft.node.clone()
        };
        if self.gives_up(draft) {
            node.dead_letters = u8::try_from(node.output_types.len()).ok();
            node.output_types.push(type_name::<DeadLetter>().to_owned());
        }
        node
    }

    fn body(&self, draft: &DraftNode) -> NodeBody {
        match &draft.source {
            Some(source) => source(self.undecodable(draft)),
            None => draft.body.clone(),
        }
    }

    /// What becomes of records that a source cannot decode. Who takes the dead letters wants them.
    fn undecodable(&self, draft: &DraftNode) -> Undecodable {
        let unsaid = match draft.takes_dead_letters {
            true => Undecodable::DeadLetter,
            false => self.bad_records.undecodable.unwrap_or_default(),
        };
        draft.undecodable.unwrap_or(unsaid)
    }

    /// Whether a node has dead letters.
    fn gives_up(&self, draft: &DraftNode) -> bool {
        let unsaid = match draft.takes_dead_letters {
            true => FailingRow::DeadLetter,
            false => self.bad_records.failing_row.unwrap_or_default(),
        };
        match draft.node.role {
            NodeRole::Source => self.undecodable(draft) == Undecodable::DeadLetter,
            NodeRole::Operator => draft.failing_row.unwrap_or(unsaid) == FailingRow::DeadLetter,
            NodeRole::Sink => false,
        }
    }

    /// The nodes that have dead letters which no stream takes.
    pub(crate) fn untaken_dead_letters(&self) -> Vec<NodeId> {
        let taken = |id: NodeId| {
            self.edges
                .iter()
                .any(|edge| edge.from.node == id && edge.from.port == DEAD_LETTERS)
        };
        let giving_up = self.nodes.iter().filter(|draft| self.gives_up(draft));
        giving_up
            .map(|draft| draft.node.id)
            .filter(|id| !taken(*id))
            .collect()
    }

    fn dead_letter_faults(&self) -> Vec<String> {
        let name = |id: NodeId| {
            self.nodes
                .get(id.0 as usize)
                .map_or("", |draft| draft.node.name.as_str())
        };
        let untaken = self.untaken_dead_letters().into_iter().map(|id| {
            format!(
                "the dead letters of \"{}\" lead nowhere: take them with .with_dead_letters() and sink them",
                name(id)
            )
        });
        let idle = self.nodes.iter().filter(|draft| {
            let set = match draft.node.role {
                NodeRole::Source => draft.undecodable.is_some(),
                _ => draft.failing_row.is_some(),
            };
            draft.takes_dead_letters && set && !self.gives_up(draft)
        });
        let idle = idle.map(|draft| {
            format!(
                "\"{}\" has no dead letters to take, because it is set to do something else with bad records",
                draft.node.name
            )
        });
        untaken.chain(idle).collect()
    }
}

impl DraftEdge {
    fn settled(&self, graph: &Graph) -> Edge {
        let parallelism = |id| graph.node(id).map_or(1, |node| node.parallelism);
        let default = || Partitioning::default_between(parallelism(self.from.node), parallelism(self.to));
        Edge {
            from: self.from.node,
            port: match self.from.port {
                DEAD_LETTERS => graph
                    .node(self.from.node)
                    .and_then(|node| node.dead_letters)
                    .unwrap_or(DEAD_LETTERS),
                port => port,
            },
            to: self.to,
            input: self.input,
            partitioning: self.from.via.unwrap_or_else(default),
            type_name: self.kind.type_name().to_owned(),
        }
    }
}
