//! The one small value of a job, replaced by compare-and-set: the only write that decides anything.

use crate::StorageError;
use bytes::Bytes;
use rivermark_env::BoxFuture;

/// A value and its version. Versions start at 1 and grow by 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// How many values there were so far, this one included.
    pub version: u64,
    /// The value.
    pub bytes: Bytes,
}

/// How a compare-and-set ended. "Failed" and "unknown" are never mixed.
#[derive(Debug)]
pub enum CasOutcome {
    /// The value is the head and durable.
    Committed {
        /// The version it got: the expected one plus 1.
        version: u64,
    },
    /// Another value is the head (or none is, where one was expected). Whether this one was the head for a while in
    /// between is not said: whoever replaced it has seen it.
    Conflict(Option<Head>),
    /// It was not written and will not be. A later call may succeed where the error is retryable.
    NotWritten(StorageError),
    /// It may or may not have been written, or may be written yet. Repeat the very same call until it says more.
    Unknown(StorageError),
}

/// One value, replaced by compare-and-set.
///
/// A handle stands for one writer. *Own* values are told from others' by the writer, not by the bytes alone: two handles
/// that propose equal bytes are still two, and one of them gets a `Conflict`.
pub trait Cas: Send + Sync {
    /// The newest value, `None` before the first. What it returns is *durable*: it will not go back after a loss of
    /// power, even if its writer never learned that it was written. `Damaged` if the newest value is not what was
    /// written; it never falls back to an older one.
    fn head(&self) -> BoxFuture<'_, Result<Option<Head>, StorageError>>;

    /// Replaces the head if its version is `expected` (`None`: if there is none).
    ///
    /// *Atomic*: of several writers that expect the same version one is committed. *Durable* when it says `Committed`.
    /// *Idempotent*: the same call (same handle, same expected version, same bytes), repeated while its value is the
    /// head, says `Committed` again. A dropped call counts as `Unknown`.
    fn compare_and_set(&self, expected: Option<u64>, bytes: Bytes) -> BoxFuture<'_, CasOutcome>;
}

/// The version that follows the expected one.
pub(crate) fn version_after(expected: Option<u64>) -> Result<u64, StorageError> {
    expected
        .unwrap_or(0)
        .checked_add(1)
        .ok_or_else(|| StorageError::invalid("there is no version after the last"))
}
