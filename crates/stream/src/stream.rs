//! A stream of records, and what can be done with it that needs no key.
//!
//! `map`, `filter`, `flat_map` and `try_map` grow the stream's own type, as an iterator's adapters do; the run becomes one
//! operator when something needs an operator: a name, a uid, a parallelism, a key, a sink.

use crate::draft::{DraftNode, Origin, SharedDraft};
use crate::keyed::KeyedStream;
use crate::sink::StreamSink;
use rivermark_connector::{CommitNode, DiscardNode, Sink, TwoPhaseSink};
use rivermark_data::{Data, EdgeType, Key, TypedEdge};
use rivermark_protocol::graph::{Chaining, Node, NodeRole, Partitioning};
use rivermark_runtime::operators::{Filter, FlatMap, FusedOperator, Identity, Map, Pipe, TryMap};
use rivermark_runtime::{NodeBody, Operator, OperatorFactory, OutputTag};
use rivermark_state::batch_rows;
use rivermark_types::{InputId, NodeId, Uid};
use std::any::type_name;
use std::fmt::Display;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

/// A stream of `T`.
///
/// `I` and `P` say what has been fused so far: closures `P` on records of `I`. A stream that comes out of an operator is
/// plainly a `DataStream<T>`; any stream becomes one by [`DataStream::end_fusion`]. Only such a stream can be cloned, so
/// that closures run once, however many consumers there are.
///
/// ```
/// # use rivermark_stream::{StreamEnv, DataStream};
/// # let env = StreamEnv::new();
/// let numbers: DataStream<u64> = env.from_collection(vec![1, 2, 3]).uid("numbers");
/// let large = numbers.map(|n| n * n).filter(|n| *n > 3); // one operator, "map -> filter"
/// large.discard();
/// let program = env.build().unwrap();
/// assert_eq!(program.graph.nodes[1].name, "map -> filter");
/// ```
#[must_use = "a stream that leads to no sink does nothing"]
pub struct DataStream<T, I = T, P = Identity> {
    draft: SharedDraft,
    from: Vec<Origin>,
    pipe: P,
    stages: Vec<&'static str>,
    types: PhantomData<fn(I) -> T>,
}

impl<T> Clone for DataStream<T> {
    fn clone(&self) -> Self {
        DataStream {
            draft: self.draft.clone(),
            from: self.from.clone(),
            pipe: Identity,
            stages: vec![],
            types: PhantomData,
        }
    }
}

impl<T: Data> DataStream<T> {
    pub(crate) fn new(draft: SharedDraft, from: Vec<Origin>) -> DataStream<T> {
        DataStream {
            draft,
            from,
            pipe: Identity,
            stages: vec![],
            types: PhantomData,
        }
    }

    pub(crate) fn of_node(draft: &SharedDraft, node: NodeId) -> DataStream<T> {
        DataStream::new(draft.clone(), vec![Origin::of(node)])
    }

    /// The rows that the operator behind which this stands emits sideways under a tag. The operator declares the tag in its
    /// `open`, with the same type; a tag that nobody takes drops its rows.
    ///
    /// ```
    /// # use rivermark_stream::*;
    /// # use rivermark_types::Result;
    /// const ODD: OutputTag<u64> = OutputTag::new("odd");
    ///
    /// /// Lets even numbers pass, and odd ones aside.
    /// #[derive(Default)]
    /// struct Even {
    ///     odd: SideOutput<u64>,
    /// }
    /// impl KeyedOp<u64, u64, u64> for Even {
    ///     fn open(&mut self, cx: &mut KeyedOpenCx<'_, u64>) -> Result<()> {
    ///         self.odd = cx.side_output(&ODD)?;
    ///         Ok(())
    ///     }
    ///     fn row(&mut self, _: &Key<u64>, row: Timed<u64>, out: &mut Out<u64>) -> Result<()> {
    ///         match row.value % 2 {
    ///             0 => out.emit(row.value),
    ///             _ => self.odd.emit(row.value),
    ///         }
    ///         Ok(())
    ///     }
    /// }
    /// # let env = StreamEnv::new();
    /// let even = env.sequence(100).uid("numbers").key_by(|n| n % 10).process(Even::default).uid("even");
    /// even.side_output(&ODD).map(|odd| odd * 2).discard();
    /// even.discard();
    /// # env.build().unwrap();
    /// ```
    pub fn side_output<S: Data>(&self, tag: &OutputTag<S>) -> DataStream<S> {
        let mut draft = self.draft.borrow_mut();
        let from = match self.from.as_slice() {
            [Origin { node, port: 0, .. }] => Origin {
                port: draft.side_port(*node, tag.name(), type_name::<S>()),
                ..Origin::of(*node)
            },
            several => {
                draft.fault(format!(
                    ".side_output({tag:?}) stands behind union(..) or another side output: take it from the operator's stream"
                ));
                match several.first() {
                    Some(origin) => Origin::of(origin.node),
                    None => return DataStream::new(self.draft.clone(), vec![]),
                }
            }
        };
        DataStream::new(self.draft.clone(), vec![from])
    }

    pub(crate) fn into_parts(self) -> (SharedDraft, Vec<Origin>) {
        (self.draft, self.from)
    }
}

impl<T: Data, I: Data, P: Pipe<I, Out = T>> DataStream<T, I, P> {
    fn fuse<U, Q>(mut self, stage: &'static str, wrap: impl FnOnce(P) -> Q) -> DataStream<U, I, Q> {
        self.stages.push(stage);
        DataStream {
            draft: self.draft,
            from: self.from,
            pipe: wrap(self.pipe),
            stages: self.stages,
            types: PhantomData,
        }
    }

    /// Turns each record into another.
    pub fn map<U, F>(self, map: F) -> DataStream<U, I, Map<P, F>>
    where
        U: Data,
        F: Fn(T) -> U + Clone + Send + Sync + 'static,
    {
        self.fuse("map", |pipe| Map(pipe, map))
    }

    /// Keeps the records for which `keep` is true.
    pub fn filter<F>(self, keep: F) -> DataStream<T, I, Filter<P, F>>
    where
        F: Fn(&T) -> bool + Clone + Send + Sync + 'static,
    {
        self.fuse("filter", |pipe| Filter(pipe, keep))
    }

    /// Turns each record into any number of them: a `Vec`, an `Option`, any iterator.
    pub fn flat_map<R, F>(self, map: F) -> DataStream<R::Item, I, FlatMap<P, F>>
    where
        R: IntoIterator<Item: Data>,
        F: Fn(T) -> R + Clone + Send + Sync + 'static,
    {
        self.fuse("flat_map", |pipe| FlatMap(pipe, map))
    }

    /// Turns each record into another, or fails the attempt with an error that names operator and record.
    ///
    /// ```
    /// # use rivermark_stream::StreamEnv;
    /// # let env = StreamEnv::new();
    /// let words = env.from_collection(vec!["1".to_owned(), "x".to_owned()]).uid("words");
    /// words.try_map(|word| word.parse::<u64>()).discard();
    /// # env.build().unwrap();
    /// ```
    pub fn try_map<U, E, F>(self, map: F) -> DataStream<U, I, TryMap<P, F>>
    where
        U: Data,
        E: Display,
        F: Fn(T) -> Result<U, E> + Clone + Send + Sync + 'static,
    {
        self.fuse("try_map", |pipe| TryMap(pipe, map))
    }

    /// Makes one operator of the closures so far. Without any, the stream stays as it is.
    pub fn end_fusion(self) -> DataStream<T> {
        if self.stages.is_empty() {
            return DataStream::new(self.draft, self.from);
        }
        let pipe = self.pipe;
        let body = operator(move || FusedOperator::<I, P>::new(pipe.clone()));
        let node = {
            let mut draft = self.draft.borrow_mut();
            let node = draft.add(NodeRole::Operator, self.stages.join(" -> "), body, |node| {
                node.output_types = vec![type_name::<T>().to_owned()];
            });
            draft.connect(&self.from, node, InputId(0), plain_edge::<I>());
            node
        };
        DataStream::of_node(&self.draft, node)
    }

    /// Divides the stream by key: records with the same key meet the same state, in their order. The key may be anything
    /// with equality but floats and maps; `select` must always give the same key for the same record.
    pub fn key_by<K, F>(self, select: F) -> KeyedStream<K, T, F>
    where
        K: Key,
        F: Fn(&T) -> K + Clone + Send + Sync + 'static,
    {
        KeyedStream::new(self.end_fusion(), select)
    }

    /// The records of both streams, in no order between the two.
    pub fn union<J: Data, Q: Pipe<J, Out = T>>(self, other: DataStream<T, J, Q>) -> DataStream<T> {
        let (mut union, other) = (self.end_fusion(), other.end_fusion());
        if !Rc::ptr_eq(&union.draft, &other.draft) {
            union
                .draft
                .borrow_mut()
                .fault("union(..) joins streams of two environments: use one StreamEnv for a job");
        }
        union.from.extend(other.from);
        union
    }

    /// The stream, to be dealt out in another way; by an edge of its own, if that looks at records.
    pub(crate) fn via(self, partitioning: Partitioning, edge: Option<Arc<dyn EdgeType>>) -> DataStream<T> {
        let mut stream = self.end_fusion();
        for origin in &mut stream.from {
            (origin.via, origin.edge) = (Some(partitioning), edge.clone());
        }
        stream
    }

    /// Ends the stream in a sink. One that publishes each record exactly once needs a uid.
    pub fn sink_to<S>(self, sink: S) -> StreamSink
    where
        S: Sink,
        S::Writer: TwoPhaseSink<Row = T>,
    {
        let exactly_once = sink.is_exactly_once();
        let node = CommitNode::new(sink);
        let name = node.name();
        self.sink(name, Arc::new(node), |node| {
            node.two_phase = true;
            node.exactly_once = exactly_once;
        })
    }

    /// Ends the stream in an operator that takes records out by itself and has no state to commit.
    pub fn sink_with(self, name: &str, sink: impl OperatorFactory + 'static) -> StreamSink {
        self.sink(name.to_owned(), Arc::new(sink), |_| {})
    }

    /// Ends the stream nowhere: for measuring what comes before.
    pub fn discard(self) -> StreamSink {
        self.sink_with("discard", DiscardNode)
    }

    fn sink(self, name: String, sink: Arc<dyn OperatorFactory>, shape: impl FnOnce(&mut Node)) -> StreamSink {
        let (draft, from) = self.end_fusion().into_parts();
        let node = {
            let mut draft = draft.borrow_mut();
            let node = draft.add(NodeRole::Sink, name, NodeBody::Operator(sink), shape);
            draft.connect(&from, node, InputId(0), plain_edge::<T>());
            node
        };
        StreamSink::new(draft, node)
    }

    /// Changes the operator that the stream comes from. `what` is the line the user wrote.
    pub(crate) fn change(self, what: &str, change: impl FnOnce(&mut DraftNode)) -> DataStream<T> {
        let stream = self.end_fusion();
        stream.draft.borrow_mut().change(&stream.from, what, change);
        stream
    }

    /// Names the operator in logs, metrics and explanations.
    pub fn name(self, name: &str) -> DataStream<T> {
        self.change(&format!(".name({name:?})"), |draft| {
            draft.node.name = name.to_owned()
        })
    }

    /// Gives the operator the stable name that its state is found by when a job is resumed, also after other operators have
    /// changed. Sources and whatever has state need one.
    pub fn uid(self, uid: &str) -> DataStream<T> {
        self.change(&format!(".uid({uid:?})"), |draft| {
            draft.node.uid = Some(Uid::from(uid))
        })
    }

    /// Sets in how many subtasks the operator runs, instead of the environment's number.
    pub fn set_parallelism(self, parallelism: u32) -> DataStream<T> {
        self.change(&format!(".set_parallelism({parallelism})"), |draft| {
            draft.parallelism = Some(parallelism)
        })
    }

    /// Lets the operator run in a task of its own, never in one with its neighbours.
    pub fn disable_chaining(self) -> DataStream<T> {
        self.chain(".disable_chaining()", Chaining::Never)
    }

    /// Lets the operator begin a new task; those behind it may join.
    pub fn start_new_chain(self) -> DataStream<T> {
        self.chain(".start_new_chain()", Chaining::Head)
    }

    fn chain(self, what: &str, chaining: Chaining) -> DataStream<T> {
        self.change(what, |draft| draft.node.chaining = chaining)
    }
}

/// An edge that deals out by place, not by key.
pub(crate) fn plain_edge<T: Data>() -> Arc<dyn EdgeType> {
    Arc::new(TypedEdge::<T>::new(batch_rows::<T>()))
}

/// A node's body that makes an operator for every attempt and subtask.
pub(crate) fn operator<Op: Operator + 'static>(make: impl Fn() -> Op + Send + Sync + 'static) -> NodeBody {
    NodeBody::Operator(Arc::new(move || Ok(Box::new(make()) as Box<dyn Operator>)))
}

/// A node's body, where it depends on its types which operator that is.
pub(crate) fn boxed_operator(make: impl Fn() -> Box<dyn Operator> + Send + Sync + 'static) -> NodeBody {
    NodeBody::Operator(Arc::new(move || Ok(make())))
}
