//! Sessions of a fixed gap, and of gaps that the rows have.

use super::{Part, all_rows, same};
use crate::Draw;
use crate::scenario::job::Builder;
use crate::scenario::plan::Scenario;
use crate::scenario::rows::{Input, Output};
use rivermark_stream::{DataStream, Session, Window};
use std::collections::BTreeMap;
use std::time::Duration;

/// Sums and counts per key and session.
#[derive(Debug)]
struct Sums {
    gap_ms: i64,
    /// Whether a row's value makes its gap longer.
    is_dynamic: bool,
    lateness_ms: u64,
}

pub(super) fn draw(draw: &mut Draw) -> Box<dyn Part> {
    Box::new(Sums {
        gap_ms: draw.between(1, 600) as i64,
        is_dynamic: draw.coin(),
        lateness_ms: if draw.coin() { 0 } else { draw.between(1, 500) },
    })
}

fn dynamic_gap_ms(base: i64, row: &Input) -> i64 {
    base + row.value % 100
}

fn add(acc: &mut (i64, u64), row: Input) {
    *acc = (acc.0 + row.value, acc.1 + 1);
}

fn merge(acc: &mut (i64, u64), other: (i64, u64)) {
    *acc = (acc.0 + other.0, acc.1 + other.1);
}

fn tell(key: &u32, window: Window, (sum, count): (i64, u64)) -> Output {
    Output {
        key: *key,
        // Both ends of a session, in one number.
        time: window.start.0 * 100_000 + window.end.0,
        sum,
        count,
    }
}

impl Part for Sums {
    fn build(&self, builder: &Builder<'_>) -> DataStream<Output> {
        let (gap, lateness) = (self.gap_ms, Duration::from_millis(self.lateness_ms));
        let keyed = builder.source(0).key_by(|row| row.key);
        let sums = if self.is_dynamic {
            let of_row = move |row: &Input| Duration::from_millis(dynamic_gap_ms(gap, row) as u64);
            let windowed = keyed.window(Session::dynamic_gap(of_row));
            windowed.allowed_lateness(lateness).fold_merging(add, merge, tell)
        } else {
            let windowed = keyed.window(Session::gap(Duration::from_millis(gap as u64)));
            windowed.allowed_lateness(lateness).fold_merging(add, merge, tell)
        };
        sums.uid("sessions").set_parallelism(builder.parallelism(3))
    }

    fn check(&self, scenario: &Scenario, found: &[Output]) -> Result<(), String> {
        let mut by_key: BTreeMap<u32, Vec<&Input>> = BTreeMap::new();
        all_rows(scenario).for_each(|row| by_key.entry(row.key).or_default().push(row));
        let mut computed = Vec::new();
        for (key, mut rows) in by_key {
            rows.sort_by_key(|row| row.time);
            let mut session: Option<(i64, i64, i64, u64)> = None;
            for row in rows {
                let gap = match self.is_dynamic {
                    true => dynamic_gap_ms(self.gap_ms, row),
                    false => self.gap_ms,
                };
                let fresh = (row.time, row.time + gap, 0, 0);
                let (start, end, sum, count) = match session.take() {
                    Some(so_far) if row.time < so_far.1 => so_far,
                    over => {
                        computed.extend(over.map(|over| (key, over)));
                        fresh
                    }
                };
                session = Some((start, end.max(fresh.1), sum + row.value, count + 1));
            }
            computed.extend(session.map(|last| (key, last)));
        }
        let computed = computed
            .into_iter()
            .map(|(key, (start, end, sum, count))| Output {
                key,
                time: start * 100_000 + end,
                sum,
                count,
            });
        same(computed.collect(), found)
    }
}
