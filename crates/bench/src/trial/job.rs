//! A job that is measured: started with or without checkpoints, watched, ended.

use rivermark::prelude::*;
use std::path::{Path, PathBuf};

/// Where checkpoints go, and how often they are taken.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Checkpoints {
    /// The directory.
    pub dir: PathBuf,
    /// Milliseconds between two; 0: only when asked for.
    pub interval_ms: u64,
}

/// A configuration with these checkpoints.
pub fn config(checkpoints: Option<&Checkpoints>) -> Config {
    let mut config = Config::default();
    if let Some(Checkpoints { dir, interval_ms }) = checkpoints {
        config.set("pipeline.name", "bench");
        config.set("execution.checkpointing.dir", text(dir));
        config.set(
            "execution.checkpointing.interval",
            format!("{interval_ms} ms").as_str(),
        );
        config.set("execution.checkpointing.num-retained", "1");
    }
    config
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

/// A failure for people.
pub fn told(failure: Failure) -> String {
    failure.to_string()
}

/// Events that the sources of a job have read.
pub fn events(job: &LocalJob) -> u64 {
    job.control().stats().records_in()
}

/// Fails if the job is not at work.
pub fn check(job: &LocalJob) -> std::result::Result<(), String> {
    let stats = job.control().stats();
    match stats.last_failure {
        Some(failure) => Err(format!("the job failed: {failure}")),
        None => Ok(()),
    }
}

/// Ends the job at once.
pub fn cancel(job: LocalJob) -> std::result::Result<(), String> {
    job.control().cancel();
    job.wait().map(drop).map_err(told)
}
