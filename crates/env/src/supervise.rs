//! How a spawned task's end becomes known: a future that catches its own panic and tells how it ended.
//!
//! Every [`crate::Platform`] wraps what it spawns in a [`Supervised`], so that "finished", "aborted" and "panicked" mean
//! the same in the real world and in the simulated one. Non-goals: it starts nothing and restarts nothing.

use crate::panics::catch_panic;
use crate::platform::TaskExit;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::watch;

/// A task's future together with the cell that will tell its end. The exit is told only after the future is dropped.
pub struct Supervised<F> {
    future: Option<F>,
    exit: watch::Sender<Option<TaskExit>>,
}

/// The cell of a task that is about to be spawned: the sender for [`Supervised::new`], the receiver for
/// [`crate::TaskHandle::new`].
pub fn exit_cell() -> (watch::Sender<Option<TaskExit>>, watch::Receiver<Option<TaskExit>>) {
    watch::channel(None)
}

impl<F: Future<Output = ()> + Unpin> Supervised<F> {
    /// Watches over `future` and tells its end through `exit`.
    pub fn new(future: F, exit: watch::Sender<Option<TaskExit>>) -> Supervised<F> {
        Supervised {
            future: Some(future),
            exit,
        }
    }
}

impl<F> Supervised<F> {
    /// Drops the future, then tells the exit. What panics in a destructor counts as a panic of the task.
    fn end(&mut self, exit: TaskExit) {
        let Some(future) = self.future.take() else { return };
        let exit = match catch_panic(|| drop(future)) {
            Ok(()) => exit,
            Err(panic) => TaskExit::Panicked(panic),
        };
        self.exit.send_replace(Some(exit));
    }
}

impl<F: Future<Output = ()> + Unpin> Future for Supervised<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(future) = self.future.as_mut() else {
            return Poll::Ready(());
        };
        match catch_panic(|| Pin::new(future).poll(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => self.end(TaskExit::Finished),
            Err(panic) => self.end(TaskExit::Panicked(panic)),
        }
        Poll::Ready(())
    }
}

impl<F> Drop for Supervised<F> {
    fn drop(&mut self) {
        self.end(TaskExit::Aborted);
    }
}
