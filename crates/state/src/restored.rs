//! Pages of a snapshot on their way back to the operator that declares their state.

use crate::image::StateId;
use bytes::Bytes;
use std::collections::BTreeMap;

/// The keyed state of one operator as a snapshot holds it: encoded pages by state, until a declaration takes them.
#[derive(Clone, Debug, Default)]
pub struct RestoredState {
    pages: BTreeMap<StateId, Vec<Bytes>>,
    local_bytes: u64,
}

impl RestoredState {
    /// Adds a page of a state. It may hold rows of other subtasks too.
    pub fn add(&mut self, state: StateId, page: impl Into<Bytes>) {
        self.pages.entry(state).or_default().push(page.into());
    }
    /// Takes all pages of a state; `None` if the snapshot has none.
    pub fn take(&mut self, state: &StateId) -> Option<Vec<Bytes>> {
        self.pages.remove(state)
    }
    /// How many bytes all pages have.
    pub fn bytes(&self) -> u64 {
        self.pages.values().flatten().map(|page| page.len() as u64).sum()
    }
    /// How many bytes came from local copies.
    pub fn local_bytes(&self) -> u64 {
        self.local_bytes
    }
    pub(crate) fn note_local(&mut self, bytes: u64) {
        self.local_bytes += bytes;
    }
    /// The states that nobody has taken yet.
    pub fn states(&self) -> impl Iterator<Item = &StateId> {
        self.pages.keys()
    }
}
