//! `rivermark checkpoint`: what a job has decided.

mod fsck;
mod list;

use crate::Outcome;
use clap::Subcommand;
use std::path::PathBuf;

/// What may be asked of a job's checkpoints.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Lists a job's checkpoints and savepoints, oldest first
    List(Target),
    /// Checks that every checkpoint can be restored, and finds what is left behind
    ///
    /// Reads the newest decision, every checkpoint and savepoint that it names, all their objects and every page of them, and
    /// compares lengths, checksums, rows, key groups and records in flight with what was written. Objects that no decided
    /// checkpoint names are listed: those of the run that owns the job may belong to a checkpoint in progress, those of older
    /// runs are left behind. Changes nothing, and may be run while the job runs. Exit code 1 if something is damaged or left.
    Fsck(Target),
}

/// Whose checkpoints, and how they are shown.
#[derive(clap::Args)]
pub(crate) struct Target {
    /// The job's checkpoint directory, <execution.checkpointing.dir>/<pipeline.name>; the directory above it will do if it
    /// holds one job only
    dir: PathBuf,

    /// Write one JSON document
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: &Command) -> Outcome {
    match command {
        Command::List(target) => list::run(target),
        Command::Fsck(target) => fsck::run(target),
    }
}
