//! Operators of windows: the rows of one input, or of two side by side.

use super::Side;
use crate::cursor::RowCursor;
use crate::operator::{Cx, Flow, OpenCx, Operator};
use rivermark_data::{Data, Key as KeyType};
use rivermark_types::{Failure, InputId, Result, Timestamp};
use std::marker::PhantomData;

/// The windows of an operator: takes rows of any input, turned into one type, and fires. Late rows go to
/// [`LATE_PORT`](super::LATE_PORT).
pub trait WindowCore<K: KeyType>: 'static {
    /// What goes in.
    type Input: Data;
    /// What comes out.
    type Output: Data;
    /// See [`Operator::open`].
    fn open(&mut self, cx: &mut OpenCx<'_>) -> Result<()>;
    /// See [`Operator::on_batch`].
    fn rows<I: Data>(
        &mut self,
        rows: &mut RowCursor<'_>,
        cx: &mut Cx<'_>,
        select: &impl Fn(&I) -> K,
        wrap: impl Fn(I) -> Self::Input,
    ) -> Result<Flow>;
    /// See [`Operator::on_watermark`].
    fn fire(&mut self, watermark: Timestamp, cx: &mut Cx<'_>) -> Result<Flow>;
}

/// Windows of a keyed stream.
pub struct WindowsOperator<K, F, W> {
    select: F,
    windows: W,
    keys: PhantomData<fn() -> K>,
}

impl<K: KeyType, F, W: WindowCore<K>> WindowsOperator<K, F, W> {
    /// An operator for rows whose key `select` gives.
    pub fn new(select: F, windows: W) -> Self {
        WindowsOperator {
            select,
            windows,
            keys: PhantomData,
        }
    }
}

impl<K, F, W> Operator for WindowsOperator<K, F, W>
where
    K: KeyType,
    W: WindowCore<K>,
    F: Fn(&W::Input) -> K + 'static,
{
    fn open(&mut self, cx: &mut OpenCx<'_>) -> Result<()> {
        self.windows.open(cx)
    }
    fn on_batch(&mut self, _: InputId, rows: &mut RowCursor<'_>, cx: &mut Cx<'_>) -> Result<Flow> {
        self.windows.rows(rows, cx, &self.select, |row| row)
    }
    fn on_watermark(&mut self, watermark: Timestamp, cx: &mut Cx<'_>) -> Result<Flow> {
        self.windows.fire(watermark, cx)
    }
}

/// Windows of two keyed streams with the same keys: input 0 is the left one, input 1 the right one.
pub struct WindowJoinOperator<K, L, R, F, G, W> {
    left: F,
    right: G,
    windows: W,
    types: PhantomData<fn(L, R) -> K>,
}

impl<K: KeyType, L, R, F, G, W: WindowCore<K>> WindowJoinOperator<K, L, R, F, G, W> {
    /// An operator for rows whose keys the selectors give.
    pub fn new(left: F, right: G, windows: W) -> Self {
        WindowJoinOperator {
            left,
            right,
            windows,
            types: PhantomData,
        }
    }
}

impl<K, L, R, F, G, W> Operator for WindowJoinOperator<K, L, R, F, G, W>
where
    K: KeyType,
    L: Data,
    R: Data,
    F: Fn(&L) -> K + 'static,
    G: Fn(&R) -> K + 'static,
    W: WindowCore<K, Input = Side<L, R>>,
{
    fn open(&mut self, cx: &mut OpenCx<'_>) -> Result<()> {
        self.windows.open(cx)
    }
    fn on_batch(&mut self, input: InputId, rows: &mut RowCursor<'_>, cx: &mut Cx<'_>) -> Result<Flow> {
        match input {
            InputId(0) => self.windows.rows(rows, cx, &self.left, Side::Left),
            InputId(1) => self.windows.rows(rows, cx, &self.right, Side::Right),
            other => Err(Failure::bug(format!(
                "a window join has two inputs, rows came on {other}"
            ))),
        }
    }
    fn on_watermark(&mut self, watermark: Timestamp, cx: &mut Cx<'_>) -> Result<Flow> {
        self.windows.fire(watermark, cx)
    }
}
