//! Operators that are wrong, each in one way that only the engine's conditions show: `verify_operator` finds every one, and
//! says where.

use rivermark_connector::{CommitNode, Sink, TwoPhaseSink};
use rivermark_data::Typed;
use rivermark_env::Env;
use rivermark_runtime::operators::{KeyedOp, KeyedOpenCx, KeyedOperator, Out, Timed, Timer};
use rivermark_runtime::{Cx, Flow, Lists, OpenCx, Operator, RowCursor, SubtaskInfo};
use rivermark_state::{Key, Timers, ValueState};
use rivermark_testkit::{Event, Order, Subject, Verification, verify_operator};
use rivermark_types::{Barrier, CheckpointId, Failure, InputId, Result, Timestamp};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

fn complaint(verification: Verification) -> String {
    let failed = catch_unwind(AssertUnwindSafe(|| verification.verify()));
    match failed {
        Ok(()) => "it passed".to_owned(),
        Err(panic) => panic.downcast_ref::<String>().cloned().unwrap_or_default(),
    }
}

#[track_caller]
fn assert_found(verification: Verification, words: &[&str]) {
    let complaint = complaint(verification);
    for word in words {
        assert!(complaint.contains(word), "no {word:?} in: {complaint}");
    }
}

/// Sums up the rows of a key, and emits the sum when its timer, ten behind the first row, is due.
#[derive(Default)]
struct SumThenTell {
    fault: Fault,
    sum: Option<ValueState<u64, u64>>,
    timers: Option<Timers<u64>>,
    forgetful: BTreeMap<u64, u64>,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Fault {
    #[default]
    None,
    /// Its sums are in a field of its own.
    StateInField,
    /// Its timers are not registered but when the operator is fresh: as if they were not restored.
    TimersInField,
}

impl KeyedOp<u64, u64, (u64, u64)> for SumThenTell {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u64>) -> Result<()> {
        self.sum = Some(cx.value("sum")?);
        let mut timers = cx.timers()?;
        if self.fault == Fault::TimersInField {
            // What was restored is fired into nothing.
            while timers.next_due(Timestamp::MAX).is_some() {}
        }
        self.timers = Some(timers);
        Ok(())
    }
    fn row(&mut self, key: &Key<u64>, row: Timed<u64>, _: &mut Out<(u64, u64)>) -> Result<()> {
        let (Some(sum), Some(timers)) = (&mut self.sum, &mut self.timers) else {
            return Err(Failure::bug("not open"));
        };
        let time = row.event_time()?;
        if sum.get(key).is_none() {
            timers.register(key, time.plus_ms(10));
        }
        *sum.update(key) += row.value;
        *self.forgetful.entry(key.value).or_default() += row.value;
        Ok(())
    }
    fn timer(&mut self, key: &Key<u64>, _: Timer, out: &mut Out<(u64, u64)>) -> Result<()> {
        let kept = self.sum.as_mut().and_then(|sum| sum.clear(key));
        let forgetful = self.forgetful.remove(&key.value);
        let sum = if self.fault == Fault::StateInField {
            forgetful
        } else {
            kept
        };
        out.emit((key.value, sum.unwrap_or_default()));
        Ok(())
    }
}

fn sums(fault: Fault) -> Verification {
    let select = |row: &u64| row % 4;
    let subject = move || {
        Subject::operator(move || {
            let op = SumThenTell {
                fault,
                ..SumThenTell::default()
            };
            KeyedOperator::new(select, op)
        })
    };
    let rows = (0..12u64).map(|n| Event::row(n).at(n as i64));
    verify_operator(subject)
        .keyed_by(0, select)
        .input(rows)
        .input([Event::watermark(11), Event::watermark(i64::MAX)])
        .expect(Order::Multiset, [(0u64, 12u64), (1, 15), (2, 18), (3, 21)])
}

#[test]
fn the_operator_without_a_fault_passes() {
    sums(Fault::None).verify();
}

#[test]
fn state_outside_of_the_tables_is_lost_at_the_first_snapshot_behind_it() {
    assert_found(
        sums(Fault::StateInField),
        &[
            "KeyedOperator: snapshot at position 2",
            "too many: (1, 14)",
            "missing: (1, 15)",
        ],
    );
}

#[test]
fn timers_that_are_not_restored_are_missed() {
    assert_found(
        sums(Fault::TimersInField),
        &["snapshot at position 1, CrashAtOnce", "missing: (0, 12)"],
    );
}

/// An operator of a single closure.
struct Custom<F>(F);

impl<F: FnMut(&mut RowCursor<'_>, &mut Cx<'_>) -> Result<Flow>> Operator for Custom<F> {
    fn open(&mut self, _: &mut OpenCx<'_>) -> Result<()> {
        Ok(())
    }
    fn on_batch(&mut self, _: InputId, rows: &mut RowCursor<'_>, cx: &mut Cx<'_>) -> Result<Flow> {
        (self.0)(rows, cx)
    }
}

fn custom(
    on_batch: impl FnMut(&mut RowCursor<'_>, &mut Cx<'_>) -> Result<Flow> + Clone + Send + Sync + 'static,
) -> Verification {
    let subject = move || {
        let on_batch = on_batch.clone();
        Subject::operator(move || Custom(on_batch.clone()))
    };
    let rows: Vec<u64> = (0..10).collect();
    verify_operator(subject)
        .input(rows.iter().copied().map(Event::row))
        .expect(Order::Exact, rows)
}

fn take_all(rows: &mut RowCursor<'_>) -> Result<Vec<u64>> {
    let mut all = vec![];
    rows.typed::<u64>()?.each_row(|row, _| {
        all.push(row);
        true
    });
    Ok(all)
}

#[test]
fn an_operator_that_passes_rows_on_passes() {
    custom(|rows, cx| {
        cx.emit(0, Typed::untimed(take_all(rows)?));
        Ok(Flow::Done)
    })
    .verify();
}

#[test]
fn rows_beyond_the_room_that_are_dropped_are_missed() {
    let dropping = custom(|rows, cx| {
        let mut all = take_all(rows)?;
        all.truncate(cx.room());
        cx.emit(0, Typed::untimed(all));
        Ok(Flow::Done)
    });
    assert_found(dropping, &["credit of 1", "missing: 1"]);
}

#[test]
fn a_call_that_wants_more_for_nothing_is_found() {
    assert_found(custom(|_, _| Ok(Flow::More)), &["no progress", "undisturbed"]);
}

#[test]
fn a_wait_that_nobody_ends_is_found() {
    assert_found(
        custom(|_, _| Ok(Flow::Wait)),
        &["it waits, and nothing is left that could wake it"],
    );
}

#[test]
fn a_panic_is_a_finding_too() {
    let panicking = custom(|rows, cx| match rows.remaining() {
        7 => panic!("seven"),
        _ => {
            cx.emit(0, Typed::untimed(take_all(rows)?));
            Ok(Flow::Done)
        }
    });
    assert_found(panicking, &["batches of 7", "seven"]);
}

#[test]
fn an_answer_that_depends_on_where_batches_end_is_found() {
    let greedy = custom(|rows, cx| {
        let last = take_all(rows)?.into_iter().next_back();
        cx.emit(0, Typed::untimed(last.into_iter().collect()));
        Ok(Flow::Done)
    });
    assert_found(greedy, &["batches of 7", "missing"]);
}

/// Emits each row when the next one comes, the last at the end; holds it in a list meanwhile.
struct HoldOne {
    held: Vec<u64>,
    is_restoring: bool,
}

impl Operator for HoldOne {
    fn open(&mut self, cx: &mut OpenCx<'_>) -> Result<()> {
        let restored = cx.take_list("held");
        if self.is_restoring {
            self.held = restored.iter().filter_map(|entry| entry.as_u64()).collect();
        }
        Ok(())
    }
    fn on_batch(&mut self, _: InputId, rows: &mut RowCursor<'_>, cx: &mut Cx<'_>) -> Result<Flow> {
        let mut all = std::mem::take(&mut self.held);
        all.extend(take_all(rows)?);
        self.held.extend(all.pop());
        cx.emit(0, Typed::untimed(all));
        Ok(Flow::Done)
    }
    fn snapshot_lists(&mut self) -> Result<Lists> {
        let entries = self.held.iter().map(|n| (*n).into()).collect();
        Ok(Lists::from([("held".to_owned(), entries)]))
    }
    fn on_end(&mut self, cx: &mut Cx<'_>) -> Result<Flow> {
        cx.emit(0, Typed::untimed(std::mem::take(&mut self.held)));
        Ok(Flow::Done)
    }
}

fn hold_one(is_restoring: bool) -> Verification {
    let held = vec![];
    let make = move || HoldOne {
        held: held.clone(),
        is_restoring,
    };
    verify_operator(move || Subject::operator(make.clone()))
        .input((0..10u64).map(Event::row))
        .expect(Order::Exact, 0..10u64)
}

/// Keeps rows back until a barrier or the end, and lets them go in as many calls as there is room for.
#[derive(Clone, Default)]
struct EmitAtBarrier(Vec<u64>);

impl EmitAtBarrier {
    fn emit(&mut self, cx: &mut Cx<'_>) -> Flow {
        let now = self.0.drain(..cx.room().min(self.0.len())).collect();
        cx.emit(0, Typed::untimed(now));
        if self.0.is_empty() { Flow::Done } else { Flow::More }
    }
}

impl Operator for EmitAtBarrier {
    fn open(&mut self, _: &mut OpenCx<'_>) -> Result<()> {
        Ok(())
    }
    fn on_batch(&mut self, _: InputId, rows: &mut RowCursor<'_>, _: &mut Cx<'_>) -> Result<Flow> {
        self.0.extend(take_all(rows)?);
        Ok(if rows.remaining() == 0 {
            Flow::Done
        } else {
            Flow::More
        })
    }
    fn before_barrier(&mut self, _: &Barrier, cx: &mut Cx<'_>) -> Result<Flow> {
        Ok(self.emit(cx))
    }
    fn on_end(&mut self, cx: &mut Cx<'_>) -> Result<Flow> {
        Ok(self.emit(cx))
    }
}

#[test]
fn rows_may_come_out_at_a_barrier() {
    verify_operator(|| Subject::operator(EmitAtBarrier::default))
        .input((0..10u64).map(Event::row))
        .expect(Order::Exact, 0..10u64)
        .verify();
}

/// Keeps what it has taken of a batch until it has all of it.
#[derive(Default)]
struct Hoard(Vec<u64>);

impl Operator for Hoard {
    fn open(&mut self, _: &mut OpenCx<'_>) -> Result<()> {
        Ok(())
    }
    fn on_batch(&mut self, _: InputId, rows: &mut RowCursor<'_>, cx: &mut Cx<'_>) -> Result<Flow> {
        self.0.extend(take_all(rows)?);
        if rows.remaining() > 0 {
            return Ok(Flow::More);
        }
        cx.emit(0, Typed::untimed(std::mem::take(&mut self.0)));
        Ok(Flow::Done)
    }
}

#[test]
fn rows_kept_outside_of_the_cursor_are_missed_when_a_barrier_overtakes() {
    let hoard = verify_operator(|| Subject::operator(Hoard::default))
        .input((0..10u64).map(Event::row))
        .expect(Order::Exact, 0..10u64);
    assert_found(
        hoard,
        &[
            "a barrier overtakes the batch at position 0 after 1 calls",
            "missing: 0",
        ],
    );
}

#[test]
fn a_list_is_restored_and_dealt_out_anew() {
    hold_one(true).verify();
}

#[test]
fn a_list_that_is_not_restored_is_missed() {
    assert_found(
        hold_one(false),
        &["HoldOne: snapshot at position 1, CrashAtOnce", "missing: 0"],
    );
}

/// What is written is visible at once.
struct Eager(Arc<Mutex<Vec<u64>>>);
struct EagerWriter(Arc<Mutex<Vec<u64>>>);

impl Sink for Eager {
    type Writer = EagerWriter;
    fn name(&self) -> String {
        "eager".to_owned()
    }
    fn writer(&self, _: &Env, _: &SubtaskInfo) -> Result<EagerWriter> {
        Ok(EagerWriter(self.0.clone()))
    }
}

impl TwoPhaseSink for EagerWriter {
    type Row = u64;
    type Committable = ();
    async fn write(&mut self, rows: Vec<u64>) -> Result<()> {
        let mut visible = self.0.lock().map_err(|_| Failure::bug("poisoned"))?;
        visible.extend(rows);
        Ok(())
    }
    async fn prepare(&mut self, _: CheckpointId) -> Result<Vec<()>> {
        Ok(vec![])
    }
    async fn commit(&mut self, _: Vec<()>) -> Result<()> {
        Ok(())
    }
    async fn abort_unlisted(&mut self) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_sink_whose_rows_are_visible_before_their_commit_doubles_them() {
    let subject = || {
        let rows = Arc::new(Mutex::new(vec![]));
        let seen = rows.clone();
        let node = CommitNode::new(Eager(rows));
        Subject::made_by("CommitOperator", node).observed_by(move || seen.lock().expect("no panic").clone())
    };
    let eager = verify_operator(subject)
        .input((0..5u64).map(Event::row))
        .expect_outside(Order::Exact, 0..5u64);
    assert_found(eager, &["position 0, CrashLater", "outside", "too many: 0"]);
}

#[test]
fn an_input_without_rows_verifies_nothing() {
    let nothing = verify_operator(|| Subject::made_by("nothing", || Err(Failure::bug("never made"))));
    assert_found(nothing, &["nothing would be verified"]);
}
