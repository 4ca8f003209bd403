//! Graphs with side outputs, as written.

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
    assert_eq!(
        node.side_outputs,
        [("even".to_owned(), 2), ("odd".to_owned(), 1)].into()
    );
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
