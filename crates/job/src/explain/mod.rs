//! Why a checkpoint or a recovery took as long as it did.
//!
//! Layout: [`record`] and [`recovery`] are what is kept (plain data), `note` and `noting_recovery` make it from what tasks, the
//! writer and the master have noted. [`crate::history`] keeps it.

mod note;
mod noting_recovery;
pub mod record;
pub mod recovery;

pub(crate) use noting_recovery::Recovering;
pub use record::{CallRecord, CheckpointRecord, StoreRecord, SubtaskRecord, TimeUse};
pub use recovery::{RecoveryRecord, RestoredSubtask};
