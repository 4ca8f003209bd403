//! What a seed's scenario is: the job, its rows, its pace, and how each process of it is shaped. All of it is drawn here.
//!
//! Non-goal: what goes wrong (`trouble`).

use super::api::{self, Part};
use super::copies::draw_copies;
use super::outage::Outage;
use super::rescale::Pressure;
use super::rows::{Input, input_rows};
use crate::Draw;
use rivermark_protocol::coordinator::CoordinatorConfig;
use rivermark_protocol::restart::RestartStrategy;
use rivermark_runtime::chain::Slice;
use rivermark_runtime::channel::Credit;
use rivermark_runtime::deploy::Limits;
use rivermark_runtime::task::Pace;
use rivermark_state::WriterConfig;
use rivermark_stream::GuaranteeMode;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The shapes of job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topology {
    /// Source, map and filter, key, tumbling windows, sink.
    Window,
    /// Source, key, an operator with values, maps and timers, sink.
    Timers,
    /// Source, fan-out, rebalance, key, windows, another key, timers, sink.
    Exchanges,
    /// Two sources in one stream, key, windows, sink.
    Union,
    /// Two keyed streams joined on lists by timers, sink.
    Join,
    /// A running value per key, emitted per row: the one job whose output depends on the order of rows.
    Running,
    /// A part of the DataStream API, by its name in `api`.
    Api(&'static str),
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Topology::Window => "window",
            Topology::Timers => "timers",
            Topology::Exchanges => "exchanges",
            Topology::Union => "union",
            Topology::Join => "join",
            Topology::Running => "running",
            Topology::Api(part) => part,
        })
    }
}

/// Where the rows come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceKind {
    /// A vector in so many ranges, or one a subtask.
    Collection(Option<u32>),
    /// Made from numbers.
    Generator,
    /// Lines of JSON in the files of a directory, in splits of so many bytes.
    Files(u64),
}

/// A job and its input.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) topology: Topology,
    /// The job of a part of the API.
    pub(crate) part: Option<Arc<dyn Part>>,
    /// What fills its queues, and how its processes differ; drawn by `rescale`.
    pub(crate) pressure: Option<Pressure>,
    /// Its store is away for a while; drawn by `outage`.
    pub(crate) outage: Option<Outage>,
    pub(crate) mode: GuaranteeMode,
    /// How long its checkpoints are aligned before barriers overtake; `None` is always.
    pub(crate) unaligned: Option<Duration>,
    pub(crate) source: SourceKind,
    /// Files as the sink, rolled at so many bytes; else the collecting one.
    pub(crate) file_sink: Option<u64>,
    /// The rows of each source; the second is empty where the topology has one.
    pub(crate) rows: [Arc<Vec<Input>>; 2],
    /// The disorder that the rows keep within.
    pub(crate) disorder: Duration,
    /// How wide windows are.
    pub(crate) window: Duration,
    pub(crate) max_parallelism: Option<u32>,
    pub(crate) watermark_interval: Duration,
    /// How long the rows last when nothing goes wrong.
    pub(crate) duration: Duration,
    pub(crate) checkpoints: CoordinatorConfig,
    pub(crate) writer: WriterConfig,
}

/// What a process draws for itself when it starts.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// Of each operator, in the order they are written.
    pub(crate) parallelism: [u32; 6],
    pub(crate) chaining: bool,
    pub(crate) limits: Limits,
    pub(crate) restarts: RestartStrategy,
    /// Rows a second of one source; `None` is as fast as it goes.
    pub(crate) rate: [Option<u64>; 2],
}

impl Scenario {
    /// The scenario of a seed: of one part of the API where one is asked for, else of any job; every other seed's is of a
    /// part of the API.
    pub(crate) fn draw(seed: u64, only: Option<&'static str>) -> Scenario {
        let draw = &mut Draw::stream(seed, "scenario plan");
        let files = &mut Draw::stream(seed, "scenario files");
        let mut part: Option<Arc<dyn Part>> = None;
        let topology = match seed % 10 {
            odd if only.is_some() || odd % 2 == 1 => {
                let (name, drawn) = api::draw(&mut Draw::stream(seed, "scenario part"), only);
                part = Some(drawn.into());
                Topology::Api(name)
            }
            4 => Topology::Running,
            _ => [
                Topology::Window,
                Topology::Timers,
                Topology::Exchanges,
                Topology::Union,
                Topology::Join,
            ][draw.index(5)],
        };
        let two_sources = match &part {
            Some(part) => part.has_two_sources(),
            None => matches!(topology, Topology::Union | Topology::Join),
        };
        // Windows over windows would add up doubled rows twice: the check is for one level.
        let weak = topology == Topology::Window && draw.one_in(3);
        let interval = draw.between(20, 200);
        let duration = interval * draw.between(7, 13);
        let rows = draw_rows(draw, two_sources);
        let window = Duration::from_millis(draw.between(30, 1500));
        let unaligned = draw_unaligned(&mut Draw::stream(seed, "scenario alignment")).filter(|_| !weak);
        Scenario {
            topology,
            part,
            pressure: None,
            outage: None,
            mode: if weak {
                GuaranteeMode::AtLeastOnce
            } else {
                GuaranteeMode::ExactlyOnce
            },
            unaligned,
            file_sink: (!weak && files.one_in(3)).then(|| [50, 400, 1 << 20][files.index(3)]),
            source: match draw.below(3) {
                // One split: then the order of a key's rows can be checked.
                _ if topology == Topology::Running && unaligned.is_some() => SourceKind::Collection(Some(1)),
                _ if files.one_in(3) => SourceKind::Files([64, 900, 1 << 20][files.index(3)]),
                0 => SourceKind::Collection(None),
                1 => SourceKind::Collection(Some(draw.between(1, 6) as u32)),
                _ => SourceKind::Generator,
            },
            disorder: Duration::from_millis(rows.1),
            rows: rows.0,
            window,
            max_parallelism: draw.coin().then(|| draw.between(3, 9) as u32),
            watermark_interval: Duration::from_millis(draw.between(1, 40)),
            duration: Duration::from_millis(duration),
            checkpoints: draw_checkpoints(draw, Duration::from_millis(interval), unaligned.is_some()),
            writer: draw_copies(seed, draw_writer(draw)),
        }
        .with_room_for_a_step()
    }

    /// What one step hands over may be more than the smallest memory for snapshots takes: such a checkpoint is declined, and
    /// where only so many may fail in a row the job would restart for ever.
    fn with_room_for_a_step(mut self) -> Scenario {
        if self.checkpoints.tolerable_failures.is_some() {
            self.writer.memory_limit = self.writer.memory_limit.max(16 << 10);
        }
        self
    }

    /// The job in a line, where its topology does not say it all.
    pub(crate) fn about(&self) -> Option<String> {
        if let Some(outage) = &self.outage {
            return Some(outage.to_string());
        }
        let job = self.part.as_ref()?.describe()?;
        Some(match &self.pressure {
            Some(pressure) => format!("{pressure}: {job}"),
            None => job,
        })
    }

    /// How many rows there are to read.
    pub(crate) fn row_count(&self) -> u64 {
        self.rows.iter().map(|rows| rows.len() as u64).sum()
    }

    /// The shape of a process that works as fast as it can, for the run without faults.
    pub(crate) fn fast_shape(&self, draw: &mut Draw) -> Shape {
        Shape {
            rate: [None; 2],
            limits: Limits::default(),
            ..self.shape(1, draw)
        }
    }

    /// The rates at which the rows last as long as the scenario.
    pub(crate) fn rates(&self) -> [Option<u64>; 2] {
        let millis = self.duration.as_millis() as u64;
        let rate = |rows: &Arc<Vec<Input>>| (rows.len() as u64 * 1000 / millis.max(1)).max(1);
        self.rows.each_ref().map(|rows| Some(rate(rows)))
    }

    /// The shape of a process, by its number from 1.
    pub(crate) fn shape(&self, number: u64, draw: &mut Draw) -> Shape {
        if let Some(pressure) = &self.pressure {
            return pressure.shape(self, number, draw);
        }
        Shape {
            parallelism: std::array::from_fn(|_| draw.between(1, 3) as u32),
            chaining: !draw.one_in(4),
            limits: draw_limits(draw),
            restarts: draw_restarts(draw),
            rate: self.rates(),
        }
    }
}

/// Strategies that never end a job: the rate is more than all attempts that a run may have.
pub(crate) fn draw_restarts(draw: &mut Draw) -> RestartStrategy {
    let delay = Duration::from_millis(draw.between(1, 60));
    // By the delay, so that nothing else that a seed draws depends on the strategy.
    match delay.as_millis() % 2 {
        0 => RestartStrategy::FixedDelay {
            attempts: u32::MAX,
            delay,
        },
        _ => RestartStrategy::FailureRate {
            max_failures: 100_000,
            interval: delay * 50,
            delay,
        },
    }
}

/// The rows of each source, and their disorder in milliseconds.
fn draw_rows(draw: &mut Draw, two_sources: bool) -> ([Arc<Vec<Input>>; 2], u64) {
    let (keys, disorder) = (draw.between(1, 40) as u32, draw.between(0, 600));
    let all = draw.between(100, 800);
    let counts = match two_sources {
        true => {
            let first = draw.between(all / 4, all / 2);
            [first, all / 2]
        }
        false => [all, 0],
    };
    let rows = counts.map(|count| Arc::new(input_rows(draw, count, keys, disorder)));
    (rows, disorder)
}

/// Always aligned, unaligned at once, or after a while.
fn draw_unaligned(draw: &mut Draw) -> Option<Duration> {
    match draw.below(3) {
        0 => None,
        1 => Some(Duration::ZERO),
        _ => Some(Duration::from_millis(draw.between(1, 60))),
    }
}

fn draw_checkpoints(draw: &mut Draw, interval: Duration, unaligned: bool) -> CoordinatorConfig {
    CoordinatorConfig {
        interval: Some(interval),
        min_pause: Duration::from_millis(if draw.one_in(4) { draw.between(1, 30) } else { 0 }),
        timeout: Duration::from_millis(if draw.one_in(4) {
            draw.between(100, 400)
        } else {
            10_000
        }),
        // Unaligned ones come one at a time.
        max_concurrent: if draw.one_in(4) && !unaligned { 2 } else { 1 },
        tolerable_failures: draw.one_in(6).then(|| draw.between(1, 3) as u32),
        num_retained: draw.between(1, 3) as usize,
        ..CoordinatorConfig::default()
    }
}

fn draw_writer(draw: &mut Draw) -> WriterConfig {
    let small = draw.one_in(3);
    let default = WriterConfig::default();
    WriterConfig {
        memory_limit: if small {
            draw.between(2 << 10, 64 << 10) as usize
        } else {
            default.memory_limit
        },
        object_target: if small {
            draw.between(1 << 10, 16 << 10) as usize
        } else {
            default.object_target
        },
        seal_after: Duration::from_millis(draw.between(1, 60)),
        scratch_dir: draw.coin().then(|| PathBuf::from("/scratch")),
        ..default
    }
}

fn draw_limits(draw: &mut Draw) -> Limits {
    let default = Limits::default();
    Limits {
        credit: Credit {
            rows: [1, 3, 64, 16_384][draw.index(4)],
            bytes: if draw.one_in(4) { 64 } else { default.credit.bytes },
        },
        batch_rows: [1, 7, 64, 4096][draw.index(4)],
        slice: Slice {
            max_rows: if draw.one_in(4) {
                1
            } else {
                [5, 64, 4096][draw.index(3)]
            },
            ..default.slice
        },
        pace: Pace {
            walk_rows: [1, 16, 8192][draw.index(3)],
            linger: Duration::from_millis(draw.between(1, 100)),
            ..default.pace
        },
        ..default
    }
}
