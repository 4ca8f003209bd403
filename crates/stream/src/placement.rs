//! Where things go: records to the subtasks of whatever follows, subtasks to the slots they run in.

use crate::sink::StreamSink;
use crate::stream::DataStream;
use rivermark_data::{Data, TypedEdge};
use rivermark_protocol::graph::Partitioning;
use rivermark_runtime::operators::Pipe;
use rivermark_state::batch_rows;
use std::sync::Arc;

/// How the records find the subtasks of whatever follows. Without any of these: straight on to the subtask with the same
/// number, or in turns where the parallelism changes. A `key_by` behind them takes precedence.
///
/// ```
/// # use rivermark_stream::*;
/// # let env = StreamEnv::new();
/// env.set_parallelism(2);
/// let numbers = env.sequence(1_000).uid("numbers");
/// numbers.clone().rebalance().map(|n| n + 1).discard().set_parallelism(4); // in turns, to all
/// numbers.clone().rescale().map(|n| n + 1).set_parallelism(4).discard(); // in turns, each to two of them
/// numbers.clone().shuffle().map(|n| n + 1).discard(); // by chance
/// numbers.clone().broadcast().map(|n| n + 1).discard(); // every record to every subtask
/// numbers.clone().global().map(|n| n + 1).discard(); // all to the first subtask
/// numbers.clone().forward().map(|n| n + 1).discard(); // straight on, or the graph is refused
/// numbers.partition_custom(|tens, subtasks| tens % subtasks, |n| (n / 10) as u32).discard(); // as you say
/// # env.build().unwrap();
/// ```
impl<T: Data, I: Data, P: Pipe<I, Out = T>> DataStream<T, I, P> {
    /// Deals the records out in turns to all subtasks of whatever follows, a batch at a time.
    pub fn rebalance(self) -> DataStream<T> {
        self.via(Partitioning::Rebalance, None)
    }

    /// Deals the records out in turns, each subtask to a few of those that follow, so that there are as few channels as can
    /// be: from 2 subtasks to 4, each to two; from 4 to 2, two to each.
    pub fn rescale(self) -> DataStream<T> {
        self.via(Partitioning::Rescale, None)
    }

    /// Sends each batch to a subtask drawn by chance.
    pub fn shuffle(self) -> DataStream<T> {
        self.via(Partitioning::Shuffle, None)
    }

    /// Sends every record to every subtask of whatever follows. See [`DataStream::connect_broadcast`] for an operator
    /// that keeps what it is told.
    pub fn broadcast(self) -> DataStream<T> {
        self.via(Partitioning::Broadcast, None)
    }

    /// Sends all records to the first subtask of whatever follows.
    pub fn global(self) -> DataStream<T> {
        self.via(Partitioning::Global, None)
    }

    /// Sends the records of each subtask to the one with the same number. Both sides need the same parallelism, else the
    /// graph is refused.
    pub fn forward(self) -> DataStream<T> {
        self.via(Partitioning::Forward, None)
    }

    /// Sends each record where `partition` says: it is given what `select` takes from the record and the number of subtasks
    /// that follow, and gives the number of one of them, from 0. A number that is too large ends the job with an error.
    ///
    /// This does not make a keyed stream: for state by key, use [`DataStream::key_by`].
    pub fn partition_custom<K, F, S>(self, partition: F, select: S) -> DataStream<T>
    where
        F: Fn(&K, u32) -> u32 + Clone + Send + Sync + 'static,
        S: Fn(&T) -> K + Clone + Send + Sync + 'static,
    {
        let place = move |row: &T, subtasks| partition(&select(row), subtasks);
        let edge = TypedEdge::custom(batch_rows::<T>(), place);
        self.via(Partitioning::Custom, Some(Arc::new(edge)))
    }
}

/// Which subtasks share a slot, and so a thread. Subtask i of all operators of a group runs in slot i of the group; an
/// operator that says nothing has the group of its inputs, or "default" if they have several.
impl<T: Data, I: Data, P: Pipe<I, Out = T>> DataStream<T, I, P> {
    /// Puts the operator, and those behind it that say nothing else, into a slot sharing group: operators of different
    /// groups never share a thread.
    ///
    /// ```
    /// # use rivermark_stream::*;
    /// # let env = StreamEnv::new();
    /// let numbers = env.sequence(1_000).uid("numbers");
    /// numbers.map(|n| n * n).slot_sharing_group("heavy").discard(); // two slots: "default" and "heavy"
    /// # env.build().unwrap();
    /// ```
    pub fn slot_sharing_group(self, group: &str) -> DataStream<T> {
        self.change(&format!(".slot_sharing_group({group:?})"), |draft| {
            draft.node.slot_group = Some(group.to_owned())
        })
    }

    /// The operator's code may block: each of its subtasks gets a slot, that is a thread, of its own, so that it holds up
    /// nobody else. It still takes its rows one by one, and barriers pass it only between two of them: a call that blocks for
    /// long holds up checkpoints, and a restart waits for it.
    ///
    /// ```
    /// # use rivermark_stream::*;
    /// # let env = StreamEnv::new();
    /// # fn ask_the_database(n: u64) -> u64 { n }
    /// let numbers = env.sequence(1_000).uid("numbers");
    /// numbers.map(|n| ask_the_database(n)).blocking().set_parallelism(8).discard();
    /// # env.build().unwrap();
    /// ```
    pub fn blocking(self) -> DataStream<T> {
        self.change(".blocking()", |draft| draft.node.blocking = true)
    }
}

impl StreamSink {
    /// Puts the sink into a slot sharing group; see [`DataStream::slot_sharing_group`].
    pub fn slot_sharing_group(self, group: &str) -> StreamSink {
        self.change(|draft| draft.node.slot_group = Some(group.to_owned()))
    }
}
