//! Who shares a slot, and so a thread.
//!
//! Slot i of a slot sharing group holds subtask i of each of its vertices, as Flink's does. A group that nobody gave to an
//! operator comes from its inputs. A blocking vertex keeps its group for those behind it, but each of its subtasks has
//! a slot that nobody shares.

use super::{PlanError, Vertex};
use crate::graph::Graph;
use rivermark_types::{NodeId, SlotId, SubtaskId};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The group of operators that nobody put into another.
pub const DEFAULT_GROUP: &str = "default";

/// A place for one subtask of each vertex of a group, or for one blocking subtask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Its index in [`super::Plan::slots`].
    pub id: SlotId,
    /// The slot sharing group; `None` if a blocking subtask has it alone.
    pub group: Option<String>,
    /// Who runs in it, by vertex.
    pub subtasks: Vec<SubtaskId>,
}

/// The slot sharing group of every node.
pub(super) struct SlotGroups(BTreeMap<NodeId, String>);

impl SlotGroups {
    pub(super) fn new(graph: &Graph) -> SlotGroups {
        let mut groups = SlotGroups(BTreeMap::new());
        for id in graph.in_topological_order() {
            let own = graph.node(id).and_then(|node| node.slot_group.clone());
            let group = own.unwrap_or_else(|| groups.inherited(graph, id));
            groups.0.insert(id, group);
        }
        groups
    }

    /// That of all inputs, if they have the same.
    fn inherited(&self, graph: &Graph, id: NodeId) -> String {
        let mut inputs = graph.edges_into(id).map(|(_, edge)| self.of(edge.from));
        let first = inputs.next().unwrap_or(DEFAULT_GROUP);
        let agreed = inputs.all(|group| group == first);
        if agreed { first } else { DEFAULT_GROUP }.to_owned()
    }

    pub(super) fn of(&self, node: NodeId) -> &str {
        self.0.get(&node).map_or(DEFAULT_GROUP, String::as_str)
    }
}

/// Those that share slots.
struct Party<'a> {
    /// `None` for a blocking vertex.
    group: Option<&'a str>,
    vertices: Vec<&'a Vertex>,
}

impl<'a> Party<'a> {
    fn widest(&self) -> Option<&'a Vertex> {
        let wider = |vertex: &&&Vertex| (vertex.parallelism, Reverse(vertex.id));
        self.vertices.iter().max_by_key(wider).copied()
    }

    fn width(&self) -> u32 {
        self.widest().map_or(0, |vertex| vertex.parallelism)
    }

    fn slots(&self) -> impl Iterator<Item = Slot> {
        (0..self.width()).map(|index| {
            let wide_enough = self.vertices.iter().filter(|vertex| index < vertex.parallelism);
            let subtask = |vertex: &&Vertex| SubtaskId {
                vertex: vertex.id,
                index,
            };
            Slot {
                id: SlotId(0),
                group: self.group.map(str::to_owned),
                subtasks: wide_enough.map(subtask).collect(),
            }
        })
    }
}

/// Groups in the order of their first vertices, then blocking vertices.
fn parties(vertices: &[Vertex]) -> Vec<Party<'_>> {
    let mut parties: Vec<Party<'_>> = Vec::new();
    for vertex in vertices.iter().filter(|vertex| !vertex.blocking) {
        let group = Some(vertex.slot_group.as_str());
        match parties.iter_mut().find(|party| party.group == group) {
            Some(party) => party.vertices.push(vertex),
            None => parties.push(Party {
                group,
                vertices: vec![vertex],
            }),
        }
    }
    let alone = vertices.iter().filter(|vertex| vertex.blocking);
    parties.extend(alone.map(|vertex| Party {
        group: None,
        vertices: vec![vertex],
    }));
    parties
}

/// The slots of a plan; an error if more are needed than there are.
pub(super) fn assign(vertices: &[Vertex], offered: Option<u32>) -> Result<Vec<Slot>, PlanError> {
    let parties = parties(vertices);
    let needed = parties.iter().map(Party::width).sum();
    if let Some(offered) = offered.filter(|offered| *offered < needed) {
        return Err(too_few(&parties, needed, offered));
    }
    let slots = parties.iter().flat_map(Party::slots);
    let numbered = slots.zip(0..).map(|(slot, id)| Slot {
        id: SlotId(id),
        ..slot
    });
    Ok(numbered.collect())
}

fn too_few(parties: &[Party<'_>], needed: u32, offered: u32) -> PlanError {
    if let [only] = parties
        && let Some(widest) = only.widest()
    {
        return PlanError::TooFewSlots {
            vertex: widest.name.clone(),
            needed,
            offered,
        };
    }
    let user = |party: &Party<'_>| match (party.group, party.widest()) {
        (Some(group), _) => format!("slot sharing group \"{group}\" {}", party.width()),
        (None, Some(vertex)) => format!("blocking \"{}\" {}", vertex.name, party.width()),
        (None, None) => String::new(),
    };
    PlanError::TooFewSlotsForGroups {
        needed,
        offered,
        users: parties.iter().map(user).collect(),
    }
}
