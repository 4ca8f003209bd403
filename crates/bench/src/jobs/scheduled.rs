//! Events that happen at their times, whether somebody takes them or not: for latency.

use super::records::splitmix64;
use crate::clock::{now_ns, pause};
use rivermark::prelude::*;
use rivermark_connector::{
    Found, ReadPoll, ReadRows, ReaderCx, Source, SplitEnumerator, SplitIndex, SplitReader,
};
use rivermark_env::Env;
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How often a reader is told that events have come, as a network card tells: the unit of its wake-ups.
pub const TICK: Duration = Duration::from_micros(100);

/// An event: its key, and when it happened, in nanoseconds of the machine's clock.
pub type Event = (u64, u64);

/// `rate` events a second over all readers, at their times.
#[derive(Clone, Debug)]
pub struct Scheduled {
    /// Events a second.
    pub rate: u64,
    /// Keys.
    pub keys: u64,
    /// When the first one happens, in nanoseconds.
    pub start_ns: u64,
}

impl Scheduled {
    /// When event `number` happens.
    pub fn time_of(&self, number: u64) -> u64 {
        self.start_ns + number * 1_000_000_000 / self.rate
    }

    /// Event `number`.
    pub fn event(&self, number: u64) -> Event {
        (splitmix64(number) % self.keys, self.time_of(number))
    }
}

impl Source for Scheduled {
    type Row = Event;
    type Split = u64;
    type Reader = ScheduledReader;
    type Enumerator = Readers;

    fn name(&self) -> String {
        "events at their times".to_owned()
    }

    fn reader(&self, cx: ReaderCx) -> Result<ScheduledReader> {
        let is_over = Arc::new(AtomicBool::new(false));
        let (over, waker) = (is_over.clone(), cx.waker);
        let tick = move || {
            while !over.load(Ordering::Relaxed) {
                pause(TICK);
                waker.wake();
            }
        };
        std::thread::Builder::new()
            .name("events".to_owned())
            .spawn(tick)
            .map_err(|error| {
                Failure::external("the thread of the events cannot be started").caused_by(error)
            })?;
        Ok(ScheduledReader {
            events: self.clone(),
            stride: u64::from(cx.info.parallelism),
            splits: VecDeque::new(),
            is_over,
        })
    }

    fn enumerator(&self, _: &Env) -> Result<Readers> {
        Ok(Readers { found: false })
    }

    fn reads_many_splits(&self) -> bool {
        true
    }
}

/// Gives each reader every so-many-th event.
pub struct Readers {
    found: bool,
}

impl SplitEnumerator for Readers {
    type Split = u64;

    async fn discover(&mut self, parallelism: u32) -> Result<Found<u64>> {
        let first = if std::mem::replace(&mut self.found, true) {
            u64::from(parallelism)
        } else {
            0
        };
        Ok(Found {
            splits: (first..u64::from(parallelism)).collect(),
            exhausted: true,
        })
    }

    fn snapshot(&self) -> Result<Value> {
        Ok(Value::Bool(self.found))
    }

    fn restore(&mut self, state: Value) -> Result<()> {
        self.found = state == Value::Bool(true);
        Ok(())
    }
}

/// Hands out what has happened by now.
pub struct ScheduledReader {
    events: Scheduled,
    stride: u64,
    /// Splits in turns: the first event of each, and how many of it are read.
    splits: VecDeque<(SplitIndex, u64, u64)>,
    is_over: Arc<AtomicBool>,
}

impl Drop for ScheduledReader {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

impl SplitReader for ScheduledReader {
    type Split = u64;
    type Row = Event;

    fn assign(&mut self, index: SplitIndex, first: u64, position: u64) -> Result<()> {
        self.splits.push_back((index, first, position));
        Ok(())
    }

    fn next(&mut self, max_rows: usize, out: &mut ReadRows<Event>) -> Result<ReadPoll> {
        let now = now_ns();
        for _ in 0..self.splits.len() {
            let Some((index, first, read)) = self.splits.pop_front() else {
                break;
            };
            let due = (read..read + max_rows as u64)
                .map(|number| self.events.event(first + number * self.stride))
                .take_while(|(_, time)| *time <= now);
            out.fill_consecutive(read, due);
            self.splits.push_back((index, first, out.resume()));
            if !out.is_empty() {
                return Ok(ReadPoll::Rows(index));
            }
        }
        Ok(ReadPoll::Pending)
    }
}

/// Counts the events of each key.
#[derive(Default)]
struct Count {
    count: ValueState<u64, u64>,
}

impl KeyedOp<u64, Event, Event> for Count {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u64>) -> Result<()> {
        self.count = cx.value("count")?;
        Ok(())
    }
    fn row(&mut self, key: &Key<u64>, event: Timed<Event>, out: &mut Out<Event>) -> Result<()> {
        let count = self.count.update(key);
        *count += 1;
        out.emit((*count, event.value.1));
        Ok(())
    }
}

/// Updates a count for each event; `seen` is told when an event happened whose output is out.
pub fn scheduled(env: &StreamEnv, events: Scheduled, seen: impl Fn(u64) + Clone + Send + Sync + 'static) {
    env.from_source(events, WatermarkStrategy::none())
        .uid("events")
        .key_by(|event| event.0)
        .process(Count::default)
        .uid("count")
        .map(move |(count, happened)| {
            seen(happened);
            count
        })
        .discard();
}
