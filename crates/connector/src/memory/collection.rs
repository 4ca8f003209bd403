//! A bounded source over a vector, cut into one range a subtask.

use crate::source::{
    Found, Peek, ReadPoll, ReadRows, ReaderCx, Source, SplitEnumerator, SplitIndex, SplitReader,
};
use rivermark_data::Data;
use rivermark_env::Env;
use rivermark_types::{Failure, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

/// The rows of a vector, in its order.
#[derive(Clone, Debug)]
pub struct CollectionSource<T> {
    rows: Arc<Vec<T>>,
    splits: Option<u32>,
}

impl<T: Data> CollectionSource<T> {
    /// These rows, one split a subtask.
    pub fn new(rows: impl IntoIterator<Item = T>) -> CollectionSource<T> {
        CollectionSource {
            rows: Arc::new(rows.into_iter().collect()),
            splits: None,
        }
    }

    /// Cuts the rows into so many splits, whatever the parallelism.
    pub fn with_splits(mut self, splits: u32) -> CollectionSource<T> {
        self.splits = Some(splits.max(1));
        self
    }
}

/// Rows `start..end` of the vector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeSplit {
    /// The first row.
    pub start: u64,
    /// One past the last row.
    pub end: u64,
}

impl fmt::Display for RangeSplit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "collection rows {}..{}", self.start, self.end)
    }
}

impl<T: Data> Source for CollectionSource<T> {
    type Row = T;
    type Split = RangeSplit;
    type Reader = CollectionReader<T>;
    type Enumerator = RangeEnumerator;

    fn name(&self) -> String {
        "collection".to_owned()
    }

    fn reader(&self, _cx: ReaderCx) -> Result<CollectionReader<T>> {
        Ok(CollectionReader {
            rows: self.rows.clone(),
            splits: VecDeque::new(),
        })
    }

    fn enumerator(&self, _env: &Env) -> Result<RangeEnumerator> {
        Ok(RangeEnumerator {
            rows: self.rows.len() as u64,
            splits: self.splits,
            found: false,
        })
    }

    async fn peek(&self, _env: &Env, split: &RangeSplit) -> Result<Peek<T>> {
        let first = self
            .rows
            .get(split.start as usize)
            .filter(|_| split.start < split.end);
        Ok(first.map_or(Peek::Empty, |row| Peek::First(row.clone())))
    }
}

/// Cuts rows into ranges, once.
pub struct RangeEnumerator {
    rows: u64,
    splits: Option<u32>,
    found: bool,
}

impl SplitEnumerator for RangeEnumerator {
    type Split = RangeSplit;

    async fn discover(&mut self, parallelism: u32) -> Result<Found<RangeSplit>> {
        let parts = u64::from(self.splits.unwrap_or(parallelism).max(1));
        let bound = |part: u64| (u128::from(self.rows) * u128::from(part) / u128::from(parts)) as u64;
        let ranges = (0..parts).map(|part| RangeSplit {
            start: bound(part),
            end: bound(part + 1),
        });
        let splits = if self.found {
            Vec::new()
        } else {
            ranges.filter(|range| range.start < range.end).collect()
        };
        self.found = true;
        Ok(Found {
            splits,
            exhausted: true,
        })
    }

    fn snapshot(&self) -> Result<Value> {
        Ok(Value::Bool(self.found))
    }

    fn restore(&mut self, state: Value) -> Result<()> {
        let found = state.as_bool();
        self.found =
            found.ok_or_else(|| Failure::invalid(format!("{state} is no state of a collection source")))?;
        Ok(())
    }
}

/// Reads ranges; a position counts rows from the range's first.
pub struct CollectionReader<T> {
    rows: Arc<Vec<T>>,
    splits: VecDeque<(SplitIndex, RangeSplit, u64)>,
}

impl<T: Data> SplitReader for CollectionReader<T> {
    type Split = RangeSplit;
    type Row = T;

    fn assign(&mut self, index: SplitIndex, split: RangeSplit, position: u64) -> Result<()> {
        if split.end > self.rows.len() as u64 {
            return Err(Failure::invalid(format!(
                "the checkpoint reads {split}, but the collection has {} rows: give the job the same collection",
                self.rows.len()
            )));
        }
        self.splits.push_back((index, split, position));
        Ok(())
    }

    fn next(&mut self, max_rows: usize, out: &mut ReadRows<T>) -> Result<ReadPoll> {
        let Some((index, split, position)) = self.splits.front_mut() else {
            return Ok(ReadPoll::Pending);
        };
        let index = *index;
        let start = split.start.saturating_add(*position).min(split.end);
        let end = split.end.min(start.saturating_add(max_rows as u64));
        if start == end {
            self.splits.pop_front();
            return Ok(ReadPoll::Done(index));
        }
        out.fill_consecutive(*position, self.rows[start as usize..end as usize].iter().cloned());
        *position = out.resume();
        Ok(ReadPoll::Rows(index))
    }
}
