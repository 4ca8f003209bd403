//! The command `rivermark`: looks at what jobs keep, from outside of any job.
//!
//! One module per command. A command returns whether it found something; what it has to say goes to standard output, as
//! text for people or with `--json` as one JSON document. What it cannot do is one line on standard error that begins with
//! `error: `. Exit codes: 0 all well, 1 something was found, 2 wrong usage (or nothing there to look at).
//!
//! - [`checkpoint`]: lists a job's checkpoints, and checks that they can be restored
//! - [`explain`]: says what the time of a checkpoint or of a recovery went into
//!
//! Shared: [`place`] (from DIR to a job's storage, read-only), [`page`] (writing to standard output, tables, colours).
//! Non-goals: running a job (its own executable does), and changing anything.

mod checkpoint;
mod explain;
mod page;
mod place;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Something was found.
const FOUND: u8 = 1;
/// Wrong usage, or there is nothing to look at.
const WRONG: u8 = 2;

/// Looks at what Rivermark's jobs keep
///
/// A job is a program of its own (its `--help` tells how to run it). This command looks at what jobs leave in their
/// directories. It only reads, and may be used while the job runs.
#[derive(Parser)]
#[command(
    name = "rivermark",
    bin_name = "rivermark",
    version,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 all well, 1 something was found, 2 wrong usage.\n\
                  Colours only in a terminal, and not where NO_COLOR is set."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A job's checkpoints: which there are, and whether they are sound
    #[command(subcommand)]
    Checkpoint(checkpoint::Command),
    /// Why a checkpoint or a recovery took so long
    #[command(subcommand)]
    Explain(explain::Command),
}

/// What a command found out.
enum Verdict {
    /// All is well.
    Well,
    /// There is something to be done.
    Found,
}

/// A command's result; the error is what the user must change, in one line.
type Outcome = Result<Verdict, String>;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Checkpoint(command) => checkpoint::run(&command),
        Command::Explain(command) => explain::run(&command),
    };
    match outcome {
        Ok(Verdict::Well) => ExitCode::SUCCESS,
        Ok(Verdict::Found) => ExitCode::from(FOUND),
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::from(WRONG)
        }
    }
}
