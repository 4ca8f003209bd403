//! What a source or sink of one's own is made of. `examples/custom_source.rs` and `examples/custom_sink.rs` show one each;
//! the contract of each is told at [`SplitReader`] and [`TwoPhaseSink`].

pub use rivermark_connector::{
    Found, Peek, ReadPoll, ReadRows, ReaderCx, Sink, Source, Split, SplitEnumerator, SplitIndex, SplitReader,
    TwoPhaseSink,
};
pub use rivermark_env::Env;
pub use rivermark_runtime::SubtaskInfo;
pub use rivermark_types::CheckpointId;
