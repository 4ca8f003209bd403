//! All keyed state of one operator in one subtask: declared by name, restored on declaration, frozen and walked as one.

use crate::codec::{Columns, RowCodec, row_codec};
use crate::error::StateError;
use crate::handles::{ListState, MapState, ValueState, WindowState};
use crate::image::{ImageChunk, ImageRow, ImageSink, StateId, StateKind};
use crate::reducing::{AggregateFunction, AggregatingState, ReducingState};
use crate::restored::RestoredState;
use crate::shared::{Handle, TaskSide};
use crate::table::{KeySpace, Origin, Stored, Table, Tables, Walk};
use crate::timers::{TimerQueue, Timers};
use crate::ttl::{Aging, Clock, Expiring, StateTtl, TtlTable};
use crate::ttl::{TtlAggregatingState, TtlListState, TtlMapState, TtlReducingState, TtlValueState};
use bytes::Bytes;
use rivermark_data::{Data, Key};
use rivermark_env::grow_arena;
use rivermark_types::{KeyGroupRange, KeyHash, MaxParallelism, Timestamp, Uid};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Whose state a backend keeps.
#[derive(Clone, Debug)]
pub struct BackendConfig {
    /// The operator.
    pub operator: Uid,
    /// The job's seed, which keys the hash.
    pub seed: u64,
    /// The job's number of key groups.
    pub max_parallelism: MaxParallelism,
    /// The key groups of this subtask.
    pub range: KeyGroupRange,
}

/// The keyed state of one operator in one subtask.
///
/// The operator declares its states in `open` and holds the handles; the task holds this. The task may call it only between
/// calls of the operator.
pub struct KeyedBackend {
    config: BackendConfig,
    restored: RestoredState,
    names: BTreeSet<String>,
    tables: Vec<TaskSide<dyn Stored>>,
    clock: Clock,
    has_ttl: bool,
}

/// Touches, for the keys of the next rows, what their look-ups will need. For the operator's driver, between two rows: it
/// reads and changes nothing.
pub struct LookAhead(Vec<TaskSide<dyn Stored>>);

impl LookAhead {
    /// For about sixteen keys at a time: more would be gone again before they are used.
    #[inline]
    pub fn prefetch(&self, hashes: &[KeyHash]) {
        for table in &self.0 {
            table.with(|table| table.prefetch(hashes));
        }
    }
}

/// An abandoned image goes here.
struct Nowhere;
impl ImageSink for Nowhere {
    fn push(&mut self, _: ImageChunk) {}
}

/// What a declaration needs to fill its table.
struct Declared<K, V> {
    origin: Origin,
    codec: Arc<RowCodec<K, V>>,
    pages: Vec<Bytes>,
    keys: KeySpace,
    range: KeyGroupRange,
}

impl<K: Key, V: Data> Declared<K, V> {
    /// Hands the rows of this subtask with their keys' hashes to `take`, a page of them at a time.
    fn each_page(&mut self, mut take: impl FnMut(Columns<K, V>, Vec<KeyHash>)) -> Result<(), StateError> {
        // A page goes once it is read: its memory is used for the next rows.
        for page in std::mem::take(&mut self.pages) {
            if std::mem::needs_drop::<(K, V)>() {
                grow_arena();
            }
            let decoded = self.codec.decode_columns(page);
            let decoded = decoded.map_err(|error| StateError::Undecodable {
                operator: self.origin.state.operator.to_string(),
                name: self.origin.state.name.clone(),
                reason: error.to_string(),
            })?;
            for mut rows in decoded {
                let mut hashes: Vec<KeyHash> = rows.keys.iter().map(|key| self.keys.hash(key)).collect();
                // The group is computed from the key and not read: it is what decides who owns a row from now on.
                let is_ours = |hash: &KeyHash| self.range.contains(self.keys.groups.group_of(*hash));
                if !hashes.iter().all(is_ours) {
                    rows.retain(|at| is_ours(&hashes[at]));
                    hashes.retain(is_ours);
                }
                take(rows, hashes);
            }
        }
        Ok(())
    }

    /// All rows of this subtask.
    fn rows(&mut self) -> Result<Vec<ImageRow<K, V>>, StateError> {
        let mut rows = Vec::new();
        self.each_page(|page, _| rows.extend(page.into_rows()))?;
        Ok(rows)
    }
}

impl KeyedBackend {
    /// A backend without tables yet, and what the snapshot has for it.
    pub fn new(config: BackendConfig, restored: RestoredState) -> KeyedBackend {
        KeyedBackend {
            config,
            restored,
            names: BTreeSet::new(),
            tables: Vec::new(),
            clock: Clock::default(),
            has_ttl: false,
        }
    }

    /// The processing time, by which state expires from now on. To be set before states are declared, and then, if
    /// [`KeyedBackend::has_ttl`], before each call of the operator: during a call time stands still.
    pub fn set_time(&self, now: Timestamp) {
        self.clock.set(now);
    }

    /// Whether any state has a time to live.
    pub fn has_ttl(&self) -> bool {
        self.has_ttl
    }

    /// How keys are hashed here.
    pub fn keys(&self) -> KeySpace {
        KeySpace {
            seed: self.config.seed,
            groups: self.config.max_parallelism,
        }
    }

    /// Declares one value a key.
    pub fn value<K: Key, V: Data>(&mut self, name: &str) -> Result<ValueState<K, V>, StateError> {
        self.table(name, StateKind::Value, |value, later| *value = later)
            .map(ValueState)
    }

    /// Declares a list a key.
    pub fn list<K: Key, T: Data>(&mut self, name: &str) -> Result<ListState<K, T>, StateError> {
        self.table(name, StateKind::List, |list: &mut Vec<T>, mut later| {
            list.append(&mut later);
        })
        .map(ListState)
    }

    /// Declares a map a key.
    pub fn map<K: Key, UK: Key + Ord, UV: Data>(
        &mut self,
        name: &str,
    ) -> Result<MapState<K, UK, UV>, StateError> {
        self.table(name, StateKind::Map, |map: &mut BTreeMap<UK, UV>, mut later| {
            map.append(&mut later);
        })
        .map(MapState)
    }

    /// Declares one value a key, to which `reduce` brings each row.
    pub fn reducing<K: Key, T: Data>(
        &mut self,
        name: &str,
        reduce: fn(&mut T, T),
    ) -> Result<ReducingState<K, T>, StateError> {
        let table = self.table(name, StateKind::Reducing, |value, later| *value = later)?;
        Ok(ReducingState::new(table, reduce))
    }

    /// Declares one accumulator a key.
    pub fn aggregating<K: Key, A: AggregateFunction>(
        &mut self,
        name: &str,
        aggregate: A,
    ) -> Result<AggregatingState<K, A>, StateError> {
        let table = self.table(name, StateKind::Aggregating, |acc, later| *acc = later)?;
        Ok(AggregatingState::new(table, aggregate))
    }

    /// Declares one value a key, with a time to live.
    pub fn ttl_value<K: Key, V: Data>(
        &mut self,
        name: &str,
        ttl: StateTtl,
    ) -> Result<TtlValueState<K, V>, StateError> {
        self.ttl_table(name, StateKind::Value, ttl).map(TtlValueState)
    }

    /// Declares a list a key, with a time to live for each item.
    pub fn ttl_list<K: Key, T: Data>(
        &mut self,
        name: &str,
        ttl: StateTtl,
    ) -> Result<TtlListState<K, T>, StateError> {
        self.ttl_table(name, StateKind::List, ttl).map(TtlListState)
    }

    /// Declares a map a key, with a time to live for each entry.
    pub fn ttl_map<K: Key, UK: Key + Ord, UV: Data>(
        &mut self,
        name: &str,
        ttl: StateTtl,
    ) -> Result<TtlMapState<K, UK, UV>, StateError> {
        self.ttl_table(name, StateKind::Map, ttl).map(TtlMapState)
    }

    /// Declares one value a key, to which `reduce` brings each row, with a time to live.
    pub fn ttl_reducing<K: Key, T: Data>(
        &mut self,
        name: &str,
        reduce: fn(&mut T, T),
        ttl: StateTtl,
    ) -> Result<TtlReducingState<K, T>, StateError> {
        let value: Handle<TtlTable<K, Expiring<T>>> = self.ttl_table(name, StateKind::Reducing, ttl)?;
        Ok(TtlReducingState::new(TtlValueState(value), reduce))
    }

    /// Declares one accumulator a key, with a time to live.
    pub fn ttl_aggregating<K: Key, A: AggregateFunction>(
        &mut self,
        name: &str,
        aggregate: A,
        ttl: StateTtl,
    ) -> Result<TtlAggregatingState<K, A>, StateError> {
        let value: Handle<TtlTable<K, Expiring<A::Acc>>> =
            self.ttl_table(name, StateKind::Aggregating, ttl)?;
        Ok(TtlAggregatingState::new(TtlValueState(value), aggregate))
    }

    /// Declares timers.
    pub fn timers<K: Key>(&mut self, name: &str) -> Result<Timers<K>, StateError> {
        let mut declared = self.declare(name, StateKind::Timers)?;
        let mut timers = TimerQueue::new(declared.origin.clone(), self.keys());
        declared.each_page(|page, _| page.into_rows().into_iter().for_each(|row| timers.restore(row)))?;
        let side = self.keep(&Handle::new(timers));
        Ok(Timers(Some(side)))
    }

    /// Declares one accumulator a window and key.
    pub fn windows<K: Key, A: Data>(&mut self, name: &str) -> Result<WindowState<K, A>, StateError> {
        let mut declared = self.declare(name, StateKind::Windows)?;
        let mut tables = Tables::new(declared.origin.clone(), self.keys());
        declared.each_page(|page, hashes| {
            let rows = page.namespaces().into_iter().zip(page.keys).zip(page.values);
            for (((namespace, key), value), hash) in rows.zip(hashes) {
                tables.insert(namespace, key, hash, value);
            }
        })?;
        let handle = Handle::new(tables);
        self.keep(&handle);
        Ok(WindowState(handle))
    }

    /// A table without a time to live. One that had one may have left several rows a key, which `append` joins.
    fn table<K: Key, V: Data>(
        &mut self,
        name: &str,
        kind: StateKind,
        append: fn(&mut V, V),
    ) -> Result<Handle<Table<K, V>>, StateError> {
        let mut declared = self.declare(name, kind)?;
        let mut table = Table::new(declared.origin.clone(), self.keys());
        let bytes: usize = declared.pages.iter().map(Bytes::len).sum();
        let first = declared.pages.first().map_or(0, Bytes::len);
        declared.each_page(|page, hashes| {
            // All rows take about as many bytes as those of the first page.
            let all = hashes.len().saturating_mul(bytes).checked_div(first);
            table.reserve(all.unwrap_or(hashes.len()));
            table.restore(page.keys, &hashes, page.values, append);
        })?;
        let handle = Handle::new(table);
        self.keep(&handle);
        Ok(handle)
    }

    fn ttl_table<K: Key, A: Aging>(
        &mut self,
        name: &str,
        kind: StateKind,
        ttl: StateTtl,
    ) -> Result<Handle<TtlTable<K, A>>, StateError> {
        let mut declared = self.declare::<K, A::Plain>(name, kind)?;
        let rows = declared.rows()?;
        let Declared { origin, codec, .. } = declared;
        let table = TtlTable::new(origin, codec, self.keys(), ttl, self.clock.clone(), rows);
        self.has_ttl = true;
        let handle = Handle::new(table);
        self.keep(&handle);
        Ok(handle)
    }

    fn keep<T: Stored + 'static>(&mut self, handle: &Handle<T>) -> TaskSide<T> {
        self.tables.push(handle.task_side().erased());
        handle.task_side()
    }

    /// Claims a name and reads the rows of this subtask's key groups that the snapshot has under it.
    fn declare<K: Key, V: Data>(
        &mut self,
        name: &str,
        kind: StateKind,
    ) -> Result<Declared<K, V>, StateError> {
        let operator = || self.config.operator.to_string();
        if !self.names.insert(name.to_owned()) {
            return Err(StateError::DeclaredTwice {
                operator: operator(),
                name: name.to_owned(),
            });
        }
        let state = StateId {
            operator: self.config.operator.clone(),
            name: name.to_owned(),
            kind,
        };
        let pages = self.restored.take(&state).unwrap_or_default();
        if let Some(other) = self.restored.states().find(|other| other.name == name) {
            return Err(StateError::KindChanged {
                operator: operator(),
                name: name.to_owned(),
                stored: kind_in_words(other.kind),
                declared: kind_in_words(kind),
            });
        }
        let codec: Arc<RowCodec<K, V>> = row_codec();
        Ok(Declared {
            origin: Origin {
                state: Arc::new(state),
                encoder: codec.clone(),
            },
            codec,
            pages,
            keys: self.keys(),
            range: self.config.range,
        })
    }

    /// What prefetches for the look-ups of the next rows, in all tables declared so far.
    pub fn look_ahead(&self) -> LookAhead {
        LookAhead(self.tables.clone())
    }

    /// To be called once all states are declared: state of the snapshot that nobody declared is an error, not lost.
    pub fn finish_open(&mut self) -> Result<(), StateError> {
        let names: Vec<String> = self
            .restored
            .states()
            .map(|state| format!("{:?}", state.name))
            .collect();
        if names.is_empty() {
            return Ok(());
        }
        Err(StateError::Unclaimed {
            operator: self.config.operator.to_string(),
            names: names.join(", "),
        })
    }

    /// Starts the image of all state as it is now; copies nothing. An image must be walked to its end before, unless its
    /// checkpoint was given up: then what is left of it goes nowhere.
    pub fn freeze(&mut self) {
        for table in &self.tables {
            table.with(|table| table.freeze(&mut Nowhere));
        }
    }

    /// Copies about `budget_rows` rows of the image to the sink.
    pub fn walk(&mut self, budget_rows: usize, sink: &mut dyn ImageSink) -> Walk {
        let mut budget = budget_rows;
        let mut all = Walk::Done;
        // Without budget a table still hands over what changes have copied meanwhile.
        for table in &self.tables {
            if table.with(|table| table.walk(&mut budget, sink)) == Walk::More {
                all = Walk::More;
            }
        }
        all
    }

    /// Removes state that has expired, a slice of about so many rows, whether or not an image is under way. When there is more
    /// to do, in processing time (the past means at once); `None` as long as no row is added. Only between two calls of the
    /// operator.
    pub fn sweep(&mut self, budget_rows: usize) -> Option<Timestamp> {
        let mut budget = budget_rows;
        let tables = self.tables.iter();
        tables
            .filter_map(|table| table.with(|table| table.sweep(&mut budget)))
            .min()
    }

    /// Whether an image is not out yet.
    pub fn is_walking(&self) -> bool {
        self.tables
            .iter()
            .any(|table| table.with(|table| table.is_walking()))
    }

    /// How many rows all states have.
    pub fn rows(&self) -> usize {
        self.tables
            .iter()
            .map(|table| table.with(|table| table.rows()))
            .sum()
    }

    /// About how many bytes all tables take, not counting what rows point to.
    pub fn bytes(&self) -> usize {
        self.tables
            .iter()
            .map(|table| table.with(|table| table.bytes()))
            .sum()
    }
}

fn kind_in_words(kind: StateKind) -> String {
    format!("{kind:?}").to_lowercase()
}

#[cfg(test)]
#[path = "backend_tests.rs"]
mod tests;
