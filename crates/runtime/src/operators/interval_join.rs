//! Pairs of rows of two keyed streams whose times are near: each row is kept as long as one of the other stream may still
//! come for it.
//!
//! A key's rows of both streams lie in one row of state, by time. Its timer is at or before the time at which the first of
//! them has no partner to wait for any more. Rows behind the watermark are late: dropped and counted, or sent aside.
//! Non-goals: outer joins.

use super::keyed::{Opened, Out, no_time, not_open};
use crate::cursor::RowCursor;
use crate::operator::{Cx, Flow, OpenCx, Operator};
use crate::operators::window::LateRows;
use rivermark_data::{Data, Key as KeyType, Typed};
use rivermark_state::{Key, Timers, ValueState};
use rivermark_types::{Failure, InputId, Result, Timestamp};
use serde::{Deserialize, Serialize};
use std::marker::PhantomData;

/// The output port of late rows of the left stream.
pub const LEFT_LATE_PORT: u8 = 1;
/// The output port of late rows of the right stream.
pub const RIGHT_LATE_PORT: u8 = 2;

/// How much later than the left row the right one may be, in milliseconds; negative is earlier. Both bounds belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// The least.
    pub lower_ms: i64,
    /// The most.
    pub upper_ms: i64,
}

impl Interval {
    /// The watermark at which a left row of a time has no partner to wait for.
    fn left_gone_at(self, time: Timestamp) -> Timestamp {
        time.plus_ms(self.upper_ms.max(0))
    }
    /// The same for a right row.
    fn right_gone_at(self, time: Timestamp) -> Timestamp {
        time.plus_ms(self.lower_ms.saturating_neg().max(0))
    }
}

/// The rows of a key, each side by time.
#[derive(Clone, Serialize, Deserialize)]
struct Waiting<L, R> {
    /// When the key's timer fires.
    wake: Option<Timestamp>,
    left: Vec<(Timestamp, L)>,
    right: Vec<(Timestamp, R)>,
}

impl<L, R> Default for Waiting<L, R> {
    fn default() -> Self {
        Waiting {
            wake: None,
            left: vec![],
            right: vec![],
        }
    }
}

impl<L, R> Waiting<L, R> {
    /// The first time at which a row is not needed any more.
    fn next(&self, interval: Interval) -> Option<Timestamp> {
        let left = self.left.first().map(|(time, _)| interval.left_gone_at(*time));
        let right = self.right.first().map(|(time, _)| interval.right_gone_at(*time));
        left.into_iter().chain(right).min()
    }

    fn drop_until(&mut self, watermark: Timestamp, interval: Interval) {
        let left = |(time, _): &(Timestamp, L)| interval.left_gone_at(*time) <= watermark;
        self.left.drain(..self.left.partition_point(left));
        let right = |(time, _): &(Timestamp, R)| interval.right_gone_at(*time) <= watermark;
        self.right.drain(..self.right.partition_point(right));
    }

    /// Sets the key's timer if it would fire too late, or not at all.
    fn wake_in_time<K: KeyType>(&mut self, key: &Key<K>, timers: &mut Timers<K>, interval: Interval) {
        let is_late = |next: &Timestamp| self.wake.is_none_or(|wake| *next < wake);
        if let Some(next) = self.next(interval).filter(is_late) {
            if let Some(old) = self.wake.replace(next) {
                timers.delete(key, old);
            }
            timers.register(key, next);
        }
    }
}

/// The rows from one time to another, both included.
fn within<T>(rows: &[(Timestamp, T)], from: Timestamp, to: Timestamp) -> &[(Timestamp, T)] {
    let first = rows.partition_point(|(time, _)| *time < from);
    let behind = rows.partition_point(|(time, _)| *time <= to);
    &rows[first..behind.max(first)]
}

fn insert<T>(rows: &mut Vec<(Timestamp, T)>, time: Timestamp, row: T) {
    let at = rows.partition_point(|(other, _)| *other <= time);
    rows.insert(at, (time, row));
}

/// Joins rows of two keyed streams by key and time: input 0 is the left one, input 1 the right one. A pair has the time of the
/// later of the two.
pub struct IntervalJoinOperator<K: KeyType, L: Data, R: Data, O, F, G, J> {
    select_left: F,
    select_right: G,
    interval: Interval,
    join: J,
    late: LateRows,
    opened: Option<(Opened<K>, Timers<K>)>,
    waiting: ValueState<K, Waiting<L, R>>,
    rows: PhantomData<fn() -> O>,
}

impl<K: KeyType, L: Data, R: Data, O, F, G, J: Fn(&L, &R) -> O> IntervalJoinOperator<K, L, R, O, F, G, J> {
    /// An operator for rows whose keys the selectors give.
    pub fn new(select_left: F, select_right: G, interval: Interval, join: J, late: LateRows) -> Self {
        IntervalJoinOperator {
            select_left,
            select_right,
            interval,
            join,
            late,
            opened: None,
            waiting: ValueState::default(),
            rows: PhantomData,
        }
    }
}

/// Hands the rows of a slice that are not late to `each`, and the late ones to a port.
fn each_in_time<K: KeyType, I: Data, O: Data>(
    opened: &mut Opened<K>,
    rows: &mut RowCursor<'_>,
    cx: &mut Cx<'_>,
    select: &impl Fn(&I) -> K,
    late: (LateRows, u8),
    mut each: impl FnMut(&Key<K>, I, Timestamp, &mut Out<O>),
) -> Result<Flow> {
    let rows = rows.typed::<I>()?;
    opened.check(rows, select)?;
    let (watermark, room) = (cx.watermark(), cx.room());
    let mut out = Out::new(0, cx);
    let (mut aside, mut dropped) = (Typed::default(), 0);
    let mut result = Ok(());
    opened.each_keyed(rows, select, |key, row, time| {
        let Some(at) = time else {
            result = Err(no_time("a row of an interval join"));
            return false;
        };
        if at >= watermark {
            each(key, row, at, &mut out);
        } else if late.0 == LateRows::Emit {
            aside.push(row, time);
        } else {
            dropped += 1;
        }
        aside.len() < room && out.len() < room
    });
    result?;
    cx.count_late(dropped);
    cx.emit(0, out.into_rows());
    cx.emit(late.1, aside);
    Ok(match rows.is_exhausted() {
        true => Flow::Done,
        false => Flow::More,
    })
}

impl<K, L, R, O, F, G, J> Operator for IntervalJoinOperator<K, L, R, O, F, G, J>
where
    K: KeyType,
    L: Data,
    R: Data,
    O: Data,
    F: Fn(&L) -> K + 'static,
    G: Fn(&R) -> K + 'static,
    J: Fn(&L, &R) -> O + 'static,
{
    fn open(&mut self, cx: &mut OpenCx<'_>) -> Result<()> {
        self.waiting = cx.keyed()?.value("waiting")?;
        let mut timers = Timers::default();
        let opened = Opened::new(cx, |user| {
            timers = user.timers()?;
            Ok(())
        })?;
        self.opened = Some((opened, timers));
        Ok(())
    }

    fn on_batch(&mut self, input: InputId, rows: &mut RowCursor<'_>, cx: &mut Cx<'_>) -> Result<Flow> {
        let (opened, timers) = self.opened.as_mut().ok_or_else(not_open)?;
        let (waiting, join, interval) = (&mut self.waiting, &self.join, self.interval);
        let Interval { lower_ms, upper_ms } = interval;
        match input {
            InputId(0) => {
                let late = (self.late, LEFT_LATE_PORT);
                each_in_time(
                    opened,
                    rows,
                    cx,
                    &self.select_left,
                    late,
                    |key, row: L, at, out| {
                        let of_key = waiting.update(key);
                        for (time, right) in within(&of_key.right, at.plus_ms(lower_ms), at.plus_ms(upper_ms))
                        {
                            out.emit_at(join(&row, right), at.max(*time));
                        }
                        insert(&mut of_key.left, at, row);
                        of_key.wake_in_time(key, timers, interval);
                    },
                )
            }
            InputId(1) => {
                let (earliest, latest) = (upper_ms.saturating_neg(), lower_ms.saturating_neg());
                let late = (self.late, RIGHT_LATE_PORT);
                each_in_time(
                    opened,
                    rows,
                    cx,
                    &self.select_right,
                    late,
                    |key, row: R, at, out| {
                        let of_key = waiting.update(key);
                        for (time, left) in within(&of_key.left, at.plus_ms(earliest), at.plus_ms(latest)) {
                            out.emit_at(join(left, &row), at.max(*time));
                        }
                        insert(&mut of_key.right, at, row);
                        of_key.wake_in_time(key, timers, interval);
                    },
                )
            }
            other => Err(Failure::bug(format!(
                "an interval join has two inputs, rows came on {other}"
            ))),
        }
    }

    fn on_watermark(&mut self, watermark: Timestamp, cx: &mut Cx<'_>) -> Result<Flow> {
        let (opened, timers) = self.opened.as_mut().ok_or_else(not_open)?;
        let (waiting, interval) = (&mut self.waiting, self.interval);
        opened.fire(watermark, cx, |key, _, _: &mut Out<O>| {
            let of_key = waiting.update(key);
            of_key.wake = None;
            of_key.drop_until(watermark, interval);
            of_key.wake_in_time(key, timers, interval);
            if of_key.wake.is_none() {
                waiting.clear(key);
            }
            Ok(())
        })
    }
}
