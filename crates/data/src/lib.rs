//! What moves between operators: records in batches, and the marks among them.
//!
//! Layout: [`record`] (what may be a record or a key), more below. Non-goals: no operator, no state, no channel.

pub mod record;

pub use record::{Data, Key};
