//! Time to live: state that goes by itself when nobody has used it for a while.
//!
//! Layout: this file has what a user says ([`StateTtl`]) and the clock; `aging` has the rows, each thing in them with the
//! time of its last access; `table` puts them on a plain table, cleans up, and writes and reads the snapshot; `handles` is
//! what operators hold. Time is the processing time of the operator's call, read once a call.
//!
//! In a snapshot the time of last access stands in the column `namespace`, and values are those of the same state
//! without a time to live. So either can be declared over the other's snapshot: rows without a time count as used at the
//! restore, and a state that is declared without a time to live forgets the times and keeps the rows. What had expired by
//! the freeze is not in the snapshot; what has expired by the restore is not restored.

mod aging;
mod handles;
mod table;
#[cfg(test)]
mod tests;

pub use handles::{TtlAggregatingState, TtlListState, TtlMapState, TtlReducingState, TtlValueState};

pub(crate) use aging::{Aging, Expiring, ExpiringList, ExpiringMap};
pub(crate) use table::TtlTable;

use rivermark_types::Timestamp;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// What counts as an access, from which the time to live runs anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpdateType {
    /// Making and changing.
    #[default]
    OnCreateAndWrite,
    /// Reading too.
    OnReadAndWrite,
}

/// Whether what has expired may still be seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StateVisibility {
    /// Never.
    #[default]
    NeverReturnExpired,
    /// Until it is cleaned up, which is some time later.
    ReturnExpiredIfNotCleanedUp,
}

/// How long a state lives after its last access, in processing time: values, accumulators, and each entry of a list or map
/// by itself.
///
/// What has expired is never seen, by default. It goes by itself, beside the work, within an eighth of the time to live and
/// the time it takes to look through the table.
///
/// ```
/// use rivermark_state::{StateTtl, UpdateType};
/// use std::time::Duration;
///
/// let a_day = StateTtl::new(Duration::from_secs(86_400));
/// let a_day_unused = a_day.with_update_type(UpdateType::OnReadAndWrite);
/// assert_eq!(a_day_unused.duration(), a_day.duration());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateTtl {
    ttl_ms: i64,
    update_type: UpdateType,
    visibility: StateVisibility,
}

impl StateTtl {
    /// So long, in whole milliseconds and at least one, since something was made or changed; never seen afterwards.
    pub fn new(ttl: Duration) -> StateTtl {
        StateTtl {
            ttl_ms: i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX).max(1),
            update_type: UpdateType::default(),
            visibility: StateVisibility::default(),
        }
    }

    /// What counts as an access.
    pub fn with_update_type(self, update_type: UpdateType) -> StateTtl {
        StateTtl { update_type, ..self }
    }

    /// Whether what has expired may still be seen.
    pub fn with_visibility(self, visibility: StateVisibility) -> StateTtl {
        StateTtl { visibility, ..self }
    }

    /// The time to live.
    pub fn duration(self) -> Duration {
        Duration::from_millis(self.ttl_ms.unsigned_abs())
    }

    /// Whether what was accessed last at `at` has expired. It lives for its time to live, not a millisecond more.
    #[inline(always)]
    fn is_expired(self, at: i64, now: i64) -> bool {
        at.saturating_add(self.ttl_ms) <= now
    }

    #[inline(always)]
    fn is_visible(self, at: i64, now: i64) -> bool {
        !self.is_expired(at, now) || self.visibility == StateVisibility::ReturnExpiredIfNotCleanedUp
    }

    /// Whether reading what was accessed at `at` sets its time anew. What has expired stays so.
    #[inline(always)]
    fn is_refreshed_by_reading(self, at: i64, now: i64) -> bool {
        self.update_type == UpdateType::OnReadAndWrite && at != now && !self.is_expired(at, now)
    }

    /// How long after the start of one look through the table the next one starts.
    fn sweep_interval_ms(self) -> i64 {
        const OFTEN_ENOUGH_MS: i64 = 10;
        (self.ttl_ms / 8).max(OFTEN_ENOUGH_MS)
    }
}

/// The time of the operator's call, shared by its states and set by its task.
#[derive(Clone, Default)]
pub(crate) struct Clock(Rc<Cell<i64>>);

impl Clock {
    pub(crate) fn set(&self, now: Timestamp) {
        self.0.set(now.0);
    }
    #[inline(always)]
    pub(crate) fn now(&self) -> i64 {
        self.0.get()
    }
}
