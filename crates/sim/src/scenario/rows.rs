//! The rows of scenarios: what goes in, what comes out.

use crate::Draw;
use serde::{Deserialize, Serialize};

/// How far apart in event time two rows are that follow each other, but for the disorder.
const STEP_MS: i64 = 10;

/// A row of input. Values are positive, so that a row counted twice shows in every sum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Input {
    pub(crate) key: u32,
    pub(crate) time: i64,
    pub(crate) value: i64,
    /// Its number, from 0.
    pub(crate) id: u64,
}

/// A row of output: what `count` rows of a key came to, up to a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Output {
    pub(crate) key: u32,
    pub(crate) time: i64,
    pub(crate) sum: i64,
    pub(crate) count: u64,
}

/// What sums can be made of.
pub(crate) trait Weighed {
    /// The value, and of how many rows.
    fn weight(&self) -> (i64, u64);
    /// The key as a number.
    fn key(&self) -> u32;
}

impl Weighed for Input {
    fn weight(&self) -> (i64, u64) {
        (self.value, 1)
    }
    fn key(&self) -> u32 {
        self.key
    }
}

impl Weighed for Output {
    fn weight(&self) -> (i64, u64) {
        (self.sum, self.count)
    }
    fn key(&self) -> u32 {
        self.key
    }
}

/// Rows whose times are out of order by at most `disorder_ms`, in whatever way they are cut into splits.
pub(crate) fn input_rows(draw: &mut Draw, count: u64, keys: u32, disorder_ms: u64) -> Vec<Input> {
    let row = |id: u64| Input {
        key: draw.below(u64::from(keys)) as u32,
        time: id as i64 * STEP_MS + draw.between(0, disorder_ms) as i64,
        value: draw.between(1, 1_000_000) as i64,
        id,
    };
    (0..count).map(row).collect()
}
