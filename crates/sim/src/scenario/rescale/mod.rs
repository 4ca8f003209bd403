//! Jobs that fail while their queues are full, and go on at another parallelism: what `cargo xtask rescale-test` draws.
//!
//! Layout: [`draw`] (the scenario of a seed: alignment, rows and their skew, parallelisms before and after, pressure, limits),
//! `pipeline` (the job: any few operators and exchanges in a row, and its oracle), `threads` (the same on real
//! threads). Everything else is the scenarios' own. Non-goals: faults of stores and disks, which the other scenarios have.

mod pipeline;
mod threads;

use super::api::Part;
use super::copies::draw_copies;
use super::hurt::Crawl;
use super::plan::{Scenario, Shape, SourceKind, Topology, draw_restarts};
use super::rows::{Input, input_rows};
use crate::Draw;
use pipeline::Pipeline;
use rivermark_protocol::coordinator::CoordinatorConfig;
use rivermark_runtime::chain::Slice;
use rivermark_runtime::channel::Credit;
use rivermark_runtime::deploy::Limits;
use rivermark_runtime::task;
use rivermark_state::WriterConfig;
use rivermark_stream::GuaranteeMode;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
pub use threads::run_on_threads;

/// The name of these jobs.
pub(super) const NAME: &str = "rescale";

/// More exchanges than a barrier passes, each of which may keep it until it overtakes.
const LONGEST_WAY: u32 = 8;

/// How checkpoints are aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alignment {
    /// Barriers wait for each other.
    Aligned,
    /// Nobody waits: rows may come twice.
    AtLeastOnce,
    /// Barriers overtake at once.
    Unaligned,
    /// They overtake after a while.
    TimedOut,
}

impl Alignment {
    fn draw(draw: &mut Draw) -> Alignment {
        match draw.below(6) {
            0 => Alignment::Aligned,
            1 => Alignment::AtLeastOnce,
            2 | 3 => Alignment::Unaligned,
            _ => Alignment::TimedOut,
        }
    }

    /// Whether rows may be in flight at its checkpoints.
    pub(crate) fn overtakes(self) -> bool {
        matches!(self, Alignment::Unaligned | Alignment::TimedOut)
    }
}

impl fmt::Display for Alignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Alignment::Aligned => "aligned",
            Alignment::AtLeastOnce => "at-least-once",
            Alignment::Unaligned => "unaligned",
            Alignment::TimedOut => "timed-out",
        })
    }
}

/// What makes a scenario one of these: a job whose queues are full, and how its processes differ.
#[derive(Clone, Debug)]
pub(crate) struct Pressure {
    pub(crate) alignment: Alignment,
    /// Of each operator, by process; those after the last are as the last.
    parallelism: [[u32; 6]; 4],
    /// Rows of a batch, rows of a slice and rows of a channel, whatever else a process draws.
    sizes: (usize, usize, usize),
    /// What the slow operators do with each slice.
    pub(crate) crawl: Crawl,
    /// Sources have no pace of their own.
    is_unpaced: bool,
    /// The most bytes in flight to one subtask.
    in_flight_bytes: Option<u64>,
}

impl fmt::Display for Pressure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [before, after, ..] = &self.parallelism;
        let (batch, slice, channel) = self.sizes;
        write!(
            f,
            "{}, subtasks {before:?} then {after:?}, {batch} rows a batch, {slice} a slice, {channel} a channel, slow {:?}",
            self.alignment, self.crawl
        )
    }
}

impl Pressure {
    /// The shape of a process, by its number from 1.
    pub(crate) fn shape(&self, job: &Scenario, number: u64, draw: &mut Draw) -> Shape {
        let at = (number.max(1) as usize - 1).min(self.parallelism.len() - 1);
        let default = Limits::default();
        let (batch_rows, max_rows, rows) = self.sizes;
        let credit_bytes = if draw.one_in(6) { 64 } else { default.credit.bytes };
        Shape {
            parallelism: self.parallelism[at],
            chaining: !draw.one_in(4),
            limits: Limits {
                credit: Credit {
                    rows,
                    bytes: credit_bytes,
                },
                batch_rows,
                slice: Slice {
                    max_rows,
                    ..default.slice
                },
                pace: task::Pace {
                    walk_rows: [1, 16, 8192][draw.index(3)],
                    linger: Duration::from_millis(draw.between(1, 30)),
                    ..default.pace
                },
                in_flight_bytes: self.in_flight_bytes.unwrap_or(default.in_flight_bytes),
            },
            restarts: draw_restarts(draw),
            rate: if self.is_unpaced { [None; 2] } else { job.rates() },
        }
    }
}

/// What time it is drawn for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Time costs nothing.
    Simulated,
    /// Time passes: everything is shorter.
    Real,
}

/// Draws the scenario of a seed.
pub(crate) fn draw(seed: u64, pace: Pace) -> Scenario {
    let is_real = pace == Pace::Real;
    let draw = &mut Draw::stream(seed, "rescale plan");
    let alignment = Alignment::draw(draw);
    let weak = alignment == Alignment::AtLeastOnce;
    let splits = draw.between(1, 6) as u32;
    let pipeline = Pipeline::draw(&mut Draw::stream(seed, "rescale pipeline"), !weak, splits);
    let disorder = if draw.coin() { 0 } else { draw.between(1, 300) };
    let count = draw.between(100, 400) / pipeline.weight();
    let counts = match pipeline.has_two_sources() {
        true => [count / 2, count - count / 2],
        false => [count, 0],
    };
    let keys = draw.between(1, 30) as u32;
    let skew = draw.index(3);
    let rows = counts.map(|count| Arc::new(skewed(draw, count, keys, skew, disorder)));
    let (shortest, longest) = if is_real { (3, 15) } else { (15, 80) };
    let interval = Duration::from_millis(draw.between(shortest, longest));
    let duration = interval * draw.between(4, 9) as u32;
    let sizes = (
        [1, 3, 7, 20][draw.index(4)],
        [1, 2, 5, 13][draw.index(4)],
        [1, 4, 16, 64][draw.index(4)],
    );
    let unaligned = match alignment {
        Alignment::Aligned | Alignment::AtLeastOnce => None,
        Alignment::Unaligned => Some(Duration::ZERO),
        Alignment::TimedOut => Some(Duration::from_millis(draw.between(1, longest / 3))),
    };
    let pressure = Pressure {
        alignment,
        parallelism: draw_parallelism(draw),
        sizes,
        crawl: draw_crawl(draw, pace, duration, sizes, count * pipeline.weight()),
        // Else all rows may be in the queues, and the sources at their end, before the first checkpoint.
        is_unpaced: sizes.2 <= 4 && draw.coin(),
        in_flight_bytes: draw.one_in(16).then(|| draw.between(100, 2_000)),
    };
    Scenario {
        topology: Topology::Api(NAME),
        part: Some(Arc::new(pipeline)),
        pressure: Some(pressure),
        outage: None,
        mode: match weak {
            true => GuaranteeMode::AtLeastOnce,
            false => GuaranteeMode::ExactlyOnce,
        },
        unaligned,
        source: SourceKind::Collection(Some(splits)),
        file_sink: (!is_real && !weak && draw.one_in(4)).then(|| [50, 400, 1 << 20][draw.index(3)]),
        rows,
        disorder: Duration::from_millis(disorder),
        window: Duration::from_millis(draw.between(30, 1500)),
        max_parallelism: draw.coin().then(|| draw.between(4, 9) as u32),
        watermark_interval: Duration::from_millis(draw.between(1, 20)),
        duration,
        checkpoints: CoordinatorConfig {
            interval: Some(interval),
            num_retained: draw.between(1, 3) as usize,
            // Some are given up in the middle. Those that stay aligned would never end behind what is slow.
            timeout: match (draw.one_in(6), draw.between(1, 3) as u32, unaligned) {
                (true, times, Some(after)) => (after * LONGEST_WAY) + interval * times,
                _ => Duration::from_secs(600),
            },
            max_concurrent: if unaligned.is_none() && draw.one_in(3) {
                2
            } else {
                1
            },
            ..CoordinatorConfig::default()
        },
        writer: {
            let writer = WriterConfig {
                seal_after: Duration::from_millis(draw.between(1, 20)),
                ..WriterConfig::default()
            };
            match is_real {
                true => writer,
                false => draw_copies(seed, writer),
            }
        },
    }
}

/// Before the first failure, and after it; once in a while the same.
fn draw_parallelism(draw: &mut Draw) -> [[u32; 6]; 4] {
    let mut drawn: [[u32; 6]; 4] = Default::default();
    for at in 0..drawn.len() {
        drawn[at] = match at.checked_sub(1) {
            Some(before) if draw.one_in(5) => drawn[before],
            _ => std::array::from_fn(|_| draw.between(1, 4) as u32),
        };
    }
    drawn
}

/// So long that the rows take a few times as long as they are read in.
fn draw_crawl(
    draw: &mut Draw,
    pace: Pace,
    duration: Duration,
    sizes: (usize, usize, usize),
    rows: u64,
) -> Crawl {
    let slices = rows / sizes.0.min(sizes.1) as u64 + 1;
    let whole = duration * draw.between(2, 5) as u32;
    let each = whole / slices as u32;
    match pace {
        Pace::Real if draw.coin() => {
            Crawl::Works(each.clamp(Duration::from_micros(20), Duration::from_millis(3)))
        }
        _ => Crawl::Waits(each.clamp(Duration::from_millis(1), Duration::from_millis(150))),
    }
}

/// Rows whose keys are even, or half of them one key, or the more the smaller.
fn skewed(draw: &mut Draw, count: u64, keys: u32, skew: usize, disorder: u64) -> Vec<Input> {
    let mut rows = input_rows(draw, count, keys, disorder);
    for row in &mut rows {
        match skew {
            1 if draw.coin() => row.key = 0,
            2 => row.key = draw.below(u64::from(row.key) + 1) as u32,
            _ => {}
        }
    }
    rows
}
