//! Windows that fire at numbers of rows, or early: count windows, triggers, evictors.

use super::{Part, all_rows, same};
use crate::Draw;
use crate::scenario::job::Builder;
use crate::scenario::plan::Scenario;
use crate::scenario::rows::{Input, Output};
use rivermark_stream::{ContinuousEventTime, Count, DataStream, Purging, Tumbling, Window};
use std::collections::BTreeMap;
use std::time::Duration;

/// How many rows windows have when they fire. Which rows these are depends on how channels interleave.
#[derive(Debug)]
enum Counts {
    /// `count_window`.
    Windows { rows: u64 },
    /// `count_window_sliding`.
    Sliding { size: u64, slide: u64 },
    /// Tumbling windows that fire and purge at every so many rows.
    Purging { size_ms: i64, rows: u64 },
    /// Tumbling windows that fire early too: only the last firing of each is known.
    Early { size_ms: i64, every_ms: u64 },
}

pub(super) fn draw(draw: &mut Draw) -> Box<dyn Part> {
    let size_ms = draw.between(100, 3_000) as i64;
    Box::new(match draw.below(4) {
        0 => Counts::Windows {
            rows: draw.between(1, 3),
        },
        1 => Counts::Sliding {
            size: draw.between(1, 6),
            slide: draw.between(1, 2),
        },
        2 => Counts::Purging {
            size_ms,
            rows: draw.between(1, 3),
        },
        _ => Counts::Early {
            size_ms,
            every_ms: draw.between(1, 1_000),
        },
    })
}

fn count(count: &mut (i64, u64), row: Input) {
    *count = (count.0 + row.value, count.1 + 1);
}

fn tell(key: &u32, window: Window, (sum, count): (i64, u64), is_timed: bool) -> Output {
    Output {
        key: *key,
        time: if is_timed { window.start.0 } else { 0 },
        sum: if is_timed { sum } else { 0 },
        count,
    }
}

impl Part for Counts {
    fn build(&self, builder: &Builder<'_>) -> DataStream<Output> {
        let keyed = builder.source(0).key_by(|row| row.key);
        let tumbling = |size_ms: i64| Tumbling::of(Duration::from_millis(size_ms as u64));
        let plain = |key: &u32, window, acc| tell(key, window, acc, false);
        let counts = match *self {
            Counts::Windows { rows } => keyed.count_window(rows).fold(count, plain),
            Counts::Sliding { size, slide } => keyed
                .count_window_sliding(size as usize, slide)
                .fold(count, plain),
            Counts::Purging { size_ms, rows } => keyed
                .window(tumbling(size_ms))
                .trigger(Purging::of(Count::of(rows)))
                .fold(count, plain),
            Counts::Early { size_ms, every_ms } => keyed
                .window(tumbling(size_ms))
                .trigger(ContinuousEventTime::of(Duration::from_millis(every_ms)))
                .fold(count, |key: &u32, window, acc| tell(key, window, acc, true)),
        };
        counts.uid("counts").set_parallelism(builder.parallelism(3))
    }

    fn check(&self, scenario: &Scenario, found: &[Output]) -> Result<(), String> {
        if let Counts::Early { size_ms, .. } = *self {
            return check_early(scenario, size_ms, found);
        }
        // By key, and by window where there are some.
        let mut rows_of: BTreeMap<(u32, i64), u64> = BTreeMap::new();
        for row in all_rows(scenario) {
            let window = match *self {
                Counts::Purging { size_ms, .. } => row.time.div_euclid(size_ms),
                _ => 0,
            };
            *rows_of.entry((row.key, window)).or_default() += 1;
        }
        let output = |key: u32, count: u64| Output {
            key,
            time: 0,
            sum: 0,
            count,
        };
        let mut computed = Vec::new();
        for ((key, _), rows) in rows_of {
            match *self {
                Counts::Windows { rows: most } | Counts::Purging { rows: most, .. } => {
                    computed.extend((0..rows / most).map(|_| output(key, most)));
                }
                Counts::Sliding { size, slide } => {
                    computed.extend((1..=rows / slide).map(|n| output(key, size.min(n * slide))));
                }
                Counts::Early { .. } => {}
            }
        }
        same(computed, found)
    }
}

/// The last firing of each window has all of its rows; the ones before have fewer, or the same.
fn check_early(scenario: &Scenario, size_ms: i64, found: &[Output]) -> Result<(), String> {
    let mut sums: BTreeMap<(u32, i64), (i64, u64)> = BTreeMap::new();
    for row in all_rows(scenario) {
        let entry = sums
            .entry((row.key, row.time.div_euclid(size_ms) * size_ms))
            .or_default();
        *entry = (entry.0 + row.value, entry.1 + 1);
    }
    let mut last: BTreeMap<(u32, i64), &Output> = BTreeMap::new();
    // Sorted: values are positive, so the largest sum of a window comes last.
    for row in found {
        last.insert((row.key, row.time), row);
    }
    let computed = sums.into_iter().map(|((key, time), (sum, count))| Output {
        key,
        time,
        sum,
        count,
    });
    let last: Vec<Output> = last.into_values().cloned().collect();
    same(computed.collect(), &last)
}
