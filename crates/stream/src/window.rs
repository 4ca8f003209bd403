//! Windows on keyed streams.

use crate::draft::Origin;
use crate::keyed::KeyedStream;
use crate::stream::{DataStream, operator};
use rivermark_data::{Data, Key};
use rivermark_runtime::operators::window::LATE_PORT;
use rivermark_runtime::operators::{Aggregate, Fold, LateRows, Tumbling, Window, WindowOperator};
use std::any::type_name;

/// A keyed stream cut into windows. Late records are dropped and counted.
#[must_use = "a stream that leads to no sink does nothing"]
pub struct WindowedStream<K, T, F> {
    stream: KeyedStream<K, T, F>,
    windows: Tumbling,
}

impl<K, T, F> WindowedStream<K, T, F>
where
    K: Key,
    T: Data,
    F: Fn(&T) -> K + Clone + Send + Sync + 'static,
{
    pub(crate) fn new(stream: KeyedStream<K, T, F>, windows: Tumbling) -> Self {
        WindowedStream { stream, windows }
    }

    /// Makes one result of the records of each key and window, emitted when the watermark reaches the window's end.
    pub fn aggregate<A: Aggregate<K, Input = T>>(self, aggregate: A) -> DataStream<A::Output> {
        let windows = self.windows;
        let select = self.stream.selector();
        let make = move || WindowOperator::new(select.clone(), windows, aggregate.clone(), LateRows::Drop);
        self.stream.stateful("window", operator(make))
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
    ///     .window(Tumbling::of(Duration::from_secs(60)))
    ///     .fold(|max: &mut i64, row| *max = row.2.max(*max), |sensor, window, max| (*sensor, window.start, max))
    ///     .uid("highest");
    /// highest.discard();
    /// # env.build().unwrap();
    /// ```
    pub fn fold<A, O, Add, Finish>(self, add: Add, finish: Finish) -> DataStream<O>
    where
        A: Data + Default,
        O: Data,
        Add: Fn(&mut A, T) + Clone + Send + Sync + 'static,
        Finish: Fn(&K, Window, A) -> O + Clone + Send + Sync + 'static,
    {
        self.aggregate(Fold::new(add, finish))
    }

    /// Keeps late records apart instead of dropping them: results then come with a second stream, of the late records.
    pub fn late_output(self) -> WindowedWithLate<K, T, F> {
        WindowedWithLate { windowed: self }
    }
}

/// A keyed stream cut into windows, whose late records become a stream of their own.
#[must_use = "a stream that leads to no sink does nothing"]
pub struct WindowedWithLate<K, T, F> {
    windowed: WindowedStream<K, T, F>,
}

impl<K, T, F> WindowedWithLate<K, T, F>
where
    K: Key,
    T: Data,
    F: Fn(&T) -> K + Clone + Send + Sync + 'static,
{
    /// The results, and the late records. Name, uid and parallelism belong to the results.
    pub fn aggregate<A: Aggregate<K, Input = T>>(
        self,
        aggregate: A,
    ) -> (DataStream<A::Output>, DataStream<T>) {
        let WindowedStream { stream, windows } = self.windowed;
        let select = stream.selector();
        let make = move || WindowOperator::new(select.clone(), windows, aggregate.clone(), LateRows::Emit);
        let types = vec![type_name::<A::Output>().to_owned(), type_name::<T>().to_owned()];
        let node = stream.add_stateful("window", operator(make), types);
        let late = Origin {
            port: LATE_PORT,
            ..Origin::of(node)
        };
        let draft = stream.draft();
        (
            DataStream::of_node(draft, node),
            DataStream::new(draft.clone(), vec![late]),
        )
    }

    /// The same with two closures; see [`WindowedStream::fold`].
    pub fn fold<A, O, Add, Finish>(self, add: Add, finish: Finish) -> (DataStream<O>, DataStream<T>)
    where
        A: Data + Default,
        O: Data,
        Add: Fn(&mut A, T) + Clone + Send + Sync + 'static,
        Finish: Fn(&K, Window, A) -> O + Clone + Send + Sync + 'static,
    {
        self.aggregate(Fold::new(add, finish))
    }
}
