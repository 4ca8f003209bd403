//! Storage that lives as long as its process: for jobs without a directory, and for tests.

use crate::blob::check_folder;
use crate::cas::version_after;
use crate::{Blob, BlobEntry, BlobKey, Cas, CasOutcome, Head, StorageError, StorageErrorKind};
use bytes::Bytes;
use rivermark_env::BoxFuture;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A store of objects in memory. Clones share the objects.
#[derive(Clone, Default)]
pub struct MemoryBlob(Arc<Mutex<BTreeMap<BlobKey, Bytes>>>);

impl MemoryBlob {
    /// An empty store.
    pub fn new() -> MemoryBlob {
        MemoryBlob::default()
    }

    fn object(&self, key: &BlobKey) -> Result<Bytes, StorageError> {
        lock(&self.0)
            .get(key)
            .cloned()
            .ok_or_else(|| StorageError::not_found(format!("there is no object {key}")))
    }

    fn insert(&self, key: &BlobKey, object: Bytes) -> Result<(), StorageError> {
        let mut objects = lock(&self.0);
        match objects.get(key) {
            None => {
                objects.insert(key.clone(), object);
                Ok(())
            }
            Some(old) if *old == object => Ok(()),
            Some(_) => Err(taken(key)),
        }
    }
}

impl Blob for MemoryBlob {
    fn put<'a>(&'a self, key: &'a BlobKey, bytes: Vec<Bytes>) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(async move { self.insert(key, concat(bytes)) })
    }

    fn get<'a>(&'a self, key: &'a BlobKey) -> BoxFuture<'a, Result<Bytes, StorageError>> {
        Box::pin(async move { self.object(key) })
    }

    fn get_range<'a>(
        &'a self,
        key: &'a BlobKey,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, StorageError>> {
        Box::pin(async move {
            check_range(key, &range)?;
            let object = self.object(key)?;
            if range.end > object.len() as u64 {
                return Err(too_short(key, object.len() as u64, &range));
            }
            Ok(object.slice(range.start as usize..range.end as usize))
        })
    }

    fn list<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Vec<BlobEntry>, StorageError>> {
        Box::pin(async move {
            check_folder(folder)?;
            let objects = lock(&self.0);
            let inside = objects.iter().filter(|(key, _)| key.is_in(folder));
            Ok(inside
                .map(|(key, object)| BlobEntry {
                    key: key.clone(),
                    len: object.len() as u64,
                })
                .collect())
        })
    }

    fn delete<'a>(&'a self, key: &'a BlobKey) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(async move {
            lock(&self.0).remove(key);
            Ok(())
        })
    }
}

/// One value in memory, and who wrote it.
#[derive(Default)]
struct Value {
    head: Option<Head>,
    writer: u64,
    writers: u64,
}

/// A handle of one value in memory. See [`MemoryCas::another_writer`] for a second one.
pub struct MemoryCas {
    value: Arc<Mutex<Value>>,
    writer: u64,
}

impl Default for MemoryCas {
    fn default() -> MemoryCas {
        MemoryCas::new()
    }
}

impl MemoryCas {
    /// A new cell without a value.
    pub fn new() -> MemoryCas {
        MemoryCas {
            value: Arc::default(),
            writer: 0,
        }
    }

    /// A handle of the same cell for another writer.
    pub fn another_writer(&self) -> MemoryCas {
        let mut value = lock(&self.value);
        value.writers += 1;
        MemoryCas {
            value: Arc::clone(&self.value),
            writer: value.writers,
        }
    }

    fn set(&self, expected: Option<u64>, bytes: Bytes) -> Result<CasOutcome, StorageError> {
        let version = version_after(expected)?;
        let mut value = lock(&self.value);
        if value.head.as_ref().map(|head| head.version) == expected {
            value.head = Some(Head { version, bytes });
            value.writer = self.writer;
            return Ok(CasOutcome::Committed { version });
        }
        let proposed = Head { version, bytes };
        if value.writer == self.writer && value.head.as_ref() == Some(&proposed) {
            return Ok(CasOutcome::Committed { version });
        }
        Ok(CasOutcome::Conflict(value.head.clone()))
    }
}

impl Cas for MemoryCas {
    fn head(&self) -> BoxFuture<'_, Result<Option<Head>, StorageError>> {
        Box::pin(async move { Ok(lock(&self.value).head.clone()) })
    }

    fn compare_and_set(&self, expected: Option<u64>, bytes: Bytes) -> BoxFuture<'_, CasOutcome> {
        Box::pin(async move { self.set(expected, bytes).unwrap_or_else(CasOutcome::NotWritten) })
    }
}

/// No code that holds these locks leaves them half-changed, so a panic elsewhere does not matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn concat(mut parts: Vec<Bytes>) -> Bytes {
    match parts.len() {
        1 => parts.remove(0),
        _ => Bytes::from(parts.concat()),
    }
}

pub(crate) fn taken(key: &BlobKey) -> StorageError {
    StorageError::new(
        StorageErrorKind::Taken,
        format!("object {key} is there already with another content"),
    )
}

pub(crate) fn check_range(key: &BlobKey, range: &Range<u64>) -> Result<(), StorageError> {
    if range.start <= range.end {
        return Ok(());
    }
    Err(StorageError::invalid(format!(
        "object {key}: the range {}..{} is reversed",
        range.start, range.end
    )))
}

pub(crate) fn too_short(key: &BlobKey, len: u64, range: &Range<u64>) -> StorageError {
    let Range { start, end } = range;
    StorageError::damaged(format!(
        "object {key} is damaged: it has {len} bytes, {start}..{end} were written"
    ))
}
