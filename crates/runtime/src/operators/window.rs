//! Event-time windows: one accumulator a key and window, a table a window. Firing drains the table slice by slice.
//!
//! A row belongs to the window its event time lies in. A window fires when the watermark reaches its last millisecond,
//! and is gone then; a row that comes later is late: dropped and counted, or sent to the late output.
//! Non-goals: sliding and session windows, triggers, allowed lateness.

use super::keyed::{Opened, no_time, not_open};
use crate::cursor::RowCursor;
use crate::operator::{Cx, Flow, OpenCx, Operator};
use rivermark_data::{Data, Key as KeyType, Typed};
use rivermark_state::WindowState;
use rivermark_types::{InputId, Result, Timestamp};
use serde::{Deserialize, Serialize};
use std::marker::PhantomData;
use std::time::Duration;

/// The output port of late rows.
pub const LATE_PORT: u8 = 1;

/// A span of event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Window {
    /// The first time inside.
    pub start: Timestamp,
    /// The first time behind it.
    pub end: Timestamp,
}

impl Window {
    /// The last time inside: the time of what the window emits, and the watermark at which it does.
    pub fn last(&self) -> Timestamp {
        self.end.plus_ms(-1)
    }
}

/// Windows one behind the other, each of the same size, that leave no gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tumbling {
    size_ms: i64,
    offset_ms: i64,
}

impl Tumbling {
    /// Windows of a size, in whole milliseconds and at least one, that begin at multiples of it since 1970 (UTC).
    pub fn of(size: Duration) -> Tumbling {
        let size_ms = i64::try_from(size.as_millis()).unwrap_or(i64::MAX).max(1);
        Tumbling {
            size_ms,
            offset_ms: 0,
        }
    }

    /// The same windows, beginning so much later: for days of another time zone, for example.
    pub fn with_offset(self, offset: Duration) -> Tumbling {
        let offset_ms = i64::try_from(offset.as_millis()).unwrap_or(i64::MAX) % self.size_ms;
        Tumbling { offset_ms, ..self }
    }

    /// The window that a time lies in. At the ends of all time windows are cut short.
    #[inline]
    pub fn window_of(&self, time: Timestamp) -> Window {
        let into = time.0.saturating_sub(self.offset_ms).rem_euclid(self.size_ms);
        let start = time.0.saturating_sub(into);
        Window {
            start: Timestamp(start),
            end: Timestamp(start.saturating_add(self.size_ms)),
        }
    }

    /// The window that ends at a time.
    fn window_to(&self, end: Timestamp) -> Window {
        Window {
            start: Timestamp(end.0.saturating_sub(self.size_ms)),
            end,
        }
    }
}

/// How the rows of a key and window become one.
pub trait Aggregate<K>: Clone + Send + Sync + 'static {
    /// What goes in.
    type Input: Data;
    /// What is kept; a window begins with the default.
    type Acc: Data + Default;
    /// What comes out.
    type Output: Data;
    /// Takes a row in.
    fn add(&self, acc: &mut Self::Acc, row: Self::Input);
    /// The result, when the window fires.
    fn result(&self, key: &K, window: Window, acc: Self::Acc) -> Self::Output;
}

/// An [`Aggregate`] of two closures.
pub struct Fold<K, I, A, O, Add, Finish> {
    add: Add,
    finish: Finish,
    types: PhantomData<fn(K, I, A) -> O>,
}

impl<K, I, A, O, Add, Finish> Fold<K, I, A, O, Add, Finish>
where
    Add: Fn(&mut A, I),
    Finish: Fn(&K, Window, A) -> O,
{
    /// `add` takes a row in, `finish` makes the result.
    pub fn new(add: Add, finish: Finish) -> Self {
        Fold {
            add,
            finish,
            types: PhantomData,
        }
    }
}

impl<K, I, A, O, Add: Clone, Finish: Clone> Clone for Fold<K, I, A, O, Add, Finish> {
    fn clone(&self) -> Self {
        Fold {
            add: self.add.clone(),
            finish: self.finish.clone(),
            types: PhantomData,
        }
    }
}

impl<K, I, A, O, Add, Finish> Aggregate<K> for Fold<K, I, A, O, Add, Finish>
where
    K: 'static,
    I: Data,
    A: Data + Default,
    O: Data,
    Add: Fn(&mut A, I) + Clone + Send + Sync + 'static,
    Finish: Fn(&K, Window, A) -> O + Clone + Send + Sync + 'static,
{
    type Input = I;
    type Acc = A;
    type Output = O;
    #[inline]
    fn add(&self, acc: &mut A, row: I) {
        (self.add)(acc, row);
    }
    fn result(&self, key: &K, window: Window, acc: A) -> O {
        (self.finish)(key, window, acc)
    }
}

/// What becomes of late rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LateRows {
    /// Dropped and counted.
    Drop,
    /// Sent to [`LATE_PORT`].
    Emit,
}

/// Aggregates rows by key and window.
pub struct WindowOperator<K: KeyType, F, A: Aggregate<K>> {
    select: F,
    windows: Tumbling,
    aggregate: A,
    late: LateRows,
    opened: Option<(Opened<K>, WindowState<K, A::Acc>)>,
}

impl<K: KeyType, F, A: Aggregate<K>> WindowOperator<K, F, A> {
    /// An operator for rows whose key `select` gives.
    pub fn new(select: F, windows: Tumbling, aggregate: A, late: LateRows) -> Self {
        WindowOperator {
            select,
            windows,
            aggregate,
            late,
            opened: None,
        }
    }
}

impl<K, F, A> Operator for WindowOperator<K, F, A>
where
    K: KeyType,
    F: Fn(&A::Input) -> K + 'static,
    A: Aggregate<K>,
{
    fn open(&mut self, cx: &mut OpenCx<'_>) -> Result<()> {
        let state = cx.keyed()?.windows("windows")?;
        self.opened = Some((Opened::new(cx, |_| Ok(()))?, state));
        Ok(())
    }

    fn on_batch(&mut self, _: InputId, rows: &mut RowCursor<'_>, cx: &mut Cx<'_>) -> Result<Flow> {
        let (opened, state) = self.opened.as_mut().ok_or_else(not_open)?;
        let rows = rows.typed::<A::Input>()?;
        opened.check(rows, &self.select)?;
        let (watermark, room) = (cx.watermark(), cx.room());
        let (mut late, mut dropped) = (Typed::default(), 0);
        let mut result = Ok(());
        rows.each_row(|row, time| {
            let Some(at) = time else {
                result = Err(no_time("a row of a window"));
                return false;
            };
            let window = self.windows.window_of(at);
            if window.last() > watermark {
                let key = opened.key((self.select)(&row));
                self.aggregate
                    .add(state.update_or_else(window.end, &key, A::Acc::default), row);
            } else if self.late == LateRows::Emit {
                late.push(row, time);
            } else {
                dropped += 1;
            }
            late.len() < room
        });
        result?;
        let flow = if rows.is_exhausted() {
            Flow::Done
        } else {
            Flow::More
        };
        cx.count_late(dropped);
        cx.emit(LATE_PORT, late);
        Ok(flow)
    }

    fn on_watermark(&mut self, watermark: Timestamp, cx: &mut Cx<'_>) -> Result<Flow> {
        let (_, state) = self.opened.as_mut().ok_or_else(not_open)?;
        let room = cx.room();
        let mut out = Typed::default();
        let flow = loop {
            let due = state.first_end().map(|end| self.windows.window_to(end));
            let Some(window) = due.filter(|window| window.last() <= watermark) else {
                break Flow::Done;
            };
            if out.len() >= room {
                break Flow::More;
            }
            state.drain_slice(window.end, room - out.len(), |key, acc| {
                out.push(self.aggregate.result(&key, window, acc), Some(window.last()));
            });
        };
        cx.emit(0, out);
        Ok(flow)
    }
}
