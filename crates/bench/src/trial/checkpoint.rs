//! A checkpoint of large state under load: what it costs, and what the outputs notice of it.

use super::job::{self, Checkpoints};
use super::steady::Rate;
use crate::clock::{cpu_ns, now_ns, pause, resident_bytes};
use crate::jobs::large::{Pulse, ROWS_PER_MARK, Shape, large};
use rivermark::prelude::{Embedded, LocalJob, StreamEnv};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const MS: u64 = 1_000_000;
/// The window in which throughput is looked at most closely.
const SHORT_WINDOW_NS: u64 = 50 * MS;
/// The width of a point of the series.
const POINT_NS: u64 = 10 * MS;

/// A checkpoint to be measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The rows of state.
    pub shape: Shape,
    /// How many.
    pub rows: u64,
    /// How long before and after the freeze, in milliseconds.
    pub around_ms: u64,
    /// Where the checkpoint goes.
    pub dir: PathBuf,
}

/// What was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// Before: the job without checkpoints.
    pub before: Rate,
    /// While the checkpoint is under way, and at least as long as before.
    pub after: Rate,
    /// The longest time in which a subtask did nothing but its part of the freeze, in microseconds.
    pub sync_us: f64,
    /// The longest time between two outputs of a subtask after the freeze, in milliseconds.
    pub gap_ms: f64,
    /// The same while the state grew.
    pub growth_gap_ms: f64,
    /// Outputs after the freeze over outputs before it.
    pub after_over_before: f64,
    /// Outputs in the worst 50 ms after the freeze over those of 50 ms before it.
    pub worst50ms: f64,
    /// Memory at its highest over memory before, in megabytes.
    pub extra_mb: f64,
    /// From trigger to decision.
    pub complete_ms: f64,
    /// Outputs a second in intervals of 10 ms, with the middle of the interval in milliseconds after the freeze.
    pub series: Vec<(f64, f64)>,
}

impl Checkpoint {
    pub(super) fn run(self) -> Result<Measured, String> {
        let pulse = Pulse::default();
        let env = StreamEnv::new();
        env.set_parallelism(2);
        large(&env, self.shape, self.rows, &pulse, || {});
        let checkpoints = Checkpoints {
            dir: self.dir.clone(),
            interval_ms: 0,
        };
        let job = env
            .start_with(job::config(Some(&checkpoints)))
            .map_err(job::told)?;
        while job::events(&job) < self.rows {
            job::check(&job)?;
            pause(Duration::from_millis(2));
        }
        let grown = now_ns();
        let around = Duration::from_millis(self.around_ms);
        pause(around / 2);
        let before = Rate::during(around, || job::events(&job));
        let taken = self.take(&job, around)?;
        job::check(&job)?;
        let stats = job.control().stats();
        let complete_ms = stats
            .checkpoints
            .last()
            .map_or(0.0, |checkpoint| checkpoint.duration.as_secs_f64() * 1e3);
        let marks = pulse.marks();
        let outputs = Outputs { marks: &marks };
        let around_ns = self.around_ms * MS;
        let (freeze, end) = (taken.freeze, taken.freeze + around_ns);
        let rate_before = outputs.rate(freeze - around_ns, freeze);
        let measured = Measured {
            before,
            after: taken.rate,
            sync_us: stats.counters.longest_freeze_ns() as f64 / 1e3,
            gap_ms: outputs.longest_gap(freeze, end.max(taken.decided)) as f64 / 1e6,
            growth_gap_ms: outputs.longest_gap(0, grown) as f64 / 1e6,
            after_over_before: outputs.rate(freeze, end) / rate_before,
            worst50ms: outputs.worst(freeze, end, SHORT_WINDOW_NS.min(around_ns / 2)) / rate_before,
            extra_mb: taken.extra_bytes as f64 / 1e6,
            complete_ms,
            series: outputs.series(freeze, freeze - around_ns, end.max(taken.decided + around_ns / 2)),
        };
        job::cancel(job)?;
        Ok(measured)
    }

    /// Takes a checkpoint and lets the job run on until as much time has passed as was looked at before.
    fn take(&self, job: &LocalJob, around: Duration) -> Result<Taken, String> {
        let memory = resident_bytes();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let highest = scope.spawn(|| {
                let mut highest = memory;
                while !over.load(Ordering::Relaxed) {
                    highest = highest.max(resident_bytes());
                    pause(Duration::from_millis(5));
                }
                highest
            });
            let (events, cpu, freeze) = (job::events(job), cpu_ns(), now_ns());
            let taken = job.block_on(job.control().checkpoint_now());
            let decided = now_ns();
            pause(around.saturating_sub(Duration::from_nanos(decided - freeze)));
            let rate = Rate {
                events: job::events(job) - events,
                wall_ns: now_ns() - freeze,
                cpu_ns: cpu_ns() - cpu,
            };
            pause(around / 2);
            over.store(true, Ordering::Relaxed);
            let highest = highest.join().map_err(|_| "the look at memory panicked")?;
            taken.map_err(job::told)?;
            Ok(Taken {
                rate,
                freeze,
                decided,
                extra_bytes: highest - memory,
            })
        })
    }
}

/// A checkpoint as seen from outside.
struct Taken {
    rate: Rate,
    freeze: u64,
    decided: u64,
    extra_bytes: u64,
}

/// When outputs came.
struct Outputs<'a> {
    marks: &'a [Vec<u64>],
}

impl Outputs<'_> {
    fn count(&self, from: u64, to: u64) -> u64 {
        let within = |marks: &Vec<u64>| {
            marks.partition_point(|mark| *mark < to) - marks.partition_point(|mark| *mark < from)
        };
        self.marks.iter().map(within).sum::<usize>() as u64 * ROWS_PER_MARK
    }

    /// Outputs a second.
    fn rate(&self, from: u64, to: u64) -> f64 {
        self.count(from, to) as f64 * 1e9 / (to - from).max(1) as f64
    }

    /// Outputs a second in the worst window.
    fn worst(&self, from: u64, to: u64, window: u64) -> f64 {
        (from..to.saturating_sub(window))
            .step_by(MS as usize)
            .map(|at| self.rate(at, at + window))
            .fold(f64::INFINITY, f64::min)
    }

    fn longest_gap(&self, from: u64, to: u64) -> u64 {
        let gaps = self.marks.iter().flat_map(|marks| {
            let pairs = marks.windows(2).filter(|pair| pair[1] >= from && pair[0] <= to);
            pairs.map(|pair| pair[1] - pair[0])
        });
        gaps.max().unwrap_or(0)
    }

    fn series(&self, zero: u64, from: u64, to: u64) -> Vec<(f64, f64)> {
        (from..to)
            .step_by(POINT_NS as usize)
            .map(|at| {
                let middle = (at + POINT_NS / 2) as f64 - zero as f64;
                (middle / 1e6, self.rate(at, at + POINT_NS))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_and_the_worst_window_are_found() {
        // A mark every millisecond, but none for 30 ms after the hundredth.
        let even: Vec<u64> = (0..300)
            .map(|ms| ms * MS)
            .filter(|at| !(100 * MS..130 * MS).contains(at))
            .collect();
        let marks = vec![even];
        let outputs = Outputs { marks: &marks };
        assert_eq!(outputs.longest_gap(0, 300 * MS), 31 * MS);
        assert_eq!(outputs.longest_gap(200 * MS, 300 * MS), MS);
        let usual = outputs.rate(200 * MS, 300 * MS);
        let worst = outputs.worst(50 * MS, 290 * MS, 50 * MS) / usual;
        assert!((worst - 0.4).abs() < 0.03, "{worst}");
    }
}
