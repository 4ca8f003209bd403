//! How storage fails.

use rivermark_types::{ErrorKind, Failure};
use std::io;

/// What follows from a storage error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StorageErrorKind {
    /// Passing: the same call may succeed later.
    Retryable,
    /// There is nothing under this key.
    NotFound,
    /// What is there is not what was written.
    Damaged,
    /// No space is left; passing once somebody makes room.
    Full,
    /// The key holds another content already.
    Taken,
    /// The call can never succeed as it is: a bad key, a missing permission.
    Invalid,
}

/// An error of a store. For writes it says *why*, never *whether* the write happened: see [`crate::Blob::put`] and
/// [`crate::CasOutcome`] for that.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StorageError {
    kind: StorageErrorKind,
    message: String,
    #[source]
    source: Option<io::Error>,
}

impl StorageError {
    /// An error of a kind, with the one line that names the object.
    pub fn new(kind: StorageErrorKind, message: impl Into<String>) -> StorageError {
        StorageError {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// Passing trouble.
    pub fn retryable(message: impl Into<String>) -> StorageError {
        StorageError::new(StorageErrorKind::Retryable, message)
    }

    /// Nothing is there.
    pub fn not_found(message: impl Into<String>) -> StorageError {
        StorageError::new(StorageErrorKind::NotFound, message)
    }

    /// What is there is not what was written.
    pub fn damaged(message: impl Into<String>) -> StorageError {
        StorageError::new(StorageErrorKind::Damaged, message)
    }

    /// The call can never succeed.
    pub fn invalid(message: impl Into<String>) -> StorageError {
        StorageError::new(StorageErrorKind::Invalid, message)
    }

    /// What follows from it.
    pub fn kind(&self) -> StorageErrorKind {
        self.kind
    }
}

impl From<io::Error> for StorageError {
    /// An error of the file system; its text names the path already.
    fn from(error: io::Error) -> StorageError {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => StorageErrorKind::NotFound,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                StorageErrorKind::Full
            }
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::InvalidFilename
            | io::ErrorKind::Unsupported => StorageErrorKind::Invalid,
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => StorageErrorKind::Damaged,
            _ => StorageErrorKind::Retryable,
        };
        let message = match kind {
            StorageErrorKind::Full => format!("{error}: free space there"),
            _ => error.to_string(),
        };
        StorageError {
            kind,
            message,
            source: Some(error),
        }
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Failure {
        let kind = match error.kind {
            StorageErrorKind::Retryable | StorageErrorKind::Full => ErrorKind::Retry,
            // Who asks for an object has seen its name in a decision: it should be there, and whole.
            StorageErrorKind::NotFound | StorageErrorKind::Damaged => ErrorKind::Damaged,
            StorageErrorKind::Invalid => ErrorKind::Invalid,
            // A key holds its writer's generation and attempt: nobody else can have written it.
            StorageErrorKind::Taken => ErrorKind::Bug,
        };
        Failure::new(kind, error.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_may_pass_and_a_damaged_object_may_not() {
        let full = StorageError::from(io::Error::new(io::ErrorKind::StorageFull, "/store/a: no space"));
        assert_eq!(full.kind(), StorageErrorKind::Full);
        assert_eq!(Failure::from(full).kind, ErrorKind::Retry);
        assert_eq!(
            Failure::from(StorageError::damaged("a is damaged")).kind,
            ErrorKind::Damaged
        );
    }
}
