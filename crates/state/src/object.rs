//! The objects that keyed rows are kept in: pages of many states and subtasks, packed into few objects.
//!
//! Bytes: the pages one after the other, the index (JSON: one [`PageEntry`] a page), the footer (68 bytes, little-endian:
//! index offset, index length, index digest as text, format, checksum of the footer so far, magic). Every byte is under a
//! checksum. Layout: [`pack`] plans an object, pure; [`ObjectIndex`] reads one through its index. Non-goals: when an
//! object is full (`writer`), what a page means (`codec`).

use crate::StateError;
use crate::image::StateId;
use bytes::Bytes;
use rivermark_storage::checksum::checksum64;
use rivermark_storage::{Blob, BlobKey, Digest};
use rivermark_types::{KeyGroup, KeyGroupRange};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::str::FromStr;

/// The format that this version writes, and the newest that it reads.
pub const OBJECT_FORMAT: u32 = 1;
/// The most bytes an index may have.
pub const MAX_INDEX_BYTES: u64 = 64 << 20;
/// The bytes of a footer.
pub const FOOTER_BYTES: u64 = 68;

/// The part of a footer that its checksum covers.
const SUMMED: usize = 52;
const MAGIC: [u8; 8] = *b"RVRMARKO";

/// An object, as a manifest names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Its key.
    pub key: BlobKey,
    /// Its length.
    pub len: u64,
    /// Where its index starts.
    pub index_offset: u64,
    /// The length of its index.
    pub index_len: u64,
    /// The digest of its index.
    pub index_checksum: Digest,
}

/// A page of an object, as its index names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageEntry {
    /// The state it belongs to.
    pub state: StateId,
    /// The lowest key group in it.
    pub first_group: KeyGroup,
    /// The highest key group in it.
    pub last_group: KeyGroup,
    /// Rows in it.
    pub rows: u64,
    /// Where it starts in the object.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
    /// The digest of its bytes.
    pub checksum: Digest,
}

impl PageEntry {
    /// Whether it may hold rows of a range of key groups.
    pub fn overlaps(&self, range: KeyGroupRange) -> bool {
        self.first_group.0 < range.end && range.start <= self.last_group.0
    }
}

/// What is in an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectIndex {
    /// Its pages, by offset.
    pub pages: Vec<PageEntry>,
}

/// Plans an object from its pages in order, each with its length and digest already set; sets their offsets. Returns what
/// a manifest says of it and what follows the pages: the index and the footer.
pub fn pack(key: BlobKey, mut pages: Vec<PageEntry>) -> Result<(ObjectRef, Bytes), StateError> {
    let mut offset = 0u64;
    for page in &mut pages {
        page.offset = offset;
        offset += page.len;
    }
    let mut tail = serde_json::to_vec(&ObjectIndex { pages }).map_err(|error| StateError::Unwritable {
        type_name: "the index of an object",
        reason: error.to_string(),
    })?;
    let index_len = tail.len() as u64;
    let index_checksum = Digest::of(&tail);
    tail.extend_from_slice(&footer(offset, index_len, index_checksum));
    let object = ObjectRef {
        key,
        len: offset + tail.len() as u64,
        index_offset: offset,
        index_len,
        index_checksum,
    };
    Ok((object, Bytes::from(tail)))
}

fn footer(index_offset: u64, index_len: u64, index_checksum: Digest) -> Vec<u8> {
    let mut footer = Vec::with_capacity(FOOTER_BYTES as usize);
    footer.extend_from_slice(&index_offset.to_le_bytes());
    footer.extend_from_slice(&index_len.to_le_bytes());
    footer.extend_from_slice(index_checksum.to_string().as_bytes());
    footer.extend_from_slice(&OBJECT_FORMAT.to_le_bytes());
    footer.extend_from_slice(&checksum64(&footer).to_le_bytes());
    footer.extend_from_slice(&MAGIC);
    footer
}

/// A manifest's words for the object of a key and length, found in its footer: for whoever has no manifest.
pub async fn find_object(blob: &dyn Blob, key: &BlobKey, len: u64) -> Result<ObjectRef, StateError> {
    let damaged = |reason: String| StateError::Damaged {
        object: key.to_string(),
        reason,
    };
    let start = len
        .checked_sub(FOOTER_BYTES)
        .ok_or_else(|| damaged(format!("it has {len} bytes, its footer alone has {FOOTER_BYTES}")))?;
    let footer = blob.get_range(key, start..len).await?;
    let object = parse_footer(key, len, &footer).map_err(damaged)?;
    if object.index_offset.checked_add(object.index_len) != Some(start) {
        return Err(damaged("its index does not end at its footer".into()));
    }
    Ok(object)
}

fn parse_footer(key: &BlobKey, len: u64, footer: &[u8]) -> Result<ObjectRef, String> {
    let mut rest = footer;
    let mut word = || -> Option<u64> {
        let (word, left) = rest.split_first_chunk::<8>()?;
        rest = left;
        Some(u64::from_le_bytes(*word))
    };
    let (Some(index_offset), Some(index_len)) = (word(), word()) else {
        return Err("its footer is cut off".into());
    };
    let (Some((checksum, rest)), true) = (
        rest.split_first_chunk::<32>(),
        footer.len() as u64 == FOOTER_BYTES,
    ) else {
        return Err("its footer is cut off".into());
    };
    let (format, ends) = rest.split_at(4);
    let (sum, magic) = ends.split_at(8);
    if magic != MAGIC {
        return Err(format!(
            "it ends with {magic:?}, {MAGIC:?} was expected: is it an object of a snapshot?"
        ));
    }
    let found = checksum64(&footer[..SUMMED]).to_le_bytes();
    if sum != found {
        return Err(format!(
            "the checksum of its footer is {found:?}, {sum:?} was written"
        ));
    }
    if format != OBJECT_FORMAT.to_le_bytes() {
        return Err(format!(
            "its format is {format:?}, this version reads {OBJECT_FORMAT}"
        ));
    }
    let index_checksum = std::str::from_utf8(checksum)
        .ok()
        .and_then(|text| Digest::from_str(text).ok())
        .ok_or("its footer holds no digest")?;
    Ok(ObjectRef {
        key: key.clone(),
        len,
        index_offset,
        index_len,
        index_checksum,
    })
}

impl ObjectRef {
    /// Where its index is.
    pub(crate) fn index_range(&self) -> Result<Range<u64>, StateError> {
        let end = self.index_offset.checked_add(self.index_len);
        let end = end.filter(|&end| end <= self.len && self.index_len <= MAX_INDEX_BYTES);
        let end = end.ok_or_else(|| self.damaged("its index has an impossible place".into()))?;
        Ok(self.index_offset..end)
    }

    fn damaged(&self, reason: String) -> StateError {
        StateError::Damaged {
            object: self.key.to_string(),
            reason,
        }
    }
}

impl ObjectIndex {
    /// Reads and checks the index of an object.
    pub async fn load(blob: &dyn Blob, object: &ObjectRef) -> Result<ObjectIndex, StateError> {
        let bytes = blob.get_range(&object.key, object.index_range()?).await?;
        ObjectIndex::parse(object, &bytes)
    }

    /// The index of an object from its bytes, checked.
    pub(crate) fn parse(object: &ObjectRef, bytes: &[u8]) -> Result<ObjectIndex, StateError> {
        let damaged = |reason: String| object.damaged(reason);
        object
            .index_checksum
            .check(format_args!("the index of {}", object.key), bytes)?;
        let index: ObjectIndex = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        let mut expected = 0u64;
        for page in &index.pages {
            if page.offset != expected || page.first_group > page.last_group {
                return Err(damaged(format!("the page at {} is out of place", page.offset)));
            }
            expected = expected.saturating_add(page.len);
        }
        if expected != object.index_offset {
            return Err(damaged(format!(
                "its pages end at {expected}, its index starts at {}",
                object.index_offset
            )));
        }
        Ok(index)
    }
}

/// `Damaged`, naming object and page, if the bytes are not those of the page.
pub fn check_page(object: &BlobKey, page: &PageEntry, bytes: &[u8]) -> Result<(), StateError> {
    let name = format_args!(
        "the page of state {:?} of operator {:?} at byte {} of {object}",
        page.state.name,
        page.state.operator.as_str(),
        page.offset
    );
    Ok(page.checksum.check(name, bytes)?)
}

#[cfg(test)]
mod tests;
