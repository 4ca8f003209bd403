//! The memory connectors keep the promises that every connector is held to.

#![allow(clippy::unwrap_used, reason = "tests")]

use rivermark_connector::conformance::sink::RowOf;
use rivermark_connector::conformance::{SinkBench, check_sink, check_source};
use rivermark_connector::{CollectSink, Collected, CollectionSource, GeneratorSource, sequence};
use rivermark_env::RealEnv;

#[derive(Default)]
struct CollectBench(Collected<u64>);

impl SinkBench for CollectBench {
    type Sink = CollectSink<u64>;
    fn sink(&self) -> CollectSink<u64> {
        CollectSink::new(self.0.clone())
    }
    fn row(&self, number: u64) -> u64 {
        number
    }
    async fn visible(&self) -> Vec<String> {
        self.0.rows().iter().map(u64::to_string).collect()
    }
    fn text(&self, row: &RowOf<Self>) -> String {
        row.to_string()
    }
    async fn leftovers(&self) -> Vec<String> {
        (0..self.0.open_transactions())
            .map(|n| format!("transaction {n}"))
            .collect()
    }
}

#[test]
fn the_collect_sink_conforms() {
    let world = RealEnv::start().unwrap();
    world
        .block_on(check_sink(&world.env(), CollectBench::default))
        .unwrap();
}

#[test]
fn the_collection_source_conforms() {
    let world = RealEnv::start().unwrap();
    for rows in [0, 1, 2, 40] {
        let rows: Vec<u32> = (0..rows).collect();
        let source = CollectionSource::new(rows.clone());
        world
            .block_on(check_source(&world.env(), &source, &rows))
            .unwrap();
        world
            .block_on(check_source(&world.env(), &source.with_splits(5), &rows))
            .unwrap();
    }
}

#[test]
fn the_generators_conform() {
    let world = RealEnv::start().unwrap();
    for rows in [0, 1, 40] {
        let numbers: Vec<u64> = (0..rows).collect();
        world
            .block_on(check_source(&world.env(), &sequence(rows), &numbers))
            .unwrap();
    }
    let texts: Vec<String> = (0..20).map(|n| format!("row {n}")).collect();
    let source = GeneratorSource::bounded(20, |n| format!("row {n}"));
    world
        .block_on(check_source(&world.env(), &source, &texts))
        .unwrap();
}
