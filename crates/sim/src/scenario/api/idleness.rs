//! Splits that fall silent and are idle: their rows may come late, and then come out beside the windows.

use super::processing_timers::same_sums;
use super::{Part, all_rows};
use crate::Draw;
use crate::scenario::job::Builder;
use crate::scenario::plan::Scenario;
use crate::scenario::rows::{Input, Output};
use rivermark_connector::memory::collection::{CollectionReader, RangeEnumerator, RangeSplit};
use rivermark_connector::source::{Peek, ReadPoll, ReadRows, ReaderCx, Source, SplitIndex, SplitReader};
use rivermark_env::Env;
use rivermark_runtime::SlotWaker;
use rivermark_stream::{
    CollectionSource, DataStream, Result, SourceNode, Timestamp, Tumbling, WatermarkStrategy, Window,
};
use rivermark_types::Millis;
use std::time::Duration;

/// Sums per key and window of a source with pauses.
#[derive(Debug)]
struct Paused {
    splits: u32,
    /// One read in so many is put off.
    pause_one_in: u64,
    longest: Duration,
    idle_after: Duration,
    size_ms: i64,
}

pub(super) fn draw(draw: &mut Draw) -> Box<dyn Part> {
    let longest = draw.time(Duration::from_millis(5), Duration::from_millis(300));
    Box::new(Paused {
        splits: draw.between(1, 6) as u32,
        pause_one_in: draw.between(2, 12),
        longest,
        idle_after: draw.time(Duration::from_millis(1), longest * 2),
        size_ms: draw.between(1, 2_000) as i64,
    })
}

/// A collection whose readers have nothing to give now and then.
struct Pausing {
    rows: CollectionSource<Input>,
    pause_one_in: u64,
    longest: Duration,
}

struct PausingReader {
    rows: CollectionReader<Input>,
    pause_one_in: u64,
    longest: Duration,
    env: Env,
    waker: SlotWaker,
    until: Option<Millis>,
}

impl Source for Pausing {
    type Row = Input;
    type Split = RangeSplit;
    type Reader = PausingReader;
    type Enumerator = RangeEnumerator;

    fn name(&self) -> String {
        "pausing".to_owned()
    }

    fn reader(&self, cx: ReaderCx) -> Result<PausingReader> {
        Ok(PausingReader {
            pause_one_in: self.pause_one_in,
            longest: self.longest,
            env: cx.env.clone(),
            waker: cx.waker.clone(),
            until: None,
            rows: self.rows.reader(cx)?,
        })
    }

    fn enumerator(&self, env: &Env) -> Result<RangeEnumerator> {
        self.rows.enumerator(env)
    }

    async fn peek(&self, env: &Env, split: &RangeSplit) -> Result<Peek<Input>> {
        self.rows.peek(env, split).await
    }
}

impl SplitReader for PausingReader {
    type Split = RangeSplit;
    type Row = Input;

    fn assign(&mut self, index: SplitIndex, split: RangeSplit, position: u64) -> Result<()> {
        self.rows.assign(index, split, position)
    }

    fn next(&mut self, max_rows: usize, out: &mut ReadRows<Input>) -> Result<ReadPoll> {
        let now = self.env.now();
        match self.until {
            Some(until) if now < until => return Ok(ReadPoll::Pending),
            Some(_) => self.until = None,
            None if self.env.random_u64().is_multiple_of(self.pause_one_in) => {
                let pause =
                    Duration::from_millis(self.env.random_u64() % (self.longest.as_millis() as u64 + 1));
                self.until = Some(now.after(pause));
                let (env, waker) = (self.env.clone(), self.waker.clone());
                self.env.spawn_io("pause", async move {
                    env.sleep(pause + Duration::from_millis(1)).await;
                    waker.wake();
                });
                return Ok(ReadPoll::Pending);
            }
            None => {}
        }
        // A few rows at a time, so that there is something to pause between.
        self.rows.next(max_rows.min(7), out)
    }
}

impl Part for Paused {
    fn build(&self, builder: &Builder<'_>) -> DataStream<Output> {
        let strategy = WatermarkStrategy::bounded_out_of_orderness(builder.job.disorder)
            .with_timestamp(|row: &Input| Timestamp(row.time))
            .with_idleness(self.idle_after);
        let source = Pausing {
            rows: CollectionSource::new(builder.job.rows[0].iter().cloned()).with_splits(self.splits),
            pause_one_in: self.pause_one_in,
            longest: self.longest,
        };
        let node = SourceNode::new(source, strategy).watermark_interval(builder.job.watermark_interval);
        let size_ms = self.size_ms;
        let (in_time, late) = builder
            .env
            .from_source_node(node)
            .uid("source")
            .set_parallelism(builder.parallelism(0))
            .key_by(|row| row.key)
            .window(Tumbling::of(Duration::from_millis(size_ms as u64)))
            .late_output()
            .fold(
                |acc: &mut (i64, u64), row: Input| *acc = (acc.0 + row.value, acc.1 + 1),
                |key: &u32, window: Window, (sum, count)| Output {
                    key: *key,
                    time: window.start.0,
                    sum,
                    count,
                },
            );
        let late = late.map(move |row| Output {
            key: row.key,
            time: row.time - row.time.rem_euclid(size_ms),
            sum: row.value,
            count: 1,
        });
        in_time
            .uid("windows")
            .set_parallelism(builder.parallelism(3))
            .union(late)
    }

    fn check(&self, scenario: &Scenario, found: &[Output]) -> Result<(), String> {
        let rows = all_rows(scenario).map(|row| {
            let start = row.time - row.time.rem_euclid(self.size_ms);
            (row.key, start, row.value)
        });
        same_sums(rows, found.iter().cloned())
    }
}
