//! Why a checkpoint or a recovery took as long as it did.
//!
//! Layout: [`record`] and [`recovery`] are what is kept (plain data), `note` and `noting_recovery` make it from what tasks, the
//! writer and the master have noted; [`crate::history`] keeps it. From a record alone, and so for whoever reads it: `path`
//! finds the critical path, `reason` why a piece of it took its time, `sentence` and `table` tell it.

mod note;
mod noting_recovery;
mod path;
mod reason;
pub mod record;
pub mod recovery;
mod sentence;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use noting_recovery::Recovering;
pub use path::{Piece, Stage, critical_path};
pub use reason::{Reason, Skew};
pub use record::{CallRecord, CheckpointRecord, StoreRecord, SubtaskRecord, TimeUse};
pub use recovery::{RecoveryRecord, RestoredSubtask, explain_recovery};
pub use sentence::{Explanation, explain};
pub use table::{checkpoint_table, recovery_table};
