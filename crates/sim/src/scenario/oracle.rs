//! Whether a run gave what it had to: its output against that of a run without faults, and what it left behind.

use super::job::{OUTPUT_DIR, Outside};
use super::lies::{JOB_DIR, STATE_DIR};
use super::plan::{Scenario, SourceKind, Topology};
use super::rows::Output;
use crate::Machine;
use rivermark_job::history::{CHECKPOINTS_KEPT, HISTORY, RECOVERIES_KEPT};
use rivermark_stream::GuaranteeMode;
use std::collections::BTreeMap;
use std::path::Path;

/// The rows that are outside now.
pub(crate) fn output(
    scenario: &Scenario,
    outside: &Outside,
    machine: &Machine,
) -> Result<Vec<Output>, String> {
    let mut rows = match scenario.mode {
        GuaranteeMode::ExactlyOnce if scenario.file_sink.is_some() => finished_rows(machine)?,
        GuaranteeMode::ExactlyOnce => outside.collected.rows(),
        GuaranteeMode::AtLeastOnce => outside.direct.lock().map(|rows| rows.clone()).unwrap_or_default(),
    };
    rows.sort_unstable();
    Ok(rows)
}

/// The rows of the finished files, every one whole.
fn finished_rows(machine: &Machine) -> Result<Vec<Output>, String> {
    let mut rows = Vec::new();
    for (path, bytes) in machine
        .tree()
        .iter()
        .filter(|(path, _)| is_output(path) && !is_hidden(path))
    {
        let text = String::from_utf8_lossy(bytes);
        if !text.ends_with('\n') {
            return Err(format!("{} ends in the middle of a row", path.display()));
        }
        for line in text.lines() {
            let row = serde_json::from_str(line).map_err(|error| format!("{}: {error}", path.display()))?;
            rows.push(row);
        }
    }
    Ok(rows)
}

fn is_output(path: &Path) -> bool {
    path.starts_with(OUTPUT_DIR)
}

/// Records that dead processes were at work on, finished or not.
const HISTORY_SLACK: usize = 20;

fn is_history(path: &Path) -> bool {
    path.starts_with(Path::new(JOB_DIR).join(HISTORY))
}

fn is_hidden(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

/// Compares a run's output with that of the run without faults, both sorted. A job that is checked by what it comes to alone
/// has no such run.
pub(crate) fn compare(
    scenario: &Scenario,
    expected: Option<&[Output]>,
    found: &[Output],
) -> Result<(), String> {
    // A part of the API has an independent computation, which may come to nothing too.
    if let Some(part) = &scenario.part {
        if let Some(expected) = expected {
            part.check(scenario, expected)
                .map_err(|why| format!("already without faults: {why}"))?;
        }
        return part.check(scenario, found);
    }
    let expected = expected.unwrap_or_default();
    if expected.is_empty() {
        return Err("the run without faults gave no output: the scenario checks nothing".into());
    }
    match (scenario.topology, scenario.mode) {
        (Topology::Running, _) => check_running(scenario, found),
        (_, GuaranteeMode::AtLeastOnce) => check_none_lost(expected, found),
        _ => check_equal(expected, found),
    }
}

fn check_equal(expected: &[Output], found: &[Output]) -> Result<(), String> {
    let mut balance: BTreeMap<&Output, i64> = BTreeMap::new();
    found.iter().for_each(|row| *balance.entry(row).or_default() += 1);
    expected
        .iter()
        .for_each(|row| *balance.entry(row).or_default() -= 1);
    balance.retain(|_, balance| *balance != 0);
    if balance.is_empty() {
        return Ok(());
    }
    let lost: i64 = balance.values().filter(|n| **n < 0).map(|n| -n).sum();
    let extra: i64 = balance.values().filter(|n| **n > 0).sum();
    let examples: Vec<String> = balance
        .iter()
        .take(6)
        .map(|(row, n)| format!("{n:+} {row:?}"))
        .collect();
    Err(format!(
        "output differs: {} rows expected, {} found, {lost} missing, {extra} too many; the first: {}",
        expected.len(),
        found.len(),
        examples.join(", ")
    ))
}

/// Every window came, with at least its rows.
fn check_none_lost(expected: &[Output], found: &[Output]) -> Result<(), String> {
    let mut best: BTreeMap<(u32, i64), (u64, i64)> = BTreeMap::new();
    for row in found {
        let entry = best.entry((row.key, row.time)).or_default();
        *entry = (*entry).max((row.count, row.sum));
    }
    for row in expected {
        let (count, sum) = best.get(&(row.key, row.time)).copied().unwrap_or_default();
        if count < row.count || sum < row.sum {
            return Err(format!(
                "lost: expected at least {row:?}, found {count} rows with sum {sum}"
            ));
        }
    }
    Ok(())
}

/// The running values of each key count every input once: 1, 2, 3 and so on, and each step adds one input's number.
fn check_running(scenario: &Scenario, found: &[Output]) -> Result<(), String> {
    let mut inputs: BTreeMap<u32, Vec<i64>> = BTreeMap::new();
    for row in scenario.rows[0].iter() {
        inputs.entry(row.key).or_default().push(row.id as i64);
    }
    let mut counted: BTreeMap<u32, BTreeMap<u64, i64>> = BTreeMap::new();
    for row in found {
        if counted
            .entry(row.key)
            .or_default()
            .insert(row.count, row.sum)
            .is_some()
        {
            return Err(format!("key {} came to {} rows twice", row.key, row.count));
        }
    }
    if counted.len() != inputs.len() {
        return Err(format!("{} keys expected, {} found", inputs.len(), counted.len()));
    }
    for (key, mut expected) in inputs {
        let running = counted.remove(&key).unwrap_or_default();
        if !running.keys().copied().eq(1..=expected.len() as u64) {
            return Err(format!(
                "key {key} has {} rows, but came to {:?}",
                expected.len(),
                running.keys().collect::<Vec<_>>()
            ));
        }
        let sums = running.values();
        let before = std::iter::once(&0).chain(sums.clone());
        let mut steps: Vec<i64> = sums.zip(before).map(|(sum, before)| sum - before).collect();
        // Of a single split every key's rows keep their order all the way.
        if scenario.source != SourceKind::Collection(Some(1)) {
            steps.sort_unstable();
            expected.sort_unstable();
        }
        if steps != expected {
            return Err(format!(
                "key {key}: inputs {expected:?} were counted as {steps:?}"
            ));
        }
    }
    Ok(())
}

/// After the end nothing is left in the store but decisions and the history, which is bounded, and no transaction is open. (A
/// scratch file of a process that was killed stays where temporary files are.)
pub(crate) fn check_leftovers(machine: &Machine, outside: &Outside, zombies: bool) -> Result<(), String> {
    let is_decision = |path: &Path| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        path.parent() == Some(Path::new(JOB_DIR)) && name.is_some_and(|name| name.starts_with("decision-"))
    };
    let left: Vec<String> = machine
        .tree()
        .keys()
        .filter(|path| path.starts_with(STATE_DIR) && !is_decision(path) && !is_history(path))
        .map(|path| path.display().to_string())
        .collect();
    if !left.is_empty() {
        return Err(format!("{} files are left: {}", left.len(), left.join(", ")));
    }
    let records = machine.tree().keys().filter(|path| is_history(path)).count();
    if records > CHECKPOINTS_KEPT + RECOVERIES_KEPT + HISTORY_SLACK {
        return Err(format!("{records} records are left in the job's history"));
    }
    // A process that was stopped for a while may have written after its successor looked.
    let hidden = machine
        .tree()
        .keys()
        .filter(|path| is_output(path) && is_hidden(path))
        .count();
    if hidden > 0 && !zombies {
        return Err(format!("{hidden} hidden files of dead attempts are left"));
    }
    let open = outside.collected.open_transactions();
    if open > 0 && !zombies {
        return Err(format!("{open} transactions are left open"));
    }
    Ok(())
}
