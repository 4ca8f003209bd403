//! Windows: which rows belong together, when what they come to is emitted, and how long it is kept.
//!
//! Four choices make a window operator, each with a file: [`assign`] (which windows a row belongs to), [`contents`] (what is kept
//! of rows and what it becomes; [`aggregate`] and [`join`] have some), [`trigger`] and [`evict`] (when a window fires, and what it
//! forgets; together they are its [`firing`]). Two cores keep the state: [`aligned`] (windows of one size that fire at their end: a table a window) and
//! [`triggered`] (all else: a row a key). [`inputs`] makes operators of them, with one input or two. [`tumbling`] is the
//! most frequent case by itself, for speed.
//! Windows of event time are the rule; [`processing`] has those of the machine's clock, and [`clocked`] triggers that go by it.

pub mod aggregate;
pub mod aligned;
pub mod assign;
pub mod clocked;
pub mod contents;
pub mod evict;
pub mod firing;
pub mod inputs;
pub mod join;
pub mod processing;
pub mod trigger;
pub mod triggered;
pub mod tumbling;

pub use aggregate::{Aggregate, Fold, MergeAggregate, MergingFold};
pub use aligned::AlignedWindows;
pub use assign::{
    DynamicGap, FixedGap, Global, Session, SessionGap, SizedWindows, Sliding, WindowAssigner, WindowsOf,
};
pub use clocked::{ContinuousProcessingTime, ProcessingTime};
pub use contents::{Aggregated, Contents, Gathered, MergingContents, Reduced};
pub use evict::{EvictCount, EvictDelta, EvictTime, Evicted, Evictor};
pub use firing::{AtEnd, Evicting, Firing, On};
pub use inputs::{WindowCore, WindowJoinOperator, WindowsOperator};
pub use join::{CoGrouped, JoinedPairs, Side, Sides};
pub use processing::{
    InProcessingTime, SessionProcessingTime, SlidingProcessingTime, TumblingProcessingTime,
};
pub use trigger::{ContinuousEventTime, Count, Delta, EventTime, Purging, Trigger, TriggerCx, TriggerResult};
pub use triggered::TriggeredWindows;
pub use tumbling::{Tumbling, WindowOperator};

use rivermark_types::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The output port of late rows.
pub const LATE_PORT: u8 = 1;

/// A span of time: of event time, if nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Window {
    /// The first time inside.
    pub start: Timestamp,
    /// The first time behind it.
    pub end: Timestamp,
}

impl Window {
    /// All of time.
    pub const ALL: Window = Window {
        start: Timestamp::MIN,
        end: Timestamp::MAX,
    };

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

/// How long windows wait for late rows, and what becomes of those that come later still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lateness {
    allowed_ms: i64,
    /// What becomes of rows that no window takes any more.
    pub rows: LateRows,
}

impl Lateness {
    /// A window stays until the watermark is `allowed` (in whole milliseconds) behind its last time.
    pub fn new(allowed: Duration, rows: LateRows) -> Lateness {
        Lateness {
            allowed_ms: assign::millis(allowed),
            rows,
        }
    }

    /// Whether windows stay after they have fired.
    fn keeps(self) -> bool {
        self.allowed_ms > 0
    }

    /// The watermark at which a time is late.
    #[inline]
    fn of(self, time: Timestamp) -> Timestamp {
        time.plus_ms(self.allowed_ms)
    }

    /// The watermark at which a window goes.
    #[inline]
    fn gone_at(self, window: Window) -> Timestamp {
        self.of(window.last())
    }
}
