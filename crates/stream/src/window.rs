//! Windows on keyed streams.

use crate::draft::{Origin, SharedDraft};
use crate::keyed::KeyedStream;
use crate::stream::{DataStream, boxed_operator};
use rivermark_data::{Data, Key};
use rivermark_runtime::operators::window::{
    Aggregated, AtEnd, Contents, Count, EvictCount, Evicting, Evictor, Firing, Gathered, Global, LATE_PORT,
    Lateness, MergingFold, On, Purging, Reduced, Trigger, WindowAssigner,
};
use rivermark_runtime::operators::{Aggregate, Fold, LateRows, Out, Window};
use rivermark_types::NodeId;
use std::any::type_name;
use std::marker::PhantomData;
use std::time::Duration;

/// A keyed stream cut into windows: `W` says which, `P` when they fire, `L` what becomes of late records (if nothing else is
/// said, they are dropped and counted).
///
/// ```
/// # use rivermark_stream::*;
/// # use rivermark_types::Timestamp;
/// # use std::time::Duration;
/// # let env = StreamEnv::new();
/// # let clicks = env
/// #     .from_source(
/// #         CollectionSource::new(vec![(7u32, 1_000i64), (7, 61_000)]),
/// #         WatermarkStrategy::monotonous().with_timestamp(|row: &(u32, i64)| Timestamp(row.1)),
/// #     )
/// #     .uid("clicks");
/// // Visits: the clicks of a user until there is none for half an hour; first results each minute, late clicks for a day.
/// let (visits, too_late) = clicks
///     .key_by(|click| click.0)
///     .window(Session::gap(Duration::from_secs(30 * 60)))
///     .trigger(ContinuousEventTime::of(Duration::from_secs(60)))
///     .allowed_lateness(Duration::from_secs(24 * 60 * 60))
///     .late_output()
///     .fold_merging(
///         |clicks: &mut u64, _| *clicks += 1,
///         |clicks, others| *clicks += others,
///         |user, visit, clicks| (*user, visit.start, clicks),
///     );
/// visits.uid("visits").discard();
/// too_late.discard();
/// # env.build().unwrap();
/// ```
pub type WindowedStream<K, T, F, W, P = AtEnd, L = DropLate> = Windowed<KeyedStream<K, T, F>, W, P, L>;

/// A stream, or two, cut into windows: see [`WindowedStream`] and [`WindowedJoin`](crate::WindowedJoin).
#[must_use = "a stream that leads to no sink does nothing"]
pub struct Windowed<S, W, P = AtEnd, L = DropLate> {
    pub(crate) input: S,
    pub(crate) windows: W,
    pub(crate) firing: P,
    pub(crate) allowed_lateness: Duration,
    late: PhantomData<L>,
}

/// What can be cut into windows.
pub trait ToWindows {
    /// What windows hold, and triggers and evictors see.
    type Row;
}

impl<K, T, F> ToWindows for KeyedStream<K, T, F> {
    type Row = T;
}

/// Late records are dropped and counted.
#[derive(Clone, Copy, Debug)]
pub struct DropLate;

/// Late records are a stream of their own.
#[derive(Clone, Copy, Debug)]
pub struct KeepLate;

/// What becomes of late records, and what the results come with therefore: nothing, or `S`, the streams of late records.
pub trait LateRecords<S> {
    /// The results; perhaps with the late records.
    type Streams<O>;
    /// What the operator does with them.
    const ROWS: LateRows;
    #[doc(hidden)]
    fn streams<O: Data>(results: DataStream<O>, late: impl FnOnce() -> S) -> Self::Streams<O>;
}

impl<S> LateRecords<S> for DropLate {
    type Streams<O> = DataStream<O>;
    const ROWS: LateRows = LateRows::Drop;
    fn streams<O: Data>(results: DataStream<O>, _: impl FnOnce() -> S) -> DataStream<O> {
        results
    }
}

impl<S> LateRecords<S> for KeepLate {
    type Streams<O> = (DataStream<O>, S);
    const ROWS: LateRows = LateRows::Emit;
    fn streams<O: Data>(results: DataStream<O>, late: impl FnOnce() -> S) -> (DataStream<O>, S) {
        (results, late())
    }
}

/// The stream that comes out of another port than the main one.
pub(crate) fn side_stream<T: Data>(draft: &SharedDraft, node: NodeId, port: u8) -> DataStream<T> {
    let origin = Origin {
        port,
        ..Origin::of(node)
    };
    DataStream::new(draft.clone(), vec![origin])
}

impl<S: ToWindows, W> Windowed<S, W> {
    pub(crate) fn new(input: S, windows: W) -> Self {
        Windowed {
            input,
            windows,
            firing: AtEnd,
            allowed_lateness: Duration::ZERO,
            late: PhantomData,
        }
    }

    /// Lets windows fire when a trigger says so, instead of at their end. In a join it sees the records of both sides.
    ///
    /// ```
    /// # use rivermark_stream::*;
    /// # use rivermark_types::Timestamp;
    /// # use std::time::Duration;
    /// # let env = StreamEnv::new();
    /// # let strategy = WatermarkStrategy::monotonous().with_timestamp(|row: &(u32, i64)| Timestamp(row.1));
    /// # let clicks = env.from_source(CollectionSource::new(vec![(7u32, 1_000i64)]), strategy).uid("clicks");
    /// let hundreds = clicks
    ///     .key_by(|click| click.0)
    ///     .window(Tumbling::of(Duration::from_secs(3_600)))
    ///     .trigger(Purging::of(Count::of(100)))
    ///     .process(|user, hour, clicks, out: &mut Out<_>| out.emit((*user, hour.start, clicks.len())));
    /// hundreds.uid("hundreds").discard();
    /// # env.build().unwrap();
    /// ```
    pub fn trigger<Tr: Trigger<S::Row>>(self, trigger: Tr) -> Windowed<S, W, On<Tr>> {
        self.with_firing(|_| On(trigger))
    }

    /// Lets windows forget rows when they fire, at their end. Windows with an evictor keep all of their rows until then.
    pub fn evictor<E: Evictor<S::Row>>(self, evictor: E) -> Windowed<S, W, Evicting<AtEnd, E>> {
        self.with_firing(|_| Evicting(AtEnd, evictor))
    }
}

impl<S: ToWindows, W, Tr> Windowed<S, W, On<Tr>> {
    /// Lets windows forget rows when they fire. Windows with an evictor keep all of their rows until then.
    ///
    /// ```
    /// # use rivermark_stream::*;
    /// # let env = StreamEnv::new();
    /// # let readings = env.from_collection(vec![(7u32, 20i64), (7, 22)]).uid("readings");
    /// // The highest of the last ten, at each reading.
    /// let highest = readings
    ///     .key_by(|reading| reading.0)
    ///     .window(Global)
    ///     .trigger(Count::of(1))
    ///     .evictor(EvictCount::keep(10))
    ///     .reduce(|max, reading| if reading.1 > max.1 { reading } else { *max });
    /// highest.uid("highest").discard();
    /// # env.build().unwrap();
    /// ```
    pub fn evictor<E: Evictor<S::Row>>(self, evictor: E) -> Windowed<S, W, Evicting<Tr, E>> {
        self.with_firing(|On(trigger)| Evicting(trigger, evictor))
    }
}

impl<S, W, P, L> Windowed<S, W, P, L> {
    fn with_firing<Q>(self, make: impl FnOnce(P) -> Q) -> Windowed<S, W, Q, L> {
        Windowed {
            input: self.input,
            windows: self.windows,
            firing: make(self.firing),
            allowed_lateness: self.allowed_lateness,
            late: PhantomData,
        }
    }

    /// Keeps windows for so long (in event time) behind their end: a record that comes by then is still taken in, and lets the
    /// window fire once more. Later ones are late.
    pub fn allowed_lateness(mut self, allowed: Duration) -> Self {
        self.allowed_lateness = allowed;
        self
    }

    /// Keeps late records apart instead of dropping them: results then come with a second stream, of the late records (of a
    /// join: with two, of the left and of the right ones). Name, uid and parallelism belong to the results.
    pub fn late_output(self) -> Windowed<S, W, P, KeepLate> {
        Windowed {
            input: self.input,
            windows: self.windows,
            firing: self.firing,
            allowed_lateness: self.allowed_lateness,
            late: PhantomData,
        }
    }
}

impl<K, T, F, W, P, L> WindowedStream<K, T, F, W, P, L>
where
    K: Key,
    T: Data,
    F: Fn(&T) -> K + Clone + Send + Sync + 'static,
    W: WindowAssigner<T>,
    L: LateRecords<DataStream<T>>,
{
    /// Makes one result of the records of each key and window: of tumbling and sliding windows when the watermark reaches the
    /// window's end, else when the trigger says so. For sessions it must be a [`MergeAggregate`](crate::MergeAggregate).
    pub fn aggregate<A>(self, aggregate: A) -> L::Streams<A::Output>
    where
        A: Aggregate<K, Input = T>,
        P: Firing<K, W, Aggregated<A>>,
    {
        self.of(Aggregated(aggregate))
    }

    /// The same with two closures: `add` takes a record into what the window has so far (at first the default), `finish` makes
    /// the result.
    ///
    /// ```
    /// # use rivermark_stream::*;
    /// # use rivermark_types::Timestamp;
    /// # use std::time::Duration;
    /// # let env = StreamEnv::new();
    /// // (sensor, time in ms, value)
    /// let readings = env
    ///     .from_source(
    ///         CollectionSource::new(vec![(7u32, 1_000i64, 20i64), (7, 61_000, 22)]),
    ///         WatermarkStrategy::monotonous().with_timestamp(|row: &(u32, i64, i64)| Timestamp(row.1)),
    ///     )
    ///     .uid("readings");
    /// let highest = readings
    ///     .key_by(|row| row.0)
    ///     .window(Sliding::of(Duration::from_secs(60), Duration::from_secs(10)))
    ///     .fold(|max: &mut i64, row| *max = row.2.max(*max), |sensor, window, max| (*sensor, window.start, max))
    ///     .uid("highest");
    /// highest.discard();
    /// # env.build().unwrap();
    /// ```
    pub fn fold<A, O, Add, Finish>(self, add: Add, finish: Finish) -> L::Streams<O>
    where
        A: Data + Default,
        O: Data,
        Add: Fn(&mut A, T) + Clone + Send + Sync + 'static,
        Finish: Fn(&K, Window, A) -> O + Clone + Send + Sync + 'static,
        P: Firing<K, W, Aggregated<Fold<K, T, A, O, Add, Finish>>>,
    {
        self.of(Aggregated(Fold::new(add, finish)))
    }

    /// The same with three closures, for sessions: `merge` takes in what another session had, when a record closes the gap
    /// between the two.
    pub fn fold_merging<A, O, Add, Merge, Finish>(
        self,
        add: Add,
        merge: Merge,
        finish: Finish,
    ) -> L::Streams<O>
    where
        A: Data + Default,
        O: Data,
        Add: Fn(&mut A, T) + Clone + Send + Sync + 'static,
        Merge: Fn(&mut A, A) + Clone + Send + Sync + 'static,
        Finish: Fn(&K, Window, A) -> O + Clone + Send + Sync + 'static,
        P: Firing<K, W, Aggregated<MergingFold<K, T, A, O, Add, Merge, Finish>>>,
    {
        self.of(Aggregated(MergingFold::new(add, merge, finish)))
    }

    /// Combines the records of each key and window two by two into one.
    pub fn reduce<R>(self, combine: R) -> L::Streams<T>
    where
        R: Fn(&T, T) -> T + Clone + Send + Sync + 'static,
        P: Firing<K, W, Reduced<T, R>>,
    {
        self.of(Reduced::new(combine))
    }

    /// Shows a closure all records of each key and window, in the order in which they came. They are kept until then: where an
    /// aggregate will do, it takes less room.
    ///
    /// ```
    /// # use rivermark_stream::*;
    /// # use rivermark_types::Timestamp;
    /// # use std::time::Duration;
    /// # let env = StreamEnv::new();
    /// # let strategy = WatermarkStrategy::monotonous().with_timestamp(|row: &(u32, i64)| Timestamp(row.1));
    /// # let readings = env.from_source(CollectionSource::new(vec![(7u32, 1_000i64)]), strategy).uid("readings");
    /// let medians = readings
    ///     .key_by(|reading| reading.0)
    ///     .window(Tumbling::of(Duration::from_secs(60)))
    ///     .process(|sensor, minute, readings, out: &mut Out<_>| {
    ///         let mut values: Vec<i64> = readings.iter().map(|reading| reading.1).collect();
    ///         values.sort_unstable();
    ///         out.emit((*sensor, minute.start, values[values.len() / 2]));
    ///     });
    /// medians.uid("medians").discard();
    /// # env.build().unwrap();
    /// ```
    pub fn process<O, G>(self, process: G) -> L::Streams<O>
    where
        O: Data,
        G: Fn(&K, Window, &[T], &mut Out<O>) + Clone + Send + Sync + 'static,
        P: Firing<K, W, Gathered<K, T, O, G>>,
    {
        self.of(Gathered::new(process))
    }

    fn of<C>(self, contents: C) -> L::Streams<C::Output>
    where
        C: Contents<K, Input = T>,
        P: Firing<K, W, C>,
    {
        let (stream, windows, firing) = (self.input, self.windows, self.firing);
        let (select, lateness) = (stream.selector(), Lateness::new(self.allowed_lateness, L::ROWS));
        let make = move || firing.operator(select.clone(), windows.clone(), contents.clone(), lateness);
        let mut types = vec![type_name::<C::Output>().to_owned()];
        if L::ROWS == LateRows::Emit {
            types.push(type_name::<T>().to_owned());
        }
        let node = stream.add_stateful("window", boxed_operator(make), types);
        let draft = stream.draft();
        L::streams(DataStream::of_node(draft, node), || {
            side_stream(draft, node, LATE_PORT)
        })
    }
}

impl<K, T, F> KeyedStream<K, T, F>
where
    K: Key,
    T: Data,
    F: Fn(&T) -> K + Clone + Send + Sync + 'static,
{
    /// Cuts the records of each key into windows: [`Tumbling`](crate::Tumbling), [`Sliding`](crate::Sliding),
    /// [`Session`](crate::Session) or [`Global`]; or into windows of processing time
    /// ([`InProcessingTime`](crate::InProcessingTime)), for which records need no time.
    ///
    /// ```
    /// # use rivermark_stream::*;
    /// # use std::time::Duration;
    /// # let env = StreamEnv::new();
    /// # let requests = env.from_collection(vec![(7u32, 20u64), (7, 22)]).uid("requests");
    /// // How much came in each ten seconds of the machine's clock, told every second.
    /// let load = requests
    ///     .key_by(|request| request.0)
    ///     .window(TumblingProcessingTime::of(Duration::from_secs(10)))
    ///     .trigger(ContinuousProcessingTime::of(Duration::from_secs(1)))
    ///     .fold(|sum: &mut u64, request| *sum += request.1, |host, window, sum| (*host, window.start, sum));
    /// load.uid("load").discard();
    /// # env.build().unwrap();
    /// ```
    pub fn window<W: WindowAssigner<T>>(self, windows: W) -> WindowedStream<K, T, F, W> {
        Windowed::new(self, windows)
    }

    /// Windows of so many records of a key each. They need no event time; records of a window that does not become full are
    /// never seen.
    ///
    /// ```
    /// # use rivermark_stream::*;
    /// # let env = StreamEnv::new();
    /// # let readings = env.from_collection(vec![(7u32, 20i64), (7, 22)]).uid("readings");
    /// let sums = readings
    ///     .key_by(|reading| reading.0)
    ///     .count_window(10)
    ///     .fold(|sum: &mut i64, reading| *sum += reading.1, |sensor, _, sum| (*sensor, sum));
    /// sums.uid("sums").discard();
    /// # env.build().unwrap();
    /// ```
    pub fn count_window(self, rows: u64) -> WindowedStream<K, T, F, Global, On<Purging<Count>>> {
        self.window(Global).trigger(Purging::of(Count::of(rows)))
    }

    /// Windows of the last `size` records of a key (at first fewer), one at every `slide`th record. They need no event time.
    pub fn count_window_sliding(
        self,
        size: usize,
        slide: u64,
    ) -> WindowedStream<K, T, F, Global, Evicting<Count, EvictCount>> {
        self.window(Global)
            .trigger(Count::of(slide))
            .evictor(EvictCount::keep(size))
    }
}
