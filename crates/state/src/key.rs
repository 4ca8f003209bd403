//! A key together with its hash, computed once a row.

use crate::table::KeySpace;
use rivermark_types::KeyHash;
use std::ops::Deref;

/// A key and its hash under the job's seed. Derefs to the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<K> {
    /// The key.
    pub value: K,
    /// Its hash.
    pub hash: KeyHash,
}

impl<K: rivermark_data::Key> Key<K> {
    /// Hashes a key.
    #[inline]
    pub fn new(value: K, keys: KeySpace) -> Key<K> {
        let hash = keys.hash(&value);
        Key { value, hash }
    }
}

impl<K> Deref for Key<K> {
    type Target = K;
    fn deref(&self) -> &K {
        &self.value
    }
}
