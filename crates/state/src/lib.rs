//! Keyed state: tables, timers, and how they become a snapshot and come back.
//!
//! Layout: [`image`] is the seam between the two halves: the table side (`table/`, `handles`, `reducing`, `ttl/`, `backend`, `timers`, `shared`) runs in
//! the slot and hands out copies of rows; the snapshot side (`codec`, `object`, `writer`, `manifest`, `reader`) runs on the
//! I/O runtime, encodes and stores them; [`local_copies`] are for restarts inside the process. [`fsck`] checks from outside of any job that all of it is sound.

pub mod backend;
pub mod codec;
mod document;
pub mod error;
pub mod fsck;
pub mod handles;
pub mod head;
pub mod image;
pub mod in_flight;
pub mod key;
pub mod local_copies;
pub mod manifest;
pub mod object;
pub mod page_memory;
pub mod reader;
mod reducing;
pub mod restored;
mod shared;
pub mod table;
pub mod timers;
pub mod ttl;
pub mod writer;

pub use backend::{BackendConfig, KeyedBackend, LookAhead};
pub use codec::{RowCodec, batch_rows, check_key_type, row_codec};
pub use error::StateError;
pub use handles::{ListState, MapState, ValueState, WindowState};
pub use head::{CheckpointRef, JobHead};
pub use in_flight::InFlightChannel;
pub use key::Key;
pub use local_copies::{LocalCopies, LocalCounts};
pub use manifest::{Lists, Manifest, OperatorEntry, SourceEntry, SubtaskEntry, Written};
pub use object::ObjectRef;
pub use reader::{SnapshotReader, StateSize};
pub use reducing::{AggregateFunction, AggregatingState, ReducingState};
pub use restored::RestoredState;
pub use table::{KeySpace, Origin, Stored, Table, Tables, Walk};
pub use timers::Timers;
pub use ttl::{
    StateTtl, StateVisibility, TtlAggregatingState, TtlListState, TtlMapState, TtlReducingState,
    TtlValueState, UpdateType,
};
pub use writer::{
    PartReport, PartTrace, SnapshotHandle, SnapshotSink, SnapshotWriter, SubtaskSnapshot, WriterConfig,
};
