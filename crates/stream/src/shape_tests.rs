//! Graphs with side outputs, partitioners and slots, as written.

use crate::*;
use rivermark_types::ErrorKind;

const ODD: OutputTag<u64> = OutputTag::new("odd");
const EVEN: OutputTag<u64> = OutputTag::new("even");

/// `"from.port -> to.input partitioning"` for each edge, by name.
fn edges(program: &Program) -> Vec<String> {
    let name = |id| program.graph.node(id).map_or("?", |node| node.name.as_str());
    let show = |edge: &rivermark_protocol::graph::Edge| {
        let (from, to) = (name(edge.from), name(edge.to));
        let (port, input, how) = (edge.port, edge.input.0, edge.partitioning.name());
        format!("{from}.{port} -> {to}.{input} {how}")
    };
    program.graph.edges.iter().map(show).collect()
}

struct Silent;
impl<I: rivermark_data::Data> KeyedOp<u64, I, String> for Silent {
    fn open(&mut self, _: &mut KeyedOpenCx<'_, u64>) -> Result<()> {
        Ok(())
    }
    fn row(&mut self, _: &Key<u64>, _: Timed<I>, _: &mut Out<String>) -> Result<()> {
        Ok(())
    }
}

fn refused(env: &StreamEnv, part: &str) {
    let failure = env.build().err().expect("the graph has faults");
    assert_eq!(failure.kind, ErrorKind::Invalid);
    assert!(failure.message.contains(part), "{part:?} is not in:\n{failure}");
}

#[test]
fn side_outputs_are_ports_numbered_as_they_are_taken() {
    let env = StreamEnv::new();
    let sorted = env
        .sequence(9)
        .uid("n")
        .key_by(|n| *n)
        .process(|| Silent)
        .uid("sort");
    sorted.side_output(&ODD).discard().name("odd");
    sorted.side_output(&EVEN).map(|n| n).discard().name("even");
    sorted.side_output(&ODD).discard().name("odd again");
    sorted.discard().name("main");
    let program = env.build().unwrap();
    assert_eq!(
        edges(&program),
        [
            "generator.0 -> process.0 hash",
            "process.1 -> odd.0 forward",
            "process.2 -> map.0 forward",
            "map.0 -> even.0 forward",
            "process.1 -> odd again.0 forward",
            "process.0 -> main.0 forward"
        ]
    );
    let node = &program.graph.nodes[1];
    assert_eq!(node.output_types, ["alloc::string::String", "u64", "u64"]);
    assert_eq!(node.side_outputs, [("odd".to_owned(), 1), ("even".to_owned(), 2)]);
}

#[test]
fn a_side_output_has_one_type_and_one_operator() {
    let env = StreamEnv::new();
    let sorted = env
        .sequence(9)
        .uid("n")
        .key_by(|n| *n)
        .process(|| Silent)
        .uid("sort");
    sorted.side_output(&ODD).uid("mine").discard();
    refused(&env, ".uid(\"mine\") stands on a side output of an operator");
    let env = StreamEnv::new();
    let sorted = env
        .sequence(9)
        .uid("n")
        .key_by(|n| *n)
        .process(|| Silent)
        .uid("sort");
    sorted.side_output(&ODD).discard();
    sorted.side_output(&OutputTag::<u8>::new("odd")).discard();
    refused(&env, "taken with rows of u64 and of u8: use one constant");
    let env = StreamEnv::new();
    let numbers = env.sequence(9).uid("n");
    let both = numbers.clone().union(numbers);
    both.side_output(&ODD).discard();
    refused(&env, "stands behind union(..)");
}

#[test]
fn every_partitioner_is_on_its_edge() {
    let env = StreamEnv::new();
    env.set_parallelism(2);
    let numbers = env.sequence(9).uid("n").name("n");
    numbers.clone().rebalance().discard().name("rebalance");
    numbers.clone().rescale().discard().name("rescale");
    numbers.clone().shuffle().discard().name("shuffle");
    numbers.clone().broadcast().discard().name("broadcast");
    numbers.clone().global().discard().name("global");
    numbers.clone().forward().discard().name("forward");
    let custom = numbers.partition_custom(|n, subtasks| *n as u32 % subtasks, |n| *n);
    custom
        .clone()
        .key_by(|n| *n)
        .process(|| Silent)
        .uid("keyed")
        .discard()
        .name("keyed");
    custom
        .union(env.sequence(1).uid("m").name("m"))
        .discard()
        .name("custom");
    let program = env.build().unwrap();
    assert_eq!(
        edges(&program),
        [
            "n.0 -> rebalance.0 rebalance",
            "n.0 -> rescale.0 rescale",
            "n.0 -> shuffle.0 shuffle",
            "n.0 -> broadcast.0 broadcast",
            "n.0 -> global.0 global",
            "n.0 -> forward.0 forward",
            "n.0 -> process.0 hash",
            "process.0 -> keyed.0 forward",
            "n.0 -> custom.0 custom",
            "m.0 -> custom.0 forward"
        ]
    );
    let places = |edge: usize| {
        let router = rivermark_data::Router::new(rivermark_data::Route::Custom, 4, 1);
        let mut places = vec![];
        let mut scatter = program.edges[edge].scatter(router);
        let rows = rivermark_data::Typed::untimed(vec![5u64, 6, 7]);
        scatter
            .push(rivermark_data::Batch::new(rows), &mut |channel, _| {
                places.push(channel)
            })
            .unwrap();
        places
    };
    assert_eq!(places(8), [1, 2, 3], "the partitioner is on the edge");
}

#[test]
fn forward_between_parallelisms_is_refused() {
    let env = StreamEnv::new();
    env.sequence(9).uid("n").forward().discard().set_parallelism(3);
    refused(&env, "write .rebalance() between them");
}

#[test]
fn slot_groups_are_inherited_and_blocking_operators_are_alone() {
    let env = StreamEnv::new();
    env.set_parallelism(2);
    let numbers = env.sequence(9).uid("n").name("n").slot_sharing_group("in");
    let slow = numbers.map(|n| n).name("slow").blocking().set_parallelism(1);
    slow.map(|n| n)
        .name("after")
        .discard()
        .name("d")
        .slot_sharing_group("out");
    let program = env.build().unwrap();
    let plan = rivermark_protocol::plan::Plan::new(&program.graph, true, None).unwrap();
    assert_eq!(
        plan.explain(),
        "\
job: 4 tasks, 7 subtasks, 5 slots
tasks
  v0  n      2 x  v0/0 v0/1
  v1  slow   1 x  v1/0
  v2  after  2 x  v2/0 v2/1
  v3  d      2 x  v3/0 v3/1
exchanges
  e0  v0 -> v1  rebalance, 2 channels
  e1  v1 -> v2  rebalance, 2 channels
  e2  v2 -> v3  forward, 2 channels
slots
  slot 0  v0/0 v2/0  group \"in\"
  slot 1  v0/1 v2/1  group \"in\"
  slot 2  v3/0  group \"out\"
  slot 3  v3/1  group \"out\"
  slot 4  v1/0  blocking, alone
"
    );
}
