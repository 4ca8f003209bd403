//! Stops a future half-way.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

/// Polls a future at most `polls` times, then drops it; `None` if it was not done by then.
pub(crate) async fn cut_after<T>(polls: u32, future: impl Future<Output = T> + Send) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
