//! Operators of windows: the rows of one input, or of two side by side.

use super::{LATE_PORT, Side};
use crate::cursor::RowCursor;
use crate::operator::{Cx, Flow, OpenCx, Operator};
use crate::operators::interval_join::{LEFT_LATE_PORT, RIGHT_LATE_PORT};
use rivermark_data::{Data, Key as KeyType};
use rivermark_types::{Failure, InputId, Result, Timestamp};
use std::marker::PhantomData;

/// One of the inputs of windows: how its rows become what the windows hold, and where late ones go.
pub trait WindowInput {
    /// Its rows.
    type Row: Data;
    /// What the windows hold.
    type Held: Data;
    /// The output port of late rows.
    const LATE_PORT: u8;
    /// A row, to be held.
    fn hold(row: Self::Row) -> Self::Held;
    /// The row again; `None` if it is not of this input.
    fn give_back(held: Self::Held) -> Option<Self::Row>;
}

/// The only input.
pub struct Only<T>(PhantomData<T>);

impl<T: Data> WindowInput for Only<T> {
    type Row = T;
    type Held = T;
    const LATE_PORT: u8 = LATE_PORT;
    fn hold(row: T) -> T {
        row
    }
    fn give_back(held: T) -> Option<T> {
        Some(held)
    }
}

/// The left one of two.
pub struct LeftOf<L, R>(PhantomData<(L, R)>);

impl<L: Data, R: Data> WindowInput for LeftOf<L, R> {
    type Row = L;
    type Held = Side<L, R>;
    const LATE_PORT: u8 = LEFT_LATE_PORT;
    fn hold(row: L) -> Side<L, R> {
        Side::Left(row)
    }
    fn give_back(held: Side<L, R>) -> Option<L> {
        match held {
            Side::Left(row) => Some(row),
            Side::Right(_) => None,
        }
    }
}

/// The right one of two.
pub struct RightOf<L, R>(PhantomData<(L, R)>);

impl<L: Data, R: Data> WindowInput for RightOf<L, R> {
    type Row = R;
    type Held = Side<L, R>;
    const LATE_PORT: u8 = RIGHT_LATE_PORT;
    fn hold(row: R) -> Side<L, R> {
        Side::Right(row)
    }
    fn give_back(held: Side<L, R>) -> Option<R> {
        match held {
            Side::Right(row) => Some(row),
            Side::Left(_) => None,
        }
    }
}

/// The windows of an operator: takes rows of any input, turned into one type, and fires.
pub trait WindowCore<K: KeyType>: 'static {
    /// What goes in.
    type Input: Data;
    /// What comes out.
    type Output: Data;
    /// See [`Operator::open`].
    fn open(&mut self, cx: &mut OpenCx<'_>) -> Result<()>;
    /// See [`Operator::on_batch`].
    fn rows<I: WindowInput<Held = Self::Input>>(
        &mut self,
        rows: &mut RowCursor<'_>,
        cx: &mut Cx<'_>,
        select: &impl Fn(&I::Row) -> K,
    ) -> Result<Flow>;
    /// See [`Operator::on_watermark`].
    fn fire(&mut self, watermark: Timestamp, cx: &mut Cx<'_>) -> Result<Flow>;
    /// See [`Operator::wake_at`].
    fn wake_at(&self) -> Option<Timestamp> {
        None
    }
    /// See [`Operator::on_wake`].
    fn wake(&mut self, _cx: &mut Cx<'_>) -> Result<Flow> {
        Ok(Flow::Done)
    }
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
        self.windows.rows::<Only<W::Input>>(rows, cx, &self.select)
    }
    fn on_watermark(&mut self, watermark: Timestamp, cx: &mut Cx<'_>) -> Result<Flow> {
        self.windows.fire(watermark, cx)
    }
    fn wake_at(&self) -> Option<Timestamp> {
        self.windows.wake_at()
    }
    fn on_wake(&mut self, cx: &mut Cx<'_>) -> Result<Flow> {
        self.windows.wake(cx)
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
            InputId(0) => self.windows.rows::<LeftOf<L, R>>(rows, cx, &self.left),
            InputId(1) => self.windows.rows::<RightOf<L, R>>(rows, cx, &self.right),
            other => Err(Failure::bug(format!(
                "a window join has two inputs, rows came on {other}"
            ))),
        }
    }
    fn on_watermark(&mut self, watermark: Timestamp, cx: &mut Cx<'_>) -> Result<Flow> {
        self.windows.fire(watermark, cx)
    }
    fn wake_at(&self) -> Option<Timestamp> {
        self.windows.wake_at()
    }
    fn on_wake(&mut self, cx: &mut Cx<'_>) -> Result<Flow> {
        self.windows.wake(cx)
    }
}
