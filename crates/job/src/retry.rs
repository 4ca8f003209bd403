//! Trying again what may pass: calls to the store, with growing pauses, no two alike, and so often at most.

use bytes::Bytes;
use rivermark_env::{BoxFuture, Env};
use rivermark_storage::{Blob, BlobEntry, BlobKey, StorageError, StorageErrorKind, backoff};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Repeats a call while it fails in a way that may pass, at most `tries` times.
pub async fn retrying<T, F: Future<Output = Result<T, StorageError>>>(
    env: &Env,
    tries: u32,
    mut call: impl FnMut() -> F,
) -> Result<T, StorageError> {
    repeating(env, |tried| tried + 1 < tries, &mut call).await
}

/// Repeats a call while it fails in a way that may pass, for so long.
async fn retrying_for<T, F: Future<Output = Result<T, StorageError>>>(
    env: &Env,
    patience: Duration,
    mut call: impl FnMut() -> F,
) -> Result<T, StorageError> {
    let until = env.now().after(patience);
    repeating(env, |_| env.now() < until, &mut call).await
}

async fn repeating<T, F: Future<Output = Result<T, StorageError>>>(
    env: &Env,
    goes_on: impl Fn(u32) -> bool,
    call: &mut impl FnMut() -> F,
) -> Result<T, StorageError> {
    let mut tried = 0;
    loop {
        match call().await {
            Err(error) if error.kind() == StorageErrorKind::Retryable && goes_on(tried) => {
                tracing::debug!(%error, "trying again");
                let pause = backoff(FIRST_PAUSE, LONGEST_PAUSE, tried, env.random_u64());
                tried += 1;
                env.sleep(pause).await;
            }
            result => return result,
        }
    }
}

/// How long a read is tried for a restore. Restarting does not help a store that is away, and would use up the restarts.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// A store whose reads wait for it to come back. For restores: whoever waits is cancelled with its attempt.
pub(crate) struct PatientBlob {
    pub(crate) env: Env,
    pub(crate) blob: Arc<dyn Blob>,
}

impl Blob for PatientBlob {
    fn put<'a>(&'a self, key: &'a BlobKey, bytes: Vec<Bytes>) -> BoxFuture<'a, Result<(), StorageError>> {
        self.blob.put(key, bytes)
    }
    fn get<'a>(&'a self, key: &'a BlobKey) -> BoxFuture<'a, Result<Bytes, StorageError>> {
        Box::pin(retrying_for(&self.env, PATIENCE, move || self.blob.get(key)))
    }
    fn get_range<'a>(
        &'a self,
        key: &'a BlobKey,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, StorageError>> {
        Box::pin(retrying_for(&self.env, PATIENCE, move || {
            self.blob.get_range(key, range.clone())
        }))
    }
    fn list<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Vec<BlobEntry>, StorageError>> {
        Box::pin(retrying_for(&self.env, PATIENCE, move || self.blob.list(folder)))
    }
    fn delete<'a>(&'a self, key: &'a BlobKey) -> BoxFuture<'a, Result<(), StorageError>> {
        self.blob.delete(key)
    }
}
