//! A store that keeps its callers waiting.

use bytes::Bytes;
use rivermark_env::BoxFuture;
use rivermark_storage::{Blob, BlobEntry, BlobKey, MemoryBlob, StorageError};
use std::ops::Range;
use tokio::sync::watch;

/// A store whose puts wait until they are let through.
pub(super) struct Gated {
    pub(super) memory: MemoryBlob,
    /// Whether they are.
    pub(super) open: watch::Receiver<bool>,
    /// How many puts have come.
    pub(super) puts: watch::Sender<usize>,
}

impl Blob for Gated {
    fn put<'a>(&'a self, key: &'a BlobKey, bytes: Vec<Bytes>) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(async move {
            self.puts.send_modify(|puts| *puts += 1);
            let _ = self.open.clone().wait_for(|open| *open).await;
            self.memory.put(key, bytes).await
        })
    }
    fn get<'a>(&'a self, key: &'a BlobKey) -> BoxFuture<'a, Result<Bytes, StorageError>> {
        self.memory.get(key)
    }
    fn get_range<'a>(
        &'a self,
        key: &'a BlobKey,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, StorageError>> {
        self.memory.get_range(key, range)
    }
    fn list<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Vec<BlobEntry>, StorageError>> {
        self.memory.list(folder)
    }
    fn delete<'a>(&'a self, key: &'a BlobKey) -> BoxFuture<'a, Result<(), StorageError>> {
        self.memory.delete(key)
    }
}
