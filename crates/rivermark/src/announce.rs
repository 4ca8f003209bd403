//! What a running job tells a program that watches it: one line a phase, through `--announce FILE`.
//!
//! For tests that kill the process, aimed at a phase, and for the `flights` example. The file is opened for appending,
//! so `/dev/stdout` (a pipe to the parent) and a named pipe do as well as a file. Each line is one [`Announcement`] as
//! text, and [`Announcement::from_str`] reads it. `snapshot`, `deciding` and `committing` are written by the master
//! itself, before it does what they say, `committed` once it is done: a parent that reads one and kills at once hits that phase.
//! Non-goal: anything for people (see `progress`).

use rivermark_env::Env;
use rivermark_job::{JobControl, JobStats};
use rivermark_protocol::coordinator::CkAction;
use rivermark_runtime::TaskCommand;
use rivermark_runtime::seams::Seams;
use rivermark_types::{CheckpointId, Failure, Result};
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// How often a change of the number of records read is announced.
const READ_EVERY: Duration = Duration::from_millis(5);

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// The job runs, from this checkpoint or from the beginning.
    Running(Option<CheckpointId>),
    /// So many records were read so far, those read again counted again.
    Read(u64),
    /// Barriers are about to be sent.
    Snapshot(CheckpointId),
    /// The head is about to be written.
    Deciding(CheckpointId),
    /// The head is written; sinks are about to be told to commit.
    Committing(CheckpointId),
    /// Every sink has committed.
    Committed(CheckpointId),
    /// Size and duration of a decided checkpoint.
    Decided {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// What it stored.
        bytes: u64,
        /// From trigger to decision.
        millis: u64,
    },
    /// The most there was in memory at once in this process; behind each decided checkpoint and before the end.
    Peaks {
        /// Bytes queued in one channel.
        channel: u64,
        /// Bytes of one batch.
        batch: u64,
        /// Bytes of captured state.
        captured: u64,
    },
    /// The job has ended by itself; the last line.
    Ended {
        /// Records read, those read again counted again.
        read: u64,
        /// Records dropped as late.
        late: u64,
    },
}

impl Announcement {
    pub(crate) fn peaks(stats: &JobStats) -> Announcement {
        let channels = &stats.counters.channels;
        Announcement::Peaks {
            channel: channels.bytes.get(),
            batch: channels.batch_bytes.get(),
            captured: stats.captured_peak,
        }
    }
}

impl fmt::Display for Announcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Announcement::Running(Some(from)) => write!(f, "running {from}"),
            Announcement::Running(None) => write!(f, "running"),
            Announcement::Read(records) => write!(f, "read {records}"),
            Announcement::Snapshot(checkpoint) => write!(f, "snapshot {checkpoint}"),
            Announcement::Deciding(checkpoint) => write!(f, "deciding {checkpoint}"),
            Announcement::Committing(checkpoint) => write!(f, "committing {checkpoint}"),
            Announcement::Committed(checkpoint) => write!(f, "committed {checkpoint}"),
            Announcement::Decided {
                checkpoint,
                bytes,
                millis,
            } => write!(f, "decided {checkpoint} {bytes} {millis}"),
            Announcement::Peaks {
                channel,
                batch,
                captured,
            } => write!(f, "peaks {channel} {batch} {captured}"),
            Announcement::Ended { read, late } => write!(f, "ended {read} {late}"),
        }
    }
}

impl FromStr for Announcement {
    type Err = Failure;

    fn from_str(line: &str) -> Result<Announcement> {
        let unknown = || Failure::data(format!("{line:?} is no announcement"));
        let mut words = line.split_whitespace();
        let word = words.next().unwrap_or_default();
        let numbers = words
            .map(|number| number.parse().map_err(|_| unknown()))
            .collect::<Result<Vec<u64>>>()?;
        Ok(match (word, numbers.as_slice()) {
            ("running", []) => Announcement::Running(None),
            ("running", &[from]) => Announcement::Running(Some(CheckpointId(from))),
            ("read", &[records]) => Announcement::Read(records),
            ("snapshot", &[id]) => Announcement::Snapshot(CheckpointId(id)),
            ("deciding", &[id]) => Announcement::Deciding(CheckpointId(id)),
            ("committing", &[id]) => Announcement::Committing(CheckpointId(id)),
            ("committed", &[id]) => Announcement::Committed(CheckpointId(id)),
            ("decided", &[id, bytes, millis]) => Announcement::Decided {
                checkpoint: CheckpointId(id),
                bytes,
                millis,
            },
            ("peaks", &[channel, batch, captured]) => Announcement::Peaks {
                channel,
                batch,
                captured,
            },
            ("ended", &[read, late]) => Announcement::Ended { read, late },
            _ => return Err(unknown()),
        })
    }
}

/// Writes announcements. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Announcer {
    file: Arc<Mutex<File>>,
    /// The job, once it is started.
    job: Arc<OnceLock<JobControl>>,
}

impl Announcer {
    pub(crate) fn open(path: &Path) -> Result<Announcer> {
        let file = File::options()
            .append(true)
            .create(true)
            .open(path)
            .map_err(|error| Failure::invalid(format!("--announce {}: {error}", path.display())))?;
        Ok(Announcer {
            file: Arc::new(Mutex::new(file)),
            job: Arc::default(),
        })
    }

    pub(crate) fn say(&self, announcement: Announcement) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // One write a line: a line is never torn by a kill. A watcher that has gone is no reason to end the job.
        let _ = file.write_all(format!("{announcement}\n").as_bytes());
    }

    fn say_read(&self, last: &mut u64) {
        let read = self.job.get().map_or(0, |job| job.stats().records_in());
        if read != *last {
            *last = read;
            self.say(Announcement::Read(read));
        }
    }

    /// Announces what the job's statistics show, until it is aborted.
    pub(crate) async fn follow(self, env: Env, control: JobControl) {
        let _ = self.job.set(control.clone());
        let (mut running, mut read, mut told) = (None, 0, CheckpointId(0));
        loop {
            let stats = control.stats();
            if stats.state == "running" && running != Some(stats.attempt) {
                running = Some(stats.attempt);
                self.say(Announcement::Running(stats.restored_from));
            }
            for summary in stats.checkpoints.iter().filter(|summary| summary.id > told) {
                let millis = summary.duration.as_millis() as u64;
                self.say(Announcement::Decided {
                    checkpoint: summary.id,
                    bytes: summary.bytes,
                    millis,
                });
                self.say(Announcement::peaks(&stats));
            }
            told = stats
                .checkpoints
                .last()
                .map_or(told, |summary| summary.id.max(told));
            self.say_read(&mut read);
            env.sleep(READ_EVERY).await;
        }
    }
}

impl Seams for Announcer {
    fn coordinate(&self, action: &CkAction) -> Option<TaskCommand> {
        match action {
            CkAction::TriggerSources(barrier) => self.say(Announcement::Snapshot(barrier.checkpoint)),
            CkAction::Decide { checkpoint, .. } => self.say(Announcement::Deciding(*checkpoint)),
            CkAction::NotifyComplete(committed) => {
                // At least what was read when the checkpoint was decided is known, however soon the kill comes.
                self.say_read(&mut 0);
                self.say(Announcement::Committing(committed.checkpoint()));
            }
            _ => {}
        }
        None
    }

    fn committed(&self, checkpoint: CheckpointId) {
        self.say(Announcement::Committed(checkpoint));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let id = CheckpointId(7);
        for announcement in [
            Announcement::Running(None),
            Announcement::Running(Some(id)),
            Announcement::Read(12),
            Announcement::Snapshot(id),
            Announcement::Deciding(id),
            Announcement::Committing(id),
            Announcement::Committed(id),
            Announcement::Decided {
                checkpoint: id,
                bytes: 4100,
                millis: 12,
            },
            Announcement::Peaks {
                channel: 4096,
                batch: 512,
                captured: 0,
            },
            Announcement::Ended { read: 12, late: 0 },
        ] {
            assert_eq!(
                announcement.to_string().parse::<Announcement>().unwrap(),
                announcement
            );
        }
        for line in ["", "reading 3", "read", "read x", "decided 1", "snapshot -1"] {
            assert!(line.parse::<Announcement>().is_err(), "{line}");
        }
    }
}
