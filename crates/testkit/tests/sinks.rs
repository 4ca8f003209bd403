//! The operators at the end of a graph: what is visible outside is each row once, whatever happened on the way.

use rivermark_connector::{CollectSink, Collected, CommitNode, DiscardNode, Sink, TwoPhaseSink};
use rivermark_env::Env;
use rivermark_runtime::SubtaskInfo;
use rivermark_testkit::{Event, Order, Subject, verify_operator};
use rivermark_types::{Attempt, CheckpointId, Failure, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

#[test]
fn a_two_phase_sink() {
    let rows: Vec<u64> = (0..25).collect();
    for seed in 0..4 {
        let subject = || {
            let collected = Collected::default();
            let node = CommitNode::new(CollectSink::<u64>::new(collected.clone()));
            Subject::made_by("CommitOperator", node).observed_by(move || {
                assert_eq!(collected.open_transactions(), 0);
                collected.rows()
            })
        };
        let watermark = |n: u64| (n % 8 == 7).then(|| Event::watermark(n as i64));
        let input = rows
            .iter()
            .flat_map(|n| [Some(Event::row(*n)), watermark(*n)].into_iter().flatten());
        verify_operator(subject)
            .seed(seed)
            .input(input)
            .expect_outside(Order::Exact, rows.clone())
            .verify();
    }
}

/// Collects, and insists on the order of calls that sinks are promised after a restore.
struct Strict {
    inner: CollectSink<u64>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    recommitted: BTreeMap<Attempt, BTreeSet<u32>>,
    aborted: BTreeSet<Attempt>,
}

struct StrictWriter {
    inner: <CollectSink<u64> as Sink>::Writer,
    info: SubtaskInfo,
    seen: Arc<Mutex<Seen>>,
}

impl Sink for Strict {
    type Writer = StrictWriter;
    fn name(&self) -> String {
        "strict".to_owned()
    }
    fn writer(&self, env: &Env, info: &SubtaskInfo) -> Result<StrictWriter> {
        Ok(StrictWriter {
            inner: self.inner.writer(env, info)?,
            info: info.clone(),
            seen: self.seen.clone(),
        })
    }
}

impl StrictWriter {
    fn seen(&self) -> Result<MutexGuard<'_, Seen>> {
        self.seen.lock().map_err(|_| Failure::bug("poisoned"))
    }
}

fn insist(is_kept: bool, promise: &str) -> Result<()> {
    is_kept
        .then_some(())
        .ok_or_else(|| Failure::bug(format!("broken promise: {promise}")))
}

impl TwoPhaseSink for StrictWriter {
    type Row = u64;
    type Committable = <<CollectSink<u64> as Sink>::Writer as TwoPhaseSink>::Committable;

    async fn write(&mut self, rows: Vec<u64>) -> Result<()> {
        let is_open = self.seen()?.aborted.contains(&self.info.attempt);
        insist(is_open, "no row before unlisted work is aborted")?;
        self.inner.write(rows).await
    }
    async fn prepare(&mut self, checkpoint: CheckpointId) -> Result<Vec<Self::Committable>> {
        self.inner.prepare(checkpoint).await
    }
    async fn commit(&mut self, committables: Vec<Self::Committable>) -> Result<()> {
        self.inner.commit(committables).await?;
        let index = self.info.subtask.index;
        self.seen()?
            .recommitted
            .entry(self.info.attempt)
            .or_default()
            .insert(index);
        Ok(())
    }
    async fn abort_unlisted(&mut self) -> Result<()> {
        let recommitted = self
            .seen()?
            .recommitted
            .get(&self.info.attempt)
            .map_or(0, BTreeSet::len);
        insist(
            recommitted == self.info.parallelism as usize,
            "unlisted work is aborted when all have recommitted",
        )?;
        insist(
            self.info.subtask.index == 0,
            "the first instance aborts unlisted work",
        )?;
        self.inner.abort_unlisted().await?;
        self.seen()?.aborted.insert(self.info.attempt);
        Ok(())
    }
}

#[test]
fn the_order_of_calls_that_a_two_phase_sink_is_promised() {
    let subject = || {
        let collected = Collected::default();
        let inner = CollectSink::<u64>::new(collected.clone());
        let seen = Arc::default();
        Subject::made_by("CommitOperator", CommitNode::new(Strict { inner, seen }))
            .observed_by(move || collected.rows())
    };
    verify_operator(subject)
        .input((0..12u64).map(Event::row))
        .expect_outside(Order::Exact, 0..12u64)
        .verify();
}

/// 128 kB in line: a sink's queue takes 32 of them.
type Large = [[[u64; 32]; 32]; 16];

#[test]
fn a_two_phase_sink_whose_queue_is_full() {
    let subject = || {
        let collected = Collected::default();
        let node = CommitNode::new(CollectSink::<Large>::new(collected.clone()));
        let numbers = move || collected.rows().iter().map(|row| row[15][31][31]).collect();
        Subject::made_by("CommitOperator", node).observed_by(numbers)
    };
    let large = |n: u64| Event::row::<Large>([[[n; 32]; 32]; 16]);
    verify_operator(subject)
        .input((0..33).map(large))
        .input([Event::watermark(1), large(33)])
        .expect_outside(Order::Exact, 0..34u64)
        .verify();
}

#[test]
fn a_sink_that_drops_everything() {
    verify_operator(|| Subject::made_by("Discard", DiscardNode))
        .input((0..20u64).map(Event::row))
        .verify();
}
