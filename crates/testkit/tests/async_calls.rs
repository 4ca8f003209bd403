//! Async calls in a world that the test controls: they finish in any order, fail, and take too long.

#![allow(clippy::unwrap_used, reason = "tests")]

use rivermark_data::Activity;
use rivermark_env::Env;
use rivermark_runtime::operators::{AsyncMode, AsyncOperator, AsyncOptions, AsyncRetry};
use rivermark_runtime::{Cx, Flow, Lists, OpenCx, Operator, RowCursor};
use rivermark_testkit::{Event, Order, Subject, Verification, verify_operator};
use rivermark_types::{Barrier, Failure, InputId, Result, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// The world of the operator under test, for its calls.
type World = Arc<OnceLock<Env>>;

/// Tells the calls in which world they are.
struct InWorld<Op> {
    world: World,
    op: Op,
}

impl<Op: Operator> Operator for InWorld<Op> {
    fn open(&mut self, cx: &mut OpenCx<'_>) -> Result<()> {
        self.world.get_or_init(|| cx.env().clone());
        self.op.open(cx)
    }
    fn on_batch(&mut self, input: InputId, rows: &mut RowCursor<'_>, cx: &mut Cx<'_>) -> Result<Flow> {
        self.op.on_batch(input, rows, cx)
    }
    fn on_watermark(&mut self, watermark: Timestamp, cx: &mut Cx<'_>) -> Result<Flow> {
        self.op.on_watermark(watermark, cx)
    }
    fn on_status(&mut self, status: Activity, cx: &mut Cx<'_>) -> Result<Flow> {
        self.op.on_status(status, cx)
    }
    fn holds_marks(&self) -> bool {
        self.op.holds_marks()
    }
    fn wake_at(&self) -> Option<Timestamp> {
        self.op.wake_at()
    }
    fn on_wake(&mut self, cx: &mut Cx<'_>) -> Result<Flow> {
        self.op.on_wake(cx)
    }
    fn before_barrier(&mut self, barrier: &Barrier, cx: &mut Cx<'_>) -> Result<Flow> {
        self.op.before_barrier(barrier, cx)
    }
    fn snapshot_lists(&mut self) -> Result<Lists> {
        self.op.snapshot_lists()
    }
    fn on_end(&mut self, cx: &mut Cx<'_>) -> Result<Flow> {
        self.op.on_end(cx)
    }
}

/// What is watched over all calls of a case.
#[derive(Default)]
struct Watch {
    under_way: usize,
    most: usize,
    /// Calls that failed, by row.
    failed: BTreeMap<u64, u32>,
}

type Options = AsyncOptions<u64, u64, Failure>;

fn options(mode: AsyncMode) -> Options {
    AsyncOptions {
        capacity: 4,
        ..AsyncOptions::new(mode)
    }
}

/// Squares rows by calls that take up to 20 ms; `fate` says how a call for a row ends, by how many of them failed before.
fn squares(
    options: impl Fn() -> Options + Clone + Send + Sync + 'static,
    fate: impl Fn(u64, u32) -> Result<Duration> + Clone + Send + Sync + 'static,
    most: Arc<Mutex<usize>>,
) -> Verification {
    let subject = move || {
        let (options, fate) = (Arc::new(options()), fate.clone());
        let (world, watch) = (World::default(), Arc::new(Mutex::new(Watch::default())));
        let most = most.clone();
        Subject::made_by("AsyncOperator", move || {
            let (of_calls, fate, watch, most) = (world.clone(), fate.clone(), watch.clone(), most.clone());
            let call = move |row: u64| {
                let env = of_calls.get().unwrap().clone();
                let (fate, watch, most) = (fate.clone(), watch.clone(), most.clone());
                async move {
                    let failed = {
                        let mut watch = watch.lock().unwrap();
                        watch.under_way += 1;
                        watch.most = watch.most.max(watch.under_way);
                        let mut most = most.lock().unwrap();
                        *most = watch.most.max(*most);
                        watch.failed.get(&row).copied().unwrap_or(0)
                    };
                    let fate = fate(row, failed);
                    let wait = fate.as_ref().map_or(Duration::ZERO, |wait| *wait);
                    env.sleep(wait + Duration::from_millis(env.random_u64() % 20))
                        .await;
                    let mut watch = watch.lock().unwrap();
                    watch.under_way -= 1;
                    if fate.is_err() {
                        *watch.failed.entry(row).or_default() += 1;
                    }
                    fate.map(|_| row * row)
                }
            };
            let op = AsyncOperator::new(call, options.clone());
            let world = world.clone();
            Ok(Box::new(InWorld { world, op }) as Box<dyn Operator>)
        })
    };
    verify_operator(subject)
}

fn at_once(_: u64, _: u32) -> Result<Duration> {
    Ok(Duration::ZERO)
}

/// Rows with watermarks between some of them.
fn input() -> Vec<Event> {
    let mut events = vec![];
    for row in 0..14u64 {
        events.push(Event::row(row).at(row as i64));
        if row % 4 == 3 {
            events.push(Event::watermark(row as i64));
        }
    }
    events.push(Event::watermark(i64::MAX));
    events
}

fn all_squares() -> impl Iterator<Item = u64> {
    (0..14u64).map(|row| row * row)
}

#[test]
fn ordered_calls() {
    let most = Arc::new(Mutex::new(0));
    squares(|| options(AsyncMode::ordered()), at_once, most.clone())
        .input(input())
        .expect(Order::Exact, all_squares())
        .verify();
    assert!(*most.lock().unwrap() > 1, "one call at a time");
}

#[test]
fn unordered_calls_keep_their_side_of_watermarks() {
    squares(|| options(AsyncMode::unordered()), at_once, Arc::default())
        .input(input())
        .expect(Order::Multiset, all_squares())
        .verify();
}

#[test]
fn one_call_at_a_time() {
    let one = || Options {
        capacity: 1,
        ..options(AsyncMode::unordered())
    };
    squares(one, at_once, Arc::default())
        .input(input())
        .expect(Order::Exact, all_squares())
        .verify();
}

#[test]
fn calls_that_fail_are_made_again() {
    let again = || Options {
        retry: Some((
            AsyncRetry::exponential(3, Duration::from_millis(3), Duration::from_millis(9), 2.0),
            Arc::new(|error: &Failure| error.message == "not yet"),
        )),
        ..options(AsyncMode::ordered())
    };
    let fate = |row, failed| match failed {
        // A crash may have come between the attempts: never more than two fail for a row.
        0 | 1 if row % 3 == 0 => Err(Failure::external("not yet")),
        _ => Ok(Duration::ZERO),
    };
    squares(again, fate, Arc::default())
        .input(input())
        .expect(Order::Exact, all_squares())
        .verify();
}

#[test]
fn calls_that_take_too_long_come_to_a_value() {
    let timed = || Options {
        timeout: Some(Duration::from_millis(60)),
        on_timeout: Some(Arc::new(|row| 1_000 + row)),
        ..options(AsyncMode::unordered())
    };
    let fate = |row, _| {
        Ok(match row % 5 {
            1 => Duration::from_secs(3_600),
            _ => Duration::ZERO,
        })
    };
    squares(timed, fate, Arc::default())
        .input(input())
        .expect(
            Order::Multiset,
            (0..14u64).map(|row| if row % 5 == 1 { 1_000 + row } else { row * row }),
        )
        .verify();
}

/// The message of the failure that ends a verification.
fn failure_of(verification: Verification) -> String {
    let verify = std::panic::AssertUnwindSafe(|| verification.verify());
    let panic = std::panic::catch_unwind(verify).unwrap_err();
    panic.downcast_ref::<String>().unwrap().clone()
}

#[test]
fn a_failed_call_a_late_one_and_a_panic_name_the_row() {
    let failing = |fate: fn(u64, u32) -> Result<Duration>, options: fn() -> Options| {
        let squares = squares(options, fate, Arc::default());
        failure_of(squares.input(input()).expect(Order::Exact, all_squares()))
    };
    let plain: fn() -> Options = || options(AsyncMode::ordered());
    let refused = failing(
        |row, _| match row {
            7 => Err(Failure::external("refused")),
            _ => Ok(Duration::ZERO),
        },
        plain,
    );
    assert!(refused.contains("the call for row 7: refused"), "{refused}");
    let late = failing(
        |row, _| Ok(Duration::from_secs(if row == 5 { 900 } else { 0 })),
        || Options {
            timeout: Some(Duration::from_millis(100)),
            ..options(AsyncMode::ordered())
        },
    );
    assert!(
        late.contains("the call for row 5: no answer within 100ms"),
        "{late}"
    );
    let panicking = failing(
        |row, _| {
            if row == 9 {
                panic!("nine")
            } else {
                Ok(Duration::ZERO)
            }
        },
        plain,
    );
    assert!(
        panicking.contains("the call for row 9: panicked: nine"),
        "{panicking}"
    );
}
