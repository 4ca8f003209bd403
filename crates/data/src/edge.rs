//! An edge: all that moving a batch between subtasks needs to know of its type. Built once per edge of the graph.

use crate::batch::{Batch, Typed};
use crate::codec::{PostcardCodec, RowCodec, WireCodec};
use crate::place::PlaceScatter;
use crate::record::{Data, Key};
use crate::router::{Route, Router};
use rivermark_types::{Failure, Timestamp, hash_key};
use std::marker::PhantomData;
use std::sync::Arc;

/// The type of the records on an edge, with its codecs and, on a keyed edge, its key.
pub trait EdgeType: Send + Sync {
    /// The name of the record type.
    fn type_name(&self) -> &'static str;
    /// The codec for the network.
    fn wire(&self) -> &dyn WireCodec;
    /// The codec for snapshots.
    fn rows(&self) -> &dyn RowCodec;
    /// The sending end of one subtask's exchange.
    fn scatter(&self, router: Router) -> Box<dyn Scatter>;
}

/// Where a scatter puts the batches it has ready: the channel, and the batch.
pub type Emit<'a> = dyn FnMut(usize, Batch) + 'a;

/// Deals records out to channels and packs them into batches. One per subtask and exchange; it keeps what is not full.
pub trait Scatter {
    /// Takes a batch; emits what became full. Each key is hashed once.
    fn push(&mut self, batch: Batch, emit: &mut Emit<'_>) -> Result<(), Failure>;
    /// Emits everything it keeps: before every mark, and when the task has nothing more at hand.
    fn flush(&mut self, emit: &mut Emit<'_>);
    /// Records it keeps.
    fn pending(&self) -> usize;
}

/// An edge of plain records `T`.
pub struct TypedEdge<T> {
    wire: PostcardCodec<T>,
    rows: Arc<dyn RowCodec>,
    /// What looks at a record to find its channel: a key selector or a partitioner.
    placed: Option<MakeScatter>,
}

type MakeScatter = Box<dyn Fn(Router) -> Box<dyn Scatter> + Send + Sync>;

impl<T: Data> TypedEdge<T> {
    /// An edge without a key.
    pub fn new(rows: Arc<dyn RowCodec>) -> TypedEdge<T> {
        TypedEdge {
            wire: PostcardCodec::default(),
            rows,
            placed: None,
        }
    }

    /// An edge whose records go where `place` says: to a channel below the number of channels it is told.
    pub fn custom(
        rows: Arc<dyn RowCodec>,
        place: impl Fn(&T, u32) -> u32 + Clone + Send + Sync + 'static,
    ) -> TypedEdge<T> {
        let placed: MakeScatter = Box::new(move |router| Box::new(PlaceScatter::new(place.clone(), router)));
        TypedEdge {
            wire: PostcardCodec::default(),
            rows,
            placed: Some(placed),
        }
    }

    /// An edge whose records go by key. The selector must give the same key for the same record, always.
    pub fn keyed<K: Key>(
        rows: Arc<dyn RowCodec>,
        selector: impl Fn(&T) -> K + Clone + Send + Sync + 'static,
    ) -> TypedEdge<T> {
        let keyed: MakeScatter = Box::new(move |router| {
            let channels = (0..router.channels).map(|_| Typed::default()).collect();
            Box::new(KeyScatter {
                selector: selector.clone(),
                channels,
                router,
                key: PhantomData,
            })
        });
        TypedEdge {
            wire: PostcardCodec::default(),
            rows,
            placed: Some(keyed),
        }
    }
}

impl<T: Data> EdgeType for TypedEdge<T> {
    fn type_name(&self) -> &'static str {
        std::any::type_name::<T>()
    }
    fn wire(&self) -> &dyn WireCodec {
        &self.wire
    }
    fn rows(&self) -> &dyn RowCodec {
        &*self.rows
    }
    fn scatter(&self, router: Router) -> Box<dyn Scatter> {
        match (&self.placed, router.route) {
            (Some(placed), Route::Key { .. } | Route::Custom) => placed(router),
            (_, Route::Broadcast) => Box::new(BroadcastScatter::<T> {
                pending: Typed::default(),
                router,
            }),
            _ => Box::new(TurnScatter::<T>::new(router)),
        }
    }
}

struct KeyScatter<T, K, F> {
    selector: F,
    channels: Vec<Typed<T>>,
    router: Router,
    key: PhantomData<fn() -> K>,
}

impl<T: Data, K: Key, F: Fn(&T) -> K> Scatter for KeyScatter<T, K, F> {
    fn push(&mut self, batch: Batch, emit: &mut Emit<'_>) -> Result<(), Failure> {
        let Route::Key {
            seed,
            max_parallelism,
        } = self.router.route
        else {
            return Err(Failure::bug("a keyed scatter without a key route"));
        };
        let mut rows = batch.take::<T>()?;
        let times = rows.times.take();
        let timed = times.is_some() || self.channels.iter().any(|pending| pending.times.is_some());
        let mut place = |value: T, time: Option<Timestamp>, timed: bool| {
            let hash = hash_key(seed, &(self.selector)(&value));
            let channel = self.router.channel_of(hash, max_parallelism);
            let pending = &mut self.channels[channel];
            // A loop of its own for records without times: no look at a column that is not there.
            if timed {
                pending.push(value, time);
            } else {
                pending.values.push(value);
            }
            if pending.len() >= self.router.batch_rows {
                leave(channel, pending, emit);
            }
        };
        match &times {
            None if timed => rows.values.drain(..).for_each(|value| place(value, None, true)),
            None => rows.values.drain(..).for_each(|value| place(value, None, false)),
            Some(times) => rows
                .values
                .drain(..)
                .zip(times)
                .for_each(|(value, time)| place(value, Some(*time), true)),
        }
        Typed { times, ..rows }.recycle();
        Ok(())
    }

    fn flush(&mut self, emit: &mut Emit<'_>) {
        for (channel, pending) in self.channels.iter_mut().enumerate() {
            if !pending.is_empty() {
                leave(channel, pending, emit);
            }
        }
    }

    fn pending(&self) -> usize {
        self.channels.iter().map(Typed::len).sum()
    }
}

/// A batch leaves. The next one gets as much room as this one used: at low rates batches are small, and so is their memory.
#[inline(never)]
fn leave<T: Data>(channel: usize, pending: &mut Typed<T>, emit: &mut Emit<'_>) {
    let next = Typed::with_room(pending.len());
    emit(channel, Batch::new(std::mem::replace(pending, next)));
}

/// Whatever does not look at a record: packs small batches together, sends each full one to the channel whose turn it is.
struct TurnScatter<T> {
    pending: Typed<T>,
    next: usize,
    router: Router,
}

impl<T> TurnScatter<T> {
    fn new(router: Router) -> TurnScatter<T> {
        let mut scatter = TurnScatter {
            pending: Typed::default(),
            next: 0,
            router,
        };
        if let Route::Shuffle { .. } = scatter.router.route {
            scatter.turn();
        }
        scatter
    }

    fn turn(&mut self) {
        let channels = self.router.channels;
        self.next = match &mut self.router.route {
            Route::Global => 0,
            Route::Shuffle { seed } => {
                *seed = seed.wrapping_add(1);
                (hash_key(SHUFFLE, seed).0 % channels as u64) as usize
            }
            _ => (self.next + 1) % channels,
        };
    }
}

/// Keeps draws apart from hashes of keys.
const SHUFFLE: u64 = 0x7368_7566_666c_6501;

impl<T: Data> Scatter for TurnScatter<T> {
    fn push(&mut self, batch: Batch, emit: &mut Emit<'_>) -> Result<(), Failure> {
        if self.pending.is_empty() && batch.len() >= self.router.batch_rows {
            emit(self.next, batch);
            self.turn();
            return Ok(());
        }
        self.pending.append(batch.take()?);
        if self.pending.len() >= self.router.batch_rows {
            self.flush(emit);
        }
        Ok(())
    }

    fn flush(&mut self, emit: &mut Emit<'_>) {
        if !self.pending.is_empty() {
            emit(self.next, Batch::new(self.pending.take()));
            self.turn();
        }
    }

    fn pending(&self) -> usize {
        self.pending.len()
    }
}

struct BroadcastScatter<T> {
    pending: Typed<T>,
    router: Router,
}

impl<T: Data> Scatter for BroadcastScatter<T> {
    fn push(&mut self, batch: Batch, emit: &mut Emit<'_>) -> Result<(), Failure> {
        self.pending.append(batch.take()?);
        if self.pending.len() >= self.router.batch_rows {
            self.flush(emit);
        }
        Ok(())
    }

    fn flush(&mut self, emit: &mut Emit<'_>) {
        if self.pending.is_empty() {
            return;
        }
        let batch = Batch::new(self.pending.take());
        for channel in 0..self.router.channels {
            emit(channel, batch.clone());
        }
    }

    fn pending(&self) -> usize {
        self.pending.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rivermark_types::MaxParallelism;

    struct NoRows;
    impl RowCodec for NoRows {
        fn encode(&self, _: &Batch) -> Result<Vec<u8>, Failure> {
            Err(Failure::bug("not in this test"))
        }
        fn decode(&self, _: &[u8]) -> Result<Batch, Failure> {
            Err(Failure::bug("not in this test"))
        }
    }

    fn run(edge: &dyn EdgeType, router: Router, batches: Vec<Typed<u64>>) -> Vec<Vec<u64>> {
        let mut channels = vec![Vec::new(); router.channels];
        let mut scatter = edge.scatter(router);
        let mut emit =
            |channel: usize, batch: Batch| channels[channel].extend(batch.take::<u64>().unwrap().values);
        for batch in batches {
            scatter.push(Batch::new(batch), &mut emit).unwrap();
        }
        scatter.flush(&mut emit);
        assert_eq!(scatter.pending(), 0);
        channels
    }

    #[test]
    fn each_key_keeps_its_channel_and_its_order() {
        let max_parallelism = MaxParallelism::new(128).unwrap();
        let edge = TypedEdge::keyed(Arc::new(NoRows), |v: &u64| v % 100);
        for batch_rows in [1, 7, 4096] {
            let router = Router::new(
                Route::Key {
                    seed: 3,
                    max_parallelism,
                },
                3,
                batch_rows,
            );
            let batches = (0..10)
                .map(|b| Typed::untimed((b * 500..(b + 1) * 500).collect()))
                .collect();
            let channels = run(&edge, router, batches);
            assert_eq!(channels.iter().map(Vec::len).sum::<usize>(), 5000);
            for (channel, rows) in channels.iter().enumerate() {
                assert!(rows.is_sorted(), "order kept");
                for row in rows {
                    let group = max_parallelism.group_of(hash_key(3, &(row % 100)));
                    assert_eq!(max_parallelism.subtask_of(group, 3) as usize, channel);
                }
            }
        }
    }

    #[test]
    fn shuffle_reaches_all_channels_and_global_one() {
        let edge = TypedEdge::<u64>::new(Arc::new(NoRows));
        let batches = || (0..200).map(|n| Typed::untimed(vec![n])).collect::<Vec<_>>();
        let shuffled = run(&edge, Router::new(Route::Shuffle { seed: 9 }, 3, 1), batches());
        assert_eq!(shuffled.iter().map(Vec::len).sum::<usize>(), 200);
        assert!(shuffled.iter().all(|rows| rows.len() > 40), "{shuffled:?}");
        let other = run(
            &edge,
            Router::new(Route::Shuffle { seed: 1 << 40 }, 3, 1),
            batches(),
        );
        assert_ne!(shuffled, other, "another seed, other draws");
        let global = run(&edge, Router::new(Route::Global, 3, 7), batches());
        assert_eq!(global, [(0..200).collect(), vec![], vec![]]);
    }

    #[test]
    fn a_partitioner_places_every_record_and_is_held_to_the_channels_there_are() {
        let edge = TypedEdge::custom(Arc::new(NoRows), |row: &u64, channels| {
            (*row as u32 / 10) % channels
        });
        for batch_rows in [1, 7, 4096] {
            let batches = (0..6)
                .map(|b| Typed::untimed((b * 10..(b + 1) * 10).collect()))
                .collect();
            let channels = run(&edge, Router::new(Route::Custom, 3, batch_rows), batches);
            let expected = |n: u64| {
                (n * 10..n * 10 + 10)
                    .chain((n + 3) * 10..(n + 4) * 10)
                    .collect::<Vec<_>>()
            };
            assert_eq!(channels, [expected(0), expected(1), expected(2)]);
        }
        let edge = TypedEdge::custom(Arc::new(NoRows), |_: &u64, channels| channels);
        let mut scatter = edge.scatter(Router::new(Route::Custom, 3, 1));
        let batch = Batch::new(Typed::untimed(vec![1u64]));
        let failure = scatter.push(batch, &mut |_, _| {}).unwrap_err();
        assert!(failure.message.contains("3 of 3"), "{failure}");
    }

    #[test]
    fn rebalance_deals_out_everything_and_broadcast_copies() {
        let edge = TypedEdge::<u64>::new(Arc::new(NoRows));
        let timed = |range: std::ops::Range<u64>| Typed {
            times: Some(vec![Timestamp(1); range.clone().count()]),
            values: range.collect(),
        };
        let rebalanced = run(
            &edge,
            Router::new(Route::Rebalance, 2, 10),
            vec![timed(0..25), timed(25..30), timed(30..45)],
        );
        let mut all: Vec<u64> = rebalanced.concat();
        assert!(rebalanced.iter().all(|rows| !rows.is_empty()));
        all.sort();
        assert_eq!(all, (0..45).collect::<Vec<_>>());
        let copies = run(&edge, Router::new(Route::Broadcast, 2, 10), vec![timed(0..25)]);
        assert_eq!(copies, vec![(0..25).collect::<Vec<_>>(); 2]);
    }
}
