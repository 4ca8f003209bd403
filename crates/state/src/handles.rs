//! What operators hold: typed handles on keyed state. Each is the only handle on its table (see `shared`). A default handle
//! is one not declared yet: it stands in an operator's field until `open`, and panics when it is used.

use crate::key::Key;
use crate::shared::Handle;
use crate::table::{Table, Tables};
use rivermark_data::{Data, Key as KeyType};
use rivermark_types::Timestamp;
use std::collections::BTreeMap;

/// One value a key.
pub struct ValueState<K: KeyType, V: Data>(pub(crate) Handle<Table<K, V>>);

impl<K: KeyType, V: Data> Default for ValueState<K, V> {
    /// Not declared yet.
    fn default() -> Self {
        ValueState(Handle::default())
    }
}

impl<K: KeyType, V: Data> ValueState<K, V> {
    /// The value of the key.
    #[inline]
    pub fn get(&self, key: &Key<K>) -> Option<&V> {
        self.0.get().get(&key.value, key.hash)
    }
    /// The value of the key, to be changed; the default if there is none yet.
    #[inline]
    pub fn update(&mut self, key: &Key<K>) -> &mut V
    where
        V: Default,
    {
        self.update_or_else(key, V::default)
    }
    /// The value of the key, to be changed; `first` if there is none yet.
    #[inline]
    pub fn update_or(&mut self, key: &Key<K>, first: V) -> &mut V {
        self.update_or_else(key, || first)
    }
    /// The value of the key, to be changed; made by `first` if there is none yet.
    #[inline]
    pub fn update_or_else(&mut self, key: &Key<K>, first: impl FnOnce() -> V) -> &mut V {
        self.0.get_mut().update_or_else(&key.value, key.hash, first)
    }
    /// Sets the value of the key; returns the old one.
    pub fn set(&mut self, key: &Key<K>, value: V) -> Option<V> {
        self.0.get_mut().insert(key.value.clone(), key.hash, value)
    }
    /// Removes the value of the key.
    pub fn clear(&mut self, key: &Key<K>) -> Option<V> {
        self.0.get_mut().remove(&key.value, key.hash)
    }
}

/// A list a key. An empty list takes no room.
pub struct ListState<K: KeyType, T: Data>(pub(crate) Handle<Table<K, Vec<T>>>);

impl<K: KeyType, T: Data> Default for ListState<K, T> {
    /// Not declared yet.
    fn default() -> Self {
        ListState(Handle::default())
    }
}

impl<K: KeyType, T: Data> ListState<K, T> {
    /// The key's list; empty if there is none.
    pub fn get(&self, key: &Key<K>) -> &[T] {
        self.0.get().get(&key.value, key.hash).map_or(&[], Vec::as_slice)
    }
    /// Puts an item at the end of the key's list.
    pub fn push(&mut self, key: &Key<K>, item: T) {
        self.0
            .get_mut()
            .update_or_else(&key.value, key.hash, Vec::new)
            .push(item);
    }
    /// Sets the key's list.
    pub fn set(&mut self, key: &Key<K>, items: Vec<T>) {
        if items.is_empty() {
            self.clear(key);
        } else {
            self.0.get_mut().insert(key.value.clone(), key.hash, items);
        }
    }
    /// Removes the key's list and returns it.
    pub fn clear(&mut self, key: &Key<K>) -> Vec<T> {
        self.0.get_mut().remove(&key.value, key.hash).unwrap_or_default()
    }
}

/// A map a key, in the order of its own keys. An empty map takes no room.
pub struct MapState<K: KeyType, UK: KeyType + Ord, UV: Data>(pub(crate) Handle<Table<K, BTreeMap<UK, UV>>>);

impl<K: KeyType, UK: KeyType + Ord, UV: Data> Default for MapState<K, UK, UV> {
    /// Not declared yet.
    fn default() -> Self {
        MapState(Handle::default())
    }
}

impl<K: KeyType, UK: KeyType + Ord, UV: Data> MapState<K, UK, UV> {
    fn map(&self, key: &Key<K>) -> Option<&BTreeMap<UK, UV>> {
        self.0.get().get(&key.value, key.hash)
    }
    /// The value of an entry of the key's map.
    pub fn get(&self, key: &Key<K>, entry: &UK) -> Option<&UV> {
        self.map(key)?.get(entry)
    }
    /// The value of an entry of the key's map, to be changed; the default if there is none yet.
    pub fn update(&mut self, key: &Key<K>, entry: UK) -> &mut UV
    where
        UV: Default,
    {
        self.0
            .get_mut()
            .update_or_else(&key.value, key.hash, BTreeMap::new)
            .entry(entry)
            .or_default()
    }
    /// Sets an entry of the key's map; returns its old value.
    pub fn insert(&mut self, key: &Key<K>, entry: UK, value: UV) -> Option<UV> {
        self.0
            .get_mut()
            .update_or_else(&key.value, key.hash, BTreeMap::new)
            .insert(entry, value)
    }
    /// Removes an entry of the key's map.
    pub fn remove(&mut self, key: &Key<K>, entry: &UK) -> Option<UV> {
        self.get(key, entry)?;
        let table = self.0.get_mut();
        let map = table.get_mut_existing(&key.value, key.hash)?;
        let removed = map.remove(entry);
        if map.is_empty() {
            table.remove(&key.value, key.hash);
        }
        removed
    }
    /// The entries of the key's map, in order.
    pub fn iter(&self, key: &Key<K>) -> impl Iterator<Item = (&UK, &UV)> {
        self.map(key).into_iter().flatten()
    }
    /// How many entries the key's map has.
    pub fn len(&self, key: &Key<K>) -> usize {
        self.map(key).map_or(0, BTreeMap::len)
    }
    /// Whether the key's map has no entries.
    pub fn is_empty(&self, key: &Key<K>) -> bool {
        self.map(key).is_none()
    }
    /// Removes the key's map and returns it.
    pub fn clear(&mut self, key: &Key<K>) -> BTreeMap<UK, UV> {
        self.0.get_mut().remove(&key.value, key.hash).unwrap_or_default()
    }
}

/// One accumulator a window and key. A window is known by its end, and fires and goes as a whole.
pub struct WindowState<K: KeyType, A: Data>(pub(crate) Handle<Tables<K, A>>);

impl<K: KeyType, A: Data> Default for WindowState<K, A> {
    /// Not declared yet.
    fn default() -> Self {
        WindowState(Handle::default())
    }
}

impl<K: KeyType, A: Data> WindowState<K, A> {
    /// The accumulator of a window and key.
    #[inline]
    pub fn get(&self, end: Timestamp, key: &Key<K>) -> Option<&A> {
        self.0.get().get(end.0, &key.value, key.hash)
    }
    /// The accumulator of a window and key, to be changed; made by `first` if there is none yet.
    #[inline]
    pub fn update_or_else(&mut self, end: Timestamp, key: &Key<K>, first: impl FnOnce() -> A) -> &mut A {
        self.0
            .get_mut()
            .update_or_else(end.0, &key.value, key.hash, first)
    }
    /// Removes the accumulator of a window and key.
    pub fn remove(&mut self, end: Timestamp, key: &Key<K>) -> Option<A> {
        self.0.get_mut().remove(end.0, &key.value, key.hash)
    }
    /// The end of the earliest window; "what fires next" is this against the watermark, and costs nothing.
    pub fn first_end(&self) -> Option<Timestamp> {
        self.0.get().first_namespace().map(Timestamp)
    }
    /// The ends of all windows, in order.
    pub fn ends(&self) -> impl Iterator<Item = Timestamp> + '_ {
        self.0.get().namespaces().map(Timestamp)
    }
    /// How many keys a window has.
    pub fn len(&self, end: Timestamp) -> usize {
        self.0.get().len_of(end.0)
    }
    /// Whether a window has no keys.
    pub fn is_empty(&self, end: Timestamp) -> bool {
        self.len(end) == 0
    }
    /// Fires a slice: takes up to `most` keys out of a window, in no order of meaning. Once none is left the window goes;
    /// returns whether it has.
    pub fn drain_slice(&mut self, end: Timestamp, most: usize, mut fire: impl FnMut(Key<K>, A)) -> bool {
        let tables = self.0.get_mut();
        let keys = tables.keys();
        tables.drain_slice(end.0, most, |key, value| fire(Key::new(key, keys), value));
        let done = tables.len_of(end.0) == 0;
        if done {
            tables.drop_namespace(end.0);
        }
        done
    }
    /// Drops a window with all its keys.
    pub fn drop_window(&mut self, end: Timestamp) {
        self.0.get_mut().drop_namespace(end.0);
    }
}
