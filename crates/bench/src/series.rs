//! All workloads, one after the other: limit and job in turns, several rounds, medians.
//!
//! Layout: `loads` (checkpoints of jobs under a load); here, all others.

mod loads;

use crate::clock::now_ns;
use crate::jobs::large::Shape;
use crate::picture;
use crate::rows::{Row, median};
use crate::sizes::Sizes;
use crate::trial::job::Checkpoints;
use crate::trial::steady::{Rate, Side, Steady, Workload};
use crate::trial::{Trial, checkpoint, latency, measure, restore};
use std::path::PathBuf;
use tempfile::TempDir;

/// The workloads, by name.
pub const NAMES: [&str; 10] = [
    "stateless",
    "keyed_u64",
    "keyed_string",
    "keyed_struct",
    "window",
    "checkpoint",
    "latency",
    "restore",
    "backpressure",
    "skew",
];

const SHAPES: [Shape; 2] = [Shape::Wide, Shape::Narrow];

/// Subtasks of everything with a key.
const WORKERS: u32 = 2;

/// Events a second of the latency workload.
const SCHEDULED: u64 = 50_000;

/// A run of the benchmarks.
pub struct Series<'a> {
    /// How much is measured.
    pub sizes: Sizes,
    /// Where drawings go, if they are wanted.
    pub pictures: Option<PathBuf>,
    /// Told what is going on.
    pub progress: &'a mut dyn FnMut(&str),
    /// Told every result.
    pub result: &'a mut dyn FnMut(&Row),
}

impl Series<'_> {
    /// Measures one workload of [`NAMES`].
    pub fn run(&mut self, name: &'static str) -> Result<(), String> {
        let keys = self.sizes.keys;
        match name {
            "stateless" => {
                self.steady(name, Workload::Stateless, 1, 1)?;
                self.steady(name, Workload::Stateless, 2, 1)
            }
            "keyed_u64" => self.steady(name, Workload::KeyedU64, WORKERS, keys),
            "keyed_string" => self.steady(name, Workload::KeyedString, WORKERS, keys),
            "keyed_struct" => self.steady(name, Workload::KeyedStruct, WORKERS, keys),
            "window" => self.steady(name, Workload::Window, WORKERS, self.sizes.sensors),
            "checkpoint" => each_shape(|shape| self.checkpoint(shape)),
            "latency" => self.latency(),
            "restore" => each_shape(|shape| self.restore(shape)),
            "backpressure" => loads::backpressure(self),
            "skew" => loads::skew(self),
            other => Err(format!("{other}: no such workload (known: {})", NAMES.join(", "))),
        }
    }

    fn steady(
        &mut self,
        name: &'static str,
        workload: Workload,
        parallelism: u32,
        keys: u64,
    ) -> Result<(), String> {
        let sizes = self.sizes;
        let mut rounds = Vec::new();
        for round in 1..=sizes.rounds {
            (self.progress)(&format!(
                "{name}, parallelism {parallelism}: round {round} of {}",
                sizes.rounds
            ));
            let run = |side: Side, millis: u64| {
                measure::<Rate>(&Trial::Steady(Steady {
                    workload,
                    side,
                    parallelism,
                    keys,
                    // By then hardly a key has not been seen.
                    warm: 6 * keys,
                    millis,
                }))
            };
            let dir = temporary()?;
            let limit = run(Side::Limit, sizes.off_ms)?;
            let off = run(Side::Job(None), sizes.off_ms)?;
            let on = run(
                Side::Job(Some(Checkpoints {
                    dir: dir.path().to_owned(),
                    interval_ms: sizes.interval_ms,
                })),
                sizes.on_ms,
            )?;
            rounds.push((limit, [off, on]));
        }
        for (which, checkpoints) in ["off".to_owned(), interval(sizes)].into_iter().enumerate() {
            let pairs = rounds.iter().map(|(limit, jobs)| (*limit, jobs[which]));
            (self.result)(&row(name, parallelism, checkpoints, pairs));
        }
        Ok(())
    }

    fn checkpoint(&mut self, shape: Shape) -> Result<(), String> {
        let (sizes, rows) = (self.sizes, self.rows(shape));
        let mut rounds: Vec<checkpoint::Measured> = Vec::new();
        for round in 1..=sizes.checkpoint_rounds {
            (self.progress)(&format!(
                "checkpoint, {}: round {round} of {}",
                shape.name(rows),
                sizes.checkpoint_rounds
            ));
            let dir = temporary()?;
            rounds.push(measure(&Trial::Checkpoint(checkpoint::Checkpoint {
                shape,
                rows,
                around_ms: sizes.around_ms,
                dir: dir.path().to_owned(),
            }))?);
        }
        let pairs = rounds.iter().map(|round| (round.before, round.after));
        let middle = |of: fn(&checkpoint::Measured) -> f64| median(rounds.iter().map(of));
        (self.result)(&Row {
            shape: Some(shape.name(rows)),
            own: vec![
                ("sync_us", middle(|round| round.sync_us)),
                ("gap_ms", middle(|round| round.gap_ms)),
                ("after_over_before", middle(|round| round.after_over_before)),
                ("worst50ms", middle(|round| round.worst50ms)),
                ("extra_mb", middle(|round| round.extra_mb)),
                ("complete_ms", middle(|round| round.complete_ms)),
                ("growth_gap_ms", middle(|round| round.growth_gap_ms)),
            ],
            ..row("checkpoint", WORKERS, "once".to_owned(), pairs)
        });
        let (Some(round), Some(dir)) = (rounds.pop(), &self.pictures) else {
            return Ok(());
        };
        let what = match shape {
            Shape::Wide => "wide",
            Shape::Narrow => "narrow",
        };
        picture::throughput(&shape.name(rows), round.complete_ms, &round.series)
            .write(&dir.join(format!("throughput-{what}.svg")))
    }

    fn latency(&mut self) -> Result<(), String> {
        let sizes = self.sizes;
        let dir = temporary()?;
        let run = |job: Option<Checkpoints>, millis: u64| {
            measure::<latency::Measured>(&Trial::Latency(latency::Latency {
                job,
                rate: SCHEDULED,
                keys: sizes.keys,
                millis,
            }))
        };
        (self.progress)("latency: the limit");
        let limit = run(None, sizes.latency_ms.min(2_000))?;
        (self.progress)("latency: the job");
        let checkpoints = Checkpoints {
            dir: dir.path().to_owned(),
            interval_ms: sizes.interval_ms,
        };
        let measured = run(Some(checkpoints), sizes.latency_ms)?;
        (self.result)(&Row {
            own: vec![
                ("p50_us", measured.p50_us),
                ("p99_us", measured.p99_us),
                ("p999_us", measured.p999_us),
                ("p9999_us", measured.p9999_us),
                ("limit_p50_us", limit.p50_us),
                ("limit_p99_us", limit.p99_us),
            ],
            ..row(
                "latency",
                WORKERS,
                interval(sizes),
                [(limit.rate, measured.rate)].into_iter(),
            )
        });
        match &self.pictures {
            Some(dir) => picture::latency(SCHEDULED, &measured.series).write(&dir.join("latency.svg")),
            None => Ok(()),
        }
    }

    fn restore(&mut self, shape: Shape) -> Result<(), String> {
        let rows = self.rows(shape);
        let dir = temporary()?;
        (self.progress)(&format!("restore, {}: the checkpoint", shape.name(rows)));
        measure::<()>(&Trial::Prepare(restore::Prepare {
            shape,
            rows,
            dir: dir.path().to_owned(),
        }))?;
        let start = || restore::Restore {
            shape,
            rows,
            dir: dir.path().to_owned(),
            started_ns: now_ns(),
        };
        let mut rounds = Vec::new();
        for round in 1..=self.sizes.restores {
            (self.progress)(&format!(
                "restore, {}: round {round} of {}",
                shape.name(rows),
                self.sizes.restores
            ));
            let limit = measure::<restore::Measured>(&Trial::Read(start()))?;
            rounds.push((limit, measure::<restore::Measured>(&Trial::Restore(start()))?));
        }
        let rate = |measured: restore::Measured| Rate {
            events: rows,
            wall_ns: measured.wall_ns,
            cpu_ns: measured.cpu_ns,
        };
        let pairs = rounds.iter().map(|(limit, job)| (rate(*limit), rate(*job)));
        (self.result)(&Row {
            shape: Some(shape.name(rows)),
            own: vec![(
                "first_output_ms",
                median(rounds.iter().map(|(_, job)| job.wall_ns as f64 / 1e6)),
            )],
            ..row("restore", WORKERS, "off".to_owned(), pairs)
        });
        Ok(())
    }

    fn rows(&self, shape: Shape) -> u64 {
        match shape {
            Shape::Wide => self.sizes.wide_rows,
            Shape::Narrow => self.sizes.narrow_rows,
        }
    }
}

/// Medians over rounds of limit and job.
fn row(
    name: &'static str,
    parallelism: u32,
    checkpoints: String,
    rounds: impl Iterator<Item = (Rate, Rate)>,
) -> Row {
    let rounds: Vec<(Rate, Rate)> = rounds.collect();
    let limits = || rounds.iter().map(|(limit, _)| limit);
    let jobs = || rounds.iter().map(|(_, job)| job);
    let ratio = |(limit, job): &(Rate, Rate)| limit.cpu_ns_per_event() / job.cpu_ns_per_event();
    Row {
        name,
        parallelism,
        checkpoints,
        events_per_s: median(jobs().map(Rate::events_per_s)),
        cpu_ns_per_event: median(jobs().map(Rate::cpu_ns_per_event)),
        limit_events_per_s: median(limits().map(Rate::events_per_s)),
        limit_cpu_ns_per_event: median(limits().map(Rate::cpu_ns_per_event)),
        ratio: median(rounds.iter().map(ratio)),
        shape: None,
        own: vec![],
    }
}

fn interval(sizes: Sizes) -> String {
    match sizes.interval_ms {
        1_000 => "1s".to_owned(),
        other => format!("{other}ms"),
    }
}

/// Measures both shapes, also if the first fails.
fn each_shape(measure: impl FnMut(Shape) -> Result<(), String>) -> Result<(), String> {
    let results = SHAPES.map(measure);
    results.into_iter().collect()
}

fn temporary() -> Result<TempDir, String> {
    tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))
}
