//! Write-once objects under slash-separated keys.

use crate::StorageError;
use bytes::Bytes;
use rivermark_env::BoxFuture;
use std::fmt;
use std::ops::Range;

/// The longest key, in bytes.
const MAX_KEY: usize = 1024;
/// The longest part of a key, in bytes: file systems stop at 255.
const MAX_PART: usize = 200;

/// The name of an object: `folder/../name` of at least two parts, each of ASCII letters, digits and `-_.=+`, none
/// starting with a dot. So no key leaves its store, and a local store may keep other files beside its folders.
/// No key may be a folder of another key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobKey(String);

impl BlobKey {
    /// A checked key; `Invalid` with the reason if it breaks a rule.
    pub fn new(key: impl Into<String>) -> Result<BlobKey, StorageError> {
        let key = key.into();
        check_path(&key)?;
        if !key.contains('/') {
            return Err(StorageError::invalid(format!("object key {key:?} has no folder")));
        }
        Ok(BlobKey(key))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the key lies in a folder (see [`Blob::list`]).
    pub fn is_in(&self, folder: &str) -> bool {
        folder.is_empty()
            || self
                .0
                .strip_prefix(folder)
                .is_some_and(|rest| rest.starts_with('/'))
    }
}

impl fmt::Display for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for BlobKey {
    type Error = StorageError;
    fn try_from(key: String) -> Result<BlobKey, StorageError> {
        BlobKey::new(key)
    }
}

impl From<BlobKey> for String {
    fn from(key: BlobKey) -> String {
        key.0
    }
}

/// Checks a folder for [`Blob::list`]: empty, or parts as in a key.
pub fn check_folder(folder: &str) -> Result<(), StorageError> {
    if folder.is_empty() {
        Ok(())
    } else {
        check_path(folder)
    }
}

fn check_path(path: &str) -> Result<(), StorageError> {
    let invalid = |reason: &str| Err(StorageError::invalid(format!("object key {path:?} {reason}")));
    if path.len() > MAX_KEY {
        return invalid("is too long");
    }
    for part in path.split('/') {
        if part.is_empty() {
            return invalid("has an empty part");
        }
        if part.len() > MAX_PART {
            return invalid("has a part that is too long");
        }
        if part.starts_with('.') {
            return invalid("has a part that starts with a dot");
        }
        if !part
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.=+".contains(&b))
        {
            return invalid("has a character other than letters, digits and -_.=+");
        }
    }
    Ok(())
}

/// An object as [`Blob::list`] shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlobEntry {
    /// Its key.
    pub key: BlobKey,
    /// Its length in bytes.
    pub len: u64,
}

/// A store of write-once objects.
///
/// Every call may be made at the same time as any other, repeated, or dropped half-way; a dropped or failed write has
/// happened or has not, never in part. What one call reported, every later call of any process sees.
pub trait Blob: Send + Sync {
    /// Writes an object, whose content is the concatenation of `bytes`.
    ///
    /// *Atomic*: the object is under its key whole, or there is none. *Durable* when it returns `Ok`, names included.
    /// *Idempotent*: an object with the same content counts as written; with another content it stays, and the error is
    /// `Taken`. After any other error the object may or may not be there: repeat the call, or delete the key.
    fn put<'a>(&'a self, key: &'a BlobKey, bytes: Vec<Bytes>) -> BoxFuture<'a, Result<(), StorageError>>;

    /// The whole object; `NotFound` if there is none.
    fn get<'a>(&'a self, key: &'a BlobKey) -> BoxFuture<'a, Result<Bytes, StorageError>>;

    /// The bytes of an object in a range; `NotFound` if there is no object, `Damaged` if it ends before the range does
    /// (who asks for a range knows the length that was written), `Invalid` if the range ends before it starts.
    fn get_range<'a>(
        &'a self,
        key: &'a BlobKey,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, StorageError>>;

    /// All objects in a folder and the folders below, sorted by key: `"g1"` shows `g1/a` but not `g10/a`; the empty
    /// folder shows all. Empty if there is none. Unfinished writes never show. An object that is written or deleted
    /// meanwhile may or may not show.
    fn list<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Vec<BlobEntry>, StorageError>>;

    /// Removes an object. *Idempotent*: fine if there is none. *Durable* when it returns `Ok`; after an error it may or
    /// may not be gone.
    fn delete<'a>(&'a self, key: &'a BlobKey) -> BoxFuture<'a, Result<(), StorageError>>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_that_leave_the_store_are_refused() {
        for bad in [
            "", "a", "/a/b", "a//b", "a/b/", "a/../b", "../a/b", "a/./b", "a/.tmp-1", "a/b\\c", "a/b c",
            "a/\0",
        ] {
            assert!(BlobKey::new(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(BlobKey::new(format!("a/{}", "b".repeat(201))).is_err());
        assert!(BlobKey::new("g1/a0/chk-3/part-0.rows").is_ok());
    }

    #[test]
    fn a_folder_ends_at_a_slash() {
        let key = BlobKey::new("g1/a/x").unwrap();
        assert!(key.is_in("") && key.is_in("g1") && key.is_in("g1/a"));
        assert!(!key.is_in("g") && !key.is_in("g1/a/x") && !key.is_in("a"));
    }

    proptest! {
        #[test]
        fn an_accepted_key_is_a_plain_relative_path(key in "[a-z./\\\\~ ]{0,12}") {
            if let Ok(key) = BlobKey::new(key) {
                let plain = std::path::Path::new(key.as_str())
                    .components()
                    .all(|c| matches!(c, std::path::Component::Normal(_)));
                prop_assert!(plain && !key.as_str().contains("//"));
            }
        }
    }
}
