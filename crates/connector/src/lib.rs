//! The harness between connectors and the engine: what a source and a sink are, and the one home of everything about them
//! that must not be written twice.
//!
//! Layout: [`source`] (what a source connector writes), [`watermark`] and [`pace`] (event time and speed of any source),
//! [`source_task`] and [`source_node`] (a source in the engine), [`sink`] (what a sink connector writes), [`commit`] (a
//! sink in the engine: prepare, commit, recommit, abort), [`memory`] (sources and sinks without a system behind them),
//! [`conformance`] (what every connector is tested with).
//! Non-goals: connectors never see a barrier, a channel or a snapshot, and this crate knows no foreign system.

pub mod commit;
pub mod conformance;
mod idleness;
pub mod memory;
pub mod pace;
pub mod sink;
pub mod source;
pub mod source_node;
pub mod source_task;
pub mod watermark;

pub use commit::{CommitNode, CommitOperator};
pub use memory::{
    CollectSink, Collected, CollectionSource, DiscardNode, GeneratorSource, PrintSink, endless_sequence,
    sequence,
};
pub use sink::{Sink, TwoPhaseSink};
pub use source::{
    BadRecord, Found, Peek, ReadPoll, ReadRows, ReaderCx, Source, Split, SplitEnumerator, SplitIndex,
    SplitReader, Undecodable,
};
pub use source_node::SourceNode;
pub use source_task::SourceTask;
pub use watermark::WatermarkStrategy;
