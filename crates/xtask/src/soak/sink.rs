//! The slow sink: takes so many rows a second and publishes, exactly once, what they come to, one tally a checkpoint.

use super::job::{Counted, mix, nth};
use rivermark_connector::{Sink, TwoPhaseSink};
use rivermark_env::Env;
use rivermark_files::{FileSink, PartFile};
use rivermark_format::JsonLines;
use rivermark_runtime::SubtaskInfo;
use rivermark_types::{CheckpointId, ErrorKind, Failure, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// How many splits the numbers are dealt out to: one a source subtask.
pub(super) const SPLITS: u64 = 2;

/// What visits come to. Of a split's first `count` numbers, each once, all sums are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) splits: [SplitTally; SPLITS as usize],
    /// Visits that were not counted as they should.
    pub(super) miscounted: u64,
}

/// The visits of one split: how many, and their numbers and mixed numbers added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SplitTally {
    pub(super) count: u64,
    sum: u64,
    mixed: u64,
}

impl SplitTally {
    fn take(&mut self, number: u64) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(number);
        self.mixed = self.mixed.wrapping_add(mix(number));
    }
    /// What the first `count` numbers of a split come to.
    pub(super) fn of_first(count: u64, split: u64) -> SplitTally {
        let mut tally = SplitTally::default();
        (0..count).for_each(|n| tally.take(split + n * SPLITS));
        tally
    }
}

impl Tally {
    fn take(&mut self, row: Counted, rate: u64) {
        self.splits[(row.number % SPLITS) as usize].take(row.number);
        self.miscounted += u64::from(row.nth != nth(row.number, rate));
    }
    pub(super) fn add(&mut self, other: &Tally) {
        for (split, other) in self.splits.iter_mut().zip(other.splits) {
            split.count += other.count;
            split.sum = split.sum.wrapping_add(other.sum);
            split.mixed = split.mixed.wrapping_add(other.mixed);
        }
        self.miscounted += other.miscounted;
    }
}

/// The sink. Its files are a file sink's.
#[derive(Clone)]
pub(super) struct SlowSink {
    files: FileSink<JsonLines<Tally>>,
    failure: PathBuf,
    rate: u64,
}

impl SlowSink {
    pub(super) fn new(output: PathBuf, failure: PathBuf, rate: u64) -> SlowSink {
        SlowSink {
            files: FileSink::json(output),
            failure,
            rate,
        }
    }
}

impl Sink for SlowSink {
    type Writer = SlowWriter;

    fn name(&self) -> String {
        format!("slow {}", self.files.name())
    }

    fn writer(&self, env: &Env, info: &SubtaskInfo) -> Result<SlowWriter> {
        Ok(SlowWriter {
            files: self.files.writer(env, info)?,
            env: env.clone(),
            failure: self.failure.clone(),
            rate: self.rate,
            rows_a_second: self.rate / u64::from(info.parallelism).max(1),
            unpaid: 0,
            tally: Tally::default(),
        })
    }
}

/// A subtask's end of it.
pub(super) struct SlowWriter {
    files: <FileSink<JsonLines<Tally>> as Sink>::Writer,
    env: Env,
    failure: PathBuf,
    rate: u64,
    rows_a_second: u64,
    /// Rows that were taken faster than allowed.
    unpaid: u64,
    tally: Tally,
}

impl TwoPhaseSink for SlowWriter {
    type Row = Counted;
    type Committable = PartFile;

    async fn write(&mut self, rows: Vec<Counted>) -> Result<()> {
        self.unpaid += rows.len() as u64;
        rows.into_iter().for_each(|row| self.tally.take(row, self.rate));
        let owed_ms = self.unpaid * 1_000 / self.rows_a_second.max(1);
        if owed_ms > 0 {
            self.unpaid -= owed_ms * self.rows_a_second / 1_000;
            self.env.sleep(Duration::from_millis(owed_ms)).await;
        }
        Ok(())
    }

    async fn prepare(&mut self, checkpoint: CheckpointId) -> Result<Vec<PartFile>> {
        // Removing it makes one failure of one file, whichever subtask sees it first.
        if self.env.files().remove_file(&self.failure).await.is_ok() {
            return Err(Failure::new(ErrorKind::Retry, "the sink was asked to fail"));
        }
        let tally = std::mem::take(&mut self.tally);
        if tally != Tally::default() {
            self.files.write(vec![tally]).await?;
        }
        self.files.prepare(checkpoint).await
    }

    async fn commit(&mut self, parts: Vec<PartFile>) -> Result<()> {
        self.files.commit(parts).await
    }

    async fn abort_unlisted(&mut self) -> Result<()> {
        self.files.abort_unlisted().await
    }
}
