//! A table whose rows age: a plain table, the sweep that removes what has expired, and the way into a snapshot and back.

use super::{Aging, Clock, StateTtl};
use crate::codec::RowCodec;
use crate::image::{EncodedPage, ImageRow, ImageRows, ImageSink, RowEncoder};
use crate::key::Key;
use crate::page_memory::PageMemory;
use crate::table::{Cursor, Fate, KeySpace, Origin, Stored, Sweep, Table, Walk};
use rivermark_data::Key as KeyType;
use rivermark_types::{KeyHash, Timestamp};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// The time in a row of a snapshot that has none.
const NO_TIME: i64 = 0;

/// Rows of one state with a time to live.
pub(crate) struct TtlTable<K: KeyType, A: Aging> {
    pub(super) rows: Table<K, A>,
    pub(super) ttl: StateTtl,
    clock: Clock,
    /// The time of the last freeze, for the encoder.
    frozen_at: Arc<AtomicI64>,
    cursor: Cursor,
    /// When the sweep that is under way began, or the next one begins.
    sweep_at: i64,
    is_sweeping: bool,
}

impl<K: KeyType, A: Aging> TtlTable<K, A> {
    /// The table with what a snapshot has for it. `origin` is that of the same state without a time to live.
    pub(crate) fn new(
        origin: Origin,
        codec: Arc<RowCodec<K, A::Plain>>,
        keys: KeySpace,
        ttl: StateTtl,
        clock: Clock,
        restored: Vec<ImageRow<K, A::Plain>>,
    ) -> Self {
        let now = clock.now();
        let frozen_at = Arc::new(AtomicI64::new(now));
        let encoder = AgingEncoder::<K, A> {
            codec,
            ttl,
            frozen_at: frozen_at.clone(),
            rows: std::marker::PhantomData,
        };
        let origin = Origin {
            state: origin.state,
            encoder: Arc::new(encoder),
        };
        let mut table = TtlTable {
            rows: Table::new(origin, keys),
            ttl,
            clock,
            frozen_at,
            cursor: Cursor::default(),
            sweep_at: now.saturating_add(ttl.sweep_interval_ms()),
            is_sweeping: false,
        };
        for row in restored {
            let at = if row.namespace == NO_TIME {
                now
            } else {
                row.namespace
            };
            if !ttl.is_expired(at, now) {
                table.append(Key::new(row.key, keys), A::of(row.value, at));
            }
        }
        table
    }

    fn append(&mut self, key: Key<K>, part: A) {
        match self.rows.get_mut_existing(&key.value, key.hash) {
            Some(row) => row.append(part),
            None => drop(self.rows.insert(key.value, key.hash, part)),
        }
    }

    #[inline(always)]
    pub(super) fn now(&self) -> i64 {
        self.clock.now()
    }
}

impl<K: KeyType, A: Aging> Stored for TtlTable<K, A> {
    fn freeze(&mut self, unfinished: &mut dyn ImageSink) {
        self.rows.freeze(unfinished);
        // Rows of an image before this one may meet the later time: what has expired by then would not be restored either.
        self.frozen_at.store(self.now(), Ordering::Relaxed);
    }
    fn walk(&mut self, budget: &mut usize, sink: &mut dyn ImageSink) -> Walk {
        self.rows.walk(budget, sink)
    }
    fn is_walking(&self) -> bool {
        self.rows.is_walking()
    }
    fn prefetch(&self, hashes: &[KeyHash]) {
        self.rows.prefetch(hashes);
    }
    fn rows(&self) -> usize {
        self.rows.len()
    }
    fn bytes(&self) -> usize {
        self.rows.bytes()
    }

    fn sweep(&mut self, budget: &mut usize) -> Option<Timestamp> {
        let now = self.now();
        if self.rows.is_empty() {
            self.is_sweeping = false;
            return None;
        }
        if !self.is_sweeping {
            if now < self.sweep_at {
                return Some(Timestamp(self.sweep_at));
            }
            self.is_sweeping = true;
            self.sweep_at = now;
            self.cursor = Cursor::default();
        }
        let mut sweep = Expired { ttl: self.ttl, now };
        if self.rows.sweep(&mut self.cursor, budget, &mut sweep) {
            self.is_sweeping = false;
            self.sweep_at = self.sweep_at.saturating_add(self.ttl.sweep_interval_ms());
        }
        Some(Timestamp(self.sweep_at))
    }
}

struct Expired {
    ttl: StateTtl,
    now: i64,
}

impl<A: Aging> Sweep<A> for Expired {
    #[inline]
    fn look(&mut self, row: &A) -> (Fate, usize) {
        row.look(self.ttl, self.now)
    }
    fn trim(&mut self, row: &mut A) {
        row.trim(self.ttl, self.now);
    }
}

/// Writes aging rows as plain ones with the time of last access for a namespace, and leaves out what has expired.
struct AgingEncoder<K, A: Aging> {
    codec: Arc<RowCodec<K, A::Plain>>,
    ttl: StateTtl,
    frozen_at: Arc<AtomicI64>,
    rows: std::marker::PhantomData<fn(A)>,
}

impl<K: KeyType, A: Aging> RowEncoder for AgingEncoder<K, A> {
    fn encode_in(
        &self,
        chunks: Vec<Box<dyn Any + Send>>,
        memory: &Arc<PageMemory>,
    ) -> Result<Vec<EncodedPage>, String> {
        let frozen_at = self.frozen_at.load(Ordering::Relaxed);
        let mut plain = Vec::new();
        for chunk in chunks {
            let rows = chunk
                .downcast::<ImageRows<K, A>>()
                .map_err(|_| "a chunk of rows came to the encoder of another state")?;
            plain.reserve(rows.rows.len());
            for row in rows.into_rows() {
                let (group, key) = (row.group, row.key);
                row.value.split(|at, value| {
                    if !self.ttl.is_expired(at, frozen_at) {
                        plain.push(ImageRow {
                            group,
                            // That one millisecond is taken for another is all that this costs.
                            namespace: if at == NO_TIME { 1 } else { at },
                            key: key.clone(),
                            value,
                        });
                    }
                });
            }
        }
        self.codec
            .encode_in(vec![Box::new(ImageRows::from(plain))], memory)
    }
}
