//! A job with something wrong in it, on demand: what the tests of bad input run as a process of its own.
//!
//! It sums up the readings of each sensor, from CSV files with the columns `sensor` and `value`.

use rivermark::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::process::ExitCode;

/// Sums up the readings of each sensor, unless it is told to stumble.
#[derive(clap::Args)]
struct Options {
    /// A CSV file with the columns sensor and value, or a directory of such files
    input: PathBuf,
    /// Write the sums to files in this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Read so many lines a second
    #[arg(long, value_name = "LINES")]
    rate: Option<u64>,
    /// What goes wrong
    #[arg(long, value_enum)]
    fault: Option<Fault>,
    /// The uid of the operator with the sums
    #[arg(long, default_value = "sums")]
    uid: String,
    /// Into how many groups keys are divided
    #[arg(long, value_name = "GROUPS")]
    groups: Option<u32>,
    /// Keep so many bytes of state a sensor
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    ballast: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Fault {
    /// A closure panics at the value 13
    Panic,
    /// A closure returns an error at the value 13
    Error,
    /// A keyed operator returns an error at the value 13
    KeyedError,
    /// The code that builds the graph panics
    PanicWhileBuilding,
    /// Nothing has a uid
    NoUids,
    /// The stream ends nowhere
    NoSink,
    /// The key is a float, and nothing has a uid
    FloatKey,
}

#[derive(Clone, Serialize, Deserialize)]
struct Reading {
    sensor: String,
    value: u32,
}

#[derive(Clone, Serialize, Deserialize)]
struct Sum {
    sensor: String,
    sum: u64,
}

/// A key that cannot be one.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Degrees(f64);
impl Eq for Degrees {}

#[derive(Default)]
struct Summing {
    stumbles: bool,
    ballast: usize,
    sums: ValueState<String, (u64, String)>,
}

impl KeyedOp<String, Reading, Sum> for Summing {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, String>) -> Result<()> {
        self.sums = cx.value("sum")?;
        Ok(())
    }

    fn row(&mut self, key: &Key<String>, row: Timed<Reading>, out: &mut Out<Sum>) -> Result<()> {
        let Reading { sensor, value } = row.value;
        if self.stumbles && value == 13 {
            return Err(Failure::data(format!("sensor {sensor} counts backwards")));
        }
        let (sum, ballast) = self.sums.update(key);
        *sum += u64::from(value);
        if ballast.len() < self.ballast {
            *ballast = noise(u64::from(value), self.ballast);
        }
        out.emit(Sum { sensor, sum: *sum });
        Ok(())
    }
}

/// Letters that do not compress well.
fn noise(seed: u64, len: usize) -> String {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let letter = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + (state >> 33) as u8 % 90)
    };
    (0..len).map(letter).collect()
}

fn main() -> ExitCode {
    rivermark::run_with(|env, options: Options| {
        let Options { fault, ballast, .. } = options;
        if let Some(groups) = options.groups {
            env.set_max_parallelism(groups);
        }
        let mut source = SourceNode::new(
            FileSource::<rivermark_format::Csv<Reading>>::csv(options.input),
            WatermarkStrategy::none(),
        );
        if let Some(rate) = options.rate {
            source = source.rate(rate);
        }
        let readings = env.from_source_node(source);
        match fault {
            Some(Fault::PanicWhileBuilding) => panic!("no graph today"),
            Some(Fault::NoUids) => {
                let sums = readings.key_by(|r| r.sensor.clone()).process(Summing::default);
                sums.sink_to(FileSink::csv("out"));
                return Ok(());
            }
            Some(Fault::FloatKey) => {
                let last = readings
                    .key_by(|r| Degrees(r.value.into()))
                    .reduce(|_, last| last);
                last.discard();
                return Ok(());
            }
            Some(Fault::NoSink) => {
                drop(readings.uid("readings").map(|r| r.value).end_fusion());
                return Ok(());
            }
            _ => {}
        }
        let sums = readings
            .uid("readings")
            .filter(|r| !r.sensor.is_empty())
            .try_map(move |r| match (fault, r.value) {
                (Some(Fault::Panic), 13) => panic!("13 is right out"),
                (Some(Fault::Error), 13) => Err("13 is no reading"),
                _ => Ok(r),
            })
            .name("check readings")
            .key_by(|r| r.sensor.clone())
            .process(move || Summing {
                stumbles: fault == Some(Fault::KeyedError),
                ballast,
                ..Summing::default()
            })
            .uid(&options.uid);
        match options.out {
            Some(dir) => sums.sink_to(FileSink::csv(dir)).uid("files"),
            None => sums.discard(),
        };
        Ok(())
    })
}
