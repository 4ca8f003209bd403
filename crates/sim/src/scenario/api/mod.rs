//! The parts of the DataStream API as jobs of scenarios: one file a family, each job beside the plain computation of the same.
//!
//! To add a part: a file here with a `draw` that gives a [`Part`] (its build with the DataStream API; its check against
//! a computation over the plain rows, in memory, without any engine), and a line in [`FAMILIES`]. Every part then runs
//! through crashes, faults, other parallelisms and other batch sizes: `cargo xtask sim --part NAME` runs only that one.
//! What a part draws belongs to the job and is the same for all its processes; what a process draws is in its shape.

mod async_calls;
mod bad_rows;
mod broadcast;
mod counted;
mod idleness;
mod joins;
mod process;
mod processing_timers;
mod processing_windows;
mod sessions;
mod side_outputs;
mod sliding;
mod states;
mod tumbling;
mod undecodable;

use super::job::Builder;
use super::plan::Scenario;
use super::rows::{Input, Output};
use crate::{Draw, Machine};
pub(crate) use bad_rows::BAD_ROW;
use rivermark_stream::{DataStream, Failure};
use std::collections::BTreeMap;
use std::fmt;

/// A job of one part of the API.
pub(crate) trait Part: fmt::Debug + Send + Sync {
    /// The job between its sources ([`Builder::source`]) and its sink. Every operator with state has a uid; parallelisms come
    /// from [`Builder::parallelism`].
    fn build(&self, builder: &Builder<'_>) -> DataStream<Output>;

    /// Whether the output is what a plain computation over the input's rows comes to. `found` is sorted.
    fn check(&self, scenario: &Scenario, found: &[Output]) -> Result<(), String>;

    /// The job in a few words, where its name does not say it all.
    fn describe(&self) -> Option<String> {
        None
    }

    /// Whether the job reads the second source too.
    fn has_two_sources(&self) -> bool {
        false
    }

    /// Puts on the disk what the job reads besides its sources.
    fn put_files(&self, _scenario: &Scenario, _machine: &Machine) -> Result<(), String> {
        Ok(())
    }

    /// Whether the job may end with a failure that [`Part::mend`] knows.
    fn may_fail(&self) -> bool {
        false
    }

    /// The job has ended with a failure: puts right what the failure names, as a user would before starting it again. False
    /// if the job must not fail like that.
    fn mend(&self, _scenario: &Scenario, _failure: &Failure, _machine: &Machine) -> Result<bool, String> {
        Ok(false)
    }
}

/// Draws a job of a family.
type DrawPart = fn(&mut Draw) -> Box<dyn Part>;

/// Every family by its name, which `--part` takes.
pub(crate) const FAMILIES: &[(&str, DrawPart)] = &[
    ("tumbling", tumbling::draw),
    ("sliding", sliding::draw),
    ("sessions", sessions::draw),
    ("counted", counted::draw),
    ("joins", joins::draw),
    ("states", states::draw),
    ("idleness", idleness::draw),
    ("processing-timers", processing_timers::draw),
    ("processing-windows", processing_windows::draw),
    ("side-outputs", side_outputs::draw),
    ("bad-rows", bad_rows::draw),
    ("async-calls", async_calls::draw),
    ("process", process::draw),
    ("broadcast", broadcast::draw),
    ("undecodable", undecodable::draw),
];

/// The names of all families.
pub fn parts() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|(name, _)| *name)
}

/// Draws a job: of the family asked for, or of any.
pub(crate) fn draw(draw: &mut Draw, only: Option<&str>) -> (&'static str, Box<dyn Part>) {
    let drawn = draw.index(FAMILIES.len());
    let asked = FAMILIES.iter().find(|(name, _)| Some(*name) == only);
    let (name, make) = asked.unwrap_or(&FAMILIES[drawn]);
    (name, make(draw))
}

/// Compares an output, sorted, with what was computed, in any order.
pub(crate) fn same(mut computed: Vec<Output>, found: &[Output]) -> Result<(), String> {
    computed.sort_unstable();
    if computed == found {
        return Ok(());
    }
    let mut balance: BTreeMap<&Output, i64> = BTreeMap::new();
    found.iter().for_each(|row| *balance.entry(row).or_default() += 1);
    computed
        .iter()
        .for_each(|row| *balance.entry(row).or_default() -= 1);
    balance.retain(|_, balance| *balance != 0);
    let examples: Vec<String> = balance
        .iter()
        .take(6)
        .map(|(row, n)| format!("{n:+} {row:?}"))
        .collect();
    Err(format!(
        "the plain computation gives {} rows, the job gave {}; the first that differ: {}",
        computed.len(),
        found.len(),
        examples.join(", ")
    ))
}

/// The rows of the first source, or of both.
pub(crate) fn all_rows(scenario: &Scenario) -> impl Iterator<Item = &Input> {
    scenario.rows.iter().flat_map(|rows| rows.iter())
}
