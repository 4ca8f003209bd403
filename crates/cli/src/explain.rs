//! `rivermark explain`: why a checkpoint or a recovery took as long as it did.

use crate::page::{Colour, paint, print, print_json};
use crate::place::{Place, in_world};
use crate::{Outcome, Verdict};
use clap::Subcommand;
use rivermark_job::explain::{
    CheckpointRecord, Explanation, RecoveryRecord, checkpoint_table, explain, explain_recovery,
    recovery_table,
};
use rivermark_job::history::{HISTORY, Records};
use rivermark_storage::LocalBlob;
use rivermark_types::CheckpointId;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What may be explained.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Why a checkpoint took so long, or came to nothing
    ///
    /// One sentence says what the time from the trigger to the end went into, the largest piece first, and who was to blame;
    /// then a table says of each subtask: `start` from the trigger to its first barrier, `align` to its last, `freeze` while the
    /// barrier passed its operators, `capture` while its state was copied, `encode`, `upload`, `ack`; its rows and bytes of
    /// state, and what was in flight to it. `>` stands before what was not over at the end. Completed ones and those that
    /// expired or were declined are kept, the newest hundred of them.
    Checkpoint {
        /// Its number, or `latest`
        #[arg(value_name = "N", value_parser = which)]
        checkpoint: Which,

        #[command(flatten)]
        target: Target,
    },
    /// Why the newest recovery took so long
    ///
    /// From the failure (or the start of the process) until rows flow again and what was in flight at the checkpoint is worked
    /// off, in one sentence and a table of what each subtask read.
    Recovery {
        #[command(flatten)]
        target: Target,
    },
}

/// Whose, and how it is shown.
#[derive(clap::Args)]
pub(crate) struct Target {
    /// The job's checkpoint directory, <execution.checkpointing.dir>/<pipeline.name>; the directory above it will do if it
    /// holds one job only
    dir: PathBuf,

    /// Write one JSON document: the record, and what it is explained by
    #[arg(long)]
    json: bool,
}

/// Which checkpoint; none for the newest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Which(Option<CheckpointId>);

fn which(text: &str) -> Result<Which, String> {
    if text == "latest" {
        return Ok(Which(None));
    }
    let number = text.strip_prefix("chk-").unwrap_or(text).parse();
    let number = number.map_err(|_| "a checkpoint's number is expected, or latest".to_owned())?;
    Ok(Which(Some(CheckpointId(number))))
}

#[derive(Serialize)]
struct Checkpoint<'a> {
    record: &'a CheckpointRecord,
    explanation: Explanation,
}

#[derive(Serialize)]
struct Recovery<'a> {
    record: &'a RecoveryRecord,
    sentence: String,
}

pub(crate) fn run(command: &Command) -> Outcome {
    match command {
        Command::Checkpoint { checkpoint, target } => explain_checkpoint(*checkpoint, target),
        Command::Recovery { target } => explain_newest_recovery(target),
    }
    .map(|()| Verdict::Well)
}

fn explain_checkpoint(Which(checkpoint): Which, target: &Target) -> Result<(), String> {
    let record = read(&target.dir, async |records| records.checkpoint(checkpoint).await)?;
    let explanation = explain(&record);
    if target.json {
        return print_json(&Checkpoint {
            record: &record,
            explanation,
        });
    }
    let title = format!("checkpoint {} of {}", record.checkpoint, record.job);
    print(&page(
        &title,
        &record.alignment,
        &explanation.sentence,
        &checkpoint_table(&record),
    ));
    Ok(())
}

fn explain_newest_recovery(target: &Target) -> Result<(), String> {
    let record = read(&target.dir, async |records| records.recovery().await)?;
    let sentence = explain_recovery(&record);
    if target.json {
        return print_json(&Recovery {
            record: &record,
            sentence,
        });
    }
    let title = format!("attempt {} of {}", record.attempt, record.job);
    let generation = format!("generation {}", record.generation);
    print(&page(&title, &generation, &sentence, &recovery_table(&record)));
    Ok(())
}

fn page(title: &str, what: &str, sentence: &str, table: &str) -> String {
    let (head, rows) = table.split_once('\n').unwrap_or((table, ""));
    let title = paint(Colour::Bold, title);
    format!(
        "{title} ({what})\n\n{sentence}\n\n{}\n{rows}",
        paint(Colour::Bold, head)
    )
}

fn read<T>(dir: &Path, ask: impl AsyncFnOnce(&Records) -> rivermark_types::Result<T>) -> Result<T, String> {
    in_world(async |env| {
        let place = Place::find(env, dir).await?;
        let history = LocalBlob::existing(env, place.dir.join(HISTORY));
        let records = Records::new(Arc::new(history));
        ask(&records).await.map_err(|failure| failure.to_string())
    })
}
