//! The world: machines and processes, how they crash, and the run.

use crate::draw::Draw;
use crate::executor::{Executor, Shared, Spawn};
use crate::files::Machine;
use crate::process::SimProcess;
use rivermark_env::supervise::{Supervised, exit_cell};
use rivermark_env::{Env, LocalBoxFuture, TaskExit};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A process that was started in this world; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(pub u32);

/// What has become of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessStatus {
    /// It runs, or could.
    Running,
    /// Its main future ended, and with it everything else in the process.
    Exited(TaskExit),
    /// It was killed, or its machine lost power.
    Killed,
}

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It polled a task.
    Ran,
    /// Nothing is ready and no timer is set.
    Stuck,
}

/// How far a run may go.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// At most this many polls.
    pub steps: u64,
    /// At most this much virtual time from the start of the world.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            steps: 1_000_000,
            time: Duration::from_secs(3_600),
        }
    }
}

/// Why a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// The hook said so.
    Stopped,
    /// No task is left.
    Finished,
    /// These tasks wait for something that cannot come.
    Deadlock(Vec<String>),
    /// Too many steps; these tasks were there.
    StepLimit(Vec<String>),
    /// Too much time; these tasks were there.
    TimeLimit(Vec<String>),
}

struct Process {
    platform: Arc<SimProcess>,
    machine: Machine,
    name: String,
    main: watch::Receiver<Option<TaskExit>>,
    status: ProcessStatus,
}

/// A deterministic world: everything that is drawn comes from the seed.
pub struct SimWorld {
    seed: u64,
    executor: Executor,
    processes: BTreeMap<ProcessId, Process>,
    paused: BTreeSet<ProcessId>,
    steps: u64,
}

impl SimWorld {
    /// An empty world.
    pub fn new(seed: u64) -> SimWorld {
        SimWorld {
            seed,
            executor: Executor::new(Draw::stream(seed, "schedule")),
            processes: BTreeMap::new(),
            paused: BTreeSet::new(),
            steps: 0,
        }
    }

    /// A stream of the seed for the scenario's own use.
    pub fn draw(&self, label: &str) -> Draw {
        Draw::stream(self.seed, &format!("scenario {label}"))
    }

    /// A machine with an empty disk. It outlives its processes.
    pub fn machine(&mut self, name: &str) -> Machine {
        Machine::new(name, Draw::stream(self.seed, &format!("machine {name}")))
    }

    /// Starts a process. It ends when `main`'s future does, as a program ends with its `main`.
    pub fn start<F: Future<Output = ()> + 'static>(
        &mut self,
        machine: &Machine,
        name: &str,
        main: impl FnOnce(Env) -> F + 'static,
    ) -> ProcessId {
        let id = ProcessId(self.processes.len() as u32);
        let platform = Arc::new(SimProcess::new(
            self.seed,
            id,
            self.shared().clone(),
            machine.clone(),
        ));
        let env = Env::new(platform.clone());
        let (sender, exit) = exit_cell();
        let future: LocalBoxFuture<'static, ()> = Box::pin(async move { main(env).await });
        let signal = self.shared().new_signal();
        self.executor.insert(
            id,
            format!("{name}/main"),
            signal,
            Supervised::new(future, sender),
        );
        self.shared().event(format_args!("start {name}"));
        let (machine, name) = (machine.clone(), name.to_owned());
        let process = Process {
            platform,
            machine,
            name,
            main: exit,
            status: ProcessStatus::Running,
        };
        self.processes.insert(id, process);
        id
    }

    /// What has become of a process; `None` if it is of another world.
    pub fn status(&self, process: ProcessId) -> Option<&ProcessStatus> {
        self.processes.get(&process).map(|process| &process.status)
    }

    /// Whether a process still runs.
    pub fn is_running(&self, process: ProcessId) -> bool {
        self.status(process) == Some(&ProcessStatus::Running)
    }

    /// As `kill -9`: its tasks and open files are gone at once; what it wrote stays with the operating system.
    pub fn kill(&mut self, process: ProcessId) {
        self.end(process, ProcessStatus::Killed);
    }

    /// Kills every process of a machine; its disk keeps what was synced and, of the rest, what the seed says.
    pub fn power_loss(&mut self, machine: &Machine) {
        let here = |process: &Process| process.machine.is_same(machine);
        let ids: Vec<_> = self
            .processes
            .iter()
            .filter(|(_, process)| here(process))
            .map(|(&id, _)| id)
            .collect();
        for id in ids {
            self.kill(id);
        }
        self.shared()
            .event(format_args!("power loss of {}", machine.name()));
        machine.lose_power();
    }

    /// As SIGSTOP: nothing of it runs until [`SimWorld::resume`]; time goes on.
    pub fn pause(&mut self, process: ProcessId) {
        self.paused.insert(process);
        self.shared().event(format_args!("pause {}", process.0));
    }

    /// As SIGCONT.
    pub fn resume(&mut self, process: ProcessId) {
        self.paused.remove(&process);
        self.shared().event(format_args!("resume {}", process.0));
    }

    /// Polls one task that the seed picks; lets time pass if none is ready.
    pub fn step(&mut self) -> Step {
        loop {
            self.admit_spawned();
            self.executor.fire_timers();
            if let Some(task) = self.executor.pick(&self.paused) {
                self.steps += 1;
                if let Some(process) = self.executor.poll(task) {
                    self.end_with_main(process);
                }
                return Step::Ran;
            }
            if !self.executor.jump_to_next_timer() {
                return Step::Stuck;
            }
        }
    }

    /// Steps on until the hook breaks, nothing is left to do, or a limit is reached. The hook is called before every
    /// step; it may kill, start, pause and look.
    pub fn run(&mut self, limits: Limits, mut hook: impl FnMut(&mut SimWorld) -> ControlFlow<()>) -> RunEnd {
        let last_step = self.steps.saturating_add(limits.steps);
        loop {
            if hook(self).is_break() {
                return RunEnd::Stopped;
            }
            if self.steps >= last_step {
                return RunEnd::StepLimit(self.executor.task_names());
            }
            if self.now() > limits.time {
                return RunEnd::TimeLimit(self.executor.task_names());
            }
            if self.step() == Step::Stuck {
                let waiting = self.executor.task_names();
                return if waiting.is_empty() {
                    RunEnd::Finished
                } else {
                    RunEnd::Deadlock(waiting)
                };
            }
        }
    }

    /// Steps on until a process is no longer running.
    pub fn run_process(&mut self, process: ProcessId, limits: Limits) -> RunEnd {
        self.run(limits, |world| match world.is_running(process) {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        })
    }

    /// Virtual time since the start of the world.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.shared().now_ns())
    }

    /// How many polls there were.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// A hash of everything that happened: every poll, file operation and crash with its time.
    pub fn trace_hash(&self) -> u64 {
        self.shared().trace(|trace, _| trace.hash())
    }

    /// From now on keeps a readable trace as well.
    pub fn keep_trace(&mut self) {
        self.shared().trace(|trace, _| trace.keep_lines());
    }

    /// The readable trace so far.
    pub fn take_trace(&mut self) -> Vec<String> {
        self.shared().trace(|trace, _| trace.take_lines())
    }

    /// A remark in the readable trace; it does not count for the hash.
    pub fn remark(&self, what: fmt::Arguments<'_>) {
        self.shared().trace(|trace, now| trace.remark(now, what));
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.executor.shared
    }

    fn admit_spawned(&mut self) {
        for Spawn {
            process,
            name,
            start,
            exit,
            signal,
        } in self.executor.take_spawned()
        {
            let Some(owner) = self.processes.get(&process) else {
                continue;
            };
            if owner.status == ProcessStatus::Running {
                let future: LocalBoxFuture<'static, ()> = Box::pin(async move { start().await });
                let name = format!("{}/{name}", owner.name);
                self.executor
                    .insert(process, name, signal, Supervised::new(future, exit));
            }
        }
    }

    fn end_with_main(&mut self, process: ProcessId) {
        let exit = self
            .processes
            .get(&process)
            .and_then(|process| process.main.borrow().clone());
        if let Some(exit) = exit {
            self.end(process, ProcessStatus::Exited(exit));
        }
    }

    fn end(&mut self, id: ProcessId, status: ProcessStatus) {
        // What it asked to be spawned in its last poll goes with it.
        self.admit_spawned();
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        if process.status != ProcessStatus::Running {
            return;
        }
        process.status = status;
        process.platform.die();
        let what = format!("end of {}: {:?}", process.name, process.status);
        self.shared().event(format_args!("{what}"));
        self.paused.remove(&id);
        self.executor.drop_process(id);
    }
}

impl Drop for SimWorld {
    fn drop(&mut self) {
        let ids: Vec<_> = self.processes.keys().copied().collect();
        for id in ids {
            self.kill(id);
        }
        drop(self.executor.take_spawned());
    }
}
