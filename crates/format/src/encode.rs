//! From rows to bytes.

use crate::error::FormatError;
use rivermark_data::Data;

/// A format that can be written.
pub trait Encode: Clone + Send + Sync + 'static {
    /// What it writes.
    type Row: Data;

    /// How its files end, without the dot.
    fn extension(&self) -> &'static str;

    /// Appends rows, each with its line end; at the start of a file with what belongs in front (a header).
    fn encode(&self, rows: &[Self::Row], at_start: bool, out: &mut Vec<u8>) -> Result<(), FormatError>;
}
