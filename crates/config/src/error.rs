//! What can be wrong with a configuration. Every message names the place, the key and what to write instead.

use crate::origin::Origin;
use rivermark_types::{ErrorKind, Failure};

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file is not the YAML that is expected.
    #[error("{place}: {problem}")]
    Syntax {
        /// Which file, and the line if it is known.
        place: Origin,
        /// What is wrong, and what is expected.
        problem: String,
    },
    /// A `--set` without its `=`.
    #[error("--set {argument}: expected key=value, for example --set parallelism.default=2")]
    NotAnAssignment {
        /// What stood there.
        argument: String,
    },
    /// A key that nobody knows.
    #[error("{origin}: unknown key `{key}`{}", hint(.nearest))]
    UnknownKey {
        /// The key.
        key: String,
        /// Who set it.
        origin: Origin,
        /// The known key that was most likely meant.
        nearest: Option<String>,
    },
    /// A value that does not have the form its key asks for.
    #[error("{origin}: `{key}` is `{value}`, expected {expected}")]
    BadValue {
        /// The key, as it was spelled.
        key: String,
        /// Who set it.
        origin: Origin,
        /// The value as it was given (masked if the key may hold a secret).
        value: String,
        /// What is expected instead.
        expected: String,
    },
    /// A key that one source sets twice.
    #[error("{second}: `{key}` is set twice, first at {first}: keep one of the two")]
    Twice {
        /// The key.
        key: String,
        /// Where it stood first.
        first: Origin,
        /// Where it stands again.
        second: Origin,
    },
    /// Values that are fine one by one but not together.
    #[error("{origin}: {problem}")]
    Contradiction {
        /// Who set the value that cannot stay.
        origin: Origin,
        /// What is wrong, and what to change.
        problem: String,
    },
}

impl ConfigError {
    /// Always [`ErrorKind::Invalid`]: only the user can put a configuration right.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::new(error.kind(), error.to_string())
    }
}

fn hint(nearest: &Option<String>) -> String {
    match nearest {
        Some(key) => format!("; did you mean `{key}`?"),
        None => "; no known key is like it".into(),
    }
}
