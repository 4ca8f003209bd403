//! A source of one's own: cubes. A split is a hundred numbers, known by the first; a position in it, how many of them were
//! read. That is all it takes to read each exactly once. `cargo run --example custom_source`

use rivermark::connector::*;
use rivermark::prelude::*;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::process::ExitCode;

const LIMIT: u64 = 1_000;
struct Cubes;

impl Source for Cubes {
    type Row = u64;
    type Split = u64;
    type Reader = Reader;
    type Enumerator = Hundreds;
    fn name(&self) -> String {
        format!("cubes up to {LIMIT}")
    }
    fn reader(&self, _: ReaderCx) -> Result<Reader> {
        Ok(Reader(VecDeque::new()))
    }
    fn enumerator(&self, _: &Env) -> Result<Hundreds> {
        Ok(Hundreds(1))
    }
}

/// The first number that no split has yet.
struct Hundreds(u64);

impl SplitEnumerator for Hundreds {
    type Split = u64;
    async fn discover(&mut self, _parallelism: u32) -> Result<Found<u64>> {
        let splits = (self.0..=LIMIT).step_by(100).collect();
        let exhausted = true;
        self.0 = LIMIT + 1;
        Ok(Found { splits, exhausted })
    }
    fn snapshot(&self) -> Result<Value> {
        Ok(json!(self.0))
    }
    fn restore(&mut self, state: Value) -> Result<()> {
        let next = state.as_u64();
        self.0 = next.ok_or_else(|| Failure::invalid("the state is no number"))?;
        Ok(())
    }
}

struct Reader(VecDeque<(SplitIndex, u64, u64)>);

impl SplitReader for Reader {
    type Split = u64;
    type Row = u64;
    fn assign(&mut self, index: SplitIndex, first: u64, position: u64) -> Result<()> {
        self.0.push_back((index, first, position));
        Ok(())
    }
    fn next(&mut self, max_rows: usize, out: &mut ReadRows<u64>) -> Result<ReadPoll> {
        let Some((index, first, position)) = self.0.pop_front() else {
            return Ok(ReadPoll::Pending);
        };
        let numbers = (first + position..first + 100).take(max_rows);
        out.fill_consecutive(position, numbers.map(|n| n * n * n));
        if out.is_empty() {
            return Ok(ReadPoll::Done(index));
        }
        self.0.push_front((index, first, out.resume()));
        Ok(ReadPoll::Rows(index))
    }
}

fn main() -> ExitCode {
    rivermark::run(|env| {
        let cubes = env.from_source(Cubes, WatermarkStrategy::none()).uid("cubes");
        cubes.sink_to(PrintSink::new(|cube: &u64| cube.to_string()));
        Ok(())
    })
}
