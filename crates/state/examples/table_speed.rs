//! How fast the table counts: 1M keys, updates in random order, as a ratio to a flat open-addressing table of fixed size
//! with the key in line that is prefetched 24 rows ahead. All in turns, several rounds, the median of each.
//!
//! `cargo run --release -p rivermark-state --example table_speed`. Single-threaded and without an engine, so it shows the
//! table alone; `cargo xtask bench` measures whole jobs.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)]

use rivermark_state::image::{EncodedPage, ImageChunk, ImageSink, RowEncoder, StateId, StateKind};
use rivermark_state::page_memory::PageMemory;
use rivermark_state::{KeySpace, Origin, Stored, Table, Walk};
use rivermark_types::{KeyHash, MaxParallelism, Uid};
use std::any::Any;
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

const KEYS: u64 = 1_000_000;
const UPDATES: u64 = 4_000_000;
const ROUNDS: usize = 7;
const BATCH: u64 = 4_096;
const AHEAD: usize = 24;
const BLOCK: usize = 16;

struct NoEncoder;
impl RowEncoder for NoEncoder {
    fn encode_in(
        &self,
        _: Vec<Box<dyn Any + Send>>,
        _: &std::sync::Arc<PageMemory>,
    ) -> Result<Vec<EncodedPage>, String> {
        Ok(Vec::new())
    }
}

struct Count(usize);
impl ImageSink for Count {
    fn push(&mut self, chunk: ImageChunk) {
        self.0 += chunk.rows;
    }
}

fn splitmix(n: u64) -> u64 {
    let z = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn keys() -> KeySpace {
    KeySpace {
        seed: 7,
        groups: MaxParallelism::new(128).unwrap(),
    }
}

/// A key of the measurement.
trait Keyed: rivermark_data::Key + Default {
    fn of(number: u64) -> Self;
}
impl Keyed for u64 {
    fn of(number: u64) -> u64 {
        number
    }
}

/// A value of the measurement.
trait Counted: rivermark_data::Data + Default {
    fn count(&mut self);
}
impl Counted for u64 {
    #[inline(always)]
    fn count(&mut self) {
        *self += 1;
    }
}
impl Counted for [u64; 8] {
    #[inline(always)]
    fn count(&mut self) {
        self[0] += 1;
        self[7] ^= self[0];
    }
}

/// A table of fixed size with the key in line and the default as the empty slot.
struct Flat<K, V> {
    slots: Vec<(K, V)>,
    default: K,
}

impl<K: Keyed, V: Counted> Flat<K, V> {
    fn new() -> Self {
        Flat {
            slots: vec![Default::default(); (2 * KEYS as usize).next_power_of_two()],
            default: K::default(),
        }
    }
    #[inline(always)]
    fn fetch(&self, hash: KeyHash) {
        let slot = &self.slots[hash.0 as usize & (self.slots.len() - 1)];
        #[cfg(target_arch = "x86_64")]
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let start = std::ptr::from_ref(slot).cast::<i8>();
            _mm_prefetch::<_MM_HINT_T0>(start);
            if size_of::<(K, V)>() > 16 {
                _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(size_of::<(K, V)>() - 1));
            }
        }
    }
    #[inline(always)]
    fn update(&mut self, key: &K, hash: KeyHash) -> &mut V {
        let mask = self.slots.len() - 1;
        let mut slot = hash.0 as usize & mask;
        while self.slots[slot].0 != *key {
            if self.slots[slot].0 == self.default {
                self.slots[slot].0 = key.clone();
                break;
            }
            slot = (slot + 1) & mask;
        }
        &mut self.slots[slot].1
    }
}

/// Nanoseconds an update of keys drawn by number.
fn time(from: u64, mut batch: impl FnMut(u64, u64)) -> f64 {
    let start = Instant::now();
    for first in (from..from + UPDATES).step_by(BATCH as usize) {
        batch(first, BATCH);
    }
    start.elapsed().as_nanos() as f64 / UPDATES as f64
}

fn flat_batch<K: Keyed, V: Counted>(flat: &mut Flat<K, V>, input: &[K]) {
    let mut ring = [KeyHash(0); 32];
    for i in 0..input.len() + AHEAD {
        if let Some(key) = input.get(i) {
            let hash = keys().hash(key);
            flat.fetch(hash);
            ring[i % 32] = hash;
        }
        if let Some(now) = i.checked_sub(AHEAD) {
            flat.update(&input[now], ring[now % 32]).count();
        }
    }
}

fn table_batch<K: Keyed, V: Counted>(table: &mut Table<K, V>, input: &[K]) {
    let mut hashes = [[KeyHash(0); BLOCK]; 2];
    let mut blocks = input.chunks(BLOCK).peekable();
    let mut at = 0;
    let hash_block = |table: &Table<K, V>, block: &[K], hashes: &mut [KeyHash; BLOCK]| {
        for (key, hash) in block.iter().zip(hashes.iter_mut()) {
            *hash = keys().hash(key);
        }
        table.prefetch(&hashes[..block.len()]);
    };
    if let Some(first) = blocks.peek() {
        hash_block(table, first, &mut hashes[0]);
    }
    while let Some(block) = blocks.next() {
        if let Some(next) = blocks.peek() {
            hash_block(table, next, &mut hashes[1 - at]);
        }
        for (key, hash) in block.iter().zip(hashes[at]) {
            table.update_or_else(key, hash, V::default).count();
        }
        at = 1 - at;
    }
}

fn plain_batch<K: Keyed, V: Counted>(table: &mut Table<K, V>, input: &[K]) {
    for key in input {
        table.update_or_else(key, keys().hash(key), V::default).count();
    }
}

fn table<K: Keyed, V: Counted>() -> Table<K, V> {
    let state = StateId {
        operator: Uid::from("op"),
        name: "count".into(),
        kind: StateKind::Value,
    };
    Table::new(
        Origin {
            state: Arc::new(state),
            encoder: Arc::new(NoEncoder),
        },
        keys(),
    )
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn compare<K: Keyed, V: Counted>(name: &str) {
    let input: Vec<K> = (0..UPDATES).map(|n| K::of(1 + splitmix(n) % KEYS)).collect();
    let slice = |first: u64, rows: u64| &input[first as usize..((first + rows) as usize).min(input.len())];
    let mut flat = Flat::<K, V>::new();
    let (mut ahead, mut plain, mut frozen) = (table::<K, V>(), table::<K, V>(), table::<K, V>());
    let mut times = [const { Vec::new() }; 5];
    let (mut sink, mut longest) = (Count(0), 0.0f64);
    for round in 0..=ROUNDS {
        let mut results = [0.0; 5];
        results[0] = time(0, |first, rows| {
            black_box(
                slice(first, rows)
                    .iter()
                    .fold(0, |sum, key| sum ^ keys().hash(key).0),
            );
        });
        results[1] = time(0, |first, rows| flat_batch(&mut flat, slice(first, rows)));
        results[2] = time(0, |first, rows| table_batch(&mut ahead, slice(first, rows)));
        results[3] = time(0, |first, rows| plain_batch(&mut plain, slice(first, rows)));
        let mut batches = 0;
        results[4] = time(0, |first, rows| {
            let start = Instant::now();
            if batches % 500 == 0 {
                frozen.freeze(&mut sink);
            }
            batches += 1;
            table_batch(&mut frozen, slice(first, rows));
            if frozen.walk(&mut 4_000, &mut sink) == Walk::Done {
                black_box(sink.0);
            }
            longest = longest.max(start.elapsed().as_secs_f64() * 1e3 * f64::from(u8::from(round > 0)));
        });
        if round > 0 {
            times.iter_mut().zip(results).for_each(|(all, one)| all.push(one));
        }
    }
    let [hash, flat_ns, ahead_ns, plain_ns, frozen_ns] = times.map(median);
    println!(
        "{name}: rows of {} bytes, {} MB",
        size_of::<(K, V)>(),
        ahead.bytes() >> 20
    );
    println!("  hash alone            {hash:6.1} ns");
    println!("  flat, prefetched      {flat_ns:6.1} ns");
    for (what, ns) in [
        ("table", ahead_ns),
        ("table, no look-ahead", plain_ns),
        ("table, freezing", frozen_ns),
    ] {
        println!("  {what:21} {ns:6.1} ns, ratio {:.2}", flat_ns / ns);
    }
    println!(
        "  {} rows captured, longest batch of {BATCH} while freezing {longest:.2} ms",
        sink.0
    );
}

fn std_map() {
    let mut map: HashMap<u64, u64> = HashMap::new();
    let mut batch =
        |first, rows| (first..first + rows).for_each(|n| *map.entry(splitmix(n) % KEYS).or_default() += 1);
    time(0, &mut batch);
    println!("std::HashMap, u64       {:6.1} ns", time(0, &mut batch));
}

fn main() {
    compare::<u64, u64>("u64 -> u64");
    compare::<u64, [u64; 8]>("u64 -> 64 bytes");
    std_map();
}
