//! Event-time timers: buckets by time, each a table of its own, unordered inside and sorted when due.
//!
//! A bucket is a range of time that splits where its timers are, once it has too many. So it is narrow where timers are
//! dense and wide where they are days apart, and there is no width to choose. The rows are a key's times in a bucket, in
//! `Tables`, so freeze, walk and snapshot are the table's. The `Agenda` is only an order over the first bucket, rebuilt
//! at any time; a timer leaves its table as it fires, so a snapshot between two timers is exact.
//! Non-goal: processing time.

use crate::image::{ImageRow, ImageSink};
use crate::key::Key;
use crate::shared::{TaskSide, undeclared};
use crate::table::{KeySpace, Origin, Stored, Tables, Walk};
use rivermark_data::Key as KeyType;
use rivermark_types::{KeyHash, Timestamp};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// A bucket with more timers than this splits.
const BUCKET_TIMERS: usize = 1024;

/// The times of one key in one bucket: almost always one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<i64>", into = "Vec<i64>")]
pub(crate) enum Times {
    One(i64),
    Several(Vec<i64>),
}

impl From<Vec<i64>> for Times {
    fn from(times: Vec<i64>) -> Times {
        match times.as_slice() {
            [time] => Times::One(*time),
            _ => Times::Several(times),
        }
    }
}
impl From<Times> for Vec<i64> {
    fn from(times: Times) -> Vec<i64> {
        times.as_slice().to_vec()
    }
}

impl Times {
    fn as_slice(&self) -> &[i64] {
        match self {
            Times::One(time) => std::slice::from_ref(time),
            Times::Several(times) => times,
        }
    }
    fn insert(&mut self, time: i64) -> bool {
        if self.as_slice().contains(&time) {
            return false;
        }
        let mut times = self.as_slice().to_vec();
        times.push(time);
        *self = Times::from(times);
        true
    }
    fn remove(&mut self, time: i64) {
        *self = self
            .as_slice()
            .iter()
            .copied()
            .filter(|other| *other != time)
            .collect::<Vec<_>>()
            .into();
    }
}

struct Bucket {
    timers: usize,
    split_at: usize,
}

impl Default for Bucket {
    fn default() -> Self {
        Bucket {
            timers: 0,
            split_at: BUCKET_TIMERS,
        }
    }
}

/// A timer that is due next. Ordered by time, then hash.
struct Due<K> {
    time: i64,
    key: Key<K>,
}

impl<K> Due<K> {
    fn rank(&self) -> (i64, KeyHash) {
        (self.time, self.key.hash)
    }
}
impl<K> PartialEq for Due<K> {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}
impl<K> Eq for Due<K> {}
impl<K> PartialOrd for Due<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Due<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

/// The timers of one bucket in order. Holds each of them at least once, and perhaps some that were deleted since.
struct Agenda<K> {
    bucket: i64,
    due: BinaryHeap<Reverse<Due<K>>>,
    stale: usize,
}

/// All timers of one name in one subtask.
pub(crate) struct TimerQueue<K: KeyType> {
    tables: Tables<K, Times>,
    /// By start; the first bucket starts before all time and stays.
    buckets: BTreeMap<i64, Bucket>,
    agenda: Option<Agenda<K>>,
}

impl<K: KeyType> TimerQueue<K> {
    pub(crate) fn new(origin: Origin, keys: KeySpace) -> Self {
        let buckets = BTreeMap::from([(i64::MIN, Bucket::default())]);
        TimerQueue {
            tables: Tables::new(origin, keys),
            buckets,
            agenda: None,
        }
    }

    /// Takes a key's times from a snapshot. Buckets are this run's own.
    pub(crate) fn restore(&mut self, row: ImageRow<K, Times>) {
        let key = Key::new(row.key, self.tables.keys());
        for time in row.value.as_slice() {
            self.register(&key, *time);
        }
    }

    fn bucket_of(&self, time: i64) -> i64 {
        self.buckets
            .range(..=time)
            .next_back()
            .map_or(i64::MIN, |(start, _)| *start)
    }

    fn register(&mut self, key: &Key<K>, time: i64) -> bool {
        let start = self.bucket_of(time);
        let mut new = false;
        let times = self.tables.update_or_else(start, &key.value, key.hash, || {
            new = true;
            Times::One(time)
        });
        if !new && !times.insert(time) {
            return false;
        }
        if let Some(agenda) = self.agenda.as_mut().filter(|agenda| agenda.bucket == start) {
            agenda.due.push(Reverse(Due {
                time,
                key: key.clone(),
            }));
        }
        let bucket = self.buckets.entry(start).or_default();
        bucket.timers += 1;
        if bucket.timers > bucket.split_at {
            self.split(start);
        }
        true
    }

    fn delete(&mut self, key: &Key<K>, time: i64) -> bool {
        if !self.take(key, time) {
            return false;
        }
        let start = self.bucket_of(time);
        if let Some(agenda) = self.agenda.as_mut().filter(|agenda| agenda.bucket == start) {
            agenda.stale += 1;
            if agenda.stale > BUCKET_TIMERS.max(agenda.due.len() / 2) {
                self.agenda = None;
            }
        }
        true
    }

    /// Takes a timer out of its table; false if it is not there.
    fn take(&mut self, key: &Key<K>, time: i64) -> bool {
        let start = self.bucket_of(time);
        let times = self
            .tables
            .get(start, &key.value, key.hash)
            .map_or(&[][..], Times::as_slice);
        if !times.contains(&time) {
            return false;
        }
        if times.len() == 1 {
            self.tables.remove(start, &key.value, key.hash);
        } else if let Some(times) = self.tables.get_mut_existing(start, &key.value, key.hash) {
            times.remove(time);
        }
        let bucket = self.buckets.entry(start).or_default();
        bucket.timers -= 1;
        if bucket.timers == 0 {
            self.retire(start);
        }
        true
    }

    /// Ends an empty bucket; its range falls to the one before it.
    fn retire(&mut self, start: i64) {
        self.tables.drop_namespace(start);
        self.buckets.remove(&start);
        if start == i64::MIN {
            self.buckets.insert(start, Bucket::default());
        }
        if self.agenda.as_ref().is_some_and(|agenda| agenda.bucket == start) {
            self.agenda = None;
        }
    }

    /// Splits a bucket at its median time, or lets it grow if all its timers have the same time.
    fn split(&mut self, start: i64) {
        let mut times = Vec::new();
        self.tables
            .for_each_in(start, |_, of_key| times.extend_from_slice(of_key.as_slice()));
        let Some(boundary) = boundary(&mut times) else {
            self.buckets
                .entry(start)
                .and_modify(|bucket| bucket.split_at = 2 * bucket.timers);
            return;
        };
        let mut rows = Vec::new();
        self.tables
            .drain_slice(start, usize::MAX, |key, times| rows.push((key, times)));
        let later = times.iter().filter(|time| **time >= boundary).count();
        for (key, times) in rows {
            let hash = self.tables.keys().hash(&key);
            let (lower, upper): (Vec<i64>, Vec<i64>) =
                times.as_slice().iter().partition(|time| **time < boundary);
            if !lower.is_empty() {
                self.tables.insert(start, key.clone(), hash, lower.into());
            }
            if !upper.is_empty() {
                self.tables.insert(boundary, key, hash, upper.into());
            }
        }
        self.buckets.insert(
            start,
            Bucket {
                timers: times.len() - later,
                ..Bucket::default()
            },
        );
        self.buckets.insert(
            boundary,
            Bucket {
                timers: later,
                ..Bucket::default()
            },
        );
        if self.agenda.as_ref().is_some_and(|agenda| agenda.bucket == start) {
            self.agenda = None;
        }
    }

    /// Takes out the first timer, by time and then hash, that is due at a watermark.
    fn next_due(&mut self, watermark: i64) -> Option<(Key<K>, i64)> {
        loop {
            // Only the very first bucket can be empty.
            let (start, _) = self.buckets.iter().find(|(_, bucket)| bucket.timers > 0)?;
            if *start > watermark {
                return None;
            }
            let agenda = self.agenda_of(*start);
            if agenda.due.peek().is_some_and(|Reverse(due)| due.time > watermark) {
                return None;
            }
            match agenda.due.pop() {
                Some(Reverse(Due { time, key })) if self.take(&key, time) => return Some((key, time)),
                Some(_) => self
                    .agenda
                    .iter_mut()
                    .for_each(|agenda| agenda.stale = agenda.stale.saturating_sub(1)),
                None => self.agenda = None,
            }
        }
    }

    /// The time of the first timer, or of one deleted before it.
    fn next_time(&mut self) -> Option<i64> {
        loop {
            let (start, _) = self.buckets.iter().find(|(_, bucket)| bucket.timers > 0)?;
            match self.agenda_of(*start).due.peek() {
                Some(Reverse(due)) => return Some(due.time),
                None => self.agenda = None,
            }
        }
    }

    fn agenda_of(&mut self, start: i64) -> &mut Agenda<K> {
        let current = self.agenda.take().filter(|agenda| agenda.bucket == start);
        let agenda = current.unwrap_or_else(|| {
            let mut due = Vec::new();
            let keys = self.tables.keys();
            self.tables.for_each_in(start, |key, times| {
                let key = Key::new(key.clone(), keys);
                due.extend(times.as_slice().iter().map(|time| {
                    Reverse(Due {
                        time: *time,
                        key: key.clone(),
                    })
                }));
            });
            Agenda {
                bucket: start,
                due: due.into(),
                stale: 0,
            }
        });
        self.agenda.insert(agenda)
    }
}

/// The median of some times, or the least time above the minimum if the median is the minimum; `None` if all are equal.
fn boundary(times: &mut [i64]) -> Option<i64> {
    let least = *times.iter().min()?;
    let (_, median, _) = times.select_nth_unstable(times.len() / 2);
    let median = *median;
    if median > least {
        Some(median)
    } else {
        times.iter().copied().filter(|time| *time > least).min()
    }
}

impl<K: KeyType> Stored for TimerQueue<K> {
    fn freeze(&mut self, unfinished: &mut dyn ImageSink) {
        self.tables.freeze(unfinished);
    }
    fn walk(&mut self, budget: &mut usize, sink: &mut dyn ImageSink) -> Walk {
        self.tables.walk(budget, sink)
    }
    fn is_walking(&self) -> bool {
        self.tables.is_walking()
    }
    fn rows(&self) -> usize {
        self.tables.rows()
    }
    fn bytes(&self) -> usize {
        self.tables.bytes()
    }
}

/// Timers of one name, of event time or of processing time, whichever they were declared for. A clone is another handle on the same timers: the operator registers with one, the
/// task fires with the other. Nothing that it returns is borrowed from it.
pub struct Timers<K: KeyType>(pub(crate) Option<TaskSide<TimerQueue<K>>>);

impl<K: KeyType> Default for Timers<K> {
    /// Not declared yet.
    fn default() -> Self {
        Timers(None)
    }
}

impl<K: KeyType> Clone for Timers<K> {
    fn clone(&self) -> Self {
        Timers(self.0.clone())
    }
}

impl<K: KeyType> Timers<K> {
    fn queue(&self) -> &TaskSide<TimerQueue<K>> {
        match &self.0 {
            Some(queue) => queue,
            None => undeclared(),
        }
    }

    /// Registers a timer; returns false if the key has one at that time already. One that is not ahead of the
    /// watermark (for processing time: of the time it is) is due at once.
    pub fn register(&mut self, key: &Key<K>, time: Timestamp) -> bool {
        self.queue().with(|queue| queue.register(key, time.0))
    }
    /// When the first timer is, or one that has been deleted since: not later than the first.
    pub fn next_time(&self) -> Option<Timestamp> {
        self.queue().with(TimerQueue::next_time).map(Timestamp)
    }
    /// Deletes a timer; returns false if the key has none at that time.
    pub fn delete(&mut self, key: &Key<K>, time: Timestamp) -> bool {
        self.queue().with(|queue| queue.delete(key, time.0))
    }
    /// Takes out the first timer, by time and then hash, that is due at a watermark or a processing time. Between two calls anything may happen:
    /// a barrier, a new timer, the end of a time slice.
    pub fn next_due(&mut self, watermark: Timestamp) -> Option<(Key<K>, Timestamp)> {
        self.queue()
            .with(|queue| queue.next_due(watermark.0))
            .map(|(key, time)| (key, Timestamp(time)))
    }
}

#[cfg(test)]
#[path = "timers_tests.rs"]
mod tests;
