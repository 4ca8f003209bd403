//! What is counted, what it must come to, and how it is told.

use super::output::{Difference, Output};
use super::phase::{Phase, Progress};
use rivermark_types::CheckpointId;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

/// Of 50 kills at least so many hit a phase, and so many distinct checkpoints are restored from.
const HITS_OF_50: u64 = 5;
const CHECKPOINTS_OF_50: u64 = 20;

/// The whole test's counts.
#[derive(Debug, Default, Serialize)]
pub(super) struct Tally {
    pub(super) kills: u64,
    /// Kills aimed at a phase.
    pub(super) aimed: u64,
    /// Kills before the job had come back to running.
    pub(super) while_starting: u64,
    /// Kills by the phase that was under way.
    pub(super) hit: BTreeMap<Phase, u64>,
    /// Jobs run from beginning to end.
    pub(super) jobs: u64,
    #[serde(serialize_with = "length")]
    restored_from: BTreeSet<(String, CheckpointId)>,
    /// Times that a stopped job was fenced.
    pub(super) fenced: u64,
    /// Times that one of two starts at once won.
    pub(super) races: u64,
    pub(super) files: u64,
    pub(super) rows: u64,
    pub(super) lost: u64,
    pub(super) doubled: u64,
    pub(super) late: u64,
    pub(super) flaws: Vec<String>,
    /// Hidden files of processes that went on, stopped before, when their job had finished.
    pub(super) zombie_files: u64,
}

fn length<S: serde::Serializer>(
    set: &BTreeSet<(String, CheckpointId)>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(set.len() as u64)
}

impl Tally {
    /// A start of a job came to its end.
    pub(super) fn start(&mut self, job: &str, progress: &Progress) {
        if let Some(checkpoint) = progress.restored {
            self.restored_from.insert((job.to_owned(), checkpoint));
        }
        self.late += progress.late.unwrap_or_default();
    }

    /// A start of a job was killed.
    pub(super) fn kill(&mut self, job: &str, aimed: bool, progress: &Progress) {
        self.start(job, progress);
        self.kills += 1;
        self.aimed += u64::from(aimed);
        self.while_starting += u64::from(!progress.running);
        if let Some(phase) = progress.phase() {
            *self.hit.entry(phase).or_default() += 1;
        }
    }

    /// A job has ended; its output is compared with what it should be.
    pub(super) fn job(&mut self, job: &str, output: Output, expected: &Output) -> Difference {
        let difference = output.compare(expected);
        self.jobs += 1;
        self.files += output.files;
        self.rows += difference.checked;
        self.lost += difference.lost;
        self.doubled += difference.doubled;
        let left_over = output
            .hidden
            .into_iter()
            .map(|name| format!("{name} is left over"));
        let flaws = output.flaws.into_iter().chain(left_over);
        self.flaws.extend(flaws.map(|flaw| format!("{job}: {flaw}")));
        difference
    }

    fn hits(&self) -> u64 {
        self.hit.values().sum()
    }

    /// What is wrong with the result, a line each.
    pub(super) fn complaints(&self) -> Vec<String> {
        let mut complaints = self.flaws.clone();
        let mut zero = |what: &str, found: u64| {
            if found > 0 {
                complaints.push(format!("{found} {what}"));
            }
        };
        zero("rows lost", self.lost);
        zero("rows doubled or wrong", self.doubled);
        zero(
            "payments dropped as late, although the disorder is within the bound",
            self.late,
        );
        let mut enough = |what: &str, found: u64, of_50: u64| {
            let least = of_50 * self.kills / 50;
            if found < least {
                complaints.push(format!(
                    "{found} {what}, expected at least {least}: the kills prove too little"
                ));
            }
        };
        enough(
            "kills hit a snapshot, a decision or a commit",
            self.hits(),
            HITS_OF_50,
        );
        enough(
            "distinct checkpoints restored from",
            self.restored_from.len() as u64,
            CHECKPOINTS_OF_50,
        );
        complaints
    }

    fn text(&self) -> String {
        let hit = |phase| self.hit.get(&phase).copied().unwrap_or_default();
        let [snapshots, decisions, commits] = Phase::ALL.map(hit);
        let lines = [
            (
                "kills",
                format!(
                    "{} ({} aimed, {} at random)",
                    self.kills,
                    self.aimed,
                    self.kills - self.aimed
                ),
            ),
            (
                "kills that hit",
                format!(
                    "{snapshots} snapshots, {decisions} decisions, {commits} commits, {} starts",
                    self.while_starting
                ),
            ),
            (
                "restored from",
                format!("{} distinct checkpoints", self.restored_from.len()),
            ),
            (
                "fenced",
                format!(
                    "{} stopped jobs, {} of two starts at once",
                    self.fenced, self.races
                ),
            ),
            (
                "checked",
                format!("{} jobs, {} files, {} rows", self.jobs, self.files, self.rows),
            ),
            ("lost", self.lost.to_string()),
            ("doubled", self.doubled.to_string()),
            (
                "left over or half",
                format!(
                    "{} files; {} hidden ones of processes that outlived their job",
                    self.flaws.len(),
                    self.zombie_files
                ),
            ),
        ];
        let lines = lines.map(|(what, value)| format!("{what:<18} {value}"));
        lines.join("\n")
    }
}

/// Tells what happens as it happens.
pub(super) struct Voice {
    pub(super) json: bool,
}

impl Voice {
    /// Something happened to a job.
    pub(super) fn event(&self, text: &str, job: &str, event: &str, detail: &Value) {
        self.say(
            &format!("{job}: {text}"),
            &json!({ "command": "crash-test", "event": event, "job": job, "detail": detail }),
        );
    }

    /// The end.
    pub(super) fn summary(&self, tally: &Tally, complaints: &[String]) {
        let ok = complaints.is_empty();
        self.say(
            &tally.text(),
            &json!({ "command": "crash-test", "event": "summary", "ok": ok, "counts": tally }),
        );
        for complaint in complaints {
            eprintln!("error: {complaint}");
        }
    }

    /// If nobody reads us any more the test goes on: the exit code still matters.
    fn say(&self, text: &str, object: &Value) {
        let mut out = std::io::stdout();
        let _ = match self.json {
            true => writeln!(out, "{object}"),
            false => writeln!(out, "{text}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rivermark::announce::Announcement;

    #[test]
    fn kills_that_hit_nothing_and_restore_from_one_checkpoint_prove_too_little() {
        let mut tally = Tally::default();
        let mut progress = Progress::default();
        progress.note(Announcement::Running(Some(CheckpointId(3))));
        (0..50).for_each(|_| tally.kill("round 1", false, &progress));
        assert_eq!(tally.complaints().len(), 2);
        for id in 0..20 {
            progress.note(Announcement::Running(Some(CheckpointId(id))));
            progress.note(Announcement::Snapshot(CheckpointId(id + 1)));
            tally.start("round 1", &progress);
        }
        *tally.hit.entry(Phase::Commit).or_default() += 5;
        assert_eq!(tally.complaints(), Vec::<String>::new());
        tally.lost = 1;
        assert_eq!(tally.complaints(), ["1 rows lost"]);
    }
}
