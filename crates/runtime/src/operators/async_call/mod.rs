//! A call to the outside for each row: `async_map`. Many calls are under way at once, none of them holds the slot up.
//!
//! Layout: [`options`] (how the calls are made), [`AsyncOperator`] (the slot's side: takes rows while there is room for calls,
//! lets results out), `book` (the calls under way, and in which order results and marks come out), `driver` (the I/O side:
//! one task a subtask, in which all its calls are polled).
//! Rows whose result is not out yet are the operator's state. After a restore they are called for again, so a call may be
//! made more than once for a row, while its result comes out once.
//! Non-goals: a rate limit, more than one result a row (`flat_map` behind it makes more).

mod book;
mod driver;
pub mod options;

use self::book::{Book, Mark};
use self::driver::{Job, Outcome, Shared, drive};
use self::options::AsyncOptions;
use crate::cursor::RowCursor;
use crate::operator::{Cx, Flow, Lists, OpenCx, Operator};
use rivermark_data::{Activity, Data};
use rivermark_env::TaskHandle;
use rivermark_types::{Barrier, Failure, InputId, Result, SnapshotKind, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt::Display;
use std::sync::Arc;

/// The name of the list of rows whose result is not out yet.
pub const UNFINISHED: &str = "unfinished";

/// Runs a user's async closure for each row.
pub struct AsyncOperator<I, O, E, F> {
    call: F,
    options: Arc<AsyncOptions<I, O, E>>,
    book: Book<I, O>,
    link: Option<Link<I, O>>,
    /// Rows to be handed to the I/O side, and what came back: kept for their memory.
    todo: Vec<(usize, I)>,
    done: Vec<(usize, Outcome<O>)>,
}

/// The operator's end of its I/O task.
struct Link<I, O> {
    shared: Arc<Shared<I, O>>,
    task: TaskHandle,
}

impl<I, O> Drop for Link<I, O> {
    fn drop(&mut self) {
        // The results of calls under way are of no use to anybody now.
        self.task.abort();
    }
}

/// A row in a snapshot.
#[derive(Serialize, Deserialize)]
struct Unfinished<T> {
    row: T,
    /// Its event time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time: Option<Timestamp>,
}

impl<I, O, E, F, Fut> AsyncOperator<I, O, E, F>
where
    I: Data,
    O: Data,
    E: Display + Send + 'static,
    F: Fn(I) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<O, E>> + Send + 'static,
{
    /// An operator that makes `call` for each row.
    pub fn new(call: F, options: Arc<AsyncOptions<I, O, E>>) -> Self {
        AsyncOperator {
            call,
            book: Book::new(options.mode),
            options,
            link: None,
            todo: vec![],
            done: vec![],
        }
    }

    fn submit(&mut self) {
        if let (Some(link), false) = (&self.link, self.todo.is_empty()) {
            link.shared.submit(&mut self.todo);
        }
    }

    /// Takes in what calls came to since the last look; fails if one failed.
    fn absorb(&mut self) -> Result<()> {
        let Some(link) = &self.link else {
            return Err(super::keyed::not_open());
        };
        link.shared.take_done(&mut self.done);
        for (at, outcome) in self.done.drain(..) {
            let result = match outcome {
                Outcome::Value(value) => Ok(value),
                Outcome::Failed(failure) => Err(failure),
                Outcome::TimedOut => self.options.timed_out(self.book.row(at)),
            };
            match result {
                Ok(value) => self.book.finish(at, value),
                Err(failure) => return Err(failure.at(shown(self.book.row(at)))),
            }
        }
        Ok(())
    }

    /// Waits until everything is out.
    fn drain(&mut self, cx: &mut Cx<'_>) -> Result<Flow> {
        self.absorb()?;
        self.book.let_out(cx);
        Ok(match self.book.has_ready() {
            _ if self.book.is_empty() => Flow::Done,
            true => Flow::More,
            false => Flow::Wait,
        })
    }

    fn restored(entry: Value) -> Result<Unfinished<I>> {
        serde_json::from_value(entry).map_err(|error| {
            Failure::invalid(
                "the checkpoint has rows of async calls that this job cannot read: start the job that wrote it, or give \
                 the operator a new uid",
            )
            .caused_by(error)
        })
    }
}

/// A row as an error names it.
fn shown<I: Serialize>(row: Option<&I>) -> String {
    const SHOWN: usize = 200;
    let text = row.and_then(|row| serde_json::to_string(row).ok());
    match text {
        Some(text) if text.chars().count() > SHOWN => {
            let start: String = text.chars().take(SHOWN).collect();
            format!("the call for row {start}...")
        }
        Some(text) => format!("the call for row {text}"),
        None => "the call for a row".to_owned(),
    }
}

impl<I, O, E, F, Fut> Operator for AsyncOperator<I, O, E, F>
where
    I: Data,
    O: Data,
    E: Display + Send + 'static,
    F: Fn(I) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<O, E>> + Send + 'static,
{
    fn open(&mut self, cx: &mut OpenCx<'_>) -> Result<()> {
        let shared = Arc::new(Shared::default());
        let job = Job {
            call: self.call.clone(),
            retry: self.options.retry.clone(),
            env: cx.env().clone(),
        };
        let (capacity, timeout) = (self.options.capacity, self.options.timeout);
        let driver = drive(job, shared.clone(), cx.waker(), capacity, timeout);
        let task = cx.env().spawn_io(&cx.info().name, driver);
        self.link = Some(Link { shared, task });
        for entry in cx.take_list(UNFINISHED) {
            let Unfinished { row, time } = Self::restored(entry)?;
            let at = self.book.insert(row.clone(), time);
            self.todo.push((at, row));
        }
        self.submit();
        Ok(())
    }

    fn on_batch(&mut self, _: InputId, rows: &mut RowCursor<'_>, cx: &mut Cx<'_>) -> Result<Flow> {
        self.absorb()?;
        self.book.let_out(cx);
        let rows = rows.typed::<I>()?;
        let mut free = self.options.capacity.saturating_sub(self.book.len());
        if free > 0 {
            rows.each_row(|row, time| {
                let at = self.book.insert(row.clone(), time);
                self.todo.push((at, row));
                free -= 1;
                free > 0
            });
        }
        self.submit();
        Ok(match rows.is_exhausted() {
            true => Flow::Done,
            false if free == 0 && !self.book.has_ready() => Flow::Wait,
            false => Flow::More,
        })
    }

    fn holds_marks(&self) -> bool {
        true
    }

    fn on_watermark(&mut self, watermark: Timestamp, cx: &mut Cx<'_>) -> Result<Flow> {
        self.book.mark(Mark::Watermark(watermark));
        self.book.let_out(cx);
        Ok(Flow::Done)
    }

    fn on_status(&mut self, status: Activity, cx: &mut Cx<'_>) -> Result<Flow> {
        self.book.mark(Mark::Status(status));
        self.book.let_out(cx);
        Ok(Flow::Done)
    }

    fn wake_at(&self) -> Option<Timestamp> {
        // Results that found no room are due at once; others wake by themselves.
        self.book.has_ready().then_some(Timestamp::MIN)
    }

    fn on_wake(&mut self, cx: &mut Cx<'_>) -> Result<Flow> {
        self.absorb()?;
        self.book.let_out(cx);
        Ok(Flow::Done)
    }

    fn before_barrier(&mut self, barrier: &Barrier, cx: &mut Cx<'_>) -> Result<Flow> {
        match barrier.kind {
            // Behind it nothing is committed any more.
            SnapshotKind::Final => self.drain(cx),
            SnapshotKind::Checkpoint | SnapshotKind::Savepoint => Ok(Flow::Done),
        }
    }

    fn snapshot_lists(&mut self) -> Result<Lists> {
        let unwritable = |row: &I, why: String| {
            Failure::invalid(format!(
                "{} is under way at a checkpoint, and the row cannot be written as JSON and read again: {why}",
                shown(Some(row))
            ))
        };
        let entry = |(row, time): (&I, Option<Timestamp>)| {
            let entry = serde_json::to_value(Unfinished { row, time });
            let entry = entry.map_err(|error| unwritable(row, error.to_string()))?;
            // A checkpoint that nobody can restore would be worse than none.
            match serde_json::from_value::<Unfinished<I>>(entry.clone()) {
                Ok(_) => Ok(entry),
                Err(error) => Err(unwritable(row, error.to_string())),
            }
        };
        let entries = self.book.unfinished().into_iter().map(entry);
        Ok(Lists::from([(
            UNFINISHED.to_owned(),
            entries.collect::<Result<_>>()?,
        )]))
    }

    fn on_end(&mut self, cx: &mut Cx<'_>) -> Result<Flow> {
        self.drain(cx)
    }
}
