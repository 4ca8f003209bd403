//! How a record can be wrong.

use rivermark_types::{ErrorKind, Failure};
use thiserror::Error;

/// A record that cannot be decoded or encoded. Its text is to be read behind a place: `flights.csv:17: ...`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FormatError {
    /// The bytes are no text.
    #[error("the record is not UTF-8 (byte {byte} of it)")]
    NotUtf8 {
        /// The first wrong byte.
        byte: usize,
    },
    /// A CSV record with more or fewer columns than its header. Often a quote that is not closed.
    #[error(
        "found {found} column{} where the header has {expected}{}",
        if *.found == 1 { "" } else { "s" },
        if *.open_quote { "; a quote is not closed: if fields hold line breaks, use Csv::with_quoted_newlines" } else { "" }
    )]
    Columns {
        /// In the record.
        found: usize,
        /// In the header.
        expected: usize,
        /// Whether the record ends inside quotes.
        open_quote: bool,
    },
    /// A value of another type than its field.
    #[error("column {column}: expected {expected}, found {found:?}")]
    Value {
        /// Its name in the header.
        column: String,
        /// What the field takes.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// A record that does not fit its type as a whole.
    #[error("{what}; the file has the columns {columns}")]
    Shape {
        /// What does not fit.
        what: String,
        /// The header.
        columns: String,
    },
    /// Text that is no JSON, or JSON of another shape.
    #[error("{what} (column {column} of the line)")]
    Json {
        /// What is wrong.
        what: String,
        /// Where in the line, from 1.
        column: usize,
    },
    /// A row that this format cannot express.
    #[error("a row cannot be written as {format}: {what}")]
    Encode {
        /// The format.
        format: &'static str,
        /// What it cannot express.
        what: String,
    },
}

impl FormatError {
    /// What follows from it: always the user's data.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Data
    }
}

impl From<FormatError> for Failure {
    fn from(error: FormatError) -> Failure {
        Failure::new(error.kind(), error.to_string())
    }
}
