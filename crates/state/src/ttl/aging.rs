//! Rows that know when each thing in them was accessed last, and how they become rows of a snapshot and come back.

use super::StateTtl;
use crate::table::Fate;
use rivermark_data::{Data, Key};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A row whose parts expire.
pub(crate) trait Aging: Data {
    /// The same without times: the value of a snapshot's row, all of it with one time.
    type Plain: Data;
    /// A row all of which was accessed at a time.
    fn of(plain: Self::Plain, at: i64) -> Self;
    /// Appends what another row of the snapshot has for the same key.
    fn append(&mut self, later: Self);
    /// Takes the row apart by time of last access.
    fn split(self, take: impl FnMut(i64, Self::Plain));
    /// What is to become of the row, and how many parts were looked at.
    fn look(&self, ttl: StateTtl, now: i64) -> (Fate, usize);
    /// Removes the parts that have expired.
    fn trim(&mut self, ttl: StateTtl, now: i64);
}

/// What becomes of a row with parts accessed at these times.
fn fate(times: impl Iterator<Item = i64>, ttl: StateTtl, now: i64) -> (Fate, usize) {
    let (mut all, mut expired) = (0, 0);
    for at in times {
        all += 1;
        expired += usize::from(ttl.is_expired(at, now));
    }
    let fate = match expired {
        0 => Fate::Keep,
        _ if expired == all => Fate::Remove,
        _ => Fate::Trim,
    };
    (fate, all.max(1))
}

/// One thing with the time of its last access.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Expiring<V> {
    pub(super) at: i64,
    pub(super) value: V,
}

impl<V: Data> Aging for Expiring<V> {
    type Plain = V;
    fn of(value: V, at: i64) -> Self {
        Expiring { at, value }
    }
    fn append(&mut self, later: Self) {
        *self = later;
    }
    fn split(self, mut take: impl FnMut(i64, V)) {
        take(self.at, self.value);
    }
    #[inline]
    fn look(&self, ttl: StateTtl, now: i64) -> (Fate, usize) {
        match ttl.is_expired(self.at, now) {
            true => (Fate::Remove, 1),
            false => (Fate::Keep, 1),
        }
    }
    fn trim(&mut self, _: StateTtl, _: i64) {}
}

/// Items in order; the times beside them, so that the items can be borrowed as one slice.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ExpiringList<T> {
    pub(super) at: Vec<i64>,
    pub(super) items: Vec<T>,
}

impl<T> Default for ExpiringList<T> {
    fn default() -> Self {
        ExpiringList {
            at: Vec::new(),
            items: Vec::new(),
        }
    }
}

impl<T> ExpiringList<T> {
    pub(super) fn push(&mut self, item: T, at: i64) {
        self.at.push(at);
        self.items.push(item);
    }
    /// Keeps the items whose times are such.
    pub(super) fn retain(&mut self, keep: impl Fn(i64) -> bool) {
        let mut times = self.at.iter();
        self.items.retain(|_| times.next().is_some_and(|at| keep(*at)));
        self.at.retain(|at| keep(*at));
    }
}

impl<T: Data> Aging for ExpiringList<T> {
    type Plain = Vec<T>;
    fn of(items: Vec<T>, at: i64) -> Self {
        ExpiringList {
            at: vec![at; items.len()],
            items,
        }
    }
    fn append(&mut self, mut later: Self) {
        self.at.append(&mut later.at);
        self.items.append(&mut later.items);
    }
    /// Neighbours of the same time together, so that the order stays.
    fn split(self, mut take: impl FnMut(i64, Vec<T>)) {
        let mut items = self.items.into_iter();
        for run in self.at.chunk_by(|one, next| one == next) {
            take(run[0], items.by_ref().take(run.len()).collect());
        }
    }
    fn look(&self, ttl: StateTtl, now: i64) -> (Fate, usize) {
        fate(self.at.iter().copied(), ttl, now)
    }
    fn trim(&mut self, ttl: StateTtl, now: i64) {
        self.retain(|at| !ttl.is_expired(at, now));
    }
}

/// Entries in the order of their keys.
#[derive(Clone, Serialize, Deserialize)]
#[serde(bound(serialize = "UK: Serialize, UV: Serialize"))]
#[serde(bound(deserialize = "UK: Deserialize<'de> + Ord, UV: Deserialize<'de>"))]
pub(crate) struct ExpiringMap<UK, UV>(pub(super) BTreeMap<UK, Expiring<UV>>);

impl<UK, UV> Default for ExpiringMap<UK, UV> {
    fn default() -> Self {
        ExpiringMap(BTreeMap::new())
    }
}

impl<UK: Key + Ord, UV: Data> Aging for ExpiringMap<UK, UV> {
    type Plain = BTreeMap<UK, UV>;
    fn of(entries: BTreeMap<UK, UV>, at: i64) -> Self {
        let entries = entries.into_iter();
        ExpiringMap(
            entries
                .map(|(key, value)| (key, Expiring { at, value }))
                .collect(),
        )
    }
    fn append(&mut self, mut later: Self) {
        self.0.append(&mut later.0);
    }
    fn split(self, mut take: impl FnMut(i64, BTreeMap<UK, UV>)) {
        let mut by_time = BTreeMap::<i64, BTreeMap<UK, UV>>::new();
        for (key, entry) in self.0 {
            by_time.entry(entry.at).or_default().insert(key, entry.value);
        }
        by_time.into_iter().for_each(|(at, entries)| take(at, entries));
    }
    fn look(&self, ttl: StateTtl, now: i64) -> (Fate, usize) {
        fate(self.0.values().map(|entry| entry.at), ttl, now)
    }
    fn trim(&mut self, ttl: StateTtl, now: i64) {
        self.0.retain(|_, entry| !ttl.is_expired(entry.at, now));
    }
}
