//! Which channel a record takes: `key → hash → key group → channel`, or no key at all.

use rivermark_types::{KeyHash, MaxParallelism};

/// How an exchange deals out records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// All to the one channel there is.
    Forward,
    /// By the key group of the key.
    Key {
        /// The job's seed of the key hash.
        seed: u64,
        /// The number of key groups.
        max_parallelism: MaxParallelism,
    },
    /// Full batches in turn.
    Rebalance,
    /// Each batch to a channel drawn by chance.
    Shuffle {
        /// Where the draws of this exchange begin.
        seed: u64,
    },
    /// All to the first channel.
    Global,
    /// Where the edge's own function says.
    Custom,
    /// Every record to every channel.
    Broadcast,
}

/// The channels of one subtask's exchange.
#[derive(Clone, Debug)]
pub struct Router {
    /// How records are dealt out.
    pub route: Route,
    /// How many channels there are.
    pub channels: usize,
    /// Records after which a batch is full.
    pub batch_rows: usize,
    /// Key group → channel, so that a record costs no division; empty without keys.
    owners: Box<[u16]>,
}

impl Router {
    /// A router to `channels` consumers (at most 32,768), whose batches are full at `batch_rows` records.
    pub fn new(route: Route, channels: usize, batch_rows: usize) -> Router {
        let owners = match route {
            Route::Key { max_parallelism, .. } => (0..max_parallelism.get())
                .map(|group| {
                    max_parallelism.subtask_of(rivermark_types::KeyGroup(group), channels as u32) as u16
                })
                .collect(),
            _ => Box::default(),
        };
        Router {
            route,
            channels,
            batch_rows: batch_rows.max(1),
            owners,
        }
    }

    /// The channel of a key.
    #[inline]
    pub fn channel_of(&self, hash: KeyHash, max_parallelism: MaxParallelism) -> usize {
        usize::from(self.owners[max_parallelism.group_of(hash).0 as usize])
    }
}
