//! Trying again what may pass: calls to the store, with growing pauses, no two alike, and so often or so long at most.

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
    repeating(env, |tried, _| tried + 1 < tries, &mut call).await
}

/// How long a start or a restore waits for a call to the store. Starting again does not help a store that is away, and would
/// use up the restarts.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// What has been waited for so long is told.
const TOLD_AFTER: Duration = Duration::from_secs(10);

/// Repeats a call while it fails in a way that may pass, with [`PATIENCE`].
pub(crate) async fn patiently<T, F: Future<Output = Result<T, StorageError>>>(
    env: &Env,
    mut call: impl FnMut() -> F,
) -> Result<T, StorageError> {
    let (began, minutes) = (env.now(), PATIENCE.as_secs() / 60);
    let mut told = false;
    let goes_on = |_, error: &StorageError| {
        let now = env.now();
        if !told && now >= began.after(TOLD_AFTER) {
            told = true;
            tracing::warn!(%error, "waiting for the store, {minutes} minutes at most");
        }
        now < began.after(PATIENCE)
    };
    match repeating(env, goes_on, &mut call).await {
        Err(error) if error.kind() == StorageErrorKind::Retryable => Err(StorageError::retryable(format!(
            "{error}; it was tried for {minutes} minutes"
        ))),
        result => result,
    }
}

async fn repeating<T, F: Future<Output = Result<T, StorageError>>>(
    env: &Env,
    mut goes_on: impl FnMut(u32, &StorageError) -> bool,
    call: &mut impl FnMut() -> F,
) -> Result<T, StorageError> {
    let mut tried = 0;
    loop {
        match call().await {
            Err(error) if error.kind() == StorageErrorKind::Retryable && goes_on(tried, &error) => {
                tracing::debug!(%error, "trying again");
                let pause = backoff(FIRST_PAUSE, LONGEST_PAUSE, tried, env.random_u64());
                tried += 1;
                env.sleep(pause).await;
            }
            result => return result,
        }
    }
}

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
        Box::pin(patiently(&self.env, move || self.blob.get(key)))
    }
    fn get_range<'a>(
        &'a self,
        key: &'a BlobKey,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, StorageError>> {
        Box::pin(patiently(&self.env, move || {
            self.blob.get_range(key, range.clone())
        }))
    }
    fn list<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Vec<BlobEntry>, StorageError>> {
        Box::pin(patiently(&self.env, move || self.blob.list(folder)))
    }
    fn delete<'a>(&'a self, key: &'a BlobKey) -> BoxFuture<'a, Result<(), StorageError>> {
        self.blob.delete(key)
    }
}
