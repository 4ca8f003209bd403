//! A source as the graph holds it: makes drivers and enumerators for every attempt.

use crate::source::{Peek, Source, SplitEnumerator, Undecodable};
use crate::source_task::{ROWS_PER_WATERMARK, SourceOptions, SourceTask};
use crate::watermark::WatermarkStrategy;
use rivermark_env::{BoxFuture, Env};
use rivermark_runtime::{DiscoveredSplit, Discovery, SourceDriver, SourceEnumerator, SourceFactory};
use rivermark_types::{Failure, Result, Timestamp};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// A source, its event time and its speed.
pub struct SourceNode<S: Source> {
    source: Arc<S>,
    options: SourceOptions<S::Row>,
    undecodable: Option<Undecodable>,
}

impl<S: Source> Clone for SourceNode<S> {
    fn clone(&self) -> Self {
        SourceNode {
            source: self.source.clone(),
            options: self.options.clone(),
            undecodable: self.undecodable,
        }
    }
}

impl<S: Source> SourceNode<S> {
    /// A source with its event time. An incomplete strategy fails when the job starts; see [`WatermarkStrategy::check`].
    pub fn new(source: S, strategy: WatermarkStrategy<S::Row>) -> SourceNode<S> {
        let watermark_interval = Duration::from_millis(200);
        SourceNode {
            undecodable: source.undecodable(),
            source: Arc::new(source),
            options: SourceOptions {
                strategy,
                rows_per_second: None,
                watermark_interval,
                watermark_rows: ROWS_PER_WATERMARK,
                undecodable: Undecodable::default(),
            },
        }
    }

    /// Reads at most so many rows a second, over all subtasks.
    pub fn rate(mut self, rows_per_second: u64) -> SourceNode<S> {
        self.options.rows_per_second = Some(rows_per_second);
        self
    }

    /// How long a rise of the watermark may go untold while rows flow (`pipeline.auto-watermark-interval`); 200 ms if not set.
    pub fn watermark_interval(mut self, interval: Duration) -> SourceNode<S> {
        self.options.watermark_interval = interval;
        self
    }

    /// After how many rows of a subtask a rise of the watermark is told at the latest; 4,096 if not set. More rows cost less
    /// at high rates; windows then fire in larger steps.
    pub fn watermark_rows(mut self, rows: usize) -> SourceNode<S> {
        self.options.watermark_rows = rows.max(1);
        self
    }

    /// What becomes of records that cannot be decoded, whatever the job's setting is.
    pub fn on_undecodable(mut self, what: Undecodable) -> SourceNode<S> {
        self.undecodable = Some(what);
        self
    }

    /// What becomes of records that cannot be decoded, if the source says so.
    pub fn undecodable(&self) -> Option<Undecodable> {
        self.undecodable
    }

    /// The same source with this settled.
    pub fn settled(&self, undecodable: Undecodable) -> SourceNode<S> {
        let mut settled = self.clone();
        settled.options.undecodable = undecodable;
        settled
    }

    /// The source's name for people.
    pub fn name(&self) -> String {
        self.source.name()
    }
}

impl<S: Source> SourceFactory for SourceNode<S> {
    fn driver(&self) -> Result<Box<dyn SourceDriver>> {
        Ok(Box::new(SourceTask::new(
            self.source.clone(),
            SourceOptions {
                undecodable: self.undecodable.unwrap_or(self.options.undecodable),
                ..self.options.clone()
            },
        )))
    }

    fn enumerator(&self, env: &Env) -> Result<Box<dyn SourceEnumerator>> {
        let found = self.source.enumerator(env)?;
        let (source, strategy) = (self.source.clone(), self.options.strategy.clone());
        Ok(Box::new(NodeEnumerator {
            source,
            strategy,
            env: env.clone(),
            inner: found,
        }))
    }
}

/// An enumerator that also looks how far each split holds the watermark back.
struct NodeEnumerator<S: Source> {
    source: Arc<S>,
    strategy: WatermarkStrategy<S::Row>,
    env: Env,
    inner: S::Enumerator,
}

/// The watermark that a split's unread rows allow; `None` if nobody knows.
async fn lower_bound<S: Source>(
    source: &S,
    strategy: &WatermarkStrategy<S::Row>,
    env: &Env,
    split: &S::Split,
) -> Result<Option<Timestamp>> {
    if !strategy.has_times() {
        return Ok(None);
    }
    Ok(match source.peek(env, split).await? {
        Peek::Unknown => None,
        Peek::Empty => Some(Timestamp::MAX),
        Peek::First(row) => {
            let times = strategy.times(std::slice::from_ref(&row)).unwrap_or_default();
            Some(strategy.watermark_after(&times)).filter(|bound| *bound != Timestamp::MIN)
        }
    })
}

impl<S: Source> NodeEnumerator<S> {
    async fn found(&mut self, parallelism: u32) -> Result<Discovery> {
        let found = self.inner.discover(parallelism).await?;
        let mut splits = Vec::with_capacity(found.splits.len());
        for split in found.splits {
            let lower_bound = lower_bound(&*self.source, &self.strategy, &self.env, &split).await?;
            let split = serde_json::to_value(&split).map_err(|error| {
                Failure::bug(format!("the split {split} cannot be written as JSON")).caused_by(error)
            })?;
            splits.push(DiscoveredSplit { split, lower_bound });
        }
        Ok(Discovery {
            splits,
            exhausted: found.exhausted,
        })
    }
}

impl<S: Source> SourceEnumerator for NodeEnumerator<S> {
    fn discover(&mut self, parallelism: u32) -> BoxFuture<'_, Result<Discovery>> {
        Box::pin(self.found(parallelism))
    }

    fn look_again(&self) -> Option<Duration> {
        self.inner.look_again()
    }

    fn snapshot(&mut self) -> Result<Value> {
        self.inner.snapshot()
    }

    fn restore(&mut self, state: Value) -> Result<()> {
        self.inner.restore(state)
    }
}
