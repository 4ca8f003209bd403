//! What is read from a socket, and what is promised of it.

use crate::feed::FeedOptions;
use crate::reader::SocketReader;
use rivermark_connector::{Found, ReaderCx, Source, SplitEnumerator, Undecodable};
use rivermark_data::Data;
use rivermark_env::Env;
use rivermark_format::{Decode, JsonLines, Lines};
use rivermark_types::{Failure, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::path::PathBuf;

/// Lines that a TCP server sends. One subtask reads, whatever the parallelism. When the server ends the stream the source
/// ends, or it [reconnects](SocketSource::reconnecting).
///
/// **What is promised.** By itself a socket cannot be read again: rows that came after the last checkpoint are lost when the
/// job fails (*at most once*); a warning says so unless [`SocketSource::at_most_once`] was called. With
/// [`SocketSource::with_journal`] every row that was emitted counts *exactly once*. Either way, lines that had not been read
/// from the connection when it or the process broke are lost or not as TCP and the server have it: this side cannot know of
/// them.
///
/// ```
/// # use rivermark_sockets::SocketSource;
/// let words = SocketSource::lines("127.0.0.1:9999");
/// let orders = SocketSource::lines("127.0.0.1:9998")
///     .reconnecting()
///     .with_journal("journal/");
/// ```
#[derive(Clone, Debug)]
pub struct SocketSource<F> {
    address: String,
    format: F,
    options: FeedOptions,
    loss_accepted: bool,
    undecodable: Option<Undecodable>,
}

impl SocketSource<Lines> {
    /// Lines of text from `host:port`.
    pub fn lines(address: impl Into<String>) -> SocketSource<Lines> {
        SocketSource::new(address, Lines)
    }
}

impl<T: Data> SocketSource<JsonLines<T>> {
    /// A JSON object a line, from `host:port`.
    pub fn json(address: impl Into<String>) -> SocketSource<JsonLines<T>> {
        SocketSource::new(address, JsonLines::default())
    }
}

impl<F: Decode> SocketSource<F> {
    /// Any format without a header, from `host:port`.
    pub fn new(address: impl Into<String>, format: F) -> SocketSource<F> {
        SocketSource {
            address: address.into(),
            format,
            options: FeedOptions::default(),
            loss_accepted: false,
            undecodable: None,
        }
    }

    /// Connects again, without an end, when there is no connection or it ends; with growing waits of up to 5 s. A line that was
    /// cut off by the end of a connection is dropped, with a warning.
    pub fn reconnecting(mut self) -> SocketSource<F> {
        self.options.reconnects = true;
        self
    }

    /// Keeps what comes in a journal in this directory of the local disk: a line is on the disk, synced, before its row is
    /// emitted, and stays there until a decided checkpoint has it. No row that was emitted is lost or doubled then, through
    /// failures, kills and losses of power.
    ///
    /// A start from a checkpoint goes on at its place in the journal, which must be there; only the newest checkpoint's is,
    /// as the journal is trimmed behind it. A start without a checkpoint reads what the journal holds, if nothing was trimmed
    /// yet; otherwise it is refused: empty the directory, or go on from the checkpoint. When the stream has ended and a decided
    /// checkpoint has all of it, the journal is removed. Sources of several jobs may share a
    /// directory.
    pub fn with_journal(mut self, dir: impl Into<PathBuf>) -> SocketSource<F> {
        self.options.journal = Some(dir.into());
        self
    }

    /// Begins a new file of the journal when one has about this size; 8 MB if not set. It uses at most two files more than what no checkpoint
    /// has yet.
    pub fn with_journal_roll_bytes(mut self, bytes: u64) -> SocketSource<F> {
        self.options.roll_bytes = bytes.max(1);
        self
    }

    /// What becomes of lines that cannot be decoded; without it the job's setting (`rivermark.source.on-undecodable`) counts, by
    /// which the first one fails the job.
    pub fn on_undecodable(mut self, what: Undecodable) -> SocketSource<F> {
        self.undecodable = Some(what);
        self
    }

    /// Says that rows may be lost when the job fails: no warning then.
    pub fn at_most_once(mut self) -> SocketSource<F> {
        self.loss_accepted = true;
        self
    }
}

/// The whole stream of a socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketSplit {
    /// `host:port`, as the source had it when it was found.
    pub address: String,
}

impl fmt::Display for SocketSplit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "socket {}", self.address)
    }
}

impl<F: Decode> Source for SocketSource<F> {
    type Row = F::Row;
    type Split = SocketSplit;
    type Reader = SocketReader<F>;
    type Enumerator = SocketEnumerator;

    fn name(&self) -> String {
        format!("socket {}", self.address)
    }

    fn undecodable(&self) -> Option<Undecodable> {
        self.undecodable
    }

    fn reader(&self, cx: ReaderCx) -> Result<SocketReader<F>> {
        if self.format.has_header() {
            let advice = "read lines, or JSON lines, and take them apart in the job";
            return Err(Failure::invalid(format!(
                "{}: a format with a header cannot be read from a socket: {advice}",
                self.name()
            )));
        }
        if self.options.journal.is_none() && !self.loss_accepted && cx.info.subtask.index == 0 {
            let source = self.name();
            tracing::warn!(
                "{source} is read at most once: rows since the last checkpoint are lost when the job fails; \
                 with_journal(dir) keeps them, at_most_once() accepts it"
            );
        }
        let (address, format) = (self.address.clone(), self.format.clone());
        Ok(SocketReader::new(address, format, self.options.clone(), cx))
    }

    fn enumerator(&self, _env: &Env) -> Result<SocketEnumerator> {
        Ok(SocketEnumerator {
            address: self.address.clone(),
            found: false,
        })
    }
}

/// Finds the one split.
pub struct SocketEnumerator {
    address: String,
    found: bool,
}

impl SplitEnumerator for SocketEnumerator {
    type Split = SocketSplit;

    async fn discover(&mut self, _parallelism: u32) -> Result<Found<SocketSplit>> {
        let found = std::mem::replace(&mut self.found, true);
        let split = (!found).then(|| SocketSplit {
            address: self.address.clone(),
        });
        Ok(Found {
            splits: split.into_iter().collect(),
            exhausted: true,
        })
    }

    fn snapshot(&self) -> Result<Value> {
        Ok(Value::Bool(self.found))
    }

    fn restore(&mut self, state: Value) -> Result<()> {
        let found = state.as_bool();
        self.found =
            found.ok_or_else(|| Failure::invalid(format!("{state} is no state of a socket source")))?;
        Ok(())
    }
}
