//! How fast the table counts: 1M keys, updates in random order, as a ratio to a flat open-addressing table of fixed size.
//!
//! `cargo run --release -p rivermark-state --example table_speed`. Single-threaded and without prefetch, so it shows the
//! table alone; `cargo xtask bench` measures whole jobs.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)]

use rivermark_state::image::{EncodedPage, ImageChunk, ImageSink, RowEncoder, StateId, StateKind};
use rivermark_state::{KeySpace, Origin, Stored, Table, Walk};
use rivermark_types::{KeyHash, MaxParallelism, Uid};
use std::any::Any;
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

const KEYS: u64 = 1_000_000;
const UPDATES: u64 = 20_000_000;
const BATCH: u64 = 4_096;

struct NoEncoder;
impl RowEncoder for NoEncoder {
    fn encode(&self, _: Vec<Box<dyn Any + Send>>) -> Result<Vec<EncodedPage>, String> {
        Ok(Vec::new())
    }
}

struct Count(usize);
impl ImageSink for Count {
    fn push(&mut self, chunk: ImageChunk) {
        self.0 += chunk.rows;
    }
}

fn key(n: u64) -> u64 {
    let z = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) % KEYS
}

fn keys() -> KeySpace {
    KeySpace {
        seed: 7,
        groups: MaxParallelism::new(128).unwrap(),
    }
}

/// A table of fixed size with the key in line and 0 as the empty slot.
struct Flat {
    slots: Vec<(u64, u64)>,
}

impl Flat {
    fn update(&mut self, key: u64, hash: KeyHash) -> &mut u64 {
        let mask = self.slots.len() - 1;
        let mut slot = hash.0 as usize & mask;
        while self.slots[slot].0 != 0 && self.slots[slot].0 != key + 1 {
            slot = (slot + 1) & mask;
        }
        self.slots[slot].0 = key + 1;
        &mut self.slots[slot].1
    }
}

/// Nanoseconds an update, after one round that fills.
fn measure(mut update: impl FnMut(u64)) -> f64 {
    (0..4 * KEYS).for_each(|n| update(key(n)));
    let start = Instant::now();
    (0..UPDATES).for_each(|n| update(key(n)));
    start.elapsed().as_nanos() as f64 / UPDATES as f64
}

fn table() -> Table<u64, u64> {
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

fn with_walks(table: &mut Table<u64, u64>) -> (f64, usize, f64) {
    let (mut sink, mut longest) = (Count(0), 0.0f64);
    let start = Instant::now();
    for batch in 0..UPDATES / BATCH {
        let slice = Instant::now();
        if batch % 1_000 == 0 {
            table.freeze(&mut sink);
        }
        for n in batch * BATCH..(batch + 1) * BATCH {
            let key = key(n);
            *table.update_or_else(&key, keys().hash(&key), || 0) += 1;
        }
        if table.walk(&mut 1_000, &mut sink) == Walk::Done {
            black_box(sink.0);
        }
        longest = longest.max(slice.elapsed().as_secs_f64() * 1e3);
    }
    (
        start.elapsed().as_nanos() as f64 / UPDATES as f64,
        sink.0,
        longest,
    )
}

fn main() {
    let key_alone = measure(|key| {
        black_box(keys().hash(&key));
    });
    let mut flat = Flat {
        slots: vec![(0, 0); (2 * KEYS as usize).next_power_of_two()],
    };
    let flat_ns = measure(|key| *flat.update(key, keys().hash(&key)) += 1);
    let mut table = table();
    let table_ns = measure(|key| *table.update_or_else(&key, keys().hash(&key), || 0) += 1);
    let mut map: HashMap<u64, u64> = HashMap::new();
    let map_ns = measure(|key| *map.entry(key).or_default() += 1);
    println!("key and hash alone {key_alone:.1} ns");
    println!("flat, fixed size   {flat_ns:.1} ns");
    println!(
        "table              {table_ns:.1} ns, ratio {:.2}, {} MB",
        flat_ns / table_ns,
        table.bytes() >> 20
    );
    println!("std::HashMap       {map_ns:.1} ns, ratio {:.2}", flat_ns / map_ns);
    let (walk_ns, rows, longest) = with_walks(&mut table);
    println!(
        "table, freezing    {walk_ns:.1} ns, {rows} rows captured, longest batch of {BATCH} {longest:.2} ms"
    );
}
