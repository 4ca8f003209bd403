//! What the engine sees of a source: a driver at the head of a chain, an enumerator beside the master. Connectors do not
//! implement these; `connector` does, once, for all of them.

use crate::messages::OperatorEvent;
use crate::operator::{Cx, Lists, OpenCx};
use rivermark_env::BoxFuture;
use rivermark_types::{CheckpointId, Millis, Result, Timestamp};
use serde_json::Value;
use std::time::Duration;

/// What a poll of a source gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourcePoll {
    /// Something was emitted; there may be more.
    Emitted,
    /// Nothing at hand; the slot is woken when there is, or at this time if one is given.
    Idle(Option<Millis>),
}

/// The head of a source's chain. Called on its slot's thread only; no call blocks.
///
/// Between two polls the engine may take a snapshot: `snapshot_lists` gives the positions behind the last row emitted.
pub trait SourceDriver {
    /// Prepares; it gets its splits by events, after a restore too.
    fn open(&mut self, cx: &mut OpenCx<'_>) -> Result<()>;
    /// Emits at most `max_rows` rows and the watermark that follows from them.
    fn poll(&mut self, max_rows: usize, cx: &mut Cx<'_>) -> Result<SourcePoll>;
    /// Something from the master.
    fn on_event(&mut self, event: &OperatorEvent, cx: &mut Cx<'_>) -> Result<()>;
    /// The lists of this checkpoint's snapshot: under [`SPLITS`], one `SourceAssignment` for each split it holds.
    fn snapshot_lists(&mut self, checkpoint: CheckpointId) -> Result<Lists>;
    /// Where the rows last emitted come from, for errors: split and positions. With `left`: the row of the last poll that has
    /// so many behind it.
    fn place(&self, left: Option<usize>) -> String;
}

/// The name of the list that holds a source subtask's splits. After a restore the master takes it, not the subtask.
pub const SPLITS: &str = "splits";

/// A split found by an enumerator.
#[derive(Clone, Debug, PartialEq)]
pub struct DiscoveredSplit {
    /// The split, for its reader.
    pub split: Value,
    /// The earliest event time in it less the allowed disorder, if known: how far the watermark may rise unread.
    pub lower_bound: Option<Timestamp>,
}

/// What a discovery gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Discovery {
    /// New splits, in the order in which they are to be read.
    pub splits: Vec<DiscoveredSplit>,
    /// Whether there will never be more (a bounded source).
    pub exhausted: bool,
}

/// Finds splits; lives beside the master, on the I/O runtime. Who reads what is the master's `SplitTracker`'s matter.
pub trait SourceEnumerator: Send {
    /// Looks for splits that are new since the last call. `parallelism` is that of the source's readers.
    fn discover(&mut self, parallelism: u32) -> BoxFuture<'_, Result<Discovery>>;
    /// How long after a discovery that was not the last to look again; `None` for never.
    fn look_again(&self) -> Option<Duration> {
        None
    }
    /// Its own state (what it has found already), taken before the barriers of a checkpoint are injected.
    fn snapshot(&mut self) -> Result<Value>;
    /// Takes up a state of an earlier run; called before `discover`, if at all.
    fn restore(&mut self, state: Value) -> Result<()>;
}
