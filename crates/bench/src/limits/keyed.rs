//! A table of inline slots a worker, of fixed size, looked up with prefetching.

use super::exchange::{self, BATCH, Outlet, WORKERS, Worker};
use super::threads::Threads;
use crate::jobs::records::{Account, Payment, key_text, splitmix64};
use std::hint::black_box;

/// So many records ahead a slot is fetched.
const AHEAD: usize = 24;

/// A key with a hash of its own; one value of it is never a key.
trait InlineKey: Copy + PartialEq + Send + 'static {
    const NONE: Self;
    fn hash(&self) -> u64;
}

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    (wide as u64) ^ ((wide >> 64) as u64)
}

impl InlineKey for u64 {
    const NONE: u64 = u64::MAX;
    #[inline(always)]
    fn hash(&self) -> u64 {
        fold(self ^ 0x9E37_79B9_7F4A_7C15, 0xD1B5_4A32_D192_ED03)
    }
}

impl InlineKey for [u8; 24] {
    const NONE: [u8; 24] = [0; 24];
    #[inline(always)]
    fn hash(&self) -> u64 {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&self[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let mixed = fold(word(0) ^ 0x9E37_79B9_7F4A_7C15, word(8) ^ 0xD1B5_4A32_D192_ED03);
        fold(mixed ^ word(16), 0xA076_1D64_78BD_642F)
    }
}

#[derive(Clone, Copy)]
struct Slot<K, V> {
    key: K,
    value: V,
}

/// Open addressing, linear probing, half full.
struct Table<K, V> {
    slots: Box<[Slot<K, V>]>,
    shift: u32,
}

impl<K: InlineKey, V: Copy + Default> Table<K, V> {
    fn with_room_for(keys: u64) -> Table<K, V> {
        let slots = (keys as usize * 3 / 2).next_power_of_two();
        let empty = Slot {
            key: K::NONE,
            value: V::default(),
        };
        Table {
            slots: vec![empty; slots].into_boxed_slice(),
            // The highest bit chooses the worker.
            shift: 63 - slots.trailing_zeros(),
        }
    }

    #[inline(always)]
    fn place(&self, hash: u64) -> usize {
        (hash >> self.shift) as usize & (self.slots.len() - 1)
    }

    #[inline(always)]
    fn fetch(&self, key: &K) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let slot = &self.slots[self.place(key.hash())];
            // SAFETY: a prefetch changes nothing and cannot fault; the address is that of a slot.
            unsafe { _mm_prefetch::<_MM_HINT_T0>((&raw const *slot).cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = key;
    }

    #[inline(always)]
    fn value(&mut self, key: &K) -> &mut V {
        let mut at = self.place(key.hash());
        loop {
            let slot = &self.slots[at];
            if slot.key == *key {
                break;
            }
            if slot.key == K::NONE {
                self.slots[at].key = *key;
                break;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        &mut self.slots[at].value
    }
}

/// Updates a value for each record and gives one output for each.
struct Updates<K, V, Select, Update> {
    table: Table<K, V>,
    select: Select,
    update: Update,
}

impl<K, V, T, Select, Update> Worker<T> for Updates<K, V, Select, Update>
where
    K: InlineKey,
    V: Copy + Default + Send + 'static,
    Select: Fn(&T) -> K + Send + 'static,
    Update: Fn(&mut V, &T) -> u64 + Send + 'static,
{
    fn batch(&mut self, records: &[T]) {
        records
            .iter()
            .take(AHEAD)
            .for_each(|record| self.table.fetch(&(self.select)(record)));
        for (at, record) in records.iter().enumerate() {
            if let Some(later) = records.get(at + AHEAD) {
                self.table.fetch(&(self.select)(later));
            }
            let key = (self.select)(record);
            black_box((key, (self.update)(self.table.value(&key), record)));
        }
    }
}

/// Makes records without an end and deals them out by key.
fn produce<K: InlineKey, T>(
    producer: usize,
    outlet: &mut Outlet<T>,
    make: impl Fn(u64) -> T,
    key: impl Fn(&T) -> K,
) {
    let mut number = producer as u64;
    while !outlet.is_over() {
        for _ in 0..BATCH {
            let record = make(number);
            number += WORKERS as u64;
            let worker = (key(&record).hash() >> 63) as usize;
            outlet.push(worker, record);
        }
    }
}

/// Counts by number: slots of 16 bytes.
pub fn by_number(keys: u64) -> Result<Threads, String> {
    exchange::start(
        move |producer, outlet: &mut Outlet<u64>| {
            produce(producer, outlet, |number| splitmix64(number) % keys, |key| *key)
        },
        move || counting::<u64>(keys),
    )
}

/// Counts by a text of 24 letters: slots of 32 bytes.
pub fn by_text(keys: u64) -> Result<Threads, String> {
    exchange::start(
        move |producer, outlet: &mut Outlet<[u8; 24]>| {
            let make = |number| key_text(splitmix64(number) % keys);
            produce(producer, outlet, make, |key| *key)
        },
        move || counting::<[u8; 24]>(keys),
    )
}

fn counting<K: InlineKey>(
    keys: u64,
) -> Updates<K, u64, impl Fn(&K) -> K + Send + 'static, impl Fn(&mut u64, &K) -> u64 + Send + 'static> {
    Updates {
        table: Table::with_room_for(keys / WORKERS as u64 + 1),
        select: |key: &K| *key,
        update: |count: &mut u64, _: &K| {
            *count += 1;
            *count
        },
    }
}

/// A slot's state, so that slots have 80 bytes: 8 of the key, 64 of the account, 8 spare.
#[derive(Clone, Copy, Default)]
struct Padded {
    account: Account,
    _spare: u64,
}

/// Books payments to accounts: slots of 80 bytes.
pub fn by_struct(keys: u64) -> Result<Threads, String> {
    const { assert!(size_of::<Slot<u64, Padded>>() == 80) };
    exchange::start(
        move |producer, outlet: &mut Outlet<Payment>| {
            let make = |number| Payment::number(number, keys);
            produce(producer, outlet, make, |payment| payment.account)
        },
        || Updates {
            table: Table::with_room_for(keys / WORKERS as u64 + 1),
            select: |payment: &Payment| payment.account,
            update: |state: &mut Padded, payment: &Payment| {
                state.account.add(payment);
                state.account.payments
            },
        },
    )
}
