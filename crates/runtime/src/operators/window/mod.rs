//! Event-time windows: which rows belong together, when what they come to is emitted, and how long it is kept.
//!
//! Layout: [`aggregate`] (how rows become one result), [`tumbling`] (windows one behind the other; one accumulator a key).
//! Non-goals: processing time.

pub mod aggregate;
pub mod tumbling;

pub use aggregate::{Aggregate, Fold};
pub use tumbling::{Tumbling, WindowOperator};

use rivermark_types::Timestamp;
use serde::{Deserialize, Serialize};

/// The output port of late rows.
pub const LATE_PORT: u8 = 1;

/// A span of event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Window {
    /// The first time inside.
    pub start: Timestamp,
    /// The first time behind it.
    pub end: Timestamp,
}

impl Window {
    /// The last time inside: the time of what the window emits, and the watermark at which it does.
    pub fn last(&self) -> Timestamp {
        self.end.plus_ms(-1)
    }
}

/// What becomes of late rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LateRows {
    /// Dropped and counted.
    Drop,
    /// Sent to [`LATE_PORT`].
    Emit,
}
