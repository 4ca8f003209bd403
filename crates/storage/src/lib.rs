//! Durable storage: write-once objects ([`Blob`]) and the one small value that is replaced by compare-and-set ([`Cas`]).
//!
//! Layout: [`blob`], [`cas`] and [`error`] are the seam and its contracts; [`memory`] and [`local`] implement it;
//! [`timely`] gives every call a deadline, [`mod@backoff`] tells when to repeat one; [`faulty`] wraps any implementation in
//! seeded faults, [`gated`] in a door for writes; [`conformance`] checks any implementation against the contracts; [`checksum`]
//! has the digests. Non-goals: it knows no checkpoints, manifests or formats, retries nothing
//! and caches nothing.

pub mod backoff;
pub mod blob;
pub mod cas;
pub mod checksum;
pub mod conformance;
mod cut;
pub mod error;
pub mod faulty;
pub mod gated;
mod in_doubt;
pub mod local;
pub mod memory;
pub mod timely;

pub use backoff::backoff;
pub use blob::{Blob, BlobEntry, BlobKey};
pub use cas::{Cas, CasOutcome, Head};
pub use checksum::Digest;
pub use error::{StorageError, StorageErrorKind};
pub use faulty::{Fault, FaultKind, FaultPlan, Faults, Faulty, Operation};
pub use gated::{Door, Gated};
pub use in_doubt::InDoubt;
pub use local::{LocalBlob, LocalCas};
pub use memory::{MemoryBlob, MemoryCas};
pub use timely::Timely;
