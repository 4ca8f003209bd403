//! Trying again what may pass: calls to the store, with growing pauses.

use rivermark_env::Env;
use rivermark_storage::{StorageError, StorageErrorKind};
use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Repeats a call while it fails in a way that may pass, at most `tries` times.
pub async fn retrying<T, F: Future<Output = Result<T, StorageError>>>(
    env: &Env,
    tries: u32,
    mut call: impl FnMut() -> F,
) -> Result<T, StorageError> {
    let mut pause = FIRST_PAUSE;
    let mut left = tries;
    loop {
        match call().await {
            Err(error) if error.kind() == StorageErrorKind::Retryable && left > 1 => {
                tracing::debug!(%error, "trying again");
                left -= 1;
                env.sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            result => return result,
        }
    }
}
