//! Every operator of the DataStream API under every condition of the engine.

use rivermark_runtime::operators::{
    Aggregate, ConnectOperator, Filter, FlatMap, Fold, FusedOperator, Identity, KeyedOp, KeyedOp2,
    KeyedOpenCx, KeyedOperator, LateRows, Map, Out, Reduce, Timed, Timer, TryMap, Tumbling, Window,
    WindowOperator, window,
};
use rivermark_state::{Key, ListState, MapState, Timers, ValueState};
use rivermark_testkit::{Event, Order, Subject, verify_operator};
use rivermark_types::{Failure, Result, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const END: i64 = i64::MAX;

/// Numbers that look like noise and are the same every time.
fn noise(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) >> 33
}

#[test]
fn fused_closures() {
    let fan_out = |n: u64| match n % 13 {
        0 => 1_000,
        m => m.saturating_sub(4),
    };
    let rows: Vec<u64> = (0..40).collect();
    let expected = rows.clone().into_iter().map(|n| n + 1).filter(|n| n % 3 != 0);
    let expected = expected
        .flat_map(|n| vec![n; fan_out(n) as usize])
        .map(|n| n * 10);
    let subject = move || {
        Subject::operator(move || {
            let map = Map(Identity, |n: u64| n + 1);
            let filter = Filter(map, |n: &u64| !n.is_multiple_of(3));
            let flat = FlatMap(filter, move |n: u64| vec![n; fan_out(n) as usize]);
            FusedOperator::<u64, _>::new(TryMap(flat, |n: u64| Ok::<u64, String>(n * 10)))
        })
    };
    let timed = rows.iter().map(|n| Event::row(*n).at(*n as i64));
    let timed = timed.chain([
        Event::watermark(30),
        Event::row(100_000u64 * 3 + 2).at(2),
        Event::watermark(END),
    ]);
    verify_operator(subject)
        .input(timed)
        .expect(Order::Exact, expected)
        .verify();
}

#[test]
fn fused_closures_on_rows_without_times() {
    let subject =
        || Subject::operator(|| FusedOperator::<String, _>::new(Map(Identity, |row: String| row.len())));
    verify_operator(subject)
        .input((0..30).map(|n| Event::row("x".repeat(n))))
        .expect(Order::Exact, 0..30usize)
        .verify();
}

#[test]
fn a_reduce() {
    type Row = (String, i64);
    let rows: Vec<Row> = (0..50)
        .map(|n| (format!("key {}", noise(n) % 9), noise(n + 7) as i64 % 100))
        .collect();
    let mut sums = BTreeMap::new();
    let expected = rows.clone().into_iter().map(|(key, n)| {
        let sum = sums.entry(key.clone()).or_insert(0);
        *sum += n;
        (key, *sum)
    });
    let expected: Vec<Row> = expected.collect();
    let keys = sums.len();
    let select = |row: &Row| row.0.clone();
    let reduce = move || {
        Subject::operator(move || {
            let sum = |sum: &Row, row: Row| (row.0, sum.1 + row.1);
            KeyedOperator::new(select, Reduce::new(sum))
        })
    };
    verify_operator(reduce)
        .keyed_by(0, select)
        .input(rows.iter().cloned().map(Event::row))
        .expect(Order::Exact, expected)
        .expect_state_rows(keys)
        .verify();
}

type Seen = (u64, Option<u64>);
type Told = (u64, u64, Vec<u64>, Vec<(String, u64)>);

/// Keeps value, list and map of a key. A row (key, Some(n)) adds n and asks for a timer at its time rounded up to tens;
/// (key, None) takes the timers of the next ten back. A timer tells all there is; the last of a key clears it.
#[derive(Default)]
struct Everything(Option<Handles>);

struct Handles {
    count: ValueState<u64, u64>,
    seen: ListState<u64, u64>,
    sums: MapState<u64, String, u64>,
    pending: ValueState<u64, BTreeSet<i64>>,
    timers: Timers<u64>,
}

fn not_open() -> Failure {
    Failure::bug("not open")
}

impl KeyedOp<u64, Seen, Told> for Everything {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u64>) -> Result<()> {
        self.0 = Some(Handles {
            count: cx.value("count")?,
            seen: cx.list("seen")?,
            sums: cx.map("sums")?,
            pending: cx.value("pending")?,
            timers: cx.timers()?,
        });
        Ok(())
    }

    fn row(&mut self, key: &Key<u64>, row: Timed<Seen>, _: &mut Out<Told>) -> Result<()> {
        let state = self.0.as_mut().ok_or_else(not_open)?;
        let time = row.event_time()?;
        let due = time.0 / 10 * 10 + 10;
        match row.value.1 {
            Some(n) => {
                *state.count.update(key) += 1;
                state.seen.push(key, n);
                *state.sums.update(key, format!("residue {}", n % 3)) += n;
                let is_new = state.timers.register(key, Timestamp(due));
                assert_eq!(is_new, state.pending.update(key).insert(due));
            }
            None => {
                let is_there = state.timers.delete(key, Timestamp(due + 10));
                assert_eq!(is_there, state.pending.update(key).remove(&(due + 10)));
                state.sums.remove(key, &"residue 1".to_owned());
            }
        }
        Ok(())
    }

    fn timer(&mut self, key: &Key<u64>, at: Timer, out: &mut Out<Told>) -> Result<()> {
        let state = self.0.as_mut().ok_or_else(not_open)?;
        assert!(at.time <= out.watermark());
        let sums = state.sums.iter(key).map(|(name, sum)| (name.clone(), *sum));
        let told = (
            key.value,
            state.count.get(key).copied().unwrap_or(0),
            state.seen.get(key).to_vec(),
            sums.collect(),
        );
        out.emit(told);
        let pending = state.pending.update(key);
        assert!(pending.remove(&at.time.0), "a timer that nobody asked for");
        if pending.is_empty() {
            state.pending.clear(key);
            state.count.clear(key);
            state.seen.clear(key);
            state.sums.clear(key);
        }
        Ok(())
    }
}

/// The same by hand.
fn told(events: &[(Seen, i64)], watermarks: impl Fn(usize) -> Option<i64>) -> Vec<Told> {
    #[derive(Default)]
    struct Of {
        count: u64,
        seen: Vec<u64>,
        sums: BTreeMap<String, u64>,
    }
    let mut keys: BTreeMap<u64, Of> = BTreeMap::new();
    let mut timers: BTreeSet<(i64, u64)> = BTreeSet::new();
    let mut out = vec![];
    for at in 0..=events.len() {
        if let Some(((key, n), time)) = events.get(at) {
            let due = time / 10 * 10 + 10;
            let state = keys.entry(*key).or_default();
            match n {
                Some(n) => {
                    state.count += 1;
                    state.seen.push(*n);
                    *state.sums.entry(format!("residue {}", n % 3)).or_default() += n;
                    timers.insert((due, *key));
                }
                None => {
                    timers.remove(&(due + 10, *key));
                    state.sums.remove("residue 1");
                }
            }
        }
        let Some(watermark) = watermarks(at) else { continue };
        while let Some((_, key)) = timers.first().copied().filter(|(due, _)| *due <= watermark) {
            timers.pop_first();
            let state = keys.entry(key).or_default();
            out.push((
                key,
                state.count,
                state.seen.clone(),
                state.sums.clone().into_iter().collect(),
            ));
            if !timers.iter().any(|(_, other)| *other == key) {
                keys.remove(&key);
            }
        }
    }
    out
}

#[test]
fn a_keyed_operator_with_all_kinds_of_state_and_timers() {
    let rows: Vec<(Seen, i64)> = (0..45)
        .map(|n| {
            let value = (!noise(n).is_multiple_of(5)).then_some(noise(n + 100) % 50);
            (
                (noise(n + 50) % 7, value),
                n as i64 * 2 + noise(n + 200) as i64 % 25,
            )
        })
        .collect();
    let watermark = |at: usize| match at {
        45 => Some(END),
        at if at % 6 == 5 => Some(at as i64 * 2 - 15),
        _ => None,
    };
    let mut input = vec![];
    for (at, (row, time)) in rows.iter().enumerate() {
        input.push(Event::row(*row).at(*time));
        input.extend(watermark(at).map(Event::watermark));
    }
    input.push(Event::watermark(END));
    let select = |row: &Seen| row.0;
    let expected = told(&rows, watermark);
    assert!(expected.len() > 15, "{}", expected.len());
    verify_operator(move || Subject::operator(move || KeyedOperator::new(select, Everything::default())))
        .keyed_by(0, select)
        .input(input)
        // Timers of one time fire in the order of their keys' hashes.
        .expect(Order::Multiset, expected)
        .verify();
}

/// Registers fifty timers a row, none of which emits.
#[derive(Default)]
struct Silent(Option<Timers<u64>>);

impl KeyedOp<u64, u64, u64> for Silent {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u64>) -> Result<()> {
        self.0 = Some(cx.timers()?);
        Ok(())
    }
    fn row(&mut self, key: &Key<u64>, _: Timed<u64>, _: &mut Out<u64>) -> Result<()> {
        let timers = self.0.as_mut().ok_or_else(not_open)?;
        for at in 0..50 {
            timers.register(key, Timestamp(at * 20));
        }
        Ok(())
    }
}

#[test]
fn timers_that_emit_nothing() {
    let select = |row: &u64| *row;
    verify_operator(move || Subject::operator(move || KeyedOperator::new(select, Silent::default())))
        .keyed_by(0, select)
        .input([
            Event::row(1u64),
            Event::row(2u64),
            Event::watermark(500),
            Event::watermark(END),
        ])
        .expect(Order::Exact, Vec::<u64>::new())
        .expect_state_rows(0)
        .verify();
}

type Sale = (u64, i64);
type Sum = (u64, i64, i64);

fn windows(late: LateRows) -> impl Fn() -> Subject + 'static {
    move || {
        Subject::operator(move || {
            let fold = Fold::new(
                |sum: &mut i64, row: Sale| *sum += row.1,
                |key: &u64, window: Window, sum| (*key, window.start.0, sum),
            );
            is_aggregate(&fold);
            WindowOperator::new(
                |row: &Sale| row.0,
                Tumbling::of(Duration::from_millis(10)),
                fold,
                late,
            )
        })
    }
}

fn is_aggregate(_: &impl Aggregate<u64, Input = Sale, Output = Sum>) {}

/// Sales out of order, a watermark behind each fifth, some rows behind it; the sums by hand, and the late rows.
fn sales() -> (Vec<Event>, Vec<Sum>, Vec<Sale>) {
    let (mut input, mut late) = (vec![], vec![]);
    let mut sums: BTreeMap<(i64, u64), i64> = BTreeMap::new();
    let mut watermark = i64::MIN;
    for n in 0..60 {
        let row = (noise(n) % 6, noise(n + 9) as i64 % 100 - 20);
        let time = n as i64 * 2 - noise(n + 33) as i64 % 30;
        input.push(Event::row(row).at(time));
        let start = time.div_euclid(10) * 10;
        match start + 9 > watermark {
            true => *sums.entry((start, row.0)).or_default() += row.1,
            false => late.push(row),
        }
        if n % 5 == 4 {
            watermark = n as i64 * 2 - 10;
            input.push(Event::watermark(watermark));
        }
    }
    input.push(Event::watermark(END));
    let sums = sums.into_iter().map(|((start, key), sum)| (key, start, sum));
    (input, sums.collect(), late)
}

#[test]
fn windows_whose_late_rows_are_dropped() {
    let (input, sums, late) = sales();
    assert!(late.len() > 5 && sums.len() > 30, "{} {}", late.len(), sums.len());
    verify_operator(windows(LateRows::Drop))
        .keyed_by(0, |row: &Sale| row.0)
        .input(input)
        .expect(Order::Multiset, sums)
        .expect_on(window::LATE_PORT, Order::Exact, Vec::<Sale>::new())
        .expect_late(late.len() as u64)
        .expect_state_rows(0)
        .verify();
}

#[test]
fn windows_whose_late_rows_come_out_beside() {
    let (input, sums, late) = sales();
    verify_operator(windows(LateRows::Emit))
        .keyed_by(0, |row: &Sale| row.0)
        .input(input)
        .expect(Order::Multiset, sums)
        .expect_on(window::LATE_PORT, Order::Exact, late)
        .expect_late(0)
        .expect_state_rows(0)
        .verify();
}

/// Tells each row of the left with what the right had last said of its key; about ten later both are forgotten.
#[derive(Default)]
struct Enrich(Option<(ValueState<u64, String>, Timers<u64>)>);

impl KeyedOp2<u64, u64, (u64, String), (u64, String)> for Enrich {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u64>) -> Result<()> {
        self.0 = Some((cx.value("last")?, cx.timers()?));
        Ok(())
    }
    fn left(&mut self, key: &Key<u64>, row: Timed<u64>, out: &mut Out<(u64, String)>) -> Result<()> {
        let (last, _) = self.0.as_mut().ok_or_else(not_open)?;
        out.emit((row.value, last.get(key).cloned().unwrap_or_default()));
        Ok(())
    }
    fn right(&mut self, key: &Key<u64>, row: Timed<(u64, String)>, _: &mut Out<(u64, String)>) -> Result<()> {
        let time = row.event_time()?;
        let (last, timers) = self.0.as_mut().ok_or_else(not_open)?;
        last.set(key, row.value.1);
        timers.register(key, Timestamp(forgotten_at(time.0)));
        Ok(())
    }
    fn timer(&mut self, key: &Key<u64>, _: Timer, out: &mut Out<(u64, String)>) -> Result<()> {
        let (last, _) = self.0.as_mut().ok_or_else(not_open)?;
        if let Some(text) = last.clear(key) {
            out.emit((key.value, format!("{text} forgotten")));
        }
        Ok(())
    }
}

fn forgotten_at(time: i64) -> i64 {
    time / 4 * 4 + 12
}

#[test]
fn two_connected_inputs() {
    let (mut input, mut expected) = (vec![], vec![]);
    let mut last: BTreeMap<u64, String> = BTreeMap::new();
    let mut timers: BTreeSet<(i64, u64)> = BTreeSet::new();
    let mut is_exact = false;
    for n in 0..60u64 {
        let key = noise(n) % 5;
        match noise(n + 3) % 9 {
            0..5 => {
                input.push(Event::row(key).at(n as i64));
                expected.push((key, last.get(&key).cloned().unwrap_or_default()));
            }
            5..8 => {
                input.push(Event::row((key, format!("said {n}"))).at(n as i64).on(1));
                last.insert(key, format!("said {n}"));
                timers.insert((forgotten_at(n as i64), key));
            }
            _ => {
                let watermark = n as i64 / 4 * 4;
                input.push(Event::watermark(watermark));
                is_exact |= timers.iter().any(|(due, _)| *due == watermark);
                while let Some((_, key)) = timers.first().copied().filter(|(due, _)| *due <= watermark) {
                    timers.pop_first();
                    expected.extend(last.remove(&key).map(|text| (key, format!("{text} forgotten"))));
                }
            }
        }
    }
    assert!(expected.iter().any(|(_, text)| text.ends_with("forgotten")));
    assert!(expected.iter().any(|(_, text)| text.starts_with("said")));
    assert!(is_exact, "no timer is due at a watermark's very time");
    let subject = || {
        let right = |row: &(u64, String)| row.0;
        Subject::operator(move || ConnectOperator::new(|row: &u64| *row, right, Enrich::default()))
    };
    verify_operator(subject)
        .keyed_by(0, |row: &u64| *row)
        .keyed_by(1, |row: &(u64, String)| row.0)
        .input(input)
        .expect(Order::Multiset, expected)
        .verify();
}
