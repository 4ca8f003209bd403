//! The text type for keys and rows.

use compact_str::CompactString;
use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::borrow::{Borrow, Cow};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::str::FromStr;

/// Text that lies in line up to 24 bytes, and on the heap beyond that. Takes 24 bytes itself.
///
/// A `String` is a pointer: a table keyed by it misses the caches twice a row. A `Text` that fits is a plain part of its
/// row. It derefs to `str`, is written and hashed as a string is, and a snapshot with `String` is read as `Text` and the
/// other way round.
///
/// ```
/// use rivermark_data::Text;
/// let carrier = Text::from("AA");
/// assert_eq!(carrier, "AA");
/// assert!(carrier.starts_with('A'));
/// assert_eq!(format!("{carrier}-{}", carrier.len()), "AA-2");
/// ```
#[derive(Clone, Default)]
pub struct Text(CompactString);

impl Text {
    /// The most bytes that lie in line.
    pub const IN_LINE: usize = size_of::<CompactString>();

    /// The text as a plain string slice.
    #[inline]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl Deref for Text {
    type Target = str;
    #[inline]
    fn deref(&self) -> &str {
        self.0.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self
    }
}

impl From<&str> for Text {
    #[inline]
    fn from(text: &str) -> Text {
        Text(CompactString::from(text))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Text {
        Text(CompactString::from(text))
    }
}

impl From<Cow<'_, str>> for Text {
    fn from(text: Cow<'_, str>) -> Text {
        Text(CompactString::from(text))
    }
}

impl From<char> for Text {
    fn from(letter: char) -> Text {
        Text(CompactString::from(letter.encode_utf8(&mut [0; 4]) as &str))
    }
}

impl From<Text> for String {
    fn from(text: Text) -> String {
        text.0.into_string()
    }
}

impl FromStr for Text {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Text, Self::Err> {
        Ok(Text::from(text))
    }
}

impl FromIterator<char> for Text {
    fn from_iter<I: IntoIterator<Item = char>>(letters: I) -> Text {
        Text(letters.into_iter().collect())
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.push_str(text);
        Ok(())
    }
}

impl PartialEq for Text {
    #[inline]
    fn eq(&self, other: &Text) -> bool {
        same_bytes(self.as_bytes(), other.as_bytes())
    }
}
impl Eq for Text {}

/// Equality of short texts by whole words, without a call.
#[inline(always)]
fn same_bytes(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let word = |bytes: &[u8], at: usize| -> Option<u64> {
        let word = bytes.get(at..)?.first_chunk::<8>()?;
        Some(u64::from_le_bytes(*word))
    };
    match one.len() {
        // Words from the front, and one from the back that may overlap them.
        8..=Text::IN_LINE => {
            let last = one.len() - 8;
            let middle = 8.min(last);
            word(one, 0) == word(other, 0)
                && word(one, middle) == word(other, middle)
                && word(one, last) == word(other, last)
        }
        _ => one == other,
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}
impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}
impl PartialEq<String> for Text {
    fn eq(&self, other: &String) -> bool {
        self.as_str() == other.as_str()
    }
}
impl PartialEq<Text> for str {
    fn eq(&self, other: &Text) -> bool {
        self == other.as_str()
    }
}
impl PartialEq<Text> for &str {
    fn eq(&self, other: &Text) -> bool {
        *self == other.as_str()
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Text) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Text {
    fn cmp(&self, other: &Text) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.as_str().hash(hasher);
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}
impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Serialize for Text {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        struct Letters;
        impl Visitor<'_> for Letters {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text::from(text))
            }
            fn visit_string<E: Error>(self, text: String) -> Result<Text, E> {
                Ok(Text::from(text))
            }
        }
        deserializer.deserialize_str(Letters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rivermark_types::hash_key;

    #[test]
    fn it_is_no_larger_than_a_string() {
        assert_eq!(size_of::<Text>(), 24);
        assert_eq!(Text::IN_LINE, 24);
    }

    proptest! {
        #[test]
        fn it_is_the_string_it_was_made_of(one in ".{0,40}", other in "[ab]{0,30}", cut in 0..31usize) {
            for text in [&one, &other] {
                let short = Text::from(text.as_str());
                prop_assert_eq!(short.as_str(), text.as_str());
                prop_assert_eq!(Text::from(text.clone()), short.clone());
                prop_assert_eq!(hash_key(7, &short), hash_key(7, text));
                let json = serde_json::to_string(&short).unwrap();
                prop_assert_eq!(&json, &serde_json::to_string(text).unwrap());
                prop_assert_eq!(serde_json::from_str::<Text>(&json).unwrap(), short);
            }
            let both = (Text::from(&*one), Text::from(&*other));
            prop_assert_eq!(both.0 == both.1, one == other);
            prop_assert_eq!(both.0.cmp(&both.1), one.cmp(&other));
            // Texts that differ in one letter, at any place.
            let mut changed = other.clone().into_bytes();
            if let Some(letter) = changed.get_mut(cut) {
                *letter = b'c';
                let changed = String::from_utf8(changed).unwrap();
                prop_assert_ne!(&Text::from(changed), &both.1);
            }
        }
    }
}
