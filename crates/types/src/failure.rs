//! How things go wrong, and what follows from it.

use std::fmt;

/// What kind of thing went wrong. The job decides by this alone whether to restart (see `docs/walks/restart.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Passing: trying again may help (a store that is away, a connection that broke).
    Retry,
    /// A newer generation owns the job: this process must stop at once and touch nothing.
    Fenced,
    /// The user must change something (configuration, graph, a checkpoint of another job): trying again cannot help.
    Invalid,
    /// Stored bytes are not what was written. Going back to older ones may help, but whether what has been published
    /// since may be published again is the user's decision.
    Damaged,
    /// A record that cannot be processed: the user's data.
    Data,
    /// Another system refused or failed in a way that may pass.
    External,
    /// A bug, ours or the user's: a panic, a broken invariant.
    Bug,
}

/// An error on its way to the job: a kind, one line for people, and the cause if there is one.
#[derive(Debug)]
pub struct Failure {
    /// What follows from it.
    pub kind: ErrorKind,
    /// One line that says what happened, where, and what to do.
    pub message: String,
    /// The error underneath, if any.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of everything that can fail a job.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// A failure of a kind, with its one line.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Failure {
        Failure {
            kind,
            message: message.into(),
            source: None,
        }
    }
    /// The user must change something.
    pub fn invalid(message: impl Into<String>) -> Failure {
        Failure::new(ErrorKind::Invalid, message)
    }
    /// A record that cannot be processed.
    pub fn data(message: impl Into<String>) -> Failure {
        Failure::new(ErrorKind::Data, message)
    }
    /// Another system failed.
    pub fn external(message: impl Into<String>) -> Failure {
        Failure::new(ErrorKind::External, message)
    }
    /// A broken invariant.
    pub fn bug(message: impl Into<String>) -> Failure {
        Failure::new(ErrorKind::Bug, message)
    }
    /// The same failure with the error underneath kept.
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
        self.source = Some(source.into());
        self
    }
    /// The same failure with its place put in front: `"map/3: ..."`.
    pub fn at(mut self, place: impl fmt::Display) -> Failure {
        self.message = format!("{place}: {}", self.message);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}
