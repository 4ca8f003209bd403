//! Operators of the user's own on streams without a key: on one, on two, and on one that is told things by another.

use crate::draft::SharedDraft;
use crate::keyed::KeyedStream;
use crate::stream::{DataStream, operator, plain_edge};
use rivermark_data::{Data, Key};
use rivermark_protocol::graph::{NodeRole, Partitioning};
use rivermark_runtime::NodeBody;
use rivermark_runtime::operators::{
    BroadcastOp, BroadcastOperator, FlatMap2, KeyedBroadcastOp, KeyedBroadcastOperator, Pipe, ProcessOp,
    ProcessOp2, ProcessOperator, ProcessOperator2,
};
use rivermark_types::{InputId, NodeId};
use std::any::type_name;
use std::rc::Rc;

impl<T: Data, I: Data, P: Pipe<I, Out = T>> DataStream<T, I, P> {
    /// Runs an operator of the user's own, with lists that each subtask keeps, side outputs, and a last word at the end of
    /// bounded input. `make` is called for every subtask of every attempt. An operator that keeps lists needs a uid.
    ///
    /// ```
    /// # use rivermark_stream::*;
    /// # use rivermark_types::Result;
    /// /// Packs rows into pairs; the one that waits for its partner is state.
    /// #[derive(Default)]
    /// struct Pairs {
    ///     waiting: OperatorList<u64>,
    /// }
    /// impl ProcessOp<u64, (u64, u64)> for Pairs {
    ///     fn open(&mut self, cx: &mut ProcessOpenCx<'_>) -> Result<()> {
    ///         self.waiting = cx.list_state("waiting")?;
    ///         Ok(())
    ///     }
    ///     fn row(&mut self, row: Timed<u64>, out: &mut Out<(u64, u64)>) -> Result<()> {
    ///         let partner = self.waiting.update().pop();
    ///         match partner {
    ///             Some(partner) => out.emit((partner, row.value)),
    ///             None => self.waiting.push(row.value),
    ///         }
    ///         Ok(())
    ///     }
    ///     fn on_end(&mut self, out: &mut Out<(u64, u64)>) -> Result<()> {
    ///         self.waiting.take().into_iter().for_each(|alone| out.emit((alone, alone)));
    ///         Ok(())
    ///     }
    /// }
    /// # let env = StreamEnv::new();
    /// env.sequence(101).uid("numbers").process(Pairs::default).uid("pairs").discard();
    /// # env.build().unwrap();
    /// ```
    pub fn process<O, Op>(self, make: impl Fn() -> Op + Send + Sync + 'static) -> DataStream<O>
    where
        O: Data,
        Op: ProcessOp<T, O>,
    {
        let (draft, from) = self.end_fusion().into_parts();
        let body = operator(move || ProcessOperator::<T, O, Op>::new(make()));
        let node = add::<O>(&draft, "process", body, false);
        draft
            .borrow_mut()
            .connect(&from, node, InputId(0), plain_edge::<T>());
        DataStream::of_node(&draft, node)
    }

    /// Puts two streams side by side, for one operator that sees both.
    ///
    /// ```
    /// # use rivermark_stream::*;
    /// # let env = StreamEnv::new();
    /// let numbers = env.sequence(10).uid("numbers");
    /// let words = env.from_collection(vec!["ten".to_owned()]).uid("words");
    /// let texts = numbers.connect(words).map(|n| format!("number {n}"), |word| format!("word {word}"));
    /// texts.discard();
    /// # env.build().unwrap();
    /// ```
    pub fn connect<R, J, Q>(self, other: DataStream<R, J, Q>) -> ConnectedDataStreams<T, R>
    where
        R: Data,
        J: Data,
        Q: Pipe<J, Out = R>,
    {
        ConnectedDataStreams {
            left: self.end_fusion(),
            right: other.end_fusion(),
        }
    }

    /// Puts a stream beside one whose records every subtask is told, rules for example: what they say is kept as broadcast
    /// state, which the operator behind this reads for every record of its own.
    ///
    /// ```
    /// # use rivermark_stream::*;
    /// # use rivermark_types::Result;
    /// # use std::collections::BTreeMap;
    /// /// Lets numbers pass that no rule forbids. A rule: a number, and whether it is forbidden.
    /// struct Allowed;
    /// impl BroadcastOp<u64, (u64, bool), u64> for Allowed {
    ///     type Key = u64;
    ///     type Value = ();
    ///     fn row(&mut self, forbidden: &BTreeMap<u64, ()>, row: Timed<u64>, out: &mut Out<u64>) -> Result<()> {
    ///         if !forbidden.contains_key(&row.value) {
    ///             out.emit(row.value);
    ///         }
    ///         Ok(())
    ///     }
    ///     fn broadcast_row(
    ///         &mut self,
    ///         forbidden: &mut BTreeMap<u64, ()>,
    ///         rule: Timed<(u64, bool)>,
    ///         _: &mut Out<u64>,
    ///     ) -> Result<()> {
    ///         match rule.value {
    ///             (number, true) => forbidden.insert(number, ()),
    ///             (number, false) => forbidden.remove(&number),
    ///         };
    ///         Ok(())
    ///     }
    /// }
    /// # let env = StreamEnv::new();
    /// let rules = env.from_collection(vec![(7, true)]).uid("rules");
    /// let numbers = env.sequence(100).uid("numbers");
    /// numbers.connect_broadcast(rules.broadcast()).process(|| Allowed).uid("allowed").discard();
    /// # env.build().unwrap();
    /// ```
    pub fn connect_broadcast<R, J, Q>(self, rules: DataStream<R, J, Q>) -> BroadcastConnectedStream<T, R>
    where
        R: Data,
        J: Data,
        Q: Pipe<J, Out = R>,
    {
        BroadcastConnectedStream {
            stream: self.end_fusion(),
            rules: rules.via(Partitioning::Broadcast, None),
        }
    }
}

impl<K, T, F> KeyedStream<K, T, F>
where
    K: Key,
    T: Data,
    F: Fn(&T) -> K + Clone + Send + Sync + 'static,
{
    /// Puts a keyed stream beside one whose records every subtask is told; see [`DataStream::connect_broadcast`]. The operator
    /// behind this has state and timers of each key besides the broadcast state.
    ///
    /// ```
    /// # use rivermark_stream::*;
    /// # use rivermark_types::Result;
    /// # use std::collections::BTreeMap;
    /// /// Tells the first record of each sensor that is above the limit. Limits come and change while the job runs.
    /// #[derive(Default)]
    /// struct Alarm {
    ///     told: ValueState<u32, bool>,
    /// }
    /// impl KeyedBroadcastOp<u32, (u32, i64), i64, u32> for Alarm {
    ///     type Key = String;
    ///     type Value = i64;
    ///     fn open(&mut self, cx: &mut KeyedOpenCx<'_, u32>) -> Result<()> {
    ///         self.told = cx.value("told")?;
    ///         Ok(())
    ///     }
    ///     fn row(
    ///         &mut self,
    ///         sensor: &Key<u32>,
    ///         limits: &BTreeMap<String, i64>,
    ///         row: Timed<(u32, i64)>,
    ///         out: &mut Out<u32>,
    ///     ) -> Result<()> {
    ///         let is_above = limits.get("all").is_some_and(|limit| row.value.1 > *limit);
    ///         if is_above && !std::mem::replace(self.told.update(sensor), true) {
    ///             out.emit(sensor.value);
    ///         }
    ///         Ok(())
    ///     }
    ///     fn broadcast_row(
    ///         &mut self,
    ///         limits: &mut BTreeMap<String, i64>,
    ///         limit: Timed<i64>,
    ///         _: &mut Out<u32>,
    ///     ) -> Result<()> {
    ///         limits.insert("all".to_owned(), limit.value);
    ///         Ok(())
    ///     }
    /// }
    /// # let env = StreamEnv::new();
    /// let limits = env.from_collection(vec![30i64]).uid("limits");
    /// let readings = env.from_collection(vec![(1u32, 20i64), (1, 40)]).uid("readings");
    /// readings.key_by(|row| row.0).connect_broadcast(limits).process(Alarm::default).uid("alarm").discard();
    /// # env.build().unwrap();
    /// ```
    pub fn connect_broadcast<R, J, Q>(
        self,
        rules: DataStream<R, J, Q>,
    ) -> KeyedBroadcastConnectedStream<K, T, F, R>
    where
        R: Data,
        J: Data,
        Q: Pipe<J, Out = R>,
    {
        KeyedBroadcastConnectedStream {
            stream: self,
            rules: rules.via(Partitioning::Broadcast, None),
        }
    }
}

/// Two streams side by side.
#[must_use = "a stream that leads to no sink does nothing"]
pub struct ConnectedDataStreams<L, R> {
    left: DataStream<L>,
    right: DataStream<R>,
}

impl<L: Data, R: Data> ConnectedDataStreams<L, R> {
    /// Runs an operator of the user's own on both streams. One that keeps lists needs a uid.
    pub fn process<O, Op>(self, make: impl Fn() -> Op + Send + Sync + 'static) -> DataStream<O>
    where
        O: Data,
        Op: ProcessOp2<L, R, O>,
    {
        let body = operator(move || ProcessOperator2::<L, R, O, Op>::new(make()));
        two_inputs(self.left, self.right, "connect", body, false)
    }

    /// Turns each record of either stream into one of a common type.
    pub fn map<O, F, G>(self, left: F, right: G) -> DataStream<O>
    where
        O: Data,
        F: Fn(L) -> O + Clone + Send + Sync + 'static,
        G: Fn(R) -> O + Clone + Send + Sync + 'static,
    {
        self.flat_map(move |row| Some(left(row)), move |row| Some(right(row)))
    }

    /// Turns each record of either stream into any number of a common type.
    pub fn flat_map<A, B, F, G>(self, left: F, right: G) -> DataStream<A::Item>
    where
        A: IntoIterator<Item: Data> + 'static,
        B: IntoIterator<Item = A::Item> + 'static,
        F: Fn(L) -> A + Clone + Send + Sync + 'static,
        G: Fn(R) -> B + Clone + Send + Sync + 'static,
    {
        self.process(move || FlatMap2(left.clone(), right.clone()))
    }
}

/// A stream, and one that every subtask is told.
#[must_use = "a stream that leads to no sink does nothing"]
pub struct BroadcastConnectedStream<T, R> {
    stream: DataStream<T>,
    rules: DataStream<R>,
}

impl<T: Data, R: Data> BroadcastConnectedStream<T, R> {
    /// Runs an operator of the user's own, with broadcast state. It needs a uid.
    pub fn process<O, Op>(self, make: impl Fn() -> Op + Send + Sync + 'static) -> DataStream<O>
    where
        O: Data,
        Op: BroadcastOp<T, R, O>,
    {
        let body = operator(move || BroadcastOperator::<T, R, O, Op>::new(make()));
        two_inputs(self.stream, self.rules, "connect_broadcast", body, true)
    }
}

/// A keyed stream, and one that every subtask is told.
#[must_use = "a stream that leads to no sink does nothing"]
pub struct KeyedBroadcastConnectedStream<K, T, F, R> {
    stream: KeyedStream<K, T, F>,
    rules: DataStream<R>,
}

impl<K, T, F, R> KeyedBroadcastConnectedStream<K, T, F, R>
where
    K: Key,
    T: Data,
    F: Fn(&T) -> K + Clone + Send + Sync + 'static,
    R: Data,
{
    /// Runs an operator of the user's own, with state of each key and broadcast state. It needs a uid.
    pub fn process<O, Op>(self, make: impl Fn() -> Op + Send + Sync + 'static) -> DataStream<O>
    where
        O: Data,
        Op: KeyedBroadcastOp<K, T, R, O>,
    {
        let select = self.stream.selector();
        let body = operator(move || KeyedBroadcastOperator::<K, T, R, O, F, Op>::new(select.clone(), make()));
        let types = vec![type_name::<O>().to_owned()];
        let node = self.stream.add_stateful("connect_broadcast", body, types);
        let draft = self.stream.draft().clone();
        connect_second(&draft, self.rules, node);
        DataStream::of_node(&draft, node)
    }
}

fn add<O: Data>(draft: &SharedDraft, name: &str, body: NodeBody, has_state: bool) -> NodeId {
    draft.borrow_mut().add(NodeRole::Operator, name, body, |node| {
        node.has_state = has_state;
        node.output_types = vec![type_name::<O>().to_owned()];
    })
}

/// An operator with an input for each stream.
fn two_inputs<L: Data, R: Data, O: Data>(
    left: DataStream<L>,
    right: DataStream<R>,
    name: &str,
    body: NodeBody,
    has_state: bool,
) -> DataStream<O> {
    let (draft, from) = left.into_parts();
    let node = add::<O>(&draft, name, body, has_state);
    draft
        .borrow_mut()
        .connect(&from, node, InputId(0), plain_edge::<L>());
    connect_second(&draft, right, node);
    DataStream::of_node(&draft, node)
}

/// Connects a stream with the second input.
fn connect_second<R: Data>(draft: &SharedDraft, stream: DataStream<R>, node: NodeId) {
    let (other, from) = stream.into_parts();
    let mut own = draft.borrow_mut();
    if !Rc::ptr_eq(draft, &other) {
        own.fault("two streams of two environments cannot be connected: use one StreamEnv for a job");
    }
    own.connect(&from, node, InputId(1), plain_edge::<R>());
}
