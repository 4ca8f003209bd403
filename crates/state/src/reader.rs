//! Reads the keyed rows of a snapshot back: by operator and range of key groups, and nothing that is not asked for.
//!
//! Layout: [`SnapshotReader`] knows the indexes of all objects of one manifest and fetches pages
//! into the [`RestoredState`] of one subtask of an operator: from the copies that this process has itself, where there are
//! any and they are sound, else from the store. Non-goals: what a page means (`codec`), which snapshot to read (`head`); it
//! retries nothing.

use crate::StateError;
use crate::image::{StateId, StateKind};
use crate::local_copies::LocalCopies;
use crate::manifest::Manifest;
use crate::object::{ObjectIndex, ObjectRef, PageEntry, check_page};
use crate::restored::RestoredState;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use rivermark_storage::Blob;
use rivermark_types::{KeyGroupRange, Uid};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Neighbouring pages are fetched together up to so many bytes.
const FETCH_BYTES: u64 = 16 << 20;
/// So many reads are under way at once: the store's answers take their time, and what came is checked meanwhile.
const READS_AT_ONCE: usize = 8;

/// The objects of one snapshot, ready to be read by many subtasks.
pub struct SnapshotReader {
    places: Places,
    objects: Vec<(ObjectRef, ObjectIndex)>,
}

/// Where the bytes of objects are.
struct Places {
    blob: Arc<dyn Blob>,
    copies: Option<LocalCopies>,
}

/// How much of a state is in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateSize {
    /// The state.
    pub state: StateId,
    /// Its rows.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Its pages.
    pub pages: u64,
}

impl SnapshotReader {
    /// Reads the indexes of all objects of a snapshot.
    pub async fn open(blob: Arc<dyn Blob>, manifest: &Manifest) -> Result<SnapshotReader, StateError> {
        SnapshotReader::open_near(blob, None, manifest).await
    }

    /// The same where this process may have copies of the objects.
    pub async fn open_near(
        blob: Arc<dyn Blob>,
        copies: Option<LocalCopies>,
        manifest: &Manifest,
    ) -> Result<SnapshotReader, StateError> {
        let places = Places { blob, copies };
        let indexes: Vec<_> = manifest
            .objects
            .iter()
            .map(|object| places.index(object))
            .collect();
        let indexes = stream::iter(indexes).buffered(READS_AT_ONCE);
        let objects = indexes.try_collect().await?;
        Ok(SnapshotReader { places, objects })
    }

    /// The pages of an operator's states that may hold rows of a range of key groups. A page may hold rows of other key
    /// groups too.
    pub async fn load(&self, operator: &Uid, range: KeyGroupRange) -> Result<RestoredState, StateError> {
        self.fetch_all(|page| {
            page.state.operator == *operator && page.overlaps(range) && page.state.kind != StateKind::InFlight
        })
        .await
    }

    /// The pages of one state.
    pub async fn pages(&self, state: &StateId) -> Result<Vec<Bytes>, StateError> {
        let mut restored = self.fetch_all(|page| page.state == *state).await?;
        Ok(restored.take(state).unwrap_or_default())
    }

    /// The operators whose keyed rows the snapshot holds, and how much of each state.
    pub fn list_states(&self) -> Vec<StateSize> {
        let mut sizes: BTreeMap<&StateId, StateSize> = BTreeMap::new();
        for page in self.objects.iter().flat_map(|(_, index)| &index.pages) {
            let size = sizes.entry(&page.state).or_insert_with(|| StateSize {
                state: page.state.clone(),
                rows: 0,
                bytes: 0,
                pages: 0,
            });
            size.rows = size.rows.saturating_add(page.rows);
            size.bytes = size.bytes.saturating_add(page.len);
            size.pages += 1;
        }
        sizes.into_values().collect()
    }

    /// Reads all pages that are wanted, neighbouring ones in one call.
    async fn fetch_all(&self, wanted: impl Fn(&PageEntry) -> bool) -> Result<RestoredState, StateError> {
        let mut runs = Vec::new();
        for (object, index) in &self.objects {
            let pages: Vec<&PageEntry> = index.pages.iter().filter(|page| wanted(page)).collect();
            runs.extend(runs_of(&pages).map(|run| (object, run.to_vec())));
        }
        let reads: Vec<_> = runs
            .iter()
            .map(|(object, run)| self.places.pages(object, run))
            .collect();
        let mut reads = stream::iter(reads).buffered(READS_AT_ONCE);
        let mut restored = RestoredState::default();
        for (_, run) in &runs {
            let Some((pages, is_local)) = reads.try_next().await? else {
                break;
            };
            for (page, bytes) in run.iter().zip(pages) {
                if is_local {
                    restored.note_local(page.len);
                }
                restored.add(page.state.clone(), bytes);
            }
        }
        Ok(restored)
    }
}

impl Places {
    async fn index(&self, object: &ObjectRef) -> Result<(ObjectRef, ObjectIndex), StateError> {
        let parse = |bytes: Bytes| ObjectIndex::parse(object, &bytes);
        let (index, _) = self.read(object, object.index_range()?, parse).await?;
        Ok((object.clone(), index))
    }

    /// The bytes of each page of a run without gaps, and whether they came from a copy.
    async fn pages(&self, object: &ObjectRef, run: &[&PageEntry]) -> Result<(Vec<Bytes>, bool), StateError> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            return Ok((Vec::new(), false));
        };
        let range = first.offset..last.offset + last.len;
        self.read(object, range, |bytes| cut_pages(object, run, bytes))
            .await
    }

    /// What `check` makes of some bytes of an object, and whether they came from a copy. A copy that does not stand the check
    /// is as good as none.
    async fn read<T>(
        &self,
        object: &ObjectRef,
        range: Range<u64>,
        check: impl Fn(Bytes) -> Result<T, StateError>,
    ) -> Result<(T, bool), StateError> {
        if let Some(copies) = &self.copies
            && let Some(bytes) = copies.read(&object.key, range.clone()).await
        {
            let len = bytes.len() as u64;
            match check(bytes) {
                Ok(sound) => {
                    copies.was_of_use(len);
                    return Ok((sound, true));
                }
                Err(error) => copies.lose(&object.key, &error),
            }
        }
        let bytes = self.blob.get_range(&object.key, range).await?;
        Ok((check(bytes)?, false))
    }
}

/// Neighbouring pages from their bytes, checked.
fn cut_pages(object: &ObjectRef, run: &[&PageEntry], bytes: Bytes) -> Result<Vec<Bytes>, StateError> {
    let mut rest = bytes;
    let mut pages = Vec::with_capacity(run.len());
    for page in run {
        let cut = usize::try_from(page.len).ok().filter(|&len| len <= rest.len());
        let bytes = rest.split_to(cut.ok_or_else(|| StateError::Damaged {
            object: object.key.to_string(),
            reason: format!("the page at byte {} is cut off", page.offset),
        })?);
        check_page(&object.key, page, &bytes)?;
        pages.push(bytes);
    }
    Ok(pages)
}

/// Cuts pages, sorted by offset, into runs without gaps and not too long.
pub(crate) fn runs_of<'a, 'p>(pages: &'a [&'p PageEntry]) -> impl Iterator<Item = &'a [&'p PageEntry]> {
    let mut rest = pages;
    std::iter::from_fn(move || {
        let first = rest.first()?;
        let mut end = first.offset;
        let mut count = 0;
        for page in rest {
            // Lengths were checked against the object when its index was read.
            if page.offset != end || (count > 0 && end + page.len - first.offset > FETCH_BYTES) {
                break;
            }
            end += page.len;
            count += 1;
        }
        let (run, left) = rest.split_at(count);
        rest = left;
        Some(run)
    })
}

#[cfg(test)]
mod tests;
