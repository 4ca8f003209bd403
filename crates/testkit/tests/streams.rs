//! Side outputs, operators without a key, operator state and broadcast state under every condition of the engine.

use rivermark_runtime::operators::{
    BroadcastOp, BroadcastOperator, KeyedBroadcastOp, KeyedBroadcastOperator, KeyedOp, KeyedOpenCx,
    KeyedOperator, Out, ProcessOp, ProcessOp2, ProcessOpenCx, ProcessOperator, ProcessOperator2, Timed,
    Timer,
};
use rivermark_runtime::{OperatorList, OutputTag, SideOutput};
use rivermark_state::{Key, Timers, ValueState};
use rivermark_testkit::{Event, Order, Subject, verify_operator};
use rivermark_types::{Failure, Result, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

const END: i64 = i64::MAX;

/// Numbers that look like noise and are the same every time.
fn noise(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) >> 33
}

const ODD: OutputTag<u64> = OutputTag::new("odd");
const FIRED: OutputTag<(u64, i64)> = OutputTag::new("fired");
const UNTAKEN: OutputTag<String> = OutputTag::new("untaken");

/// Lets even numbers pass, odd ones aside (multiples of nine many times), and tells timers aside.
#[derive(Default)]
struct Sorting {
    odd: SideOutput<u64>,
    fired: SideOutput<(u64, i64)>,
    untaken: SideOutput<String>,
    timers: Option<Timers<u64>>,
}

impl KeyedOp<u64, u64, u64> for Sorting {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u64>) -> Result<()> {
        self.odd = cx.side_output(&ODD)?;
        self.fired = cx.side_output(&FIRED)?;
        self.untaken = cx.side_output(&UNTAKEN)?;
        self.timers = Some(cx.timers()?);
        Ok(())
    }
    fn row(&mut self, key: &Key<u64>, row: Timed<u64>, out: &mut Out<u64>) -> Result<()> {
        assert!(self.odd.is_taken() && !self.untaken.is_taken());
        self.untaken.emit("to nobody".to_owned());
        let time = row.event_time()?;
        match row.value % 2 {
            0 => out.emit(row.value),
            _ if row.value.is_multiple_of(9) => {
                (0..20).for_each(|n| self.odd.emit_at(row.value, time.plus_ms(n)))
            }
            _ => self.odd.emit(row.value),
        }
        let timers = self.timers.as_mut().ok_or_else(|| Failure::bug("not open"))?;
        timers.register(key, due(time));
        Ok(())
    }
    fn timer(&mut self, key: &Key<u64>, at: Timer, _: &mut Out<u64>) -> Result<()> {
        self.fired.emit((key.value, at.time.0));
        Ok(())
    }
}

fn due(time: Timestamp) -> Timestamp {
    Timestamp(time.0 / 10 * 10 + 10)
}

#[test]
fn side_outputs_of_a_keyed_operator() {
    let rows: Vec<(u64, i64)> = (0..50).map(|n| (noise(n) % 100, n as i64)).collect();
    let mut input = vec![];
    for (at, (row, time)) in rows.iter().enumerate() {
        input.push(Event::row(*row).at(*time));
        if at % 8 == 7 {
            input.push(Event::watermark(*time - 3));
        }
    }
    input.push(Event::watermark(END));
    let even = rows.iter().map(|row| row.0).filter(|n| n.is_multiple_of(2));
    let times = |n: u64| if n.is_multiple_of(9) { 20 } else { 1 };
    let odd = rows.iter().map(|row| row.0).filter(|n| !n.is_multiple_of(2));
    let odd = odd.flat_map(|n| vec![n; times(n)]);
    let mut fired: Vec<_> = rows
        .iter()
        .map(|(n, time)| (n % 7, due(Timestamp(*time)).0))
        .collect();
    fired.sort_unstable();
    fired.dedup();
    let select = |row: &u64| row % 7;
    verify_operator(move || Subject::operator(move || KeyedOperator::new(select, Sorting::default())))
        .keyed_by(0, select)
        .input(input)
        .expect(Order::Exact, even)
        .expect_side(&ODD, Order::Exact, odd)
        .expect_side(&FIRED, Order::Multiset, fired)
        .expect_state_rows(0)
        .verify();
}

const KEPT: OutputTag<u64> = OutputTag::new("kept");

/// Keeps every row in a list, and tells at the end; every third also at once, every fifth aside. A union list keeps the
/// squares: after a restore each instance keeps those that are its to keep.
#[derive(Default)]
struct Keeping {
    kept: OperatorList<u64>,
    squares: OperatorList<(u64, String)>,
    aside: SideOutput<u64>,
}

impl ProcessOp<u64, String> for Keeping {
    fn open(&mut self, cx: &mut ProcessOpenCx<'_>) -> Result<()> {
        self.kept = cx.list_state("kept")?;
        self.squares = cx.union_list_state("kept")?;
        self.aside = cx.side_output(&KEPT)?;
        let (index, parallelism) = (
            u64::from(cx.info().subtask.index),
            u64::from(cx.info().parallelism),
        );
        self.squares.update().retain(|(n, _)| n % parallelism == index);
        assert!(cx.is_restored() || self.kept.get().is_empty());
        Ok(())
    }
    fn row(&mut self, row: Timed<u64>, out: &mut Out<String>) -> Result<()> {
        self.kept.push(row.value);
        self.squares
            .push((row.value, format!("{}", row.value * row.value)));
        if row.value.is_multiple_of(3) {
            out.emit(format!("{}", row.value));
        }
        if row.value.is_multiple_of(5) {
            (0..30).for_each(|_| self.aside.emit(row.value));
        }
        Ok(())
    }
    fn on_end(&mut self, out: &mut Out<String>) -> Result<()> {
        let kept = self.kept.take().into_iter().map(|n| format!("kept {n}"));
        let squares = self
            .squares
            .take()
            .into_iter()
            .map(|(n, square)| format!("{n}² = {square}"));
        kept.chain(squares).for_each(|row| out.emit(row));
        Ok(())
    }
}

#[test]
fn an_operator_without_a_key_that_keeps_lists() {
    let rows: Vec<u64> = (0..40).map(|n| noise(n) % 1_000).collect();
    let mut input: Vec<Event> = rows.iter().map(|n| Event::row(*n).at(*n as i64)).collect();
    input.insert(20, Event::watermark(3));
    input.push(Event::watermark(END));
    let mut expected: Vec<String> = rows
        .iter()
        .filter(|n| n.is_multiple_of(3))
        .map(u64::to_string)
        .collect();
    expected.extend(rows.iter().map(|n| format!("kept {n}")));
    expected.extend(rows.iter().map(|n| format!("{n}² = {}", n * n)));
    let aside = rows
        .iter()
        .filter(|n| n.is_multiple_of(5))
        .flat_map(|n| vec![*n; 30]);
    verify_operator(|| Subject::operator(|| ProcessOperator::new(Keeping::default())))
        .input(input)
        .expect(Order::Exact, expected)
        .expect_side(&KEPT, Order::Exact, aside)
        .verify();
}

/// Tells rows of both sides; the lengths of the right ones are kept until the end.
#[derive(Default)]
struct Both(OperatorList<usize>);

impl ProcessOp2<u64, String, String> for Both {
    fn open(&mut self, cx: &mut ProcessOpenCx<'_>) -> Result<()> {
        self.0 = cx.list_state("lengths")?;
        Ok(())
    }
    fn left(&mut self, row: Timed<u64>, out: &mut Out<String>) -> Result<()> {
        (0..row.value % 4).for_each(|n| out.emit(format!("{} {n}", row.value)));
        Ok(())
    }
    fn right(&mut self, row: Timed<String>, out: &mut Out<String>) -> Result<()> {
        self.0.push(row.value.len());
        out.emit(row.value);
        Ok(())
    }
    fn on_end(&mut self, out: &mut Out<String>) -> Result<()> {
        self.0
            .take()
            .into_iter()
            .for_each(|length| out.emit(format!("length {length}")));
        Ok(())
    }
}

#[test]
fn two_inputs_without_keys() {
    let (mut input, mut expected, mut end) = (vec![], vec![], vec![]);
    for n in 0..40u64 {
        let number = noise(n);
        if number.is_multiple_of(2) {
            input.push(Event::row(number).at(n as i64));
            expected.extend((0..number % 4).map(|n| format!("{number} {n}")));
        } else {
            let text = "x".repeat(number as usize % 9);
            input.push(Event::row(text.clone()).on(1));
            end.push(format!("length {}", text.len()));
            expected.push(text);
        }
    }
    input.push(Event::watermark(END));
    expected.append(&mut end);
    verify_operator(|| Subject::operator(|| ProcessOperator2::new(Both::default())))
        .input(input)
        .expect(Order::Exact, expected)
        .verify();
}

/// A rule: for numbers with this remainder by seven, what to call them; `None` takes it back.
type Rule = (u64, Option<String>);

/// Tells what the rules call a number.
#[derive(Default)]
struct Naming(OperatorList<u64>);

fn learn(rules: &mut BTreeMap<u64, String>, (remainder, name): Rule) {
    match name {
        Some(name) => drop(rules.insert(remainder, name)),
        None => drop(rules.remove(&remainder)),
    }
}

impl BroadcastOp<u64, Rule, (u64, String)> for Naming {
    type Key = u64;
    type Value = String;
    fn open(&mut self, cx: &mut ProcessOpenCx<'_>) -> Result<()> {
        self.0 = cx.list_state("seen")?;
        Ok(())
    }
    fn row(
        &mut self,
        rules: &BTreeMap<u64, String>,
        row: Timed<u64>,
        out: &mut Out<(u64, String)>,
    ) -> Result<()> {
        self.0.push(row.value);
        out.emit((
            row.value,
            rules.get(&(row.value % 7)).cloned().unwrap_or_default(),
        ));
        Ok(())
    }
    fn broadcast_row(
        &mut self,
        rules: &mut BTreeMap<u64, String>,
        row: Timed<Rule>,
        _: &mut Out<(u64, String)>,
    ) -> Result<()> {
        learn(rules, row.value);
        Ok(())
    }
}

/// Numbers and rules in turns, with what the rules call each number when it comes.
fn numbers_and_rules() -> (Vec<Event>, Vec<(u64, String)>) {
    let (mut input, mut named, mut rules) = (vec![], vec![], BTreeMap::new());
    for n in 0..60u64 {
        if noise(n + 5).is_multiple_of(3) {
            let name = (!noise(n).is_multiple_of(4)).then(|| format!("rule {n}"));
            let rule = (noise(n + 70) % 7, name);
            learn(&mut rules, rule.clone());
            input.push(Event::row(rule).on(1).at(n as i64));
        } else {
            let number = noise(n) % 1_000;
            named.push((number, rules.get(&(number % 7)).cloned().unwrap_or_default()));
            input.push(Event::row(number).at(n as i64));
        }
        if n % 13 == 12 {
            input.push(Event::watermark(n as i64 - 5));
        }
    }
    input.push(Event::watermark(END));
    (input, named)
}

#[test]
fn broadcast_state_beside_a_stream_without_a_key() {
    let (input, expected) = numbers_and_rules();
    assert!(expected.iter().filter(|(_, name)| !name.is_empty()).count() > 10);
    verify_operator(|| Subject::operator(|| BroadcastOperator::new(Naming::default())))
        .broadcast(1)
        .input(input)
        .expect(Order::Exact, expected)
        .verify();
}

/// The same by key: the how-manieth of its key, and a timer of each that tells the rule of that moment aside.
#[derive(Default)]
struct NamingByKey {
    count: ValueState<u64, u64>,
    timers: Option<Timers<u64>>,
    at_timers: SideOutput<(u64, String)>,
}

const AT_TIMERS: OutputTag<(u64, String)> = OutputTag::new("at timers");

impl KeyedBroadcastOp<u64, u64, Rule, (u64, String, u64)> for NamingByKey {
    type Key = u64;
    type Value = String;
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u64>) -> Result<()> {
        self.count = cx.value("count")?;
        self.timers = Some(cx.timers()?);
        self.at_timers = cx.side_output(&AT_TIMERS)?;
        Ok(())
    }
    fn row(
        &mut self,
        key: &Key<u64>,
        rules: &BTreeMap<u64, String>,
        row: Timed<u64>,
        out: &mut Out<(u64, String, u64)>,
    ) -> Result<()> {
        let count = self.count.update(key);
        *count += 1;
        let name = rules.get(&key.value).cloned().unwrap_or_default();
        out.emit((row.value, name, *count));
        let timers = self.timers.as_mut().ok_or_else(|| Failure::bug("not open"))?;
        timers.register(key, due(row.event_time()?));
        Ok(())
    }
    fn broadcast_row(
        &mut self,
        rules: &mut BTreeMap<u64, String>,
        row: Timed<Rule>,
        _: &mut Out<(u64, String, u64)>,
    ) -> Result<()> {
        learn(rules, row.value);
        Ok(())
    }
    fn timer(
        &mut self,
        key: &Key<u64>,
        rules: &BTreeMap<u64, String>,
        _: Timer,
        _: &mut Out<(u64, String, u64)>,
    ) -> Result<()> {
        self.at_timers
            .emit((key.value, rules.get(&key.value).cloned().unwrap_or_default()));
        Ok(())
    }
}

#[test]
fn broadcast_state_beside_a_keyed_stream_with_state_and_timers() {
    let (input, named) = numbers_and_rules();
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    let expected = named.into_iter().map(|(number, name)| {
        let count = counts.entry(number % 7).or_default();
        *count += 1;
        (number, name, *count)
    });
    let expected: Vec<_> = expected.collect();
    let fired = fired_by_hand();
    let select = |row: &u64| row % 7;
    verify_operator(move || {
        Subject::operator(move || KeyedBroadcastOperator::new(select, NamingByKey::default()))
    })
    .keyed_by(0, select)
    .broadcast(1)
    .input(input)
    .expect(Order::Exact, expected)
    .expect_side(&AT_TIMERS, Order::Multiset, fired)
    .verify();
}

/// Which timers of [`NamingByKey`] fire when, and what the rules say then.
fn fired_by_hand() -> Vec<(u64, String)> {
    let (mut fired, mut rules) = (vec![], BTreeMap::new());
    let mut timers: BTreeSet<(i64, u64)> = BTreeSet::new();
    let mut fire = |timers: &mut BTreeSet<(i64, u64)>, rules: &BTreeMap<u64, String>, watermark: i64| {
        while let Some((_, key)) = timers.first().copied().filter(|(time, _)| *time <= watermark) {
            timers.pop_first();
            fired.push((key, rules.get(&key).cloned().unwrap_or_default()));
        }
    };
    for n in 0..60u64 {
        if noise(n + 5).is_multiple_of(3) {
            let name = (!noise(n).is_multiple_of(4)).then(|| format!("rule {n}"));
            learn(&mut rules, (noise(n + 70) % 7, name));
        } else {
            timers.insert((due(Timestamp(n as i64)).0, noise(n) % 1_000 % 7));
        }
        if n % 13 == 12 {
            fire(&mut timers, &rules, n as i64 - 5);
        }
    }
    fire(&mut timers, &rules, END);
    fired
}
