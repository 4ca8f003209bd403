//! Streams divided by key: running values, operators with state and timers, and two streams in one operator.

use crate::draft::{Origin, SharedDraft};
use crate::stream::{DataStream, operator};
use rivermark_data::{Data, EdgeType, Key, TypedEdge};
use rivermark_protocol::graph::{NodeRole, Partitioning};
use rivermark_runtime::NodeBody;
use rivermark_runtime::operators::{ConnectOperator, KeyedOp, KeyedOp2, KeyedOperator, Reduce};
use rivermark_state::{batch_rows, check_key_type};
use rivermark_types::{InputId, NodeId};
use std::any::type_name;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

/// A stream whose records of one key go to one subtask; `F` is the key selector.
#[must_use = "a stream that leads to no sink does nothing"]
pub struct KeyedStream<K, T, F> {
    draft: SharedDraft,
    from: Vec<Origin>,
    select: F,
    types: PhantomData<fn(T) -> K>,
}

impl<K, T, F> KeyedStream<K, T, F>
where
    K: Key,
    T: Data,
    F: Fn(&T) -> K + Clone + Send + Sync + 'static,
{
    pub(crate) fn new(stream: DataStream<T>, select: F) -> Self {
        let (draft, mut from) = stream.into_parts();
        if let Err(error) = check_key_type::<K>() {
            draft.borrow_mut().fault(format!(
                "key_by(..) with a key of type {}: {error}",
                type_name::<K>()
            ));
        }
        for origin in &mut from {
            (origin.via, origin.edge) = (Some(Partitioning::Key), None);
        }
        KeyedStream {
            draft,
            from,
            select,
            types: PhantomData,
        }
    }

    /// Combines each record with what its key has so far, keeps the result and emits it. The first record of a key is its
    /// first result.
    ///
    /// ```
    /// # use rivermark_stream::StreamEnv;
    /// # let env = StreamEnv::new();
    /// let words = env.from_collection(vec!["to", "be", "or", "not", "to", "be"].into_iter().map(String::from)).uid("words");
    /// let counts = words
    ///     .map(|word| (word, 1u64))
    ///     .key_by(|(word, _)| word.clone())
    ///     .reduce(|sum, (word, n)| (word, sum.1 + n))
    ///     .uid("counts");
    /// counts.discard();
    /// # env.build().unwrap();
    /// ```
    pub fn reduce<R>(self, combine: R) -> DataStream<T>
    where
        R: Fn(&T, T) -> T + Clone + Send + Sync + 'static,
    {
        let select = self.select.clone();
        let body = operator(move || KeyedOperator::new(select.clone(), Reduce::new(combine.clone())));
        self.stateful("reduce", body)
    }

    /// Runs an operator of the user's own, with state and timers for each key. `make` is called for every subtask of every
    /// attempt, so that each begins afresh; what is to outlive an attempt is declared in `open`.
    ///
    /// ```
    /// # use rivermark_stream::*;
    /// # use rivermark_types::Result;
    /// /// Numbers the records of each key.
    /// #[derive(Default)]
    /// struct Number {
    ///     count: ValueState<String, u64>,
    /// }
    /// impl KeyedOp<String, String, (String, u64)> for Number {
    ///     fn open(&mut self, cx: &mut KeyedOpenCx<'_, String>) -> Result<()> {
    ///         self.count = cx.value("count")?;
    ///         Ok(())
    ///     }
    ///     fn row(&mut self, key: &Key<String>, row: Timed<String>, out: &mut Out<(String, u64)>) -> Result<()> {
    ///         let count = self.count.update(key);
    ///         *count += 1;
    ///         out.emit((row.value, *count));
    ///         Ok(())
    ///     }
    /// }
    /// # let env = StreamEnv::new();
    /// # let words = env.from_collection(vec![String::from("to")]).uid("words");
    /// words.key_by(|word| word.clone()).process(Number::default).uid("number").discard();
    /// # env.build().unwrap();
    /// ```
    ///
    /// Timers go by event time ([`KeyedOpenCx::timers`](rivermark_runtime::operators::KeyedOpenCx::timers)) or by processing
    /// time ([`KeyedOpenCx::processing_timers`](rivermark_runtime::operators::KeyedOpenCx::processing_timers)):
    ///
    /// ```
    /// # use rivermark_stream::*;
    /// # use rivermark_types::Result;
    /// /// Tells of users from whom nothing has come for a minute.
    /// #[derive(Default)]
    /// struct Away {
    ///     until: ValueState<u64, Timestamp>,
    ///     timers: Timers<u64>,
    /// }
    /// impl KeyedOp<u64, u64, u64> for Away {
    ///     fn open(&mut self, cx: &mut KeyedOpenCx<'_, u64>) -> Result<()> {
    ///         self.until = cx.value("until")?;
    ///         self.timers = cx.processing_timers()?;
    ///         Ok(())
    ///     }
    ///     fn row(&mut self, user: &Key<u64>, _: Timed<u64>, out: &mut Out<u64>) -> Result<()> {
    ///         let until = out.processing_time().plus_ms(60_000);
    ///         if let Some(earlier) = self.until.get(user) {
    ///             self.timers.delete(user, *earlier);
    ///         }
    ///         self.until.set(user, until);
    ///         self.timers.register(user, until);
    ///         Ok(())
    ///     }
    ///     fn processing_timer(&mut self, user: &Key<u64>, _: Timer, out: &mut Out<u64>) -> Result<()> {
    ///         self.until.clear(user);
    ///         out.emit(user.value);
    ///         Ok(())
    ///     }
    /// }
    /// # let env = StreamEnv::new();
    /// # let clicks = env.from_collection(vec![1u64]).uid("clicks");
    /// clicks.key_by(|user| *user).process(Away::default).uid("away").discard();
    /// # env.build().unwrap();
    /// ```
    ///
    /// State that nobody uses any more goes by itself where it has a time to live, in processing time:
    ///
    /// ```
    /// # use rivermark_stream::*;
    /// # use rivermark_types::Result;
    /// # use std::time::Duration;
    /// /// Lets each word pass once an hour.
    /// #[derive(Default)]
    /// struct OnceAnHour {
    ///     seen: TtlValueState<String, bool>,
    /// }
    /// impl KeyedOp<String, String, String> for OnceAnHour {
    ///     fn open(&mut self, cx: &mut KeyedOpenCx<'_, String>) -> Result<()> {
    ///         let an_hour = StateTtl::new(Duration::from_secs(3_600));
    ///         self.seen = cx.with_ttl(an_hour).value("seen")?;
    ///         Ok(())
    ///     }
    ///     fn row(&mut self, key: &Key<String>, row: Timed<String>, out: &mut Out<String>) -> Result<()> {
    ///         if self.seen.get(key).is_none() {
    ///             self.seen.set(key, true);
    ///             out.emit(row.value);
    ///         }
    ///         Ok(())
    ///     }
    /// }
    /// # let env = StreamEnv::new();
    /// # let words = env.from_collection(vec![String::from("to")]).uid("words");
    /// words.key_by(|word| word.clone()).process(OnceAnHour::default).uid("once").discard();
    /// # env.build().unwrap();
    /// ```
    ///
    /// State that takes rows in and keeps a result:
    ///
    /// ```
    /// # use rivermark_stream::*;
    /// # use rivermark_types::Result;
    /// /// The longest word so far of those with the same first letter.
    /// #[derive(Default)]
    /// struct Longest {
    ///     longest: ReducingState<char, String>,
    /// }
    /// impl KeyedOp<char, String, String> for Longest {
    ///     fn open(&mut self, cx: &mut KeyedOpenCx<'_, char>) -> Result<()> {
    ///         self.longest = cx.reducing("longest", |longest: &mut String, word| {
    ///             if word.len() > longest.len() {
    ///                 *longest = word;
    ///             }
    ///         })?;
    ///         Ok(())
    ///     }
    ///     fn row(&mut self, key: &Key<char>, row: Timed<String>, out: &mut Out<String>) -> Result<()> {
    ///         self.longest.add(key, row.value);
    ///         out.emit(self.longest.get(key).cloned().unwrap_or_default());
    ///         Ok(())
    ///     }
    /// }
    /// # let env = StreamEnv::new();
    /// # let words = env.from_collection(vec![String::from("to")]).uid("words");
    /// words
    ///     .key_by(|word| word.chars().next().unwrap_or(' '))
    ///     .process(Longest::default)
    ///     .uid("longest")
    ///     .discard();
    /// # env.build().unwrap();
    /// ```
    pub fn process<O, Op>(self, make: impl Fn() -> Op + Send + Sync + 'static) -> DataStream<O>
    where
        O: Data,
        Op: KeyedOp<K, T, O>,
    {
        let select = self.select.clone();
        let body = operator(move || KeyedOperator::<K, T, O, F, Op>::new(select.clone(), make()));
        self.stateful("process", body)
    }

    /// Puts two streams with the same type of key side by side, for one operator that sees both.
    pub fn connect<R, G>(self, other: KeyedStream<K, R, G>) -> ConnectedStreams<K, T, F, R, G> {
        ConnectedStreams {
            left: self,
            right: other,
        }
    }

    pub(crate) fn selector(&self) -> F {
        self.select.clone()
    }

    /// Adds a node with keyed state behind this stream and returns its main output.
    pub(crate) fn stateful<O: Data>(self, name: &str, body: NodeBody) -> DataStream<O> {
        let node = self.add_stateful(name, body, vec![type_name::<O>().to_owned()]);
        DataStream::of_node(&self.draft, node)
    }

    /// Adds a node with keyed state behind this stream.
    pub(crate) fn add_stateful(&self, name: &str, body: NodeBody, output_types: Vec<String>) -> NodeId {
        let mut draft = self.draft.borrow_mut();
        let node = draft.add(NodeRole::Operator, name, body, |node| {
            node.keyed = true;
            node.has_state = true;
            node.output_types = output_types;
        });
        draft.connect(&self.from, node, InputId(0), self.edge());
        node
    }

    /// Leads this stream to an input of a node.
    pub(crate) fn connect_to(&self, draft: &SharedDraft, node: NodeId, input: InputId) {
        draft.borrow_mut().connect(&self.from, node, input, self.edge());
    }

    pub(crate) fn draft(&self) -> &SharedDraft {
        &self.draft
    }

    fn edge(&self) -> Arc<dyn EdgeType> {
        Arc::new(TypedEdge::keyed(batch_rows::<T>(), self.select.clone()))
    }
}

/// Two keyed streams side by side.
#[must_use = "a stream that leads to no sink does nothing"]
pub struct ConnectedStreams<K, L, F, R, G> {
    left: KeyedStream<K, L, F>,
    right: KeyedStream<K, R, G>,
}

impl<K, L, F, R, G> ConnectedStreams<K, L, F, R, G>
where
    K: Key,
    L: Data,
    R: Data,
    F: Fn(&L) -> K + Clone + Send + Sync + 'static,
    G: Fn(&R) -> K + Clone + Send + Sync + 'static,
{
    /// Runs an operator of the user's own on both streams, with state and timers that they share for each key.
    pub fn process<O, Op>(self, make: impl Fn() -> Op + Send + Sync + 'static) -> DataStream<O>
    where
        O: Data,
        Op: KeyedOp2<K, L, R, O>,
    {
        let (left, right) = (self.left.selector(), self.right.selector());
        let body = operator(move || {
            ConnectOperator::<K, L, R, O, F, G, Op>::new(left.clone(), right.clone(), make())
        });
        let node = self
            .left
            .add_stateful("connect", body, vec![type_name::<O>().to_owned()]);
        let draft = self.left.draft();
        if !Rc::ptr_eq(draft, self.right.draft()) {
            draft
                .borrow_mut()
                .fault("connect(..) joins streams of two environments: use one StreamEnv for a job");
        }
        self.right.connect_to(draft, node, InputId(1));
        DataStream::of_node(draft, node)
    }
}
