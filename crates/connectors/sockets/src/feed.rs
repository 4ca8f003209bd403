//! The I/O task behind a socket source: connects, takes the stream apart into whole records, writes them to the journal if
//! there is one, and hands them to the slot. What the slot does not take yet holds the connection back.

use crate::backoff::Backoff;
use crate::journal::{Journal, JournalName};
use rivermark_connector::ReaderCx;
use rivermark_env::{Env, NetReader};
use rivermark_format::Decode;
use rivermark_runtime::SlotWaker;
use rivermark_types::{Failure, Result};
use std::io;
use std::path::PathBuf;
use tokio::sync::{mpsc, watch};

/// Pieces handed to the slot ahead of it.
const AHEAD: usize = 4;
/// Read from a connection at once.
const READ_BYTES: usize = 64 << 10;
/// A record longer than this is taken for no text.
const LONGEST_RECORD: usize = 64 << 20;
const ROLL_BYTES: u64 = 8 << 20;

/// How a socket is read.
#[derive(Clone, Debug)]
pub(crate) struct FeedOptions {
    pub(crate) reconnects: bool,
    pub(crate) journal: Option<PathBuf>,
    pub(crate) roll_bytes: u64,
}

impl Default for FeedOptions {
    fn default() -> FeedOptions {
        FeedOptions {
            reconnects: false,
            journal: None,
            roll_bytes: ROLL_BYTES,
        }
    }
}

/// From the feed to the slot.
pub(crate) enum Piece {
    /// Whole records.
    Records {
        /// Where the first one stands in the stream.
        offset: u64,
        bytes: Vec<u8>,
    },
    /// Nothing more comes.
    End,
    Failed(Failure),
}

/// How the reading of a connection ended.
enum Ended {
    /// The server ended the stream in order.
    InOrder,
    Broken(io::Error),
    /// Nobody wants the rows any more.
    Unwanted,
}

pub(crate) struct Feed {
    env: Env,
    address: String,
    reconnects: bool,
    journal: Option<JournalName>,
    roll_bytes: u64,
    pieces: mpsc::Sender<Piece>,
    /// Behind `pieces`: dropped after it, so that the slot finds the queue closed, whatever ended this task.
    rouse: Rouse,
    /// How far decided checkpoints have the stream.
    committed: watch::Receiver<u64>,
}

/// Wakes the slot, for the last time when it is dropped.
struct Rouse(SlotWaker);

impl Drop for Rouse {
    fn drop(&mut self) {
        self.0.wake();
    }
}

/// The stream as far as it has been read.
struct Stream<F> {
    format: F,
    /// Where the next record stands.
    offset: u64,
    /// The beginning of a record that is not complete.
    rest: Vec<u8>,
    /// How much of it has been searched for its end.
    scanned: usize,
}

impl<F: Decode> Stream<F> {
    /// Takes in bytes; gives the records that are complete now.
    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.rest.extend_from_slice(bytes);
        let mut end = 0;
        while let Some(len) = self.format.record_len(&self.rest[end..], self.scanned) {
            end += len;
            self.scanned = 0;
        }
        self.scanned = self.rest.len() - end;
        let records = self.rest.drain(..end).collect();
        self.offset += end as u64;
        records
    }

    /// The connection is gone: what is left of it is no record.
    fn drop_rest(&mut self) -> usize {
        let dropped = self.rest.len();
        (self.rest, self.scanned) = (Vec::new(), 0);
        dropped
    }
}

impl Feed {
    pub(crate) fn new(
        address: &str,
        options: &FeedOptions,
        cx: &ReaderCx,
        committed: watch::Receiver<u64>,
    ) -> (Feed, mpsc::Receiver<Piece>) {
        let (sender, pieces) = mpsc::channel(AHEAD);
        let journal = options.journal.as_ref();
        let feed = Feed {
            env: cx.env.clone(),
            address: address.to_owned(),
            reconnects: options.reconnects,
            journal: journal.map(|dir| JournalName::new(dir, &cx.info)),
            roll_bytes: options.roll_bytes,
            pieces: sender,
            rouse: Rouse(cx.waker.clone()),
            committed,
        };
        (feed, pieces)
    }

    /// Reads from a position on, until the end or until nobody wants the rows any more.
    pub(crate) async fn run<F: Decode>(mut self, format: F, position: u64) {
        let mut journal = None;
        let last = match self.read(format, position, &mut journal).await {
            Ok(()) => Piece::End,
            Err(failure) => Piece::Failed(failure),
        };
        let ended = matches!(last, Piece::End);
        if self.send(last).await
            && ended
            && let Some(journal) = journal
            && let Err(failure) = self.clear(journal).await
        {
            tracing::warn!("the journal of a stream that has ended is left: {failure}");
        }
    }

    /// Removes the journal when a decided checkpoint has the whole stream.
    async fn clear(&mut self, journal: Journal) -> Result<()> {
        let end = journal.end();
        match self.committed.wait_for(|upto| *upto >= end).await {
            Ok(_) => {}
            Err(_) => return Ok(()),
        }
        journal.remove_all().await
    }

    async fn send(&mut self, piece: Piece) -> bool {
        let wanted = self.pieces.send(piece).await.is_ok();
        self.rouse.0.wake();
        wanted
    }

    async fn read<F: Decode>(
        &mut self,
        format: F,
        position: u64,
        journal: &mut Option<Journal>,
    ) -> Result<()> {
        let mut stream = Stream {
            format,
            offset: position,
            rest: Vec::new(),
            scanned: 0,
        };
        if let Some(name) = self.journal.take() {
            let mut opened = Journal::open(self.env.files().clone(), name, self.roll_bytes, position).await?;
            let mut replay = opened.replay().await?;
            while let Some((offset, bytes)) = replay.next().await? {
                if !self.send(Piece::Records { offset, bytes }).await {
                    return Ok(());
                }
            }
            stream.offset = opened.end();
            *journal = Some(opened);
        }
        let mut backoff = Backoff::new();
        loop {
            let ended = match self.env.net().connect(&self.address).await {
                Ok(connection) => {
                    // Kept: a server may take the end of our stream for the end of the connection.
                    let _writer = connection.writer;
                    let read = self.read_connection(connection.reader, &mut stream, journal, &mut backoff);
                    read.await?
                }
                Err(error) => Ended::Broken(error),
            };
            match ended {
                Ended::Unwanted => return Ok(()),
                Ended::InOrder if !self.reconnects => {
                    return self.last_record(&mut stream, journal).await;
                }
                Ended::Broken(error) if !self.reconnects => {
                    return Err(Failure::external(format!(
                        "{error}: is the server there? reconnecting() waits for it"
                    )));
                }
                Ended::InOrder => {}
                Ended::Broken(error) => tracing::warn!("{error}; trying again"),
            }
            let dropped = stream.drop_rest();
            if dropped > 0 {
                let address = &self.address;
                tracing::warn!(
                    "the connection to {address} ended inside a line: {dropped} bytes are dropped"
                );
            }
            self.env.sleep(backoff.wait()).await;
        }
    }

    async fn read_connection<F: Decode>(
        &mut self,
        mut reader: Box<dyn NetReader>,
        stream: &mut Stream<F>,
        journal: &mut Option<Journal>,
        backoff: &mut Backoff,
    ) -> Result<Ended> {
        loop {
            let bytes = tokio::select! {
                biased;
                Ok(()) = self.committed.changed() => {
                    self.trim(journal).await?;
                    continue;
                }
                bytes = reader.read(READ_BYTES) => bytes,
            };
            match bytes {
                Ok(bytes) if bytes.is_empty() => return Ok(Ended::InOrder),
                Ok(bytes) => {
                    backoff.reset();
                    let offset = stream.offset;
                    let records = stream.take(&bytes);
                    if stream.rest.len() > LONGEST_RECORD {
                        let what = "a line of more than 64 MB: is this a text protocol?";
                        return Err(Failure::data(format!("socket {}: {what}", self.address)));
                    }
                    if !self.hand_over(offset, records, journal).await? {
                        return Ok(Ended::Unwanted);
                    }
                }
                Err(error) => return Ok(Ended::Broken(error)),
            }
        }
    }

    /// Records go to the journal, if there is one, and then to the slot.
    async fn hand_over(
        &mut self,
        offset: u64,
        bytes: Vec<u8>,
        journal: &mut Option<Journal>,
    ) -> Result<bool> {
        if bytes.is_empty() {
            return Ok(true);
        }
        if let Some(journal) = journal {
            journal.append(&bytes).await?;
        }
        Ok(self.send(Piece::Records { offset, bytes }).await)
    }

    /// The stream has ended in order: what stands behind the last line end is a line too.
    async fn last_record<F: Decode>(
        &mut self,
        stream: &mut Stream<F>,
        journal: &mut Option<Journal>,
    ) -> Result<()> {
        if stream.rest.is_empty() {
            return Ok(());
        }
        let offset = stream.offset;
        let records = stream.take(b"\n");
        self.hand_over(offset, records, journal).await?;
        Ok(())
    }

    async fn trim(&mut self, journal: &mut Option<Journal>) -> Result<()> {
        let upto = *self.committed.borrow_and_update();
        match journal {
            Some(journal) => journal.trim(upto).await,
            None => Ok(()),
        }
    }
}
