//! Where jobs find their input and leave their output: a temporary directory, and one below it for each job.

use super::job::{DISORDER, Payment};
use rivermark_sim::Draw;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

const FILES: usize = 6;
const ACCOUNTS: u64 = 40;
/// Event time from one payment to the next.
const STEP_MS: i64 = 5;

/// The directory of everything, removed at the end unless it is kept.
pub(super) struct Place {
    root: tempfile::TempDir,
}

impl Place {
    /// A new directory with an input of so many rows.
    pub(super) fn create(seed: u64, rows: usize) -> Result<Place, String> {
        let root = tempfile::Builder::new().prefix("rivermark-crash-").tempdir();
        let place = Place {
            root: root.map_err(|error| format!("there is no temporary directory: {error}"))?,
        };
        write_input(&place.input(), seed, rows)
            .map_err(|error| format!("the input cannot be written: {error}"))?;
        Ok(place)
    }

    pub(super) fn input(&self) -> PathBuf {
        self.root.path().join("input")
    }

    /// A job's own directory.
    pub(super) fn job(&self, name: &str) -> Result<JobPlace, String> {
        let home = self.root.path().join(name);
        fs::create_dir(&home).map_err(|error| format!("{}: {error}", home.display()))?;
        Ok(JobPlace {
            input: self.input(),
            home,
        })
    }

    /// Keeps everything, for a look at what went wrong.
    pub(super) fn keep(self) -> PathBuf {
        self.root.keep()
    }
}

/// The directories of one job.
#[derive(Clone)]
pub(super) struct JobPlace {
    pub(super) input: PathBuf,
    home: PathBuf,
}

impl JobPlace {
    /// The results.
    pub(super) fn output(&self) -> PathBuf {
        self.home.join("output")
    }

    /// The checkpoints.
    pub(super) fn state(&self) -> PathBuf {
        self.home.join("state")
    }

    /// What a start writes to standard error.
    pub(super) fn errors(&self, start: usize) -> PathBuf {
        self.home.join(format!("start-{start}.log"))
    }
}

/// Payments in several files, in order of time but for the disorder that the job allows for.
fn write_input(dir: &Path, seed: u64, rows: usize) -> std::io::Result<()> {
    fs::create_dir(dir)?;
    let mut draw = Draw::stream(seed, "input");
    let mut next = 0;
    for (number, end) in (1..=FILES).map(|n| (n, rows * n / FILES)) {
        let mut text = String::from("account,time,cents\n");
        for row in next..end {
            let payment = Payment {
                account: draw.below(ACCOUNTS) as u32,
                time: row as i64 * STEP_MS + draw.below(DISORDER.as_millis() as u64) as i64,
                cents: draw.below(200_000) as i64 - 100_000,
            };
            let _ = writeln!(text, "{},{},{}", payment.account, payment.time, payment.cents);
        }
        fs::write(dir.join(format!("payments-{number}.csv")), text)?;
        next = end;
    }
    Ok(())
}
