//! `rivermark checkpoint fsck`: whether all that a job has decided can be restored, and what lies about besides.

use super::Target;
use crate::page::{Colour, paint, print, print_json};
use crate::place::{Place, in_world};
use crate::{Outcome, Verdict};
use rivermark::wording::{count, counted, date, size};
use rivermark_state::fsck::{CheckpointCheck, Damage, FsckReport, JobSummary, Orphan, Standing, check_job};
use serde::Serialize;
use std::fmt::Write;

/// What was found, and where.
#[derive(Serialize)]
struct Findings {
    dir: String,
    clean: bool,
    #[serde(flatten)]
    report: FsckReport,
    /// Files in DIR that writers have not finished, or left behind when they crashed.
    unfinished: Vec<String>,
    /// What to do, a sentence each.
    advice: Vec<String>,
}

pub(super) fn run(target: &Target) -> Outcome {
    let findings = in_world(async |env| {
        let place = Place::find(env, &target.dir).await?;
        let unreadable = |error: String| format!("{} cannot be checked: {error}", place.dir.display());
        let report = check_job(&place.blob, &place.cas)
            .await
            .map_err(|error| unreadable(error.to_string()))?;
        let report = report.ok_or_else(|| unreadable("nothing is decided there any more".into()))?;
        let mut unfinished = place
            .cas
            .temporaries()
            .await
            .map_err(|error| unreadable(error.to_string()))?;
        let objects = place
            .blob
            .temporaries()
            .await
            .map_err(|error| unreadable(error.to_string()))?;
        unfinished.extend(objects.into_iter().map(|path| format!("objects/{path}")));
        Ok(Findings {
            dir: place.dir.display().to_string(),
            clean: report.is_clean(),
            advice: advice(&report),
            report,
            unfinished,
        })
    })?;
    match target.json {
        true => print_json(&findings)?,
        false => print(&text(&findings)),
    }
    match findings.clean {
        true => Ok(Verdict::Well),
        false => Ok(Verdict::Found),
    }
}

/// What to do about damage and orphans.
fn advice(report: &FsckReport) -> Vec<String> {
    let mut advice = vec![];
    if report.damage.iter().any(|damage| damage.checkpoint.is_none()) {
        advice.push(
            "the decision says which checkpoints count: put an undamaged copy of the newest decision-* file back, or start \
             anew in another directory"
                .to_owned(),
        );
        return advice;
    }
    let damaged: Vec<&CheckpointCheck> = report
        .checkpoints
        .iter()
        .filter(|checkpoint| !checkpoint.sound)
        .collect();
    if let Some(newest_damaged) = damaged.iter().map(|checkpoint| checkpoint.id).max() {
        let ids: Vec<String> = damaged
            .iter()
            .map(|checkpoint| checkpoint.id.to_string())
            .collect();
        let copy = format!(
            "put undamaged copies of the files above back to make checkpoint {} whole again",
            ids.join(", ")
        );
        advice.push(match report.newest_sound() {
            Some(sound) if sound > newest_damaged => {
                format!("{copy}; a start with --from latest takes checkpoint {sound}, which is sound")
            }
            Some(sound) => format!(
                "{copy}; or go back to checkpoint {sound}, the newest sound one, with --from {sound} (and \
                 --accept-duplicates if exactly-once sinks may publish again what came after it)"
            ),
            None => format!("{copy}; no checkpoint is sound: the only other start is --from none"),
        });
    }
    let left = |standing| report.orphans.iter().any(|orphan| orphan.standing == standing);
    if left(Standing::Left) {
        advice.push(
            "objects that are left belong to no run any more: the next run of the job removes them when it ends, and \
             deleting them by hand harms nothing"
                .to_owned(),
        );
    }
    advice
}

fn text(findings: &Findings) -> String {
    let Findings { report, .. } = findings;
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_head(&mut text, findings);
    for checkpoint in &report.checkpoints {
        let _ = writeln!(text, "  {}", line(checkpoint));
    }
    for damage in &report.damage {
        let _ = write_damage(&mut text, damage);
    }
    for standing in [Standing::Left, Standing::MayBeInUse] {
        let orphans: Vec<&Orphan> = report
            .orphans
            .iter()
            .filter(|orphan| orphan.standing == standing)
            .collect();
        let _ = write_orphans(&mut text, standing, &orphans);
    }
    if !findings.unfinished.is_empty() {
        let files = counted(findings.unfinished.len() as u64, "unfinished file");
        let _ = writeln!(
            text,
            "note: {files} of writers, at work or crashed; the next start removes them"
        );
        for path in &findings.unfinished {
            let _ = writeln!(text, "  {path}");
        }
    }
    for advice in &findings.advice {
        let _ = writeln!(text, "{} {advice}", paint(Colour::Bold, "what to do:"));
    }
    let verdict = match (findings.clean, report.damage.is_empty()) {
        (true, _) => paint(Colour::Green, "clean"),
        (false, true) => paint(Colour::Yellow, "sound, but not clean: objects are left behind"),
        (false, false) => paint(
            Colour::Red,
            &format!("damaged: {}", counted(report.damage.len() as u64, "finding")),
        ),
    };
    let _ = writeln!(text, "{verdict}");
    text
}

fn write_head(text: &mut String, findings: &Findings) -> std::fmt::Result {
    let Findings { dir, report, .. } = findings;
    let Some(JobSummary {
        name,
        generation,
        finished,
        ..
    }) = &report.job
    else {
        return writeln!(text, "{dir}");
    };
    let checkpoints = counted(report.checkpoints.len() as u64, "checkpoint");
    let finished = if *finished { ", finished" } else { "" };
    writeln!(
        text,
        "{dir}: job {:?}, generation {generation}, decision {}{finished}: {checkpoints}",
        name.as_str(),
        report.decision
    )
}

fn line(checkpoint: &CheckpointCheck) -> String {
    let CheckpointCheck {
        id, kind, decided_at, ..
    } = checkpoint;
    let sound = match checkpoint.sound {
        true => paint(Colour::Green, "sound"),
        false => paint(Colour::Red, "DAMAGED"),
    };
    let in_flight = match checkpoint.in_flight_rows {
        0 => String::new(),
        rows => format!(", {} in flight", count(rows)),
    };
    format!(
        "{} {id} of {}: {sound}, {} in {}, {} in {}{in_flight}",
        super::list::kind(*kind),
        date(*decided_at),
        size(checkpoint.bytes),
        counted(checkpoint.objects, "object"),
        counted(checkpoint.rows, "row"),
        counted(checkpoint.pages, "page"),
    )
}

fn write_damage(text: &mut String, damage: &Damage) -> std::fmt::Result {
    let file = match &damage.object {
        Some(key) => format!("objects/{key}"),
        None => "decision-*".to_owned(),
    };
    let checkpoint = match damage.checkpoint {
        Some(id) => format!(" (checkpoint {id})"),
        None => String::new(),
    };
    writeln!(text, "{} {file}{checkpoint}", paint(Colour::Red, "damaged:"))?;
    writeln!(text, "  where:    {}", damage.place)?;
    writeln!(text, "  expected: {}", damage.expected)?;
    writeln!(text, "  found:    {}", damage.found)
}

fn write_orphans(text: &mut String, standing: Standing, orphans: &[&Orphan]) -> std::fmt::Result {
    if orphans.is_empty() {
        return Ok(());
    }
    let bytes = size(orphans.iter().map(|orphan| orphan.bytes).sum());
    let objects = counted(orphans.len() as u64, "object");
    match standing {
        Standing::Left => writeln!(
            text,
            "{} {objects} ({bytes}) that no decided checkpoint names:",
            paint(Colour::Yellow, "left:")
        )?,
        Standing::MayBeInUse => writeln!(
            text,
            "note: {objects} ({bytes}) of the run that owns the job, named by no decided checkpoint: of a checkpoint in \
             progress or about to be deleted, if that run is alive"
        )?,
    }
    orphans
        .iter()
        .try_for_each(|orphan| writeln!(text, "  objects/{} ({})", orphan.object, size(orphan.bytes)))
}
