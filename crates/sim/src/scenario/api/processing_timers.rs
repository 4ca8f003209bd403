//! Processing-time timers: when they fire depends on the run, what they let out adds up to the same.

use super::{Part, all_rows};
use crate::Draw;
use crate::scenario::job::Builder;
use crate::scenario::plan::Scenario;
use crate::scenario::rows::{Input, Output};
use rivermark_stream::{
    DataStream, Key, KeyedOp, KeyedOpenCx, Out, Result, Timed, Timer, Timers, Timestamp, ValueState,
};
use std::collections::BTreeMap;

/// Sums per key, let out a while after the first row of each, and the rest at the end.
#[derive(Debug)]
struct InTurns {
    wait_ms: i64,
}

pub(super) fn draw(draw: &mut Draw) -> Box<dyn Part> {
    Box::new(InTurns {
        wait_ms: draw.below(400) as i64,
    })
}

#[derive(Default)]
struct LetOut {
    wait_ms: i64,
    sums: ValueState<u32, (i64, u64)>,
    timers: Timers<u32>,
    at_end: Timers<u32>,
}

/// The event time of the timer that lets the rest out.
const END: Timestamp = Timestamp(i64::MAX - 1);

impl LetOut {
    fn emit(&mut self, key: &Key<u32>, time: Timestamp, out: &mut Out<Output>) {
        let Some((sum, count)) = self.sums.get(key).copied() else {
            return;
        };
        self.sums.clear(key);
        out.emit(Output {
            key: key.value,
            time: time.0,
            sum,
            count,
        });
    }
}

impl KeyedOp<u32, Input, Output> for LetOut {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u32>) -> Result<()> {
        self.sums = cx.value("sums")?;
        self.timers = cx.processing_timers()?;
        self.at_end = cx.timers()?;
        Ok(())
    }

    fn row(&mut self, key: &Key<u32>, row: Timed<Input>, out: &mut Out<Output>) -> Result<()> {
        let sum = self.sums.update(key);
        *sum = (sum.0 + row.value.value, sum.1 + 1);
        // One in so many timers is deleted again, and another takes its place.
        let at = out.processing_time().plus_ms(self.wait_ms);
        self.timers.register(key, at);
        if row.value.id.is_multiple_of(5) {
            self.timers.delete(key, at);
            self.timers.register(key, at.plus_ms(1));
        }
        self.at_end.register(key, END);
        Ok(())
    }

    fn processing_timer(&mut self, key: &Key<u32>, at: Timer, out: &mut Out<Output>) -> Result<()> {
        self.emit(key, at.time, out);
        Ok(())
    }

    fn timer(&mut self, key: &Key<u32>, at: Timer, out: &mut Out<Output>) -> Result<()> {
        self.emit(key, at.time, out);
        Ok(())
    }
}

impl Part for InTurns {
    fn build(&self, builder: &Builder<'_>) -> DataStream<Output> {
        let wait_ms = self.wait_ms;
        builder
            .source(0)
            .key_by(|row| row.key)
            .process(move || LetOut {
                wait_ms,
                ..LetOut::default()
            })
            .uid("in-turns")
            .set_parallelism(builder.parallelism(3))
    }

    fn check(&self, scenario: &Scenario, found: &[Output]) -> Result<(), String> {
        same_sums(
            all_rows(scenario).map(|row| (row.key, 0, row.value)),
            found.iter().map(|row| Output {
                time: 0,
                ..row.clone()
            }),
        )
    }
}

/// Compares what rows of (key, time, value) add up to by key and time with what outputs add up to.
pub(super) fn same_sums(
    rows: impl Iterator<Item = (u32, i64, i64)>,
    found: impl Iterator<Item = Output>,
) -> Result<(), String> {
    let mut left: BTreeMap<(u32, i64), (i64, i64)> = BTreeMap::new();
    for (key, time, value) in rows {
        let entry = left.entry((key, time)).or_default();
        *entry = (entry.0 + value, entry.1 + 1);
    }
    for row in found {
        if row.count == 0 {
            return Err(format!("a result of no rows: {row:?}"));
        }
        let entry = left.entry((row.key, row.time)).or_default();
        *entry = (entry.0 - row.sum, entry.1 - row.count as i64);
    }
    left.retain(|_, rest| *rest != (0, 0));
    match left.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "rows are missing (or, where negative, too many), by key and time, value and count: {:?}",
            left.iter().take(6).collect::<Vec<_>>()
        )),
    }
}
