//! From a scenario to a program, written against the DataStream API.

use super::operators::{Buckets, DirectSink, Join};
use super::plan::{Scenario, Shape, SourceKind, Topology};
use super::rows::{Input, Output};
use crate::Machine;
use rivermark_data::Data;
use rivermark_env::Env;
use rivermark_files::{FileSink, FileSource};
use rivermark_format::JsonLines;
use rivermark_runtime::{Operator, Program};
use rivermark_stream::{
    CollectSink, Collected, CollectionSource, DataStream, Failure, GeneratorSource, GuaranteeMode, Result,
    SourceNode, StreamEnv, Timestamp, Tumbling, WatermarkStrategy, Window,
};
use std::sync::{Arc, Mutex};

/// What is outside of the job and outlives its processes: where its output goes.
#[derive(Clone, Default)]
pub(crate) struct Outside {
    /// Behind transactions.
    pub(crate) collected: Collected<Output>,
    /// Written straight out.
    pub(crate) direct: Arc<Mutex<Vec<Output>>>,
}

/// Where the file sink writes.
pub(crate) const OUTPUT_DIR: &str = "/out";

/// Where the rows of a source are, if it reads files.
fn input_dir(at: usize) -> String {
    format!("/in/{at}")
}

/// Puts the input of file sources on the disk, durably: in three files each, in the order of the rows. A part of the API may
/// have files of its own.
pub(crate) fn put_input(job: &Scenario, machine: &Machine) -> std::result::Result<(), String> {
    if let Some(part) = &job.part {
        part.put_files(job, machine)?;
    }
    let SourceKind::Files(_) = job.source else {
        return Ok(());
    };
    for (at, rows) in job.rows.iter().enumerate() {
        for (number, part) in rows.chunks(rows.len().div_ceil(3).max(1)).enumerate() {
            let lines: std::result::Result<Vec<String>, _> = part.iter().map(serde_json::to_string).collect();
            let text = lines.map_err(|error| error.to_string())?.join("\n") + "\n";
            let path = format!("{}/{number}.jsonl", input_dir(at));
            machine.put_file(path, text).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

/// Builds the program of a scenario for one process.
pub(crate) fn program(job: &Scenario, shape: &Shape, outside: &Outside, world: &Env) -> Result<Program> {
    let env = StreamEnv::new();
    env.set_name("sim");
    env.set_mode(job.mode);
    if let Some(after) = job.unaligned {
        env.set_unaligned_checkpoints(after);
        env.force_unaligned_checkpoints();
    }
    if let Some(groups) = job.max_parallelism {
        env.set_max_parallelism(groups);
    }
    let builder = Builder {
        env: &env,
        world,
        job,
        shape,
    };
    let end = match job.topology {
        Topology::Window => builder.window(),
        Topology::Timers => builder.timers(),
        Topology::Exchanges => builder.exchanges(),
        Topology::Union => builder.union(),
        Topology::Join => builder.join(),
        Topology::Running => builder.running(),
        Topology::Api(name) => match &job.part {
            Some(part) => part.build(&builder),
            None => return Err(Failure::bug(format!("the part {name} has no job"))),
        },
    };
    let sink = match job.mode {
        GuaranteeMode::ExactlyOnce if job.file_sink.is_some() => {
            let roll_bytes = job.file_sink.unwrap_or_default();
            end.sink_to(FileSink::json(OUTPUT_DIR).with_roll_bytes(roll_bytes))
        }
        GuaranteeMode::ExactlyOnce => end.sink_to(CollectSink::new(outside.collected.clone())),
        GuaranteeMode::AtLeastOnce => {
            let out = outside.direct.clone();
            end.sink_with("direct", move || {
                Ok(Box::new(DirectSink { out: out.clone() }) as Box<dyn Operator>)
            })
        }
    };
    let _ = sink.uid("sink").set_parallelism(shape.parallelism[5]);
    env.build()
}

/// What a job is built from: the environment, what was drawn for the job, and what was drawn for this process.
pub(crate) struct Builder<'a> {
    pub(crate) env: &'a StreamEnv,
    /// The process's, for what users' closures do outside.
    pub(crate) world: &'a Env,
    pub(crate) job: &'a Scenario,
    shape: &'a Shape,
}

impl Builder<'_> {
    /// How many subtasks the operator at a place of the job has in this process. Places 0 and 1 are the sources', 5 the
    /// sink's; two operators may share one.
    pub(crate) fn parallelism(&self, place: usize) -> u32 {
        self.shape.parallelism[place % self.shape.parallelism.len()]
    }

    fn width(&self) -> i64 {
        self.job.window.as_millis() as i64
    }

    /// The rows of a source (0 or 1), with event times, paced to last as long as the scenario.
    pub(crate) fn source(&self, at: usize) -> DataStream<Input> {
        let strategy = WatermarkStrategy::bounded_out_of_orderness(self.job.disorder)
            .with_timestamp(|row: &Input| Timestamp(row.time));
        let rows = self.job.rows[at].clone();
        let stream = match self.job.source {
            SourceKind::Collection(splits) => {
                let source = CollectionSource::new(rows.iter().cloned());
                let source = match splits {
                    Some(splits) => source.with_splits(splits),
                    None => source,
                };
                self.paced(at, SourceNode::new(source, strategy))
            }
            SourceKind::Generator => {
                let count = rows.len() as u64;
                let source = GeneratorSource::bounded(count, move |number| rows[number as usize].clone());
                self.paced(at, SourceNode::new(source, strategy))
            }
            SourceKind::Files(split_bytes) => {
                let source: FileSource<JsonLines<Input>> = FileSource::json(input_dir(at));
                self.paced(
                    at,
                    SourceNode::new(source.with_split_bytes(split_bytes), strategy),
                )
            }
        };
        stream
            .uid(["source", "second-source"][at])
            .set_parallelism(self.shape.parallelism[at])
    }

    /// The rows of a source node that has a pace like the source at this place.
    pub(crate) fn paced<S: rivermark_connector::Source<Row = Input>>(
        &self,
        at: usize,
        node: SourceNode<S>,
    ) -> DataStream<Input> {
        let node = node.watermark_interval(self.job.watermark_interval);
        self.env.from_source_node(match self.shape.rate[at] {
            Some(rate) => node.rate(rate),
            None => node,
        })
    }

    fn windows(&self, stream: DataStream<Input>) -> DataStream<Output> {
        stream
            .key_by(|row| row.key)
            .window(Tumbling::of(self.job.window))
            .fold(
                |acc: &mut (i64, u64), row: Input| *acc = (acc.0 + row.value, acc.1 + 1),
                |key: &u32, window: Window, (sum, count)| Output {
                    key: *key,
                    time: window.end.0,
                    sum,
                    count,
                },
            )
            .uid("windows")
            .set_parallelism(self.shape.parallelism[3])
    }

    fn buckets<I: Data + super::rows::Weighed>(
        &self,
        stream: DataStream<I>,
        width: i64,
        keys: u32,
    ) -> DataStream<Output> {
        stream
            .key_by(move |row| row.key() % keys)
            .process(move || Buckets::of(width))
            .uid("buckets")
            .set_parallelism(self.shape.parallelism[4])
    }

    fn window(&self) -> DataStream<Output> {
        let kept = self
            .source(0)
            .map(|row| Input {
                value: row.value * 2,
                ..row
            })
            .filter(|row| row.id % 7 != 3)
            .set_parallelism(self.shape.parallelism[2]);
        self.windows(kept)
    }

    fn timers(&self) -> DataStream<Output> {
        self.buckets(self.source(0), self.width(), u32::MAX)
    }

    fn exchanges(&self) -> DataStream<Output> {
        let fanned = self
            .source(0)
            .flat_map(|row| {
                (0..=row.id % 3).map(move |copy| Input {
                    value: row.value + copy as i64,
                    ..row.clone()
                })
            })
            .set_parallelism(self.shape.parallelism[2])
            .rebalance();
        let mapped = fanned
            .map(|row| Input {
                key: row.key / 2,
                ..row
            })
            .set_parallelism(self.shape.parallelism[1]);
        self.buckets(self.windows(mapped), self.width() * 2, 3)
    }

    fn union(&self) -> DataStream<Output> {
        self.windows(self.source(0).union(self.source(1)))
    }

    fn join(&self) -> DataStream<Output> {
        let width = self.width();
        let left = self.source(0).key_by(|row| format!("key-{}", row.key));
        let right = self.source(1).key_by(|row| format!("key-{}", row.key));
        left.connect(right)
            .process(move || Join::of(width))
            .uid("join")
            .set_parallelism(self.shape.parallelism[3])
    }

    fn running(&self) -> DataStream<Output> {
        let first = |row: Input| Output {
            key: row.key,
            time: 0,
            sum: row.id as i64,
            count: 1,
        };
        self.source(0)
            .map(first)
            .key_by(|row| row.key)
            .reduce(|so_far, row| Output {
                sum: so_far.sum + row.sum,
                count: so_far.count + row.count,
                ..row
            })
            .uid("running")
            .set_parallelism(self.shape.parallelism[3])
    }
}
