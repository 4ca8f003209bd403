//! A slot: one thread that steps its tasks in turns and parks when none has anything to do.

use crate::build::TaskPlan;
use crate::messages::{TaskCommand, TaskEvent};
use crate::task::{Step, Task};
use crate::waker::SlotWaker;
use rivermark_env::{Env, catch_panic};
use rivermark_types::{ErrorKind, Failure, Millis, SubtaskId, subtask_name};
use std::pin::pin;
use std::task::Poll;
use tokio::sync::mpsc;

/// From the master to a slot, in order.
#[derive(Clone, Debug)]
pub enum SlotCommand {
    /// For one of its tasks.
    Task(SubtaskId, TaskCommand),
    /// Drop everything and end.
    Cancel,
}

/// A slot and what it is to run. Sent to the slot's thread, which builds its tasks there.
pub struct Slot {
    /// The world.
    pub env: Env,
    /// The tasks to build.
    pub tasks: Vec<TaskPlan>,
    /// From the master.
    pub commands: mpsc::UnboundedReceiver<SlotCommand>,
    /// To the master.
    pub events: mpsc::UnboundedSender<TaskEvent>,
    /// Wakes this slot.
    pub waker: SlotWaker,
}

/// A task in its slot; `None` once it has ended or failed.
struct Seat {
    subtask: SubtaskId,
    task: Option<Task>,
}

impl Slot {
    /// The slot's life: builds and opens its tasks, steps them until all have ended or it is cancelled.
    pub async fn run(mut self) {
        let mut seats = Vec::new();
        let mut early = Vec::new();
        for plan in std::mem::take(&mut self.tasks) {
            let (subtask, place) = (plan.info.subtask, plan.info.name.clone());
            let (env, waker) = (self.env.clone(), self.waker.clone());
            // A restore may wait long for the store: a cancel must not wait with it.
            let Some(built) = self.unless_cancelled(plan.build(&env, &waker), &mut early).await else {
                return;
            };
            match built {
                Ok(task) => {
                    seats.push(Seat {
                        subtask,
                        task: Some(task),
                    });
                    self.tell(TaskEvent::Opened { subtask });
                }
                Err(failure) => {
                    self.tell(TaskEvent::Failed {
                        subtask,
                        place,
                        node: None,
                        row: None,
                        failure,
                    });
                    seats.push(Seat { subtask, task: None });
                }
            }
        }
        for (subtask, command) in early {
            self.command(&mut seats, subtask, command);
        }
        self.serve(&mut seats).await;
    }

    /// The work's result, or `None` if a cancel came first. Commands for tasks that come meanwhile are kept in order.
    async fn unless_cancelled<R>(
        &mut self,
        work: impl Future<Output = R>,
        early: &mut Vec<(SubtaskId, TaskCommand)>,
    ) -> Option<R> {
        let mut work = pin!(work);
        std::future::poll_fn(|cx| {
            while let Poll::Ready(command) = self.commands.poll_recv(cx) {
                match command {
                    Some(SlotCommand::Task(subtask, command)) => early.push((subtask, command)),
                    Some(SlotCommand::Cancel) | None => return Poll::Ready(None),
                }
            }
            work.as_mut().poll(cx).map(Some)
        })
        .await
    }

    async fn serve(&mut self, seats: &mut [Seat]) {
        loop {
            loop {
                match self.commands.try_recv() {
                    Ok(SlotCommand::Task(subtask, command)) => self.command(seats, subtask, command),
                    Ok(SlotCommand::Cancel) | Err(mpsc::error::TryRecvError::Disconnected) => return,
                    Err(mpsc::error::TryRecvError::Empty) => break,
                }
            }
            let (progressed, until) = self.step_all(seats);
            if let Some(point) = self.env.step_point() {
                point.await;
            }
            if !progressed {
                self.park(until).await;
            }
        }
    }

    fn command(&mut self, seats: &mut [Seat], subtask: SubtaskId, command: TaskCommand) {
        let Some(seat) = seats.iter_mut().find(|seat| seat.subtask == subtask) else {
            return;
        };
        self.guarded(seat, |task| task.command(command));
    }

    /// Steps every task once: whether any did something, and when one wants to be stepped again by itself.
    fn step_all(&mut self, seats: &mut [Seat]) -> (bool, Option<Millis>) {
        let (mut progressed, mut until) = (false, None::<Millis>);
        for seat in seats {
            match self.guarded(seat, Task::step) {
                Some(Step::Progress) => progressed = true,
                Some(Step::Idle(at)) => until = [until, at].into_iter().flatten().min(),
                Some(Step::Done) => {
                    seat.task = None;
                    self.tell(TaskEvent::Ended {
                        subtask: seat.subtask,
                    });
                }
                None => {}
            }
        }
        (progressed, until)
    }

    /// Runs a task's code; an error or a panic ends the task and is told to the master, never more.
    fn guarded<R>(&self, seat: &mut Seat, work: impl FnOnce(&mut Task) -> Result<R, Failure>) -> Option<R> {
        let task = seat.task.as_mut()?;
        let failure = match catch_panic(|| work(task)) {
            Ok(Ok(result)) => return Some(result),
            Ok(Err(failure)) => failure,
            Err(panic) => Failure::new(ErrorKind::Bug, format!("panicked: {panic}")),
        };
        let (place, origin) = task.place();
        let (node, row) = task.failed_at();
        let mut at = subtask_name(&place, seat.subtask.index);
        if let Some(origin) = origin {
            at += &format!(" at {origin}");
        }
        if let Some(row) = &row {
            at += &format!(", row {}", row.text);
        }
        let failure = failure.at(at);
        // What a half-done call left behind may not run on; its destructors may.
        if let Err(panic) = catch_panic(|| seat.task = None) {
            tracing::warn!(%place, panic, "a destructor panicked after the failure");
        }
        self.tell(TaskEvent::Failed {
            subtask: seat.subtask,
            place,
            node,
            row,
            failure,
        });
        None
    }

    /// Waits for a wake-up, or until a time.
    async fn park(&self, until: Option<Millis>) {
        let mut woken = pin!(self.waker.woken());
        let Some(until) = until else { return woken.await };
        let mut alarm = self.env.sleep(until.since(self.env.now()));
        std::future::poll_fn(|cx| {
            if woken.as_mut().poll(cx).is_ready() || alarm.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }

    fn tell(&self, event: TaskEvent) {
        // Without a master nobody needs to know; the next command loop ends this slot.
        let _ = self.events.send(event);
    }
}
