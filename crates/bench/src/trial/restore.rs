//! A start from a checkpoint of large state: how long until the first output.

use super::job::{self, Checkpoints};
use crate::clock::{cpu_ns, now_ns, pause};
use crate::jobs::large::{Pulse, Shape, large};
use rivermark::prelude::{Embedded, JobEnd, StreamEnv};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A checkpoint to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Prepare {
    /// The rows of state.
    pub shape: Shape,
    /// How many.
    pub rows: u64,
    /// Where it goes.
    pub dir: PathBuf,
}

impl Prepare {
    pub(super) fn run(self) -> Result<(), String> {
        let env = StreamEnv::new();
        env.set_parallelism(2);
        large(&env, self.shape, self.rows, &Pulse::default(), || {});
        let checkpoints = Checkpoints {
            dir: self.dir,
            interval_ms: 0,
        };
        let job = env
            .start_with(job::config(Some(&checkpoints)))
            .map_err(job::told)?;
        while job::events(&job) < self.rows {
            job::check(&job)?;
            pause(Duration::from_millis(2));
        }
        job.control().stop();
        match job.wait().map_err(job::told)? {
            JobEnd::Stopped(_) => Ok(()),
            other => Err(format!("the job ended without a last checkpoint: {other:?}")),
        }
    }
}

/// A start to be measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Restore {
    /// The rows of state.
    pub shape: Shape,
    /// How many.
    pub rows: u64,
    /// Where the checkpoint is.
    pub dir: PathBuf,
    /// When the process was started.
    pub started_ns: u64,
}

/// What was measured.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// From the start of the process.
    pub wall_ns: u64,
    /// CPU time of the process until then.
    pub cpu_ns: u64,
}

impl Measured {
    fn now(started_ns: u64) -> Measured {
        Measured {
            wall_ns: now_ns() - started_ns,
            cpu_ns: cpu_ns(),
        }
    }
}

impl Restore {
    pub(super) fn run(self) -> Result<Measured, String> {
        let env = StreamEnv::new();
        env.set_parallelism(2);
        // CPU and time of the first output; a time is never 0.
        let first = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
        let seen = {
            let first = first.clone();
            move || {
                if first.1.load(Ordering::Relaxed) == 0 {
                    first.0.store(cpu_ns(), Ordering::Relaxed);
                    first.1.store(now_ns(), Ordering::Release);
                }
            }
        };
        large(&env, self.shape, self.rows, &Pulse::default(), seen);
        let mut config = job::config(Some(&Checkpoints {
            dir: self.dir,
            interval_ms: 0,
        }));
        config.set("execution.state-recovery.path", "latest");
        let job = env.start_with(config).map_err(job::told)?;
        let at = loop {
            job::check(&job)?;
            match first.1.load(Ordering::Acquire) {
                0 => pause(Duration::from_millis(1)),
                at => break at,
            }
        };
        let stats = job.control().stats();
        if stats.restored_from.is_none() {
            return Err("the job began anew instead of from its checkpoint".to_owned());
        }
        let measured = Measured {
            wall_ns: at - self.started_ns,
            cpu_ns: first.0.load(Ordering::Relaxed),
        };
        job::cancel(job)?;
        Ok(measured)
    }

    /// The limit: only reads the bytes.
    pub(super) fn read(self) -> Result<Measured, String> {
        let bytes = read_all(&self.dir).map_err(|error| format!("{}: {error}", self.dir.display()))?;
        match bytes {
            0 => Err(format!("{}: no checkpoint", self.dir.display())),
            _ => Ok(Measured::now(self.started_ns)),
        }
    }
}

/// Reads every file, two at a time, as two subtasks would; tells how many bytes there are.
fn read_all(dir: &Path) -> io::Result<u64> {
    let mut files = Vec::new();
    list(dir, &mut files)?;
    let halves = [0, 1].map(|half| files.iter().skip(half).step_by(2).collect::<Vec<_>>());
    std::thread::scope(|scope| {
        let readers = halves.map(|half| {
            scope.spawn(move || {
                let mut buffer = vec![0; 1 << 20];
                let mut bytes = 0;
                for path in half {
                    let mut file = File::open(path)?;
                    loop {
                        match file.read(&mut buffer)? {
                            0 => break,
                            read => bytes += read as u64,
                        }
                    }
                }
                Ok::<u64, io::Error>(bytes)
            })
        });
        let sums = readers.map(|reader| {
            let panicked = || io::Error::other("a reader panicked");
            reader.join().map_err(|_| panicked())?
        });
        sums.into_iter().sum()
    })
}

fn list(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            list(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}
