//! Lines over TCP, in and out.
//!
//! Layout: [`source`] ([`SocketSource`]: what is read, and what it promises), `feed` (the I/O task that reads the connection),
//! `journal` (what makes it exactly once), [`reader`] (rows, in the slot); [`sink`] ([`SocketSink`]), `wire` (its connection
//! and the lines that may have to be sent again); `backoff` (how long to wait between two attempts).
//! Non-goals: no listening, no TLS, no protocol of ours inside the stream.

mod backoff;
mod feed;
mod journal;
pub mod reader;
pub mod sink;
pub mod source;
mod wire;

pub use sink::SocketSink;
pub use source::{SocketSource, SocketSplit};
