//! Ids. Each is a type of its own, so that a subtask cannot be handed in where a vertex belongs.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($repr:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $repr);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

number_id!(
    /// A checkpoint or savepoint of one job, counted from 1 and never reused, not even after a restore.
    CheckpointId(u64), ""
);
number_id!(
    /// One start of a job's process. Each start takes the next number by compare-and-set, which fences the one before.
    Generation(u64), ""
);
number_id!(
    /// One deployment of the whole job inside a generation, counted from 1; each restart takes the next.
    Attempt(u32), ""
);
number_id!(
    /// An operator of the user's graph (before chaining).
    NodeId(u32), "n"
);
number_id!(
    /// A chain of operators that runs as one task.
    VertexId(u32), "v"
);
number_id!(
    /// An exchange between two vertices.
    EdgeId(u32), "e"
);
number_id!(
    /// A place where one subtask of each vertex may run; one thread each.
    SlotId(u32), "slot "
);
number_id!(
    /// Which input of a multi-input operator (0 for all with one).
    InputId(u8), "input "
);
number_id!(
    /// The position of a channel in its task's list of input channels.
    ChannelIndex(u32), "channel "
);

/// One parallel instance of a vertex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SubtaskId {
    /// The vertex.
    pub vertex: VertexId,
    /// Counted from 0 to parallelism - 1.
    pub index: u32,
}

impl fmt::Display for SubtaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.vertex, self.index)
    }
}

/// What people call a subtask, by the name of its vertex or operator: `map/3`. A name that ends with a slash, a directory's,
/// does not get a second one.
pub fn subtask_name(name: &str, index: u32) -> String {
    format!("{}/{index}", name.trim_end_matches('/'))
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// The name of a job (`pipeline.name`): what its state belongs to, over all its runs.
    JobName
);
text_id!(
    /// The user's stable name of an operator: what its state is found by after a change of the graph.
    Uid
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subtask_is_called_by_its_vertex_and_index() {
        assert_eq!(subtask_name("map", 3), "map/3");
        assert_eq!(subtask_name("map -> file /tmp/out/", 0), "map -> file /tmp/out/0");
    }
}
