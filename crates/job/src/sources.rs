//! The master's side of one source: its enumerator, who reads which split, and how far unread splits hold time back.

use crate::restore::RestoredSource;
use rivermark_env::{Env, TaskHandle};
use rivermark_protocol::splits::{Discovered, Returned, SplitId, SplitSnapshot, SplitTracker};
use rivermark_runtime::source::{Discovery, SourceEnumerator};
use rivermark_runtime::{OperatorEvent, SourceAssignment};
use rivermark_types::{Failure, Result, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

type Tracker = SplitTracker<Value, u64>;

/// What a checkpoint keeps of a source, beside what its readers hold.
#[derive(Serialize, Deserialize)]
struct CoordinatorState {
    enumerator: Value,
    splits: SplitSnapshot<Value, u64>,
}

pub(crate) struct SourceCoordination {
    parallelism: u32,
    /// Away while it discovers.
    enumerator: Option<Box<dyn SourceEnumerator>>,
    /// Its state when it left: what it finds meanwhile is not the tracker's yet.
    left_with: Option<Value>,
    /// The discovery under way, or the wait for the next.
    looking: Option<TaskHandle>,
    tracker: Tracker,
    waiting: BTreeSet<u32>,
    dry: BTreeSet<u32>,
    hold: Option<Timestamp>,
    discovered: bool,
}

/// Orders for readers: the subtask, and what to tell it.
pub(crate) type ReaderOrders = Vec<(u32, OperatorEvent)>;

impl SourceCoordination {
    /// A source at the start of an attempt: fresh, or with all its splits given back by a restore.
    pub(crate) fn new(
        mut enumerator: Box<dyn SourceEnumerator>,
        parallelism: u32,
        restored: Option<RestoredSource>,
    ) -> Result<SourceCoordination> {
        let mut tracker = Tracker::new();
        let mut discovered = false;
        if let Some(restored) = restored {
            let state: CoordinatorState = serde_json::from_value(restored.coordinator).map_err(|error| {
                Failure::invalid("the checkpoint's record of a source cannot be read").caused_by(error)
            })?;
            enumerator.restore(state.enumerator)?;
            let returned = restored.held.into_iter().map(|held| Returned {
                id: id_of(&held.split),
                position: held.position,
                watermark: Some(held.watermark),
            });
            discovered = state.splits.exhausted;
            tracker = Tracker::restore(state.splits, returned)?;
            tracker.forget_finished();
        }
        Ok(SourceCoordination {
            parallelism,
            enumerator: Some(enumerator),
            left_with: None,
            looking: None,
            tracker,
            waiting: BTreeSet::new(),
            dry: BTreeSet::new(),
            hold: None,
            discovered,
        })
    }

    /// Looks for splits on the I/O runtime, after a wait if there is one; the enumerator comes back with the answer.
    pub(crate) fn look(
        &mut self,
        env: &Env,
        wait: Option<Duration>,
        answer: impl FnOnce(Box<dyn SourceEnumerator>, Result<Discovery>) + Send + 'static,
    ) -> Result<()> {
        let Some(mut enumerator) = self.enumerator.take() else {
            return Ok(());
        };
        self.left_with = Some(enumerator.snapshot()?);
        let (sleep, parallelism) = (wait.map(|wait| env.sleep(wait)), self.parallelism);
        self.looking = Some(env.spawn_io("discover", async move {
            if let Some(sleep) = sleep {
                sleep.await;
            }
            let discovery = enumerator.discover(parallelism).await;
            answer(enumerator, discovery);
        }));
        Ok(())
    }

    /// How long to wait before looking again; `None` if everything is found or nobody knows.
    pub(crate) fn look_again(&self) -> Option<Duration> {
        let enumerator = self.enumerator.as_ref()?;
        enumerator.look_again().filter(|_| !self.tracker.is_exhausted())
    }

    /// Whether splits must be looked for before the job can be called running.
    pub(crate) fn needs_discovery(&self) -> bool {
        !self.discovered
    }

    /// A discovery is back.
    pub(crate) fn on_discovery(
        &mut self,
        enumerator: Box<dyn SourceEnumerator>,
        found: Discovery,
    ) -> ReaderOrders {
        self.enumerator = Some(enumerator);
        self.discovered = true;
        self.tracker
            .discovered(found.splits.into_iter().map(|found| Discovered {
                id: id_of(&found.split),
                split: found.split,
                lower_bound: found.lower_bound,
            }));
        if found.exhausted {
            self.tracker.exhausted();
        }
        self.deal()
    }

    /// A reader has nothing to read.
    pub(crate) fn on_wants_splits(&mut self, reader: u32) -> ReaderOrders {
        self.waiting.insert(reader);
        self.deal()
    }

    /// A reader came to the end of a split. Its enumerator will not find it again, so nothing needs to remember it.
    pub(crate) fn on_finished(&mut self, reader: u32, split: &Value) -> Result<()> {
        self.tracker.finished(reader, &id_of(split))?;
        self.tracker.forget_finished();
        Ok(())
    }

    /// A reader has read all there will ever be for it.
    pub(crate) fn on_dry(&mut self, reader: u32) {
        self.dry.insert(reader);
    }

    /// Whether all readers are dry.
    pub(crate) fn is_dry(&self) -> bool {
        self.dry.len() == self.parallelism as usize
    }

    /// The subtasks that read.
    pub(crate) fn readers(&self) -> std::ops::Range<u32> {
        0..self.parallelism
    }

    /// Hands out what there is; the hold follows, so that no reader hears of a higher one before the split it is about.
    fn deal(&mut self) -> ReaderOrders {
        let mut orders = ReaderOrders::new();
        if !self.discovered {
            return orders;
        }
        while let Some(reader) = self.waiting.first().copied() {
            if let Some(next) = self.tracker.next_for(reader) {
                let assignment = SourceAssignment {
                    split: next.split,
                    position: next.position.unwrap_or(0),
                    watermark: next.watermark.unwrap_or(Timestamp::MIN),
                };
                orders.push((reader, OperatorEvent::Assign(vec![assignment])));
            } else if self.tracker.is_exhausted() {
                orders.push((reader, OperatorEvent::NoMoreSplits));
            } else {
                break;
            }
            self.waiting.remove(&reader);
        }
        let hold = self.tracker.watermark_hold();
        if self.hold != Some(hold) {
            self.hold = Some(hold);
            orders.extend(
                self.readers()
                    .map(|reader| (reader, OperatorEvent::WatermarkHold(hold))),
            );
        }
        orders
    }

    /// The state for a checkpoint.
    pub(crate) fn snapshot(&mut self) -> Result<Value> {
        let enumerator = match (&mut self.enumerator, &self.left_with) {
            (Some(enumerator), _) => enumerator.snapshot()?,
            (None, Some(state)) => state.clone(),
            (None, None) => return Err(Failure::bug("a source's enumerator left without a trace")),
        };
        let state = CoordinatorState {
            enumerator,
            splits: self.tracker.snapshot(),
        };
        serde_json::to_value(state)
            .map_err(|error| Failure::bug("a source's state is not JSON").caused_by(error))
    }
}

impl Drop for SourceCoordination {
    fn drop(&mut self) {
        if let Some(looking) = &self.looking {
            looking.abort();
        }
    }
}

/// A split is what its enumerator wrote: equal text, equal split (JSON maps are sorted).
fn id_of(split: &Value) -> SplitId {
    SplitId(split.to_string())
}
