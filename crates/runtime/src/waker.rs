//! What wakes a slot that has nothing to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// Wakes one slot; cheap to clone, callable from any thread. A wake-up while the slot runs is remembered. One that an operator
/// was given ([`crate::OpenCx::waker`]) wakes that operator in it too.
#[derive(Clone, Default)]
pub struct SlotWaker {
    slot: Arc<Notify>,
    /// Set when its operator is to be called.
    operator: Option<Arc<AtomicBool>>,
}

impl SlotWaker {
    /// Makes the slot step all its tasks once more.
    pub fn wake(&self) {
        if let Some(operator) = &self.operator {
            operator.store(true, Ordering::Release);
        }
        self.slot.notify_one();
    }

    /// Completes at the next wake-up, or at once if there was one since the last.
    pub async fn woken(&self) {
        self.slot.notified().await;
    }

    /// One for an operator of the slot.
    pub(crate) fn for_operator(&self) -> SlotWaker {
        SlotWaker {
            slot: self.slot.clone(),
            operator: Some(Arc::default()),
        }
    }

    /// Whether its operator was woken and has not been called since.
    pub(crate) fn has_woken(&self) -> bool {
        let operator = self.operator.as_ref();
        operator.is_some_and(|woken| woken.load(Ordering::Relaxed))
    }

    /// Its operator is being called: what it was woken for so far is in sight of the call.
    pub(crate) fn forget(&self) {
        if let Some(operator) = &self.operator {
            operator.swap(false, Ordering::Acquire);
        }
    }
}
