//! Two keyed streams joined: by windows, or by the distance of their times.

use crate::keyed::KeyedStream;
use crate::stream::{DataStream, boxed_operator};
use crate::window::{DropLate, LateRecords, ToWindows, Windowed, side_stream};
use rivermark_data::{Data, Key};
use rivermark_runtime::Operator;
use rivermark_runtime::operators::interval_join::{LEFT_LATE_PORT, RIGHT_LATE_PORT};
use rivermark_runtime::operators::window::{
    AtEnd, CoGrouped, Contents, Firing, JoinedPairs, Lateness, Side, WindowAssigner, WindowJoinOperator,
};
use rivermark_runtime::operators::{Interval, IntervalJoinOperator, LateRows, Out, Window};
use rivermark_types::{InputId, NodeId};
use std::any::type_name;
use std::marker::PhantomData;
use std::rc::Rc;

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

    /// The types of a node's output ports.
    fn types<O>(&self, late: LateRows) -> Vec<String> {
        match late {
            LateRows::Drop => vec![type_name::<O>().to_owned()],
            LateRows::Emit => [type_name::<O>(), type_name::<L>(), type_name::<R>()]
                .map(str::to_owned)
                .to_vec(),
        }
    }

    /// The late records of a node.
    fn late(&self, node: NodeId) -> Late<L, R> {
        let draft = self.left.draft();
        (
            side_stream(draft, node, LEFT_LATE_PORT),
            side_stream(draft, node, RIGHT_LATE_PORT),
        )
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

/// Two keyed streams cut into the same windows. Late records are dropped and counted, if nothing else is said.
///
/// ```
/// # use rivermark_stream::*;
/// # use rivermark_types::Timestamp;
/// # use std::time::Duration;
/// # let env = StreamEnv::new();
/// # let times = || WatermarkStrategy::monotonous().with_timestamp(|row: &(u32, i64)| Timestamp(row.1));
/// # let orders = env.from_source(CollectionSource::new(vec![(7u32, 1_000i64)]), times()).uid("orders");
/// # let payments = env.from_source(CollectionSource::new(vec![(7u32, 2_000i64)]), times()).uid("payments");
/// let (paid, (late_orders, late_payments)) = orders
///     .key_by(|order| order.0)
///     .join(payments.key_by(|payment| payment.0))
///     .window(Tumbling::of(Duration::from_secs(60)))
///     .allowed_lateness(Duration::from_secs(5))
///     .late_output()
///     .apply(|order, payment| (order.0, payment.1 - order.1));
/// paid.uid("paid").discard();
/// late_orders.discard();
/// late_payments.discard();
/// # env.build().unwrap();
/// ```
pub type WindowedJoin<K, L, F, R, G, J, W, P = AtEnd, D = DropLate> =
    Windowed<JoinedStreams<K, L, F, R, G, J>, W, P, D>;

impl<K, L, F, R, G, J> ToWindows for JoinedStreams<K, L, F, R, G, J> {
    type Row = Side<L, R>;
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
        Windowed::new(self, windows)
    }
}

/// The late records of the left and of the right stream.
type Late<L, R> = (DataStream<L>, DataStream<R>);

impl<K, L, F, R, G, J, W, P, D> WindowedJoin<K, L, F, R, G, J, W, P, D>
where
    K: Key,
    L: Data,
    R: Data,
    F: Fn(&L) -> K + Clone + Send + Sync + 'static,
    G: Fn(&R) -> K + Clone + Send + Sync + 'static,
    W: WindowAssigner<Side<L, R>>,
    D: LateRecords<Late<L, R>>,
{
    fn of<C>(self, name: &str, contents: C) -> D::Streams<C::Output>
    where
        C: Contents<K, Input = Side<L, R>>,
        P: Firing<K, W, C>,
    {
        let (pair, windows, firing) = (self.input.pair, self.windows, self.firing);
        let (left, right) = (pair.left.selector(), pair.right.selector());
        let lateness = Lateness::new(self.allowed_lateness, D::ROWS);
        let make = move || {
            let windows = firing.windows(windows.clone(), contents.clone(), lateness);
            let operator = WindowJoinOperator::<K, L, R, F, G, _>::new(left.clone(), right.clone(), windows);
            Box::new(operator) as Box<dyn Operator>
        };
        let node = pair.add(name, make, pair.types::<C::Output>(D::ROWS));
        D::streams(DataStream::of_node(pair.left.draft(), node), || pair.late(node))
    }
}

impl<K, L, F, R, G, W, P, D> WindowedJoin<K, L, F, R, G, Pairs, W, P, D>
where
    K: Key,
    L: Data,
    R: Data,
    F: Fn(&L) -> K + Clone + Send + Sync + 'static,
    G: Fn(&R) -> K + Clone + Send + Sync + 'static,
    W: WindowAssigner<Side<L, R>>,
    D: LateRecords<Late<L, R>>,
{
    /// Makes a result of each pair.
    pub fn apply<O, J>(self, join: J) -> D::Streams<O>
    where
        O: Data,
        J: Fn(&L, &R) -> O + Clone + Send + Sync + 'static,
        P: Firing<K, W, JoinedPairs<L, R, O, J>>,
    {
        self.of("window join", JoinedPairs::new(join))
    }
}

impl<K, L, F, R, G, W, P, D> WindowedJoin<K, L, F, R, G, Groups, W, P, D>
where
    K: Key,
    L: Data,
    R: Data,
    F: Fn(&L) -> K + Clone + Send + Sync + 'static,
    G: Fn(&R) -> K + Clone + Send + Sync + 'static,
    W: WindowAssigner<Side<L, R>>,
    D: LateRecords<Late<L, R>>,
{
    /// Shows a closure the records of both sides of each key and window, each side in the order in which its records came.
    pub fn apply<O, A>(self, apply: A) -> D::Streams<O>
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
        let (left, right) = self.pair.late(node);
        (DataStream::of_node(self.pair.left.draft(), node), left, right)
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
        self.pair.add("interval join", make, self.pair.types::<O>(late))
    }
}
