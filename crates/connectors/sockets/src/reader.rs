//! Rows out of the records that the feed brings, in the slot.

use crate::feed::{Feed, FeedOptions, Piece};
use crate::source::SocketSplit;
use rivermark_connector::{BadRecord, ReadPoll, ReadRows, ReaderCx, SplitIndex, SplitReader};
use rivermark_env::TaskHandle;
use rivermark_format::decode::without_line_end;
use rivermark_format::{Decode, DecodeRows};
use rivermark_types::{Failure, Result};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, watch};

/// Reads the one split of a socket source. A position counts the bytes of whole records since the job's first start.
pub struct SocketReader<F: Decode> {
    address: String,
    format: F,
    options: FeedOptions,
    cx: ReaderCx,
    reading: Option<Reading<F>>,
}

struct Reading<F: Decode> {
    index: SplitIndex,
    pieces: mpsc::Receiver<Piece>,
    committed: watch::Sender<u64>,
    task: TaskHandle,
    decoder: F::Decoder,
    /// Whole records.
    bytes: Vec<u8>,
    /// Where the next one begins in `bytes`.
    at: usize,
    /// Where it stands in the stream.
    offset: u64,
    ended: bool,
}

impl<F: Decode> Drop for Reading<F> {
    fn drop(&mut self) {
        // After the end of the stream it may be clearing its journal away; it ends by itself.
        if !self.ended {
            self.task.abort();
        }
    }
}

impl<F: Decode> SocketReader<F> {
    pub(crate) fn new(address: String, format: F, options: FeedOptions, cx: ReaderCx) -> SocketReader<F> {
        SocketReader {
            address,
            format,
            options,
            cx,
            reading: None,
        }
    }
}

impl<F: Decode> Reading<F> {
    /// Takes in the next piece; false if there is none yet.
    fn refill(&mut self, address: &str) -> Result<bool> {
        match self.pieces.try_recv() {
            Ok(Piece::Records { offset, bytes }) => {
                (self.bytes, self.at, self.offset) = (bytes, 0, offset);
            }
            Ok(Piece::End) => self.ended = true,
            Ok(Piece::Failed(failure)) => return Err(failure),
            Err(TryRecvError::Empty) => return Ok(false),
            Err(TryRecvError::Disconnected) => {
                let exit = self.task.exit();
                return Err(Failure::bug(format!(
                    "the task that reads socket {address} ended: {exit:?}"
                )));
            }
        }
        Ok(true)
    }
}

impl<F: Decode> SplitReader for SocketReader<F> {
    type Split = SocketSplit;
    type Row = F::Row;

    fn assign(&mut self, index: SplitIndex, _split: SocketSplit, position: u64) -> Result<()> {
        let decoder = self.format.decoder(None)?;
        let (committed, heard) = watch::channel(0);
        let (feed, pieces) = Feed::new(&self.address, &self.options, &self.cx, heard);
        let task = self.cx.env.spawn_io(
            &format!("read socket {}", self.address),
            feed.run(self.format.clone(), position),
        );
        self.reading = Some(Reading {
            index,
            pieces,
            committed,
            task,
            decoder,
            bytes: Vec::new(),
            at: 0,
            offset: position,
            ended: false,
        });
        Ok(())
    }

    fn next(&mut self, max_rows: usize, out: &mut ReadRows<F::Row>) -> Result<ReadPoll> {
        let Some(reading) = self.reading.as_mut() else {
            return Ok(ReadPoll::Pending);
        };
        while out.len() < max_rows {
            let rest = &reading.bytes[reading.at..];
            let Some(len) = self.format.record_len(rest, 0) else {
                if !out.is_empty() {
                    break;
                }
                if reading.ended {
                    return Ok(ReadPoll::Done(reading.index));
                }
                if !reading.refill(&self.address)? {
                    return Ok(ReadPoll::Pending);
                }
                continue;
            };
            let position = reading.offset;
            let record = without_line_end(&rest[..len]);
            match reading.decoder.decode(record) {
                Ok(Some(row)) => out.push(row, position, position + len as u64),
                Ok(None) => {}
                Err(error) => {
                    let place = format!("socket {}, byte {position} of the stream", self.address);
                    let advice = "correct what the server sends, or the row type that reads it";
                    let bad = BadRecord {
                        error: format!("{place}: {error}: {advice}"),
                        bytes: record.to_vec(),
                    };
                    out.push_undecodable(bad, position, position + len as u64);
                }
            }
            reading.at += len;
            reading.offset += len as u64;
        }
        Ok(ReadPoll::Rows(reading.index))
    }

    fn committed(&mut self, _index: SplitIndex, position: u64) -> Result<()> {
        if let Some(reading) = &self.reading {
            reading.committed.send_replace(position);
        }
        Ok(())
    }
}
