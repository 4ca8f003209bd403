//! What a job starts from, and where copies of checkpoints are kept for restarts inside the process.

use super::{Reader, Typed};

/// What the job starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryConfig {
    /// A checkpoint, as `--from` names it.
    pub path: Option<String>,
    /// Whether state that no operator claims is dropped instead of being an error.
    pub ignore_unclaimed_state: bool,
    /// Copies that a restart inside the process reads instead of the store.
    pub local_copies: Option<LocalCopiesConfig>,
}

/// Copies of checkpoints on this machine's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalCopiesConfig {
    /// The folder that they go to.
    pub dir: String,
    /// The bytes of all of them together.
    pub limit: u64,
}

pub(super) fn read(r: &mut Reader<'_>, scratch_dirs: &[String]) -> RecoveryConfig {
    RecoveryConfig {
        path: r.text("execution.state-recovery.path"),
        ignore_unclaimed_state: r.bool("execution.state-recovery.ignore-unclaimed-state"),
        local_copies: local_copies(r, scratch_dirs),
    }
}

/// `None`: no copies are made. All keys are read whichever is set: a bad value is an error even where it has no effect.
fn local_copies(r: &mut Reader<'_>, scratch_dirs: &[String]) -> Option<LocalCopiesConfig> {
    const DIRS: &str = "execution.checkpointing.local-backup.dirs";
    let made = match r.typed("execution.checkpointing.local-backup.enabled") {
        Some(Typed::Bool(made)) => made,
        // To read copies is to want them made.
        _ => true,
    };
    let wanted = r.bool("execution.state-recovery.from-local") && made;
    let dirs = match r.typed(DIRS) {
        Some(Typed::List(dirs)) => {
            if dirs.is_empty() {
                r.refuse(
                    DIRS,
                    "the list is empty: name at least one folder, or leave it unset",
                );
            }
            dirs
        }
        _ => scratch_dirs.to_vec(),
    };
    let limit = r.memory("rivermark.checkpoint.max-local-backup-bytes");
    let dir = dirs.into_iter().next()?;
    wanted.then_some(LocalCopiesConfig { dir, limit })
}
