//! Formats: bytes of records to typed rows and back. Text lines, CSV with a header, JSON lines.
//!
//! Layout: [`decode`] and [`encode`] (the traits), [`lines`], [`csv`] and [`json`] (the formats), [`error`].
//! Non-goals: no I/O; where records come from, and what place an error is at, is the connector's matter.

pub mod csv;
pub mod decode;
pub mod encode;
pub mod error;
pub mod json;
pub mod lines;

pub use csv::Csv;
pub use decode::{Decode, DecodeRows};
pub use encode::Encode;
pub use error::FormatError;
pub use json::JsonLines;
pub use lines::Lines;
