//! `rivermark checkpoint`: what a job has decided.

mod list;

use crate::Outcome;
use clap::Subcommand;
use std::path::PathBuf;

/// What may be asked of a job's checkpoints.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Lists a job's checkpoints and savepoints, oldest first
    List(Target),
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
    }
}
