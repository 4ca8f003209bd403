//! Files in and out: text lines, CSV and JSON lines, plain or (in) gzip or zstd; Parquet (out).
//!
//! Layout: [`source`] ([`FileSource`]: which files and how they are cut into splits), `watch` (which files of a watched
//! directory are new), `bytes` (the bytes of a split, on the
//! I/O runtime), `unpack` (gzip, zstd), `records` (records out of bytes), [`reader`] (both together, in the slot); [`sink`] ([`FileSink`]),
//! `directory` (where it writes) and `part` (the names of its files), [`encode`] (what they are made of), `parquet` (a format of its own).
//! Non-goals: no object stores, no reading of columnar formats.

mod bytes;
mod directory;
pub mod encode;
#[cfg(feature = "parquet")]
pub mod parquet;
mod part;
pub mod reader;
mod records;
pub mod sink;
pub mod source;
mod unpack;
mod watch;

pub use sink::{FileSink, PartFile};
pub use source::{FileSource, FileSplit};

use rivermark_types::{ErrorKind, Failure};
use std::io;

/// What a file operation's failure means for the job. The error's own text names operation and path.
pub(crate) fn file_failure(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Failure::new(
                ErrorKind::External,
                format!("{error}: the disk is full: free space there, or write to another directory"),
            )
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Failure::new(
            ErrorKind::External,
            format!("{error}: give the job's user access to it"),
        ),
        _ => Failure::new(ErrorKind::External, error.to_string()),
    }
}
