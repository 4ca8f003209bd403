//! The JobMaster: takes a generation of a job, deploys it, drives its checkpoints, recovers it, ends it.
//!
//! Layout, in the order of a run: [`spec`] (a job to start), [`storage`] (where its state is), [`claim`] (the generation),
//! `restore` (what a manifest gives back), `master` (the actor), `running` (an attempt from deployment to end), `acting`
//! (what the coordinator orders), `checkpoints` (a checkpoint's parts, and its decision), `sources`, `sinks` (their
//! coordination), `cleaner` (objects nobody needs), [`history`] (what is kept to explain slow checkpoints) and [`explain`], [`handle`], [`stats`] and [`metrics`] (the job from outside), [`wording`] (numbers for people).
//! Non-goals: it decides nothing about alignment, checkpoints or restarts (`protocol` does), and moves no record.

mod acting;
mod attempt;
mod checkpoints;
pub mod claim;
mod cleaner;
pub mod explain;
pub mod handle;
pub mod history;
mod in_flight;
mod master;
pub mod metrics;
mod restore;
mod retry;
mod running;
mod sinks;
mod sources;
pub mod spec;
pub mod stats;
pub mod storage;
pub mod wording;

pub use claim::{StartFrom, StartOptions};
pub use handle::{JobControl, JobEnd, JobHandle};
pub use spec::{JobSpec, start};
pub use stats::{CheckpointSummary, JobStats};
pub use storage::JobStorage;
