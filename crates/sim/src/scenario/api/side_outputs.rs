//! Side outputs of a keyed operator: every row goes one of three ways, and timers tell of each key aside.

use super::{Part, all_rows, same};
use crate::Draw;
use crate::scenario::job::Builder;
use crate::scenario::plan::Scenario;
use crate::scenario::rows::{Input, Output};
use rivermark_stream::{
    DataStream, Failure, Key, KeyedOp, KeyedOpenCx, Out, OutputTag, Result, SideOutput, Timed, Timer, Timers,
    Timestamp,
};
use std::collections::BTreeSet;

const ASIDE: OutputTag<Input> = OutputTag::new("aside");
const SEEN: OutputTag<u32> = OutputTag::new("seen");
const UNTAKEN: OutputTag<u64> = OutputTag::new("untaken");

/// Every `each`-th row goes aside.
#[derive(Debug)]
struct Sides {
    each: u64,
    width: i64,
}

pub(super) fn draw(draw: &mut Draw) -> Box<dyn Part> {
    Box::new(Sides {
        each: draw.between(1, 5),
        width: draw.between(1, 1_000) as i64,
    })
}

struct Split {
    each: u64,
    width: i64,
    aside: SideOutput<Input>,
    seen: SideOutput<u32>,
    untaken: SideOutput<u64>,
    timers: Option<Timers<u32>>,
}

impl KeyedOp<u32, Input, Output> for Split {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u32>) -> Result<()> {
        self.aside = cx.side_output(&ASIDE)?;
        self.seen = cx.side_output(&SEEN)?;
        self.untaken = cx.side_output(&UNTAKEN)?;
        self.timers = Some(cx.timers()?);
        Ok(())
    }

    fn row(&mut self, key: &Key<u32>, row: Timed<Input>, out: &mut Out<Output>) -> Result<()> {
        self.untaken.emit(row.value.id);
        let timers = self.timers.as_mut().ok_or_else(|| Failure::bug("not open"))?;
        timers.register(key, due(row.value.time, self.width));
        match row.value.id.is_multiple_of(self.each) {
            true => self.aside.emit(row.value),
            false => out.emit(plain(&row.value, 1)),
        }
        Ok(())
    }

    fn timer(&mut self, key: &Key<u32>, _: Timer, _: &mut Out<Output>) -> Result<()> {
        self.seen.emit(key.value);
        Ok(())
    }
}

/// Far behind all rows, so that each key and width is told once.
fn due(time: i64, width: i64) -> Timestamp {
    Timestamp(1 << 50).plus_ms(time / width * width)
}

fn plain(row: &Input, count: u64) -> Output {
    Output {
        key: row.key,
        time: row.time,
        sum: row.value,
        count,
    }
}

fn told(key: u32) -> Output {
    Output {
        key,
        time: 0,
        sum: 0,
        count: 3,
    }
}

impl Part for Sides {
    fn build(&self, builder: &Builder<'_>) -> DataStream<Output> {
        let (each, width) = (self.each, self.width);
        let split = builder.source(0).key_by(|row| row.key).process(move || Split {
            each,
            width,
            aside: SideOutput::default(),
            seen: SideOutput::default(),
            untaken: SideOutput::default(),
            timers: None,
        });
        let split = split.uid("split").set_parallelism(builder.parallelism(3));
        let aside = split.side_output(&ASIDE).map(|row| plain(&row, 2));
        let aside = aside.set_parallelism(builder.parallelism(4));
        let seen = split.side_output(&SEEN).map(told);
        split
            .union(aside)
            .union(seen.set_parallelism(builder.parallelism(3)))
    }

    fn check(&self, scenario: &Scenario, found: &[Output]) -> std::result::Result<(), String> {
        let ways = all_rows(scenario).map(|row| plain(row, 1 + u64::from(row.id.is_multiple_of(self.each))));
        let timers: BTreeSet<(u32, Timestamp)> = all_rows(scenario)
            .map(|row| (row.key, due(row.time, self.width)))
            .collect();
        same(
            ways.chain(timers.into_iter().map(|(key, _)| told(key))).collect(),
            found,
        )
    }
}
