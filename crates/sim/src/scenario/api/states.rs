//! Reducing and aggregating state, and state with a time to live: one that outlives every scenario, and a short one.

use super::{Part, all_rows, same};
use crate::Draw;
use crate::scenario::job::Builder;
use crate::scenario::plan::Scenario;
use crate::scenario::rows::{Input, Output};
use rivermark_stream::{
    AggregateFunction, AggregatingState, DataStream, Key, KeyedOp, KeyedOpenCx, Out, ReducingState, Result,
    StateTtl, Timed, Timer, Timers, Timestamp, TtlListState, TtlMapState, TtlReducingState, TtlValueState,
    UpdateType,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// When the totals of a key are told: behind all rows.
const END: Timestamp = Timestamp(i64::MAX - 1);
/// More than processing time jumps between two processes.
const FOR_EVER: Duration = Duration::from_secs(86_400 * 365);

/// Which states.
#[derive(Clone, Copy, Debug)]
enum States {
    /// Without a time to live: totals per key.
    Lasting,
    /// With one that is never over: the same totals.
    Long(UpdateType),
    /// With one that is over now and then: numbers the rows of a key, beginning anew after each time.
    Short(u64),
}

pub(super) fn draw(draw: &mut Draw) -> Box<dyn Part> {
    Box::new(match draw.index(4) {
        0 => States::Lasting,
        1 => States::Long(UpdateType::OnCreateAndWrite),
        2 => States::Long(UpdateType::OnReadAndWrite),
        _ => States::Short(draw.between(1, 300)),
    })
}

struct Rows;
impl AggregateFunction for Rows {
    type Input = u64;
    type Acc = (u64, u64);
    type Output = u64;
    fn create(&self) -> (u64, u64) {
        (0, 0)
    }
    fn add(&self, acc: &mut (u64, u64), id: u64) {
        *acc = (acc.0 + 1, acc.1 ^ id);
    }
    fn result(&self, acc: &(u64, u64)) -> u64 {
        acc.0
    }
}

fn add(sum: &mut i64, value: i64) {
    *sum += value;
}

#[derive(Default)]
struct Lasting {
    sum: ReducingState<u32, i64>,
    rows: AggregatingState<u32, Rows>,
    timers: Timers<u32>,
}

impl KeyedOp<u32, Input, Output> for Lasting {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u32>) -> Result<()> {
        self.sum = cx.reducing("sum", add)?;
        self.rows = cx.aggregating("rows", Rows)?;
        self.timers = cx.timers()?;
        Ok(())
    }
    fn row(&mut self, key: &Key<u32>, row: Timed<Input>, _: &mut Out<Output>) -> Result<()> {
        self.sum.add(key, row.value.value);
        self.rows.add(key, row.value.id);
        self.timers.register(key, END);
        Ok(())
    }
    fn timer(&mut self, key: &Key<u32>, _: Timer, out: &mut Out<Output>) -> Result<()> {
        let count = self.rows.get(key).unwrap_or_default();
        self.rows.clear(key);
        let sum = self.sum.clear(key).unwrap_or_default();
        out.emit(total(key.value, sum, count));
        Ok(())
    }
}

fn total(key: u32, sum: i64, count: u64) -> Output {
    Output {
        key,
        time: END.0,
        sum,
        count,
    }
}

struct Long {
    ttl: StateTtl,
    sum: TtlReducingState<u32, i64>,
    ids: TtlListState<u32, u64>,
    values: TtlMapState<u32, u64, i64>,
    timers: Timers<u32>,
}

impl KeyedOp<u32, Input, Output> for Long {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u32>) -> Result<()> {
        self.sum = cx.with_ttl(self.ttl).reducing("sum", add)?;
        self.ids = cx.with_ttl(self.ttl).list("ids")?;
        self.values = cx.with_ttl(self.ttl).map("values")?;
        self.timers = cx.timers()?;
        Ok(())
    }
    fn row(&mut self, key: &Key<u32>, row: Timed<Input>, _: &mut Out<Output>) -> Result<()> {
        self.sum.add(key, row.value.value);
        self.ids.push(key, row.value.id);
        *self.values.update(key, row.value.id) += row.value.value;
        // Looks, some of which are accesses.
        self.sum.get(key);
        self.ids.get(key);
        self.values.get(key, &(row.value.id / 2));
        self.timers.register(key, END);
        Ok(())
    }
    fn timer(&mut self, key: &Key<u32>, _: Timer, out: &mut Out<Output>) -> Result<()> {
        let values = self.values.clear(key);
        let sum = self.sum.clear(key).unwrap_or_default();
        // Three ways to the same: where they differ, the sum is nobody's.
        let is_same = values.values().sum::<i64>() == sum && values.len() == self.ids.get(key).len();
        out.emit(total(
            key.value,
            if is_same { sum } else { -1 },
            values.len() as u64,
        ));
        self.ids.clear(key);
        Ok(())
    }
}

struct Short {
    ttl: StateTtl,
    rows: TtlValueState<u32, u64>,
}

impl KeyedOp<u32, Input, Output> for Short {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u32>) -> Result<()> {
        self.rows = cx.with_ttl(self.ttl).value("rows")?;
        Ok(())
    }
    fn row(&mut self, key: &Key<u32>, row: Timed<Input>, out: &mut Out<Output>) -> Result<()> {
        let count = self.rows.update(key);
        *count += 1;
        out.emit(Output {
            key: key.value,
            time: row.value.id as i64,
            sum: row.value.value,
            count: *count,
        });
        Ok(())
    }
}

impl Part for States {
    fn build(&self, builder: &Builder<'_>) -> DataStream<Output> {
        let rows = builder.source(0).key_by(|row| row.key);
        let out = match *self {
            States::Lasting => rows.process(Lasting::default),
            States::Long(update_type) => rows.process(move || Long {
                ttl: StateTtl::new(FOR_EVER).with_update_type(update_type),
                sum: TtlReducingState::default(),
                ids: TtlListState::default(),
                values: TtlMapState::default(),
                timers: Timers::default(),
            }),
            States::Short(ms) => rows.process(move || Short {
                ttl: StateTtl::new(Duration::from_millis(ms)),
                rows: TtlValueState::default(),
            }),
        };
        out.uid("states").set_parallelism(builder.parallelism(3))
    }

    fn check(&self, scenario: &Scenario, found: &[Output]) -> std::result::Result<(), String> {
        if let States::Short(_) = self {
            return check_numbers(scenario, found);
        }
        let mut totals: BTreeMap<u32, (i64, u64)> = BTreeMap::new();
        for row in all_rows(scenario) {
            let entry = totals.entry(row.key).or_default();
            *entry = (entry.0 + row.value, entry.1 + 1);
        }
        let computed = totals
            .into_iter()
            .map(|(key, (sum, count))| total(key, sum, count));
        same(computed.collect(), found)
    }
}

/// Each row comes out once. When a key begins anew is processing time's matter, but whatever that was, there is a first for
/// each second, a second for each third, and so on.
fn check_numbers(scenario: &Scenario, found: &[Output]) -> std::result::Result<(), String> {
    let unnumbered = |key, id, value| Output {
        key,
        time: id,
        sum: value,
        count: 0,
    };
    let computed = all_rows(scenario).map(|row| unnumbered(row.key, row.id as i64, row.value));
    let mut rows: Vec<Output> = found
        .iter()
        .map(|row| unnumbered(row.key, row.time, row.sum))
        .collect();
    rows.sort_unstable();
    same(computed.collect(), &rows)?;
    let mut numbers: BTreeMap<(u32, u64), u64> = BTreeMap::new();
    for row in found {
        *numbers.entry((row.key, row.count)).or_default() += 1;
    }
    for (&(key, number), rows) in &numbers {
        let before = numbers.get(&(key, number.wrapping_sub(1))).copied().unwrap_or(0);
        if number == 0 || (number > 1 && before < *rows) {
            return Err(format!(
                "{rows} rows of key {key} are number {number}, {before} the one before"
            ));
        }
    }
    Ok(())
}
