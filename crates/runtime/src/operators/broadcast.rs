//! A stream and what everybody has to know: each subtask keeps a map of its own, written by the rows of a broadcast stream.
//!
//! Every subtask sees the same rows of the broadcast stream, and a barrier waits for it as for any other; so the maps of
//! all subtasks are the same at every barrier, if what writes them looks at nothing else. The first subtask's goes into
//! the snapshot, as a union list: every subtask of a restored job begins with it, at whatever parallelism.
//! Broadcast rows of several senders come in no order between them; nor do they wait for rows of the other stream.

use super::keyed::{KeyedOpenCx, Opened, Out, Timed, Timer, not_open};
use super::process::{OpenedPlain, ProcessOpenCx, each_plain_row, two_inputs};
use crate::cursor::RowCursor;
use crate::lists::{decode, union_name, unwritable};
use crate::operator::{Cx, Flow, Lists, OpenCx, Operator};
use rivermark_data::{Data, Key as KeyType};
use rivermark_state::Key;
use rivermark_types::{InputId, Result, Timestamp};
use std::collections::BTreeMap;
use std::marker::PhantomData;

/// A user's operator on a stream without a key and a broadcast one. The broadcast state is a map that the engine keeps: rows
/// of the one stream read it, rows of the other write it.
pub trait BroadcastOp<I: Data, R: Data, O: Data>: 'static {
    /// The keys of the broadcast state.
    type Key: Data + Ord;
    /// Its values.
    type Value: Data;
    /// Declares lists and side outputs and keeps their handles.
    fn open(&mut self, _cx: &mut ProcessOpenCx<'_>) -> Result<()> {
        Ok(())
    }
    /// A row of the stream.
    fn row(
        &mut self,
        state: &BTreeMap<Self::Key, Self::Value>,
        row: Timed<I>,
        out: &mut Out<O>,
    ) -> Result<()>;
    /// A row of the broadcast stream, which every subtask gets: what it writes must follow from the row and the state alone,
    /// and what it emits is emitted by every subtask.
    fn broadcast_row(
        &mut self,
        state: &mut BTreeMap<Self::Key, Self::Value>,
        row: Timed<R>,
        out: &mut Out<O>,
    ) -> Result<()>;
    /// All rows of both streams have been; see [`super::ProcessOp::on_end`].
    fn on_end(&mut self, _state: &BTreeMap<Self::Key, Self::Value>, _out: &mut Out<O>) -> Result<()> {
        Ok(())
    }
}

/// The same on a keyed stream, with state and timers of each key besides.
pub trait KeyedBroadcastOp<K: KeyType, I: Data, R: Data, O: Data>: 'static {
    /// The keys of the broadcast state.
    type Key: Data + Ord;
    /// Its values.
    type Value: Data;
    /// Declares state, timers and side outputs and keeps their handles.
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, K>) -> Result<()>;
    /// A row of a key.
    fn row(
        &mut self,
        key: &Key<K>,
        state: &BTreeMap<Self::Key, Self::Value>,
        row: Timed<I>,
        out: &mut Out<O>,
    ) -> Result<()>;
    /// A row of the broadcast stream; see [`BroadcastOp::broadcast_row`].
    fn broadcast_row(
        &mut self,
        state: &mut BTreeMap<Self::Key, Self::Value>,
        row: Timed<R>,
        out: &mut Out<O>,
    ) -> Result<()>;
    /// A timer of a key is due.
    fn timer(
        &mut self,
        _key: &Key<K>,
        _state: &BTreeMap<Self::Key, Self::Value>,
        _at: Timer,
        _out: &mut Out<O>,
    ) -> Result<()> {
        Ok(())
    }
    /// A processing-time timer of a key is due; see [`super::KeyedOp::processing_timer`].
    fn processing_timer(
        &mut self,
        _key: &Key<K>,
        _state: &BTreeMap<Self::Key, Self::Value>,
        _at: Timer,
        _out: &mut Out<O>,
    ) -> Result<()> {
        Ok(())
    }
}

/// The map of one subtask.
struct BroadcastState<K, V> {
    map: BTreeMap<K, V>,
    /// Whether this subtask's map goes into snapshots.
    is_kept: bool,
}

const NAME: &str = "broadcast";

impl<K: Data + Ord, V: Data> BroadcastState<K, V> {
    fn open(cx: &mut OpenCx<'_>) -> Result<Self> {
        let entries = cx.take_list(&union_name(NAME));
        Ok(BroadcastState {
            map: decode::<(K, V)>(NAME, entries, cx.info)?.into_iter().collect(),
            is_kept: cx.info.subtask.index == 0,
        })
    }

    /// Adds it to the other lists of the operator.
    fn snapshot(&self, mut lists: Lists) -> Result<Lists> {
        if self.is_kept && !self.map.is_empty() {
            let entries = self.map.iter().map(serde_json::to_value);
            let entries = entries.collect::<serde_json::Result<_>>();
            lists.insert(
                union_name(NAME),
                entries.map_err(|error| unwritable(NAME, &error))?,
            );
        }
        Ok(lists)
    }
}

/// Runs a [`BroadcastOp`]: input 0 is the stream, input 1 the broadcast one.
pub struct BroadcastOperator<I: Data, R: Data, O: Data, Op: BroadcastOp<I, R, O>> {
    op: Op,
    opened: Option<(OpenedPlain, BroadcastState<Op::Key, Op::Value>)>,
    rows: PhantomData<fn(I, R) -> O>,
}

impl<I: Data, R: Data, O: Data, Op: BroadcastOp<I, R, O>> BroadcastOperator<I, R, O, Op> {
    /// An operator of the user's.
    pub fn new(op: Op) -> Self {
        BroadcastOperator {
            op,
            opened: None,
            rows: PhantomData,
        }
    }
}

impl<I: Data, R: Data, O: Data, Op: BroadcastOp<I, R, O>> Operator for BroadcastOperator<I, R, O, Op> {
    fn open(&mut self, cx: &mut OpenCx<'_>) -> Result<()> {
        let state = BroadcastState::open(cx)?;
        self.opened = Some((OpenedPlain::new(cx, |user| self.op.open(user))?, state));
        Ok(())
    }

    fn on_batch(&mut self, input: InputId, rows: &mut RowCursor<'_>, cx: &mut Cx<'_>) -> Result<Flow> {
        let (opened, state) = self.opened.as_mut().ok_or_else(not_open)?;
        let op = &mut self.op;
        match input {
            InputId(0) => opened.each_row(rows, cx, |row, out| op.row(&state.map, row, out)),
            InputId(1) => opened.each_row(rows, cx, |row, out| op.broadcast_row(&mut state.map, row, out)),
            other => Err(two_inputs(other)),
        }
    }

    fn on_watermark(&mut self, watermark: Timestamp, cx: &mut Cx<'_>) -> Result<Flow> {
        let (opened, state) = self.opened.as_ref().ok_or_else(not_open)?;
        opened.on_watermark(watermark, cx, |out| self.op.on_end(&state.map, out))
    }

    fn snapshot_lists(&mut self) -> Result<Lists> {
        let (opened, state) = self.opened.as_ref().ok_or_else(not_open)?;
        state.snapshot(opened.snapshot_lists()?)
    }
}

/// Runs a [`KeyedBroadcastOp`]: input 0 is the keyed stream, input 1 the broadcast one.
pub struct KeyedBroadcastOperator<K: KeyType, I: Data, R: Data, O: Data, F, Op: KeyedBroadcastOp<K, I, R, O>>
{
    select: F,
    op: Op,
    opened: Option<(Opened<K>, BroadcastState<Op::Key, Op::Value>)>,
    rows: PhantomData<fn(I, R) -> O>,
}

impl<K, I, R, O, F, Op> KeyedBroadcastOperator<K, I, R, O, F, Op>
where
    K: KeyType,
    I: Data,
    R: Data,
    O: Data,
    Op: KeyedBroadcastOp<K, I, R, O>,
{
    /// An operator for rows whose key `select` gives.
    pub fn new(select: F, op: Op) -> Self {
        KeyedBroadcastOperator {
            select,
            op,
            opened: None,
            rows: PhantomData,
        }
    }
}

impl<K, I, R, O, F, Op> Operator for KeyedBroadcastOperator<K, I, R, O, F, Op>
where
    K: KeyType,
    I: Data,
    R: Data,
    O: Data,
    F: Fn(&I) -> K + 'static,
    Op: KeyedBroadcastOp<K, I, R, O>,
{
    fn open(&mut self, cx: &mut OpenCx<'_>) -> Result<()> {
        let state = BroadcastState::open(cx)?;
        self.opened = Some((Opened::new(cx, |user| self.op.open(user))?, state));
        Ok(())
    }

    fn on_batch(&mut self, input: InputId, rows: &mut RowCursor<'_>, cx: &mut Cx<'_>) -> Result<Flow> {
        let (opened, state) = self.opened.as_mut().ok_or_else(not_open)?;
        let op = &mut self.op;
        match input {
            InputId(0) => opened.each_row(rows, cx, &self.select, |key, row, out| {
                op.row(key, &state.map, row, out)
            }),
            InputId(1) => each_plain_row(&opened.at_hand, rows, cx, |row, out| {
                op.broadcast_row(&mut state.map, row, out)
            }),
            other => Err(two_inputs(other)),
        }
    }

    fn on_watermark(&mut self, watermark: Timestamp, cx: &mut Cx<'_>) -> Result<Flow> {
        let (opened, state) = self.opened.as_mut().ok_or_else(not_open)?;
        let op = &mut self.op;
        opened.fire(watermark, cx, |key, at, out| op.timer(key, &state.map, at, out))
    }

    fn wake_at(&self) -> Option<Timestamp> {
        self.opened.as_ref().and_then(|(opened, _)| opened.wake_at())
    }

    fn on_wake(&mut self, cx: &mut Cx<'_>) -> Result<Flow> {
        let (opened, state) = self.opened.as_mut().ok_or_else(not_open)?;
        let op = &mut self.op;
        opened.fire_processing(cx, |key, at, out| op.processing_timer(key, &state.map, at, out))
    }

    fn snapshot_lists(&mut self) -> Result<Lists> {
        let (_, state) = self.opened.as_ref().ok_or_else(not_open)?;
        state.snapshot(Lists::new())
    }
}
