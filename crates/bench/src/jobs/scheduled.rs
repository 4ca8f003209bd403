//! Events that happen at their times, whether somebody takes them or not: for latency.

use super::records::splitmix64;
use crate::clock::{now_ns, pause};
use rand::SeedableRng;
use rand::distr::Distribution;
use rand::rngs::SmallRng;
use rand_distr::Zipf;
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

/// `rate` events a second over all partitions, at their times.
#[derive(Clone, Copy, Debug)]
pub struct Scheduled {
    /// Events a second.
    pub rate: u64,
    /// Keys.
    pub keys: u64,
    /// When the first one happens, in nanoseconds.
    pub start_ns: u64,
    /// How many partitions they come in.
    pub partitions: u64,
    /// If given, the first partition has half of the events, and keys are drawn with these weights.
    pub skew: Option<Zipf<f64>>,
}

/// The exponent of skewed keys: of a million the first has a fifth of the events.
pub const ZIPF_EXPONENT: f64 = 1.2;

impl Scheduled {
    /// Events without skew.
    pub fn even(rate: u64, keys: u64, start_ns: u64, partitions: u64) -> Scheduled {
        Scheduled {
            rate,
            keys,
            start_ns,
            partitions,
            skew: None,
        }
    }

    /// The same with skewed keys and one large partition.
    pub fn skewed(self) -> Result<Scheduled> {
        let skew = Zipf::new(self.keys as f64, ZIPF_EXPONENT)
            .map_err(|error| Failure::invalid("no such distribution of keys").caused_by(error))?;
        Ok(Scheduled {
            skew: Some(skew),
            ..self
        })
    }

    /// Events a second of a partition.
    fn rate_of(&self, partition: u64) -> u64 {
        let rate = match (self.skew, partition) {
            (None, _) => self.rate / self.partitions,
            (Some(_), 0) => self.rate / 2,
            (Some(_), _) => self.rate / 2 / (self.partitions - 1).max(1),
        };
        rate.max(1)
    }

    /// Event `number` of a partition.
    pub fn event(&self, partition: u64, number: u64) -> Event {
        let unique = number * self.partitions + partition;
        let key = match &self.skew {
            None => splitmix64(unique) % self.keys,
            Some(zipf) => zipf.sample(&mut SmallRng::seed_from_u64(unique)) as u64,
        };
        (
            key,
            self.start_ns + number * 1_000_000_000 / self.rate_of(partition),
        )
    }
}

impl Source for Scheduled {
    type Row = Event;
    type Split = u64;
    type Reader = ScheduledReader;
    type Enumerator = Partitions;

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
            events: *self,
            splits: VecDeque::new(),
            is_over,
        })
    }

    fn enumerator(&self, _: &Env) -> Result<Partitions> {
        Ok(Partitions {
            count: self.partitions,
            found: false,
        })
    }

    fn reads_many_splits(&self) -> bool {
        true
    }
}

/// Hands out the partitions.
pub struct Partitions {
    count: u64,
    found: bool,
}

impl SplitEnumerator for Partitions {
    type Split = u64;

    async fn discover(&mut self, _: u32) -> Result<Found<u64>> {
        let first = if std::mem::replace(&mut self.found, true) {
            self.count
        } else {
            0
        };
        Ok(Found {
            splits: (first..self.count).collect(),
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
    /// Partitions in turns, and how many events of each are read.
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

    fn assign(&mut self, index: SplitIndex, partition: u64, position: u64) -> Result<()> {
        self.splits.push_back((index, partition, position));
        Ok(())
    }

    fn next(&mut self, max_rows: usize, out: &mut ReadRows<Event>) -> Result<ReadPoll> {
        let now = now_ns();
        for _ in 0..self.splits.len() {
            let Some((index, partition, read)) = self.splits.pop_front() else {
                break;
            };
            let due = (read..read + max_rows as u64)
                .map(|number| self.events.event(partition, number))
                .take_while(|(_, time)| *time <= now);
            out.fill_consecutive(read, due);
            self.splits.push_back((index, partition, out.resume()));
            if !out.is_empty() {
                return Ok(ReadPoll::Rows(index));
            }
        }
        Ok(ReadPoll::Pending)
    }
}

/// Counts the events of each key.
#[derive(Default)]
pub(super) struct Count {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skew_is_half_of_the_events_in_one_partition_and_many_with_one_key() {
        let events = Scheduled::even(1_400_000, 1_000_000, 0, 8).skewed().unwrap();
        let before = |partition: u64| {
            (0..)
                .take_while(|n| events.event(partition, *n).1 < 1_000_000_000)
                .count()
        };
        assert_eq!((before(0), before(1), before(7)), (700_000, 100_000, 100_000));
        let first = (0..100_000).filter(|n| events.event(0, *n).0 == 1).count();
        assert!((17_000..21_000).contains(&first), "{first}");
    }
}
