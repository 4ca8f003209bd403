//! What a sink's files are made of: rows to bytes, from the first of a file to the last.

use rivermark_data::Data;
use rivermark_format::Encode;
use rivermark_types::Result;

/// A format of whole files. Every [`Encode`], whose rows stand side by side, is one.
pub trait PartFormat: Clone + Send + Sync + 'static {
    /// What it writes.
    type Row: Data;
    /// What encodes one file.
    type Encoder: PartEncoder<Row = Self::Row>;

    /// How its files end, without the dot.
    fn extension(&self) -> &'static str;

    /// Begins a file.
    fn begin(&self) -> Result<Self::Encoder>;
}

/// Encodes one file.
pub trait PartEncoder: Send + 'static {
    /// What it writes.
    type Row;

    /// Takes rows; appends the bytes that are ready to `out`.
    fn encode(&mut self, rows: &[Self::Row], out: &mut Vec<u8>) -> Result<()>;

    /// About how many bytes it holds back.
    fn held(&self) -> usize {
        0
    }

    /// The end of the file: appends what is left to `out`.
    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()>;
}

/// Rows one behind the other.
pub struct Plain<E> {
    format: E,
    at_start: bool,
}

impl<E: Encode> PartFormat for E {
    type Row = E::Row;
    type Encoder = Plain<E>;

    fn extension(&self) -> &'static str {
        Encode::extension(self)
    }

    fn begin(&self) -> Result<Plain<E>> {
        Ok(Plain {
            format: self.clone(),
            at_start: true,
        })
    }
}

impl<E: Encode> PartEncoder for Plain<E> {
    type Row = E::Row;

    fn encode(&mut self, rows: &[E::Row], out: &mut Vec<u8>) -> Result<()> {
        let at_start = std::mem::replace(&mut self.at_start, false);
        Ok(self.format.encode(rows, at_start, out)?)
    }

    fn finish(&mut self, _out: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }
}
