//! What a channel carries.

use crate::batch::Batch;
use rivermark_types::{Barrier, Timestamp};

/// Whether a channel takes part in the watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It counts.
    Active,
    /// It has had nothing for a while and is left out until it has.
    Idle,
}

/// A batch of records, or a mark among them. Their order in a channel is the order in which the consumer sees them.
#[derive(Clone, Debug)]
pub enum Element {
    /// Records.
    Batch(Batch),
    /// No record with an earlier time follows on this channel (but late ones).
    Watermark(Timestamp),
    /// The channel's part in the watermark changed.
    Status(Activity),
    /// What came before is in the checkpoint, what follows is not.
    Barrier(Barrier),
    /// Nothing follows.
    End,
}
