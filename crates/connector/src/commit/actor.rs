//! The I/O side of a sink: owns the writer, makes one call at a time, in the order of its commands.

use crate::commit::lineage::{Alive, Ancestors};
use crate::sink::TwoPhaseSink;
use rivermark_runtime::{OperatorReport, Reporter, SinkPhase, SlotWaker};
use rivermark_types::{CheckpointId, Failure, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::mpsc;

/// From the operator to its writer.
pub(crate) enum Command<W: TwoPhaseSink> {
    /// After a restore, or with nothing on a fresh start.
    Recommit(Vec<W::Committable>),
    AbortUnlisted,
    Write(Vec<W::Row>),
    Prepare(CheckpointId),
    /// Everything that a decided checkpoint covers.
    Commit(CheckpointId, Vec<W::Committable>),
}

/// From the writer to its operator. What the master waits for is reported to it directly.
pub(crate) enum Reply<W: TwoPhaseSink> {
    Recommitted,
    Prepared(CheckpointId, Vec<W::Committable>),
    Committed(CheckpointId),
    Failed(Failure),
}

/// What both sides see.
#[derive(Default)]
pub(crate) struct Shared {
    /// Rows handed over and not written yet: what bounds the queue.
    pub(crate) rows: AtomicUsize,
    /// The operator is gone: end before the next call.
    pub(crate) stopped: AtomicBool,
}

/// The writer's task.
pub(crate) struct Actor<W: TwoPhaseSink> {
    pub(crate) writer: W,
    pub(crate) commands: mpsc::UnboundedReceiver<Command<W>>,
    pub(crate) replies: mpsc::UnboundedSender<Reply<W>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) waker: SlotWaker,
    pub(crate) reporter: Reporter,
    /// Names operator and subtask in errors.
    pub(crate) place: String,
    /// Behind the writer: it is dropped after it.
    pub(crate) _alive: Alive,
}

/// Tells the master and the operator when the writer's task ends without a word: by a panic.
struct LastWord<W: TwoPhaseSink> {
    replies: mpsc::UnboundedSender<Reply<W>>,
    reporter: Reporter,
    waker: SlotWaker,
    place: String,
    needed: bool,
}

impl<W: TwoPhaseSink> LastWord<W> {
    /// Told twice: to the master at once, as the operator may not be called for long; to the operator, so that it does not
    /// go on. It is woken behind that: a call that comes of it must find the reason, as there is no further wake-up.
    fn say(&mut self, failure: Failure) {
        self.needed = false;
        let again = Failure::new(failure.kind, failure.to_string());
        self.reporter.fail(self.place.clone(), failure.at(&self.place));
        // An operator that is gone needs no answer.
        let _ = self.replies.send(Reply::Failed(again));
        self.waker.wake();
    }
}

impl<W: TwoPhaseSink> Drop for LastWord<W> {
    fn drop(&mut self) {
        if self.needed {
            self.say(Failure::bug("the sink's writer panicked"));
        }
    }
}

impl<W: TwoPhaseSink> Actor<W> {
    /// Runs until the operator is gone or a call fails.
    pub(crate) async fn run(mut self, ancestors: Ancestors) {
        ancestors.gone().await;
        let mut last_word = LastWord {
            replies: self.replies.clone(),
            reporter: self.reporter.clone(),
            waker: self.waker.clone(),
            place: self.place.clone(),
            needed: true,
        };
        while let Some(command) = self.commands.recv().await {
            if self.shared.stopped.load(Ordering::Acquire) {
                break;
            }
            if let Err(failure) = self.handle(command).await {
                last_word.say(failure);
                break;
            }
        }
        last_word.needed = false;
    }

    async fn handle(&mut self, command: Command<W>) -> Result<()> {
        match command {
            Command::Recommit(committables) => {
                self.writer.commit(committables).await?;
                self.reply(Reply::Recommitted);
                self.report(SinkPhase::Recommitted);
            }
            Command::AbortUnlisted => {
                self.writer.abort_unlisted().await?;
                self.report(SinkPhase::UnlistedAborted);
            }
            Command::Write(rows) => {
                let taken = rows.len();
                self.writer.write(rows).await?;
                self.shared.rows.fetch_sub(taken, Ordering::AcqRel);
                self.waker.wake();
            }
            Command::Prepare(checkpoint) => {
                let committables = self.writer.prepare(checkpoint).await?;
                self.reply(Reply::Prepared(checkpoint, committables));
            }
            Command::Commit(checkpoint, committables) => {
                self.writer.commit(committables).await?;
                self.reply(Reply::Committed(checkpoint));
                self.report(SinkPhase::Committed(checkpoint));
            }
        }
        Ok(())
    }

    fn reply(&self, reply: Reply<W>) {
        // An operator that is gone needs no answer.
        let _ = self.replies.send(reply);
        self.waker.wake();
    }

    fn report(&self, phase: SinkPhase) {
        self.reporter.report(OperatorReport::Sink(phase));
    }
}
