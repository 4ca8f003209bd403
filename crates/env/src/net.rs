//! The network seam: byte streams to and from other processes, as TCP gives them.

use crate::platform::BoxFuture;
use std::io;

/// The network as a process sees it. Nothing blocks its caller; all errors are `io::Error`s whose text names the address.
///
/// As with TCP, that bytes were written says only that they were taken for sending: a connection that breaks loses what was
/// under way, and only the other side's answer (or its orderly end after ours) shows what it has received.
pub trait Net: Send + Sync {
    /// Connects to `host:port`.
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Connection>>;
    /// Accepts connections at `host:port`; port 0 is any free one.
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;
}

/// Accepts connections. Dropping it ends that; those accepted live on.
pub trait Listener: Send {
    /// Where it can be reached.
    fn address(&self) -> String;
    /// The next connection.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connection>>;
}

/// A connection: two streams of bytes. It is closed when both are dropped: as TCP does it, what this side has not read by then
/// makes it a reset, which may cost the other side what it has not read.
pub struct Connection {
    /// What the other side sends.
    pub reader: Box<dyn NetReader>,
    /// What goes to the other side.
    pub writer: Box<dyn NetWriter>,
}

/// The bytes from the other side.
pub trait NetReader: Send {
    /// Waits for bytes and gives at most `max` of them; none when the other side has ended its stream in order. Nothing is
    /// lost when the future is dropped.
    fn read(&mut self, max: usize) -> BoxFuture<'_, io::Result<Vec<u8>>>;
}

/// The bytes to the other side.
pub trait NetWriter: Send {
    /// Hands all bytes over for sending; waits while there is no room. Part of them may have gone out when it fails.
    fn write(&mut self, bytes: Vec<u8>) -> BoxFuture<'_, io::Result<()>>;
    /// Ends the stream in order: behind all bytes, the other side reads its end.
    fn finish(&mut self) -> BoxFuture<'_, io::Result<()>>;
}
