//! The operators of scenarios, as a user would write them: their output depends only on which rows there were.

use super::rows::{Input, Output, Weighed};
use rivermark_data::Data;
use rivermark_runtime::{Cx, Flow, OpenCx, Operator, RowCursor};
use rivermark_stream::{
    Failure, Key, KeyedOp, KeyedOp2, KeyedOpenCx, ListState, MapState, Out, Result, Timed, Timer, Timers,
    Timestamp, ValueState,
};
use rivermark_types::InputId;
use std::sync::{Arc, Mutex, PoisonError};

fn not_open() -> Failure {
    Failure::bug("a scenario's operator was called before it was opened")
}

/// The end of the bucket of time that a time lies in.
fn bucket_end(time: i64, width: i64) -> i64 {
    (time.div_euclid(width) + 1) * width
}

/// Sums rows per key and bucket of time; when a bucket's timer fires, emits what the key has come to so far.
#[derive(Default)]
pub(crate) struct Buckets {
    width: i64,
    handles: Option<BucketState>,
}

struct BucketState {
    total: ValueState<u32, (i64, u64)>,
    open: MapState<u32, i64, (i64, u64)>,
    timers: Timers<u32>,
}

impl Buckets {
    /// Buckets of so many milliseconds.
    pub(crate) fn of(width: i64) -> Buckets {
        Buckets {
            width: width.max(1),
            handles: None,
        }
    }

    /// A second timer of each bucket, deleted by the first.
    fn far(&self, end: i64) -> Timestamp {
        Timestamp(end + 8 * self.width)
    }
}

impl<I: Data + Weighed> KeyedOp<u32, I, Output> for Buckets {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u32>) -> Result<()> {
        self.handles = Some(BucketState {
            total: cx.value("total")?,
            open: cx.map("open")?,
            timers: cx.timers()?,
        });
        Ok(())
    }

    fn row(&mut self, key: &Key<u32>, row: Timed<I>, _out: &mut Out<Output>) -> Result<()> {
        let end = bucket_end(row.event_time()?.0, self.width);
        let far = self.far(end);
        let state = self.handles.as_mut().ok_or_else(not_open)?;
        let (sum, count) = row.value.weight();
        let bucket = state.open.update(key, end);
        *bucket = (bucket.0 + sum, bucket.1 + count);
        state.timers.register(key, Timestamp(end - 1));
        state.timers.register(key, far);
        Ok(())
    }

    fn timer(&mut self, key: &Key<u32>, at: Timer, out: &mut Out<Output>) -> Result<()> {
        let end = at.time.0 + 1;
        let far = self.far(end);
        let state = self.handles.as_mut().ok_or_else(not_open)?;
        let Some((sum, count)) = state.open.remove(key, &end) else {
            return Ok(());
        };
        state.timers.delete(key, far);
        let total = state.total.update(key);
        *total = (total.0 + sum, total.1 + count);
        out.emit(Output {
            key: key.value,
            time: end,
            sum: total.0,
            count: total.1,
        });
        Ok(())
    }
}

/// Keeps the rows of both sides; when a bucket's timer fires, emits its pairs.
#[derive(Default)]
pub(crate) struct Join {
    width: i64,
    handles: Option<JoinState>,
}

struct JoinState {
    left: ListState<String, Input>,
    right: ListState<String, Input>,
    timers: Timers<String>,
}

impl Join {
    /// A join in buckets of so many milliseconds.
    pub(crate) fn of(width: i64) -> Join {
        Join {
            width: width.max(1),
            handles: None,
        }
    }

    fn keep(
        &mut self,
        key: &Key<String>,
        row: Timed<Input>,
        side: fn(&mut JoinState) -> &mut ListState<String, Input>,
    ) -> Result<()> {
        let end = bucket_end(row.event_time()?.0, self.width);
        let state = self.handles.as_mut().ok_or_else(not_open)?;
        side(state).push(key, row.value);
        state.timers.register(key, Timestamp(end - 1));
        Ok(())
    }
}

/// Takes the rows before a time out of a list.
fn take_before(list: &mut ListState<String, Input>, key: &Key<String>, end: i64) -> Vec<Input> {
    let (due, rest) = list.clear(key).into_iter().partition(|row| row.time < end);
    list.set(key, rest);
    due
}

impl KeyedOp2<String, Input, Input, Output> for Join {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, String>) -> Result<()> {
        self.handles = Some(JoinState {
            left: cx.list("left")?,
            right: cx.list("right")?,
            timers: cx.timers()?,
        });
        Ok(())
    }

    fn left(&mut self, key: &Key<String>, row: Timed<Input>, _out: &mut Out<Output>) -> Result<()> {
        self.keep(key, row, |state| &mut state.left)
    }

    fn right(&mut self, key: &Key<String>, row: Timed<Input>, _out: &mut Out<Output>) -> Result<()> {
        self.keep(key, row, |state| &mut state.right)
    }

    fn timer(&mut self, key: &Key<String>, at: Timer, out: &mut Out<Output>) -> Result<()> {
        let end = at.time.0 + 1;
        let state = self.handles.as_mut().ok_or_else(not_open)?;
        let left = take_before(&mut state.left, key, end);
        let right = take_before(&mut state.right, key, end);
        let sum = |rows: &[Input]| rows.iter().map(|row| row.value).sum::<i64>();
        let first = left.first().or(right.first());
        if let Some(first) = first {
            out.emit(Output {
                key: first.key,
                time: end,
                sum: sum(&left) - 3 * sum(&right),
                count: (left.len() * 1000 + right.len()) as u64,
            });
        }
        Ok(())
    }
}

/// A sink without transactions: what comes is out at once.
pub(crate) struct DirectSink {
    pub(crate) out: Arc<Mutex<Vec<Output>>>,
}

impl Operator for DirectSink {
    fn open(&mut self, _cx: &mut OpenCx<'_>) -> Result<()> {
        Ok(())
    }

    fn on_batch(&mut self, _input: InputId, rows: &mut RowCursor<'_>, _cx: &mut Cx<'_>) -> Result<Flow> {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        rows.typed::<Output>()?.each_row(|row, _| {
            out.push(row);
            true
        });
        Ok(if rows.remaining() == 0 {
            Flow::Done
        } else {
            Flow::More
        })
    }
}
