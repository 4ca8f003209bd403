//! The operators of the DataStream API: what a stream's methods become.
//!
//! Layout: [`async_call`] (calls to the outside), [`fused`] (runs of map, filter and flat_map as one loop), `ahead` (the keys
//! of the next rows), [`keyed`] (what a user writes behind a `key_by`, and its operator), [`connect`] (the same with two
//! inputs), [`process`] (both without keys), [`broadcast`] (with what every subtask is told), [`reduce`] (a running value a
//! key), [`ttl`] (states with a time to live), [`window`] (windows of one stream and of two), [`interval_join`] (two streams
//! by the distance of times).
//! All keyed state goes through handles of `KeyedBackend`, so none of them knows of snapshots. Non-goals: sources and
//! sinks (`connector` has them), and anything about the graph.

mod ahead;
pub mod async_call;
pub mod broadcast;
pub mod connect;
pub mod fused;
pub mod interval_join;
pub mod keyed;
pub mod process;
pub mod reduce;
pub mod ttl;
pub mod window;

#[cfg(test)]
mod tests;

pub use async_call::AsyncOperator;
pub use async_call::options::{AsyncMode, AsyncOptions, AsyncRetry};
pub use broadcast::{BroadcastOp, BroadcastOperator, KeyedBroadcastOp, KeyedBroadcastOperator};
pub use connect::{ConnectOperator, KeyedOp2};
pub use fused::{Filter, FlatMap, FusedOperator, Identity, Map, Pipe, Stage, TryMap};
pub use interval_join::{Interval, IntervalJoinOperator};
pub use keyed::{KeyedOp, KeyedOpenCx, KeyedOperator, Out, Timed, Timer};
pub use process::{FlatMap2, ProcessOp, ProcessOp2, ProcessOpenCx, ProcessOperator, ProcessOperator2};
pub use reduce::Reduce;
pub use ttl::TtlOpenCx;
pub use window::{Aggregate, Fold, LateRows, Tumbling, Window, WindowOperator};
