//! A batch on its way through one operator. The cursor *is* the position: what is left in it counts as in flight.

use crate::careful::Careful;
use rivermark_data::{Batch, Data, Typed, spare};
use rivermark_types::{Failure, Timestamp};
use std::any::Any;
use std::vec;

/// The rows of one batch that an operator has not taken yet. After `Flow::More` or `Flow::Wait` the same cursor comes back.
pub struct RowCursor<'a> {
    rows: &'a mut dyn AnyRows,
    slice: usize,
    careful: Option<&'a mut Careful>,
}

/// The rows behind a cursor: still erased, or opened by the operator's first call.
pub(crate) trait AnyRows {
    fn remaining(&self) -> usize;
    /// Makes `typed` work: replaces an erased batch by `TypedRows<T>`.
    fn open(
        &mut self,
        make: &mut dyn FnMut(Batch) -> Result<Box<dyn OpenRows>, Failure>,
    ) -> Result<(), Failure>;
    fn opened(&mut self) -> Option<&mut dyn Any>;
    fn take_whole(&mut self) -> Option<Batch>;
    /// The rows not taken yet, as they are: they stay here too.
    fn rest(&self) -> Option<Batch>;
}

/// `TypedRows<T>` for some `T`.
pub(crate) trait OpenRows: Any {
    fn remaining(&self) -> usize;
    fn as_any(&mut self) -> &mut dyn Any;
    fn take_rest(&mut self) -> Batch;
    fn copy_rest(&self) -> Batch;
}

impl<'a> RowCursor<'a> {
    pub(crate) fn new(
        rows: &'a mut dyn AnyRows,
        slice: usize,
        careful: Option<&'a mut Careful>,
    ) -> RowCursor<'a> {
        RowCursor { rows, slice, careful }
    }

    /// How many rows are left in the whole batch.
    pub fn remaining(&self) -> usize {
        self.rows.remaining()
    }

    /// The rows by value; at most a time slice of them, after which the operator returns `Flow::More` if
    /// [`TypedRows::is_exhausted`] is false. Fails (a bug in the graph) if the batch is of another type.
    pub fn typed<T: Data>(&mut self) -> Result<&mut TypedRows<T>, Failure> {
        self.rows
            .open(&mut |batch| Ok(Box::new(TypedRows::new(batch.take::<T>()?))))?;
        let slice = self.slice;
        let rows = self
            .rows
            .opened()
            .and_then(|any| any.downcast_mut::<TypedRows<T>>())
            .ok_or_else(|| Failure::bug("an operator took the same batch as two types"))?;
        rows.limit(slice);
        if let Some(careful) = &mut self.careful {
            careful.look(rows);
        }
        Ok(rows)
    }

    /// All that is left as one batch, without a look at its type: for operators that only pass rows on.
    pub fn take_batch(&mut self) -> Option<Batch> {
        self.rows.take_whole()
    }
}

/// The rows of a batch of `T`, handed out by value, up to the end of the slice.
pub struct TypedRows<T: Data> {
    values: vec::IntoIter<T>,
    times: Option<vec::IntoIter<Timestamp>>,
    slice: usize,
}

impl<T: Data> TypedRows<T> {
    fn new(rows: Typed<T>) -> TypedRows<T> {
        let slice = rows.len();
        TypedRows {
            values: rows.values.into_iter(),
            times: rows.times.map(Vec::into_iter),
            slice,
        }
    }

    /// The next row of the slice with its event time, if it has one.
    #[inline]
    pub fn next_row(&mut self) -> Option<(T, Option<Timestamp>)> {
        if self.slice == 0 {
            return None;
        }
        self.slice -= 1;
        let value = self.values.next()?;
        let time = self.times.as_mut().and_then(Iterator::next);
        Some((value, time.filter(|t| *t != Timestamp::MIN)))
    }

    /// Hands the rows of the slice to `each` until it returns false. The loop for hot paths: one for rows with times, one
    /// for rows without, and for a whole batch without a count.
    #[inline]
    pub fn each_row(&mut self, mut each: impl FnMut(T, Option<Timestamp>) -> bool) {
        let before = self.values.len();
        match &mut self.times {
            None if self.slice >= before => {
                for value in self.values.by_ref() {
                    if !each(value, None) {
                        break;
                    }
                }
            }
            None => {
                for value in self.values.by_ref().take(self.slice) {
                    if !each(value, None) {
                        break;
                    }
                }
            }
            Some(times) => {
                for value in self.values.by_ref().take(self.slice) {
                    let time = times.next().filter(|time| *time != Timestamp::MIN);
                    if !each(value, time) {
                        break;
                    }
                }
            }
        }
        self.slice -= before - self.values.len();
    }

    /// The rows of the slice not taken yet: for look-ahead.
    #[inline]
    pub fn rest_of_slice(&self) -> &[T] {
        let rows = self.values.as_slice();
        &rows[..self.slice.min(rows.len())]
    }

    /// Whether rows have times.
    pub(crate) fn is_timed(&self) -> bool {
        self.times.is_some()
    }

    /// Shortens the slice.
    pub(crate) fn at_most(&mut self, rows: usize) {
        self.slice = self.slice.min(rows);
    }

    /// Ends the slice after so many rows.
    pub(crate) fn limit(&mut self, rows: usize) {
        self.slice = rows.min(self.values.len());
    }

    /// Drops the next row.
    pub(crate) fn leave_out(&mut self) {
        self.values.next();
        self.times.as_mut().and_then(Iterator::next);
    }

    /// The rows not taken yet, whole batch: for look-ahead (prefetch), never for processing.
    pub fn peek(&self) -> &[T] {
        self.values.as_slice()
    }

    /// Whether the whole batch is used up (not only the slice).
    pub fn is_exhausted(&self) -> bool {
        self.values.len() == 0
    }
}

impl<T: Data> Drop for TypedRows<T> {
    fn drop(&mut self) {
        spare::keep_rest(std::mem::take(&mut self.values));
        if let Some(times) = self.times.take() {
            spare::keep_rest(times);
        }
    }
}

impl<T: Data> OpenRows for TypedRows<T> {
    fn remaining(&self) -> usize {
        self.values.len()
    }
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
    fn copy_rest(&self) -> Batch {
        Batch::new(Typed {
            values: self.values.as_slice().to_vec(),
            times: self.times.as_ref().map(|times| times.as_slice().to_vec()),
        })
    }
    fn take_rest(&mut self) -> Batch {
        let values = std::mem::take(&mut self.values).collect();
        let times = self.times.take().map(Iterator::collect);
        self.slice = 0;
        Batch::new(Typed { values, times })
    }
}

/// What a chain keeps for a batch that an operator is at work on.
pub(crate) enum HeldRows {
    Erased(Batch),
    Open(Box<dyn OpenRows>),
    Gone,
}

impl AnyRows for HeldRows {
    fn remaining(&self) -> usize {
        match self {
            HeldRows::Erased(batch) => batch.len(),
            HeldRows::Open(rows) => rows.remaining(),
            HeldRows::Gone => 0,
        }
    }

    fn open(
        &mut self,
        make: &mut dyn FnMut(Batch) -> Result<Box<dyn OpenRows>, Failure>,
    ) -> Result<(), Failure> {
        match std::mem::replace(self, HeldRows::Gone) {
            HeldRows::Erased(batch) => *self = HeldRows::Open(make(batch)?),
            other => *self = other,
        }
        Ok(())
    }

    fn opened(&mut self) -> Option<&mut dyn Any> {
        match self {
            HeldRows::Open(rows) => Some(rows.as_any()),
            _ => None,
        }
    }

    fn take_whole(&mut self) -> Option<Batch> {
        match std::mem::replace(self, HeldRows::Gone) {
            HeldRows::Erased(batch) => Some(batch),
            HeldRows::Open(mut rows) => Some(rows.take_rest()),
            HeldRows::Gone => None,
        }
    }

    fn rest(&self) -> Option<Batch> {
        match self {
            HeldRows::Erased(batch) => Some(batch.clone()),
            HeldRows::Open(rows) => Some(rows.copy_rest()),
            HeldRows::Gone => None,
        }
        .filter(|rest| !rest.is_empty())
    }
}
