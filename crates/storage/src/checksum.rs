//! Digests that tell damaged bytes from written ones. They guard against accidents, not against an attacker.

use crate::StorageError;
use std::fmt;
use std::str::FromStr;
use xxhash_rust::xxh3;

/// The 128-bit XXH3 of some bytes; text and serde form are 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(u128);

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(xxh3::xxh3_128(bytes))
    }

    /// The digest of the concatenation of some bytes.
    pub fn of_parts<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> Digest {
        let mut digester = Digester::default();
        for part in parts {
            digester.update(part.as_ref());
        }
        digester.digest()
    }

    /// `Damaged`, naming the object and both digests, if the bytes have another digest.
    pub fn check(self, name: impl fmt::Display, bytes: &[u8]) -> Result<(), StorageError> {
        let found = Digest::of(bytes);
        if found == self {
            return Ok(());
        }
        Err(StorageError::damaged(format!(
            "{name} is damaged: its checksum is {found}, {self} was written"
        )))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = StorageError;
    fn from_str(text: &str) -> Result<Digest, StorageError> {
        let plain = text.len() == 32
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let invalid = || StorageError::invalid(format!("{text:?} is no checksum of 32 hexadecimal digits"));
        if !plain {
            return Err(invalid());
        }
        u128::from_str_radix(text, 16).map(Digest).map_err(|_| invalid())
    }
}

impl TryFrom<String> for Digest {
    type Error = StorageError;
    fn try_from(text: String) -> Result<Digest, StorageError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

/// A digest in the making, for bytes that come piece by piece.
#[derive(Clone, Default)]
pub struct Digester(xxh3::Xxh3);

impl Digester {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes so far.
    pub fn digest(&self) -> Digest {
        Digest(self.0.digest128())
    }
}

/// The 64-bit XXH3 of some bytes, for the inside of objects.
pub fn checksum64(bytes: &[u8]) -> u64 {
    xxh3::xxh3_64(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_and_the_whole_have_one_digest() {
        assert_eq!(Digest::of_parts(["ab", "", "c"]), Digest::of(b"abc"));
        assert_ne!(Digest::of(b"abc"), Digest::of(b"abd"));
    }

    #[test]
    fn the_functions_are_frozen() {
        assert_eq!(checksum64(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(Digest::of(b"").to_string(), "99aa06d3014798d86001c324468d497f");
    }

    #[test]
    fn the_serde_form_is_hex() {
        let digest = Digest::of(b"rivermark");
        let json = serde_json::to_string(&digest).unwrap();
        assert_eq!(json, format!("\"{digest}\""));
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
        for bad in ["\"\"", "\"+0000000000000000000000000000000\"", "\"xyz\"", "7"] {
            assert!(serde_json::from_str::<Digest>(bad).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn damage_names_the_object() {
        let error = Digest::of(b"a").check("g1/x", b"b").unwrap_err();
        assert!(error.to_string().starts_with("g1/x is damaged"));
        assert!(Digest::of(b"a").check("g1/x", b"a").is_ok());
    }
}
