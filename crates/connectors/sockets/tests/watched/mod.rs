//! The real world, which also tells of every I/O task that has ended: what a test waits for instead of looking again and again.

use rivermark_env::platform::{BoxFuture, LocalBoxFuture, SlotStart};
use rivermark_env::{Env, Files, Net, Platform, TaskHandle};
use rivermark_types::{Millis, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// The I/O tasks that have ended, by name.
pub struct Ended(mpsc::UnboundedReceiver<String>);

impl Ended {
    /// Completes when the next task whose name begins so has ended and what it owned is dropped.
    pub async fn next(&mut self, beginning: &str) {
        while !self.0.recv().await.unwrap().starts_with(beginning) {}
    }
}

/// The same world, watched.
pub fn watched(world: Env) -> (Env, Ended) {
    let (tell, ended) = mpsc::unbounded_channel();
    (Env::new(Arc::new(Watched { world, tell })), Ended(ended))
}

struct Watched {
    world: Env,
    tell: mpsc::UnboundedSender<String>,
}

/// Tells when it is dropped: also at the end of a task that was aborted.
struct Tell(String, mpsc::UnboundedSender<String>);

impl Drop for Tell {
    fn drop(&mut self) {
        // A test that is over hears nothing.
        let _ = self.1.send(std::mem::take(&mut self.0));
    }
}

impl Platform for Watched {
    fn spawn_io(&self, name: &str, future: BoxFuture<'static, ()>) -> TaskHandle {
        let tell = Tell(name.to_owned(), self.tell.clone());
        self.world.spawn_io(name, async move {
            let _tell = tell;
            future.await;
        })
    }
    fn spawn_slot(&self, name: &str, start: SlotStart) -> TaskHandle {
        self.world.spawn_slot(name, start)
    }
    fn now(&self) -> Millis {
        self.world.now()
    }
    fn wall_clock(&self) -> Timestamp {
        self.world.wall_clock()
    }
    fn cost_ns(&self) -> u64 {
        self.world.cost_ns()
    }
    fn random_u64(&self) -> u64 {
        self.world.random_u64()
    }
    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        self.world.sleep(wait)
    }
    fn step_point(&self) -> Option<LocalBoxFuture<'static, ()>> {
        self.world.step_point()
    }
    fn files(&self) -> &Arc<dyn Files> {
        self.world.files()
    }
    fn net(&self) -> &Arc<dyn Net> {
        self.world.net()
    }
}
