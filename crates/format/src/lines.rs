//! Text: a line is a row.

use crate::decode::{Decode, DecodeRows, text};
use crate::encode::Encode;
use crate::error::FormatError;

/// UTF-8 lines, without their line ends. Empty lines are rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lines;

/// Decodes lines.
#[derive(Clone, Copy, Debug, Default)]
pub struct LineDecoder;

impl Decode for Lines {
    type Row = String;
    type Decoder = LineDecoder;

    fn decoder(&self, _header: Option<&[u8]>) -> Result<LineDecoder, FormatError> {
        Ok(LineDecoder)
    }
}

impl DecodeRows for LineDecoder {
    type Row = String;

    fn decode(&mut self, record: &[u8]) -> Result<Option<String>, FormatError> {
        text(record).map(|line| Some(line.to_owned()))
    }
}

impl Encode for Lines {
    type Row = String;

    fn extension(&self) -> &'static str {
        "txt"
    }

    fn encode(&self, rows: &[String], _at_start: bool, out: &mut Vec<u8>) -> Result<(), FormatError> {
        for row in rows {
            if row.contains('\n') {
                let what =
                    "a row with a line break would be read back as two; write JSON lines or CSV".to_owned();
                return Err(FormatError::Encode {
                    format: "a text line",
                    what,
                });
            }
            out.extend_from_slice(row.as_bytes());
            out.push(b'\n');
        }
        Ok(())
    }
}
