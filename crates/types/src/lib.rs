//! The words every other crate shares: ids, time, the key hash, key groups, the barrier, kinds of failure.
//!
//! Layout: [`ids`] (who), [`time`] (when), [`hash`] and [`key_group`] (key → hash → key group → subtask),
//! [`barrier`] (what cuts the stream), [`failure`] (how things go wrong and what follows from it).
//! Non-goals: nothing here does I/O, knows a clock, or depends on another crate of ours.

pub mod barrier;
pub mod failure;
pub mod hash;
pub mod ids;
pub mod key_group;
pub mod time;

pub use barrier::{Barrier, SnapshotKind};
pub use failure::{ErrorKind, Failure, Result};
pub use hash::{KeyError, KeyHash, check_key, hash_key};
pub use ids::{
    Attempt, ChannelIndex, CheckpointId, EdgeId, Generation, InputId, JobName, NodeId, SlotId, SubtaskId,
    Uid, VertexId, subtask_name,
};
pub use key_group::{KeyGroup, KeyGroupRange, MaxParallelism};
pub use time::{Millis, Timestamp};
