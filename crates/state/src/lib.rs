//! Keyed state: tables, timers, and how they become a snapshot and come back.
//!
//! Layout: [`image`] is the seam between the two halves: the table side (`table/`, `handles`, `backend`, `timers`) runs in
//! the slot and hands out copies of rows; the snapshot side (`codec`, `object`, `writer`, `manifest`, `reader`) runs on the
//! I/O runtime, encodes and stores them.

pub mod backend;
pub mod codec;
pub mod error;
pub mod handles;
pub mod image;
pub mod key;
pub mod restored;
mod shared;
pub mod table;
pub mod timers;

pub use backend::{BackendConfig, KeyedBackend};
pub use codec::{RowCodec, row_codec};
pub use error::StateError;
pub use handles::{ListState, MapState, ValueState, WindowState};
pub use key::Key;
pub use restored::RestoredState;
pub use table::{KeySpace, Origin, Stored, Table, Tables, Walk};
pub use timers::Timers;
