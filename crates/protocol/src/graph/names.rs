//! Stable names of all operators, also of those without a uid: what in-flight records are found by after a restart.
//!
//! A name is the uid, or else the way to the operator from the nearest operator with a uid in front of it: `~source.0.1` is
//! the second operator behind port 0 of `source`. It does not change with what is added elsewhere, with the parallelism, or
//! with what is chained.

use super::{Graph, Node};
use rivermark_types::{InputId, NodeId, Uid};

impl Graph {
    /// The stable name of an operator.
    pub fn stable_name(&self, id: NodeId) -> Uid {
        match self.node(id) {
            Some(Node { uid: Some(uid), .. }) => uid.clone(),
            _ => Uid(format!("~{}", self.way_to(id))),
        }
    }

    /// The edge into an input of an operator that comes from this operator and port; or else any into that input.
    pub fn edge_from(&self, to: NodeId, input: InputId, from: &Uid, port: u8) -> Option<usize> {
        let into = || self.edges_into(to).filter(|(_, edge)| edge.input == input);
        let same = into().find(|(_, edge)| edge.port == port && self.stable_name(edge.from) == *from);
        same.or_else(|| into().next()).map(|(index, _)| index)
    }

    fn way_to(&self, id: NodeId) -> String {
        if let Some(uid) = self.node(id).and_then(|node| node.uid.as_ref()) {
            return uid.to_string();
        }
        // Of several inputs the first leads the way. Nodes on a cycle are refused before anybody asks.
        let Some((at, edge)) = self.edges_into(id).find(|(_, edge)| edge.from != id) else {
            return format!("#{}", id.0);
        };
        let before = self
            .edges_out_of(edge.from)
            .filter(|(_, other)| other.port == edge.port);
        let place = before.take_while(|(other, _)| *other != at).count();
        format!("{}.{}.{place}", self.way_to(edge.from), edge.port)
    }
}
