//! Which writers of one sink are alive in this process.
//!
//! A file operation that is under way goes on when nobody waits for it any more. A writer of a dead attempt that was cut
//! off in the middle could thus leave something behind after the new attempt has cleaned up. So a writer is never cut off:
//! it finishes its call, sees that its operator is gone, and ends; and the next attempt's writers wait for that.

use rivermark_types::Attempt;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// The living writers of one sink; shared by its operators of all attempts.
#[derive(Clone, Default)]
pub(crate) struct Lineage(Arc<Mutex<Vec<(Attempt, watch::Receiver<()>)>>>);

/// Held by a writer as long as it lives.
pub(crate) struct Alive {
    _gone: watch::Sender<()>,
}

/// The writers that must be gone first.
pub(crate) struct Ancestors(Vec<watch::Receiver<()>>);

impl Lineage {
    /// Enters a writer, and tells which writers of earlier attempts are still alive.
    pub(crate) fn enter(&self, attempt: Attempt) -> (Alive, Ancestors) {
        let (gone, alive) = watch::channel(());
        let mut living = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        living.retain(|(_, writer)| writer.has_changed().is_ok());
        let ancestors = living
            .iter()
            .filter(|(of, _)| *of < attempt)
            .map(|(_, writer)| writer.clone())
            .collect();
        living.push((attempt, alive));
        (Alive { _gone: gone }, Ancestors(ancestors))
    }
}

impl Ancestors {
    /// Completes when all of them are gone.
    pub(crate) async fn gone(self) {
        for mut writer in self.0 {
            while writer.changed().await.is_ok() {}
        }
    }
}
