//! The backend as an operator and a task use it: declare, work, freeze, walk, encode, restore elsewhere.

use super::*;
use crate::key;
use rivermark_types::{ErrorKind, Timestamp};

#[derive(Default)]
struct Chunks(Vec<ImageChunk>);
impl ImageSink for Chunks {
    fn push(&mut self, chunk: ImageChunk) {
        self.0.push(chunk);
    }
}

impl Chunks {
    /// What the I/O side makes of it, and a restore finds.
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

const SEED: u64 = 11;

fn config(index: u32, parallelism: u32) -> BackendConfig {
    let max_parallelism = MaxParallelism::new(128).unwrap();
    let range = max_parallelism.range_of(index, parallelism);
    BackendConfig {
        operator: Uid::from("op"),
        seed: SEED,
        max_parallelism,
        range,
    }
}

fn keyed<K: Key>(value: K) -> key::Key<K> {
    key::Key::new(
        value,
        KeySpace {
            seed: SEED,
            groups: MaxParallelism::new(128).unwrap(),
        },
    )
}

struct Operator {
    backend: KeyedBackend,
    value: ValueState<u64, u64>,
    list: ListState<String, u32>,
    map: MapState<u64, String, i64>,
    timers: Timers<u64>,
    windows: WindowState<u64, (u64, u64)>,
}

fn open(config: BackendConfig, restored: RestoredState) -> Operator {
    let mut backend = KeyedBackend::new(config, restored);
    let value = backend.value("value").unwrap();
    let list = backend.list("list").unwrap();
    let map = backend.map("map").unwrap();
    let timers = backend.timers("timers").unwrap();
    let windows = backend.windows("windows").unwrap();
    backend.finish_open().unwrap();
    Operator {
        backend,
        value,
        list,
        map,
        timers,
        windows,
    }
}

impl Operator {
    fn work(&mut self, n: u64) {
        *self.value.update(&keyed(n)) += n;
        self.list.push(&keyed(format!("key {}", n % 50)), n as u32);
        self.map.insert(&keyed(n % 70), format!("entry {n}"), n as i64);
        self.timers.register(&keyed(n % 90), Timestamp(n as i64 * 1_000));
        self.timers
            .register(&keyed(n % 90), Timestamp(n as i64 * 1_000 + 1));
        let sum = self
            .windows
            .update_or_else(Timestamp(n as i64 % 5 * 10), &keyed(n), || (0, 0));
        *sum = (sum.0 + n, sum.1 + 1);
    }
    fn image(&mut self, slice: usize) -> Chunks {
        let mut chunks = Chunks::default();
        while self.backend.walk(slice, &mut chunks) == Walk::More {}
        assert!(!self.backend.is_walking());
        chunks
    }
}

#[test]
fn state_comes_back_at_another_parallelism_as_it_was_at_the_freeze() {
    let mut old = open(config(0, 1), RestoredState::default());
    (0..400).for_each(|n| old.work(n));
    old.backend.freeze();
    (200..700).for_each(|n| old.work(n));
    old.windows.drop_window(Timestamp(10));
    (0..50).for_each(|n| assert!(old.value.clear(&keyed(n)).is_some()));
    let restored = old.image(64).restored();

    let mut new: Vec<Operator> = (0..3)
        .map(|index| open(config(index, 3), restored.clone()))
        .collect();
    assert!(new.iter().all(|operator| operator.backend.rows() > 0));
    let owner = |hash: KeyHash| {
        let max = MaxParallelism::new(128).unwrap();
        max.subtask_of(max.group_of(hash), 3) as usize
    };
    for n in 0..700 {
        let key = keyed(n);
        for (index, operator) in new.iter().enumerate() {
            let here = n < 400 && index == owner(key.hash);
            assert_eq!(operator.value.get(&key).copied(), here.then_some(n));
            let window = operator.windows.get(Timestamp(n as i64 % 5 * 10), &key);
            assert_eq!(window.copied(), here.then_some((n, 1)));
        }
    }
    let key = keyed("key 7".to_owned());
    assert_eq!(
        new[owner(key.hash)].list.get(&key),
        [7, 57, 107, 157, 207, 257, 307, 357]
    );
    let key = keyed(69u64);
    let entries: Vec<_> = new[owner(key.hash)]
        .map
        .iter(&key)
        .map(|(k, v)| (k.clone(), *v))
        .collect();
    let expected = [139i64, 209, 279, 349, 69].map(|n| (format!("entry {n}"), n));
    assert_eq!(entries, expected);
    let mut times = Vec::new();
    for operator in &mut new {
        while let Some((_, time)) = operator.timers.next_due(Timestamp::MAX) {
            times.push(time.0);
        }
    }
    times.sort_unstable();
    let expected: Vec<i64> = (0..400).flat_map(|n| [n * 1_000, n * 1_000 + 1]).collect();
    assert_eq!(times, expected);
}

#[test]
fn empty_lists_and_maps_take_no_room() {
    let mut operator = open(config(0, 1), RestoredState::default());
    let key = keyed(1u64);
    operator.map.insert(&key, "a".into(), 1);
    *operator.map.update(&key, "a".into()) += 4;
    assert_eq!(
        (operator.map.len(&key), operator.map.get(&key, &"a".into())),
        (1, Some(&5))
    );
    assert_eq!(operator.map.remove(&key, &"b".into()), None);
    assert_eq!(operator.map.remove(&key, &"a".into()), Some(5));
    operator.list.push(&keyed("x".into()), 1);
    operator.list.set(&keyed("x".into()), vec![]);
    assert!(operator.list.get(&keyed("x".into())).is_empty() && operator.map.is_empty(&key));
    assert_eq!(operator.backend.rows(), 0);
}

#[test]
fn a_window_fires_in_slices_and_a_freeze_between_them_has_the_rest() {
    let mut operator = open(config(0, 1), RestoredState::default());
    let end = Timestamp(60);
    for n in 0..1_000 {
        *operator.windows.update_or_else(end, &keyed(n), || (n, 0)) = (n, 1);
    }
    let mut fired = 0;
    assert!(!operator.windows.drain_slice(end, 300, |key, sum| {
        assert_eq!((key.value, key.hash), (sum.0, keyed(sum.0).hash));
        fired += 1;
    }));
    operator.backend.freeze();
    while !operator.windows.drain_slice(end, 99, |_, _| fired += 1) {}
    assert_eq!((fired, operator.windows.first_end()), (1_000, None));
    let restored = operator.image(50).restored();
    let mut operator = open(config(0, 1), restored);
    assert_eq!(operator.windows.first_end(), Some(end));
    let mut fired = 0;
    while !operator.windows.drain_slice(end, 10, |_, _| fired += 1) {}
    assert_eq!(fired, 700);
}

#[test]
fn an_image_that_was_given_up_does_not_spoil_the_next() {
    let mut operator = open(config(0, 1), RestoredState::default());
    (0..300).for_each(|n| operator.work(n));
    operator.backend.freeze();
    assert_eq!(operator.backend.walk(10, &mut Nowhere), Walk::More);
    (100..400).for_each(|n| operator.work(n));
    operator.backend.freeze();
    let restored = operator.image(1_000).restored();
    let operator = open(config(0, 1), restored);
    assert_eq!(operator.value.get(&keyed(399)), Some(&399));
    assert_eq!(operator.value.get(&keyed(150)), Some(&300));
}

#[test]
fn declarations_that_cannot_be_met_are_refused_by_name() {
    let mut operator = open(config(0, 1), RestoredState::default());
    let twice = operator.backend.list::<u64, u64>("value").err().unwrap();
    assert!(matches!(twice, StateError::DeclaredTwice { .. }) && twice.kind() == ErrorKind::Invalid);

    operator.work(1);
    operator.backend.freeze();
    let restored = operator.image(1_000).restored();
    let mut backend = KeyedBackend::new(config(0, 1), restored);
    let changed = backend.list::<u64, u64>("value").err().unwrap().to_string();
    assert!(
        changed.contains("was a value state") && changed.contains("as a list state"),
        "{changed}"
    );
    let unclaimed = backend.finish_open().unwrap_err().to_string();
    assert!(
        unclaimed.contains(r#""list", "map""#) && unclaimed.contains(r#""windows""#),
        "{unclaimed}"
    );
    let other_type = backend.list::<u64, bool>("list").err().unwrap().to_string();
    assert!(
        other_type.contains(r#"state "list" of operator "op" cannot be read"#),
        "{other_type}"
    );
}
