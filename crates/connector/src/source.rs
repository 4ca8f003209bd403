//! What a source connector is made of: splits, an enumerator that finds them, a reader that reads them.
//!
//! The contract in one paragraph: a split is a unit of work that one reader reads at a time; a position in it is a `u64`
//! whose meaning is the reader's alone, 0 being its beginning. A reader that is given a split and the position behind row
//! *n* emits row *n + 1* next and then the same rows as any other reader would. The engine snapshots positions between two
//! calls of [`SplitReader::next`]; the connector never learns of it. All exactly-once reading rests on this.

use rivermark_data::{Data, spare};
use rivermark_env::Env;
use rivermark_runtime::{SlotWaker, SubtaskInfo};
use rivermark_types::Result;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::time::Duration;

/// A unit of work of a source. It travels as JSON between enumerator, master, reader and checkpoint, so its fields evolve by
/// name. Its text names it in errors.
pub trait Split: Serialize + DeserializeOwned + Display + Clone + Send + Sync + 'static {}
impl<T: Serialize + DeserializeOwned + Display + Clone + Send + Sync + 'static> Split for T {}

/// A source as the user has configured it: makes the two sides for every attempt.
pub trait Source: Send + Sync + 'static {
    /// What it reads.
    type Row: Data;
    /// In which units.
    type Split: Split;
    /// Reads splits, in the slot.
    type Reader: SplitReader<Split = Self::Split, Row = Self::Row>;
    /// Finds splits, beside the master.
    type Enumerator: SplitEnumerator<Split = Self::Split>;

    /// A short name for people, e.g. `files flights/`.
    fn name(&self) -> String;

    /// A reader without splits.
    fn reader(&self, cx: ReaderCx) -> Result<Self::Reader>;

    /// An enumerator that has found nothing yet.
    fn enumerator(&self, env: &Env) -> Result<Self::Enumerator>;

    /// Whether a reader should hold many splits at once: true where splits never end (or hardly ever), so that all of them
    /// are read at any parallelism. Otherwise a reader asks for the next when it has read the one before, which keeps
    /// the order of the enumerator.
    fn reads_many_splits(&self) -> bool {
        false
    }

    /// What becomes of records that cannot be decoded, if the source itself says so; else the job's setting counts.
    fn undecodable(&self) -> Option<Undecodable> {
        None
    }

    /// A look at the first row of a split: how far its unread rows hold the watermark back. Rows of a split need not be in
    /// order; the watermark strategy's disorder is taken off. What cannot be read is [`Peek::Unknown`], not an error: the
    /// reader will say it better.
    fn peek(&self, _env: &Env, _split: &Self::Split) -> impl Future<Output = Result<Peek<Self::Row>>> + Send {
        async { Ok(Peek::Unknown) }
    }
}

/// What becomes of records that a source cannot decode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Undecodable {
    /// The first one fails the job, with the place where it stands.
    #[default]
    Fail,
    /// They are counted and passed over. The count may be too high after a restart: what is read again counts again.
    Skip,
    /// They are counted, and go to the dead letters: with an exactly-once sink each of them once, also after a restart.
    DeadLetter,
}

/// A record that cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRecord {
    /// What is wrong with it, where it stands, and what to do: the error if the job is to fail.
    pub error: String,
    /// The record as it was read.
    pub bytes: Vec<u8>,
}

/// What a look at the beginning of a split showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peek<T> {
    /// Its first row.
    First(T),
    /// It has no rows at all.
    Empty,
    /// Cannot tell: the split holds the watermark back entirely until it is read.
    Unknown,
}

/// What a discovery gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<S> {
    /// New splits, in the order in which they are to be read.
    pub splits: Vec<S>,
    /// Whether there will never be more (a bounded source).
    pub exhausted: bool,
}

/// Finds splits. Lives beside the master, on the I/O runtime, one per source and attempt.
///
/// Which reader gets what, and what becomes of the splits of a reader that failed, is not its matter. A split it has
/// returned is the engine's from then on, in this attempt and after a restore; so its state is what it must not find again.
pub trait SplitEnumerator: Send + 'static {
    /// What it finds.
    type Split: Split;

    /// Looks for splits that are new since the last call. `parallelism` is the number of readers.
    fn discover(&mut self, parallelism: u32) -> impl Future<Output = Result<Found<Self::Split>>> + Send;

    /// How long after a discovery that was not the last to look again; `None` for never.
    fn look_again(&self) -> Option<Duration> {
        None
    }

    /// Its own state: what it has found already.
    fn snapshot(&self) -> Result<serde_json::Value>;

    /// Takes up a state of an earlier run; called before `discover`, if at all.
    fn restore(&mut self, state: serde_json::Value) -> Result<()>;
}

/// What a reader gets to work with.
pub struct ReaderCx {
    /// The world.
    pub env: Env,
    /// For whom it reads.
    pub info: SubtaskInfo,
    /// Wakes the slot when rows have come: to be called by the reader's I/O tasks after a [`ReadPoll::Pending`].
    pub waker: SlotWaker,
}

/// Names a split between a reader and the engine, for as long as the reader holds it. Never used twice by one reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SplitIndex(pub u32);

/// Reads splits. Polled in the slot, so no call may block: a system behind a network or a disk is read by an I/O task that
/// puts what it has into a bounded queue and wakes the slot. Dropping the reader ends its I/O tasks.
pub trait SplitReader: 'static {
    /// What it is assigned.
    type Split: Split;
    /// What it reads.
    type Row: Data;

    /// Takes a split to read from a position (0: its beginning) on.
    fn assign(&mut self, index: SplitIndex, split: Self::Split, position: u64) -> Result<()>;

    /// Puts at most `max_rows` rows (at least 1) of one split into `out`, which is empty when it is called. Not called while
    /// the reader holds no split. A record that cannot be decoded goes into `out` too ([`ReadRows::push_undecodable`]), and
    /// reading goes on behind it. Fails where nothing more can be read; rows put into `out` before it in the same call are
    /// lost, so a reader hands these out first and fails in the next call.
    fn next(&mut self, max_rows: usize, out: &mut ReadRows<Self::Row>) -> Result<ReadPoll>;

    /// A checkpoint is decided that has this split read up to this position: it may be acknowledged upstream, nobody will
    /// read it again. Positions only rise. Told of splits that are done, too, once.
    fn committed(&mut self, _index: SplitIndex, _position: u64) -> Result<()> {
        Ok(())
    }
}

/// What a read came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadPoll {
    /// Rows of this split are in `out`.
    Rows(SplitIndex),
    /// Nothing at hand; the slot is woken when there is.
    Pending,
    /// This split has no more rows, ever. The reader has forgotten it; `out` is empty.
    Done(SplitIndex),
}

/// The rows of one read, each with its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRows<T> {
    values: Vec<T>,
    positions: Positions,
    resume: u64,
    undecodable: Vec<BadRead>,
}

/// A record among the rows that could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadRead {
    pub(crate) record: BadRecord,
    pub(crate) position: u64,
    /// How many rows of the read stand before it.
    pub(crate) rows_before: usize,
    /// Where to resume in order to read it again; `None` if it is the first of the read.
    pub(crate) resume_before: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Positions {
    /// Row `i` stands at `first + i`.
    From(u64),
    Each(Vec<u64>),
}

impl<T> Default for ReadRows<T> {
    fn default() -> Self {
        ReadRows {
            values: Vec::new(),
            positions: Positions::From(0),
            resume: 0,
            undecodable: Vec::new(),
        }
    }
}

impl<T> ReadRows<T> {
    /// Appends a row that stands at `position`; a reader that resumes at `resume` goes on behind it.
    #[inline]
    pub fn push(&mut self, value: T, position: u64, resume: u64) {
        let first = match &mut self.positions {
            Positions::Each(positions) => {
                positions.push(position);
                None
            }
            Positions::From(first) => Some(*first),
        };
        if let Some(first) = first {
            let mut positions: Vec<u64> = (first..first + self.values.len() as u64).collect();
            positions.push(position);
            self.positions = Positions::Each(positions);
        }
        self.values.push(value);
        self.resume = resume;
    }

    /// Notes a record at `position` that cannot be decoded; a reader that resumes at `resume` goes on behind it. What becomes
    /// of it is not the reader's matter.
    #[cold]
    pub fn push_undecodable(&mut self, record: BadRecord, position: u64, resume: u64) {
        let resume_before = (!self.is_empty()).then_some(self.resume);
        self.undecodable.push(BadRead {
            record,
            position,
            rows_before: self.values.len(),
            resume_before,
        });
        self.resume = resume;
    }

    /// Appends the rows that stand at `first`, `first + 1` and so on. Only into an empty `ReadRows`.
    pub fn fill_consecutive(&mut self, first: u64, rows: impl Iterator<Item = T>)
    where
        T: 'static,
    {
        debug_assert!(self.values.is_empty());
        if self.values.capacity() == 0 {
            self.values = spare::vector(rows.size_hint().0);
        }
        self.positions = Positions::From(first);
        self.values.extend(rows);
        self.resume = first + self.values.len() as u64;
    }

    /// How many records there are, those that could not be decoded among them.
    pub fn len(&self) -> usize {
        self.values.len() + self.undecodable.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The records that could not be decoded.
    pub fn undecodable(&self) -> impl Iterator<Item = &BadRecord> {
        self.undecodable.iter().map(|bad| &bad.record)
    }

    pub(crate) fn take_undecodable(&mut self) -> Vec<BadRead> {
        std::mem::take(&mut self.undecodable)
    }

    /// Forgets what was read from a record on.
    pub(crate) fn cut_before(&mut self, bad: &BadRead) {
        self.values.truncate(bad.rows_before);
        self.resume = bad.resume_before.unwrap_or(self.resume);
    }

    /// The rows.
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// Where to resume behind the last row.
    pub fn resume(&self) -> u64 {
        self.resume
    }

    /// The position of a row.
    pub fn position(&self, row: usize) -> Option<u64> {
        match &self.positions {
            Positions::From(first) => Some(first + row as u64),
            Positions::Each(positions) => positions.get(row).copied(),
        }
    }

    /// Takes the rows out; their positions stay readable.
    pub fn take_values(&mut self) -> Vec<T> {
        std::mem::take(&mut self.values)
    }

    /// Forgets all rows and positions.
    pub fn clear(&mut self) {
        self.values.clear();
        self.undecodable.clear();
        match &mut self.positions {
            Positions::Each(positions) => positions.clear(),
            from => *from = Positions::Each(Vec::new()),
        }
    }
}
