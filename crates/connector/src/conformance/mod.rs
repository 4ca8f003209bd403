//! What every connector is tested with: the promises of the traits, broken into by crashes, repetitions and zombies.
//!
//! Layout: [`sink`] and [`source`](mod@source). Checks return a [`Violation`] that names the promise that was broken, so that a test is
//! one line. A connector to a server runs the same checks against the real one.

pub mod sink;
pub mod source;

pub use sink::{SinkBench, check_sink};
pub use source::check_source;

use rivermark_runtime::SubtaskInfo;
use rivermark_types::{
    Attempt, Failure, Generation, JobName, MaxParallelism, NodeId, SubtaskId, Uid, VertexId,
};
use std::fmt;

/// A broken promise.
#[derive(Debug)]
pub struct Violation(String);

impl Violation {
    fn new(scenario: &str, what: impl fmt::Display) -> Violation {
        Violation(format!("{scenario}: {what}"))
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Violation {}

/// An unexpected error is a broken promise too.
fn must<T>(scenario: &str, result: Result<T, Failure>) -> Result<T, Violation> {
    result.map_err(|failure| Violation::new(scenario, format!("failed: {failure}")))
}

fn equal<T: PartialEq + fmt::Debug>(
    scenario: &str,
    what: &str,
    found: &T,
    expected: &T,
) -> Result<(), Violation> {
    if found == expected {
        return Ok(());
    }
    Err(Violation::new(
        scenario,
        format!("{what}: found {found:?}, expected {expected:?}"),
    ))
}

/// A subtask of a job that exists for the test only.
pub fn subtask_info(generation: u64, attempt: u32, index: u32, parallelism: u32) -> SubtaskInfo {
    SubtaskInfo {
        job: JobName::from("conformance"),
        generation: Generation(generation),
        attempt: Attempt(attempt),
        subtask: SubtaskId {
            vertex: VertexId(0),
            index,
        },
        parallelism,
        max_parallelism: MaxParallelism::default_for(parallelism),
        node: NodeId(0),
        uid: Some(Uid::from("under-test")),
        name: "under test".to_owned(),
    }
}
