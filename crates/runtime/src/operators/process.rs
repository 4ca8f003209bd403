//! What a user writes on streams without a key, and the operators that run it: one input, or two.
//!
//! Such an operator keeps lists (see `lists`) instead of state by key. Non-goals: timers, which belong to keys.

use super::keyed::{Out, Timed, not_open};
use crate::cursor::RowCursor;
use crate::lists::{OperatorList, OperatorLists, is_union_list, union_name};
use crate::operator::{Cx, Flow, Lists, OpenCx, Operator, SubtaskInfo};
use crate::side::{AtHand, OutputTag, SideOutput, SideOutputs};
use rivermark_data::Data;
use rivermark_types::{Failure, InputId, Result, Timestamp};
use std::marker::PhantomData;

/// A user's operator on a stream without a key: from rows of `I` to rows of `O`, with lists of each subtask's own.
pub trait ProcessOp<I: Data, O: Data>: 'static {
    /// Declares lists and side outputs and keeps their handles.
    fn open(&mut self, _cx: &mut ProcessOpenCx<'_>) -> Result<()> {
        Ok(())
    }
    /// A row.
    fn row(&mut self, row: Timed<I>, out: &mut Out<O>) -> Result<()>;
    /// All rows have been: the sources have read everything there is, which only bounded ones ever do. What is emitted here
    /// still comes into the job's last checkpoint. After a restart the end comes again: what is to be emitted once is kept in a
    /// list and taken out of it here.
    fn on_end(&mut self, _out: &mut Out<O>) -> Result<()> {
        Ok(())
    }
}

/// A user's operator on two connected streams without a key. In which order rows of the two come is not defined.
pub trait ProcessOp2<L: Data, R: Data, O: Data>: 'static {
    /// Declares lists and side outputs and keeps their handles.
    fn open(&mut self, _cx: &mut ProcessOpenCx<'_>) -> Result<()> {
        Ok(())
    }
    /// A row of the first stream.
    fn left(&mut self, row: Timed<L>, out: &mut Out<O>) -> Result<()>;
    /// A row of the second stream.
    fn right(&mut self, row: Timed<R>, out: &mut Out<O>) -> Result<()>;
    /// All rows of both streams have been; see [`ProcessOp::on_end`].
    fn on_end(&mut self, _out: &mut Out<O>) -> Result<()> {
        Ok(())
    }
}

/// What such an operator opens itself with. Names are what a restore finds lists by.
pub struct ProcessOpenCx<'a> {
    restored: &'a mut Lists,
    is_restored: bool,
    lists: &'a mut OperatorLists,
    sides: &'a mut SideOutputs,
    info: &'a SubtaskInfo,
}

impl ProcessOpenCx<'_> {
    /// Declares a list of this subtask. At another parallelism its entries are divided: each goes to one of the new subtasks.
    pub fn list_state<T: Data>(&mut self, name: &str) -> Result<OperatorList<T>> {
        if is_union_list(name) {
            return Err(Failure::invalid(format!(
                "list {name:?} has a name that union lists are stored by: choose another"
            )));
        }
        self.lists.declare(name.to_owned(), self.restored, self.info)
    }

    /// Declares a list of which every subtask gets all entries of all subtasks at a restore. Each then keeps what is its own
    /// and drops the rest, or entries multiply with every restore.
    pub fn union_list_state<T: Data>(&mut self, name: &str) -> Result<OperatorList<T>> {
        self.lists.declare(union_name(name), self.restored, self.info)
    }

    /// Declares a side output; see [`SideOutput`].
    pub fn side_output<T: Data>(&mut self, tag: &OutputTag<T>) -> Result<SideOutput<T>> {
        self.sides.declare(tag, &self.info.name)
    }

    /// Whether the attempt starts from a checkpoint.
    pub fn is_restored(&self) -> bool {
        self.is_restored
    }

    /// Who this operator is.
    pub fn info(&self) -> &SubtaskInfo {
        self.info
    }
}

/// What an operator without a key has once it is open.
pub(super) struct OpenedPlain {
    lists: OperatorLists,
    at_hand: AtHand,
}

impl OpenedPlain {
    /// Opens a user's operator.
    pub(super) fn new(
        cx: &mut OpenCx<'_>,
        open: impl FnOnce(&mut ProcessOpenCx<'_>) -> Result<()>,
    ) -> Result<OpenedPlain> {
        let mut lists = OperatorLists::default();
        open(&mut ProcessOpenCx {
            restored: &mut cx.lists,
            is_restored: cx.restored,
            lists: &mut lists,
            sides: &mut cx.sides,
            info: cx.info,
        })?;
        Ok(OpenedPlain {
            lists,
            at_hand: cx.sides.at_hand(),
        })
    }

    /// Hands the rows of the slice to `each`, until the room for output is used up.
    pub(super) fn each_row<I: Data, O: Data>(
        &self,
        rows: &mut RowCursor<'_>,
        cx: &mut Cx<'_>,
        each: impl FnMut(Timed<I>, &mut Out<O>) -> Result<()>,
    ) -> Result<Flow> {
        each_plain_row(&self.at_hand, rows, cx, each)
    }

    /// Calls `end` if the watermark is the one behind all rows.
    pub(super) fn on_watermark<O: Data>(
        &self,
        watermark: Timestamp,
        cx: &mut Cx<'_>,
        end: impl FnOnce(&mut Out<O>) -> Result<()>,
    ) -> Result<Flow> {
        if watermark == Timestamp::MAX {
            let mut out = Out::new(0, cx);
            self.at_hand.set_time(None);
            end(&mut out)?;
            cx.emit(0, out.rows);
        }
        Ok(Flow::Done)
    }

    pub(super) fn snapshot_lists(&self) -> Result<Lists> {
        self.lists.snapshot()
    }
}

/// The rows of a slice without a key, until the room for output is used up.
pub(super) fn each_plain_row<I: Data, O: Data>(
    at_hand: &AtHand,
    rows: &mut RowCursor<'_>,
    cx: &mut Cx<'_>,
    mut each: impl FnMut(Timed<I>, &mut Out<O>) -> Result<()>,
) -> Result<Flow> {
    let room = cx.room();
    let rows = rows.typed::<I>()?;
    let mut out = Out::new(rows.peek().len().min(room), cx);
    let mut result = Ok(());
    rows.each_row(|value, time| {
        out.time = time;
        at_hand.set_time(time);
        if let Err(failure) = each(Timed { value, time }, &mut out) {
            result = Err(failure);
            return false;
        }
        out.rows.len() + at_hand.rows() < room
    });
    result?;
    cx.emit(0, out.rows);
    Ok(if rows.is_exhausted() {
        Flow::Done
    } else {
        Flow::More
    })
}

/// Runs a [`ProcessOp`].
pub struct ProcessOperator<I, O, Op> {
    op: Op,
    opened: Option<OpenedPlain>,
    rows: PhantomData<fn(I) -> O>,
}

impl<I, O, Op> ProcessOperator<I, O, Op> {
    /// An operator of the user's.
    pub fn new(op: Op) -> Self {
        ProcessOperator {
            op,
            opened: None,
            rows: PhantomData,
        }
    }
}

impl<I: Data, O: Data, Op: ProcessOp<I, O>> Operator for ProcessOperator<I, O, Op> {
    fn open(&mut self, cx: &mut OpenCx<'_>) -> Result<()> {
        self.opened = Some(OpenedPlain::new(cx, |user| self.op.open(user))?);
        Ok(())
    }

    fn on_batch(&mut self, _: InputId, rows: &mut RowCursor<'_>, cx: &mut Cx<'_>) -> Result<Flow> {
        let opened = self.opened.as_ref().ok_or_else(not_open)?;
        opened.each_row(rows, cx, |row, out| self.op.row(row, out))
    }

    fn on_watermark(&mut self, watermark: Timestamp, cx: &mut Cx<'_>) -> Result<Flow> {
        let opened = self.opened.as_ref().ok_or_else(not_open)?;
        opened.on_watermark(watermark, cx, |out| self.op.on_end(out))
    }

    fn snapshot_lists(&mut self) -> Result<Lists> {
        self.opened.as_ref().ok_or_else(not_open)?.snapshot_lists()
    }
}

/// Runs a [`ProcessOp2`]: input 0 is the first stream, input 1 the second.
pub struct ProcessOperator2<L, R, O, Op> {
    op: Op,
    opened: Option<OpenedPlain>,
    rows: PhantomData<fn(L, R) -> O>,
}

impl<L, R, O, Op> ProcessOperator2<L, R, O, Op> {
    /// An operator of the user's.
    pub fn new(op: Op) -> Self {
        ProcessOperator2 {
            op,
            opened: None,
            rows: PhantomData,
        }
    }
}

impl<L: Data, R: Data, O: Data, Op: ProcessOp2<L, R, O>> Operator for ProcessOperator2<L, R, O, Op> {
    fn open(&mut self, cx: &mut OpenCx<'_>) -> Result<()> {
        self.opened = Some(OpenedPlain::new(cx, |user| self.op.open(user))?);
        Ok(())
    }

    fn on_batch(&mut self, input: InputId, rows: &mut RowCursor<'_>, cx: &mut Cx<'_>) -> Result<Flow> {
        let opened = self.opened.as_ref().ok_or_else(not_open)?;
        let op = &mut self.op;
        match input {
            InputId(0) => opened.each_row(rows, cx, |row, out| op.left(row, out)),
            InputId(1) => opened.each_row(rows, cx, |row, out| op.right(row, out)),
            other => Err(two_inputs(other)),
        }
    }

    fn on_watermark(&mut self, watermark: Timestamp, cx: &mut Cx<'_>) -> Result<Flow> {
        let opened = self.opened.as_ref().ok_or_else(not_open)?;
        opened.on_watermark(watermark, cx, |out| self.op.on_end(out))
    }

    fn snapshot_lists(&mut self) -> Result<Lists> {
        self.opened.as_ref().ok_or_else(not_open)?.snapshot_lists()
    }
}

/// Rows came on an input that is not there.
#[cold]
pub(super) fn two_inputs(other: InputId) -> Failure {
    Failure::bug(format!("connected streams have two inputs, rows came on {other}"))
}

/// A [`ProcessOp2`] of two closures that give any number of rows each.
pub struct FlatMap2<F, G>(pub F, pub G);

impl<L, R, A, B, F, G> ProcessOp2<L, R, A::Item> for FlatMap2<F, G>
where
    L: Data,
    R: Data,
    A: IntoIterator<Item: Data>,
    B: IntoIterator<Item = A::Item>,
    F: Fn(L) -> A + 'static,
    G: Fn(R) -> B + 'static,
{
    fn left(&mut self, row: Timed<L>, out: &mut Out<A::Item>) -> Result<()> {
        (self.0)(row.value).into_iter().for_each(|row| out.emit(row));
        Ok(())
    }
    fn right(&mut self, row: Timed<R>, out: &mut Out<A::Item>) -> Result<()> {
        (self.1)(row.value).into_iter().for_each(|row| out.emit(row));
        Ok(())
    }
}
