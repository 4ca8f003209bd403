//! What a user writes behind a `key_by`, and the operator that runs it.
//!
//! State is in `self` (handles from `open`), key and output are arguments: nothing fights the borrow checker. Rows and
//! timers are handed over in slices, so that a barrier may pass between any two of them.

use super::ahead::Ahead;
use crate::cursor::{RowCursor, TypedRows};
use crate::metrics::{Counter, Gauge, Histogram, Meter, MetricGroup};
use crate::operator::{Cx, Flow, OpenCx, Operator, SubtaskInfo, no_keyed_state};
use crate::side::{AtHand, OutputTag, SideOutput, SideOutputs};
use rivermark_data::{Data, Key as KeyType, Typed};
use rivermark_state::{
    AggregateFunction, AggregatingState, Key, KeyedBackend, ListState, MapState, ReducingState, Timers,
    ValueState,
};
use rivermark_types::{Failure, InputId, Result, Timestamp, check_key};
use serde::{Deserialize, Serialize};
use std::marker::PhantomData;

/// A user's operator on a keyed stream: from rows of `I` to rows of `O`, with state and timers of its own for each key.
pub trait KeyedOp<K: KeyType, I: Data, O: Data>: 'static {
    /// Declares state and timers and keeps their handles.
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, K>) -> Result<()>;
    /// A row of a key.
    fn row(&mut self, key: &Key<K>, row: Timed<I>, out: &mut Out<O>) -> Result<()>;
    /// An event-time timer of a key is due.
    fn timer(&mut self, _key: &Key<K>, _at: Timer, _out: &mut Out<O>) -> Result<()> {
        Ok(())
    }
    /// A processing-time timer of a key is due ([`KeyedOpenCx::processing_timers`]). What it emits has no event time, unless
    /// [`Out::emit_at`] gives it one.
    fn processing_timer(&mut self, _key: &Key<K>, _at: Timer, _out: &mut Out<O>) -> Result<()> {
        Ok(())
    }
}

/// A row with its event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timed<T> {
    /// The row.
    pub value: T,
    /// When it happened, if the source has a watermark strategy.
    pub time: Option<Timestamp>,
}

impl<T> Timed<T> {
    /// The event time; fails where the source has none.
    pub fn event_time(&self) -> Result<Timestamp> {
        self.time.ok_or_else(|| no_time("a row"))
    }
}

/// A row without a time met something that needs one.
#[cold]
pub(super) fn no_time(what: &str) -> Failure {
    Failure::invalid(format!(
        "{what} has no event time: give the source a WatermarkStrategy, for example \
         WatermarkStrategy::bounded_out_of_orderness(Duration::from_secs(5)).with_timestamp(|row| row.time)"
    ))
}

/// A timer that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// The time it was registered for. The watermark, or processing time, is at or beyond it.
    pub time: Timestamp,
}

/// Where a user's operator puts its output.
#[derive(Debug)]
pub struct Out<O> {
    pub(super) rows: Typed<O>,
    pub(super) time: Option<Timestamp>,
    watermark: Timestamp,
    processing_time: Timestamp,
}

impl<O: 'static> Out<O> {
    pub(super) fn new(capacity: usize, cx: &Cx<'_>) -> Out<O> {
        Out {
            rows: Typed::with_room(capacity),
            time: None,
            watermark: cx.watermark(),
            processing_time: cx.processing_time(),
        }
    }

    /// Sets the time that rows get which are emitted without one.
    pub(super) fn set_time(&mut self, time: Option<Timestamp>) {
        self.time = time;
    }

    /// How many rows there are so far.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// What was emitted.
    pub(super) fn into_rows(self) -> Typed<O> {
        self.rows
    }

    /// Emits a row, with the time of the row or timer that is being handled.
    #[inline]
    pub fn emit(&mut self, value: O) {
        self.rows.push(value, self.time);
    }

    /// Emits a row with a time of its own.
    #[inline]
    pub fn emit_at(&mut self, value: O, time: Timestamp) {
        self.rows.push(value, Some(time));
    }

    /// The operator's watermark.
    pub fn watermark(&self) -> Timestamp {
        self.watermark
    }

    /// The processing time: milliseconds since 1970 (UTC) by this machine's clock. It is read once for a few milliseconds'
    /// worth of rows or timers, and never goes back while the process lives.
    pub fn processing_time(&self) -> Timestamp {
        self.processing_time
    }
}

/// What a user's operator opens itself with. Names are what a restore finds state by.
pub struct KeyedOpenCx<'a, K: KeyType> {
    pub(super) backend: &'a mut KeyedBackend,
    info: &'a SubtaskInfo,
    metrics: MetricGroup,
    sides: &'a mut SideOutputs,
    timers: Option<Timers<K>>,
    processing_timers: Option<Timers<K>>,
}

impl<K: KeyType> KeyedOpenCx<'_, K> {
    /// Declares one value a key.
    pub fn value<V: Data>(&mut self, name: &str) -> Result<ValueState<K, V>> {
        Ok(self.backend.value(name)?)
    }
    /// Declares a list a key.
    pub fn list<T: Data>(&mut self, name: &str) -> Result<ListState<K, T>> {
        Ok(self.backend.list(name)?)
    }
    /// Declares a map a key.
    pub fn map<MK: KeyType + Ord, MV: Data>(&mut self, name: &str) -> Result<MapState<K, MK, MV>> {
        Ok(self.backend.map(name)?)
    }
    /// Declares one value a key, to which `reduce` brings each row. It is a plain function: what needs more is an
    /// [`AggregateFunction`].
    pub fn reducing<T: Data>(&mut self, name: &str, reduce: fn(&mut T, T)) -> Result<ReducingState<K, T>> {
        Ok(self.backend.reducing(name, reduce)?)
    }
    /// Declares one accumulator a key.
    pub fn aggregating<A: AggregateFunction>(
        &mut self,
        name: &str,
        aggregate: A,
    ) -> Result<AggregatingState<K, A>> {
        Ok(self.backend.aggregating(name, aggregate)?)
    }
    /// Declares that the operator uses event-time timers.
    pub fn timers(&mut self) -> Result<Timers<K>> {
        let timers = match self.timers.take() {
            Some(timers) => timers,
            None => self.backend.timers("timers")?,
        };
        self.timers = Some(timers.clone());
        Ok(timers)
    }
    /// Declares that the operator uses processing-time timers: [`KeyedOp::processing_timer`] is called when the time of one
    /// is there, whether or not rows come. They are state as others are: those that came due while the job was down fire
    /// at once when it is back, in the order of their times. They do not keep a bounded job from ending: what is not due
    /// at its end does not fire, but is in its last checkpoint.
    pub fn processing_timers(&mut self) -> Result<Timers<K>> {
        let timers = match self.processing_timers.take() {
            Some(timers) => timers,
            None => self.backend.timers("processing-timers")?,
        };
        self.processing_timers = Some(timers.clone());
        Ok(timers)
    }
    /// Declares a side output; see [`SideOutput`].
    pub fn side_output<T: Data>(&mut self, tag: &OutputTag<T>) -> Result<SideOutput<T>> {
        self.sides.declare(tag, &self.info.name)
    }
    /// A counter of your own under this name: it costs a record no more than a cell, and is read with the engine's own
    /// metrics. Two metrics of an operator cannot have one name.
    pub fn counter(&self, name: &str) -> Result<Counter> {
        self.metrics.counter(name)
    }
    /// A meter of your own: a rate a second under this name.
    pub fn meter(&self, name: &str) -> Result<Meter> {
        self.metrics.meter(name)
    }
    /// A gauge of your own under this name.
    pub fn gauge(&self, name: &str) -> Result<Gauge> {
        self.metrics.gauge(name)
    }
    /// A histogram of your own under this name.
    pub fn histogram(&self, name: &str) -> Result<Histogram> {
        self.metrics.histogram(name)
    }
    /// Who this operator is.
    pub fn info(&self) -> &SubtaskInfo {
        self.info
    }
}

/// What a keyed operator has once it is open.
pub(super) struct Opened<K: KeyType> {
    ahead: Ahead<K>,
    timers: Option<Timers<K>>,
    processing_timers: Option<Timers<K>>,
    pub(super) at_hand: AtHand,
    /// A key is looked at once: whether a type can be one shows only in a value.
    is_key_checked: bool,
}

impl<K: KeyType> Opened<K> {
    /// Opens a user's operator.
    pub(super) fn new(
        cx: &mut OpenCx<'_>,
        open: impl FnOnce(&mut KeyedOpenCx<'_, K>) -> Result<()>,
    ) -> Result<Opened<K>> {
        let (info, metrics) = (cx.info, cx.metrics.clone());
        let mut user = KeyedOpenCx {
            backend: cx.backend.as_deref_mut().ok_or_else(|| no_keyed_state(info))?,
            info,
            metrics,
            sides: &mut cx.sides,
            timers: None,
            processing_timers: None,
        };
        open(&mut user)?;
        Ok(Opened {
            ahead: Ahead::new(user.backend.keys(), user.backend.look_ahead()),
            timers: user.timers,
            processing_timers: user.processing_timers,
            at_hand: cx.sides.at_hand(),
            is_key_checked: false,
        })
    }

    /// Hands the rows of the slice with their keys to `each`, until it returns false.
    #[inline]
    pub(super) fn each_keyed<I: Data>(
        &mut self,
        rows: &mut TypedRows<I>,
        select: &impl Fn(&I) -> K,
        each: impl FnMut(&Key<K>, I, Option<Timestamp>) -> bool,
    ) {
        self.ahead.each_keyed(rows, select, each);
    }

    /// Refuses a key that cannot be hashed, at the first row there is.
    #[inline]
    pub(super) fn check<I: Data>(&mut self, rows: &TypedRows<I>, select: &impl Fn(&I) -> K) -> Result<()> {
        match rows.peek().first() {
            Some(first) if !self.is_key_checked => {
                self.is_key_checked = true;
                check_key(&select(first)).map_err(|error| {
                    Failure::invalid(format!("{} is no key: {error}", std::any::type_name::<K>()))
                })
            }
            _ => Ok(()),
        }
    }

    /// Hands the rows of the slice to `each`, until the room for output is used up.
    pub(super) fn each_row<I: Data, O: Data>(
        &mut self,
        rows: &mut RowCursor<'_>,
        cx: &mut Cx<'_>,
        select: &impl Fn(&I) -> K,
        mut each: impl FnMut(&Key<K>, Timed<I>, &mut Out<O>) -> Result<()>,
    ) -> Result<Flow> {
        let room = cx.room();
        let rows = rows.typed::<I>()?;
        self.check(rows, select)?;
        let mut out = Out::new(rows.peek().len().min(room), cx);
        let mut result = Ok(());
        self.ahead.each_keyed(rows, select, |key, value, time| {
            out.time = time;
            self.at_hand.set_time(time);
            if let Err(failure) = each(key, Timed { value, time }, &mut out) {
                result = Err(failure);
                return false;
            }
            out.rows.len() + self.at_hand.rows() < room
        });
        result?;
        cx.emit(0, out.rows);
        Ok(if rows.is_exhausted() {
            Flow::Done
        } else {
            Flow::More
        })
    }

    /// Fires event-time timers that are due. A slice ends after as many timers or rows as there is room for.
    pub(super) fn fire<O: Data>(
        &mut self,
        watermark: Timestamp,
        cx: &mut Cx<'_>,
        each: impl FnMut(&Key<K>, Timer, &mut Out<O>) -> Result<()>,
    ) -> Result<Flow> {
        match &mut self.timers {
            Some(timers) => fire(timers, &self.at_hand, watermark, Some, cx, each),
            None => Ok(Flow::Done),
        }
    }

    /// Fires a slice of the processing-time timers that are due; the rest is due at once.
    pub(super) fn fire_processing<O: Data>(
        &mut self,
        cx: &mut Cx<'_>,
        each: impl FnMut(&Key<K>, Timer, &mut Out<O>) -> Result<()>,
    ) -> Result<Flow> {
        if let Some(timers) = &mut self.processing_timers {
            fire(timers, &self.at_hand, cx.processing_time(), |_| None, cx, each)?;
        }
        Ok(Flow::Done)
    }

    /// When the first processing-time timer is due.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        self.processing_timers.as_ref().and_then(Timers::next_time)
    }
}

/// Fires timers up to `due`; what they emit has the event time that `time_of` gives.
fn fire<K: KeyType, O: Data>(
    timers: &mut Timers<K>,
    at_hand: &AtHand,
    due: Timestamp,
    time_of: impl Fn(Timestamp) -> Option<Timestamp>,
    cx: &mut Cx<'_>,
    mut each: impl FnMut(&Key<K>, Timer, &mut Out<O>) -> Result<()>,
) -> Result<Flow> {
    let mut out = Out::new(0, cx);
    let mut left = cx.room();
    let flow = loop {
        if left == 0 || out.rows.len() + at_hand.rows() >= cx.room() {
            break Flow::More;
        }
        let Some((key, time)) = timers.next_due(due) else {
            break Flow::Done;
        };
        out.time = time_of(time);
        at_hand.set_time(out.time);
        each(&key, Timer { time }, &mut out)?;
        left -= 1;
    };
    cx.emit(0, out.rows);
    Ok(flow)
}

/// A keyed operator was called before it was opened.
pub(super) fn not_open() -> Failure {
    Failure::bug("an operator was called before it was opened")
}

/// Runs a [`KeyedOp`] on the rows of one input.
pub struct KeyedOperator<K: KeyType, I, O, F, Op> {
    select: F,
    op: Op,
    opened: Option<Opened<K>>,
    rows: PhantomData<fn(I) -> O>,
}

impl<K: KeyType, I, O, F, Op> KeyedOperator<K, I, O, F, Op> {
    /// An operator for rows whose key `select` gives: the same selector as on the edge that leads here.
    pub fn new(select: F, op: Op) -> Self {
        KeyedOperator {
            select,
            op,
            opened: None,
            rows: PhantomData,
        }
    }
}

impl<K, I, O, F, Op> Operator for KeyedOperator<K, I, O, F, Op>
where
    K: KeyType,
    I: Data,
    O: Data,
    F: Fn(&I) -> K + 'static,
    Op: KeyedOp<K, I, O>,
{
    fn open(&mut self, cx: &mut OpenCx<'_>) -> Result<()> {
        self.opened = Some(Opened::new(cx, |user| self.op.open(user))?);
        Ok(())
    }

    fn on_batch(&mut self, _: InputId, rows: &mut RowCursor<'_>, cx: &mut Cx<'_>) -> Result<Flow> {
        let opened = self.opened.as_mut().ok_or_else(not_open)?;
        opened.each_row(rows, cx, &self.select, |key, row, out| self.op.row(key, row, out))
    }

    fn on_watermark(&mut self, watermark: Timestamp, cx: &mut Cx<'_>) -> Result<Flow> {
        let opened = self.opened.as_mut().ok_or_else(not_open)?;
        opened.fire(watermark, cx, |key, at, out| self.op.timer(key, at, out))
    }

    fn wake_at(&self) -> Option<Timestamp> {
        self.opened.as_ref().and_then(Opened::wake_at)
    }

    fn on_wake(&mut self, cx: &mut Cx<'_>) -> Result<Flow> {
        let opened = self.opened.as_mut().ok_or_else(not_open)?;
        opened.fire_processing(cx, |key, at, out| self.op.processing_timer(key, at, out))
    }
}
