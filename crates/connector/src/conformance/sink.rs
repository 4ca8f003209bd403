//! The promises of two-phase sinks: nothing visible before its commit, everything once after it, whatever fails between.

use crate::conformance::{Violation, equal, must, subtask_info};
use crate::sink::{Sink, TwoPhaseSink};
use rivermark_env::Env;
use rivermark_types::CheckpointId;
use std::pin::pin;
use std::task::Poll;

/// What the writer of a bench's sink takes.
pub type RowOf<B> = <<<B as SinkBench>::Sink as Sink>::Writer as TwoPhaseSink>::Row;
type CommittableOf<B> = <<<B as SinkBench>::Sink as Sink>::Writer as TwoPhaseSink>::Committable;

/// A sink and the world outside it, fresh for every scenario.
pub trait SinkBench {
    /// The sink under test.
    type Sink: Sink;
    /// The sink; every call gives one over the same outside.
    fn sink(&self) -> Self::Sink;
    /// A row for a number; other numbers give other rows.
    fn row(&self, number: u64) -> RowOf<Self>;
    /// All rows that a reader of the outside sees now, as text, in any order.
    fn visible(&self) -> impl Future<Output = Vec<String>>;
    /// A row as `visible` shows it.
    fn text(&self, row: &RowOf<Self>) -> String;
    /// Names of what writers have left outside that no reader sees.
    fn leftovers(&self) -> impl Future<Output = Vec<String>>;
}

/// Runs every scenario, each over a fresh bench.
pub async fn check_sink<B: SinkBench>(env: &Env, fresh: impl Fn() -> B) -> Result<(), Violation> {
    visible_only_when_committed(&Stage::new(env, fresh())).await?;
    commits_are_idempotent(&Stage::new(env, fresh())).await?;
    crash_before_prepare(&Stage::new(env, fresh())).await?;
    crash_after_prepare(&Stage::new(env, fresh())).await?;
    names_never_meet(&Stage::new(env, fresh())).await?;
    zombies_change_nothing(&Stage::new(env, fresh())).await?;
    for cut in 0..40 {
        if !prepare_cut_short(&Stage::new(env, fresh()), cut).await? {
            break;
        }
    }
    for cut in 0..40 {
        if !commit_cut_short(&Stage::new(env, fresh()), cut).await? {
            break;
        }
    }
    Ok(())
}

/// A bench with shorthands.
struct Stage<'a, B: SinkBench> {
    env: &'a Env,
    bench: B,
}

impl<'a, B: SinkBench> Stage<'a, B> {
    fn new(env: &'a Env, bench: B) -> Stage<'a, B> {
        Stage { env, bench }
    }

    /// A writer of (generation, attempt, subtask) that has gone through the phases of a start with this to recommit.
    async fn writer(
        &self,
        who: (u64, u32, u32),
        restored: Vec<CommittableOf<B>>,
    ) -> Result<<B::Sink as Sink>::Writer, Violation> {
        let info = subtask_info(who.0, who.1, who.2, 2);
        let mut writer = must("start", self.bench.sink().writer(self.env, &info))?;
        must("recommit", writer.commit(restored).await)?;
        if who.2 == 0 {
            must("abort_unlisted", writer.abort_unlisted().await)?;
        } else {
            // No writer gets a row before subtask 0 has cleaned up.
            let first = subtask_info(who.0, who.1, 0, 2);
            let mut first = must("start", self.bench.sink().writer(self.env, &first))?;
            must("abort_unlisted", first.abort_unlisted().await)?;
        }
        Ok(writer)
    }

    fn rows(&self, numbers: std::ops::Range<u64>) -> Vec<RowOf<B>> {
        numbers.map(|number| self.bench.row(number)).collect()
    }

    async fn write_and_prepare(
        &self,
        writer: &mut <B::Sink as Sink>::Writer,
        numbers: std::ops::Range<u64>,
        checkpoint: u64,
    ) -> Result<Vec<CommittableOf<B>>, Violation> {
        must("write", writer.write(self.rows(numbers)).await)?;
        let committables = must("prepare", writer.prepare(CheckpointId(checkpoint)).await)?;
        // As they come back from a checkpoint.
        let json = serde_json::to_value(&committables).and_then(serde_json::from_value);
        json.map_err(|error| Violation::new("a committable as JSON", error))
    }

    async fn expect(&self, scenario: &str, numbers: std::ops::Range<u64>) -> Result<(), Violation> {
        let mut found = self.bench.visible().await;
        let mut expected: Vec<String> = self
            .rows(numbers)
            .iter()
            .map(|row| self.bench.text(row))
            .collect();
        found.sort();
        expected.sort();
        equal(scenario, "visible rows", &found, &expected)
    }

    async fn expect_clean(&self, scenario: &str) -> Result<(), Violation> {
        equal(scenario, "leftovers", &self.bench.leftovers().await, &Vec::new())
    }
}

async fn visible_only_when_committed<B: SinkBench>(stage: &Stage<'_, B>) -> Result<(), Violation> {
    const SCENARIO: &str = "visible only when committed";
    let mut writer = stage.writer((1, 1, 0), Vec::new()).await?;
    let nothing = must(SCENARIO, writer.prepare(CheckpointId(1)).await)?;
    must(SCENARIO, writer.commit(nothing).await)?;
    stage.expect(SCENARIO, 0..0).await?;
    let first = stage.write_and_prepare(&mut writer, 0..5, 2).await?;
    stage.expect(SCENARIO, 0..0).await?;
    let second = stage.write_and_prepare(&mut writer, 5..9, 3).await?;
    must(SCENARIO, writer.commit(first).await)?;
    stage.expect(SCENARIO, 0..5).await?;
    must(SCENARIO, writer.commit(second).await)?;
    stage.expect(SCENARIO, 0..9).await?;
    stage.expect_clean(SCENARIO).await
}

async fn commits_are_idempotent<B: SinkBench>(stage: &Stage<'_, B>) -> Result<(), Violation> {
    const SCENARIO: &str = "a commit whose reply was lost is repeated";
    let mut writer = stage.writer((1, 1, 0), Vec::new()).await?;
    let committables = stage.write_and_prepare(&mut writer, 0..5, 1).await?;
    for _ in 0..2 {
        must(SCENARIO, writer.commit(committables.clone()).await)?;
        stage.expect(SCENARIO, 0..5).await?;
    }
    drop(writer);
    for (generation, attempt) in [(1, 2), (2, 1)] {
        stage
            .writer((generation, attempt, 0), committables.clone())
            .await?;
        stage.expect(SCENARIO, 0..5).await?;
    }
    stage.expect_clean(SCENARIO).await
}

async fn crash_before_prepare<B: SinkBench>(stage: &Stage<'_, B>) -> Result<(), Violation> {
    const SCENARIO: &str = "a crash before prepare";
    let mut writer = stage.writer((1, 1, 0), Vec::new()).await?;
    must(SCENARIO, writer.write(stage.rows(0..5)).await)?;
    drop(writer);
    let mut next = stage.writer((1, 2, 0), Vec::new()).await?;
    stage.expect_clean(SCENARIO).await?;
    let committables = stage.write_and_prepare(&mut next, 0..5, 1).await?;
    must(SCENARIO, next.commit(committables).await)?;
    stage.expect(SCENARIO, 0..5).await
}

async fn crash_after_prepare<B: SinkBench>(stage: &Stage<'_, B>) -> Result<(), Violation> {
    const SCENARIO: &str = "a crash between prepare and commit";
    let mut writer = stage.writer((1, 1, 1), Vec::new()).await?;
    let decided = stage.write_and_prepare(&mut writer, 0..5, 1).await?;
    let undecided = stage.write_and_prepare(&mut writer, 5..9, 2).await?;
    drop((writer, undecided));
    // Subtask 0 takes over what subtask 1 had prepared: the parallelism may have changed.
    let mut next = stage.writer((2, 1, 0), decided).await?;
    stage.expect(SCENARIO, 0..5).await?;
    stage.expect_clean(SCENARIO).await?;
    let replayed = stage.write_and_prepare(&mut next, 5..9, 2).await?;
    must(SCENARIO, next.commit(replayed).await)?;
    stage.expect(SCENARIO, 0..9).await
}

async fn names_never_meet<B: SinkBench>(stage: &Stage<'_, B>) -> Result<(), Violation> {
    const SCENARIO: &str = "writers of other subtasks, attempts and generations";
    let (mut number, mut checkpoint) = (0, 0);
    for (generation, attempt) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
        let mut writers = Vec::new();
        for subtask in 0..2 {
            writers.push(stage.writer((generation, attempt, subtask), Vec::new()).await?);
        }
        for _ in 0..2 {
            checkpoint += 1;
            for writer in &mut writers {
                let committables = stage
                    .write_and_prepare(writer, number..number + 3, checkpoint)
                    .await?;
                must(SCENARIO, writer.commit(committables).await)?;
                number += 3;
            }
        }
    }
    stage.expect(SCENARIO, 0..number).await?;
    stage.expect_clean(SCENARIO).await
}

async fn zombies_change_nothing<B: SinkBench>(stage: &Stage<'_, B>) -> Result<(), Violation> {
    const SCENARIO: &str = "a zombie writes on";
    let mut zombie = stage.writer((1, 1, 0), Vec::new()).await?;
    let decided = stage.write_and_prepare(&mut zombie, 0..5, 1).await?;
    must(SCENARIO, zombie.write(stage.rows(5..7)).await)?;
    let mut next = stage.writer((2, 1, 0), decided.clone()).await?;
    // It may fail, since its work has been thrown away; it may not show anything.
    let _ = zombie.write(stage.rows(7..8)).await;
    let _ = zombie.prepare(CheckpointId(2)).await;
    stage.expect(SCENARIO, 0..5).await?;
    must(SCENARIO, zombie.commit(decided).await)?;
    stage.expect(SCENARIO, 0..5).await?;
    let replayed = stage.write_and_prepare(&mut next, 5..9, 2).await?;
    must(SCENARIO, next.commit(replayed).await)?;
    stage.expect(SCENARIO, 0..9).await
}

/// A `prepare` that is dropped at its `cut`-th wait. False when it was done before that.
async fn prepare_cut_short<B: SinkBench>(stage: &Stage<'_, B>, cut: usize) -> Result<bool, Violation> {
    const SCENARIO: &str = "a crash inside prepare";
    let mut writer = stage.writer((1, 1, 0), Vec::new()).await?;
    must(SCENARIO, writer.write(stage.rows(0..5)).await)?;
    let done = cut_at(cut, writer.prepare(CheckpointId(1))).await.is_some();
    drop(writer);
    let mut next = stage.writer((1, 2, 0), Vec::new()).await?;
    stage.expect(SCENARIO, 0..0).await?;
    let committables = stage.write_and_prepare(&mut next, 0..5, 1).await?;
    must(SCENARIO, next.commit(committables).await)?;
    stage.expect(SCENARIO, 0..5).await?;
    Ok(!done)
}

/// A `commit` that is dropped at its `cut`-th wait. False when it was done before that.
async fn commit_cut_short<B: SinkBench>(stage: &Stage<'_, B>, cut: usize) -> Result<bool, Violation> {
    const SCENARIO: &str = "a crash inside commit";
    let mut writer = stage.writer((1, 1, 0), Vec::new()).await?;
    let mut committables = stage.write_and_prepare(&mut writer, 0..5, 1).await?;
    committables.extend(stage.write_and_prepare(&mut writer, 5..9, 2).await?);
    let done = cut_at(cut, writer.commit(committables.clone())).await.is_some();
    drop(writer);
    stage.writer((1, 2, 0), committables).await?;
    stage.expect(SCENARIO, 0..9).await?;
    Ok(!done)
}

/// Polls a future until it has waited `cut` times, then drops it.
async fn cut_at<F: Future>(cut: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut waits = 0;
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending if waits == cut => Poll::Ready(None),
        Poll::Pending => {
            waits += 1;
            Poll::Pending
        }
    })
    .await
}
