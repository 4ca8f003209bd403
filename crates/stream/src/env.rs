//! Where a job begins: sources, and what holds for all of its operators.

use crate::draft::{Draft, SettledSource, SharedDraft};
use crate::stream::DataStream;
use rivermark_connector::{
    CollectionSource, GeneratorSource, Source, SourceNode, Undecodable, WatermarkStrategy, sequence,
};
use rivermark_data::Data;
use rivermark_protocol::graph::{GuaranteeMode, NodeRole};
use rivermark_runtime::{NodeBody, Program};
use rivermark_types::{JobName, Result};
use std::any::type_name;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// A job under construction. It only notes down a graph: nothing runs, and nothing outside is touched.
///
/// ```
/// use rivermark_stream::{PrintSink, StreamEnv};
///
/// let env = StreamEnv::new();
/// env.set_parallelism(2);
/// env.sequence(1_000)
///     .uid("numbers")
///     .map(|n| n * 3 + 1)
///     .filter(|n| n % 7 != 0)
///     .key_by(|n| n % 10)
///     .reduce(|sum, n| sum + n)
///     .uid("sums")
///     .sink_to(PrintSink::debug())
///     .uid("print");
/// let program = env.build()?;
/// assert_eq!(program.graph.nodes.len(), 4); // source, map -> filter, reduce, print
/// # Ok::<(), rivermark_types::Failure>(())
/// ```
#[derive(Clone)]
pub struct StreamEnv {
    draft: SharedDraft,
}

impl Default for StreamEnv {
    fn default() -> Self {
        StreamEnv::new()
    }
}

impl StreamEnv {
    /// An empty job.
    pub fn new() -> StreamEnv {
        StreamEnv {
            draft: Rc::new(RefCell::new(Draft::new())),
        }
    }

    pub(crate) fn draft(&self) -> &SharedDraft {
        &self.draft
    }

    /// The job's name, if it has one yet.
    pub fn name(&self) -> Option<JobName> {
        self.draft.borrow().job.name.clone()
    }

    /// What checkpoints promise.
    pub fn mode(&self) -> GuaranteeMode {
        self.draft.borrow().job.mode
    }

    /// Names the job; what it stores belongs to this name.
    pub fn set_name(&self, name: &str) {
        self.draft.borrow_mut().job.name = Some(JobName::from(name));
    }

    /// Sets in how many subtasks operators run that do not say otherwise; 1 if not set.
    pub fn set_parallelism(&self, parallelism: u32) {
        self.draft.borrow_mut().parallelism = parallelism;
    }

    /// In how many subtasks operators run that do not say otherwise.
    pub fn parallelism(&self) -> u32 {
        self.draft.borrow().parallelism
    }

    /// Sets into how many groups keys are divided: the most subtasks the job can ever have. Fixed for the life of its state.
    pub fn set_max_parallelism(&self, groups: u32) {
        self.draft.borrow_mut().job.max_parallelism = Some(groups);
    }

    /// Into how many groups keys are divided, if that is settled.
    pub fn max_parallelism(&self) -> Option<u32> {
        self.draft.borrow().job.max_parallelism
    }

    /// Sets what checkpoints promise; exactly-once if not set.
    pub fn set_mode(&self, mode: GuaranteeMode) {
        self.draft.borrow_mut().job.mode = mode;
    }

    /// Lets the barriers of checkpoints overtake the records in front of them, after the checkpoint has been aligned for
    /// `after`; 0 is at once. What they overtake becomes part of the checkpoint, so that it ends soon however slow a sink is.
    /// Only for exactly-once, and one checkpoint at a time.
    ///
    /// ```
    /// # use rivermark_stream::StreamEnv;
    /// # use std::time::Duration;
    /// let env = StreamEnv::new();
    /// env.set_unaligned_checkpoints(Duration::from_millis(500));
    /// env.sequence(10).uid("numbers").discard();
    /// assert!(env.build()?.graph.unaligned.is_some());
    /// # Ok::<(), rivermark_stream::Failure>(())
    /// ```
    pub fn set_unaligned_checkpoints(&self, after: Duration) {
        let job = &mut self.draft.borrow_mut().job;
        job.unaligned.get_or_insert_default().after = after;
    }

    /// Whether, and after how long, barriers overtake.
    pub fn unaligned_checkpoints(&self) -> Option<Duration> {
        Some(self.draft.borrow().job.unaligned?.after)
    }

    /// Lets barriers overtake behind partitioners of the job's own too, which must then give the same subtask for the same
    /// record, always. Without effect if nothing overtakes.
    pub fn force_unaligned_checkpoints(&self) {
        if let Some(unaligned) = &mut self.draft.borrow_mut().job.unaligned {
            unaligned.forced = true;
        }
    }

    /// The records of a source, with event time as the strategy says. Give it a uid: its positions are state.
    pub fn from_source<S: Source>(
        &self,
        source: S,
        strategy: WatermarkStrategy<S::Row>,
    ) -> DataStream<S::Row> {
        let checked = strategy.check();
        let node = SourceNode::new(source, strategy);
        if let Err(failure) = checked {
            self.draft
                .borrow_mut()
                .fault(format!("source \"{}\": {}", node.name(), failure.message));
        }
        self.from_source_node(node)
    }

    /// The records of a source with options of its own, for example its rate.
    ///
    /// ```
    /// # use rivermark_stream::*;
    /// # let env = StreamEnv::new();
    /// let source = SourceNode::new(endless_sequence(), WatermarkStrategy::none()).rate(1_000);
    /// env.from_source_node(source).uid("numbers").discard();
    /// # env.build().unwrap();
    /// ```
    pub fn from_source_node<S: Source>(&self, node: SourceNode<S>) -> DataStream<S::Row> {
        let name = node.name();
        let undecodable = node.undecodable();
        // Made when the job is built: until then its settings may change.
        let settled: SettledSource = Rc::new(move |what| NodeBody::Source(Arc::new(node.settled(what))));
        let mut draft = self.draft.borrow_mut();
        let id = draft.add(NodeRole::Source, name, settled(Undecodable::default()), |node| {
            node.output_types = vec![type_name::<S::Row>().to_owned()]
        });
        draft.change_node(id, |draft| {
            draft.undecodable = undecodable;
            draft.source = Some(settled);
        });
        drop(draft);
        DataStream::of_node(&self.draft, id)
    }

    /// The records of a collection, without event time; for tests and examples.
    pub fn from_collection<T: Data>(&self, rows: impl IntoIterator<Item = T>) -> DataStream<T> {
        self.from_source(CollectionSource::new(rows), WatermarkStrategy::none())
    }

    /// The numbers from 0 to `rows - 1`.
    pub fn sequence(&self, rows: u64) -> DataStream<u64> {
        self.from_source(sequence(rows), WatermarkStrategy::none())
    }

    /// Records made from the numbers 0, 1, 2 and so on without an end, so many a second over all subtasks. `make` must give
    /// the same record for the same number, always.
    pub fn generate<T, F>(&self, rows_per_second: u64, make: F) -> DataStream<T>
    where
        T: Data,
        F: Fn(u64) -> T + Clone + Send + Sync + 'static,
    {
        let source = GeneratorSource::endless(make);
        self.from_source_node(SourceNode::new(source, WatermarkStrategy::none()).rate(rows_per_second))
    }

    /// The job as it can run. Fails with everything that is wrong with it, a line each, and what to write instead.
    pub fn build(&self) -> Result<Program> {
        self.draft.borrow().build()
    }
}
