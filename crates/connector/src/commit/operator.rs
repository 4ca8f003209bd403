//! The slot's side of a sink.

use crate::commit::actor::{Actor, Command, Reply, Shared};
use crate::commit::lineage::Lineage;
use crate::sink::{Sink, TwoPhaseSink};
use rivermark_env::TaskHandle;
use rivermark_runtime::{Cx, Flow, Lists, OpenCx, Operator, OperatorEvent, RowCursor};
use rivermark_types::{Barrier, CheckpointId, Failure, InputId, Result, subtask_name};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

/// The name of the list that holds prepared and not yet committed work.
pub const COMMITTABLES: &str = "committables";

/// The queue to the writer holds at most so many rows (one larger slice passes alone) ...
const QUEUE_ROWS: usize = 16_384;
/// ... and about so many bytes of them, not counting what they own on the heap.
const QUEUE_BYTES: usize = 4 << 20;

/// A sink's subtask in the engine.
pub struct CommitOperator<S: Sink> {
    sink: Arc<S>,
    lineage: Lineage,
    link: Option<Link<S::Writer>>,
    /// Rows may be written.
    open: bool,
    /// The barrier whose `prepare` is under way.
    preparing: Option<CheckpointId>,
    /// The answer to it, until the barrier comes back for it.
    prepared: Option<CheckpointId>,
    /// Prepared, and not known to be committed: what the next snapshot lists. In the order of checkpoints.
    pending: Vec<Pending<<S::Writer as TwoPhaseSink>::Committable>>,
}

/// A committable with the checkpoint it was prepared for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "")]
struct Pending<C: Serialize + serde::de::DeserializeOwned> {
    checkpoint: CheckpointId,
    committable: C,
    /// Its commit is under way.
    #[serde(skip)]
    committing: bool,
}

/// The operator's end of the queues to its writer.
struct Link<W: TwoPhaseSink> {
    commands: mpsc::UnboundedSender<Command<W>>,
    replies: mpsc::UnboundedReceiver<Reply<W>>,
    shared: Arc<Shared>,
    task: TaskHandle,
    /// The writer ended by itself: it failed or panicked.
    failed: bool,
}

impl<W: TwoPhaseSink> Drop for Link<W> {
    fn drop(&mut self) {
        // Not aborted: see `lineage`.
        self.shared.stopped.store(true, Ordering::Release);
    }
}

impl<W: TwoPhaseSink> Link<W> {
    fn send(&mut self, command: Command<W>) {
        // A writer that is gone has left its reason among the replies.
        let _ = self.commands.send(command);
    }

    fn is_full(&self) -> bool {
        let rows = self.shared.rows.load(Ordering::Acquire);
        let most = (QUEUE_BYTES / size_of::<W::Row>().max(1)).clamp(1, QUEUE_ROWS);
        rows >= most
    }
}

impl<S: Sink> CommitOperator<S> {
    pub(crate) fn new(sink: Arc<S>, lineage: Lineage) -> CommitOperator<S> {
        CommitOperator {
            sink,
            lineage,
            link: None,
            open: false,
            preparing: None,
            prepared: None,
            pending: Vec::new(),
        }
    }

    fn link(&mut self) -> Result<&mut Link<S::Writer>> {
        self.link
            .as_mut()
            .ok_or_else(|| Failure::bug("a sink was used before it was opened"))
    }

    /// Takes in what the writer has answered since the last call; fails if the writer did.
    fn absorb(&mut self) -> Result<()> {
        loop {
            let link = self.link()?;
            match link.replies.try_recv() {
                Ok(Reply::Recommitted) => self.pending.retain(|pending| !pending.committing),
                Ok(Reply::Committed(upto)) => {
                    self.pending
                        .retain(|pending| !(pending.committing && pending.checkpoint <= upto));
                }
                Ok(Reply::Prepared(checkpoint, committables)) => {
                    let entries = committables.into_iter().map(|committable| Pending {
                        checkpoint,
                        committable,
                        committing: false,
                    });
                    self.pending.extend(entries);
                    self.prepared = Some(checkpoint);
                }
                Ok(Reply::Failed(failure)) => {
                    link.failed = true;
                    return Err(failure);
                }
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => {
                    let why = match link.task.exit() {
                        _ if link.failed => "failed before".to_owned(),
                        Some(exit) => format!("ended: {exit:?}"),
                        None => "ended".to_owned(),
                    };
                    return Err(Failure::bug(format!("the writer of {} {why}", self.sink.name())));
                }
            }
        }
    }

    /// Starts the commit of everything prepared up to a decided checkpoint.
    fn commit(&mut self, upto: CheckpointId) -> Result<()> {
        let due = self
            .pending
            .iter_mut()
            .filter(|pending| pending.checkpoint <= upto && !pending.committing);
        let committables = due
            .map(|pending| {
                pending.committing = true;
                pending.committable.clone()
            })
            .collect();
        self.link()?.send(Command::Commit(upto, committables));
        Ok(())
    }

    fn restored(
        &self,
        entries: Vec<serde_json::Value>,
    ) -> Result<Vec<Pending<<S::Writer as TwoPhaseSink>::Committable>>> {
        let parse = |entry: serde_json::Value| {
            serde_json::from_value(entry).map_err(|error| {
                Failure::invalid(format!(
                    "{}: the checkpoint lists prepared work that this sink cannot read: start the job that wrote it",
                    self.sink.name()
                ))
                .caused_by(error)
            })
        };
        let mut pending: Vec<Pending<_>> = entries.into_iter().map(parse).collect::<Result<_>>()?;
        pending.sort_by_key(|pending| pending.checkpoint);
        pending.iter_mut().for_each(|pending| pending.committing = true);
        Ok(pending)
    }
}

impl<S: Sink> Operator for CommitOperator<S> {
    fn open(&mut self, cx: &mut OpenCx<'_>) -> Result<()> {
        let entries = cx.take_list(COMMITTABLES);
        self.pending = self.restored(entries)?;
        let writer = self.sink.writer(cx.env(), cx.info())?;
        let (commands, inbox) = mpsc::unbounded_channel();
        let (outbox, replies) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::default());
        let (alive, ancestors) = self.lineage.enter(cx.info().attempt);
        let place = subtask_name(&cx.info().name, cx.info().subtask.index);
        let actor = Actor {
            writer,
            commands: inbox,
            replies: outbox,
            shared: shared.clone(),
            waker: cx.waker(),
            reporter: cx.reporter(),
            place: place.clone(),
            _alive: alive,
        };
        let task = cx.env().spawn_io(&place, actor.run(ancestors));
        let mut link = Link {
            commands,
            replies,
            shared,
            task,
            failed: false,
        };
        link.send(Command::Recommit(
            self.pending
                .iter()
                .map(|pending| pending.committable.clone())
                .collect(),
        ));
        self.link = Some(link);
        Ok(())
    }

    fn on_batch(&mut self, _input: InputId, rows: &mut RowCursor<'_>, _cx: &mut Cx<'_>) -> Result<Flow> {
        self.absorb()?;
        let open = self.open;
        let link = self.link()?;
        if !open || link.is_full() {
            return Ok(Flow::Wait);
        }
        let typed = rows.typed::<<S::Writer as TwoPhaseSink>::Row>()?;
        let mut slice = Vec::new();
        typed.each_row(|row, _| {
            slice.push(row);
            true
        });
        if !slice.is_empty() {
            link.shared.rows.fetch_add(slice.len(), Ordering::AcqRel);
            link.send(Command::Write(slice));
        }
        Ok(if rows.remaining() == 0 {
            Flow::Done
        } else {
            Flow::More
        })
    }

    fn before_barrier(&mut self, barrier: &Barrier, _cx: &mut Cx<'_>) -> Result<Flow> {
        self.absorb()?;
        if self.prepared == Some(barrier.checkpoint) {
            self.preparing = None;
            return Ok(Flow::Done);
        }
        if self.preparing != Some(barrier.checkpoint) {
            self.preparing = Some(barrier.checkpoint);
            self.link()?.send(Command::Prepare(barrier.checkpoint));
        }
        Ok(Flow::Wait)
    }

    fn snapshot_lists(&mut self) -> Result<Lists> {
        let entries = self.pending.iter().map(|pending| {
            serde_json::to_value(pending).map_err(|error| {
                Failure::bug(format!(
                    "{}: prepared work cannot be written to the checkpoint",
                    self.sink.name()
                ))
                .caused_by(error)
            })
        });
        let entries: Vec<_> = entries.collect::<Result<_>>()?;
        Ok(if entries.is_empty() {
            Lists::new()
        } else {
            Lists::from([(COMMITTABLES.to_owned(), entries)])
        })
    }

    fn on_event(&mut self, event: &OperatorEvent, _cx: &mut Cx<'_>) -> Result<()> {
        self.absorb()?;
        match event {
            OperatorEvent::Committed(checkpoint) => self.commit(*checkpoint),
            OperatorEvent::AbortUnlisted => {
                self.link()?.send(Command::AbortUnlisted);
                Ok(())
            }
            OperatorEvent::OpenGate => {
                self.open = true;
                Ok(())
            }
            // Prepared work of an aborted checkpoint belongs to rows before it: the next one lists and commits it.
            OperatorEvent::Aborted(_)
            | OperatorEvent::Assign(_)
            | OperatorEvent::NoMoreSplits
            | OperatorEvent::WatermarkHold(_) => Ok(()),
        }
    }
}
