//! Golden plans as text, and what holds for every plan.

use super::*;
use crate::graph::NodeRole;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn plan(graph: &Graph) -> Plan {
    Plan::new(graph, true, None).unwrap()
}

fn tasks(plan: &Plan) -> Vec<(&str, u32)> {
    plan.vertices
        .iter()
        .map(|v| (v.name.as_str(), v.parallelism))
        .collect()
}

/// `"v0 -hash-> v1"`, with `/port` and `:input` where they are not 0.
fn exchanges(plan: &Plan) -> Vec<String> {
    let number = |n: u8, mark: char| {
        if n > 0 {
            format!("{mark}{n}")
        } else {
            String::new()
        }
    };
    let show = |e: &Exchange| {
        let (port, input) = (number(e.port, '/'), number(e.to_input.0, ':'));
        format!("{}{port} -{}-> {}{input}", e.from, e.partitioning.name(), e.to)
    };
    plan.exchanges.iter().map(show).collect()
}

#[test]
fn section_six_of_the_seed() {
    let mut graph = Graph::of_section_six();
    graph.name = Some("six".into());
    let plan = plan(&graph);
    assert_eq!(tasks(&plan), [("source -> map", 2), ("window", 4), ("sink", 1)]);
    assert_eq!(exchanges(&plan), ["v0 -hash-> v1", "v1 -rebalance-> v2"]);
    assert_eq!(plan.subtasks().count(), 7);
    assert_eq!(plan.slots.len(), 4);
    assert_eq!(
        plan.explain(),
        "\
job \"six\": 3 tasks, 7 subtasks, 4 slots
tasks
  v0  source -> map  2 x  v0/0 v0/1
  v1  window         4 x  v1/0 v1/1 v1/2 v1/3
  v2  sink           1 x  v2/0
exchanges
  e0  v0 -> v1  hash, 8 channels
  e1  v1 -> v2  rebalance, 4 channels
slots
  slot 0  v0/0 v1/0 v2/0
  slot 1  v0/1 v1/1
  slot 2  v1/2
  slot 3  v1/3
"
    );
}

/// source → a → b → c → sink, all at one parallelism.
fn forward_five() -> Graph {
    let mut graph = Graph::default();
    let mut last = graph.source("source", 3);
    for name in ["a", "b", "c"] {
        let next = graph.operator(name, 3);
        graph.connect(last, next);
        last = next;
    }
    let sink = graph.sink("sink", 3);
    graph.connect(last, sink);
    graph
}

#[test]
fn five_forward_operators_are_one_task() {
    let plan = plan(&forward_five());
    assert_eq!(tasks(&plan), [("source -> a -> b -> c -> sink", 3)]);
    assert_eq!(plan.summary(), "1 task, 3 subtasks, 3 slots");
    assert!(plan.exchanges.is_empty());
    let vertex = &plan.vertices[0];
    assert_eq!(vertex.nodes, [0, 1, 2, 3, 4].map(NodeId));
    assert_eq!(
        vertex
            .links
            .iter()
            .map(|l| (l.edge, l.from.0, l.to.0))
            .collect::<Vec<_>>(),
        [(0, 0, 1), (1, 1, 2), (2, 2, 3), (3, 3, 4)]
    );
}

#[test]
fn of_many_subtasks_the_first_and_the_last_are_named() {
    let mut graph = Graph::of_section_six();
    graph.node_mut(NodeId(2)).parallelism = 5;
    let explained = plan(&graph).explain();
    assert!(
        explained.contains("  v1  window         5 x  v1/0 .. v1/4\n"),
        "{explained}"
    );
}

#[test]
fn without_chaining_each_operator_is_a_task() {
    let plan = Plan::new(&forward_five(), false, None).unwrap();
    assert_eq!(
        tasks(&plan),
        [("source", 3), ("a", 3), ("b", 3), ("c", 3), ("sink", 3)]
    );
    assert_eq!(exchanges(&plan)[..2], ["v0 -forward-> v1", "v1 -forward-> v2"]);
    assert_eq!(plan.channel_count(&plan.exchanges[0]), 3);
}

#[test]
fn chaining_can_be_refused_by_one_operator() {
    let mut graph = forward_five();
    graph.node_mut(NodeId(2)).chaining = Chaining::Head;
    assert_eq!(tasks(&plan(&graph)), [("source -> a", 3), ("b -> c -> sink", 3)]);
    graph.node_mut(NodeId(2)).chaining = Chaining::Never;
    assert_eq!(
        tasks(&plan(&graph)),
        [("source -> a", 3), ("b", 3), ("c -> sink", 3)]
    );
}

#[test]
fn a_union_starts_a_task_with_one_input() {
    let mut graph = Graph::default();
    let (left, right) = (graph.source("left", 2), graph.source("right", 2));
    let (map, sink) = (graph.operator("map", 2), graph.sink("sink", 2));
    graph.connect(left, map);
    graph.connect(right, map);
    graph.connect(map, sink);
    let plan = plan(&graph);
    assert_eq!(tasks(&plan), [("left", 2), ("right", 2), ("map -> sink", 2)]);
    assert_eq!(exchanges(&plan), ["v0 -forward-> v2", "v1 -forward-> v2"]);
    let second = SubtaskId {
        vertex: VertexId(2),
        index: 1,
    };
    let senders: Vec<_> = plan
        .inputs_of(second)
        .iter()
        .map(|c| (c.from.to_string(), c.input.0))
        .collect();
    assert_eq!(senders, [("v0/1".to_string(), 0), ("v1/1".to_string(), 0)]);
}

#[test]
fn connecting_two_keyed_streams_keeps_their_inputs_apart() {
    let mut graph = Graph::default();
    let (left, right) = (graph.source("left", 1), graph.source("right", 3));
    let (join, sink) = (graph.operator("join", 2), graph.sink("sink", 2));
    graph.node_mut(join).keyed = true;
    graph.connect_by(Partitioning::Key, left, 0, join, 0);
    graph.connect_by(Partitioning::Key, right, 0, join, 1);
    graph.connect(join, sink);
    let plan = plan(&graph);
    assert_eq!(tasks(&plan), [("left", 1), ("right", 3), ("join -> sink", 2)]);
    assert_eq!(exchanges(&plan), ["v0 -hash-> v2", "v1 -hash-> v2:1"]);
    let channels = plan.inputs_of(SubtaskId {
        vertex: VertexId(2),
        index: 0,
    });
    assert_eq!(
        channels.iter().map(|c| c.input.0).collect::<Vec<_>>(),
        [0, 1, 1, 1]
    );
    assert!(
        plan.explain()
            .contains("e1  v1 -> v2 input 1  hash, 6 channels\n"),
        "{}",
        plan.explain()
    );
}

#[test]
fn a_side_output_is_a_branch_of_the_chain() {
    let mut graph = Graph::of_section_six();
    let window = NodeId(2);
    graph.node_mut(window).output_types.push("late".into());
    let (tag, late) = (graph.operator("tag", 4), graph.sink("late", 4));
    graph.connect_by(Partitioning::Forward, window, 1, tag, 0);
    graph.connect(tag, late);
    let (count, counts) = (graph.operator("count", 4), graph.sink("counts", 2));
    graph.connect(window, count);
    graph.connect_by(Partitioning::Broadcast, window, 1, counts, 0);
    graph.connect(count, counts);
    let plan = plan(&graph);
    assert_eq!(
        tasks(&plan),
        [
            ("source -> map", 2),
            ("window -> (tag -> late, count)", 4),
            ("sink", 1),
            ("counts", 2)
        ]
    );
    assert_eq!(
        exchanges(&plan),
        [
            "v0 -hash-> v1",
            "v1 -rebalance-> v2",
            "v1/1 -broadcast-> v3",
            "v1 -rebalance-> v3"
        ]
    );
    assert!(
        plan.explain()
            .contains("broadcast, 8 channels, from side output 1\n"),
        "{}",
        plan.explain()
    );
}

#[test]
fn a_task_has_one_number_of_key_groups() {
    let mut graph = forward_five();
    for (id, groups) in [(1, 256), (3, 128)] {
        let node = graph.node_mut(NodeId(id));
        (node.keyed, node.max_parallelism) = (true, Some(groups));
    }
    // The keyless operator between them hides neither from the other.
    let plan = plan(&graph);
    assert_eq!(tasks(&plan), [("source -> a -> b", 3), ("c -> sink", 3)]);
    assert_eq!(
        plan.vertices
            .iter()
            .map(|v| v.max_parallelism.get())
            .collect::<Vec<_>>(),
        [256, 128]
    );
}

#[test]
fn too_few_slots_are_an_error_that_says_how_many_are_missing() {
    let error = Plan::new(&Graph::of_section_six(), true, Some(3)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"window\" needs 4 slots, but there are 3: lower its parallelism, or raise taskmanager.numberOfTaskSlots"
    );
    for enough in [4, 9] {
        let plan = Plan::new(&Graph::of_section_six(), true, Some(enough)).unwrap();
        assert_eq!(plan.slots.len(), 4);
    }
}

#[test]
fn a_faulty_graph_is_not_planned() {
    let error = Plan::new(&Graph::default(), true, None).unwrap_err();
    assert!(
        matches!(&error, PlanError::Graph(errors) if errors.len() == 2),
        "{error:?}"
    );
    assert_eq!(error.to_string().lines().count(), 2);
}

#[test]
fn a_plan_is_plain_data() {
    let plan = plan(&Graph::of_section_six());
    let json = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan);
}

/// A node of a random graph: its parallelism, its chaining, and which of the earlier nodes it reads from, how.
type Draw = (u32, u8, Vec<(prop::sample::Index, u8)>);

/// Sources first, then operators that read from one to three earlier nodes, then a sink behind every loose end.
fn random_graph(sources: &[u32], operators: &[Draw]) -> Graph {
    let mut graph = Graph::default();
    for (i, parallelism) in sources.iter().enumerate() {
        graph.source(&format!("s{i}"), *parallelism);
    }
    for (i, (parallelism, chaining, inputs)) in operators.iter().enumerate() {
        let earlier = graph.nodes.len();
        let node = graph.operator(&format!("o{i}"), *parallelism);
        graph.node_mut(node).chaining = [
            Chaining::Allowed,
            Chaining::Allowed,
            Chaining::Head,
            Chaining::Never,
        ][usize::from(chaining % 4)];
        graph.node_mut(node).blocking = chaining % 5 == 0;
        graph.node_mut(node).slot_group = (chaining % 3 == 0).then(|| format!("g{}", chaining % 2));
        for (input, (from, how)) in inputs.iter().enumerate() {
            let from = NodeId(from.index(earlier) as u32);
            match how % 7 {
                0 => graph.connect_by(Partitioning::Key, from, 0, node, input as u8),
                1 => graph.connect_by(Partitioning::Broadcast, from, 0, node, input as u8),
                2 => graph.connect_by(Partitioning::Rescale, from, 0, node, input as u8),
                3 => graph.connect_by(Partitioning::Global, from, 0, node, input as u8),
                _ => graph.connect(from, node),
            }
        }
    }
    for id in 0..graph.nodes.len() as u32 {
        let loose = NodeId(id);
        if graph.edges_out_of(loose).next().is_none() {
            let parallelism = graph.nodes[id as usize].parallelism;
            let sink = graph.add(NodeRole::Sink, &format!("sink{id}"), parallelism);
            graph.connect(loose, sink);
        }
    }
    graph
}

fn any_graph() -> impl Strategy<Value = Graph> {
    let input = (any::<prop::sample::Index>(), any::<u8>());
    let operator = (1u32..5, any::<u8>(), prop::collection::vec(input, 1..4));
    (
        prop::collection::vec(1u32..5, 1..4),
        prop::collection::vec(operator, 0..10),
    )
        .prop_map(|(sources, operators)| random_graph(&sources, &operators))
}

proptest! {
    #[test]
    fn every_subtask_is_in_exactly_one_slot(graph in any_graph(), chaining: bool) {
        let plan = Plan::new(&graph, chaining, None).unwrap();
        let placed: Vec<SubtaskId> = plan.slots.iter().flat_map(|slot| slot.subtasks.clone()).collect();
        let distinct: BTreeSet<SubtaskId> = placed.iter().copied().collect();
        prop_assert_eq!(distinct.len(), placed.len());
        prop_assert_eq!(distinct, plan.subtasks().collect::<BTreeSet<_>>());
        for slot in &plan.slots {
            let vertices: BTreeSet<VertexId> = slot.subtasks.iter().map(|subtask| subtask.vertex).collect();
            prop_assert_eq!(vertices.len(), slot.subtasks.len(), "a vertex twice in a slot");
        }
    }

    #[test]
    fn every_node_is_in_one_vertex_and_every_edge_a_link_or_an_exchange(graph in any_graph(), chaining: bool) {
        let plan = Plan::new(&graph, chaining, None).unwrap();
        let mut nodes: Vec<NodeId> = plan.vertices.iter().flat_map(|vertex| vertex.nodes.clone()).collect();
        nodes.sort();
        prop_assert_eq!(nodes, graph.nodes.iter().map(|node| node.id).collect::<Vec<_>>());
        let links = plan.vertices.iter().flat_map(|vertex| vertex.links.iter().map(|link| link.edge));
        let mut edges: Vec<u32> = links.chain(plan.exchanges.iter().map(|exchange| exchange.edge)).collect();
        edges.sort();
        prop_assert_eq!(edges, (0..graph.edges.len() as u32).collect::<Vec<_>>());
    }

    #[test]
    fn a_vertex_is_a_tree_that_channels_enter_at_its_head(graph in any_graph()) {
        let plan = plan(&graph);
        for vertex in &plan.vertices {
            prop_assert_eq!(vertex.head, vertex.nodes[0]);
            prop_assert_eq!(vertex.links.len(), vertex.nodes.len() - 1);
            for (place, node) in vertex.nodes.iter().enumerate().skip(1) {
                let feeders: Vec<_> = vertex.links.iter().filter(|link| link.to == *node).collect();
                prop_assert_eq!(feeders.len(), 1);
                prop_assert!(vertex.nodes[..place].contains(&feeders[0].from));
            }
        }
        for exchange in &plan.exchanges {
            let target = graph.edges[exchange.edge as usize].to;
            prop_assert_eq!(plan.vertices[exchange.to.0 as usize].head, target);
            prop_assert!(exchange.from < exchange.to, "vertices are numbered downstream");
        }
    }

    #[test]
    fn both_ends_of_a_channel_agree(graph in any_graph(), chaining: bool) {
        let plan = Plan::new(&graph, chaining, None).unwrap();
        let mut channels = 0;
        for sender in plan.subtasks() {
            for output in plan.outputs_of(sender) {
                for channel in output.channels {
                    let seen = plan.inputs_of(channel.to)[channel.index.0 as usize];
                    prop_assert_eq!((seen.exchange, seen.from), (output.exchange.id, sender));
                    channels += 1;
                }
            }
        }
        prop_assert_eq!(channels, plan.subtasks().map(|subtask| plan.inputs_of(subtask).len()).sum::<usize>());
        prop_assert_eq!(channels as u64, plan.exchanges.iter().map(|e| plan.channel_count(e)).sum::<u64>());
    }
}
