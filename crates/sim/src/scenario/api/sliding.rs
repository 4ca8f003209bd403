//! Sliding event-time windows, with every kind of contents.

use super::{Part, all_rows, same};
use crate::Draw;
use crate::scenario::job::Builder;
use crate::scenario::plan::Scenario;
use crate::scenario::rows::{Input, Output};
use rivermark_stream::{DataStream, Out, Sliding, Window};
use std::collections::BTreeMap;
use std::time::Duration;

/// Sums and counts per key and window.
#[derive(Debug)]
struct Sums {
    size_ms: i64,
    slide_ms: i64,
    offset_ms: i64,
    lateness_ms: u64,
    /// Whether windows keep their rows, or a sum.
    keeps_rows: bool,
}

pub(super) fn draw(draw: &mut Draw) -> Box<dyn Part> {
    let slide_ms = draw.between(1, 800) as i64;
    Box::new(Sums {
        // Up to six windows a row, and sometimes rows that are in none.
        size_ms: draw.between(slide_ms as u64 / 2 + 1, slide_ms as u64 * 6) as i64,
        slide_ms,
        offset_ms: draw.between(0, 1_000) as i64,
        lateness_ms: if draw.coin() { 0 } else { draw.between(1, 500) },
        keeps_rows: draw.coin(),
    })
}

impl Part for Sums {
    fn build(&self, builder: &Builder<'_>) -> DataStream<Output> {
        let ms = |ms: i64| Duration::from_millis(ms as u64);
        let windows = Sliding::of(ms(self.size_ms), ms(self.slide_ms)).with_offset(ms(self.offset_ms));
        let windowed = builder
            .source(0)
            .key_by(|row| row.key)
            .window(windows)
            .allowed_lateness(Duration::from_millis(self.lateness_ms));
        let sums = match self.keeps_rows {
            true => windowed.process(
                |key: &u32, window: Window, rows: &[Input], out: &mut Out<Output>| {
                    out.emit(Output {
                        key: *key,
                        time: window.start.0,
                        sum: rows.iter().map(|row| row.value).sum(),
                        count: rows.len() as u64,
                    });
                },
            ),
            false => windowed.fold(
                |acc: &mut (i64, u64), row: Input| *acc = (acc.0 + row.value, acc.1 + 1),
                |key: &u32, window: Window, (sum, count)| Output {
                    key: *key,
                    time: window.start.0,
                    sum,
                    count,
                },
            ),
        };
        sums.uid("windows").set_parallelism(builder.parallelism(3))
    }

    fn check(&self, scenario: &Scenario, found: &[Output]) -> Result<(), String> {
        let mut sums: BTreeMap<(u32, i64), (i64, u64)> = BTreeMap::new();
        for row in all_rows(scenario) {
            let first = (row.time - self.size_ms - self.offset_ms).div_euclid(self.slide_ms);
            let last = (row.time - self.offset_ms).div_euclid(self.slide_ms);
            let starts = (first..=last).map(|n| n * self.slide_ms + self.offset_ms);
            for start in starts.filter(|start| *start <= row.time && row.time < start + self.size_ms) {
                let entry = sums.entry((row.key, start)).or_default();
                *entry = (entry.0 + row.value, entry.1 + 1);
            }
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
