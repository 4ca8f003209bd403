//! What operators hold of states with a time to live. They differ from the plain ones in that reading may change a row,
//! and so takes the handle mutably. A default handle is one not declared yet.

use super::{Expiring, ExpiringList, ExpiringMap, StateTtl, TtlTable};
use crate::key::Key;
use crate::reducing::AggregateFunction;
use crate::shared::{Handle, undeclared};
use rivermark_data::{Data, Key as KeyType};
use std::collections::BTreeMap;

/// One value a key, with a time to live.
pub struct TtlValueState<K: KeyType, V: Data>(pub(crate) Handle<TtlTable<K, Expiring<V>>>);

impl<K: KeyType, V: Data> Default for TtlValueState<K, V> {
    /// Not declared yet.
    fn default() -> Self {
        TtlValueState(Handle::default())
    }
}

impl<K: KeyType, V: Data> TtlValueState<K, V> {
    /// The value of the key.
    #[inline]
    pub fn get(&mut self, key: &Key<K>) -> Option<&V> {
        let table = self.0.get_mut();
        let (now, ttl) = (table.now(), table.ttl);
        let at = table.rows.get(&key.value, key.hash)?.at;
        if ttl.is_refreshed_by_reading(at, now) {
            let row = table.rows.get_mut_existing(&key.value, key.hash)?;
            row.at = now;
            return Some(&row.value);
        }
        let row = table.rows.get(&key.value, key.hash)?;
        ttl.is_visible(at, now).then_some(&row.value)
    }
    /// The value of the key, to be changed; the default if there is none.
    #[inline]
    pub fn update(&mut self, key: &Key<K>) -> &mut V
    where
        V: Default,
    {
        self.update_or_else(key, V::default)
    }
    /// The value of the key, to be changed; `first` if there is none.
    #[inline]
    pub fn update_or(&mut self, key: &Key<K>, first: V) -> &mut V {
        self.update_or_else(key, || first)
    }
    /// The value of the key, to be changed; made by `first` if there is none.
    #[inline]
    pub fn update_or_else(&mut self, key: &Key<K>, first: impl FnOnce() -> V) -> &mut V {
        let table = self.0.get_mut();
        let (now, ttl) = (table.now(), table.ttl);
        let mut first = Some(first);
        let row = table.rows.update_or_else(&key.value, key.hash, || Expiring {
            at: now,
            value: made(&mut first),
        });
        if !ttl.is_visible(row.at, now) {
            row.value = made(&mut first);
        }
        row.at = now;
        &mut row.value
    }
    /// Sets the value of the key; returns the old one.
    pub fn set(&mut self, key: &Key<K>, value: V) -> Option<V> {
        let table = self.0.get_mut();
        let (now, ttl) = (table.now(), table.ttl);
        let row = Expiring { at: now, value };
        visible(table.rows.insert(key.value.clone(), key.hash, row), ttl, now)
    }
    /// Removes the value of the key.
    pub fn clear(&mut self, key: &Key<K>) -> Option<V> {
        let table = self.0.get_mut();
        visible(table.rows.remove(&key.value, key.hash), table.ttl, table.now())
    }
}

/// Makes a first value: for a row that is not there, or for one that has expired, never for both.
#[inline(always)]
fn made<V>(first: &mut Option<impl FnOnce() -> V>) -> V {
    match first.take() {
        Some(first) => first(),
        None => unreachable!("a row that was just made has expired"),
    }
}

fn visible<V>(old: Option<Expiring<V>>, ttl: StateTtl, now: i64) -> Option<V> {
    old.filter(|row| ttl.is_visible(row.at, now)).map(|row| row.value)
}

/// A list a key; each item has its own time to live.
pub struct TtlListState<K: KeyType, T: Data>(pub(crate) Handle<TtlTable<K, ExpiringList<T>>>);

impl<K: KeyType, T: Data> Default for TtlListState<K, T> {
    /// Not declared yet.
    fn default() -> Self {
        TtlListState(Handle::default())
    }
}

impl<K: KeyType, T: Data> TtlListState<K, T> {
    /// The key's list; empty if there is none.
    pub fn get(&mut self, key: &Key<K>) -> &[T] {
        let table = self.0.get_mut();
        let (now, ttl) = (table.now(), table.ttl);
        let Some(list) = table.rows.get(&key.value, key.hash) else {
            return &[];
        };
        if !list.at.iter().any(|at| ttl.is_visible(*at, now)) {
            return &[];
        }
        let stale = |at: &i64| !ttl.is_visible(*at, now) || ttl.is_refreshed_by_reading(*at, now);
        if list.at.iter().any(stale) {
            let Some(list) = table.rows.get_mut_existing(&key.value, key.hash) else {
                return &[];
            };
            list.retain(|at| ttl.is_visible(at, now));
            for at in list
                .at
                .iter_mut()
                .filter(|at| ttl.is_refreshed_by_reading(**at, now))
            {
                *at = now;
            }
        }
        let list = table.rows.get(&key.value, key.hash);
        list.map_or(&[], |list| list.items.as_slice())
    }
    /// Puts an item at the end of the key's list.
    pub fn push(&mut self, key: &Key<K>, item: T) {
        let table = self.0.get_mut();
        let now = table.now();
        table
            .rows
            .update_or_else(&key.value, key.hash, ExpiringList::default)
            .push(item, now);
    }
    /// Sets the key's list.
    pub fn set(&mut self, key: &Key<K>, items: Vec<T>) {
        let table = self.0.get_mut();
        if items.is_empty() {
            table.rows.remove(&key.value, key.hash);
            return;
        }
        let at = vec![table.now(); items.len()];
        table
            .rows
            .insert(key.value.clone(), key.hash, ExpiringList { at, items });
    }
    /// Removes the key's list and returns it.
    pub fn clear(&mut self, key: &Key<K>) -> Vec<T> {
        let table = self.0.get_mut();
        let (now, ttl) = (table.now(), table.ttl);
        let Some(mut list) = table.rows.remove(&key.value, key.hash) else {
            return Vec::new();
        };
        list.retain(|at| ttl.is_visible(at, now));
        list.items
    }
}

/// A map a key, in the order of its own keys; each entry has its own time to live.
pub struct TtlMapState<K: KeyType, UK: KeyType + Ord, UV: Data>(
    pub(crate) Handle<TtlTable<K, ExpiringMap<UK, UV>>>,
);

impl<K: KeyType, UK: KeyType + Ord, UV: Data> Default for TtlMapState<K, UK, UV> {
    /// Not declared yet.
    fn default() -> Self {
        TtlMapState(Handle::default())
    }
}

impl<K: KeyType, UK: KeyType + Ord, UV: Data> TtlMapState<K, UK, UV> {
    /// The value of an entry of the key's map.
    pub fn get(&mut self, key: &Key<K>, entry: &UK) -> Option<&UV> {
        let table = self.0.get_mut();
        let (now, ttl) = (table.now(), table.ttl);
        let at = table.rows.get(&key.value, key.hash)?.0.get(entry)?.at;
        if ttl.is_refreshed_by_reading(at, now) {
            let map = table.rows.get_mut_existing(&key.value, key.hash)?;
            let found = map.0.get_mut(entry)?;
            found.at = now;
            return Some(&found.value);
        }
        let found = table.rows.get(&key.value, key.hash)?.0.get(entry)?;
        ttl.is_visible(at, now).then_some(&found.value)
    }
    /// The value of an entry of the key's map, to be changed; the default if there is none.
    pub fn update(&mut self, key: &Key<K>, entry: UK) -> &mut UV
    where
        UV: Default,
    {
        let table = self.0.get_mut();
        let (now, ttl) = (table.now(), table.ttl);
        let map = table
            .rows
            .update_or_else(&key.value, key.hash, ExpiringMap::default);
        let found = map.0.entry(entry).or_insert_with(|| Expiring {
            at: now,
            value: UV::default(),
        });
        if !ttl.is_visible(found.at, now) {
            found.value = UV::default();
        }
        found.at = now;
        &mut found.value
    }
    /// Sets an entry of the key's map; returns its old value.
    pub fn insert(&mut self, key: &Key<K>, entry: UK, value: UV) -> Option<UV> {
        let table = self.0.get_mut();
        let (now, ttl) = (table.now(), table.ttl);
        let map = table
            .rows
            .update_or_else(&key.value, key.hash, ExpiringMap::default);
        visible(map.0.insert(entry, Expiring { at: now, value }), ttl, now)
    }
    /// Removes an entry of the key's map.
    pub fn remove(&mut self, key: &Key<K>, entry: &UK) -> Option<UV> {
        let table = self.0.get_mut();
        let (now, ttl) = (table.now(), table.ttl);
        table.rows.get(&key.value, key.hash)?.0.get(entry)?;
        let map = table.rows.get_mut_existing(&key.value, key.hash)?;
        let removed = map.0.remove(entry);
        if map.0.is_empty() {
            table.rows.remove(&key.value, key.hash);
        }
        visible(removed, ttl, now)
    }
    /// The entries of the key's map, in order.
    pub fn iter(&mut self, key: &Key<K>) -> impl Iterator<Item = (&UK, &UV)> {
        let table = self.0.get_mut();
        let (now, ttl) = (table.now(), table.ttl);
        let is_read = |entry: &&mut Expiring<UV>| ttl.is_refreshed_by_reading(entry.at, now);
        let map = table.rows.get(&key.value, key.hash);
        let refresh = map.is_some_and(|map| {
            let mut times = map.0.values().map(|entry| entry.at);
            times.any(|at| ttl.is_refreshed_by_reading(at, now))
        });
        if refresh && let Some(map) = table.rows.get_mut_existing(&key.value, key.hash) {
            map.0
                .values_mut()
                .filter(is_read)
                .for_each(|entry| entry.at = now);
        }
        let map = table.rows.get(&key.value, key.hash);
        let entries = map.into_iter().flat_map(|map| &map.0);
        entries
            .filter(move |(_, entry)| ttl.is_visible(entry.at, now))
            .map(|(key, entry)| (key, &entry.value))
    }
    /// How many entries the key's map has. Looks at all of them, and does not count as reading them.
    pub fn len(&self, key: &Key<K>) -> usize {
        let table = self.0.get();
        let (now, ttl) = (table.now(), table.ttl);
        let map = table.rows.get(&key.value, key.hash);
        let times = map
            .into_iter()
            .flat_map(|map| map.0.values())
            .map(|entry| entry.at);
        times.filter(|at| ttl.is_visible(*at, now)).count()
    }
    /// Whether the key's map has no entries.
    pub fn is_empty(&self, key: &Key<K>) -> bool {
        self.len(key) == 0
    }
    /// Removes the key's map and returns it.
    pub fn clear(&mut self, key: &Key<K>) -> BTreeMap<UK, UV> {
        let table = self.0.get_mut();
        let (now, ttl) = (table.now(), table.ttl);
        let map = table.rows.remove(&key.value, key.hash).unwrap_or_default();
        let entries = map.0.into_iter();
        entries
            .filter(|(_, entry)| ttl.is_visible(entry.at, now))
            .map(|(key, entry)| (key, entry.value))
            .collect()
    }
}

/// The rows of a key, reduced to one by a function that changes the value so far, with a time to live: the first row after
/// the value has expired is the first value again.
pub struct TtlReducingState<K: KeyType, T: Data> {
    value: TtlValueState<K, T>,
    reduce: fn(&mut T, T),
}

impl<K: KeyType, T: Data> Default for TtlReducingState<K, T> {
    /// Not declared yet.
    fn default() -> Self {
        TtlReducingState {
            value: TtlValueState::default(),
            reduce: |_, _| {},
        }
    }
}

impl<K: KeyType, T: Data> TtlReducingState<K, T> {
    pub(crate) fn new(value: TtlValueState<K, T>, reduce: fn(&mut T, T)) -> Self {
        TtlReducingState { value, reduce }
    }
    /// The value of the key; `None` before its first row.
    #[inline]
    pub fn get(&mut self, key: &Key<K>) -> Option<&T> {
        self.value.get(key)
    }
    /// Takes a row in.
    #[inline]
    pub fn add(&mut self, key: &Key<K>, row: T) {
        let table = self.value.0.get_mut();
        let (now, ttl) = (table.now(), table.ttl);
        match table.rows.get_mut_existing(&key.value, key.hash) {
            Some(kept) => {
                match ttl.is_visible(kept.at, now) {
                    true => (self.reduce)(&mut kept.value, row),
                    false => kept.value = row,
                }
                kept.at = now;
            }
            None => {
                let first = Expiring { at: now, value: row };
                table.rows.insert(key.value.clone(), key.hash, first);
            }
        }
    }
    /// Removes the value of the key and returns it.
    pub fn clear(&mut self, key: &Key<K>) -> Option<T> {
        self.value.clear(key)
    }
}

/// An accumulator a key, into which an [`AggregateFunction`] takes rows, with a time to live.
pub struct TtlAggregatingState<K: KeyType, A: AggregateFunction>(Option<(TtlValueState<K, A::Acc>, A)>);

impl<K: KeyType, A: AggregateFunction> Default for TtlAggregatingState<K, A> {
    /// Not declared yet.
    fn default() -> Self {
        TtlAggregatingState(None)
    }
}

impl<K: KeyType, A: AggregateFunction> TtlAggregatingState<K, A> {
    pub(crate) fn new(value: TtlValueState<K, A::Acc>, aggregate: A) -> Self {
        TtlAggregatingState(Some((value, aggregate)))
    }
    #[inline(always)]
    fn declared(&mut self) -> &mut (TtlValueState<K, A::Acc>, A) {
        self.0.as_mut().unwrap_or_else(|| undeclared())
    }
    /// The result of the key's rows; `None` before its first.
    pub fn get(&mut self, key: &Key<K>) -> Option<A::Output> {
        let (value, aggregate) = self.declared();
        value.get(key).map(|acc| aggregate.result(acc))
    }
    /// Takes a row in.
    #[inline]
    pub fn add(&mut self, key: &Key<K>, row: A::Input) {
        let (value, aggregate) = self.declared();
        aggregate.add(value.update_or_else(key, || aggregate.create()), row);
    }
    /// Removes the accumulator of the key; whether there was one.
    pub fn clear(&mut self, key: &Key<K>) -> bool {
        self.declared().0.clear(key).is_some()
    }
}
