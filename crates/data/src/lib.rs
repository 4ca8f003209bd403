//! What moves between operators: records in batches, and the marks among them.
//!
//! Layout: [`record`] (what may be a record or a key), [`batch`] (many records, erased once), [`element`] (a batch or a
//! mark), [`codec`] (bytes for the wire, rows for a snapshot), [`edge`] (all that moving a batch between subtasks needs),
//! [`router`] (which channel a record takes), [`dead_letter`] (a record that was given up), [`text`] (the text type for keys
//! and rows). Non-goals: no operator, no state, no queue.

pub mod batch;
pub mod codec;
pub mod dead_letter;
pub mod edge;
pub mod element;
mod place;
pub mod record;
pub mod router;
pub mod text;

pub use batch::{Batch, Rows, Typed, spare};
pub use codec::{PostcardCodec, RowCodec, WireCodec};
pub use dead_letter::DeadLetter;
pub use edge::{EdgeType, Emit, Scatter, TypedEdge};
pub use element::{Activity, Element};
pub use record::{Data, Key};
pub use router::{Route, Router};
pub use text::Text;
