//! SIGINT and SIGTERM as something to await. What they mean (the first: a last checkpoint; the second: abort) is for the
//! caller to say.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Requests from outside to end the process, one after the other.
pub struct ShutdownSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl ShutdownSignals {
    pub(super) fn listen(runtime: &Handle) -> io::Result<ShutdownSignals> {
        let _runtime = runtime.enter();
        Ok(ShutdownSignals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Completes at the next SIGINT or SIGTERM; `false` if there can be no more (the runtime is gone).
    pub async fn next(&mut self) -> bool {
        poll_fn(
            |cx| match (self.interrupt.poll_recv(cx), self.terminate.poll_recv(cx)) {
                (Poll::Ready(Some(())), _) | (_, Poll::Ready(Some(()))) => Poll::Ready(true),
                (Poll::Ready(None), Poll::Ready(None)) => Poll::Ready(false),
                _ => Poll::Pending,
            },
        )
        .await
    }
}
