//! One measurement, in a process of its own: a description comes in as JSON, what was measured goes out as JSON.
//!
//! Layout: [`steady`], [`checkpoint`], [`latency`], [`restore`], [`times`] (a kind of measurement each), [`job`] (a job that is measured).

pub mod checkpoint;
pub mod job;
pub mod latency;
pub mod restore;
pub mod steady;
pub mod times;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::process::{Command, ExitCode, Stdio};

/// The name under which an executable is started again to run a trial.
pub const NAME: &str = "rivermark-bench-trial";

/// What is to be measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Trial {
    /// Steady work.
    Steady(steady::Steady),
    /// A checkpoint of large state.
    Checkpoint(checkpoint::Checkpoint),
    /// Events at their times.
    Latency(latency::Latency),
    /// Checkpoints one after the other.
    Times(times::Times),
    /// Makes a checkpoint to start from.
    Prepare(restore::Prepare),
    /// Starts from it.
    Restore(restore::Restore),
    /// Only reads its bytes.
    Read(restore::Restore),
}

/// `main` of a process that was started under [`NAME`].
pub fn main() -> ExitCode {
    let description = std::env::args().nth(1).unwrap_or_default();
    let trial = serde_json::from_str(&description).map_err(|error| format!("no trial: {error}"));
    match trial.and_then(run) {
        Ok(outcome) => {
            println!("{outcome}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(trial: Trial) -> Result<String, String> {
    fn text(outcome: impl Serialize) -> Result<String, String> {
        serde_json::to_string(&outcome).map_err(|error| error.to_string())
    }
    match trial {
        Trial::Steady(trial) => trial.run().and_then(text),
        Trial::Checkpoint(trial) => trial.run().and_then(text),
        Trial::Latency(trial) => trial.run().and_then(text),
        Trial::Times(trial) => trial.run().and_then(text),
        Trial::Prepare(trial) => trial.run().and_then(text),
        Trial::Restore(trial) => trial.run().and_then(text),
        Trial::Read(trial) => trial.read().and_then(text),
    }
}

/// Runs a trial in a process of its own, which is this executable started again under [`NAME`].
pub(crate) fn measure<T: DeserializeOwned>(trial: &Trial) -> Result<T, String> {
    let description = serde_json::to_string(trial).map_err(|error| error.to_string())?;
    let failed = |problem: String| format!("{description}: {problem}");
    let executable = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
    let mut command = Command::new(executable);
    #[cfg(unix)]
    std::os::unix::process::CommandExt::arg0(&mut command, NAME);
    let output = command
        .arg(&description)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(format!("{}: {}", output.status, said.trim())));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))
}
