//! What wakes a slot that has nothing to do.

use std::sync::Arc;
use tokio::sync::Notify;

/// Wakes one slot; cheap to clone, callable from any thread. A wake-up while the slot runs is remembered.
#[derive(Clone, Default)]
pub struct SlotWaker(Arc<Notify>);

impl SlotWaker {
    /// Makes the slot step all its tasks once more.
    pub fn wake(&self) {
        self.0.notify_one();
    }

    /// Completes at the next wake-up, or at once if there was one since the last.
    pub async fn woken(&self) {
        self.0.notified().await;
    }
}
