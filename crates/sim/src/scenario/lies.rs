//! The syncs that the engine's promises rest on, by place; each can be left out, and then a seed must fail.
//!
//! A place is told by the path and by what the same writer did before: one name in the job's directory is synced for
//! different reasons. [`SyncSite::Other`] catches a sync that has no place here yet: a run that meets one fails.

use super::book::Book;
use super::job::OUTPUT_DIR;
use crate::{FileCall, FileOp, Machine};
use rivermark_job::history::HISTORY;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Where a job of the simulator keeps its state.
pub(crate) const STATE_DIR: &str = "/state";
/// The directory of the simulated job in it.
pub(crate) const JOB_DIR: &str = "/state/sim";
const OBJECTS_DIR: &str = "/state/sim/objects";

/// The syncs there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SyncSite {
    /// An object's file, before it gets its name.
    ObjectFile,
    /// The folders between an object and the root of the objects.
    ObjectFolders,
    /// The root of the objects, which names the folders.
    ObjectRoot,
    /// A decision's file, before it gets its name.
    DecisionFile,
    /// The job's directory after a decision got its name.
    DecisionName,
    /// The job's directory after a decision was read that its writer may not have made durable.
    FoundDecision,
    /// The directories above the job's, when it is made.
    ParentDirs,
    /// The job's directory when the root of its objects is made. The next decision syncs it again, so nothing hangs on it.
    JobDir,
    /// A file of the sink, before it is listed as prepared.
    PartFile,
    /// The sink's directory, before parts are listed and after they got their names.
    OutputDir,
    /// A record of a checkpoint or a recovery, or a folder of these. Nothing hangs on them.
    History,
    /// A sync that is not known here.
    Other,
}

impl SyncSite {
    /// Those that something hangs on.
    pub const NEEDED: [SyncSite; 9] = [
        SyncSite::ObjectFile,
        SyncSite::ObjectFolders,
        SyncSite::ObjectRoot,
        SyncSite::DecisionFile,
        SyncSite::DecisionName,
        SyncSite::FoundDecision,
        SyncSite::ParentDirs,
        SyncSite::PartFile,
        SyncSite::OutputDir,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            SyncSite::ObjectFile => "object-file",
            SyncSite::ObjectFolders => "object-folders",
            SyncSite::ObjectRoot => "object-root",
            SyncSite::DecisionFile => "decision-file",
            SyncSite::DecisionName => "decision-name",
            SyncSite::FoundDecision => "found-decision",
            SyncSite::ParentDirs => "parent-dirs",
            SyncSite::JobDir => "job-dir",
            SyncSite::PartFile => "part-file",
            SyncSite::OutputDir => "output-dir",
            SyncSite::History => "history",
            SyncSite::Other => "other",
        }
    }

    /// The site of this name.
    pub fn of_name(name: &str) -> Option<SyncSite> {
        let mut all = SyncSite::NEEDED
            .into_iter()
            .chain([SyncSite::JobDir, SyncSite::History]);
        all.find(|site| site.name() == name)
    }
}

impl fmt::Display for SyncSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Follows the calls and tells the site of each sync.
#[derive(Default)]
struct Follower {
    process: u64,
    /// The last call in the job's directory that tells why it is synced next.
    found: Option<FileOp>,
}

impl Follower {
    fn site(&mut self, call: &FileCall<'_>, process: u64) -> Option<SyncSite> {
        if process != self.process {
            (self.process, self.found) = (process, None);
        }
        let (path, job, objects) = (call.path, Path::new(JOB_DIR), Path::new(OBJECTS_DIR));
        if path.parent() == Some(job) && matches!(call.op, FileOp::Open | FileOp::HardLink) {
            self.found = Some(call.op);
        }
        let site = match call.op {
            FileOp::Sync | FileOp::SyncDir if path.starts_with(job.join(HISTORY)) => SyncSite::History,
            FileOp::Sync if path.starts_with(objects) => SyncSite::ObjectFile,
            FileOp::Sync if path.parent() == Some(job) => SyncSite::DecisionFile,
            FileOp::Sync if path.starts_with(OUTPUT_DIR) => SyncSite::PartFile,
            FileOp::Sync => SyncSite::Other,
            FileOp::SyncDir if path == objects => SyncSite::ObjectRoot,
            FileOp::SyncDir if path.starts_with(objects) => SyncSite::ObjectFolders,
            FileOp::SyncDir if path == job => match self.found {
                None => SyncSite::JobDir,
                Some(FileOp::HardLink) => SyncSite::DecisionName,
                Some(_) => SyncSite::FoundDecision,
            },
            FileOp::SyncDir if path == Path::new(OUTPUT_DIR) => SyncSite::OutputDir,
            FileOp::SyncDir if job.starts_with(path) => SyncSite::ParentDirs,
            FileOp::SyncDir => SyncSite::Other,
            _ => return None,
        };
        Some(site)
    }
}

/// From now on the syncs of a site report success and do nothing. An unknown sync is noted as a fault of its own.
pub(crate) fn plant_lies(machine: &Machine, book: &Arc<Book>, lie: Option<SyncSite>) {
    let (mut follower, book) = (Follower::default(), book.clone());
    machine.plant(move |call, _| {
        let process = book.processes.load(Ordering::Relaxed);
        let site = follower.site(call, process)?;
        if site == SyncSite::Other {
            book.fault(UNKNOWN_SYNC);
        }
        (Some(site) == lie).then_some(crate::Fault::LieAboutSync)
    });
}

/// How a sync without a site is noted.
pub(crate) const UNKNOWN_SYNC: &str = "unknown sync";
