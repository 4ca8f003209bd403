//! Rows made from consecutive numbers: bounded or endless. [`crate::SourceNode::rate`] limits how many a second.

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
use std::marker::PhantomData;

/// `make(0)`, `make(1)` and so on. Split *k* of *n* has the numbers *k*, *k + n*, *k + 2n*, so all splits advance together.
/// The function must give the same row for the same number, always: a replay asks again.
#[derive(Clone, Debug)]
pub struct GeneratorSource<T, F> {
    make: F,
    rows: Option<u64>,
    row: PhantomData<fn() -> T>,
}

impl<T: Data, F: Fn(u64) -> T + Clone + Send + Sync + 'static> GeneratorSource<T, F> {
    /// So many rows.
    pub fn bounded(rows: u64, make: F) -> GeneratorSource<T, F> {
        GeneratorSource {
            make,
            rows: Some(rows),
            row: PhantomData,
        }
    }

    /// Rows without an end.
    pub fn endless(make: F) -> GeneratorSource<T, F> {
        GeneratorSource {
            make,
            rows: None,
            row: PhantomData,
        }
    }
}

/// The numbers `0..rows`.
pub fn sequence(rows: u64) -> GeneratorSource<u64, impl Fn(u64) -> u64 + Clone + Send + Sync + 'static> {
    GeneratorSource::bounded(rows, |number| number)
}

/// The numbers from 0, without an end.
pub fn endless_sequence() -> GeneratorSource<u64, impl Fn(u64) -> u64 + Clone + Send + Sync + 'static> {
    GeneratorSource::endless(|number| number)
}

/// Every `stride`-th number from `start` on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrideSplit {
    /// The first number.
    pub start: u64,
    /// The distance to the next.
    pub stride: u64,
    /// How many; `None` without an end.
    pub rows: Option<u64>,
}

impl fmt::Display for StrideSplit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "numbers {} mod {}", self.start, self.stride)
    }
}

impl<T: Data, F: Fn(u64) -> T + Clone + Send + Sync + 'static> Source for GeneratorSource<T, F> {
    type Row = T;
    type Split = StrideSplit;
    type Reader = GeneratorReader<T, F>;
    type Enumerator = StrideEnumerator;

    fn name(&self) -> String {
        "generator".to_owned()
    }

    fn reader(&self, _cx: ReaderCx) -> Result<GeneratorReader<T, F>> {
        Ok(GeneratorReader {
            make: self.make.clone(),
            splits: VecDeque::new(),
            row: PhantomData,
        })
    }

    fn enumerator(&self, _env: &Env) -> Result<StrideEnumerator> {
        Ok(StrideEnumerator {
            rows: self.rows,
            found: false,
        })
    }

    fn reads_many_splits(&self) -> bool {
        self.rows.is_none()
    }

    async fn peek(&self, _env: &Env, split: &StrideSplit) -> Result<Peek<T>> {
        Ok(if split.rows == Some(0) {
            Peek::Empty
        } else {
            Peek::First((self.make)(split.start))
        })
    }
}

/// Deals numbers out to strides, once.
pub struct StrideEnumerator {
    rows: Option<u64>,
    found: bool,
}

impl SplitEnumerator for StrideEnumerator {
    type Split = StrideSplit;

    async fn discover(&mut self, parallelism: u32) -> Result<Found<StrideSplit>> {
        let stride = u64::from(parallelism.max(1));
        let split = |start: u64| StrideSplit {
            start,
            stride,
            rows: self.rows.map(|rows| rows.saturating_sub(start).div_ceil(stride)),
        };
        let splits = (0..stride).map(split).filter(|split| split.rows != Some(0));
        let splits = if self.found { Vec::new() } else { splits.collect() };
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
            found.ok_or_else(|| Failure::invalid(format!("{state} is no state of a generator source")))?;
        Ok(())
    }
}

/// Makes rows, of its splits in turns; a position counts rows from the split's first.
pub struct GeneratorReader<T, F> {
    make: F,
    splits: VecDeque<(SplitIndex, StrideSplit, u64)>,
    row: PhantomData<fn() -> T>,
}

impl<T: Data, F: Fn(u64) -> T + 'static> SplitReader for GeneratorReader<T, F> {
    type Split = StrideSplit;
    type Row = T;

    fn assign(&mut self, index: SplitIndex, split: StrideSplit, position: u64) -> Result<()> {
        self.splits.push_back((index, split, position));
        Ok(())
    }

    fn next(&mut self, max_rows: usize, out: &mut ReadRows<T>) -> Result<ReadPoll> {
        let Some((index, split, position)) = self.splits.pop_front() else {
            return Ok(ReadPoll::Pending);
        };
        let most = max_rows as u64;
        let rows = split
            .rows
            .map_or(most, |rows| rows.saturating_sub(position).min(most));
        if rows == 0 {
            return Ok(ReadPoll::Done(index));
        }
        out.fill_consecutive(
            position,
            (position..position + rows).map(|i| (self.make)(split.start + i * split.stride)),
        );
        self.splits.push_back((index, split, out.resume()));
        Ok(ReadPoll::Rows(index))
    }
}
