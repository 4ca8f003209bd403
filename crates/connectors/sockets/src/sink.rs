//! Lines to a TCP server, at least once.

use crate::wire::Wire;
use rivermark_connector::{Sink, TwoPhaseSink};
use rivermark_data::Data;
use rivermark_env::Env;
use rivermark_format::{Encode, JsonLines, Lines};
use rivermark_runtime::SubtaskInfo;
use rivermark_types::{CheckpointId, Result};
use std::time::Duration;

const KEEP_BYTES: usize = 16 << 20;
const GIVE_UP: Duration = Duration::from_secs(30);
/// Rows encoded before the sizes are looked at.
const ROWS_AT_ONCE: usize = 256;

/// Lines to a TCP server; every subtask has a connection of its own.
///
/// **What is promised.** Every line is sent at least once, and those of one subtask in their order: what was sent since the
/// last checkpoint but one is kept (up to 16 MB) and sent again, from its beginning, when the connection breaks; what came
/// after the last checkpoint is computed and sent again when the job fails. A line without its end at the end of a connection
/// is to be ignored: it comes again.
///
/// TCP gives no acknowledgement to a program: bytes that it took are still under way, and are lost when the server, its
/// machine or the network fails at that moment. If this is seen before the second checkpoint after it, they are sent again;
/// otherwise not. [`SocketSink::confirmed`] closes this gap.
///
/// ```
/// # use rivermark_sockets::SocketSink;
/// let out = SocketSink::text("127.0.0.1:7777").confirmed();
/// ```
#[derive(Clone, Debug)]
pub struct SocketSink<E> {
    address: String,
    format: E,
    keep_bytes: usize,
    give_up: Duration,
    confirmed: Option<Duration>,
}

impl SocketSink<Lines> {
    /// A line of text a row, to `host:port`.
    pub fn text(address: impl Into<String>) -> SocketSink<Lines> {
        SocketSink::new(address, Lines)
    }
}

impl<T: Data> SocketSink<JsonLines<T>> {
    /// A JSON object a line, to `host:port`.
    pub fn json(address: impl Into<String>) -> SocketSink<JsonLines<T>> {
        SocketSink::new(address, JsonLines::default())
    }
}

impl<E: Encode> SocketSink<E> {
    /// Any format, without a header, to `host:port`.
    pub fn new(address: impl Into<String>, format: E) -> SocketSink<E> {
        SocketSink {
            address: address.into(),
            format,
            keep_bytes: KEEP_BYTES,
            give_up: GIVE_UP,
            confirmed: None,
        }
    }

    /// At each checkpoint (and when as much is kept as may be) ends the connection and waits, up to 10 s, until the server has
    /// ended it too, then goes on with a new one: a server that reads to the end before it closes has received every line,
    /// whatever fails when. The checkpoint passes only then.
    pub fn confirmed(mut self) -> SocketSink<E> {
        self.confirmed = Some(Duration::from_secs(10));
        self
    }

    /// Keeps at most about so many bytes of lines to send again; 16 MB if not set, which is more than TCP has under way.
    pub fn with_kept_bytes(mut self, bytes: usize) -> SocketSink<E> {
        self.keep_bytes = bytes;
        self
    }

    /// Fails the attempt when there was no connection for so long; 30 s if not set. Until then it tries again, with growing
    /// waits of up to 5 s.
    pub fn give_up_after(mut self, patience: Duration) -> SocketSink<E> {
        self.give_up = patience;
        self
    }
}

impl<E: Encode> Sink for SocketSink<E> {
    type Writer = SocketWriter<E>;

    fn name(&self) -> String {
        format!("socket {}", self.address)
    }

    /// What is sent cannot be taken back.
    fn is_exactly_once(&self) -> bool {
        false
    }

    fn writer(&self, env: &Env, _info: &SubtaskInfo) -> Result<SocketWriter<E>> {
        Ok(SocketWriter {
            wire: Wire::new(env.clone(), self.address.clone(), self.give_up),
            sink: self.clone(),
            before_last: 0,
        })
    }
}

/// One subtask's connection.
pub struct SocketWriter<E: Encode> {
    sink: SocketSink<E>,
    wire: Wire,
    /// How many of the kept chunks the last checkpoint has.
    before_last: usize,
}

impl<E: Encode> SocketWriter<E> {
    /// Sees to it that not more is kept than may be.
    async fn make_room(&mut self) -> Result<()> {
        if self.wire.kept_bytes() <= self.sink.keep_bytes {
            return Ok(());
        }
        if let Some(patience) = self.sink.confirmed {
            self.before_last = 0;
            return self.wire.confirm(patience).await;
        }
        while self.wire.kept_bytes() > self.sink.keep_bytes && self.wire.forget_oldest() {
            self.before_last = self.before_last.saturating_sub(1);
        }
        Ok(())
    }
}

impl<E: Encode> TwoPhaseSink for SocketWriter<E> {
    type Row = E::Row;
    type Committable = ();

    async fn write(&mut self, rows: Vec<E::Row>) -> Result<()> {
        for rows in rows.chunks(ROWS_AT_ONCE) {
            let mut chunk = Vec::new();
            self.sink.format.encode(rows, false, &mut chunk)?;
            self.wire.push(chunk);
            self.wire.flush().await?;
            self.make_room().await?;
        }
        Ok(())
    }

    async fn prepare(&mut self, _checkpoint: CheckpointId) -> Result<Vec<()>> {
        match self.sink.confirmed {
            Some(patience) => self.wire.confirm(patience).await?,
            None => {
                self.wire.flush().await?;
                for _ in 0..std::mem::take(&mut self.before_last) {
                    self.wire.forget_oldest();
                }
                self.before_last = self.wire.kept();
            }
        }
        Ok(Vec::new())
    }

    async fn commit(&mut self, _committables: Vec<()>) -> Result<()> {
        Ok(())
    }

    async fn abort_unlisted(&mut self) -> Result<()> {
        Ok(())
    }
}
