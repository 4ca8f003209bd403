//! The keys of the next rows: each selected and hashed once, and what their state needs fetched before its turn comes.
//!
//! Keys are worked out by the block, one block ahead of the rows, so that the memory that some [`BLOCK`] rows need arrives
//! together while the block before is at work.

use crate::cursor::TypedRows;
use rivermark_data::{Data, Key as KeyType};
use rivermark_state::{Key, KeySpace, LookAhead};
use rivermark_types::{KeyHash, Timestamp};

/// Rows a block. As many fetches as a processor keeps under way at once, about.
const BLOCK: usize = 16;

/// Two blocks of keys: of the rows at hand, and of those after them.
pub(super) struct Ahead<K: KeyType> {
    space: KeySpace,
    tables: LookAhead,
    now: Vec<Key<K>>,
    next: Vec<Key<K>>,
}

impl<K: KeyType> Ahead<K> {
    pub(super) fn new(space: KeySpace, tables: LookAhead) -> Ahead<K> {
        Ahead {
            space,
            tables,
            now: Vec::with_capacity(BLOCK),
            next: Vec::with_capacity(BLOCK),
        }
    }

    /// Hands the rows of the slice with their keys to `each`, until it returns false.
    #[inline]
    pub(super) fn each_keyed<I: Data>(
        &mut self,
        rows: &mut TypedRows<I>,
        select: &impl Fn(&I) -> K,
        mut each: impl FnMut(&Key<K>, I, Option<Timestamp>) -> bool,
    ) {
        self.next.clear();
        let mut goes_on = true;
        while goes_on && !rows.rest_of_slice().is_empty() {
            let mut keys = self.block(rows.rest_of_slice(), select).iter();
            rows.each_row(|value, time| {
                let Some(key) = keys.next() else { return false };
                goes_on = each(key, value, time);
                goes_on && keys.len() > 0
            });
        }
    }

    /// The keys of the first of some rows, a block of them at most. All keys of the block before must have been used.
    fn block<I>(&mut self, rows: &[I], select: &impl Fn(&I) -> K) -> &[Key<K>] {
        if self.next.is_empty() {
            let first = &rows[..rows.len().min(BLOCK)];
            Self::work_out(&mut self.next, self.space, &self.tables, first, select);
        }
        std::mem::swap(&mut self.now, &mut self.next);
        let rest = rows.get(self.now.len()..).unwrap_or_default();
        let second = &rest[..rest.len().min(BLOCK)];
        Self::work_out(&mut self.next, self.space, &self.tables, second, select);
        &self.now
    }

    fn work_out<I>(
        keys: &mut Vec<Key<K>>,
        space: KeySpace,
        tables: &LookAhead,
        rows: &[I],
        select: &impl Fn(&I) -> K,
    ) {
        keys.clear();
        let mut hashes = [KeyHash(0); BLOCK];
        for (row, hash) in rows.iter().zip(&mut hashes) {
            let key = Key::new(select(row), space);
            *hash = key.hash;
            keys.push(key);
        }
        tables.prefetch(&hashes[..keys.len()]);
    }
}
