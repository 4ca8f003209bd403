//! Broadcast state: the second source's rows are told to everybody; at the end all subtasks know the same.

use super::{Part, same};
use crate::Draw;
use crate::scenario::job::Builder;
use crate::scenario::plan::Scenario;
use crate::scenario::rows::{Input, Output};
use rivermark_stream::{
    BroadcastOp, DataStream, Failure, Key, KeyedBroadcastOp, KeyedOpenCx, OperatorList, Out, ProcessOpenCx,
    Result, Timed, Timer, Timers, Timestamp, ValueState,
};
use std::collections::BTreeMap;

/// Told rows, by `id % slots`: the sum of their values.
type Told = BTreeMap<u64, i64>;

/// With a key: each key's sum beside all that was told. Without: each row, and all that was told by the last subtask.
#[derive(Debug)]
struct Telling {
    is_keyed: bool,
    slots: u64,
}

pub(super) fn draw(draw: &mut Draw) -> Box<dyn Part> {
    Box::new(Telling {
        is_keyed: draw.index(2) == 0,
        slots: draw.between(1, 20),
    })
}

fn tell(told: &mut Told, slots: u64, row: &Input) {
    *told.entry(row.id % slots).or_default() += row.value;
}

/// What was told, as one number.
fn weigh(told: &Told) -> i64 {
    told.iter()
        .map(|(slot, sum)| sum.wrapping_mul(*slot as i64 + 1))
        .fold(0, i64::wrapping_add)
}

struct ByKey {
    slots: u64,
    sum: ValueState<u32, i64>,
    timers: Option<Timers<u32>>,
}

/// Behind all rows of both sources.
const END: Timestamp = Timestamp(1 << 50);

impl KeyedBroadcastOp<u32, Input, Input, Output> for ByKey {
    type Key = u64;
    type Value = i64;
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u32>) -> Result<()> {
        self.sum = cx.value("sum")?;
        self.timers = Some(cx.timers()?);
        Ok(())
    }
    fn row(&mut self, key: &Key<u32>, _: &Told, row: Timed<Input>, _: &mut Out<Output>) -> Result<()> {
        *self.sum.update(key) += row.value.value;
        let timers = self.timers.as_mut().ok_or_else(|| Failure::bug("not open"))?;
        timers.register(key, END);
        Ok(())
    }
    fn broadcast_row(&mut self, told: &mut Told, row: Timed<Input>, _: &mut Out<Output>) -> Result<()> {
        tell(told, self.slots, &row.value);
        Ok(())
    }
    fn timer(&mut self, key: &Key<u32>, told: &Told, _: Timer, out: &mut Out<Output>) -> Result<()> {
        out.emit(Output {
            key: key.value,
            time: weigh(told),
            sum: self.sum.clear(key).unwrap_or_default(),
            count: told.len() as u64,
        });
        Ok(())
    }
}

/// The end comes again after a restore; that it was told already is state, and whoever is the last then knows.
struct Plain {
    slots: u64,
    is_last: bool,
    has_told: OperatorList<bool>,
}

fn one(row: &Input) -> Output {
    Output {
        key: row.key,
        time: 0,
        sum: row.value,
        count: 1,
    }
}

fn all(told: &Told) -> Output {
    Output {
        key: u32::MAX,
        time: weigh(told),
        sum: 0,
        count: told.len() as u64,
    }
}

impl BroadcastOp<Input, Input, Output> for Plain {
    type Key = u64;
    type Value = i64;
    fn open(&mut self, cx: &mut ProcessOpenCx<'_>) -> Result<()> {
        // Not the one whose state is stored.
        self.is_last = cx.info().subtask.index + 1 == cx.info().parallelism;
        self.has_told = cx.union_list_state("has-told")?;
        self.has_told.update().truncate(1);
        Ok(())
    }
    fn row(&mut self, _: &Told, row: Timed<Input>, out: &mut Out<Output>) -> Result<()> {
        out.emit(one(&row.value));
        Ok(())
    }
    fn broadcast_row(&mut self, told: &mut Told, row: Timed<Input>, _: &mut Out<Output>) -> Result<()> {
        tell(told, self.slots, &row.value);
        Ok(())
    }
    fn on_end(&mut self, told: &Told, out: &mut Out<Output>) -> Result<()> {
        if self.is_last && self.has_told.take().is_empty() {
            out.emit(all(told));
        }
        if self.is_last {
            self.has_told.push(true);
        }
        Ok(())
    }
}

impl Part for Telling {
    fn build(&self, builder: &Builder<'_>) -> DataStream<Output> {
        let slots = self.slots;
        let told = if self.is_keyed {
            let keyed = builder.source(0).key_by(|row| row.key);
            keyed
                .connect_broadcast(builder.source(1).broadcast())
                .process(move || ByKey {
                    slots,
                    sum: ValueState::default(),
                    timers: None,
                })
        } else {
            let plain = builder.source(0).rebalance();
            plain.connect_broadcast(builder.source(1)).process(move || Plain {
                slots,
                is_last: false,
                has_told: OperatorList::default(),
            })
        };
        told.uid("told").set_parallelism(builder.parallelism(3))
    }

    fn check(&self, scenario: &Scenario, found: &[Output]) -> std::result::Result<(), String> {
        let mut told = Told::new();
        scenario.rows[1]
            .iter()
            .for_each(|row| tell(&mut told, self.slots, row));
        if !self.is_keyed {
            let rows = scenario.rows[0].iter().map(one);
            return same(rows.chain([all(&told)]).collect(), found);
        }
        let mut sums: BTreeMap<u32, i64> = BTreeMap::new();
        for row in scenario.rows[0].iter() {
            *sums.entry(row.key).or_default() += row.value;
        }
        let output = |(key, sum)| Output {
            key,
            time: weigh(&told),
            sum,
            count: told.len() as u64,
        };
        same(sums.into_iter().map(output).collect(), found)
    }

    fn has_two_sources(&self) -> bool {
        true
    }
}
