//! The typed DataStream API: a job as streams of Rust values, with Flink's words.
//!
//! Layout: [`StreamEnv`] (`env`: sources, and what holds for the whole job), [`DataStream`] (`stream`: what needs no key;
//! `placement`: partitioners and slots; `process`: operators of the user's own), [`KeyedStream`] and [`ConnectedStreams`]
//! (`keyed`), [`WindowedStream`] (`window`), [`JoinedStreams`] and [`IntervalJoin`] (`join`), [`StreamSink`] (`sink`), and
//! `draft`,
//! the graph that all of them write to. What comes out is a `Program`: a graph, and what its nodes and edges are made of.
//! Non-goals: it runs nothing, and does no I/O.

mod async_stream;
mod draft;
mod env;
mod failures;
mod join;
mod keyed;
mod placement;
mod process;
mod sink;
mod stream;
mod window;

#[cfg(test)]
mod shape_tests;
#[cfg(test)]
mod tests;

pub use async_stream::AsyncStream;
pub use env::StreamEnv;
pub use failures::FailingRow;
pub use join::{BoundedJoin, Groups, IntervalJoin, JoinedStreams, Pairs, WindowedJoin};
pub use keyed::{ConnectedStreams, KeyedStream};
pub use process::{BroadcastConnectedStream, ConnectedDataStreams, KeyedBroadcastConnectedStream};
pub use sink::StreamSink;
pub use stream::DataStream;
pub use window::{DropLate, KeepLate, LateRecords, ToWindows, Windowed, WindowedStream};

pub use rivermark_connector::{
    CollectSink, Collected, CollectionSource, DiscardNode, GeneratorSource, PrintSink, SourceNode,
    Undecodable, WatermarkStrategy, endless_sequence, sequence,
};
pub use rivermark_data::{DeadLetter, Text};
pub use rivermark_protocol::graph::GuaranteeMode;
pub use rivermark_runtime::metrics::{Counter, Gauge, Histogram, Meter};
pub use rivermark_runtime::operators::window::{
    AtEnd, ContinuousEventTime, ContinuousProcessingTime, Count, Delta, EventTime, EvictCount, EvictDelta,
    EvictTime, Evicting, Evictor, Firing, Global, InProcessingTime, MergeAggregate, MergingFold, On,
    ProcessingTime, Purging, Session, SessionProcessingTime, Side, Sliding, SlidingProcessingTime, Trigger,
    TriggerCx, TriggerResult, TumblingProcessingTime, WindowAssigner, WindowsOf,
};
pub use rivermark_runtime::operators::{
    Aggregate, AsyncMode, AsyncRetry, BroadcastOp, Fold, KeyedBroadcastOp, KeyedOp, KeyedOp2, KeyedOpenCx,
    Out, ProcessOp, ProcessOp2, ProcessOpenCx, Timed, Timer, TtlOpenCx, Tumbling, Window,
};
pub use rivermark_runtime::{OperatorList, OutputTag, Program, SideOutput};
pub use rivermark_state::{
    AggregateFunction, AggregatingState, ReducingState, StateTtl, StateVisibility, TtlAggregatingState,
    TtlListState, TtlMapState, TtlReducingState, TtlValueState, UpdateType,
};
pub use rivermark_state::{Key, ListState, MapState, Timers, ValueState};
pub use rivermark_types::{Failure, Result, Timestamp};
