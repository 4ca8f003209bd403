//! A whole world on one thread from one seed: processes, their tasks and slots, time, and disks that lose power.
//!
//! Layout: [`SimWorld`] (machines, processes, crashes, the run), `executor` (which task is polled when, virtual time),
//! `process` (the [`rivermark_env::Platform`] a simulated process sees), [`files`] (the disk and what it forgets), `net` (the network
//! between processes),
//! [`Draw`] (the seed's randomness), `trace` (what happened, as a hash and as text).
//! Non-goals: no threads, no real clock, no real file; nothing here knows what a job is.

mod draw;
mod executor;
pub mod files;
mod net;
mod process;
pub mod scenario;
mod trace;
mod world;

pub use draw::Draw;
pub use files::{Fault, FileCall, FileOp, Machine};
pub use world::{Limits, ProcessId, ProcessStatus, RunEnd, SimWorld, Step};
