//! Event time and processing time. They never mix: an event's time is the user's, a deadline is the machine's.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Event time: milliseconds since 1970-01-01T00:00:00Z, negative before. Also the unit of watermarks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Before all events; the watermark of a stream that has promised nothing.
    pub const MIN: Timestamp = Timestamp(i64::MIN);
    /// After all events; the watermark of a stream that has ended.
    pub const MAX: Timestamp = Timestamp(i64::MAX);

    /// This time plus `ms` milliseconds, saturating, so that `MIN` and `MAX` stay what they mean.
    pub fn plus_ms(self, ms: i64) -> Timestamp {
        match self {
            Timestamp::MIN | Timestamp::MAX => self,
            Timestamp(t) => Timestamp(t.saturating_add(ms)),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Timestamp::MIN => f.write_str("-inf"),
            Timestamp::MAX => f.write_str("+inf"),
            Timestamp(t) => write!(f, "{t} ms"),
        }
    }
}

/// Processing time: milliseconds on the clock of the `Env`, monotonic, with an arbitrary zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// This instant plus a duration (whole milliseconds, saturating).
    pub fn after(self, wait: Duration) -> Millis {
        Millis(
            self.0
                .saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        )
    }

    /// How long ago `earlier` was; zero if it is in the future.
    pub fn since(self, earlier: Millis) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}
