//! Two keyed streams joined: by windows, or by the distance of their times.

use crate::keyed::KeyedStream;
use crate::stream::{DataStream, boxed_operator};
use crate::window::side_stream;
use rivermark_data::{Data, Key};
use rivermark_runtime::Operator;
use rivermark_runtime::operators::interval_join::{LEFT_LATE_PORT, RIGHT_LATE_PORT};
use rivermark_runtime::operators::window::{
    AtEnd, CoGrouped, Contents, EventTime, Evicting, Evictor, Firing, JoinedPairs, Lateness, On, Side,
    Trigger, WindowAssigner, WindowJoinOperator,
};
use rivermark_runtime::operators::{Interval, IntervalJoinOperator, LateRows, Out, Window};
use rivermark_types::{InputId, NodeId};
use std::any::type_name;
use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

/// Two keyed streams that something joins.
struct Pair<K, L, F, R, G> {
    left: KeyedStream<K, L, F>,
    right: KeyedStream<K, R, G>,
}

impl<K, L, F, R, G> Pair<K, L, F, R, G>
where
    K: Key,
    L: Data,
    R: Data,
    F: Fn(&L) -> K + Clone + Send + Sync + 'static,
    G: Fn(&R) -> K + Clone + Send + Sync + 'static,
{
    /// Adds a node behind both.
    fn add(
        &self,
        name: &str,
        make: impl Fn() -> Box<dyn Operator> + Send + Sync + 'static,
        types: Vec<String>,
    ) -> NodeId {
        let node = self.left.add_stateful(name, boxed_operator(make), types);
        let draft = self.left.draft();
        if !Rc::ptr_eq(draft, self.right.draft()) {
            draft.borrow_mut().fault(format!(
                "{name} joins streams of two environments: use one StreamEnv for a job"
            ));
        }
        self.right.connect_to(draft, node, InputId(1));
        node
    }
}

/// What becomes of the records of a key in a window: pairs of them.
#[derive(Clone, Copy, Debug)]
pub struct Pairs;

/// What becomes of the records of a key in a window: both sides as they are.
#[derive(Clone, Copy, Debug)]
pub struct Groups;

/// Two keyed streams side by side, to be cut into the same windows. `J` is [`Pairs`] or [`Groups`].
#[must_use = "a stream that leads to no sink does nothing"]
pub struct JoinedStreams<K, L, F, R, G, J> {
    pair: Pair<K, L, F, R, G>,
    kind: PhantomData<J>,
}

/// Two keyed streams cut into the same windows. Late records are dropped and counted.
#[must_use = "a stream that leads to no sink does nothing"]
pub struct WindowedJoin<K, L, F, R, G, J, W, P = AtEnd> {
    pair: Pair<K, L, F, R, G>,
    windows: W,
    firing: P,
    allowed_lateness: Duration,
    kind: PhantomData<J>,
}

impl<K, L, F> KeyedStream<K, L, F>
where
    K: Key,
    L: Data,
    F: Fn(&L) -> K + Clone + Send + Sync + 'static,
{
    /// Joins records of two streams that have the same key and lie in the same window: an inner join, one result for each
    /// pair.
    ///
    /// ```
    /// # use rivermark_stream::*;
    /// # use rivermark_types::Timestamp;
    /// # use std::time::Duration;
    /// # let env = StreamEnv::new();
    /// # let times = || WatermarkStrategy::monotonous().with_timestamp(|row: &(u32, i64)| Timestamp(row.1));
    /// # let orders = env.from_source(CollectionSource::new(vec![(7u32, 1_000i64)]), times()).uid("orders");
    /// # let payments = env.from_source(CollectionSource::new(vec![(7u32, 2_000i64)]), times()).uid("payments");
    /// let paid = orders
    ///     .key_by(|order| order.0)
    ///     .join(payments.key_by(|payment| payment.0))
    ///     .window(Tumbling::of(Duration::from_secs(60)))
    ///     .apply(|order, payment| (order.0, payment.1 - order.1));
    /// paid.uid("paid").discard();
    /// # env.build().unwrap();
    /// ```
    pub fn join<R, G>(self, other: KeyedStream<K, R, G>) -> JoinedStreams<K, L, F, R, G, Pairs> {
        JoinedStreams::new(self, other)
    }

    /// Puts the records of two streams that have the same key and lie in the same window side by side; one of the sides may be
    /// empty. With it any kind of join can be written.
    ///
    /// ```
    /// # use rivermark_stream::*;
    /// # use rivermark_types::Timestamp;
    /// # use std::time::Duration;
    /// # let env = StreamEnv::new();
    /// # let times = || WatermarkStrategy::monotonous().with_timestamp(|row: &(u32, i64)| Timestamp(row.1));
    /// # let orders = env.from_source(CollectionSource::new(vec![(7u32, 1_000i64)]), times()).uid("orders");
    /// # let payments = env.from_source(CollectionSource::new(vec![(7u32, 2_000i64)]), times()).uid("payments");
    /// let unpaid = orders
    ///     .key_by(|order| order.0)
    ///     .co_group(payments.key_by(|payment| payment.0))
    ///     .window(Tumbling::of(Duration::from_secs(60)))
    ///     .apply(|id, _, orders, payments, out: &mut Out<_>| {
    ///         if payments.is_empty() {
    ///             out.emit((*id, orders.len()));
    ///         }
    ///     });
    /// unpaid.uid("unpaid").discard();
    /// # env.build().unwrap();
    /// ```
    pub fn co_group<R, G>(self, other: KeyedStream<K, R, G>) -> JoinedStreams<K, L, F, R, G, Groups> {
        JoinedStreams::new(self, other)
    }

    /// Joins records of two streams that have the same key and whose times are near.
    ///
    /// ```
    /// # use rivermark_stream::*;
    /// # use rivermark_types::Timestamp;
    /// # use std::time::Duration;
    /// # let env = StreamEnv::new();
    /// # let times = || WatermarkStrategy::monotonous().with_timestamp(|row: &(u32, i64)| Timestamp(row.1));
    /// # let orders = env.from_source(CollectionSource::new(vec![(7u32, 1_000i64)]), times()).uid("orders");
    /// # let payments = env.from_source(CollectionSource::new(vec![(7u32, 2_000i64)]), times()).uid("payments");
    /// // Payments from five seconds before the order to a minute after it.
    /// let paid = orders
    ///     .key_by(|order| order.0)
    ///     .interval_join(payments.key_by(|payment| payment.0))
    ///     .between(-5_000, 60_000)
    ///     .process(|order, payment| (order.0, payment.1 - order.1));
    /// paid.uid("paid").discard();
    /// # env.build().unwrap();
    /// ```
    pub fn interval_join<R, G>(self, other: KeyedStream<K, R, G>) -> IntervalJoin<K, L, F, R, G> {
        IntervalJoin {
            pair: Pair {
                left: self,
                right: other,
            },
        }
    }
}

impl<K, L, F, R, G, J> JoinedStreams<K, L, F, R, G, J> {
    fn new(left: KeyedStream<K, L, F>, right: KeyedStream<K, R, G>) -> Self {
        JoinedStreams {
            pair: Pair { left, right },
            kind: PhantomData,
        }
    }

    /// Cuts both streams into windows; sessions are made of the records of both.
    pub fn window<W: WindowAssigner<Side<L, R>>>(self, windows: W) -> WindowedJoin<K, L, F, R, G, J, W> {
        WindowedJoin {
            pair: self.pair,
            windows,
            firing: AtEnd,
            allowed_lateness: Duration::ZERO,
            kind: PhantomData,
        }
    }
}

impl<K, L, F, R, G, J, W> WindowedJoin<K, L, F, R, G, J, W> {
    /// Lets windows fire when a trigger says so, instead of at their end. It sees the records of both sides.
    pub fn trigger<Tr>(self, trigger: Tr) -> WindowedJoin<K, L, F, R, G, J, W, On<Tr>>
    where
        Tr: Trigger<Side<L, R>>,
    {
        self.with_firing(|_| On(trigger))
    }

    /// Lets windows forget records of both sides when they fire, at their end.
    pub fn evictor<E>(self, evictor: E) -> WindowedJoin<K, L, F, R, G, J, W, Evicting<EventTime, E>>
    where
        E: Evictor<Side<L, R>>,
    {
        self.with_firing(|_| Evicting(EventTime, evictor))
    }
}

impl<K, L, F, R, G, J, W, Tr> WindowedJoin<K, L, F, R, G, J, W, On<Tr>> {
    /// Lets windows forget records of both sides when they fire.
    pub fn evictor<E>(self, evictor: E) -> WindowedJoin<K, L, F, R, G, J, W, Evicting<Tr, E>>
    where
        E: Evictor<Side<L, R>>,
    {
        self.with_firing(|On(trigger)| Evicting(trigger, evictor))
    }
}

impl<K, L, F, R, G, J, W, P> WindowedJoin<K, L, F, R, G, J, W, P> {
    fn with_firing<Q>(self, make: impl FnOnce(P) -> Q) -> WindowedJoin<K, L, F, R, G, J, W, Q> {
        WindowedJoin {
            pair: self.pair,
            windows: self.windows,
            firing: make(self.firing),
            allowed_lateness: self.allowed_lateness,
            kind: PhantomData,
        }
    }

    /// Keeps windows for so long (in event time) behind their end: a record that comes by then is still taken in, and lets the
    /// window fire once more, as a whole.
    pub fn allowed_lateness(mut self, allowed: Duration) -> Self {
        self.allowed_lateness = allowed;
        self
    }
}

impl<K, L, F, R, G, J, W, P> WindowedJoin<K, L, F, R, G, J, W, P>
where
    K: Key,
    L: Data,
    R: Data,
    F: Fn(&L) -> K + Clone + Send + Sync + 'static,
    G: Fn(&R) -> K + Clone + Send + Sync + 'static,
    W: WindowAssigner<Side<L, R>>,
{
    fn of<C>(self, name: &str, contents: C) -> DataStream<C::Output>
    where
        C: Contents<K, Input = Side<L, R>>,
        P: Firing<K, W, C>,
    {
        let (windows, firing) = (self.windows, self.firing);
        let (left, right) = (self.pair.left.selector(), self.pair.right.selector());
        let lateness = Lateness::new(self.allowed_lateness, LateRows::Drop);
        let make = move || {
            let windows = firing.windows(windows.clone(), contents.clone(), lateness);
            let operator = WindowJoinOperator::<K, L, R, F, G, _>::new(left.clone(), right.clone(), windows);
            Box::new(operator) as Box<dyn Operator>
        };
        let node = self
            .pair
            .add(name, make, vec![type_name::<C::Output>().to_owned()]);
        DataStream::of_node(self.pair.left.draft(), node)
    }
}

impl<K, L, F, R, G, W, P> WindowedJoin<K, L, F, R, G, Pairs, W, P>
where
    K: Key,
    L: Data,
    R: Data,
    F: Fn(&L) -> K + Clone + Send + Sync + 'static,
    G: Fn(&R) -> K + Clone + Send + Sync + 'static,
    W: WindowAssigner<Side<L, R>>,
{
    /// Makes a result of each pair.
    pub fn apply<O, J>(self, join: J) -> DataStream<O>
    where
        O: Data,
        J: Fn(&L, &R) -> O + Clone + Send + Sync + 'static,
        P: Firing<K, W, JoinedPairs<L, R, O, J>>,
    {
        self.of("window join", JoinedPairs::new(join))
    }
}

impl<K, L, F, R, G, W, P> WindowedJoin<K, L, F, R, G, Groups, W, P>
where
    K: Key,
    L: Data,
    R: Data,
    F: Fn(&L) -> K + Clone + Send + Sync + 'static,
    G: Fn(&R) -> K + Clone + Send + Sync + 'static,
    W: WindowAssigner<Side<L, R>>,
{
    /// Shows a closure the records of both sides of each key and window, each side in the order in which its records came.
    pub fn apply<O, A>(self, apply: A) -> DataStream<O>
    where
        O: Data,
        A: Fn(&K, Window, &[L], &[R], &mut Out<O>) + Clone + Send + Sync + 'static,
        P: Firing<K, W, CoGrouped<K, L, R, O, A>>,
    {
        self.of("co-group", CoGrouped::new(apply))
    }
}

/// Two keyed streams, to be joined by the distance of their times.
#[must_use = "a stream that leads to no sink does nothing"]
pub struct IntervalJoin<K, L, F, R, G> {
    pair: Pair<K, L, F, R, G>,
}

impl<K, L, F, R, G> IntervalJoin<K, L, F, R, G> {
    /// How much later than the left record the right one may be, at least and at most: in milliseconds, negative for
    /// earlier. Both bounds belong to it.
    pub fn between(self, lower_ms: i64, upper_ms: i64) -> BoundedJoin<K, L, F, R, G> {
        BoundedJoin {
            pair: self.pair,
            interval: Interval { lower_ms, upper_ms },
        }
    }
}

/// Two keyed streams, joined by the distance of their times. Records behind the watermark are late: dropped and counted, if
/// nothing else is said.
#[must_use = "a stream that leads to no sink does nothing"]
pub struct BoundedJoin<K, L, F, R, G> {
    pair: Pair<K, L, F, R, G>,
    interval: Interval,
}

impl<K, L, F, R, G> BoundedJoin<K, L, F, R, G>
where
    K: Key,
    L: Data,
    R: Data,
    F: Fn(&L) -> K + Clone + Send + Sync + 'static,
    G: Fn(&R) -> K + Clone + Send + Sync + 'static,
{
    /// Leaves out pairs whose distance is exactly the lower bound.
    pub fn lower_bound_exclusive(mut self) -> Self {
        self.interval.lower_ms = self.interval.lower_ms.saturating_add(1);
        self
    }

    /// Leaves out pairs whose distance is exactly the upper bound.
    pub fn upper_bound_exclusive(mut self) -> Self {
        self.interval.upper_ms = self.interval.upper_ms.saturating_sub(1);
        self
    }

    /// Makes a result of each pair, with the time of the later of the two.
    pub fn process<O, J>(self, join: J) -> DataStream<O>
    where
        O: Data,
        J: Fn(&L, &R) -> O + Clone + Send + Sync + 'static,
    {
        let node = self.add(join, LateRows::Drop);
        DataStream::of_node(self.pair.left.draft(), node)
    }

    /// The same, with the late records of both sides as streams of their own. Name, uid and parallelism belong to the results.
    pub fn process_with_late<O, J>(self, join: J) -> (DataStream<O>, DataStream<L>, DataStream<R>)
    where
        O: Data,
        J: Fn(&L, &R) -> O + Clone + Send + Sync + 'static,
    {
        let node = self.add(join, LateRows::Emit);
        let draft = self.pair.left.draft();
        (
            DataStream::of_node(draft, node),
            side_stream(draft, node, LEFT_LATE_PORT),
            side_stream(draft, node, RIGHT_LATE_PORT),
        )
    }

    fn add<O, J>(&self, join: J, late: LateRows) -> NodeId
    where
        O: Data,
        J: Fn(&L, &R) -> O + Clone + Send + Sync + 'static,
    {
        let interval = self.interval;
        if interval.lower_ms > interval.upper_ms {
            self.pair.left.draft().borrow_mut().fault(format!(
                "interval_join(..) joins nothing: its lower bound, {} ms, is above its upper bound, {} ms",
                interval.lower_ms, interval.upper_ms
            ));
        }
        let (left, right) = (self.pair.left.selector(), self.pair.right.selector());
        let make = move || {
            let (left, right) = (left.clone(), right.clone());
            let operator =
                IntervalJoinOperator::<K, L, R, O, F, G, J>::new(left, right, interval, join.clone(), late);
            Box::new(operator) as Box<dyn Operator>
        };
        let mut types = vec![type_name::<O>().to_owned()];
        if late == LateRows::Emit {
            types.extend([type_name::<L>().to_owned(), type_name::<R>().to_owned()]);
        }
        self.pair.add("interval join", make, types)
    }
}
