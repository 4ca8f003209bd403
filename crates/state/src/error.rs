//! What can go wrong with keyed state, and what follows from it.

use rivermark_storage::{StorageError, StorageErrorKind};
use rivermark_types::{ErrorKind, Failure};

/// An error of keyed state.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Two handles would share one table.
    #[error(
        "state {name:?} of operator {operator:?} is declared twice: give each state of an operator its own name"
    )]
    DeclaredTwice {
        /// The operator's uid.
        operator: String,
        /// The state's name.
        name: String,
    },
    /// The snapshot holds a state of this name, but of another kind.
    #[error(
        "state {name:?} of operator {operator:?} was a {stored} state in the snapshot and is declared as a \
         {declared} state: declare the new one under another name, or start without the snapshot"
    )]
    KindChanged {
        /// The operator's uid.
        operator: String,
        /// The state's name.
        name: String,
        /// The kind in the snapshot.
        stored: String,
        /// The kind in the program.
        declared: String,
    },
    /// The snapshot holds states that the operator did not declare: starting would lose them silently.
    #[error(
        "the snapshot holds state that operator {operator:?} no longer declares: {names}; declare it again, or start \
         without the snapshot"
    )]
    Unclaimed {
        /// The operator's uid.
        operator: String,
        /// Their names, as a list for people.
        names: String,
    },
    /// Bytes of a snapshot that do not decode as what they claim to be.
    #[error("state {name:?} of operator {operator:?} cannot be read from the snapshot: {reason}")]
    Undecodable {
        /// The operator's uid.
        operator: String,
        /// The state's name.
        name: String,
        /// What the codec said.
        reason: String,
    },
    /// Bytes that are not a page of rows of the expected type.
    #[error("a page of rows cannot be read: {0}")]
    Page(String),
    /// A value that no encoding of the snapshot format can hold.
    #[error("{type_name} cannot be written to a snapshot: {reason}")]
    Unwritable {
        /// The type of the values.
        type_name: &'static str,
        /// What the encodings said.
        reason: String,
    },
    /// An object of a snapshot is not what was written.
    #[error("{object} is damaged: {reason}")]
    Damaged {
        /// The object's key, or what else names it.
        object: String,
        /// What was expected, and what is there.
        reason: String,
    },
    /// An object of a snapshot was written by a newer version.
    #[error(
        "{object} has format {found}, this version reads up to {supported}: use the version that wrote it, or a newer one"
    )]
    NewerFormat {
        /// The object's key, or what else names it.
        object: String,
        /// Its format.
        found: u32,
        /// The newest format that this version reads.
        supported: u32,
    },
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl StateError {
    /// What follows from it for the job.
    pub fn kind(&self) -> ErrorKind {
        match self {
            StateError::DeclaredTwice { .. }
            | StateError::KindChanged { .. }
            | StateError::Unclaimed { .. }
            | StateError::Undecodable { .. }
            | StateError::NewerFormat { .. } => ErrorKind::Invalid,
            StateError::Page(_) | StateError::Damaged { .. } => ErrorKind::Damaged,
            StateError::Unwritable { .. } => ErrorKind::Data,
            StateError::Storage(error) => match error.kind() {
                StorageErrorKind::Retryable | StorageErrorKind::Full => ErrorKind::Retry,
                StorageErrorKind::Taken => ErrorKind::Bug,
                StorageErrorKind::NotFound | StorageErrorKind::Damaged => ErrorKind::Damaged,
                StorageErrorKind::Invalid => ErrorKind::Invalid,
            },
        }
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Failure {
        Failure::new(error.kind(), error.to_string())
    }
}
