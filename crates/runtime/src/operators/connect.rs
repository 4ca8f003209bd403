//! Two keyed streams with the same key in one operator: what the one writes into its state, the other reads.
//!
//! Non-goal: broadcast streams (`broadcast` has them).

use super::keyed::{KeyedOpenCx, Opened, Out, Timed, Timer, not_open};
use crate::cursor::RowCursor;
use crate::operator::{Cx, Flow, OpenCx, Operator};
use rivermark_data::{Data, Key as KeyType};
use rivermark_state::Key;
use rivermark_types::{Failure, InputId, Result, Timestamp};
use std::marker::PhantomData;

/// A user's operator on two connected keyed streams, which share its state and timers. In which order rows of the two
/// inputs come is not defined; rows of one key and one input keep theirs.
pub trait KeyedOp2<K: KeyType, L: Data, R: Data, O: Data>: 'static {
    /// Declares state and timers and keeps their handles.
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, K>) -> Result<()>;
    /// A row of the first stream.
    fn left(&mut self, key: &Key<K>, row: Timed<L>, out: &mut Out<O>) -> Result<()>;
    /// A row of the second stream.
    fn right(&mut self, key: &Key<K>, row: Timed<R>, out: &mut Out<O>) -> Result<()>;
    /// An event-time timer of a key is due.
    fn timer(&mut self, _key: &Key<K>, _at: Timer, _out: &mut Out<O>) -> Result<()> {
        Ok(())
    }
    /// A processing-time timer of a key is due; see [`super::KeyedOp::processing_timer`].
    fn processing_timer(&mut self, _key: &Key<K>, _at: Timer, _out: &mut Out<O>) -> Result<()> {
        Ok(())
    }
}

/// Runs a [`KeyedOp2`]: input 0 is the first stream, input 1 the second.
pub struct ConnectOperator<K: KeyType, L, R, O, FL, FR, Op> {
    select_left: FL,
    select_right: FR,
    op: Op,
    opened: Option<Opened<K>>,
    rows: PhantomData<fn(L, R) -> O>,
}

impl<K: KeyType, L, R, O, FL, FR, Op> ConnectOperator<K, L, R, O, FL, FR, Op> {
    /// An operator for rows whose keys the selectors give.
    pub fn new(select_left: FL, select_right: FR, op: Op) -> Self {
        ConnectOperator {
            select_left,
            select_right,
            op,
            opened: None,
            rows: PhantomData,
        }
    }
}

impl<K, L, R, O, FL, FR, Op> Operator for ConnectOperator<K, L, R, O, FL, FR, Op>
where
    K: KeyType,
    L: Data,
    R: Data,
    O: Data,
    FL: Fn(&L) -> K + 'static,
    FR: Fn(&R) -> K + 'static,
    Op: KeyedOp2<K, L, R, O>,
{
    fn open(&mut self, cx: &mut OpenCx<'_>) -> Result<()> {
        self.opened = Some(Opened::new(cx, |user| self.op.open(user))?);
        Ok(())
    }

    fn on_batch(&mut self, input: InputId, rows: &mut RowCursor<'_>, cx: &mut Cx<'_>) -> Result<Flow> {
        let opened = self.opened.as_mut().ok_or_else(not_open)?;
        let op = &mut self.op;
        match input {
            InputId(0) => opened.each_row(rows, cx, &self.select_left, |key, row, out| {
                op.left(key, row, out)
            }),
            InputId(1) => opened.each_row(rows, cx, &self.select_right, |key, row, out| {
                op.right(key, row, out)
            }),
            other => Err(Failure::bug(format!(
                "connected streams have two inputs, rows came on {other}"
            ))),
        }
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
