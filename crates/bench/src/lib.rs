//! The workloads of `cargo xtask bench`: jobs as a user writes them, each beside a loop without any engine, its limit.
//!
//! Layout: [`jobs`] (the jobs, written with the prelude), [`limits`] (the loops), [`trial`] (one measurement, in a process of
//! its own), [`series`] (trials in turns, several rounds, medians), [`sizes`] (how much of it), [`rows`] (the results),
//! [`picture`] (drawings of a series in time), [`clock`] (time, CPU time, memory).
//!
//! What is measured is steady work: a trial starts its job or loop, lets it warm up, and takes the difference of two
//! readings, so set-up never counts. CPU time is that of the whole process, threads for I/O included.
//! Non-goal: comparing with other engines.

pub mod clock;
pub mod jobs;
pub mod limits;
pub mod picture;
pub mod rows;
pub mod series;
pub mod sizes;
pub mod trial;
