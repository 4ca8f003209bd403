//! Faults that a scenario plants in a machine's files: slow, failing, half-done or lying operations.

use crate::draw::Draw;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

/// The operations of the file seam.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the method of its name")]
pub enum FileOp {
    Open,
    Read,
    CreateNew,
    Write,
    Sync,
    Rename,
    HardLink,
    RemoveFile,
    RemoveDir,
    CreateDir,
    SyncDir,
    List,
    Metadata,
}

impl FileOp {
    /// As it stands in errors and traces.
    pub fn name(self) -> &'static str {
        match self {
            FileOp::Open => "open",
            FileOp::Read => "read",
            FileOp::CreateNew => "create",
            FileOp::Write => "write",
            FileOp::Sync => "sync",
            FileOp::Rename => "rename to",
            FileOp::HardLink => "link to",
            FileOp::RemoveFile => "remove",
            FileOp::RemoveDir => "remove directory",
            FileOp::CreateDir => "create directory",
            FileOp::SyncDir => "sync directory",
            FileOp::List => "list",
            FileOp::Metadata => "look at",
        }
    }
}

/// One call of the file seam. Of a rename or link, `path` is the new name.
#[derive(Clone, Copy, Debug)]
pub struct FileCall<'a> {
    /// What is asked for.
    pub op: FileOp,
    /// Of what.
    pub path: &'a Path,
}

/// What is to go wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It takes this much longer.
    Delay(Duration),
    /// It fails and does nothing; of a write, any first part may be done.
    Fail(ErrorKind),
    /// It is done, but reported as failed.
    LoseReply(ErrorKind),
    /// A sync reports success and makes nothing durable. Other calls are not affected.
    LieAboutSync,
}

impl Fault {
    /// The kind as statistics name it.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Delay(_) => "file slow",
            Fault::Fail(_) => "file failed",
            Fault::LoseReply(_) => "file reply lost",
            Fault::LieAboutSync => "file sync lied",
        }
    }
}

/// Decides for a call whether something goes wrong with it.
pub(crate) type Rule = Box<dyn FnMut(&FileCall<'_>, &mut Draw) -> Option<Fault> + Send>;
