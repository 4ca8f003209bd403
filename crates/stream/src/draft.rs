//! The graph while it is being written: nodes, edges, and what is wrong with them so far.
//!
//! Streams only note down what they are told; parallelism and partitioning are settled in [`Draft::build`], because a
//! later line may still change them. Non-goal: types. Streams keep them; here they are erased.

use rivermark_data::EdgeType;
use rivermark_protocol::graph::{Edge, Graph, Node, NodeRole, Partitioning};
use rivermark_runtime::{NodeBody, Program};
use rivermark_types::{Failure, InputId, NodeId, Result};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// The one draft that an environment and all its streams write to.
pub(crate) type SharedDraft = Rc<RefCell<Draft>>;

/// Where the rows of a stream come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) node: NodeId,
    pub(crate) port: u8,
    /// What the user asked for; else it depends on the parallelism of both ends.
    pub(crate) via: Option<Partitioning>,
}

impl Origin {
    /// The main output of a node.
    pub(crate) fn of(node: NodeId) -> Origin {
        Origin {
            node,
            port: 0,
            via: None,
        }
    }
}

/// A node as far as it is known.
pub(crate) struct DraftNode {
    /// Its parallelism counts only if `parallelism` below is set.
    pub(crate) node: Node,
    pub(crate) parallelism: Option<u32>,
    body: NodeBody,
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
    nodes: Vec<DraftNode>,
    edges: Vec<DraftEdge>,
    faults: Vec<String>,
}

impl Draft {
    pub(crate) fn new() -> Draft {
        Draft {
            job: Graph::default(),
            parallelism: 1,
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
            body,
        });
        id
    }

    /// Connects all of some origins with one input.
    pub(crate) fn connect(&mut self, from: &[Origin], to: NodeId, input: InputId, kind: Arc<dyn EdgeType>) {
        self.edges.extend(from.iter().map(|from| DraftEdge {
            from: *from,
            to,
            input,
            kind: kind.clone(),
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
                },
            ] => return self.change_node(*node, change),
            [Origin { port: 0, .. }] => "behind rebalance(), which is no operator",
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
        let fault = match node.side_outputs.get(tag) {
            Some(port) => match &node.output_types[usize::from(*port)] {
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
                    node.side_outputs.insert(tag.to_owned(), port);
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
        if let Err(errors) = graph.validate() {
            faults.extend(errors.iter().map(ToString::to_string));
        }
        if !faults.is_empty() {
            return Err(Failure::invalid(faults.join("\n")));
        }
        Ok(Program {
            graph,
            nodes: self.nodes.iter().map(|draft| draft.body.clone()).collect(),
            edges: self.edges.iter().map(|edge| edge.kind.clone()).collect(),
        })
    }

    fn settled(&self, draft: &DraftNode) -> Node {
        Node {
            parallelism: draft.parallelism.unwrap_or(self.parallelism),
            ..draft.node.clone()
        }
    }
}

impl DraftEdge {
    fn settled(&self, graph: &Graph) -> Edge {
        let parallelism = |id| graph.node(id).map_or(1, |node| node.parallelism);
        let default = || Partitioning::default_between(parallelism(self.from.node), parallelism(self.to));
        Edge {
            from: self.from.node,
            port: self.from.port,
            to: self.to,
            input: self.input,
            partitioning: self.from.via.unwrap_or_else(default),
            type_name: self.kind.type_name().to_owned(),
        }
    }
}
