//! Which task is polled when: ready tasks in an order drawn from the seed, virtual time that moves with every poll and
//! jumps to the next timer when nothing is ready.
//!
//! What the tasks themselves reach (wakers, timers, requests to spawn) is in [`Shared`], `Send + Sync` as the seams demand;
//! the futures, which may be `!Send`, stay in the [`Executor`]. The ready tasks are a *set*: in which order one poll woke
//! several of them must not matter, because some channels wake their waiters in a random order.

use crate::draw::Draw;
use crate::net::Network;
use crate::trace::{Trace, name_tag};
use crate::world::ProcessId;
use rivermark_env::supervise::Supervised;
use rivermark_env::{LocalBoxFuture, SlotStart, TaskExit};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use tokio::sync::watch;

/// One poll takes this much virtual time, in nanoseconds.
const POLL_NS: (u64, u64) = (1_000, 20_000);
/// One task in so many is passed over often, as a thread on a busy machine would be.
const SLUGGISH_ONE_IN: u64 = 4;

pub(crate) type TaskId = u64;

/// Locks whatever a caught panic may have left locked.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What tasks, wakers and environments reach.
#[derive(Default)]
pub(crate) struct Shared {
    ready: Mutex<BTreeSet<TaskId>>,
    core: Mutex<Core>,
    network: Mutex<Network>,
}

#[derive(Default)]
struct Core {
    now_ns: u64,
    last_task: TaskId,
    last_timer: u64,
    timers: BTreeMap<(u64, u64), Waker>,
    spawned: Vec<Spawn>,
    trace: Trace,
}

/// A request to start a task.
pub(crate) struct Spawn {
    pub(crate) process: ProcessId,
    pub(crate) name: String,
    pub(crate) start: SlotStart,
    pub(crate) exit: watch::Sender<Option<TaskExit>>,
    pub(crate) signal: Arc<Signal>,
}

impl Shared {
    pub(crate) fn now_ns(&self) -> u64 {
        locked(&self.core).now_ns
    }

    pub(crate) fn new_signal(self: &Arc<Self>) -> Arc<Signal> {
        let mut core = locked(&self.core);
        core.last_task += 1;
        Arc::new(Signal {
            task: core.last_task,
            aborted: AtomicBool::new(false),
            shared: self.clone(),
        })
    }

    pub(crate) fn spawn(&self, spawn: Spawn) {
        locked(&self.core).spawned.push(spawn);
    }

    pub(crate) fn sleep(self: &Arc<Self>, wait: Duration) -> Sleep {
        let wait_ns = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        Sleep {
            deadline_ns: self.now_ns().saturating_add(wait_ns),
            shared: self.clone(),
            timer: None,
        }
    }

    pub(crate) fn trace<T>(&self, with: impl FnOnce(&mut Trace, u64) -> T) -> T {
        let mut core = locked(&self.core);
        let now = core.now_ns;
        with(&mut core.trace, now)
    }

    pub(crate) fn network(&self) -> &Mutex<Network> {
        &self.network
    }

    pub(crate) fn event(&self, what: fmt::Arguments<'_>) {
        self.trace(|trace, now| trace.event(now, what));
    }
}

/// A task's waker and abort flag.
pub(crate) struct Signal {
    task: TaskId,
    aborted: AtomicBool,
    shared: Arc<Shared>,
}

impl Signal {
    /// The task is dropped instead of polled when its turn comes.
    pub(crate) fn abort(&self) {
        self.aborted.store(true, Ordering::Relaxed);
        self.make_ready();
    }

    fn make_ready(&self) {
        locked(&self.shared.ready).insert(self.task);
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.make_ready();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.make_ready();
    }
}

/// Completes when virtual time has reached its deadline.
pub(crate) struct Sleep {
    deadline_ns: u64,
    shared: Arc<Shared>,
    timer: Option<(u64, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let shared = self.shared.clone();
        let mut core = locked(&shared.core);
        if core.now_ns >= self.deadline_ns {
            return Poll::Ready(());
        }
        let deadline = self.deadline_ns;
        let timer = *self.timer.get_or_insert_with(|| {
            core.last_timer += 1;
            (deadline, core.last_timer)
        });
        core.timers.insert(timer, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            locked(&self.shared.core).timers.remove(&timer);
        }
    }
}

/// Lets every other ready task go first, if the seed wants it.
#[derive(Default)]
pub(crate) struct YieldOnce {
    yielded: bool,
}

impl Future for YieldOnce {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

struct Task {
    process: ProcessId,
    /// "process/task".
    name: String,
    tag: u64,
    sluggish: bool,
    signal: Arc<Signal>,
    future: Supervised<LocalBoxFuture<'static, ()>>,
}

/// All tasks of the world.
pub(crate) struct Executor {
    pub(crate) shared: Arc<Shared>,
    tasks: BTreeMap<TaskId, Task>,
    schedule: Draw,
}

impl Executor {
    pub(crate) fn new(schedule: Draw) -> Executor {
        Executor {
            shared: Arc::default(),
            tasks: BTreeMap::new(),
            schedule,
        }
    }

    /// Takes in a task; it is ready at once.
    pub(crate) fn insert(
        &mut self,
        process: ProcessId,
        name: String,
        signal: Arc<Signal>,
        future: Supervised<LocalBoxFuture<'static, ()>>,
    ) {
        let sluggish = self.schedule.one_in(SLUGGISH_ONE_IN);
        let tag = name_tag(&name);
        signal.make_ready();
        self.tasks.insert(
            signal.task,
            Task {
                process,
                name,
                tag,
                sluggish,
                signal,
                future,
            },
        );
    }

    /// The requests to spawn since the last call.
    pub(crate) fn take_spawned(&self) -> Vec<Spawn> {
        std::mem::take(&mut locked(&self.shared.core).spawned)
    }

    /// Wakes what slept until now.
    pub(crate) fn fire_timers(&self) {
        let mut due = Vec::new();
        {
            let mut core = locked(&self.shared.core);
            let now = core.now_ns;
            while let Some(first) = core.timers.first_entry() {
                if first.key().0 > now {
                    break;
                }
                due.push(first.remove());
            }
        }
        due.into_iter().for_each(Waker::wake);
    }

    /// Lets time pass until the next timer; false if there is none.
    pub(crate) fn jump_to_next_timer(&self) -> bool {
        let mut core = locked(&self.shared.core);
        let Some((&(deadline, _), _)) = core.timers.first_key_value() else {
            return false;
        };
        core.now_ns = core.now_ns.max(deadline);
        true
    }

    /// Draws the next task to poll among the ready ones of processes that run.
    pub(crate) fn pick(&mut self, paused: &BTreeSet<ProcessId>) -> Option<TaskId> {
        let mut ready = locked(&self.shared.ready);
        ready.retain(|id| self.tasks.contains_key(id));
        let runnable: Vec<TaskId> = ready
            .iter()
            .copied()
            .filter(|id| {
                self.tasks
                    .get(id)
                    .is_some_and(|task| !paused.contains(&task.process))
            })
            .collect();
        let mut picked = *runnable.get(self.schedule.index(runnable.len()))?;
        if self.tasks.get(&picked).is_some_and(|task| task.sluggish) {
            picked = runnable[self.schedule.index(runnable.len())];
        }
        ready.remove(&picked);
        Some(picked)
    }

    /// Polls a task once and returns its process.
    pub(crate) fn poll(&mut self, id: TaskId) -> Option<ProcessId> {
        let mut task = self.tasks.remove(&id)?;
        let cost = self.schedule.between(POLL_NS.0, POLL_NS.1);
        {
            let mut core = locked(&self.shared.core);
            core.now_ns += cost;
            let now = core.now_ns;
            core.trace.polled(now, task.tag, &task.name);
        }
        let process = task.process;
        if task.signal.aborted.load(Ordering::Relaxed) {
            return Some(process);
        }
        let waker = Waker::from(task.signal.clone());
        if Pin::new(&mut task.future)
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
        {
            self.tasks.insert(id, task);
        }
        Some(process)
    }

    /// Drops all tasks of a process.
    pub(crate) fn drop_process(&mut self, process: ProcessId) {
        let ids: Vec<TaskId> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.process == process)
            .map(|(&id, _)| id)
            .collect();
        for id in ids {
            self.tasks.remove(&id);
        }
    }

    /// The names of all tasks.
    pub(crate) fn task_names(&self) -> Vec<String> {
        self.tasks.values().map(|task| task.name.clone()).collect()
    }
}
