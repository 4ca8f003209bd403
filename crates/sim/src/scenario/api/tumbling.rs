//! Tumbling event-time windows.

use super::{Part, all_rows, same};
use crate::Draw;
use crate::scenario::job::Builder;
use crate::scenario::plan::Scenario;
use crate::scenario::rows::{Input, Output};
use rivermark_stream::{DataStream, Tumbling, Window};
use std::collections::BTreeMap;
use std::time::Duration;

/// Sums and counts per key and window.
#[derive(Debug)]
struct Sums {
    size_ms: i64,
}

pub(super) fn draw(draw: &mut Draw) -> Box<dyn Part> {
    Box::new(Sums {
        size_ms: draw.between(1, 2_000) as i64,
    })
}

impl Part for Sums {
    fn build(&self, builder: &Builder<'_>) -> DataStream<Output> {
        builder
            .source(0)
            .key_by(|row| row.key)
            .window(Tumbling::of(Duration::from_millis(self.size_ms as u64)))
            .fold(
                |acc: &mut (i64, u64), row: Input| *acc = (acc.0 + row.value, acc.1 + 1),
                |key: &u32, window: Window, (sum, count)| Output {
                    key: *key,
                    time: window.start.0,
                    sum,
                    count,
                },
            )
            .uid("windows")
            .set_parallelism(builder.parallelism(3))
    }

    fn check(&self, scenario: &Scenario, found: &[Output]) -> Result<(), String> {
        let mut sums: BTreeMap<(u32, i64), (i64, u64)> = BTreeMap::new();
        for row in all_rows(scenario) {
            let start = row.time - row.time.rem_euclid(self.size_ms);
            let entry = sums.entry((row.key, start)).or_default();
            *entry = (entry.0 + row.value, entry.1 + 1);
        }
        let computed = sums.into_iter().map(|((key, time), (sum, count))| Output {
            key,
            time,
            sum,
            count,
        });
        same(computed.collect(), found)
    }
}
