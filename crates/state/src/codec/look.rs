//! What a page holds, for whoever knows the types of its rows not: that it decodes, how many rows, of which key groups.

use super::{GROUP, KEY, VALUE, column, page, primitive};
use crate::StateError;
use arrow_array::types::UInt32Type;
use bytes::Bytes;
use rivermark_types::KeyGroup;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a page holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageLook {
    /// Its rows.
    pub rows: u64,
    /// The lowest and the highest key group; `None` if it has no rows or no key groups.
    pub groups: Option<(KeyGroup, KeyGroup)>,
}

/// Decodes a page as far as that goes without the types of its rows: all of its Arrow columns. `keyed`: whether it has to
/// have key groups and keys, as all have but those of records in flight.
pub fn look_at_page(bytes: Bytes, keyed: bool) -> Result<PageLook, StateError> {
    // The Arrow libraries panic on schemas that no writer makes.
    let looked = catch_unwind(AssertUnwindSafe(|| look(bytes, keyed)));
    looked.unwrap_or_else(|_| Err(StateError::Page("reading it panicked".into())))
}

fn look(bytes: Bytes, keyed: bool) -> Result<PageLook, StateError> {
    let mut look = PageLook::default();
    for batch in page::read(bytes)? {
        look.rows += batch.num_rows() as u64;
        column(&batch, VALUE)?;
        if !keyed {
            continue;
        }
        column(&batch, KEY)?;
        let groups = primitive::<UInt32Type>(&batch, GROUP)?.values();
        for &group in groups {
            let (low, high) = look.groups.unwrap_or((KeyGroup(group), KeyGroup(group)));
            look.groups = Some((low.min(KeyGroup(group)), high.max(KeyGroup(group))));
        }
    }
    Ok(look)
}
