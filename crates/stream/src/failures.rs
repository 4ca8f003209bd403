//! Records that cannot be processed: what becomes of them, and where they go.

use crate::draft::Origin;
use crate::env::StreamEnv;
use crate::stream::DataStream;
use rivermark_connector::Undecodable;
use rivermark_data::{Data, DeadLetter};
use rivermark_runtime::operators::Pipe;

/// What becomes of a row that an operator fails at, by an error or a panic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailingRow {
    /// The job ends when it has failed three times at the same row, with an error that shows the row.
    #[default]
    Fail,
    /// After three failures the row goes to the dead letters instead of the operator, and the job goes on.
    DeadLetter,
}

impl StreamEnv {
    /// Sets what becomes of records that a source cannot decode and that says nothing itself; failing if not set
    /// (`rivermark.source.on-undecodable`).
    pub fn set_on_undecodable(&self, what: Undecodable) {
        self.draft().borrow_mut().bad_records.undecodable = Some(what);
    }

    /// Sets what becomes of rows that an operator fails at and that says nothing itself; failing if not set
    /// (`rivermark.operator.on-failing-row`).
    pub fn set_on_failing_row(&self, what: FailingRow) {
        self.draft().borrow_mut().bad_records.failing_row = Some(what);
    }

    /// What counts where the job's code says nothing: its configuration.
    pub fn configure_bad_records(&self, undecodable: Undecodable, failing_row: FailingRow) {
        let draft = self.draft();
        let mut draft = draft.borrow_mut();
        draft.bad_records.undecodable.get_or_insert(undecodable);
        draft.bad_records.failing_row.get_or_insert(failing_row);
    }

    /// All dead letters that no stream of the job takes; `None` if there can be none. They have to be taken before
    /// [`StreamEnv::build`]; a job that is run by `rivermark` writes them to files.
    pub fn untaken_dead_letters(&self) -> Option<DataStream<DeadLetter>> {
        let untaken = self.draft().borrow().untaken_dead_letters();
        let origins: Vec<Origin> = untaken.into_iter().map(Origin::dead_letters).collect();
        (!origins.is_empty()).then(|| DataStream::new(self.draft().clone(), origins))
    }
}

impl<T: Data, I: Data, P: Pipe<I, Out = T>> DataStream<T, I, P> {
    /// What becomes of rows that this operator fails at, whatever the job's setting is.
    ///
    /// ```
    /// # use rivermark_stream::*;
    /// # let env = StreamEnv::new();
    /// let words = env.from_collection(vec!["1".to_owned(), "x".to_owned()]).uid("words");
    /// let (numbers, bad) = words
    ///     .try_map(|word| word.parse::<u64>())
    ///     .on_failing_row(FailingRow::DeadLetter)
    ///     .with_dead_letters();
    /// numbers.discard();
    /// bad.map(|letter| letter.error).discard();
    /// # env.build().unwrap();
    /// ```
    pub fn on_failing_row(self, what: FailingRow) -> DataStream<T> {
        let (draft, from) = self.end_fusion().into_parts();
        draft
            .borrow_mut()
            .change(&from, ".on_failing_row(..)", |node| node.failing_row = Some(what));
        DataStream::new(draft, from)
    }

    /// The stream, and beside it what its source or operator gives up: records that could not be decoded, rows that it
    /// failed at. Taking them means that they are wanted: what is not set otherwise goes to the dead letters.
    ///
    /// ```
    /// # use rivermark_stream::*;
    /// # let env = StreamEnv::new();
    /// # let source = CollectionSource::new(vec![1u64]);
    /// let rows = env.from_source(source, WatermarkStrategy::none()).uid("orders");
    /// let (rows, bad) = rows.with_dead_letters();
    /// rows.discard();
    /// bad.sink_to(PrintSink::debug());
    /// # env.build().unwrap();
    /// ```
    pub fn with_dead_letters(self) -> (DataStream<T>, DataStream<DeadLetter>) {
        let (draft, from) = self.end_fusion().into_parts();
        draft.borrow_mut().change(&from, ".with_dead_letters()", |node| {
            node.takes_dead_letters = true
        });
        let letters = from.iter().map(|origin| Origin::dead_letters(origin.node));
        let letters = DataStream::new(draft.clone(), letters.collect());
        (DataStream::new(draft, from), letters)
    }
}
