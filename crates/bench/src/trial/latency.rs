//! Events at their times: how long until their outputs are there.

use super::job::{self, Checkpoints};
use super::steady::Rate;
use crate::clock::{now_ns, pause};
use crate::jobs::scheduled::{Scheduled, scheduled};
use crate::limits::hop;
use rivermark::prelude::{Embedded, StreamEnv};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Subtasks of every operator, and partitions of the events.
const WORKERS: u32 = 2;
/// Buckets for each doubling of the latency.
const PER_DOUBLING: u64 = 16;
/// Time for threads to start before the first event.
const HEAD_START: Duration = Duration::from_millis(200);
/// The width of a point of the series, in nanoseconds.
const POINT_NS: u64 = 10_000_000;

/// A run to be measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Latency {
    /// The job with these checkpoints, or else a channel hop.
    pub job: Option<Checkpoints>,
    /// Events a second.
    pub rate: u64,
    /// Keys.
    pub keys: u64,
    /// How long, in milliseconds.
    pub millis: u64,
}

/// What was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// Events and what they cost.
    pub rate: Rate,
    /// Half are faster.
    pub p50_us: f64,
    /// 99 of 100 are faster.
    pub p99_us: f64,
    /// 999 of 1,000 are faster.
    pub p999_us: f64,
    /// 9,999 of 10,000 are faster.
    pub p9999_us: f64,
    /// The slowest of each 10 ms, in microseconds, with the time in milliseconds.
    pub series: Vec<(f64, f64)>,
}

/// How often which latency was seen.
#[derive(Clone)]
struct Seen {
    start_ns: u64,
    counts: Arc<[AtomicU64]>,
    slowest: Arc<[AtomicU64]>,
}

impl Seen {
    fn new(start_ns: u64, millis: u64) -> Seen {
        let points = (millis * 1_000_000).div_ceil(POINT_NS) as usize;
        let zeros = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        Seen {
            start_ns,
            counts: zeros(64 * PER_DOUBLING as usize),
            slowest: zeros(points),
        }
    }

    /// An event that happened at a time has its output now.
    fn note(&self, happened: u64) {
        let latency = now_ns().saturating_sub(happened);
        self.counts[bucket(latency)].fetch_add(1, Ordering::Relaxed);
        let point = happened.saturating_sub(self.start_ns) / POINT_NS;
        if let Some(slowest) = self.slowest.get(point as usize) {
            slowest.fetch_max(latency, Ordering::Relaxed);
        }
    }

    fn events(&self) -> u64 {
        self.counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }

    /// The latency that this share of the events stays below, in microseconds.
    fn quantile_us(&self, share: f64) -> f64 {
        let wanted = (self.events() as f64 * share).ceil() as u64;
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += count.load(Ordering::Relaxed);
            seen >= wanted
        });
        upper_end(bucket.unwrap_or(0)) as f64 / 1e3
    }
}

fn bucket(latency: u64) -> usize {
    let doubling = u64::from(latency.max(PER_DOUBLING).ilog2());
    let within = (latency.max(PER_DOUBLING) >> (doubling - 4)) - PER_DOUBLING;
    (doubling * PER_DOUBLING + within) as usize
}

fn upper_end(bucket: usize) -> u64 {
    let (doubling, within) = (bucket as u64 / PER_DOUBLING, bucket as u64 % PER_DOUBLING);
    (PER_DOUBLING + within + 1) << doubling.saturating_sub(4)
}

impl Latency {
    pub(super) fn run(self) -> Result<Measured, String> {
        let start_ns = now_ns() + HEAD_START.as_nanos() as u64;
        let seen = Seen::new(start_ns, self.millis);
        let partitions = if self.job.is_some() { WORKERS } else { 1 };
        let events = Scheduled::even(self.rate, self.keys, start_ns, u64::from(partitions));
        let note = {
            let seen = seen.clone();
            move |happened| seen.note(happened)
        };
        let while_measured = || {
            pause(HEAD_START);
            Rate::during(Duration::from_millis(self.millis), || seen.events())
        };
        let rate = match &self.job {
            None => {
                let threads = hop::start(events, note)?;
                let rate = while_measured();
                threads.stop()?;
                rate
            }
            Some(checkpoints) => {
                let env = StreamEnv::new();
                env.set_parallelism(WORKERS);
                scheduled(&env, events, note);
                let job = env
                    .start_with(job::config(Some(checkpoints)))
                    .map_err(job::told)?;
                let rate = while_measured();
                job::check(&job)?;
                job::cancel(job)?;
                rate
            }
        };
        let series = seen.slowest.iter().enumerate().map(|(point, slowest)| {
            let ms = (point as u64 * POINT_NS) as f64 / 1e6;
            (ms, slowest.load(Ordering::Relaxed) as f64 / 1e3)
        });
        Ok(Measured {
            rate,
            p50_us: seen.quantile_us(0.5),
            p99_us: seen.quantile_us(0.99),
            p999_us: seen.quantile_us(0.999),
            p9999_us: seen.quantile_us(0.9999),
            series: series.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_lies_in_its_bucket() {
        for latency in [0, 1, 15, 16, 17, 100, 1_000, 123_456_789, u64::MAX >> 1] {
            let bucket = bucket(latency);
            assert!(upper_end(bucket) > latency, "{latency}");
            assert!(bucket == 64 || upper_end(bucket - 1) <= latency, "{latency}");
        }
    }

    #[test]
    fn quantiles_are_those_of_what_was_seen() {
        let seen = Seen::new(0, 10);
        for latency in 1..=10_000u64 {
            seen.counts[bucket(latency * 1_000)].fetch_add(1, Ordering::Relaxed);
        }
        for (share, wanted) in [(0.5, 5_000.0), (0.99, 9_900.0)] {
            let quantile = seen.quantile_us(share);
            assert!((wanted..wanted * 1.07).contains(&quantile), "{quantile}");
        }
    }
}
