//! The I/O side of async calls: one task a subtask, in which the calls of its rows are polled, each only when it was woken.
//!
//! A seat holds one call after the other: its memory and its waker are made once. So a row costs what the user's future does,
//! its share of two locks, and nothing else. Time-outs share one alarm, since all calls may take equally long.

use super::options::{AsyncRetry, RetryIf};
use crate::waker::SlotWaker;
use rivermark_env::{BoxFuture, Env, catch_panic};
use rivermark_types::{Failure, Millis, Result};
use std::any::Any;
use std::collections::VecDeque;
use std::fmt::Display;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// After so many rounds in one poll the task lets others have the thread.
const ROUNDS: usize = 32;

/// What the calls for a row came to.
pub(super) enum Outcome<O> {
    Value(O),
    Failed(Failure),
    TimedOut,
}

/// What operator and I/O task hand each other, by the row's place in the operator's book.
pub(super) struct Shared<I, O> {
    todo: Mutex<Vec<(usize, I)>>,
    done: Mutex<Vec<(usize, Outcome<O>)>>,
    bell: Arc<Bell>,
}

impl<I, O> Default for Shared<I, O> {
    fn default() -> Self {
        Shared {
            todo: Mutex::default(),
            done: Mutex::default(),
            bell: Arc::default(),
        }
    }
}

impl<I, O> Shared<I, O> {
    /// Hands rows over.
    pub(super) fn submit(&self, rows: &mut Vec<(usize, I)>) {
        locked(&self.todo).append(rows);
        self.bell.ring(None);
    }

    /// Takes what came back.
    pub(super) fn take_done(&self, into: &mut Vec<(usize, Outcome<O>)>) {
        std::mem::swap(&mut *locked(&self.done), into);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What wakes the I/O task, and which seats are to be polled.
#[derive(Default)]
struct Bell(Mutex<Rung>);

#[derive(Default)]
struct Rung {
    seats: Vec<usize>,
    task: Option<Waker>,
}

impl Bell {
    fn ring(&self, seat: Option<usize>) {
        let task = {
            let mut rung = locked(&self.0);
            rung.seats.extend(seat);
            rung.task.take()
        };
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Takes the seats that were rung for; the task is woken at the next ring.
    fn answer(&self, seats: &mut Vec<usize>, task: &Waker) {
        let mut rung = locked(&self.0);
        seats.append(&mut rung.seats);
        rung.task = Some(task.clone());
    }
}

struct SeatBell {
    seat: usize,
    bell: Arc<Bell>,
}

impl Wake for SeatBell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.bell.ring(Some(self.seat));
    }
}

/// What all calls have in common.
pub(super) struct Job<F, E> {
    pub(super) call: F,
    pub(super) retry: Option<(AsyncRetry, RetryIf<E>)>,
    pub(super) env: Env,
}

/// Calls for a row until one succeeds or none is left.
async fn calls<I, O, E, F, Fut>(job: Arc<Job<F, E>>, row: I) -> Result<O>
where
    I: Clone,
    E: Display + Send + 'static,
    F: Fn(I) -> Fut,
    Fut: Future<Output = Result<O, E>>,
{
    let Some((strategy, retry_if)) = &job.retry else {
        return (job.call)(row).await.map_err(failure_of);
    };
    let mut failed = 0;
    loop {
        let error = match (job.call)(row.clone()).await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        failed += 1;
        match strategy.wait(failed) {
            Some(wait) if retry_if(&error) => {
                drop(error);
                job.env.sleep(wait).await;
            }
            _ => return Err(failure_of(error)),
        }
    }
}

/// An error of a call. One that says of which kind it is stays that; the others are another system's.
fn failure_of<E: Display + 'static>(error: E) -> Failure {
    match (&error as &dyn Any).downcast_ref::<Failure>() {
        Some(failure) => Failure::new(failure.kind, failure.to_string()),
        None => Failure::external(error.to_string()),
    }
}

/// Makes the calls of one operator; ends only by being aborted.
pub(super) async fn drive<I, O, E, F, Fut>(
    job: Job<F, E>,
    shared: Arc<Shared<I, O>>,
    waker: SlotWaker,
    capacity: usize,
    timeout: Option<Duration>,
) where
    I: Clone,
    E: Display + Send + 'static,
    F: Fn(I) -> Fut,
    Fut: Future<Output = Result<O, E>>,
{
    let env = job.env.clone();
    let job = Arc::new(job);
    let mut driver = Driver {
        start: |row| calls(job.clone(), row),
        shared,
        waker,
        capacity: capacity.max(1),
        waiting: VecDeque::new(),
        seats: vec![],
        free: vec![],
        awake: vec![],
        finished: vec![],
        deadlines: Deadlines::new(env, timeout),
    };
    poll_fn(|cx| driver.poll(cx)).await
}

struct Seat<Fut> {
    call: Pin<Box<Option<Fut>>>,
    /// The place of its row.
    at: usize,
    /// Tells the calls apart that have the seat one after the other.
    number: u64,
    waker: Waker,
}

struct Driver<I, O, S, Fut> {
    start: S,
    shared: Arc<Shared<I, O>>,
    waker: SlotWaker,
    capacity: usize,
    /// Rows beyond the capacity: there are some only after a restore with fewer subtasks.
    waiting: VecDeque<(usize, I)>,
    seats: Vec<Seat<Fut>>,
    free: Vec<usize>,
    awake: Vec<usize>,
    finished: Vec<(usize, Outcome<O>)>,
    deadlines: Deadlines,
}

impl<I, O, S, Fut> Driver<I, O, S, Fut>
where
    S: Fn(I) -> Fut,
    Fut: Future<Output = Result<O>>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..ROUNDS {
            self.shared.bell.answer(&mut self.awake, cx.waker());
            self.waiting.extend(locked(&self.shared.todo).drain(..));
            self.seat_waiting();
            let mut awake = std::mem::take(&mut self.awake);
            let is_idle = awake.is_empty();
            awake.drain(..).for_each(|seat| self.poll_seat(seat));
            self.awake = awake;
            while let Some((seat, number)) = self.deadlines.passed(cx) {
                self.time_out(seat, number);
            }
            if !self.finished.is_empty() {
                locked(&self.shared.done).append(&mut self.finished);
                self.waker.wake();
            } else if is_idle {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Begins calls, as far as the capacity goes.
    fn seat_waiting(&mut self) {
        while self.seats.len() - self.free.len() < self.capacity {
            let Some((at, row)) = self.waiting.pop_front() else {
                return;
            };
            let seat = self.free.pop().unwrap_or_else(|| self.new_seat());
            let Seat {
                call, at: of, number, ..
            } = &mut self.seats[seat];
            *of = at;
            *number += 1;
            let number = *number;
            let start = &self.start;
            match catch_panic(|| start(row)) {
                Ok(future) => call.as_mut().set(Some(future)),
                Err(panic) => {
                    self.leave(seat, Outcome::Failed(panicked(&panic)));
                    continue;
                }
            }
            self.awake.push(seat);
            let seats = &self.seats;
            self.deadlines
                .begin(seat, number, |seat, number| seats[seat].number == number);
        }
    }

    fn new_seat(&mut self) -> usize {
        let seat = self.seats.len();
        let bell = self.shared.bell.clone();
        self.seats.push(Seat {
            call: Box::pin(None),
            at: 0,
            number: 0,
            waker: Waker::from(Arc::new(SeatBell { seat, bell })),
        });
        seat
    }

    fn poll_seat(&mut self, seat: usize) {
        let Seat { call, waker, .. } = &mut self.seats[seat];
        // Empty where a waker of an earlier call rang.
        let Some(call) = call.as_mut().as_pin_mut() else {
            return;
        };
        let outcome = match catch_panic(|| call.poll(&mut Context::from_waker(waker))) {
            Ok(Poll::Pending) => return,
            Ok(Poll::Ready(Ok(value))) => Outcome::Value(value),
            Ok(Poll::Ready(Err(failure))) => Outcome::Failed(failure),
            Err(panic) => Outcome::Failed(panicked(&panic)),
        };
        self.leave(seat, outcome);
    }

    fn time_out(&mut self, seat: usize, number: u64) {
        let Seat {
            call, number: now, ..
        } = &self.seats[seat];
        if *now == number && call.is_some() {
            self.leave(seat, Outcome::TimedOut);
        }
    }

    fn leave(&mut self, seat: usize, outcome: Outcome<O>) {
        let Seat { call, at, .. } = &mut self.seats[seat];
        let at = *at;
        // A future may panic when it is dropped, too.
        let outcome = match catch_panic(|| call.as_mut().set(None)) {
            Ok(()) => outcome,
            Err(panic) => Outcome::Failed(panicked(&panic)),
        };
        self.free.push(seat);
        self.finished.push((at, outcome));
    }
}

fn panicked(said: &str) -> Failure {
    Failure::bug(format!("panicked: {said}"))
}

/// Until when which call may take, in the order in which they began.
struct Deadlines {
    env: Env,
    timeout: Option<Duration>,
    line: VecDeque<(Millis, usize, u64)>,
    alarm: Option<BoxFuture<'static, ()>>,
}

impl Deadlines {
    fn new(env: Env, timeout: Option<Duration>) -> Deadlines {
        Deadlines {
            env,
            timeout,
            line: VecDeque::new(),
            alarm: None,
        }
    }

    /// A call begins. Most calls end long before their deadline: what is not `under_way` any more is swept out, now and then.
    fn begin(&mut self, seat: usize, number: u64, under_way: impl Fn(usize, u64) -> bool) {
        const SWEPT_OVER: usize = 1024;
        let Some(timeout) = self.timeout else { return };
        if self.line.len() == self.line.capacity() && self.line.len() >= SWEPT_OVER {
            self.line.retain(|(_, seat, number)| under_way(*seat, *number));
        }
        self.line.push_back((self.env.now().after(timeout), seat, number));
    }

    /// A call whose time is over, or which ended before; sees to it that the task is woken at the next deadline.
    fn passed(&mut self, cx: &mut Context<'_>) -> Option<(usize, u64)> {
        loop {
            let (deadline, seat, number) = *self.line.front()?;
            let now = self.env.now();
            if deadline <= now {
                self.line.pop_front();
                return Some((seat, number));
            }
            let alarm = self
                .alarm
                .get_or_insert_with(|| self.env.sleep(deadline.since(now)));
            match alarm.as_mut().poll(cx) {
                Poll::Ready(()) => self.alarm = None,
                Poll::Pending => return None,
            }
        }
    }
}
