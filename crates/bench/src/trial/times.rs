//! How long checkpoints take, one after the other, while a job is under some load.

use super::job::{self, Checkpoints};
use super::steady::Rate;
use crate::clock::{now_ns, pause};
use crate::jobs::paced::{Taken, paced};
use crate::jobs::scheduled::Scheduled;
use rivermark::prelude::{Config, Embedded, LocalJob, StreamEnv};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Between two checkpoints: so that they do not begin with what the last one left.
const PAUSE: Duration = Duration::from_millis(20);

/// How barriers get past rows that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// They wait with them.
    Aligned,
    /// They overtake them.
    Unaligned,
    /// They overtake them after so many milliseconds.
    TimedOut(u64),
}

impl Mode {
    /// Its name in a table.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Aligned => "aligned",
            Mode::Unaligned => "unaligned",
            Mode::TimedOut(_) => "timed-out",
        }
    }

    fn set(self, config: &mut Config) {
        if self != Mode::Aligned {
            config.set("execution.checkpointing.unaligned.enabled", "true");
        }
        if let Mode::TimedOut(ms) = self {
            let ms = format!("{ms} ms");
            config.set("execution.checkpointing.aligned-checkpoint-timeout", ms.as_str());
        }
    }
}

/// Checkpoints to be measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Times {
    /// How barriers get through.
    pub mode: Mode,
    /// Subtasks of every operator.
    pub parallelism: u32,
    /// Events offered a second.
    pub rate: u64,
    /// Keys.
    pub keys: u64,
    /// Partitions of the events.
    pub partitions: u64,
    /// Whether half of the events are in one partition and a fifth has the same key.
    pub is_skewed: bool,
    /// How long a sink takes for a row, in nanoseconds.
    pub sink_ns: u64,
    /// The load lasts so long before the first checkpoint, in milliseconds.
    pub warm_ms: u64,
    /// So many checkpoints.
    pub checkpoints: usize,
    /// But no more after so long, in milliseconds.
    pub millis: u64,
    /// Where they go.
    pub dir: PathBuf,
}

/// What was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// Rows that sinks took.
    pub rate: Rate,
    /// From trigger to decision, each, in milliseconds, the shortest first.
    pub times_ms: Vec<f64>,
    /// The bytes in flight of the checkpoint with the most.
    pub in_flight_bytes: u64,
    /// Rows that a sink takes at once, on average.
    pub rows_a_batch: f64,
}

impl Measured {
    /// The time that this share of the checkpoints stays within.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let rank = (self.times_ms.len() as f64 * share).ceil() as usize;
        self.times_ms.get(rank.max(1) - 1).copied().unwrap_or(0.0)
    }
}

impl Times {
    pub(super) fn run(self) -> Result<Measured, String> {
        let taken = Taken::default();
        let job = self.start(&taken)?;
        pause(Duration::from_millis(self.warm_ms));
        let mut checkpoints = Ok(());
        let rate = Rate::during_work(|| checkpoints = self.take(&job), || taken.rows());
        checkpoints?;
        job::check(&job)?;
        let stats = job.control().stats();
        let mut times_ms: Vec<f64> = stats
            .checkpoints
            .iter()
            .map(|checkpoint| checkpoint.duration.as_secs_f64() * 1e3)
            .collect();
        times_ms.sort_by(f64::total_cmp);
        let in_flight = stats
            .checkpoints
            .iter()
            .map(|checkpoint| checkpoint.in_flight_bytes);
        let sinks = stats
            .counters
            .sinks
            .iter()
            .filter_map(|sink| stats.counters.subtasks.get(sink));
        let (rows, batches) = sinks.fold((0, 0), |(rows, batches), sink| {
            (
                rows + sink.records_in.load(Relaxed),
                batches + sink.batches_in.load(Relaxed),
            )
        });
        let measured = Measured {
            rate,
            times_ms,
            in_flight_bytes: in_flight.max().unwrap_or(0),
            rows_a_batch: rows as f64 / batches.max(1) as f64,
        };
        job::cancel(job)?;
        Ok(measured)
    }

    fn start(&self, taken: &Taken) -> Result<LocalJob, String> {
        let env = StreamEnv::new();
        env.set_parallelism(self.parallelism);
        let mut events = Scheduled::even(self.rate, self.keys, now_ns(), self.partitions);
        if self.is_skewed {
            events = events.skewed().map_err(job::told)?;
        }
        paced(&env, events, Duration::from_nanos(self.sink_ns), taken.clone());
        let mut config = job::config(Some(&Checkpoints {
            dir: self.dir.clone(),
            interval_ms: 0,
        }));
        self.mode.set(&mut config);
        env.start_with(config).map_err(job::told)
    }

    fn take(&self, job: &LocalJob) -> Result<(), String> {
        let end = now_ns() + self.millis * 1_000_000;
        for _ in 0..self.checkpoints {
            pause(PAUSE);
            job.block_on(job.control().checkpoint_now()).map_err(job::told)?;
            if now_ns() > end {
                break;
            }
        }
        if self.checkpoints == 0 {
            // There is still a rate to measure.
            pause(Duration::from_millis(self.millis));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_times_that_were_measured() {
        let measured = |times_ms: Vec<f64>| Measured {
            rate: Rate {
                events: 0,
                wall_ns: 1,
                cpu_ns: 1,
            },
            times_ms,
            in_flight_bytes: 0,
            rows_a_batch: 0.0,
        };
        let hundred = measured((1..=100).map(f64::from).collect());
        assert_eq!(
            (hundred.quantile_ms(0.5), hundred.quantile_ms(0.99)),
            (50.0, 99.0)
        );
        assert_eq!(measured(vec![7.0]).quantile_ms(0.99), 7.0);
        assert_eq!(measured(vec![]).quantile_ms(0.99), 0.0);
    }
}
