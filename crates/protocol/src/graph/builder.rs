//! Graphs in a line or two, for the tests of this crate.

use super::{Edge, Graph, Node, NodeRole, Partitioning};
use rivermark_types::{InputId, NodeId, Uid};

impl Graph {
    /// Adds a node whose uid is its name.
    pub(crate) fn add(&mut self, role: NodeRole, name: &str, parallelism: u32) -> NodeId {
        let id = NodeId(self.nodes.len() as u32);
        let mut node = Node::new(id, role, name, parallelism);
        node.uid = Some(Uid::from(name));
        self.nodes.push(node);
        id
    }
    pub(crate) fn source(&mut self, name: &str, parallelism: u32) -> NodeId {
        self.add(NodeRole::Source, name, parallelism)
    }
    pub(crate) fn operator(&mut self, name: &str, parallelism: u32) -> NodeId {
        self.add(NodeRole::Operator, name, parallelism)
    }
    pub(crate) fn sink(&mut self, name: &str, parallelism: u32) -> NodeId {
        self.add(NodeRole::Sink, name, parallelism)
    }
    /// Connects port 0 with input 0, forward where it can be.
    pub(crate) fn connect(&mut self, from: NodeId, to: NodeId) {
        let parallelism = |id: NodeId| self.nodes[id.0 as usize].parallelism;
        let partitioning = Partitioning::default_between(parallelism(from), parallelism(to));
        self.connect_by(partitioning, from, 0, to, 0);
    }
    pub(crate) fn connect_by(&mut self, p: Partitioning, from: NodeId, port: u8, to: NodeId, input: u8) {
        let input = InputId(input);
        self.edges.push(Edge {
            from,
            port,
            to,
            input,
            partitioning: p,
            type_name: "u64".into(),
        });
    }
    pub(crate) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    /// The graph of the seed's section 6: source(2) → map(2) → key_by → window(4) → sink(1).
    pub(crate) fn of_section_six() -> Graph {
        let mut graph = Graph::default();
        let source = graph.source("source", 2);
        let map = graph.operator("map", 2);
        let window = graph.operator("window", 4);
        let sink = graph.sink("sink", 1);
        graph.node_mut(window).keyed = true;
        graph.node_mut(window).has_state = true;
        graph.connect(source, map);
        graph.connect_by(Partitioning::Key, map, 0, window, 0);
        graph.connect(window, sink);
        graph
    }
}
