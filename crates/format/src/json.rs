//! JSON lines: a line is a row, an object with named fields.

use crate::decode::{Decode, DecodeRows};
use crate::encode::Encode;
use crate::error::FormatError;
use rivermark_data::Data;
use std::marker::PhantomData;

/// Rows as JSON, one a line. Blank lines are skipped.
#[derive(Debug)]
pub struct JsonLines<T>(PhantomData<fn() -> T>);

impl<T> Default for JsonLines<T> {
    fn default() -> Self {
        JsonLines(PhantomData)
    }
}

impl<T> Clone for JsonLines<T> {
    fn clone(&self) -> Self {
        JsonLines::default()
    }
}

/// Decodes JSON lines.
pub struct JsonDecoder<T>(PhantomData<fn() -> T>);

impl<T: Data> Decode for JsonLines<T> {
    type Row = T;
    type Decoder = JsonDecoder<T>;

    fn decoder(&self, _header: Option<&[u8]>) -> Result<JsonDecoder<T>, FormatError> {
        Ok(JsonDecoder(PhantomData))
    }
}

impl<T: Data> DecodeRows for JsonDecoder<T> {
    type Row = T;

    fn decode(&mut self, record: &[u8]) -> Result<Option<T>, FormatError> {
        if record.trim_ascii().is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(record).map(Some).map_err(|error| {
            let text = error.to_string();
            // The line is always the first: the connector knows which it is.
            let what = text.split(" at line ").next().unwrap_or_default().to_owned();
            FormatError::Json {
                what,
                column: error.column(),
            }
        })
    }
}

impl<T: Data> Encode for JsonLines<T> {
    type Row = T;

    fn extension(&self) -> &'static str {
        "jsonl"
    }

    fn encode(&self, rows: &[T], _at_start: bool, out: &mut Vec<u8>) -> Result<(), FormatError> {
        for row in rows {
            serde_json::to_writer(&mut *out, row).map_err(|error| FormatError::Encode {
                format: "JSON",
                what: error.to_string(),
            })?;
            out.push(b'\n');
        }
        Ok(())
    }
}
