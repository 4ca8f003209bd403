//! Under which sizes and limits an operator is run.

use rivermark_runtime::chain::Slice;
use rivermark_runtime::channel::Credit;
use std::fmt;

const ANY: usize = 4096;

/// The sizes of one run.
#[derive(Clone, Copy)]
pub(crate) struct Conditions {
    /// The most rows a batch of the input has.
    pub(crate) batch: usize,
    /// The most rows an operator may take in one call.
    slice: usize,
    /// The most rows that may wait behind it.
    credit: usize,
    /// Whether it is told of things that do not concern it between any two calls.
    pub(crate) is_disturbed: bool,
}

impl Conditions {
    /// Every size, limit and disturbance with every other.
    pub(crate) fn all() -> impl Iterator<Item = Conditions> {
        let limits = [(1, 1), (1, ANY), (ANY, 1), (ANY, ANY)];
        [1, 7, ANY].into_iter().flat_map(move |batch| {
            limits.into_iter().map(move |(slice, credit)| Conditions {
                batch,
                slice,
                credit,
                is_disturbed: slice == credit,
            })
        })
    }

    /// A few that differ in everything.
    pub(crate) fn few() -> [Conditions; 3] {
        let sizes = |batch, slice, credit| Conditions {
            batch,
            slice,
            credit,
            is_disturbed: true,
        };
        [sizes(1, ANY, ANY), sizes(7, 1, 1), sizes(ANY, ANY, ANY)]
    }

    /// With more rows in a batch than in a slice.
    pub(crate) fn sliced() -> [Conditions; 2] {
        let sizes = |batch, credit| Conditions {
            batch,
            slice: 1,
            credit,
            is_disturbed: false,
        };
        [sizes(7, 1), sizes(ANY, ANY)]
    }

    pub(crate) fn slice(&self) -> Slice {
        Slice {
            budget_ns: 2_000_000,
            max_rows: self.slice,
        }
    }

    pub(crate) fn credit(&self) -> Credit {
        Credit {
            rows: self.credit,
            bytes: usize::MAX,
        }
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Conditions {
            batch, slice, credit, ..
        } = self;
        write!(f, "batches of {batch}, slices of {slice}, credit of {credit}")
    }
}
