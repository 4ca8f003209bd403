//! An edge: all that moving a batch between subtasks needs to know of its type. Built once per edge of the graph.

use crate::batch::{Batch, Typed};
use crate::codec::{PostcardCodec, RowCodec, WireCodec};
use crate::record::{Data, Key};
use crate::router::{Route, Router};
use rivermark_types::{Failure, hash_key};
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
    keyed: Option<MakeScatter>,
}

type MakeScatter = Box<dyn Fn(Router) -> Box<dyn Scatter> + Send + Sync>;

impl<T: Data> TypedEdge<T> {
    /// An edge without a key.
    pub fn new(rows: Arc<dyn RowCodec>) -> TypedEdge<T> {
        TypedEdge {
            wire: PostcardCodec::default(),
            rows,
            keyed: None,
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
            keyed: Some(keyed),
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
        match (&self.keyed, router.route) {
            (Some(keyed), Route::Key { .. }) => keyed(router),
            (_, Route::Broadcast) => Box::new(BroadcastScatter::<T> {
                pending: Typed::default(),
                router,
            }),
            _ => Box::new(TurnScatter::<T> {
                pending: Typed::default(),
                next: 0,
                router,
            }),
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
        let rows = batch.take::<T>()?;
        let full = self.router.batch_rows;
        let mut place = |value: T, time| {
            let hash = hash_key(seed, &(self.selector)(&value));
            let channel = self.router.channel_of(hash, max_parallelism);
            let pending = &mut self.channels[channel];
            pending.push(value, time);
            if pending.len() >= full {
                let next = Typed {
                    values: Vec::with_capacity(full),
                    times: None,
                };
                emit(channel, Batch::new(std::mem::replace(pending, next)));
            }
        };
        match rows.times {
            None => rows.values.into_iter().for_each(|value| place(value, None)),
            Some(times) => rows
                .values
                .into_iter()
                .zip(times)
                .for_each(|(value, time)| place(value, Some(time))),
        }
        Ok(())
    }

    fn flush(&mut self, emit: &mut Emit<'_>) {
        for (channel, pending) in self.channels.iter_mut().enumerate() {
            if !pending.is_empty() {
                emit(channel, Batch::new(pending.take()));
            }
        }
    }

    fn pending(&self) -> usize {
        self.channels.iter().map(Typed::len).sum()
    }
}

/// Forward and rebalance: packs small batches together, sends each full one to the next channel.
struct TurnScatter<T> {
    pending: Typed<T>,
    next: usize,
    router: Router,
}

impl<T: Data> Scatter for TurnScatter<T> {
    fn push(&mut self, batch: Batch, emit: &mut Emit<'_>) -> Result<(), Failure> {
        if self.pending.is_empty() && batch.len() >= self.router.batch_rows {
            emit(self.next, batch);
            self.next = (self.next + 1) % self.router.channels;
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
            self.next = (self.next + 1) % self.router.channels;
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
    use rivermark_types::{MaxParallelism, Timestamp};

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
