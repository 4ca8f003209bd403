//! What an exactly-once sink connector writes: rows go out in two phases, so that what a checkpoint covers becomes visible
//! exactly once, whatever fails in between.
//!
//! The contract: `write` puts rows where readers do not see them. `prepare` makes all rows written so far durable and
//! returns what is needed to make them visible (the *committables*); after it returned, a loss of power loses nothing of
//! them. `commit` makes them visible and may be told the same ones again, by another instance, in another process, after
//! any crash: then it does nothing. `abort_unlisted` throws away what writers before this attempt left behind. A writer of
//! a dead attempt may still run somewhere: whatever it does must change nothing that is visible.

use rivermark_data::Data;
use rivermark_env::Env;
use rivermark_runtime::SubtaskInfo;
use rivermark_types::{CheckpointId, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A sink as the user has configured it: makes a writer for every subtask of every attempt.
pub trait Sink: Send + Sync + 'static {
    /// What it writes with.
    type Writer: TwoPhaseSink;

    /// A short name for people, e.g. `files out/`.
    fn name(&self) -> String;

    /// Whether each row is published exactly once. Such a sink needs a `uid`, and a job mode that can keep the word.
    fn is_exactly_once(&self) -> bool {
        true
    }

    /// A writer. It may not touch the outside yet: that begins with its first call.
    fn writer(&self, env: &Env, info: &SubtaskInfo) -> Result<Self::Writer>;
}

/// One subtask's end of a sink. Owned by an I/O task, which makes one call at a time.
///
/// Order of calls: `commit` of what was restored (also when there is nothing), on subtask 0 then `abort_unlisted`, then any
/// of `write`, `prepare`, `commit`. After an error the writer is dropped; it may be dropped at any await of any call. When
/// its attempt ends it is dropped between two calls.
pub trait TwoPhaseSink: Send + 'static {
    /// What it takes.
    type Row: Data;
    /// What makes prepared rows visible. Travels as JSON in checkpoints, so its fields evolve by name. Small: a name, an id.
    type Committable: Serialize + DeserializeOwned + Clone + Send + 'static;

    /// Writes rows, invisibly.
    fn write(&mut self, rows: Vec<Self::Row>) -> impl Future<Output = Result<()>> + Send;

    /// Makes durable what has been written since the last `prepare`, and closes it.
    fn prepare(
        &mut self,
        checkpoint: CheckpointId,
    ) -> impl Future<Output = Result<Vec<Self::Committable>>> + Send;

    /// Makes prepared rows visible, durably, in this order. Idempotent for each.
    fn commit(&mut self, committables: Vec<Self::Committable>) -> impl Future<Output = Result<()>> + Send;

    /// Throws away everything invisible that this job's earlier attempts and generations left. Called when every restored
    /// committable of every subtask is committed, and before any writer of this attempt gets a row.
    fn abort_unlisted(&mut self) -> impl Future<Output = Result<()>> + Send;
}
