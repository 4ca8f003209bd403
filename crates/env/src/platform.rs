//! What an implementation of the world provides.

use crate::files::Files;
use crate::net::Net;
use rivermark_types::{Millis, Timestamp};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
/// A boxed future that stays on its thread.
pub type LocalBoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;
/// Builds a slot's future on the slot's own thread.
pub type SlotStart = Box<dyn FnOnce() -> LocalBoxFuture<'static, ()> + Send>;

/// Clock, randomness, spawning, measured cost, files, network. Every method may be called from any thread; none blocks.
pub trait Platform: Send + Sync {
    /// See [`crate::Env::now`].
    fn now(&self) -> Millis;
    /// See [`crate::Env::wall_clock`].
    fn wall_clock(&self) -> Timestamp;
    /// See [`crate::Env::cost_ns`].
    fn cost_ns(&self) -> u64;
    /// See [`crate::Env::random_u64`].
    fn random_u64(&self) -> u64;
    /// See [`crate::Env::spawn_io`]. A panic inside ends that task alone and is told by its handle.
    fn spawn_io(&self, name: &str, future: BoxFuture<'static, ()>) -> TaskHandle;
    /// See [`crate::Env::spawn_slot`]. A panic inside ends that thread alone and is told by its handle.
    fn spawn_slot(&self, name: &str, start: SlotStart) -> TaskHandle;
    /// See [`crate::Env::sleep`].
    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()>;
    /// See [`crate::Env::step_point`].
    fn step_point(&self) -> Option<LocalBoxFuture<'static, ()>>;
    /// See [`crate::Env::files`].
    fn files(&self) -> &Arc<dyn Files>;
    /// See [`crate::Env::net`].
    fn net(&self) -> &Arc<dyn Net>;
}

/// How a spawned task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskExit {
    /// It ran to its end.
    Finished,
    /// It was aborted.
    Aborted,
    /// It panicked, with this message.
    Panicked(String),
}

/// Waits for a spawned task, or ends it. Dropping the handle lets the task run on.
pub struct TaskHandle {
    exit: watch::Receiver<Option<TaskExit>>,
    abort: Box<dyn Fn() + Send + Sync>,
}

impl TaskHandle {
    /// A handle over a cell that the platform fills at the task's end, and a way to end it (a slot ignores it: it ends
    /// by its own commands).
    pub fn new(
        exit: watch::Receiver<Option<TaskExit>>,
        abort: impl Fn() + Send + Sync + 'static,
    ) -> TaskHandle {
        TaskHandle {
            exit,
            abort: Box::new(abort),
        }
    }

    /// Asks the task to end at its next await. Idempotent.
    pub fn abort(&self) {
        (self.abort)();
    }

    /// The exit, if the task has ended.
    pub fn exit(&self) -> Option<TaskExit> {
        self.exit.borrow().clone()
    }

    /// Completes when the task has ended; for those who do not own the handle.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut exit = self.exit.clone();
        async move {
            // An error: the platform dropped the task without a word.
            let _ = exit.wait_for(Option::is_some).await;
        }
    }

    /// Completes when the task has ended and everything it owned is dropped.
    pub async fn join(mut self) -> TaskExit {
        match self.exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.clone().unwrap_or(TaskExit::Aborted),
            // The platform dropped the task without a word: it is gone.
            Err(_) => TaskExit::Aborted,
        }
    }
}
