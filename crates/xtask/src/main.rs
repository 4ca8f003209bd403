//! The project's own commands: `cargo xtask <command>`.
//!
//! One module per command. A command returns whether all was well; what it measures or finds it prints as text, or
//! with `--json` as one JSON object a line. Exit codes: 0 all well, 1 something was found or failed, 2 wrong usage.
//!
//! - [`mod@bench`]: jobs beside loops without any engine
//! - [`crash`]: a job's process killed again and again
//! - [`soak`]: a job watched for a long time: memory, files, threads, and what it counts
//! - [`tidy`]: the rules about the tree that no compiler checks
//! - [`mod@test`]: every test there is
//! - [`sim`]: jobs in a simulated world, from seeds
//! - [`rescale`]: jobs that fail with full queues and go on at another parallelism, from seeds
//!
//! Non-goals: formatting, lints and docs, which `.ci/run` gets from cargo itself.

mod bench;
mod crash;
mod rescale;
mod search;
mod sim;
mod soak;
mod test;
mod tidy;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Checks and runs Rivermark's tests.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Checks the rules about the tree that no compiler checks
    Tidy(tidy::Args),
    /// Runs every test and counts what passed
    Test(test::Args),
    /// Runs jobs in a simulated world with crashes and faults, one a seed
    Sim(sim::Args),
    /// Lets jobs fail with full queues and go on at another parallelism, one a seed
    RescaleTest(rescale::Args),
    /// Kills a job's process again and again; nothing may be lost or doubled
    CrashTest(crash::Args),
    /// Measures jobs beside loops written by hand without any engine
    Bench(bench::Args),
    /// Watches a job for a long time, with restarts: nothing may grow, be lost or be doubled
    Soak(soak::Args),
}

/// Whether all was well; an error is one line that says what stopped the command.
type Outcome = Result<bool, String>;

fn main() -> ExitCode {
    // This executable is also the job that is killed and the trial that is measured.
    match std::env::args_os().next() {
        Some(name) if name == crash::job::NAME => return crash::job::main(),
        Some(name) if name == soak::job::NAME => return soak::job::main(),
        Some(name) if name == rescale::burners::NAME => return rescale::burners::main(),
        Some(name) if name == rivermark_bench::trial::NAME => return rivermark_bench::trial::main(),
        _ => {}
    }
    let outcome = match Cli::parse().command {
        Command::Tidy(args) => tidy::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Sim(args) => sim::run(&args),
        Command::RescaleTest(args) => rescale::run(&args),
        Command::CrashTest(args) => crash::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Soak(args) => soak::run(&args),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}
