//! Graphs as written, and the plans that follow from them.

use crate::*;
use rivermark_protocol::graph::{Chaining, Graph, NodeRole, Partitioning};
use rivermark_protocol::plan::Plan;
use rivermark_runtime::NodeBody;
use rivermark_types::{ErrorKind, InputId};
use std::time::Duration;

/// `"from.port -> to.input partitioning"` for each edge, by name.
fn edges(graph: &Graph) -> Vec<String> {
    let name = |id| graph.node(id).map_or("?", |node| node.name.as_str());
    graph
        .edges
        .iter()
        .map(|edge| {
            let (from, to) = (name(edge.from), name(edge.to));
            format!(
                "{from}.{} -> {to}.{} {}",
                edge.port,
                edge.input.0,
                edge.partitioning.name()
            )
        })
        .collect()
}

fn names(graph: &Graph) -> Vec<&str> {
    graph.nodes.iter().map(|node| node.name.as_str()).collect()
}

fn tasks(program: &Program) -> Vec<String> {
    let plan = Plan::new(&program.graph, true, None).unwrap();
    plan.vertices
        .iter()
        .map(|vertex| format!("{} x{}", vertex.name, vertex.parallelism))
        .collect()
}

fn sensors(env: &StreamEnv) -> DataStream<(u32, i64)> {
    let strategy = WatermarkStrategy::bounded_out_of_orderness(Duration::from_secs(1))
        .with_timestamp(|row: &(u32, i64)| Timestamp(row.1));
    env.from_source(CollectionSource::new(vec![(1, 10), (2, 20)]), strategy)
        .name("sensors")
        .uid("sensors")
}

#[test]
fn neighbouring_closures_are_one_operator() {
    let env = StreamEnv::new();
    let words = env.from_collection(vec!["a b".to_owned()]).uid("lines");
    words
        .flat_map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .map(|word| word.len())
        .filter(|len| *len > 0)
        .try_map(u32::try_from)
        .discard();
    let program = env.build().unwrap();
    assert_eq!(
        names(&program.graph),
        ["collection", "flat_map -> map -> filter -> try_map", "discard"]
    );
    assert_eq!(program.nodes.len(), 3);
    assert_eq!(program.edges.len(), program.graph.edges.len());
    assert_eq!(program.graph.edges[0].type_name, "alloc::string::String");
    assert_eq!(program.graph.edges[1].type_name, "u32");
    assert_eq!(program.graph.nodes[1].output_types, ["u32"]);
    assert_eq!(
        tasks(&program),
        ["collection -> flat_map -> map -> filter -> try_map -> discard x1"]
    );
}

#[test]
fn a_name_a_uid_or_a_parallelism_ends_a_fusion() {
    let env = StreamEnv::new();
    env.sequence(10)
        .uid("numbers")
        .map(|n| n + 1)
        .name("first")
        .map(|n| n + 1)
        .filter(|n| *n > 1)
        .uid("second")
        .map(|n| n + 1)
        .set_parallelism(3)
        .discard();
    let program = env.build().unwrap();
    assert_eq!(
        names(&program.graph),
        ["generator", "first", "map -> filter", "map", "discard"]
    );
    assert_eq!(
        program.graph.nodes[2].uid.as_ref().map(|uid| uid.as_str()),
        Some("second")
    );
    assert_eq!(
        tasks(&program),
        ["generator -> first -> map -> filter x1", "map x3", "discard x1"]
    );
}

#[test]
fn a_cloned_stream_runs_its_closures_once() {
    let env = StreamEnv::new();
    let numbers = env.sequence(10).uid("numbers").map(|n| n + 1).end_fusion();
    numbers.clone().map(|n| n * 2).discard();
    numbers.discard().name("raw");
    let program = env.build().unwrap();
    assert_eq!(
        edges(&program.graph),
        [
            "generator.0 -> map.0 forward",
            "map.0 -> map.0 forward",
            "map.0 -> discard.0 forward",
            "map.0 -> raw.0 forward"
        ]
    );
    assert_eq!(
        program
            .graph
            .nodes
            .iter()
            .filter(|node| node.name == "map")
            .count(),
        2
    );
}

/// The seed's section 6: the parallelism changes and there is a key, so there are three tasks with 2, 4 and 1 subtasks.
#[test]
fn a_job_is_cut_at_keys_and_where_the_parallelism_changes() {
    let env = StreamEnv::new();
    env.set_parallelism(2);
    sensors(&env)
        .map(|row| row)
        .key_by(|row| row.0)
        .window(Tumbling::of(Duration::from_secs(10)))
        .fold(
            |count: &mut u64, _| *count += 1,
            |sensor, window, count| (*sensor, window.end, count),
        )
        .uid("counts")
        .set_parallelism(4)
        .sink_to(PrintSink::debug())
        .uid("print")
        .set_parallelism(1);
    let program = env.build().unwrap();
    assert_eq!(tasks(&program), ["sensors -> map x2", "window x4", "print x1"]);
    assert_eq!(
        edges(&program.graph),
        [
            "sensors.0 -> map.0 forward",
            "map.0 -> window.0 hash",
            "window.0 -> print.0 rebalance"
        ]
    );
    let plan = Plan::new(&program.graph, true, None).unwrap();
    assert_eq!(plan.subtasks().count(), 7);
    assert_eq!(plan.slots.len(), 4);
    let [source, map, window, print] = program.graph.nodes.as_slice() else {
        panic!()
    };
    assert!(window.keyed && window.has_state && !map.keyed && !map.has_state);
    assert!(
        print.two_phase
            && !print.exactly_once
            && print.role == NodeRole::Sink
            && print.output_types.is_empty()
    );
    assert!(source.role == NodeRole::Source && matches!(program.nodes[0], NodeBody::Source(_)));
}

#[test]
fn union_connects_all_streams_with_one_input() {
    let env = StreamEnv::new();
    let (a, b) = (
        env.sequence(1).uid("a").name("a"),
        env.sequence(1).uid("b").name("b"),
    );
    a.map(|n| n + 1)
        .union(b)
        .key_by(|n| *n)
        .reduce(|a, b| a + b)
        .uid("sum")
        .discard();
    let program = env.build().unwrap();
    assert_eq!(
        edges(&program.graph),
        [
            "a.0 -> map.0 forward",
            "map.0 -> reduce.0 hash",
            "b.0 -> reduce.0 hash",
            "reduce.0 -> discard.0 forward"
        ]
    );
    assert_eq!(tasks(&program), ["a -> map x1", "b x1", "reduce -> discard x1"]);
}

struct Pair;
impl KeyedOp2<u32, (u32, i64), u32, u64> for Pair {
    fn open(&mut self, _: &mut KeyedOpenCx<'_, u32>) -> Result<()> {
        Ok(())
    }
    fn left(&mut self, _: &Key<u32>, _: Timed<(u32, i64)>, _: &mut Out<u64>) -> Result<()> {
        Ok(())
    }
    fn right(&mut self, _: &Key<u32>, _: Timed<u32>, _: &mut Out<u64>) -> Result<()> {
        Ok(())
    }
}

#[test]
fn connected_streams_have_an_input_each() {
    let env = StreamEnv::new();
    let alarms = env.from_collection(vec![7u32]).uid("alarms").name("alarms");
    let joined = sensors(&env)
        .key_by(|row| row.0)
        .connect(alarms.key_by(|id| *id))
        .process(|| Pair);
    joined.uid("joined").discard();
    let program = env.build().unwrap();
    assert_eq!(
        edges(&program.graph),
        [
            "sensors.0 -> connect.0 hash",
            "alarms.0 -> connect.1 hash",
            "connect.0 -> discard.0 forward"
        ]
    );
    assert_eq!(program.graph.edges[1].input, InputId(1));
    assert!(program.edges[1].type_name() == "u32");
}

#[test]
fn late_records_are_a_second_stream() {
    let env = StreamEnv::new();
    let (counts, late) = sensors(&env)
        .key_by(|row| row.0)
        .window(Tumbling::of(Duration::from_secs(10)))
        .late_output()
        .fold(|count: &mut u64, _| *count += 1, |_, _, count| count);
    counts.uid("counts").discard();
    late.discard().name("late");
    let program = env.build().unwrap();
    assert_eq!(
        edges(&program.graph),
        [
            "sensors.0 -> window.0 hash",
            "window.0 -> discard.0 forward",
            "window.1 -> late.0 forward"
        ]
    );
    assert_eq!(program.graph.nodes[1].output_types, ["u64", "(u32, i64)"]);
}

#[test]
fn chaining_and_rebalancing_are_as_the_user_says() {
    let env = StreamEnv::new();
    env.set_parallelism(2);
    let numbers = env
        .sequence(1)
        .uid("n")
        .map(|n| n)
        .name("a")
        .start_new_chain()
        .map(|n| n)
        .name("b");
    numbers
        .map(|n| n)
        .name("c")
        .disable_chaining()
        .rebalance()
        .map(|n| n)
        .name("d")
        .discard();
    let program = env.build().unwrap();
    assert_eq!(
        tasks(&program),
        ["generator x2", "a -> b x2", "c x2", "d -> discard x2"]
    );
    assert_eq!(program.graph.nodes[1].chaining, Chaining::Head);
    assert_eq!(program.graph.edges[3].partitioning, Partitioning::Rebalance);
}

#[test]
fn parallelism_may_be_set_after_the_streams() {
    let env = StreamEnv::new();
    env.sequence(1).uid("n").discard().set_parallelism(1);
    env.set_parallelism(3);
    let program = env.build().unwrap();
    assert_eq!(tasks(&program), ["generator x3", "discard x1"]);
}

#[track_caller]
fn refused(env: &StreamEnv, lines: &[&str]) {
    let failure = env.build().err().expect("the graph has faults");
    assert_eq!(failure.kind, ErrorKind::Invalid);
    for line in lines {
        assert!(failure.message.contains(line), "{line:?} is not in:\n{failure}");
    }
    assert_eq!(failure.message.lines().count(), lines.len(), "{failure}");
}

#[test]
fn what_keeps_state_needs_a_uid_and_the_line_to_add_is_shown() {
    let env = StreamEnv::new();
    env.sequence(1)
        .key_by(|n| *n)
        .reduce(|a, b| a + b)
        .sink_to(CollectSink::new(Collected::default()));
    refused(
        &env,
        &[
            "source \"generator\" keeps positions but has no uid: add .uid(\"generator-1\")",
            "operator \"reduce\" keeps state but has no uid: add .uid(\"reduce-1\")",
            "sink \"collect\" is exactly-once but has no uid: add .uid(\"collect-1\")",
        ],
    );
}

#[test]
fn two_operators_cannot_share_a_uid() {
    let env = StreamEnv::new();
    env.sequence(1)
        .uid("n")
        .key_by(|n| *n)
        .reduce(|a, b| a + b)
        .uid("n")
        .discard();
    refused(&env, &["have the same uid \"n\""]);
}

#[test]
fn a_stream_must_lead_somewhere() {
    let env = StreamEnv::new();
    let _ = env.sequence(1).uid("n").map(|n| n).end_fusion();
    refused(&env, &["the job has no sink"]);
    refused(
        &StreamEnv::new(),
        &["the job has no source", "the job has no sink"],
    );
}

#[test]
fn what_names_no_operator_is_refused() {
    let env = StreamEnv::new();
    let (a, b) = (env.sequence(1).uid("a"), env.sequence(1).uid("b"));
    a.union(b).uid("both").discard();
    env.sequence(1).uid("c").rebalance().set_parallelism(2).discard();
    refused(
        &env,
        &[
            ".uid(\"both\") stands behind union(..)",
            ".set_parallelism(2) stands behind a partitioner such as rebalance()",
        ],
    );
}

#[test]
fn streams_of_two_jobs_do_not_mix() {
    let (env, other) = (StreamEnv::new(), StreamEnv::new());
    let stray = other.sequence(1).uid("b");
    env.sequence(1).uid("a").union(stray).discard();
    let failure = env.build().err().expect("the graph has faults");
    assert!(
        failure
            .message
            .contains("union(..) joins streams of two environments"),
        "{failure}"
    );
}

#[test]
fn a_strategy_without_times_is_refused_when_the_graph_is_built() {
    let env = StreamEnv::new();
    env.from_source(sequence(1), WatermarkStrategy::monotonous())
        .uid("n")
        .discard();
    refused(
        &env,
        &["source \"generator\": the watermark strategy has no times: add .with_timestamp"],
    );
}

#[test]
fn a_key_with_a_float_or_a_map_inside_is_refused_when_the_graph_is_built() {
    #[derive(Clone, PartialEq, serde::Serialize, serde::Deserialize)]
    enum Reading {
        Celsius(f64),
    }
    impl Eq for Reading {}
    let env = StreamEnv::new();
    env.sequence(1)
        .uid("n")
        .key_by(|n| Some(Reading::Celsius(*n as f64)))
        .reduce(|a, b| a + b)
        .uid("sum")
        .discard();
    refused(&env, &["Reading>: a float cannot be part of a key"]);

    let env = StreamEnv::new();
    let tags = |n: &u64| (std::collections::BTreeMap::from([(*n, 1u8)]), 'x');
    env.sequence(1)
        .uid("n")
        .key_by(tags)
        .reduce(|a, b| a + b)
        .uid("sum")
        .discard();
    refused(&env, &["a map cannot be part of a key"]);
}

#[test]
fn an_exactly_once_sink_under_at_least_once_is_refused() {
    let env = StreamEnv::new();
    env.set_mode(GuaranteeMode::AtLeastOnce);
    env.sequence(1)
        .uid("n")
        .sink_to(CollectSink::new(Collected::default()))
        .uid("out");
    refused(
        &env,
        &["sink \"collect\" is exactly-once, but the job runs at-least-once"],
    );
}

#[test]
fn equal_jobs_have_equal_digests() {
    let digest = |parallelism| {
        let env = StreamEnv::new();
        env.set_name("job");
        env.set_parallelism(parallelism);
        sensors(&env).filter(|row| row.1 > 0).discard();
        env.build().unwrap().graph.digest()
    };
    assert_eq!(digest(1), digest(1));
    assert_ne!(digest(1), digest(2));
}

#[test]
fn joins_have_an_input_each_and_late_records_apart() {
    let env = StreamEnv::new();
    let (left, right) = (sensors(&env), sensors(&env).uid("others").name("others"));
    let by_window = left
        .clone()
        .key_by(|row| row.0)
        .join(right.clone().key_by(|row| row.0))
        .window(Session::gap(Duration::from_secs(1)))
        .allowed_lateness(Duration::from_secs(1))
        .apply(|left, right| left.1 + right.1);
    by_window.uid("by window").discard();
    let (near, early, late) = left
        .key_by(|row| row.0)
        .interval_join(right.key_by(|row| row.0))
        .between(-5, 5)
        .upper_bound_exclusive()
        .process_with_late(|left, right| (left.1, right.1));
    near.uid("near").discard();
    early.union(late).discard().name("late");
    let program = env.build().unwrap();
    assert_eq!(
        edges(&program.graph),
        [
            "sensors.0 -> window join.0 hash",
            "others.0 -> window join.1 hash",
            "window join.0 -> discard.0 forward",
            "sensors.0 -> interval join.0 hash",
            "others.0 -> interval join.1 hash",
            "interval join.0 -> discard.0 forward",
            "interval join.1 -> late.0 forward",
            "interval join.2 -> late.0 forward"
        ]
    );
}

#[test]
fn an_interval_without_times_in_it_is_refused() {
    let env = StreamEnv::new();
    let left = sensors(&env);
    left.clone()
        .key_by(|row| row.0)
        .interval_join(left.key_by(|row| row.0))
        .between(5, 5)
        .lower_bound_exclusive()
        .process(|left, right| (left.1, right.1))
        .uid("none")
        .discard();
    refused(&env, &["its lower bound, 6 ms, is above its upper bound, 5 ms"]);
}
