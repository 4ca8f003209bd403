//! Rivermark: stateful stream processing whose results survive failures: what a job has read counts once, whatever
//! crashes in between.
//!
//! A job is a program with a `main` of one line, [`run`] (or [`run_with`], with options of its own); [`prelude`] has what
//! it needs. `cargo run --release --example flights` shows a job, kills it and compares.
//!
//! Layout: [`entry`] (a job's `main`), `options` (its command line), `launch` (from settings to a job that can be started),
//! [`local`] (a job inside another program: tests), [`connector`] (what a source or sink of one's own is made of),
//! `dead_letters` (records that nobody takes), `progress`, `pressure`, `console` and `log` (what a person sees),
//! [`announce`] and `metrics` (what programs that watch see), [`wording`] (numbers for people).
//! Non-goals: everything a job does; the crates below do it.

pub mod announce;
pub mod connector;
mod console;
mod dead_letters;
pub mod entry;
mod launch;
pub mod local;
mod log;
mod metrics;
mod options;
pub mod prelude;
mod pressure;
mod progress;

pub use entry::{run, run_with};
pub use rivermark_job::wording;
pub use rivermark_stream::Text;

#[cfg(doctest)]
mod guide;

/// The job in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
