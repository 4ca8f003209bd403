//! Each fault of a graph, with the line that a user reads.

use super::*;

fn faults(graph: &Graph) -> Vec<String> {
    graph
        .validate()
        .err()
        .unwrap_or_default()
        .iter()
        .map(GraphError::to_string)
        .collect()
}

#[test]
fn a_sound_graph_passes() {
    assert_eq!(faults(&Graph::of_section_six()), [""; 0]);
}

#[test]
fn what_must_be_found_again_needs_a_uid() {
    let mut graph = Graph::of_section_six();
    graph.node_mut(NodeId(3)).exactly_once = true;
    for node in &mut graph.nodes {
        node.uid = None;
    }
    graph.node_mut(NodeId(2)).name = "Tumbling Window (1 h)".into();
    graph.node_mut(NodeId(1)).uid = Some(Uid::from("sink-1"));
    assert_eq!(
        faults(&graph),
        [
            r#"source "source" keeps positions but has no uid: add .uid("source-1") after it"#,
            r#"operator "Tumbling Window (1 h)" keeps state but has no uid: add .uid("tumbling-window-1-h-1") after it"#,
            r#"sink "sink" is exactly-once but has no uid: add .uid("sink-2") after it"#,
        ]
    );
}

#[test]
fn what_keeps_nothing_needs_no_uid() {
    let mut graph = Graph::of_section_six();
    // The map has no state, and the sink is at-least-once.
    for id in [1, 3] {
        graph.node_mut(NodeId(id)).uid = None;
    }
    assert_eq!(faults(&graph), [""; 0]);
}

#[test]
fn suggested_uids_do_not_clash_with_each_other() {
    let mut graph = Graph::of_section_six();
    for id in [1, 2] {
        let node = graph.node_mut(NodeId(id));
        (node.name, node.uid, node.has_state) = ("process".into(), None, true);
    }
    assert_eq!(
        faults(&graph),
        [
            r#"operator "process" keeps state but has no uid: add .uid("process-1") after it"#,
            r#"operator "process" keeps state but has no uid: add .uid("process-2") after it"#,
        ]
    );
}

#[test]
fn a_uid_belongs_to_one() {
    let mut graph = Graph::of_section_six();
    graph.node_mut(NodeId(1)).uid = Some(Uid::from("window"));
    assert_eq!(
        faults(&graph),
        [r#""map" and "window" have the same uid "window": give one of them another"#]
    );
}

#[test]
fn parallelism_stays_within_the_key_groups() {
    let mut graph = Graph::of_section_six();
    graph.node_mut(NodeId(2)).max_parallelism = Some(3);
    assert_eq!(
        faults(&graph),
        [r#""window" has parallelism 4: set one from 1 to 3, its maximum parallelism"#]
    );
    graph.node_mut(NodeId(2)).max_parallelism = Some(40_000);
    assert_eq!(
        faults(&graph),
        [r#""window" has maximum parallelism 40000: set one from 1 to 32768"#]
    );
    graph.node_mut(NodeId(2)).max_parallelism = None;
    graph.node_mut(NodeId(3)).parallelism = 0;
    assert_eq!(
        faults(&graph),
        [r#""sink" has parallelism 0: set one from 1 to 128, its maximum parallelism"#]
    );
    graph.node_mut(NodeId(3)).parallelism = 1;
    graph.max_parallelism = Some(2);
    assert_eq!(
        faults(&graph),
        [r#""window" has parallelism 4: set one from 1 to 2, its maximum parallelism"#]
    );
}

#[test]
fn the_default_maximum_grows_with_the_parallelism() {
    let mut graph = Graph::of_section_six();
    graph.node_mut(NodeId(2)).parallelism = 200;
    assert_eq!(faults(&graph), [""; 0]);
    assert_eq!(graph.max_parallelism_of(&graph.nodes[2]).unwrap().get(), 512);
}

#[test]
fn rows_are_forwarded_only_between_equals() {
    let mut graph = Graph::of_section_six();
    graph.edges[2].partitioning = Partitioning::Forward;
    assert_eq!(
        faults(&graph),
        [
            "\"window\" has parallelism 4 and \"sink\" has 1, so rows cannot be forwarded from subtask to subtask: set \
         the same parallelism, or write .rebalance() between them"
        ]
    );
    assert_eq!(Partitioning::default_between(4, 1), Partitioning::Rebalance);
    assert_eq!(Partitioning::default_between(4, 4), Partitioning::Forward);
}

#[test]
fn a_keyed_operator_gets_its_rows_by_key() {
    let mut graph = Graph::of_section_six();
    graph.edges[1].partitioning = Partitioning::Rebalance;
    assert_eq!(
        faults(&graph),
        [r#""window" works by key, but rows from "map" reach it rebalance: write .key_by(..) between them"#]
    );
}

#[test]
fn other_operators_do_not_stand_in_for_a_source_or_a_sink() {
    let mut graph = Graph::default();
    let (map, sink) = (graph.operator("map", 1), graph.sink("sink", 1));
    graph.connect(map, sink);
    let errors = graph.validate().unwrap_err();
    assert_eq!(errors, [GraphError::NoSource]);
    let mut graph = Graph::default();
    let (source, map) = (graph.source("source", 1), graph.operator("map", 1));
    graph.connect(source, map);
    let errors = graph.validate().unwrap_err();
    assert_eq!(errors, [GraphError::NoSink]);
}

#[test]
fn rows_come_from_somewhere_and_go_somewhere() {
    assert_eq!(
        faults(&Graph::default()),
        [
            "the job has no source: begin with one, for example env.from_collection(..)",
            "the job has no sink: end it with one, for example .sink_to(..)",
        ]
    );
    let mut graph = Graph::of_section_six();
    graph.edges.remove(1);
    assert_eq!(
        faults(&graph),
        [
            r#"the rows of operator "map" go nowhere: end the stream with .sink_to(..)"#,
            r#"operator "window" has no input: connect a stream to it"#,
        ]
    );
}

#[test]
fn edges_end_where_they_can() {
    let broken: [(fn(&mut Edge), &str); 5] = [
        (
            |edge| edge.from = NodeId(9),
            "n9 port 0 to n3 does not fit the graph: the node that sends does not exist",
        ),
        (
            |edge| edge.to = NodeId(9),
            "n2 port 0 to n9 does not fit the graph: the node that receives does not exist",
        ),
        (
            |edge| edge.from = NodeId(3),
            "n3 port 0 to n3 does not fit the graph: a sink has no output",
        ),
        (
            |edge| edge.to = NodeId(0),
            "n2 port 0 to n0 does not fit the graph: a source has no input",
        ),
        (
            |edge| edge.port = 1,
            "n2 port 1 to n3 does not fit the graph: there is no such port",
        ),
    ];
    for (breaks, message) in broken {
        let mut graph = Graph::of_section_six();
        breaks(&mut graph.edges[2]);
        assert_eq!(faults(&graph), [format!("the stream from {message}")]);
    }
    let mut graph = Graph::of_section_six();
    graph.node_mut(NodeId(1)).id = NodeId(7);
    assert_eq!(
        faults(&graph),
        ["the operator at place 1 has the id n7: ids are places"]
    );
}

#[test]
fn a_circle_is_named_without_what_hangs_on_it() {
    let mut graph = Graph::of_section_six();
    let back = graph.operator("back", 4);
    graph.connect(NodeId(2), back);
    graph.connect_by(Partitioning::Key, back, 0, NodeId(2), 0);
    assert_eq!(
        faults(&graph),
        [r#"the stream runs in a circle through "window", "back""#]
    );
}

#[test]
fn an_exactly_once_sink_needs_exactly_once_checkpoints() {
    let mut graph = Graph::of_section_six();
    graph.mode = GuaranteeMode::AtLeastOnce;
    assert_eq!(faults(&graph), [""; 0]);
    graph.node_mut(NodeId(3)).exactly_once = true;
    assert_eq!(
        faults(&graph),
        [
            "sink \"sink\" is exactly-once, but the job runs at-least-once: set execution.checkpointing.mode to \
         EXACTLY_ONCE, or give the sink a weaker guarantee"
        ]
    );
}

#[test]
fn unaligned_checkpoints_are_for_exactly_once() {
    let mut graph = Graph::of_section_six();
    graph.unaligned = Some(Unaligned::default());
    assert_eq!(faults(&graph), [""; 0]);
    let after = std::time::Duration::ZERO;
    assert_eq!(graph.align_mode(), AlignMode::Unaligned { after });
    graph.mode = GuaranteeMode::AtLeastOnce;
    let faults = faults(&graph);
    assert!(
        faults[0].contains("execution.checkpointing.unaligned.enabled"),
        "{faults:?}"
    );
}

#[test]
fn every_operator_has_a_name_that_stays() {
    let mut graph = Graph::default();
    let source = graph.source("source", 1);
    let [first, second, third] = ["first", "second", "third"].map(|name| graph.operator(name, 1));
    graph.connect(source, first);
    graph.connect_by(Partitioning::Rebalance, source, 1, third, 0);
    graph.connect(source, second);
    graph.connect(second, third);
    for unnamed in [first, second, third] {
        graph.node_mut(unnamed).uid = None;
    }
    let names = |graph: &Graph| [source, first, second, third].map(|id| graph.stable_name(id).to_string());
    let expected = ["source", "~source.0.0", "~source.0.1", "~source.1.0"];
    assert_eq!(names(&graph), expected);
    // What comes behind, and how wide anything is, changes no name.
    let sink = graph.sink("sink", 1);
    graph.connect(first, sink);
    graph.node_mut(second).parallelism = 4;
    assert_eq!(names(&graph), expected);
    let edge = |from: &str, port| graph.edge_from(third, InputId(0), &Uid::from(from), port);
    assert_eq!((edge("source", 1), edge("~source.0.1", 0)), (Some(1), Some(3)));
    assert_eq!(edge("somebody", 0), Some(1), "another way into the same input");
    assert_eq!(graph.edge_from(third, InputId(1), &Uid::from("source"), 1), None);
}

#[test]
fn the_digest_is_stable_and_notices_every_part() {
    let graph = Graph::of_section_six();
    // Processes of different builds compare it: a change of the function is a change of the protocol.
    assert_eq!(graph.digest(), GOLDEN_DIGEST);
    let changes: [fn(&mut Graph); 12] = [
        |g| g.nodes[2].uid = Some(Uid::from("other")),
        |g| g.nodes[2].parallelism = 5,
        |g| g.nodes[2].max_parallelism = Some(128),
        |g| g.nodes[2].output_types[0] = "u32".into(),
        |g| g.nodes[2].slot_group = Some("group".into()),
        |g| g.nodes[2].blocking = true,
        |g| g.nodes[2].side_outputs = vec![("late".into(), 1)],
        |g| g.edges[1].partitioning = Partitioning::Broadcast,
        |g| g.edges[1].type_name = "u32".into(),
        |g| g.mode = GuaranteeMode::AtLeastOnce,
        |g| g.name = Some("job".into()),
        |g| g.unaligned = Some(Unaligned::default()),
    ];
    let mut digests = std::collections::BTreeSet::from([graph.digest()]);
    for change in changes {
        let mut changed = graph.clone();
        change(&mut changed);
        assert!(digests.insert(changed.digest()), "{changed:?}");
    }
}
const GOLDEN_DIGEST: u64 = 9_663_068_032_143_852_730;

#[test]
fn a_graph_is_plain_data() {
    let graph = Graph::of_section_six();
    let json = serde_json::to_string(&graph).unwrap();
    assert_eq!(serde_json::from_str::<Graph>(&json).unwrap(), graph);
}

#[test]
fn barriers_overtake_where_records_in_flight_can_be_dealt_out_again() {
    use Partitioning::*;
    let mut graph = Graph::default();
    let keeps = |graph: &Graph| {
        let all = [Forward, Rescale, Broadcast, Key, Rebalance, Global, Custom];
        all.map(|partitioning| graph.keeps_order(partitioning))
    };
    assert_eq!(keeps(&graph), [true; 7], "aligned");
    let mut unaligned = Unaligned {
        after: Duration::ZERO,
        forced: false,
    };
    graph.unaligned = Some(unaligned);
    assert_eq!(keeps(&graph), [true, true, true, false, false, false, true]);
    unaligned.forced = true;
    graph.unaligned = Some(unaligned);
    assert_eq!(keeps(&graph), [true, true, true, false, false, false, false]);
}
