//! Operators that are called without input: at a processing time, or because a task of theirs woke them; and processing-time
//! timers.

#![allow(clippy::unwrap_used, reason = "tests")]

use rivermark_data::Typed;
use rivermark_env::Env;
use rivermark_runtime::operators::{
    ConnectOperator, KeyedOp, KeyedOp2, KeyedOpenCx, KeyedOperator, Out, Timed, Timer,
};
use rivermark_runtime::{Cx, Flow, Lists, OpenCx, Operator, RowCursor, SlotWaker};
use rivermark_state::{Key, Timers, ValueState};
use rivermark_testkit::{Event, Order, Subject, verify_operator};
use rivermark_types::{Barrier, InputId, Result, SnapshotKind, Timestamp};
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn take_all(rows: &mut RowCursor<'_>) -> Result<Vec<u64>> {
    let mut all = vec![];
    rows.typed::<u64>()?.each_row(|row, _| {
        all.push(row);
        true
    });
    Ok(all)
}

fn more_or_done(rows: &RowCursor<'_>) -> Flow {
    match rows.remaining() {
        0 => Flow::Done,
        _ => Flow::More,
    }
}

/// Lets each row out 10 ms after it came; its event time is when.
#[derive(Default)]
struct Delay {
    held: VecDeque<(i64, u64)>,
    forgets: bool,
}

impl Operator for Delay {
    fn open(&mut self, cx: &mut OpenCx<'_>) -> Result<()> {
        for entry in cx.take_list("held") {
            let parsed: (i64, u64) = serde_json::from_value(entry).unwrap();
            self.held.push_back(parsed);
        }
        self.held.make_contiguous().sort_unstable();
        Ok(())
    }
    fn on_batch(&mut self, _: InputId, rows: &mut RowCursor<'_>, cx: &mut Cx<'_>) -> Result<Flow> {
        let at = cx.processing_time().0 + 10;
        self.held.extend(take_all(rows)?.into_iter().map(|row| (at, row)));
        Ok(more_or_done(rows))
    }
    fn wake_at(&self) -> Option<Timestamp> {
        self.held.front().map(|(at, _)| Timestamp(*at))
    }
    fn on_wake(&mut self, cx: &mut Cx<'_>) -> Result<Flow> {
        let (now, room) = (cx.processing_time(), cx.room());
        let mut out = Typed::default();
        while let Some(&(at, row)) = self.held.front()
            && at <= now.0
            && out.len() < room
        {
            self.held.pop_front();
            out.push(row, Some(Timestamp(at)));
        }
        cx.emit(0, out);
        Ok(Flow::Done)
    }
    fn snapshot_lists(&mut self) -> Result<Lists> {
        let held = self.held.iter().skip(usize::from(self.forgets));
        Ok(Lists::from([(
            "held".to_owned(),
            held.map(|entry| json!(entry)).collect(),
        )]))
    }
}

fn delayed() -> Vec<Event> {
    let mut events = vec![];
    for row in 0..12u64 {
        events.push(Event::row(row));
        events.push(Event::processing_time(3 * row as i64));
    }
    events.push(Event::processing_time(1_000));
    events
}

#[test]
fn an_operator_is_called_at_the_time_it_names() {
    verify_operator(|| Subject::operator(Delay::default))
        .input(delayed())
        .expect(Order::Exact, 0..12u64)
        .verify();
}

#[test]
#[should_panic(expected = "missing: 0")]
fn what_is_due_and_not_restored_is_missed() {
    let forgetful = || Delay {
        forgets: true,
        ..Delay::default()
    };
    verify_operator(move || Subject::operator(forgetful))
        .input(delayed())
        .expect(Order::Exact, 0..12u64)
        .verify();
}

/// Hands its rows to a task that gives them back a little later, and passes marks on behind them.
#[derive(Default)]
struct ThereAndBack {
    world: Option<(Env, SlotWaker)>,
    done: Arc<Mutex<Vec<u64>>>,
    /// Rows under way, and the marks between them.
    under_way: VecDeque<Result<u64, Timestamp>>,
    wakes: bool,
}

impl ThereAndBack {
    fn send(&mut self, row: u64) {
        self.under_way.push_back(Ok(row));
        let (env, waker) = self.world.clone().unwrap();
        let (done, wakes) = (self.done.clone(), self.wakes);
        env.clone().spawn_io("there and back", async move {
            env.sleep(Duration::from_millis(env.random_u64() % 20)).await;
            done.lock().unwrap().push(row);
            if wakes {
                waker.wake();
            }
        });
    }

    fn let_out(&mut self, cx: &mut Cx<'_>) {
        while let Some(next) = self.under_way.front() {
            match *next {
                Err(mark) => cx.emit_watermark(mark),
                Ok(row) => {
                    let mut done = self.done.lock().unwrap();
                    let Some(at) = done.iter().position(|other| *other == row) else {
                        return;
                    };
                    done.remove(at);
                    cx.emit(0, Typed::untimed(vec![row]));
                }
            }
            self.under_way.pop_front();
        }
    }
}

impl Operator for ThereAndBack {
    fn open(&mut self, cx: &mut OpenCx<'_>) -> Result<()> {
        self.world = Some((cx.env().clone(), cx.waker()));
        for entry in cx.take_list("rows") {
            self.send(serde_json::from_value(entry).unwrap());
        }
        Ok(())
    }
    fn on_batch(&mut self, _: InputId, rows: &mut RowCursor<'_>, _: &mut Cx<'_>) -> Result<Flow> {
        take_all(rows)?.into_iter().for_each(|row| self.send(row));
        Ok(more_or_done(rows))
    }
    fn holds_marks(&self) -> bool {
        true
    }
    fn on_watermark(&mut self, watermark: Timestamp, cx: &mut Cx<'_>) -> Result<Flow> {
        self.under_way.push_back(Err(watermark));
        self.let_out(cx);
        Ok(Flow::Done)
    }
    fn on_wake(&mut self, cx: &mut Cx<'_>) -> Result<Flow> {
        self.let_out(cx);
        Ok(Flow::Done)
    }
    fn before_barrier(&mut self, barrier: &Barrier, cx: &mut Cx<'_>) -> Result<Flow> {
        if barrier.kind != SnapshotKind::Final {
            return Ok(Flow::Done);
        }
        self.let_out(cx);
        Ok(match self.under_way.is_empty() {
            true => Flow::Done,
            false => Flow::Wait,
        })
    }
    fn snapshot_lists(&mut self) -> Result<Lists> {
        let rows = self.under_way.iter().flatten();
        Ok(Lists::from([(
            "rows".to_owned(),
            rows.map(|row| json!(row)).collect(),
        )]))
    }
}

fn there_and_back(wakes: bool) -> rivermark_testkit::Verification {
    let make = move || ThereAndBack {
        wakes,
        ..ThereAndBack::default()
    };
    let rows = (0..9u64).flat_map(|row| [Event::row(row), Event::watermark(row as i64)]);
    verify_operator(move || Subject::operator(make))
        .input(rows)
        .input([Event::watermark(i64::MAX)])
        .expect(Order::Exact, 0..9u64)
}

#[test]
fn an_operator_is_called_when_a_task_of_it_wakes_it() {
    there_and_back(true).verify();
}

#[test]
#[should_panic(expected = "it waits, and nothing is left that could wake it")]
fn without_the_wake_it_is_not_called() {
    there_and_back(false).verify();
}

/// A key's sum, out when nothing has come for the key for 10 ms.
#[derive(Default)]
struct Quiet {
    /// Sum, and when it is out.
    open: ValueState<u64, (u64, i64)>,
    timers: Timers<u64>,
}

impl Quiet {
    fn declare(&mut self, cx: &mut KeyedOpenCx<'_, u64>) -> Result<()> {
        self.open = cx.value("open")?;
        self.timers = cx.processing_timers()?;
        Ok(())
    }

    fn take(&mut self, key: &Key<u64>, n: u64, now: Timestamp) {
        let (sum, until) = self.open.get(key).copied().unwrap_or_default();
        self.timers.delete(key, Timestamp(until));
        let until = now.plus_ms(10);
        self.open.set(key, (sum + n, until.0));
        self.timers.register(key, until);
    }

    fn let_out(&mut self, key: &Key<u64>, at: Timer, out: &mut Out<(u64, u64, i64)>) {
        let (sum, until) = self.open.get(key).copied().unwrap();
        assert_eq!(until, at.time.0, "a deleted timer fired");
        assert!(out.processing_time() >= at.time);
        self.open.clear(key);
        out.emit((key.value, sum, at.time.0));
    }
}

impl KeyedOp<u64, (u64, u64), (u64, u64, i64)> for Quiet {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u64>) -> Result<()> {
        self.declare(cx)
    }
    fn row(&mut self, key: &Key<u64>, row: Timed<(u64, u64)>, out: &mut Out<(u64, u64, i64)>) -> Result<()> {
        self.take(key, row.value.1, out.processing_time());
        Ok(())
    }
    fn processing_timer(&mut self, key: &Key<u64>, at: Timer, out: &mut Out<(u64, u64, i64)>) -> Result<()> {
        self.let_out(key, at, out);
        Ok(())
    }
}

impl KeyedOp2<u64, (u64, u64), u64, (u64, u64, i64)> for Quiet {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u64>) -> Result<()> {
        self.declare(cx)
    }
    fn left(&mut self, key: &Key<u64>, row: Timed<(u64, u64)>, out: &mut Out<(u64, u64, i64)>) -> Result<()> {
        self.take(key, row.value.1, out.processing_time());
        Ok(())
    }
    fn right(&mut self, key: &Key<u64>, row: Timed<u64>, out: &mut Out<(u64, u64, i64)>) -> Result<()> {
        self.take(key, 1_000 * (row.value + 1), out.processing_time());
        Ok(())
    }
    fn processing_timer(&mut self, key: &Key<u64>, at: Timer, out: &mut Out<(u64, u64, i64)>) -> Result<()> {
        self.let_out(key, at, out);
        Ok(())
    }
}

/// When which row comes, and of which key: several at one time, keys that fall silent and come again.
fn visits() -> Vec<(i64, u64, u64)> {
    let mut visits: Vec<_> = (0..30u64)
        .map(|n| ((n * n % 97 + 3 * n) as i64, n * 7 % 4, n))
        .collect();
    visits.sort_unstable();
    visits
}

/// The same without any engine.
fn quiet_sums(visits: impl Iterator<Item = (i64, u64, u64)>) -> Vec<(u64, u64, i64)> {
    let mut open: BTreeMap<u64, (i64, u64)> = BTreeMap::new();
    let mut sums = vec![];
    for (time, key, n) in visits {
        let (last, sum) = open.remove(&key).unwrap_or_default();
        if time - last >= 10 && sum > 0 {
            sums.push((key, sum, last + 10));
        }
        let so_far = if time - last < 10 { sum } else { 0 };
        open.insert(key, (time, so_far + n));
    }
    sums.extend(open.into_iter().map(|(key, (last, sum))| (key, sum, last + 10)));
    sums
}

#[test]
fn processing_time_timers() {
    let input = visits()
        .into_iter()
        .flat_map(|(time, key, n)| [Event::processing_time(time), Event::row((key, n + 1))]);
    let expected = quiet_sums(visits().into_iter().map(|(time, key, n)| (time, key, n + 1)));
    verify_operator(|| Subject::operator(|| KeyedOperator::new(|row: &(u64, u64)| row.0, Quiet::default())))
        .keyed_by(0, |row: &(u64, u64)| row.0)
        .input(input)
        .input([Event::processing_time(10_000)])
        .expect(Order::Multiset, expected)
        .expect_state_rows(0)
        .verify();
}

#[test]
fn processing_time_timers_of_connected_streams() {
    let input = visits().into_iter().flat_map(|(time, key, n)| {
        let row = match n % 3 {
            0 => Event::row(key).on(1),
            _ => Event::row((key, n + 1)),
        };
        [Event::processing_time(time), row]
    });
    let expected = quiet_sums(visits().into_iter().map(|(time, key, n)| match n % 3 {
        0 => (time, key, 1_000 * (key + 1)),
        _ => (time, key, n + 1),
    }));
    verify_operator(|| {
        Subject::operator(|| {
            ConnectOperator::<u64, (u64, u64), u64, (u64, u64, i64), _, _, _>::new(
                |row: &(u64, u64)| row.0,
                |row: &u64| *row,
                Quiet::default(),
            )
        })
    })
    .keyed_by(0, |row: &(u64, u64)| row.0)
    .keyed_by(1, |row: &u64| *row)
    .input(input)
    .input([Event::processing_time(10_000)])
    .expect(Order::Multiset, expected)
    .expect_state_rows(0)
    .verify();
}
