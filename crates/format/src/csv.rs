//! CSV with a header (RFC 4180): columns are matched to fields by name.

use crate::decode::{Decode, DecodeRows, text, without_line_end};
use crate::encode::Encode;
use crate::error::FormatError;
use csv::{DeserializeError, DeserializeErrorKind, ErrorKind, StringRecord, WriterBuilder};
use rivermark_data::Data;
use std::marker::PhantomData;

/// Rows as CSV. An empty field is `None` of an `Option`. Blank lines are skipped.
///
/// A file may be read in parts, each beginning after a line break; so by default a line break ends a record even inside
/// quotes. Files whose fields hold line breaks need [`Csv::with_quoted_newlines`] and are read as a whole.
#[derive(Debug)]
pub struct Csv<T> {
    delimiter: u8,
    quoted_newlines: bool,
    row: PhantomData<fn() -> T>,
}

impl<T> Default for Csv<T> {
    fn default() -> Self {
        Csv {
            delimiter: b',',
            quoted_newlines: false,
            row: PhantomData,
        }
    }
}

impl<T> Clone for Csv<T> {
    fn clone(&self) -> Self {
        Csv {
            row: PhantomData,
            ..*self
        }
    }
}

impl<T> Csv<T> {
    /// Another delimiter than the comma; an ASCII character.
    pub fn with_delimiter(mut self, delimiter: u8) -> Csv<T> {
        self.delimiter = delimiter;
        self
    }

    /// Fields in quotes may hold line breaks. Such files are not split.
    pub fn with_quoted_newlines(mut self) -> Csv<T> {
        self.quoted_newlines = true;
        self
    }
}

impl<T: Data> Decode for Csv<T> {
    type Row = T;
    type Decoder = CsvDecoder<T>;

    fn has_header(&self) -> bool {
        true
    }

    fn is_splittable(&self) -> bool {
        !self.quoted_newlines
    }

    fn record_len(&self, bytes: &[u8], scanned: usize) -> Option<usize> {
        let from = if self.quoted_newlines { 0 } else { scanned };
        let mut quoted = false;
        for (at, byte) in bytes.iter().enumerate().skip(from) {
            match byte {
                // An escaped quote is two: out and in again.
                b'"' if self.quoted_newlines => quoted = !quoted,
                b'\n' if !quoted => return Some(at + 1),
                _ => {}
            }
        }
        None
    }

    fn decoder(&self, header: Option<&[u8]>) -> Result<CsvDecoder<T>, FormatError> {
        let header = without_line_end(header.unwrap_or_default());
        let header = header.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(header);
        let mut columns = StringRecord::new();
        split_fields(text(header)?, self.delimiter, &mut columns);
        Ok(CsvDecoder {
            delimiter: self.delimiter,
            columns,
            record: StringRecord::new(),
            row: PhantomData,
        })
    }
}

/// Decodes the records of one file.
pub struct CsvDecoder<T> {
    delimiter: u8,
    columns: StringRecord,
    record: StringRecord,
    row: PhantomData<fn() -> T>,
}

impl<T: Data> DecodeRows for CsvDecoder<T> {
    type Row = T;

    fn decode(&mut self, record: &[u8]) -> Result<Option<T>, FormatError> {
        if record.is_empty() {
            return Ok(None);
        }
        self.record.clear();
        let open_quote = split_fields(text(record)?, self.delimiter, &mut self.record);
        let (found, expected) = (self.record.len(), self.columns.len());
        if found != expected || open_quote {
            return Err(FormatError::Columns {
                found,
                expected,
                open_quote,
            });
        }
        match self.record.deserialize(Some(&self.columns)) {
            Ok(row) => Ok(Some(row)),
            Err(error) => Err(self.explain(&error)),
        }
    }
}

impl<T> CsvDecoder<T> {
    fn explain(&self, error: &csv::Error) -> FormatError {
        let ErrorKind::Deserialize { err, .. } = error.kind() else {
            return self.shape(error.to_string());
        };
        let Some((column, found)) = self.field_of(err) else {
            return self.shape(err.kind().to_string());
        };
        let expected = match err.kind() {
            DeserializeErrorKind::ParseInt(error) => format!("an integer that fits ({error})"),
            DeserializeErrorKind::ParseFloat(_) => "a number".to_owned(),
            DeserializeErrorKind::ParseBool(_) => "true or false".to_owned(),
            other => other.to_string(),
        };
        FormatError::Value {
            column,
            expected,
            found,
        }
    }

    fn field_of(&self, error: &DeserializeError) -> Option<(String, String)> {
        let at = usize::try_from(error.field()?).ok()?;
        Some((self.columns.get(at)?.to_owned(), self.record.get(at)?.to_owned()))
    }

    fn shape(&self, what: String) -> FormatError {
        let columns: Vec<&str> = self.columns.iter().collect();
        FormatError::Shape {
            what,
            columns: columns.join(", "),
        }
    }
}

/// Splits a record into fields; tells whether it ends inside quotes.
fn split_fields(record: &str, delimiter: u8, fields: &mut StringRecord) -> bool {
    let bytes = record.as_bytes();
    let mut at = 0;
    loop {
        if bytes.get(at) == Some(&b'"') {
            let (field, end, closed) = quoted_field(record, at + 1, delimiter);
            fields.push_field(&field);
            at = end;
            if !closed {
                return true;
            }
        } else {
            let rest = &bytes[at..];
            let len = rest
                .iter()
                .position(|byte| *byte == delimiter)
                .unwrap_or(rest.len());
            fields.push_field(&record[at..at + len]);
            at += len;
        }
        if at >= bytes.len() {
            return false;
        }
        at += 1;
    }
}

/// A field that starts behind its opening quote at `from`: its text, where it ends, whether its quote is closed. What stands
/// between the closing quote and the delimiter is kept as it is.
fn quoted_field(record: &str, from: usize, delimiter: u8) -> (String, usize, bool) {
    let mut field = String::new();
    let mut rest = &record[from..];
    while let Some(quote) = rest.find('"') {
        field.push_str(&rest[..quote]);
        rest = &rest[quote + 1..];
        if let Some(behind) = rest.strip_prefix('"') {
            field.push('"');
            rest = behind;
            continue;
        }
        let tail = rest
            .as_bytes()
            .iter()
            .position(|byte| *byte == delimiter)
            .unwrap_or(rest.len());
        field.push_str(&rest[..tail]);
        return (field, record.len() - rest.len() + tail, true);
    }
    field.push_str(rest);
    (field, record.len(), false)
}

impl<T: Data> Encode for Csv<T> {
    type Row = T;

    fn extension(&self) -> &'static str {
        "csv"
    }

    fn encode(&self, rows: &[T], at_start: bool, out: &mut Vec<u8>) -> Result<(), FormatError> {
        let wrong = |what: String| FormatError::Encode { format: "CSV", what };
        let mut writer = WriterBuilder::new()
            .delimiter(self.delimiter)
            .has_headers(at_start)
            .from_writer(out);
        for row in rows {
            writer.serialize(row).map_err(|error| wrong(error.to_string()))?;
        }
        writer.flush().map_err(|error| wrong(error.to_string()))
    }
}
