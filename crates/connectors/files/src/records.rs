//! Records out of the bytes of a split: where they begin and end, which belong to the split, what they say. Synchronous.

use crate::bytes::Beginning;
use crate::source::FileSplit;
use rivermark_connector::BadRecord;
use rivermark_format::decode::without_line_end;
use rivermark_format::{Decode, DecodeRows, FormatError};
use rivermark_types::{Failure, Result};

/// A record longer than this is taken for a damaged file.
const LONGEST_RECORD: usize = 64 << 20;

/// What comes next in a split.
pub(crate) enum Next<T> {
    /// A row, where its record begins, and where the one behind it does.
    Row {
        /// The row.
        row: T,
        /// The offset of its record.
        position: u64,
        /// The offset behind its record.
        resume: u64,
    },
    /// A record that cannot be decoded.
    Undecodable {
        /// The record, and what is wrong with it.
        record: BadRecord,
        /// The offset of the record.
        position: u64,
        /// The offset behind it.
        resume: u64,
    },
    /// The next record is not complete.
    NeedsBytes,
    /// The split's last record has been handed out.
    Done,
}

/// The records of one split.
pub(crate) struct Records<F: Decode> {
    format: F,
    decoder: Option<F::Decoder>,
    /// Read from outside, because reading begins behind it.
    header: Option<Vec<u8>>,
    file: String,
    /// Records that begin here or behind belong to the next split.
    end: Option<u64>,
    /// Up to the first record's begin there may be the end of a record of the split before.
    skip_first: bool,
    buffer: Vec<u8>,
    /// Where the next record begins in `buffer`.
    at: usize,
    /// How much of the next record has been searched for its end.
    scanned: usize,
    /// The file offset of `buffer[at]`.
    offset: u64,
    line: Option<u64>,
    ended: bool,
}

impl<F: Decode> Records<F> {
    /// The records of a split from a position on, given where its bytes begin.
    pub(crate) fn new(format: F, split: &FileSplit, position: u64, beginning: Beginning) -> Records<F> {
        Records {
            format,
            decoder: None,
            header: beginning.header,
            file: split.path.display().to_string(),
            end: split.end,
            skip_first: position == 0 && split.start > 0,
            buffer: Vec::new(),
            at: 0,
            scanned: 0,
            offset: beginning.offset,
            line: beginning.line,
            ended: false,
        }
    }

    /// Takes more bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// No more bytes come.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// The next record. After an error it cannot go on.
    pub(crate) fn next(&mut self) -> Result<Next<F::Row>> {
        loop {
            if self.end.is_some_and(|end| self.offset >= end) && !self.skip_first {
                return Ok(Next::Done);
            }
            let Some(len) = self.record_len()? else {
                let done = self.ended && self.at == self.buffer.len();
                return Ok(if done { Next::Done } else { Next::NeedsBytes });
            };
            if std::mem::take(&mut self.skip_first) {
                self.consume(len);
                continue;
            }
            if self.decoder.is_none() && !self.make_decoder(len)? {
                continue;
            }
            let record = without_line_end(&self.buffer[self.at..self.at + len]);
            let Some(decoder) = &mut self.decoder else {
                return Err(Failure::bug("no decoder was made"));
            };
            let decoded = decoder.decode(record);
            let position = self.offset;
            let wrong = match decoded {
                Ok(row) => {
                    self.consume(len);
                    let Some(row) = row else { continue };
                    return Ok(Next::Row {
                        row,
                        position,
                        resume: self.offset,
                    });
                }
                Err(error) => self.wrong(error),
            };
            let bytes = without_line_end(&self.buffer[self.at..self.at + len]).to_vec();
            self.consume(len);
            return Ok(Next::Undecodable {
                record: BadRecord {
                    error: wrong.message,
                    bytes,
                },
                position,
                resume: self.offset,
            });
        }
    }

    /// Makes the decoder, of the header from outside or of the record at hand, which is then consumed: false.
    fn make_decoder(&mut self, len: usize) -> Result<bool> {
        let inside = self.format.has_header() && self.header.is_none();
        let header = match inside {
            true => Some(&self.buffer[self.at..self.at + len]),
            false => self.header.as_deref(),
        };
        let decoder = self.format.decoder(header).map_err(|error| self.wrong(error))?;
        self.decoder = Some(decoder);
        if inside {
            self.consume(len);
        }
        Ok(!inside)
    }

    /// The length of the next record with its line end, if it is complete.
    fn record_len(&mut self) -> Result<Option<usize>> {
        let rest = &self.buffer[self.at..];
        if let Some(len) = self.format.record_len(rest, self.scanned) {
            return Ok(Some(len));
        }
        self.scanned = rest.len();
        if self.scanned > LONGEST_RECORD {
            let what = "a record of more than 64 MB: is this a text file?";
            return Err(Failure::data(format!("{}: {what}", self.place())));
        }
        // A last record without a line end.
        Ok((self.ended && !rest.is_empty()).then_some(rest.len()))
    }

    fn consume(&mut self, len: usize) {
        if let Some(line) = &mut self.line {
            let record = &self.buffer[self.at..self.at + len];
            *line += record.iter().filter(|byte| **byte == b'\n').count() as u64;
        }
        self.at += len;
        self.offset += len as u64;
        self.scanned = 0;
    }

    fn place(&self) -> String {
        match self.line {
            Some(line) => format!("{}:{line}", self.file),
            None => format!("{} at byte {}", self.file, self.offset),
        }
    }

    fn wrong(&self, error: FormatError) -> Failure {
        let advice = "correct the line, or the row type that reads it";
        Failure::new(error.kind(), format!("{}: {error}: {advice}", self.place()))
    }
}
