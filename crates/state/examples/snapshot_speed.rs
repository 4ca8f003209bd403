//! How fast rows go into a snapshot and come back: nanoseconds a row for the freeze and walk (in the slot), for the encoding
//! (on the I/O side), and for decoding and filling a table (at a restore).
//!
//! `cargo run --release -p rivermark-state --example snapshot_speed`
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use rivermark_data::{Data, Key, Text};
use rivermark_env::RealEnv;
use rivermark_state::image::{ImageChunk, ImageSink, StateId, StateKind};
use rivermark_state::{BackendConfig, KeyedBackend, RestoredState};
use rivermark_types::{MaxParallelism, Uid};
use serde::{Deserialize, Serialize};
use std::time::Instant;

const SEED: u64 = 7;
/// As many rows as the I/O side encodes at once.
const RIPE_BYTES: usize = 512 << 10;

#[derive(Clone, Default, Serialize, Deserialize)]
struct Profile {
    version: u64,
    document: String,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Totals {
    count: u64,
    sum: f64,
    least: f64,
    most: f64,
    first: i64,
    last: i64,
    errors: u32,
    retries: u32,
    kind: u64,
}

fn config() -> BackendConfig {
    let max_parallelism = MaxParallelism::new(128).unwrap();
    BackendConfig {
        operator: Uid::from("op"),
        seed: SEED,
        max_parallelism,
        range: max_parallelism.range_of(0, 1),
    }
}

#[derive(Default)]
struct Chunks(Vec<ImageChunk>);
impl ImageSink for Chunks {
    fn push(&mut self, chunk: ImageChunk) {
        self.0.push(chunk);
    }
}

fn measure<K: Key, V: Data>(name: &str, rows: u64, key: impl Fn(u64) -> K, value: impl Fn(u64) -> V) {
    let mut backend = KeyedBackend::new(config(), RestoredState::default());
    let mut state = backend.value::<K, V>("state").unwrap();
    let per_row = |start: Instant| start.elapsed().as_nanos() as f64 / rows as f64;
    let keys = backend.keys();
    let start = Instant::now();
    for n in 0..rows {
        state.set(&rivermark_state::Key::new(key(n), keys), value(n));
    }
    let grow = per_row(start);
    let (mut walk, mut encode, mut decode) = (f64::MAX, f64::MAX, f64::MAX);
    let mut bytes = 0;
    let memory = std::sync::Arc::default();
    for _ in 0..3 {
        let mut chunks = Chunks::default();
        backend.freeze();
        let (mut walking, mut encoding) = (0.0, 0.0);
        let mut restored = RestoredState::default();
        bytes = 0;
        let state = StateId {
            operator: Uid::from("op"),
            name: "state".into(),
            kind: StateKind::Value,
        };
        loop {
            let start = Instant::now();
            let done = backend.walk(1_024, &mut chunks) == rivermark_state::Walk::Done;
            walking += per_row(start);
            if done || chunks.0.iter().map(|chunk| chunk.bytes).sum::<usize>() > RIPE_BYTES {
                let Some(encoder) = chunks.0.first().map(|chunk| chunk.encoder.clone()) else {
                    break;
                };
                let start = Instant::now();
                let rows = chunks.0.drain(..).map(|chunk| chunk.content).collect();
                let pages = encoder.encode_in(rows, &memory);
                encoding += per_row(start);
                for page in pages.unwrap() {
                    bytes += page.bytes.len();
                    restored.add(state.clone(), page.bytes);
                }
            }
            if done {
                break;
            }
        }
        // A slot that restores is a new thread.
        let restore = std::thread::spawn(move || {
            let start = Instant::now();
            let mut back = KeyedBackend::new(config(), restored);
            back.value::<K, V>("state").unwrap();
            assert_eq!(back.rows() as u64, rows);
            start.elapsed().as_nanos() as f64 / rows as f64
        });
        decode = restore.join().unwrap().min(decode);
        (walk, encode) = (walking.min(walk), encoding.min(encode));
    }
    println!(
        "{name:24} grow {grow:6.1}  walk {walk:6.1}  encode {encode:6.1}  restore {decode:6.1} ns a row, {} bytes",
        bytes as u64 / rows
    );
}

fn main() {
    // The allocator as it is set in production.
    let _world = RealEnv::start().unwrap();
    measure("u64 -> u64", 4_000_000, |n| n, |n| n);
    let totals = |n| Totals {
        count: n,
        ..Totals::default()
    };
    measure("u64 -> 72 bytes", 1_000_000, |n| n, totals);
    measure(
        "text of 24 -> u64",
        1_000_000,
        |n| Text::from(format!("{n:024}")),
        |n| n,
    );
    let profile = |n| Profile {
        version: n,
        document: "x".repeat(960),
    };
    measure("u64 -> 1,000 bytes", 200_000, |n| n, profile);
}
