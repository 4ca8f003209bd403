//! A record that was given up: what it was, where it stood, and why.

use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// A record that could not be decoded, or that an operator failed at again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The source or operator that gave it up: its uid, else its name.
    pub operator: String,
    /// The split it was read from; `None` for a row inside of the job.
    pub split: Option<String>,
    /// Its position in that split.
    pub position: Option<u64>,
    /// Why it was given up.
    pub error: String,
    /// The record as text: as it was read (what is no UTF-8 is replaced), or the row as JSON.
    pub record: String,
    /// The record's bytes in hexadecimal digits, where they are no UTF-8.
    pub hex: Option<String>,
}

impl DeadLetter {
    /// Text and hexadecimal digits of a record's bytes.
    pub fn texts(bytes: &[u8]) -> (String, Option<String>) {
        match std::str::from_utf8(bytes) {
            Ok(text) => (text.to_owned(), None),
            Err(_) => {
                let mut hex = String::with_capacity(2 * bytes.len());
                for byte in bytes {
                    // Writing to a String cannot fail.
                    let _ = write!(hex, "{byte:02x}");
                }
                (String::from_utf8_lossy(bytes).into_owned(), Some(hex))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_kept_as_digits() {
        assert_eq!(DeadLetter::texts(b"{x}"), ("{x}".to_owned(), None));
        let (text, hex) = DeadLetter::texts(&[b'a', 0xff, 7]);
        assert_eq!(text, "a\u{fffd}\u{7}");
        assert_eq!(hex.as_deref(), Some("61ff07"));
    }
}
