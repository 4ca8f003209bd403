//! What is known of rows that fail. After an operator's first failure the next attempts run it carefully: the engine then
//! knows the row that it is on. A row that fails three times is the reason by itself; it ends the job, or is given up.
//!
//! The first failure of an operator shows no row; it counts for the first row that is seen to fail there. Three checkpoints
//! decided in one attempt show that the job is past the trouble: then everything here is forgotten, and the operators run
//! as ever.

use super::FailurePolicy;
use rivermark_types::NodeId;
use std::collections::{BTreeMap, BTreeSet};

/// The operators that are to run carefully, each with the digests of the rows that it is to give up.
pub type CarefulPlan = BTreeMap<NodeId, BTreeSet<u64>>;

/// A row that an operator failed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedRow {
    /// A digest of its content: what it is known again by.
    pub digest: u64,
    /// Whether the operator may give it up (to the dead letters) instead of ending the job.
    pub may_be_given_up: bool,
}

/// So many checkpoints decided in one attempt, and an operator needs no care any more.
pub const CHECKPOINTS_UNTIL_NORMAL: u32 = 3;

/// What follows from a failure, as far as rows are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowVerdict {
    /// No row is known.
    Unknown,
    /// The row is from here on given up.
    GivenUp,
    /// The row has not failed often enough yet, and will be given up if it does.
    MayBeGivenUp,
    /// The row has failed too often.
    Repeated(u32),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Careful {
    operators: BTreeMap<NodeId, Operator>,
    /// Checkpoints decided in this attempt.
    decided: u32,
}

#[derive(Clone, Debug, Default)]
struct Operator {
    /// Failures that showed no row and that no row was blamed for yet.
    unseen: u32,
    /// By digest: attempts that failed at the row.
    rows: BTreeMap<u64, u32>,
    given_up: BTreeSet<u64>,
    /// Whether a failure of this attempt was counted.
    counted_now: bool,
}

impl Careful {
    pub(super) fn attempt_started(&mut self) {
        self.decided = 0;
        self.operators
            .values_mut()
            .for_each(|operator| operator.counted_now = false);
    }

    pub(super) fn checkpoint_decided(&mut self) {
        self.decided += 1;
        if self.decided >= CHECKPOINTS_UNTIL_NORMAL {
            self.operators.clear();
        }
    }

    pub(super) fn failed(&mut self, node: NodeId, row: Option<FailedRow>) -> RowVerdict {
        let operator = self.operators.entry(node).or_default();
        let new = !std::mem::replace(&mut operator.counted_now, true);
        let Some(row) = row else {
            operator.unseen += u32::from(new);
            return RowVerdict::Unknown;
        };
        let count = match operator.rows.get(&row.digest) {
            Some(count) => *count,
            None => std::mem::take(&mut operator.unseen),
        };
        let count = count + u32::from(new);
        operator.rows.insert(row.digest, count);
        match (count >= FailurePolicy::SAME_PLACE_LIMIT, row.may_be_given_up) {
            (true, true) => {
                operator.rows.remove(&row.digest);
                operator.given_up.insert(row.digest);
                RowVerdict::GivenUp
            }
            (true, false) => RowVerdict::Repeated(count),
            (false, true) => RowVerdict::MayBeGivenUp,
            (false, false) => RowVerdict::Unknown,
        }
    }

    pub(super) fn plan(&self) -> CarefulPlan {
        let plan = self
            .operators
            .iter()
            .map(|(node, operator)| (*node, operator.given_up.clone()));
        plan.collect()
    }
}
