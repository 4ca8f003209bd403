//! The job: one or two sources, then a few operators and exchanges in a row, as drawn. Every row keeps its number, so the
//! output tells which were lost or doubled, and keyed operators see whether those of a key and split come in their order.

use crate::Draw;
use crate::scenario::api::{Part, same};
use crate::scenario::job::Builder;
use crate::scenario::plan::Scenario;
use crate::scenario::rows::{Input, Output};
use rivermark_stream::{
    DataStream, Failure, Key, KeyedBroadcastOp, KeyedOp, KeyedOp2, KeyedOpenCx, MapState, Out, ProcessOp,
    ProcessOpenCx, Result, Timed, Timer, Timers, Timestamp, Tumbling, Window,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// A row on its way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Item {
    key: u32,
    /// The split of its source; those of the second source come behind those of the first.
    split: u32,
    /// Rises within a split.
    id: u64,
    /// Rises among those that were made of one row.
    copy: u32,
}

impl Item {
    fn output(self) -> Output {
        Output {
            key: self.key,
            time: i64::from(self.split),
            sum: self.id as i64,
            count: u64::from(self.copy),
        }
    }
}

/// How the pipeline begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    One,
    Union,
    /// Two inputs, both by key.
    TwoInputs,
    /// By key, beside rows that are told to everybody.
    Told,
}

/// A step of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// By key, or by what several keys have in common; looks at the order of rows.
    Keyed {
        coarse: bool,
    },
    Rebalance,
    Rescale,
    Forward,
    Shuffle,
    Global,
    /// By a partitioner of ours, by key.
    Custom,
    /// To everybody, who keeps some of the keys.
    Broadcast,
    /// Up to so many rows out of one.
    Fan(u32),
    /// Two ways, one by key and one in turns, that meet again: every row twice.
    Diamond,
    /// Rows wait for the end of their window.
    Windows,
}

impl Step {
    fn keeps_order(self) -> bool {
        use Step::{Broadcast, Custom, Fan, Forward, Global, Keyed};
        matches!(
            self,
            Keyed { .. } | Forward | Global | Custom | Broadcast | Fan(_)
        )
    }
}

/// The job.
#[derive(Debug)]
pub(super) struct Pipeline {
    head: Head,
    /// Each with whether it begins a task of its own where that is not a must.
    steps: Vec<(Step, bool)>,
    splits: u32,
    /// Each row comes out once; else at least once.
    exactly_once: bool,
    /// What operators saw that must not be; outlives the processes.
    flaws: Flaws,
}

type Flaws = Arc<Mutex<Vec<String>>>;

impl fmt::Display for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {} splits", self.head, self.splits)?;
        for (step, alone) in &self.steps {
            write!(f, "{}{step:?}", if *alone { " | " } else { " > " })?;
        }
        Ok(())
    }
}

impl Pipeline {
    pub(super) fn draw(draw: &mut Draw, exactly_once: bool, splits: u32) -> Pipeline {
        let head = match draw.below(6) {
            0 => Head::Union,
            1 => Head::TwoInputs,
            // What was told twice counts twice.
            2 if exactly_once => Head::Told,
            _ => Head::One,
        };
        let mut steps: Vec<(Step, bool)> = Vec::new();
        for _ in 0..draw.between(1, 4) {
            let many = steps
                .iter()
                .any(|(step, _)| matches!(step, Step::Fan(_) | Step::Diamond));
            let step = match draw.below(16) {
                0..=3 => Step::Keyed { coarse: draw.coin() },
                4 | 5 => Step::Rebalance,
                6 => Step::Rescale,
                7 => Step::Forward,
                8 => Step::Shuffle,
                9 if draw.coin() => Step::Global,
                9 => Step::Custom,
                10 => Step::Broadcast,
                11 | 12 if !many => Step::Fan([2, 3, 20][draw.index(3)]),
                13 if !many => Step::Diamond,
                _ => Step::Windows,
            };
            steps.push((step, draw.one_in(3)));
        }
        // Somebody has to look.
        if head != Head::TwoInputs && !steps.iter().any(|(step, _)| matches!(step, Step::Keyed { .. })) {
            steps.push((Step::Keyed { coarse: false }, false));
        }
        Pipeline {
            head,
            steps,
            splits,
            exactly_once,
            flaws: Flaws::default(),
        }
    }

    /// About how many rows one row becomes.
    pub(super) fn weight(&self) -> u64 {
        let of = |(step, _): &(Step, bool)| match step {
            Step::Fan(most) => u64::from(*most / 3).max(1),
            Step::Diamond => 2,
            _ => 1,
        };
        self.steps.iter().map(of).product()
    }

    /// The rows of a source.
    fn source(&self, at: usize, builder: &Builder<'_>) -> DataStream<Item> {
        let (rows, splits) = (builder.job.rows[at].len() as u64, self.splits);
        builder
            .source(at)
            .map(move |row| item(&row, at, rows, splits))
            .set_parallelism(builder.parallelism(at))
    }

    fn head(&self, builder: &Builder<'_>) -> DataStream<Item> {
        let first = self.source(0, builder);
        match self.head {
            Head::One => first,
            Head::Union => first.union(self.source(1, builder)),
            Head::TwoInputs => {
                let second = self.source(1, builder).key_by(|row: &Item| row.key);
                let both = first.key_by(|row: &Item| row.key).connect(second);
                let both = both.process(self.watch(true));
                both.uid("both").set_parallelism(builder.parallelism(2))
            }
            Head::Told => {
                let keyed = first.key_by(|row: &Item| row.key);
                let both = keyed.connect_broadcast(self.source(1, builder).broadcast());
                let both = both.process(|| Told { timers: None });
                both.uid("told").set_parallelism(builder.parallelism(2))
            }
        }
    }

    /// Makes operators that look at the order of rows, if there must be one.
    fn watch(&self, in_order: bool) -> impl Fn() -> Watch + Clone + Send + Sync + use<> {
        let flaws = (in_order && self.exactly_once).then(|| self.flaws.clone());
        move || Watch {
            flaws: flaws.clone(),
            last: MapState::default(),
        }
    }

    /// The rows that must come out.
    fn expected(&self, scenario: &Scenario) -> Vec<Item> {
        let items = |at: usize| {
            let rows = &scenario.rows[at];
            let count = rows.len() as u64;
            rows.iter().map(move |row| item(row, at, count, self.splits))
        };
        let mut expected: Vec<Item> = items(0).collect();
        match self.head {
            Head::One => {}
            Head::Union | Head::TwoInputs => expected.extend(items(1)),
            Head::Told => {
                let mut told = BTreeMap::new();
                items(1).for_each(|row| tell(&mut told, &row));
                let keys: BTreeSet<u32> = items(0).map(|row| row.key).collect();
                expected.extend(keys.into_iter().map(|key| summary(key, &told)));
            }
        }
        for (step, _) in &self.steps {
            expected = match step {
                Step::Fan(most) => expected.into_iter().flat_map(|row| fan(row, *most)).collect(),
                Step::Diamond => {
                    let both = |row: Item| [copy(row.clone(), 2, 0), copy(row, 2, 1)];
                    expected.into_iter().flat_map(both).collect()
                }
                _ => expected,
            };
        }
        expected
    }
}

fn item(row: &Input, at: usize, rows: u64, splits: u32) -> Item {
    // As a collection is cut: row `id` is in the last range that does not begin behind it.
    let begins = |split: u32| rows * u64::from(split) / u64::from(splits);
    let split = (0..splits).rev().find(|split| begins(*split) <= row.id);
    Item {
        key: row.key,
        split: at as u32 * splits + split.unwrap_or(0),
        id: row.id,
        copy: 0,
    }
}

/// One of several copies of a row.
fn copy(row: Item, of: u32, number: u32) -> Item {
    Item {
        copy: row.copy * of + number,
        ..row
    }
}

fn fan(row: Item, most: u32) -> impl Iterator<Item = Item> {
    let copies = 1 + (row.id % u64::from(most)) as u32;
    (0..copies).map(move |number| copy(row.clone(), most, number))
}

impl Part for Pipeline {
    fn build(&self, builder: &Builder<'_>) -> DataStream<Output> {
        let mut stream = self.head(builder);
        let mut in_order = true;
        let mut parallelism = match self.head {
            Head::One | Head::Union => builder.parallelism(0),
            Head::TwoInputs | Head::Told => builder.parallelism(2),
        };
        // What follows needs the parallelism of what is before it, and the sources may have two.
        let first = self.steps.first().map(|(step, _)| *step);
        if self.head == Head::Union && matches!(first, Some(Step::Forward | Step::Fan(_))) {
            stream = passed(stream, parallelism, false);
            in_order = false;
        }
        for (number, (step, alone)) in self.steps.iter().enumerate() {
            if !matches!(step, Step::Forward | Step::Fan(_)) {
                parallelism = builder.parallelism(2 + (number + 1) % 3);
            }
            let name = format!("step-{number}");
            stream = match *step {
                Step::Keyed { coarse } => {
                    let width = if coarse { 4 } else { 1 };
                    let keyed = stream.key_by(move |row: &Item| row.key / width);
                    let watched = keyed.process(self.watch(in_order)).uid(&name);
                    one_task(watched.set_parallelism(parallelism), *alone)
                }
                Step::Rebalance => passed(stream.rebalance(), parallelism, *alone),
                Step::Rescale => passed(stream.rescale(), parallelism, *alone),
                Step::Forward => passed(stream.forward(), parallelism, *alone),
                Step::Shuffle => passed(stream.shuffle(), parallelism, *alone),
                Step::Global => passed(stream.global(), parallelism, *alone),
                Step::Custom => {
                    let custom =
                        stream.partition_custom(|key, subtasks| key % subtasks, |row: &Item| row.key);
                    passed(custom, parallelism, *alone)
                }
                Step::Broadcast => {
                    let own = stream.broadcast().process(Sieve::default).uid(&name);
                    one_task(own.set_parallelism(parallelism), *alone)
                }
                Step::Fan(most) => {
                    let many = stream.flat_map(move |row| fan(row, most));
                    one_task(many.set_parallelism(parallelism), *alone)
                }
                Step::Diamond => {
                    let watch = self.watch(in_order);
                    let by_key = stream.clone().key_by(|row: &Item| row.key).process(watch);
                    let by_key = by_key.uid(&name).set_parallelism(parallelism);
                    let in_turns = passed(stream.rebalance(), parallelism, *alone);
                    let first = by_key.map(|row| copy(row, 2, 0)).set_parallelism(parallelism);
                    let second = in_turns.map(|row| copy(row, 2, 1)).set_parallelism(parallelism);
                    passed(first.union(second), parallelism, false)
                }
                Step::Windows => {
                    let window = builder.job.window;
                    let windows = stream.key_by(|row: &Item| row.key).window(Tumbling::of(window));
                    let windows = windows.fold(
                        |rows: &mut Vec<Item>, row: Item| rows.push(row),
                        |_: &u32, _: Window, rows| rows,
                    );
                    let all = windows.uid(&name).set_parallelism(parallelism);
                    let each = all.flat_map(|rows: Vec<Item>| rows);
                    one_task(each.set_parallelism(parallelism), *alone)
                }
            };
            in_order &= step.keeps_order();
        }
        stream.map(Item::output).set_parallelism(parallelism)
    }

    fn check(&self, scenario: &Scenario, found: &[Output]) -> std::result::Result<(), String> {
        let flaws = self.flaws.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = flaws.first() {
            return Err(format!("{first} ({} more such)", flaws.len() - 1));
        }
        let expected: Vec<Output> = self.expected(scenario).into_iter().map(Item::output).collect();
        if self.exactly_once {
            return same(expected, found);
        }
        let found: BTreeSet<&Output> = found.iter().collect();
        let lost: Vec<&Output> = expected.iter().filter(|row| !found.contains(row)).collect();
        let foreign = found.len() + lost.len() - expected.iter().collect::<BTreeSet<_>>().len();
        match lost.first() {
            None if foreign == 0 => Ok(()),
            None => Err(format!("{foreign} rows came out that nobody sent")),
            Some(first) => Err(format!("{} rows are lost; the first: {first:?}", lost.len())),
        }
    }

    fn has_two_sources(&self) -> bool {
        self.head != Head::One
    }

    fn describe(&self) -> Option<String> {
        Some(self.to_string())
    }
}

fn one_task(stream: DataStream<Item>, alone: bool) -> DataStream<Item> {
    match alone {
        true => stream.start_new_chain(),
        false => stream,
    }
}

fn passed(stream: DataStream<Item>, parallelism: u32, alone: bool) -> DataStream<Item> {
    let stream = stream.map(|row| row).set_parallelism(parallelism);
    one_task(stream, alone)
}

/// Lets every row pass, and sees whether those of a key and split come in the order of their source.
struct Watch {
    /// `None`: in any order.
    flaws: Option<Flaws>,
    last: MapState<u32, (u32, u32), (u64, u32)>,
}

impl Watch {
    fn pass(&mut self, key: &Key<u32>, row: Item, out: &mut Out<Item>) {
        let place = (row.id, row.copy);
        let last = self.last.insert(key, (row.key, row.split), place);
        if let (Some(last), Some(flaws)) = (last, &self.flaws)
            && last >= place
        {
            let mut flaws = flaws.lock().unwrap_or_else(PoisonError::into_inner);
            flaws.push(format!("order: {row:?} came after row and copy {last:?}"));
        }
        out.emit(row);
    }
}

impl KeyedOp<u32, Item, Item> for Watch {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u32>) -> Result<()> {
        self.last = cx.map("last")?;
        Ok(())
    }
    fn row(&mut self, key: &Key<u32>, row: Timed<Item>, out: &mut Out<Item>) -> Result<()> {
        self.pass(key, row.value, out);
        Ok(())
    }
}

impl KeyedOp2<u32, Item, Item, Item> for Watch {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u32>) -> Result<()> {
        self.last = cx.map("last")?;
        Ok(())
    }
    fn left(&mut self, key: &Key<u32>, row: Timed<Item>, out: &mut Out<Item>) -> Result<()> {
        self.pass(key, row.value, out);
        Ok(())
    }
    fn right(&mut self, key: &Key<u32>, row: Timed<Item>, out: &mut Out<Item>) -> Result<()> {
        self.pass(key, row.value, out);
        Ok(())
    }
}

/// Lets pass the rows of its own keys.
#[derive(Default)]
struct Sieve {
    index: u32,
    parallelism: u32,
}

impl ProcessOp<Item, Item> for Sieve {
    fn open(&mut self, cx: &mut ProcessOpenCx<'_>) -> Result<()> {
        (self.index, self.parallelism) = (cx.info().subtask.index, cx.info().parallelism);
        Ok(())
    }
    fn row(&mut self, row: Timed<Item>, out: &mut Out<Item>) -> Result<()> {
        if row.value.key % self.parallelism == self.index {
            out.emit(row.value);
        }
        Ok(())
    }
}

/// Behind all rows of both sources.
const END: Timestamp = Timestamp(1 << 50);

/// Lets rows pass; at the end each key tells what everybody was told.
struct Told {
    timers: Option<Timers<u32>>,
}

fn tell(told: &mut BTreeMap<u32, u64>, row: &Item) {
    *told.entry(row.key).or_default() += row.id + 1;
}

/// What was told, as a row of a split of its own.
fn summary(key: u32, told: &BTreeMap<u32, u64>) -> Item {
    let weigh = |sum: u64, (slot, told): (&u32, &u64)| sum + told * (u64::from(*slot) + 1);
    Item {
        key,
        split: u32::MAX,
        id: told.iter().fold(0, weigh),
        copy: 0,
    }
}

impl KeyedBroadcastOp<u32, Item, Item, Item> for Told {
    type Key = u32;
    type Value = u64;
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u32>) -> Result<()> {
        self.timers = Some(cx.timers()?);
        Ok(())
    }
    fn row(
        &mut self,
        key: &Key<u32>,
        _: &BTreeMap<u32, u64>,
        row: Timed<Item>,
        out: &mut Out<Item>,
    ) -> Result<()> {
        let timers = self.timers.as_mut().ok_or_else(|| Failure::bug("not open"))?;
        timers.register(key, END);
        out.emit(row.value);
        Ok(())
    }
    fn broadcast_row(
        &mut self,
        told: &mut BTreeMap<u32, u64>,
        row: Timed<Item>,
        _: &mut Out<Item>,
    ) -> Result<()> {
        tell(told, &row.value);
        Ok(())
    }
    fn timer(
        &mut self,
        key: &Key<u32>,
        told: &BTreeMap<u32, u64>,
        _: Timer,
        out: &mut Out<Item>,
    ) -> Result<()> {
        out.emit(summary(key.value, told));
        Ok(())
    }
}
