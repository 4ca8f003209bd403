//! Windows of processing time, and triggers that go by it: when they fire depends on the run, what they let out does not.

use super::processing_timers::same_sums;
use super::{Part, all_rows};
use crate::Draw;
use crate::scenario::job::Builder;
use crate::scenario::plan::Scenario;
use crate::scenario::rows::{Input, Output};
use rivermark_stream::{
    ContinuousProcessingTime, DataStream, Out, Purging, SlidingProcessingTime, Tumbling, Window,
};
use std::collections::BTreeSet;
use std::time::Duration;

#[derive(Debug)]
enum ByTheClock {
    /// Windows of event time that let out now and then what they have, and the rest at their end.
    Early { size_ms: i64, interval_ms: u64 },
    /// Windows of processing time, side by side, that give their rows back. Those that are not over at the end of the job do
    /// not.
    Back { size_ms: u64 },
}

pub(super) fn draw(draw: &mut Draw) -> Box<dyn Part> {
    Box::new(match draw.below(2) {
        0 => ByTheClock::Early {
            size_ms: draw.between(1, 2_000) as i64,
            interval_ms: draw.between(1, 400),
        },
        _ => ByTheClock::Back {
            size_ms: draw.between(1, 400),
        },
    })
}

/// A row as it is told, different for each.
fn told(row: &Input) -> Output {
    Output {
        key: row.key,
        time: row.id as i64,
        sum: row.value,
        count: 1,
    }
}

impl Part for ByTheClock {
    fn build(&self, builder: &Builder<'_>) -> DataStream<Output> {
        let rows = builder.source(0).key_by(|row| row.key);
        let out = match *self {
            ByTheClock::Early { size_ms, interval_ms } => rows
                .window(Tumbling::of(Duration::from_millis(size_ms as u64)))
                .trigger(Purging::of(ContinuousProcessingTime::of(Duration::from_millis(
                    interval_ms,
                ))))
                .fold(
                    |acc: &mut (i64, u64), row: Input| *acc = (acc.0 + row.value, acc.1 + 1),
                    |key: &u32, window: Window, (sum, count)| Output {
                        key: *key,
                        time: window.start.0,
                        sum,
                        count,
                    },
                ),
            ByTheClock::Back { size_ms } => {
                let size = Duration::from_millis(size_ms);
                rows.window(SlidingProcessingTime::of(size, size)).process(
                    |_: &u32, _: Window, rows: &[Input], out: &mut Out<Output>| {
                        rows.iter().for_each(|row| out.emit(told(row)));
                    },
                )
            }
        };
        out.uid("by-the-clock").set_parallelism(builder.parallelism(3))
    }

    fn check(&self, scenario: &Scenario, found: &[Output]) -> Result<(), String> {
        match *self {
            ByTheClock::Early { size_ms, .. } => {
                let start = |row: &Input| row.time - row.time.rem_euclid(size_ms);
                same_sums(
                    all_rows(scenario).map(|row| (row.key, start(row), row.value)),
                    found.iter().cloned(),
                )
            }
            ByTheClock::Back { .. } => {
                let mut left: BTreeSet<Output> = scenario.rows[0].iter().map(told).collect();
                match found.iter().find(|row| !left.remove(row)) {
                    Some(row) => Err(format!("{row:?} came twice, or never was")),
                    None => Ok(()),
                }
            }
        }
    }
}
