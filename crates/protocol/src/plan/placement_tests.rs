//! Golden plans with every partitioner, slot sharing groups and blocking operators.

use super::*;

fn plan(graph: &Graph) -> Plan {
    Plan::new(graph, true, None).unwrap()
}

/// From a source of one parallelism to a sink of another.
fn pair(partitioning: Partitioning, senders: u32, receivers: u32) -> Plan {
    let mut graph = Graph::default();
    let (source, sink) = (graph.source("source", senders), graph.sink("sink", receivers));
    graph.connect_by(partitioning, source, 0, sink, 0);
    plan(&graph)
}

/// For each sender, the receivers that it has a channel to.
fn channels(plan: &Plan) -> Vec<Vec<u32>> {
    let senders = plan.vertices[0].subtasks();
    let receivers = |sender| {
        let outputs = plan.outputs_of(sender);
        outputs[0]
            .channels
            .iter()
            .map(|channel| channel.to.index)
            .collect()
    };
    senders.map(receivers).collect()
}

#[test]
fn rescale_connects_as_few_as_it_can() {
    let rescale = |senders, receivers| channels(&pair(Partitioning::Rescale, senders, receivers));
    assert_eq!(rescale(2, 4), [[0, 1], [2, 3]]);
    assert_eq!(rescale(4, 2), [[0], [0], [1], [1]]);
    assert_eq!(rescale(2, 5), [vec![0, 1, 2], vec![3, 4]]);
    assert_eq!(rescale(5, 2), [[0], [0], [1], [1], [1]]);
    assert_eq!(rescale(3, 3), [[0], [1], [2]]);
    for (senders, receivers) in [(1, 7), (7, 3), (3, 7), (6, 4), (4, 6)] {
        let plan = pair(Partitioning::Rescale, senders, receivers);
        assert_eq!(
            plan.channel_count(&plan.exchanges[0]),
            u64::from(senders.max(receivers))
        );
        let connected = channels(&plan);
        assert_eq!(connected.concat().len(), senders.max(receivers) as usize);
        assert!(connected.iter().all(|receivers| !receivers.is_empty()));
        for receiver in plan.vertices[1].subtasks() {
            assert!(!plan.inputs_of(receiver).is_empty());
        }
    }
}

#[test]
fn the_others_connect_everybody() {
    for partitioning in [
        Partitioning::Key,
        Partitioning::Rebalance,
        Partitioning::Shuffle,
        Partitioning::Broadcast,
        Partitioning::Global,
        Partitioning::Custom,
    ] {
        let plan = pair(partitioning, 2, 3);
        assert_eq!(channels(&plan), [[0, 1, 2], [0, 1, 2]], "{partitioning:?}");
        let line = format!("e0  v0 -> v1  {}, 6 channels\n", partitioning.name());
        assert!(plan.explain().contains(&line), "{}", plan.explain());
        // Even at one parallelism they are more than a hand-over.
        assert_eq!(pair(partitioning, 2, 2).vertices.len(), 2);
    }
}

/// source(2) → map(2, blocking) → window(4, "windows") → sink(1).
fn grouped() -> Graph {
    let mut graph = Graph::of_section_six();
    graph.name = Some("grouped \"six\"".into());
    graph.node_mut(NodeId(1)).blocking = true;
    graph.node_mut(NodeId(2)).slot_group = Some("windows".into());
    graph
}

#[test]
fn groups_have_slots_of_their_own_and_so_has_each_blocking_subtask() {
    assert_eq!(
        plan(&grouped()).explain(),
        "\
job \"grouped \"six\"\": 4 tasks, 9 subtasks, 8 slots
tasks
  v0  source  2 x  v0/0 v0/1
  v1  map     2 x  v1/0 v1/1
  v2  window  4 x  v2/0 v2/1 v2/2 v2/3
  v3  sink    1 x  v3/0
exchanges
  e0  v0 -> v1  forward, 2 channels
  e1  v1 -> v2  hash, 8 channels
  e2  v2 -> v3  rebalance, 4 channels
slots
  slot 0  v0/0
  slot 1  v0/1
  slot 2  v2/0 v3/0  group \"windows\"
  slot 3  v2/1  group \"windows\"
  slot 4  v2/2  group \"windows\"
  slot 5  v2/3  group \"windows\"
  slot 6  v1/0  blocking, alone
  slot 7  v1/1  blocking, alone
"
    );
    let error = Plan::new(&grouped(), true, Some(7)).unwrap_err().to_string();
    let users = "slot sharing group \"default\" 2, slot sharing group \"windows\" 4, blocking \"map\" 2";
    assert!(
        error.contains("needs 8 slots, but there are 7") && error.contains(users),
        "{error}"
    );
}

#[test]
fn inputs_that_disagree_leave_the_default_group() {
    let mut graph = Graph::default();
    let (left, right) = (graph.source("left", 1), graph.source("right", 1));
    let (join, sink) = (graph.operator("join", 1), graph.sink("sink", 1));
    graph.connect_by(Partitioning::Rebalance, left, 0, join, 0);
    graph.connect_by(Partitioning::Rebalance, right, 0, join, 1);
    graph.connect(join, sink);
    let groups = |graph: &Graph| {
        plan(graph)
            .vertices
            .iter()
            .map(|v| v.slot_group.clone())
            .collect::<Vec<_>>()
    };
    graph.node_mut(left).slot_group = Some("a".into());
    assert_eq!(groups(&graph), ["a", "default", "default"]);
    graph.node_mut(right).slot_group = Some("a".into());
    assert_eq!(groups(&graph), ["a", "a", "a"]);
    // Another group ends the chain.
    graph.node_mut(sink).slot_group = Some("b".into());
    assert_eq!(groups(&graph), ["a", "a", "a", "b"]);
}

#[test]
fn the_picture_is_in_the_language_of_graphviz() {
    assert_eq!(
        plan(&grouped()).dot(),
        r##"digraph "grouped \"six\"" {
  rankdir=LR;
  graph [fontname="sans-serif", label="grouped \"six\": 4 tasks, 9 subtasks, 8 slots", labelloc=t];
  node [fontname="sans-serif", shape=box, style="rounded,filled", fillcolor="#eef3f8"];
  edge [fontname="sans-serif", fontsize=11];
  v0 [label="source\n2 x"];
  v1 [label="map\n2 x, blocking", fillcolor="#f8e8d8"];
  subgraph cluster_1 {
    label="slot sharing group windows"; style=dashed;
    v2 [label="window\n4 x"];
    v3 [label="sink\n1 x"];
  }
  v0 -> v1 [label="forward\n2 channels"];
  v1 -> v2 [label="hash\n8 channels"];
  v2 -> v3 [label="rebalance\n4 channels"];
}
"##
    );
}

#[test]
fn an_arrow_tells_how_many_channels_from_which_output_to_which_input() {
    let mut graph = Graph::default();
    let (left, right) = (graph.source("left", 1), graph.source("right", 1));
    let (join, sink) = (graph.operator("join", 1), graph.sink("sink", 2));
    graph.node_mut(right).output_types.push("side".into());
    graph.connect_by(Partitioning::Key, left, 0, join, 0);
    graph.connect_by(Partitioning::Key, right, 1, join, 1);
    graph.connect_by(Partitioning::Rebalance, join, 0, sink, 0);
    let picture = plan(&graph).dot();
    let arrows: Vec<&str> = picture.lines().filter(|line| line.contains("->")).collect();
    assert_eq!(
        arrows,
        [
            r#"  v0 -> v2 [label="hash"];"#,
            r#"  v1 -> v2 [label="hash\nside output 1\ninput 1"];"#,
            r#"  v2 -> v3 [label="rebalance\n2 channels"];"#,
        ]
    );
}
