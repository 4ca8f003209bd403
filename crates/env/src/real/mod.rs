//! The real world: threads, a small tokio runtime, `std::fs`, the machine's clocks, signals.
//!
//! Layout: [`RealEnv`] (start-up and the [`Platform`] it is), `allocator` (its settings), `files` (the file seam on `std::fs`),
//! `direct` (its large writes), `net` (the network seam), `signals` (asking the process to end). I/O tasks share two worker
//! threads; a slot is a thread of its own that parks while its future waits.
//! The runtime lives as long as any `Env` of it; when the last one goes, what still runs is dropped and nothing is waited
//! for. Non-goals: no scheduling of slots, no I/O driver of our own.

mod allocator;
mod direct;
mod files;
mod net;
mod signals;

pub use allocator::grow_arena;
pub use signals::ShutdownSignals;

use crate::files::Files;
use crate::net::Net;
use crate::platform::{BoxFuture, LocalBoxFuture, Platform, SlotStart, TaskExit, TaskHandle};
use crate::supervise::{Supervised, exit_cell};
use crate::{Env, real::files::RealFiles, real::net::RealNet};
use rivermark_types::{Millis, Timestamp};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::{Builder, Handle, Runtime};

const IO_WORKERS: usize = 2;
/// File operations that may be under way at once; more of them queue.
const BLOCKING_THREADS: usize = 32;

/// Production's world. `main` starts one and hands out [`RealEnv::env`].
#[derive(Clone)]
pub struct RealEnv {
    world: Arc<World>,
    env: Env,
}

impl RealEnv {
    /// Starts the I/O threads, and settles how the process's allocator keeps what is freed.
    pub fn start() -> io::Result<RealEnv> {
        allocator::settle();
        let runtime = Builder::new_multi_thread()
            .worker_threads(IO_WORKERS)
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("rivermark-io")
            .enable_all()
            .build()?;
        let files = Arc::new(RealFiles::new(runtime.handle().clone()));
        let net = Arc::new(RealNet::new(runtime.handle().clone()));
        let world = Arc::new(World {
            origin: instant(),
            files,
            net,
            runtime: OwnedRuntime(Some(runtime)),
        });
        let env = Env::new(world.clone());
        Ok(RealEnv { world, env })
    }

    /// The handle for everybody else.
    pub fn env(&self) -> Env {
        self.env.clone()
    }

    /// Runs a future on the calling thread until it completes. Not for use inside a task.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        block_on(future)
    }

    /// From now on SIGINT and SIGTERM no longer end the process but are told here.
    pub fn shutdown_signals(&self) -> io::Result<ShutdownSignals> {
        ShutdownSignals::listen(self.world.runtime.handle())
    }
}

struct World {
    origin: Instant,
    files: Arc<dyn Files>,
    net: Arc<dyn Net>,
    runtime: OwnedRuntime,
}

/// Never waits when dropped: the last `Env` may well be dropped by a task of this very runtime.
struct OwnedRuntime(Option<Runtime>);

impl OwnedRuntime {
    fn handle(&self) -> &Handle {
        match &self.0 {
            Some(runtime) => runtime.handle(),
            None => unreachable!("taken only by drop"),
        }
    }
}

impl Drop for OwnedRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Platform for World {
    fn now(&self) -> Millis {
        Millis(instant().duration_since(self.origin).as_millis() as u64)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    fn wall_clock(&self) -> Timestamp {
        Timestamp(match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_millis() as i64,
            Err(before) => -(before.duration().as_millis() as i64),
        })
    }

    fn cost_ns(&self) -> u64 {
        instant().duration_since(self.origin).as_nanos() as u64
    }

    fn random_u64(&self) -> u64 {
        // Std keys every `RandomState` differently, from the operating system's randomness.
        RandomState::new().hash_one(0u64)
    }

    fn spawn_io(&self, _name: &str, future: BoxFuture<'static, ()>) -> TaskHandle {
        let (sender, exit) = exit_cell();
        let task = self
            .runtime
            .handle()
            .spawn(Supervised::new(future, sender))
            .abort_handle();
        TaskHandle::new(exit, move || task.abort())
    }

    fn spawn_slot(&self, name: &str, start: SlotStart) -> TaskHandle {
        let (sender, exit) = exit_cell();
        let refused = sender.clone();
        let run = move || block_on(Supervised::new(Box::pin(async move { start().await }), sender));
        if let Err(error) = thread::Builder::new().name(name.to_owned()).spawn(run) {
            refused.send_replace(Some(TaskExit::Panicked(format!(
                "cannot start thread {name}: {error}"
            ))));
        }
        TaskHandle::new(exit, || {})
    }

    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        let _runtime = self.runtime.handle().enter();
        #[expect(clippy::disallowed_methods, reason = "this is the door")]
        Box::pin(tokio::time::sleep(wait))
    }

    fn step_point(&self) -> Option<LocalBoxFuture<'static, ()>> {
        None
    }

    fn files(&self) -> &Arc<dyn Files> {
        &self.files
    }

    fn net(&self) -> &Arc<dyn Net> {
        &self.net
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the door")]
fn instant() -> Instant {
    Instant::now()
}

/// Wakes a thread that parks between two polls.
struct Unpark {
    woken: AtomicBool,
    thread: Thread,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::Release) {
            self.thread.unpark();
        }
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let unpark = Arc::new(Unpark {
        woken: AtomicBool::new(false),
        thread: thread::current(),
    });
    let waker = Waker::from(unpark.clone());
    let mut cx = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
            return value;
        }
        while !unpark.woken.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }
}
