//! From bytes to rows.

use crate::error::FormatError;
use rivermark_data::Data;

/// A format that can be read: how records are told apart, and what decodes them.
pub trait Decode: Clone + Send + Sync + 'static {
    /// What it reads.
    type Row: Data;
    /// What decodes the records of one file.
    type Decoder: DecodeRows<Row = Self::Row> + Send;

    /// Whether the first record of a file is a header.
    fn has_header(&self) -> bool {
        false
    }

    /// Whether a record can be found from anywhere in a file, by looking for the next line: such files may be split.
    fn is_splittable(&self) -> bool {
        true
    }

    /// The length of the first record of `bytes` with its line end, given that the first `scanned` bytes hold no end; `None`
    /// if it is not complete. By default a record is a line.
    fn record_len(&self, bytes: &[u8], scanned: usize) -> Option<usize> {
        let rest = bytes.get(scanned..)?;
        rest.iter()
            .position(|byte| *byte == b'\n')
            .map(|at| scanned + at + 1)
    }

    /// A decoder for a file with this header (`None` exactly if the format has none).
    fn decoder(&self, header: Option<&[u8]>) -> Result<Self::Decoder, FormatError>;
}

/// Decodes the records of one file.
pub trait DecodeRows {
    /// What it reads.
    type Row;
    /// The row of a record without its line end; `None` for a record that says nothing (a blank line).
    fn decode(&mut self, record: &[u8]) -> Result<Option<Self::Row>, FormatError>;
}

/// A record without its line end, `\n` or `\r\n`.
pub fn without_line_end(record: &[u8]) -> &[u8] {
    let record = record.strip_suffix(b"\n").unwrap_or(record);
    record.strip_suffix(b"\r").unwrap_or(record)
}

/// A record as text.
pub(crate) fn text(record: &[u8]) -> Result<&str, FormatError> {
    std::str::from_utf8(record).map_err(|error| FormatError::NotUtf8 {
        byte: error.valid_up_to(),
    })
}
