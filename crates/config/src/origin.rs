//! Where a value comes from. A value of a later origin beats one of an earlier.

use std::fmt;

/// Who set a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody: the default of its key.
    Default,
    /// A configuration file.
    File {
        /// The file, as the user named it.
        name: String,
        /// The line, counted from 1, where it could be found.
        line: Option<usize>,
    },
    /// The command line: `--set key=value`.
    Set,
    /// The job's own code.
    Code,
}

impl Origin {
    /// Whether a value from here may replace one from `earlier`.
    pub(crate) fn beats(&self, earlier: &Origin) -> bool {
        self.rank() >= earlier.rank()
    }

    fn rank(&self) -> u8 {
        match self {
            Origin::Default => 0,
            Origin::File { .. } => 1,
            Origin::Set => 2,
            Origin::Code => 3,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File {
                name,
                line: Some(line),
            } => write!(f, "{name}:{line}"),
            Origin::File { name, line: None } => f.write_str(name),
            Origin::Set => f.write_str("--set"),
            Origin::Code => f.write_str("job code"),
        }
    }
}
