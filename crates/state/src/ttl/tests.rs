//! States with a time to live against plain maps that know when each thing was accessed, with sweeps, freezes, walks and
//! restores at random moments.

use super::*;
use crate::backend::{BackendConfig, KeyedBackend};
use crate::image::{ImageChunk, ImageSink};
use crate::reducing::AggregateFunction;
use crate::restored::RestoredState;
use crate::table::{KeySpace, Walk};
use proptest::prelude::*;
use rivermark_types::{MaxParallelism, Uid};
use std::collections::BTreeMap;

const TTL_MS: i64 = 100;
const SEED: u64 = 3;

fn groups() -> MaxParallelism {
    MaxParallelism::new(128).unwrap()
}

fn keyed(key: u8) -> crate::Key<u8> {
    let keys = KeySpace {
        seed: SEED,
        groups: groups(),
    };
    crate::Key::new(key, keys)
}

fn ttl(update_type: UpdateType) -> StateTtl {
    StateTtl::new(Duration::from_millis(TTL_MS as u64)).with_update_type(update_type)
}

fn backend(restored: RestoredState, now: i64) -> KeyedBackend {
    let config = BackendConfig {
        operator: Uid::from("op"),
        seed: SEED,
        max_parallelism: groups(),
        range: groups().range_of(0, 1),
    };
    let backend = KeyedBackend::new(config, restored);
    backend.set_time(Timestamp(now));
    backend
}

#[derive(Default)]
struct Chunks(Vec<ImageChunk>);
impl ImageSink for Chunks {
    fn push(&mut self, chunk: ImageChunk) {
        self.0.push(chunk);
    }
}

impl Chunks {
    fn restored(self) -> RestoredState {
        let mut restored = RestoredState::default();
        for chunk in self.0 {
            for page in chunk.encoder.encode(vec![chunk.content]).unwrap() {
                restored.add((*chunk.state).clone(), page.bytes);
            }
        }
        restored
    }
}

/// Sum and count.
struct Mean;
impl AggregateFunction for Mean {
    type Input = u64;
    type Acc = (u64, u64);
    type Output = u64;
    fn create(&self) -> (u64, u64) {
        (0, 0)
    }
    fn add(&self, acc: &mut (u64, u64), row: u64) {
        *acc = (acc.0 + row, acc.1 + 1);
    }
    fn result(&self, acc: &(u64, u64)) -> u64 {
        acc.0 * 100 + acc.1
    }
}

struct States {
    backend: KeyedBackend,
    value: TtlValueState<u8, u64>,
    list: TtlListState<u8, u64>,
    map: TtlMapState<u8, u8, u64>,
    largest: TtlReducingState<u8, u64>,
    mean: TtlAggregatingState<u8, Mean>,
}

fn open(restored: RestoredState, now: i64, ttl: StateTtl) -> States {
    let mut backend = backend(restored, now);
    let mut states = States {
        value: backend.ttl_value("value", ttl).unwrap(),
        list: backend.ttl_list("list", ttl).unwrap(),
        map: backend.ttl_map("map", ttl).unwrap(),
        largest: backend
            .ttl_reducing("largest", |one: &mut u64, other| *one = other.max(*one), ttl)
            .unwrap(),
        mean: backend.ttl_aggregating("mean", Mean, ttl).unwrap(),
        backend,
    };
    states.backend.finish_open().unwrap();
    states
}

/// A thing, and when it was accessed last.
type Dated<V> = (V, i64);

/// The same in plain maps.
#[derive(Clone, Default)]
struct Model {
    value: BTreeMap<u8, Dated<u64>>,
    list: BTreeMap<u8, Vec<Dated<u64>>>,
    map: BTreeMap<u8, BTreeMap<u8, Dated<u64>>>,
    largest: BTreeMap<u8, Dated<u64>>,
    mean: BTreeMap<u8, Dated<(u64, u64)>>,
}

impl Model {
    fn expire(&mut self, now: i64) {
        fn lives<V>(now: i64) -> impl Fn(&Dated<V>) -> bool {
            move |thing| now - thing.1 < TTL_MS
        }
        self.value.retain(|_, row| lives(now)(row));
        self.largest.retain(|_, row| lives(now)(row));
        self.mean.retain(|_, row| lives(now)(row));
        self.list.values_mut().for_each(|list| list.retain(lives(now)));
        self.map
            .values_mut()
            .for_each(|map| map.retain(|_, entry| lives(now)(entry)));
        self.list.retain(|_, list| !list.is_empty());
        self.map.retain(|_, map| !map.is_empty());
    }
    fn rows(&self) -> usize {
        self.value.len() + self.list.len() + self.map.len() + self.largest.len() + self.mean.len()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(u8, u64),
    Set(u8, u64),
    Clear(u8),
    RemoveEntry(u8, u8),
    Read(u8),
    Pass(i64),
    Sweep(usize),
    Freeze,
    Walk(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..40u8;
    prop_oneof![
        8 => (key.clone(), 0..1_000u64).prop_map(|(key, n)| Step::Add(key, n)),
        2 => (key.clone(), 0..1_000u64).prop_map(|(key, n)| Step::Set(key, n)),
        1 => key.clone().prop_map(Step::Clear),
        1 => (key.clone(), 0..5u8).prop_map(|(key, entry)| Step::RemoveEntry(key, entry)),
        4 => key.prop_map(Step::Read),
        3 => (1..40i64).prop_map(Step::Pass),
        4 => (1..30usize).prop_map(Step::Sweep),
        1 => Just(Step::Freeze),
        3 => (1..30usize).prop_map(Step::Walk),
    ]
}

struct Check {
    states: States,
    model: Model,
    now: i64,
    ttl: StateTtl,
    frozen: Option<Model>,
    image: Chunks,
}

impl Check {
    fn run(&mut self, step: Step) {
        self.model.expire(self.now);
        let now = self.now;
        match step {
            Step::Add(key, n) => self.add(key, n),
            Step::Set(key, n) => self.set(key, n),
            Step::Clear(key) => self.clear(key),
            Step::RemoveEntry(key, entry) => {
                let expected = self.model.map.get_mut(&key).and_then(|map| map.remove(&entry));
                assert_eq!(self.states.map.remove(&keyed(key), &entry), expected.map(first));
            }
            Step::Read(key) => self.read(key),
            Step::Pass(ms) => {
                self.now = now + ms;
                self.states.backend.set_time(Timestamp(self.now));
            }
            Step::Sweep(rows) => drop(self.states.backend.sweep(rows)),
            Step::Freeze => {
                while self.states.backend.walk(1_000, &mut self.image) == Walk::More {}
                self.restore();
                self.states.backend.freeze();
                self.frozen = Some(self.model.clone());
            }
            Step::Walk(rows) => {
                self.states.backend.walk(rows, &mut self.image);
            }
        }
    }

    fn add(&mut self, key: u8, n: u64) {
        let (now, at) = (self.now, keyed(key));
        let states = &mut self.states;
        *states.value.update(&at) += n;
        let row = self.model.value.entry(key).or_default();
        *row = (row.0 + n, now);
        states.list.push(&at, n);
        self.model.list.entry(key).or_default().push((n, now));
        let entry = (n % 5) as u8;
        *states.map.update(&at, entry) += n;
        let row = self.model.map.entry(key).or_default().entry(entry).or_default();
        *row = (row.0 + n, now);
        states.largest.add(&at, n);
        let row = self.model.largest.entry(key).or_insert((n, now));
        *row = (row.0.max(n), now);
        states.mean.add(&at, n);
        let row = self.model.mean.entry(key).or_default();
        *row = ((row.0.0 + n, row.0.1 + 1), now);
    }

    fn set(&mut self, key: u8, n: u64) {
        let (now, at) = (self.now, keyed(key));
        let old = self.model.value.insert(key, (n, now));
        assert_eq!(self.states.value.set(&at, n), old.map(first));
        self.states.list.set(&at, vec![n, n + 1]);
        self.model.list.insert(key, vec![(n, now), (n + 1, now)]);
        let old = self.model.map.entry(key).or_default().insert(0, (n, now));
        assert_eq!(self.states.map.insert(&at, 0, n), old.map(first));
    }

    fn clear(&mut self, key: u8) {
        let at = keyed(key);
        let (model, states) = (&mut self.model, &mut self.states);
        assert_eq!(states.value.clear(&at), model.value.remove(&key).map(first));
        let list = model.list.remove(&key).unwrap_or_default();
        assert_eq!(
            states.list.clear(&at),
            list.into_iter().map(first).collect::<Vec<_>>()
        );
        let map = model.map.remove(&key).unwrap_or_default().into_iter();
        assert_eq!(
            states.map.clear(&at),
            map.map(|(k, v)| (k, v.0)).collect::<BTreeMap<_, _>>()
        );
        assert_eq!(states.largest.clear(&at), model.largest.remove(&key).map(first));
        assert_eq!(states.mean.clear(&at), model.mean.remove(&key).is_some());
    }

    /// Looks at everything of a key, which may be an access.
    fn read(&mut self, key: u8) {
        let (at, now) = (keyed(key), self.now);
        let (model, states) = (&mut self.model, &mut self.states);
        assert_eq!(states.value.get(&at), model.value.get(&key).map(|row| &row.0));
        let list = model.list.get(&key).into_iter().flatten();
        assert_eq!(states.list.get(&at), list.map(|item| item.0).collect::<Vec<_>>());
        let map = model.map.get(&key).into_iter().flatten();
        let map: Vec<_> = map.map(|(entry, value)| (*entry, value.0)).collect();
        assert_eq!(
            (states.map.len(&at), states.map.is_empty(&at)),
            (map.len(), map.is_empty())
        );
        match key % 2 {
            0 => {
                let found = states.map.iter(&at).map(|(entry, value)| (*entry, *value));
                assert_eq!(found.collect::<Vec<_>>(), map);
            }
            _ => {
                let found = (0..5).filter_map(|entry| Some((entry, *states.map.get(&at, &entry)?)));
                assert_eq!(found.collect::<Vec<_>>(), map);
            }
        }
        assert_eq!(states.largest.get(&at), model.largest.get(&key).map(|row| &row.0));
        let mean = model.mean.get(&key).map(|row| row.0.0 * 100 + row.0.1);
        assert_eq!(states.mean.get(&at), mean);
        if self.ttl.update_type == UpdateType::OnReadAndWrite {
            let rows = model
                .value
                .get_mut(&key)
                .into_iter()
                .chain(model.largest.get_mut(&key));
            let rows = rows.chain(model.list.get_mut(&key).into_iter().flatten());
            let entries = model.map.get_mut(&key).into_iter().flat_map(BTreeMap::values_mut);
            rows.chain(entries).for_each(|row| row.1 = now);
            model.mean.entry(key).and_modify(|row| row.1 = now);
        }
    }

    /// Starts again from the last image, some time later, if there is one and it is out.
    fn restore(&mut self) {
        let (Some(frozen), false) = (self.frozen.take(), self.states.backend.is_walking()) else {
            return;
        };
        self.now += 17;
        self.model = frozen;
        self.model.expire(self.now);
        let restored = std::mem::take(&mut self.image).restored();
        self.states = open(restored, self.now, self.ttl);
        assert_eq!(self.states.backend.rows(), self.model.rows());
        self.read_all();
    }

    fn read_all(&mut self) {
        self.model.expire(self.now);
        (0..40).for_each(|key| self.read(key));
    }
}

fn first<V>(thing: Dated<V>) -> V {
    thing.0
}

fn check(update_type: UpdateType, steps: Vec<Step>) {
    let ttl = ttl(update_type);
    let mut check = Check {
        states: open(RestoredState::default(), 1_000, ttl),
        model: Model::default(),
        now: 1_000,
        ttl,
        frozen: None,
        image: Chunks::default(),
    };
    steps.into_iter().for_each(|step| check.run(step));
    check.read_all();
    // Two whole rounds later nothing is there that has expired, and everything that has not.
    for _ in 0..2 {
        check.now += ttl.sweep_interval_ms();
        check.states.backend.set_time(Timestamp(check.now));
        while check.states.backend.sweep(7).is_some_and(|at| at.0 <= check.now) {}
    }
    check.model.expire(check.now);
    assert_eq!(check.states.backend.rows(), check.model.rows());
    check.read_all();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 100 }, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_seen_is_what_has_not_expired(steps in proptest::collection::vec(step(), 1..300)) {
        check(UpdateType::OnCreateAndWrite, steps);
    }

    #[test]
    fn and_so_it_is_where_reading_counts(steps in proptest::collection::vec(step(), 1..300)) {
        check(UpdateType::OnReadAndWrite, steps);
    }
}

#[test]
fn it_lives_for_its_time_and_not_a_millisecond_more() {
    let mut states = open(RestoredState::default(), 1_000, ttl(UpdateType::OnCreateAndWrite));
    *states.value.update(&keyed(1)) = 5;
    states.backend.set_time(Timestamp(1_000 + TTL_MS - 1));
    assert_eq!(states.value.get(&keyed(1)), Some(&5));
    states.backend.set_time(Timestamp(1_000 + TTL_MS));
    assert_eq!(states.value.get(&keyed(1)), None);
    assert_eq!(*states.value.update_or(&keyed(1), 7), 7);
}

#[test]
fn what_may_be_seen_until_it_is_cleaned_up_is_seen_until_then() {
    let seen =
        ttl(UpdateType::OnCreateAndWrite).with_visibility(StateVisibility::ReturnExpiredIfNotCleanedUp);
    let mut states = open(RestoredState::default(), 1_000, seen);
    let key = keyed(1);
    *states.value.update(&key) = 5;
    states.list.push(&key, 1);
    states.map.insert(&key, 1, 1);
    states.largest.add(&key, 5);
    states.mean.add(&key, 5);
    states.backend.set_time(Timestamp(1_000 + TTL_MS));
    assert_eq!(
        (states.value.get(&key), states.list.get(&key)),
        (Some(&5), &[1][..])
    );
    assert_eq!((states.map.len(&key), states.largest.get(&key)), (1, Some(&5)));
    assert_eq!(states.mean.get(&key), Some(501));
    while states.backend.sweep(1).is_some_and(|at| at.0 <= 1_000 + TTL_MS) {}
    assert_eq!((states.value.get(&key), states.list.get(&key)), (None, &[][..]));
    assert_eq!(states.backend.rows(), 0);
}

#[test]
fn rows_that_nobody_touches_go_by_themselves_in_small_slices() {
    let mut states = open(RestoredState::default(), 1_000, ttl(UpdateType::OnCreateAndWrite));
    let mut wide = backend(RestoredState::default(), 1_000);
    let mut value = wide
        .ttl_value::<u64, u64>("value", ttl(UpdateType::OnCreateAndWrite))
        .unwrap();
    let keys = KeySpace {
        seed: SEED,
        groups: groups(),
    };
    for n in 0..10_000u64 {
        *value.update(&crate::Key::new(n, keys)) = n;
    }
    assert_eq!(states.backend.sweep(100), None, "nothing to do");
    states.value.update(&keyed(1));
    let later = 1_000 + TTL_MS;
    assert_eq!(
        wide.sweep(100),
        Some(Timestamp(
            1_000 + ttl(UpdateType::OnCreateAndWrite).sweep_interval_ms()
        ))
    );
    wide.set_time(Timestamp(later));
    let mut slices = 0;
    while wide.rows() > 0 {
        let before = wide.rows();
        wide.sweep(100);
        assert!(before - wide.rows() <= 100, "a slice is no pause");
        slices += 1;
    }
    assert!((100..200).contains(&slices), "{slices} slices");
}

/// Three states of one key written under `old`, restored as `new` at a time.
fn changed<H>(
    fill: impl FnOnce(&mut KeyedBackend),
    frozen_at: i64,
    now: i64,
    declare: impl FnOnce(&mut KeyedBackend) -> H,
) -> (KeyedBackend, H) {
    let mut old = backend(RestoredState::default(), 1_000);
    fill(&mut old);
    old.set_time(Timestamp(frozen_at));
    old.freeze();
    let mut image = Chunks::default();
    while old.walk(10, &mut image) == Walk::More {}
    let mut new = backend(image.restored(), now);
    let handle = declare(&mut new);
    new.finish_open().unwrap();
    (new, handle)
}

#[test]
fn a_state_that_gets_a_time_to_live_counts_as_used_at_the_restore() {
    let fill = |old: &mut KeyedBackend| {
        *old.value::<u8, u64>("value").unwrap().update(&keyed(1)) = 5;
        old.list::<u8, u64>("list").unwrap().set(&keyed(1), vec![1, 2]);
    };
    let (backend, (mut value, mut list)) = changed(fill, 1_000, 5_000, |new| {
        let ttl = ttl(UpdateType::OnCreateAndWrite);
        let value = new.ttl_value::<u8, u64>("value", ttl).unwrap();
        (value, new.ttl_list::<u8, u64>("list", ttl).unwrap())
    });
    backend.set_time(Timestamp(5_000 + TTL_MS - 1));
    assert_eq!(
        (value.get(&keyed(1)), list.get(&keyed(1))),
        (Some(&5), &[1, 2][..])
    );
    backend.set_time(Timestamp(5_000 + TTL_MS));
    assert_eq!((value.get(&keyed(1)), list.get(&keyed(1))), (None, &[][..]));
}

#[test]
fn a_state_that_loses_its_time_to_live_keeps_what_had_not_expired_by_the_freeze() {
    let fill = |old: &mut KeyedBackend| {
        let ttl = ttl(UpdateType::OnCreateAndWrite);
        let mut value = old.ttl_value::<u8, u64>("value", ttl).unwrap();
        let mut list = old.ttl_list::<u8, u64>("list", ttl).unwrap();
        let mut map = old.ttl_map::<u8, u8, u64>("map", ttl).unwrap();
        *value.update(&keyed(1)) = 5;
        list.push(&keyed(1), 1);
        map.insert(&keyed(1), 1, 1);
        for (ms, n) in [(50, 2), (60, 3)] {
            old.set_time(Timestamp(1_000 + ms));
            *value.update(&keyed(n)) = 6;
            list.push(&keyed(1), u64::from(n));
            map.insert(&keyed(1), n, u64::from(n));
        }
    };
    let (_, (value, list, map)) = changed(fill, 1_000 + TTL_MS, 1_000_000, |new| {
        let value = new.value::<u8, u64>("value").unwrap();
        let list = new.list::<u8, u64>("list").unwrap();
        (value, list, new.map::<u8, u8, u64>("map").unwrap())
    });
    assert_eq!(
        (value.get(&keyed(1)), value.get(&keyed(2)), value.get(&keyed(3))),
        (None, Some(&6), Some(&6))
    );
    assert_eq!(list.get(&keyed(1)), [2, 3]);
    let map: Vec<_> = map.iter(&keyed(1)).map(|(k, v)| (*k, *v)).collect();
    assert_eq!(map, [(2, 2), (3, 3)]);
}

#[test]
fn a_longer_or_shorter_time_to_live_counts_from_the_last_access() {
    let fill = |old: &mut KeyedBackend| {
        let ttl = ttl(UpdateType::OnCreateAndWrite);
        let mut value = old.ttl_value::<u8, u64>("value", ttl).unwrap();
        *value.update(&keyed(1)) = 5;
    };
    let longer = StateTtl::new(Duration::from_millis(500));
    let (backend, mut value) = changed(fill, 1_000, 1_499, |new| {
        new.ttl_value::<u8, u64>("value", longer).unwrap()
    });
    assert_eq!(value.get(&keyed(1)), Some(&5));
    backend.set_time(Timestamp(1_500));
    assert_eq!(value.get(&keyed(1)), None);
    let shorter = StateTtl::new(Duration::from_millis(5));
    let (backend, _) = changed(fill, 1_000, 1_005, |new| {
        new.ttl_value::<u8, u64>("value", shorter).unwrap()
    });
    assert_eq!(backend.rows(), 0);
}
