//! Many records of one type, erased at the granularity of the batch: one downcast a batch and operator, none a record.
//! [`spare`] keeps the memory of used-up batches for the next ones.

pub mod spare;

use crate::record::Data;
use rivermark_types::{Failure, Timestamp};
use std::any::{Any, type_name};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Records whose type the engine does not know. `Vec<T>` (as [`Typed`]) and columnar formats are equal citizens.
pub trait Rows: Any + Send + Sync {
    /// How many records.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// About how many bytes of memory they hold: what channels are bounded by.
    fn bytes(&self) -> usize;
    /// The name of the record type, for errors.
    fn type_name(&self) -> &'static str;
    /// A copy of some of the records: of what the range and the batch have in common.
    fn copy_of(&self, range: Range<usize>) -> Batch;
    /// These records and, behind them, copies of those of other batches of the same type.
    fn joined(&self, others: &[Batch]) -> Result<Batch, Failure>;
}

/// Records as plain values, with their event times where the source has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typed<T> {
    /// The records.
    pub values: Vec<T>,
    /// One event time a record, or none at all.
    pub times: Option<Vec<Timestamp>>,
}

impl<T> Default for Typed<T> {
    fn default() -> Self {
        Typed {
            values: Vec::new(),
            times: None,
        }
    }
}

impl<T> Typed<T> {
    /// Records without event times.
    pub fn untimed(values: Vec<T>) -> Typed<T> {
        Typed { values, times: None }
    }

    /// How many records.
    #[inline]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Appends a record. Times are a column of the whole batch: where only some records have one, the others get
    /// [`Timestamp::MIN`], which means "none".
    #[inline(always)]
    pub fn push(&mut self, value: T, time: Option<Timestamp>) {
        match (&mut self.times, time) {
            (None, None) => {}
            (Some(times), time) => times.push(time.unwrap_or(Timestamp::MIN)),
            (None, Some(time)) => self.begin_times(time),
        }
        self.values.push(value);
    }

    /// The first record with a time after others without.
    #[cold]
    #[inline(never)]
    fn begin_times(&mut self, time: Timestamp) {
        let mut column = spare::vector(self.values.capacity());
        column.resize(self.values.len(), Timestamp::MIN);
        column.push(time);
        self.times = Some(column);
    }

    /// Takes everything out.
    pub fn take(&mut self) -> Typed<T> {
        std::mem::take(self)
    }
}

impl<T: 'static> Typed<T> {
    /// No records yet, and no times, but room for so many records.
    pub fn with_room(records: usize) -> Typed<T> {
        Typed::untimed(spare::vector(records))
    }

    /// Appends all of another batch.
    pub fn append(&mut self, mut other: Typed<T>) {
        if self.is_empty() {
            std::mem::replace(self, other).recycle();
            return;
        }
        if self.times.is_some() || other.times.is_some() {
            let (ours, theirs) = (self.values.len(), other.values.len());
            let column = self.times.get_or_insert_with(|| vec![Timestamp::MIN; ours]);
            column.extend(other.times.unwrap_or_else(|| vec![Timestamp::MIN; theirs]));
        }
        self.values.append(&mut other.values);
        spare::keep(other.values);
    }

    /// Drops the records and keeps their memory for the thread's next batches.
    pub fn recycle(self) {
        spare::keep(self.values);
        if let Some(times) = self.times {
            spare::keep(times);
        }
    }
}

impl<T: Data> Rows for Typed<T> {
    fn len(&self) -> usize {
        self.values.len()
    }
    fn bytes(&self) -> usize {
        self.values.len() * size_of::<T>()
            + self
                .times
                .as_ref()
                .map_or(0, |t| t.len() * size_of::<Timestamp>())
    }
    fn type_name(&self) -> &'static str {
        type_name::<T>()
    }
    fn copy_of(&self, range: Range<usize>) -> Batch {
        let end = range.end.min(self.len());
        let range = range.start.min(end)..end;
        Batch::new(Typed {
            values: self.values[range.clone()].to_vec(),
            times: self.times.as_ref().map(|times| times[range].to_vec()),
        })
    }
    fn joined(&self, others: &[Batch]) -> Result<Batch, Failure> {
        let mut all = self.clone();
        for other in others {
            let rows = other.peek::<T>().ok_or_else(|| {
                let (ours, theirs) = (type_name::<T>(), other.0.type_name());
                Failure::bug(format!("a batch of {theirs} was to be joined to one of {ours}"))
            })?;
            all.append(rows.clone());
        }
        Ok(Batch::new(all))
    }
}

/// The records of a batch; their memory serves the next batch when the last owner drops it.
struct Recycled<T: Data>(Typed<T>);

impl<T: Data> Drop for Recycled<T> {
    fn drop(&mut self) {
        self.0.take().recycle();
    }
}

impl<T: Data> Rows for Recycled<T> {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn bytes(&self) -> usize {
        self.0.bytes()
    }
    fn type_name(&self) -> &'static str {
        self.0.type_name()
    }
    fn copy_of(&self, range: Range<usize>) -> Batch {
        self.0.copy_of(range)
    }
    fn joined(&self, others: &[Batch]) -> Result<Batch, Failure> {
        self.0.joined(others)
    }
}

/// Records of one type, shared by reference where several take them (broadcast, several consumers).
#[derive(Clone)]
pub struct Batch(Arc<dyn Rows>);

impl Batch {
    /// Erases a batch.
    pub fn new<T: Data>(rows: Typed<T>) -> Batch {
        Batch(Arc::new(Recycled(rows)))
    }

    /// The records back, moved if this is the only owner, else cloned. Fails (a bug in the graph) on another type.
    pub fn take<T: Data>(self) -> Result<Typed<T>, Failure> {
        let any: Arc<dyn Any + Send + Sync> = self.0.clone();
        match any.downcast::<Recycled<T>>() {
            Ok(mut rows) => {
                drop(self);
                Ok(match Arc::get_mut(&mut rows) {
                    Some(alone) => alone.0.take(),
                    None => rows.0.clone(),
                })
            }
            Err(_) => Err(Failure::bug(format!(
                "a batch of {} reached an operator that takes {}",
                self.0.type_name(),
                type_name::<T>()
            ))),
        }
    }

    /// A look at the records; `None` if they are of another type.
    pub fn peek<T: Data>(&self) -> Option<&Typed<T>> {
        let any: &dyn Any = &*self.0;
        any.downcast_ref::<Recycled<T>>().map(|rows| &rows.0)
    }

    /// A copy of some of the records: of what the range and the batch have in common.
    pub fn copy_of(&self, range: Range<usize>) -> Batch {
        self.0.copy_of(range)
    }

    /// One batch of all records of several, in order; `None` without any. Fails (a bug) if they differ in type.
    pub fn join(batches: &[Batch]) -> Result<Option<Batch>, Failure> {
        match batches {
            [] => Ok(None),
            [only] => Ok(Some(only.clone())),
            [first, others @ ..] => first.0.joined(others).map(Some),
        }
    }

    /// How many records.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// About how many bytes of memory they hold.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({} × {})", self.len(), self.0.type_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_moves_when_alone_and_clones_when_shared() {
        let batch = Batch::new(Typed::untimed(vec![String::from("a")]));
        let text = batch.peek::<String>().map(|rows| rows.values[0].as_ptr());
        let alone = batch.take::<String>().unwrap();
        assert_eq!(Some(alone.values[0].as_ptr()), text);

        let batch = Batch::new(alone);
        let shared = batch.clone();
        assert_eq!(batch.take::<String>().unwrap(), shared.take::<String>().unwrap());
    }

    #[test]
    fn batches_are_joined_and_cut_by_copies() {
        let timed = Typed {
            values: vec![3, 4],
            times: Some(vec![Timestamp(3), Timestamp(4)]),
        };
        let batches = [Batch::new(Typed::untimed(vec![1, 2])), Batch::new(timed)];
        let joined = Batch::join(&batches).unwrap().unwrap();
        let cut = joined.copy_of(1..3).take::<i32>().unwrap();
        assert_eq!(cut.values, [2, 3]);
        assert_eq!(cut.times, Some(vec![Timestamp::MIN, Timestamp(3)]));
        assert_eq!(joined.copy_of(3..9).take::<i32>().unwrap().values, [4]);
        assert!(joined.copy_of(7..9).is_empty());
        assert_eq!(joined.take::<i32>().unwrap().values, [1, 2, 3, 4]);
        assert!(Batch::join(&[]).unwrap().is_none());
        let mixed = [
            Batch::new(Typed::untimed(vec![1])),
            Batch::new(Typed::untimed(vec!["x".to_owned()])),
        ];
        assert!(Batch::join(&mixed).is_err());
    }

    #[test]
    fn another_type_is_an_error_that_names_both() {
        let failure = Batch::new(Typed::untimed(vec![1u32])).take::<u64>().unwrap_err();
        assert!(
            failure.message.contains("u32") && failure.message.contains("u64"),
            "{failure}"
        );
    }
}
