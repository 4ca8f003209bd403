//! One checkpoint's share in one process: which rows wait for encoding, which pages for an object, who is in. Pure.

use super::{Room, SubtaskSnapshot, WALK_SHARE};
use crate::StateError;
use crate::image::{EncodedPage, ImageChunk, RowEncoder, StateId};
use crate::object::{ObjectRef, PageEntry, pack};
use crate::page_memory::PageMemory;
use bytes::Bytes;
use rivermark_storage::{BlobKey, Digest};
use rivermark_types::{Attempt, Millis, SubtaskId};
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The rows of a state are encoded when they have so many bytes. Sorting them by key group reads them out of order: they
/// are to stay in a processor's cache meanwhile (rows of 88 bytes cost 300 ns each in jobs of 4 MB, 70 ns in small ones).
const RIPE_BYTES: usize = 512 << 10;

/// So many objects have room in memory: three that are being stored, one on its way to the scratch file, one in the making, and
/// what they are larger than planned. With fewer, a store that is away would keep walks waiting for ever.
const OBJECTS_IN_MEMORY: usize = 6;

/// Where the bytes of a page are until they are stored.
#[derive(Clone, Debug)]
pub(super) enum PageBody {
    /// Here.
    Memory(Bytes),
    /// In this scratch file, from this offset.
    Scratch(Arc<Path>, u64),
}

/// An object that is planned and not stored yet.
pub(super) struct Plan {
    /// What the manifest will say of it.
    pub object: ObjectRef,
    /// Its pages in order.
    pub pages: Vec<(PageEntry, PageBody)>,
    /// What follows them.
    pub tail: Bytes,
    held: Held,
}

impl Plan {
    /// Whether its pages take memory.
    pub fn is_in_memory(&self) -> bool {
        self.held.bytes > 0
    }

    /// The bytes of its pages.
    pub fn page_bytes(&self) -> u64 {
        self.pages.iter().map(|(entry, _)| entry.len).sum()
    }

    /// The same, with its pages elsewhere.
    pub fn moved_to(&self, bodies: Vec<PageBody>) -> Plan {
        let entries = self.pages.iter().map(|(entry, _)| entry.clone());
        Plan {
            object: self.object.clone(),
            pages: entries.zip(bodies).collect(),
            tail: self.tail.clone(),
            held: Held::none(&self.held.room),
        }
    }
}

/// Memory that pages take; given back when dropped.
pub(super) struct Held {
    room: Arc<Room>,
    bytes: usize,
}

impl Held {
    fn none(room: &Arc<Room>) -> Held {
        Held {
            room: room.clone(),
            bytes: 0,
        }
    }
    pub fn some(room: &Arc<Room>, bytes: usize) -> Held {
        room.held.fetch_add(bytes, Ordering::Relaxed);
        room.note_peak();
        Held {
            room: room.clone(),
            bytes,
        }
    }
    /// Takes so many bytes out.
    pub fn split(&mut self, bytes: usize) -> Held {
        self.bytes -= bytes;
        Held {
            room: self.room.clone(),
            bytes,
        }
    }
    fn join(&mut self, mut other: Held) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Rows of one state that wait for encoding.
pub(super) struct Rows {
    pub state: Arc<StateId>,
    encoder: Arc<dyn RowEncoder>,
    chunks: Vec<Box<dyn Any + Send>>,
    bytes: usize,
    room: Arc<Room>,
}

impl Drop for Rows {
    fn drop(&mut self) {
        self.room.queued.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Rows {
    /// Takes over a chunk that was counted as queued when it was handed in.
    pub fn of(chunk: ImageChunk, room: &Arc<Room>) -> Rows {
        Rows {
            state: chunk.state,
            encoder: chunk.encoder,
            chunks: vec![chunk.content],
            bytes: chunk.bytes,
            room: room.clone(),
        }
    }

    fn append(&mut self, mut other: Rows) {
        self.chunks.append(&mut other.chunks);
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Encodes them. A panic of the user's `Serialize` is an error like any other.
    pub fn encode(mut self, memory: &Arc<PageMemory>) -> Result<Vec<EncodedPage>, String> {
        let chunks = std::mem::take(&mut self.chunks);
        let encoded = catch_unwind(AssertUnwindSafe(|| self.encoder.encode_in(chunks, memory)));
        let encoded = encoded.unwrap_or_else(|_| Err("writing its rows panicked".into()));
        encoded.map_err(|reason| {
            let (operator, name) = (self.state.operator.as_str(), &self.state.name);
            format!("state {name:?} of operator {operator:?}: {reason}")
        })
    }
}

/// One checkpoint's share.
pub(super) struct Part {
    pub attempt: Attempt,
    key_prefix: String,
    expected: usize,
    room: Arc<Room>,
    waiting: BTreeMap<Arc<StateId>, Rows>,
    waiting_bytes: usize,
    pages: Vec<(PageEntry, Bytes)>,
    page_bytes: usize,
    held: Held,
    seen: BTreeSet<SubtaskId>,
    arrived: Vec<SubtaskSnapshot>,
    /// Keys under which something may be stored.
    pub keys: Vec<BlobKey>,
    /// Objects stored since the last report.
    pub stored: Vec<ObjectRef>,
    /// Rows that are being encoded, in jobs.
    pub encoding: usize,
    /// Whether to seal when nothing is being encoded any more.
    pub is_sealing: bool,
    /// When to seal what is there, if subtasks are in that wait for others.
    pub seal_at: Option<Millis>,
}

impl Part {
    pub fn new(attempt: Attempt, key_prefix: String, expected: u32, room: &Arc<Room>) -> Part {
        Part {
            attempt,
            key_prefix,
            expected: expected as usize,
            room: room.clone(),
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            pages: Vec::new(),
            page_bytes: 0,
            held: Held::none(room),
            seen: BTreeSet::new(),
            arrived: Vec::new(),
            keys: Vec::new(),
            stored: Vec::new(),
            encoding: 0,
            is_sealing: false,
            seal_at: None,
        }
    }

    /// Takes rows; gives back those of a state that are worth encoding now.
    pub fn add_rows(&mut self, rows: Rows) -> Option<Rows> {
        let state = rows.state.clone();
        self.waiting_bytes += rows.bytes;
        match self.waiting.entry(state.clone()) {
            std::collections::btree_map::Entry::Vacant(place) => drop(place.insert(rows)),
            std::collections::btree_map::Entry::Occupied(mut place) => place.get_mut().append(rows),
        }
        // Many small states together must not fill the memory either, nor keep a walk waiting for room.
        let ripe = self
            .waiting
            .get(&state)
            .is_some_and(|rows| rows.bytes >= RIPE_BYTES);
        let full = self.waiting_bytes >= self.room.limit / WALK_SHARE;
        let largest = || {
            self.waiting
                .values()
                .max_by_key(|rows| rows.bytes)
                .map(|rows| rows.state.clone())
        };
        let taken = if ripe {
            Some(state)
        } else if full {
            largest()
        } else {
            None
        }?;
        self.take(&taken)
    }

    /// Gives back some rows that wait, until there are none.
    pub fn take_rows(&mut self) -> Option<Rows> {
        let state = self.waiting.keys().next()?.clone();
        self.take(&state)
    }

    fn take(&mut self, state: &Arc<StateId>) -> Option<Rows> {
        let rows = self.waiting.remove(state)?;
        self.waiting_bytes -= rows.bytes;
        Some(rows)
    }

    /// Takes a page, and the memory that it takes.
    pub fn add_page(&mut self, entry: PageEntry, bytes: Bytes, held: Held) {
        self.page_bytes += bytes.len();
        self.held.join(held);
        self.pages.push((entry, bytes));
    }

    /// Whether the pages fill an object.
    pub fn is_full(&self, target: usize) -> bool {
        self.page_bytes >= target.min(self.room.limit / OBJECTS_IN_MEMORY).max(1)
    }

    /// Makes one object of the pages, if there are any.
    pub fn plan_object(&mut self) -> Result<Option<Plan>, StateError> {
        if self.pages.is_empty() {
            return Ok(None);
        }
        let key = BlobKey::new(format!("{}/part-{}.rows", self.key_prefix, self.keys.len()))?;
        let mut pages = std::mem::take(&mut self.pages);
        let held = std::mem::replace(&mut self.held, Held::none(&self.room));
        self.page_bytes = 0;
        // What a restore reads together lies together: each subtask has a range of key groups of its own.
        pages.sort_by(|(one, _), (other, _)| {
            (&one.state, one.first_group).cmp(&(&other.state, other.first_group))
        });
        let (entries, bodies): (Vec<PageEntry>, Vec<Bytes>) = pages.into_iter().unzip();
        let (object, tail) = pack(key.clone(), entries.clone())?;
        self.keys.push(key);
        Ok(Some(Plan {
            object,
            pages: entries
                .into_iter()
                .zip(bodies.into_iter().map(PageBody::Memory))
                .collect(),
            tail,
            held,
        }))
    }

    /// Notes that a subtask is in; one that says so twice is counted once.
    pub fn arrive(&mut self, snapshot: SubtaskSnapshot, seal_at: Millis) {
        if self.seen.insert(snapshot.subtask) {
            self.arrived.push(snapshot);
            self.seal_at = Some(seal_at);
        }
    }

    /// Whether all subtasks of the process are in.
    pub fn is_complete(&self) -> bool {
        self.seen.len() >= self.expected
    }

    /// The subtasks that are in since the last call.
    pub fn take_arrived(&mut self) -> Vec<SubtaskSnapshot> {
        self.seal_at = None;
        std::mem::take(&mut self.arrived)
    }
}

/// The entry of a page that is not placed in an object yet.
pub(super) fn entry_of(state: &StateId, page: &EncodedPage) -> PageEntry {
    PageEntry {
        state: state.clone(),
        first_group: page.first_group,
        last_group: page.last_group,
        rows: page.rows,
        offset: 0,
        len: page.bytes.len() as u64,
        checksum: Digest::of(&page.bytes),
    }
}
