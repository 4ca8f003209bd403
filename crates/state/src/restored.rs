//! Pages of a snapshot on their way back to the operator that declares their state.

use crate::image::StateId;
use std::collections::BTreeMap;

/// The keyed state of one operator as a snapshot holds it: encoded pages by state, until a declaration takes them.
#[derive(Clone, Debug, Default)]
pub struct RestoredState {
    pages: BTreeMap<StateId, Vec<Vec<u8>>>,
}

impl RestoredState {
    /// Adds a page of a state. It may hold rows of other subtasks too.
    pub fn add(&mut self, state: StateId, page: Vec<u8>) {
        self.pages.entry(state).or_default().push(page);
    }
    /// Takes all pages of a state; `None` if the snapshot has none.
    pub fn take(&mut self, state: &StateId) -> Option<Vec<Vec<u8>>> {
        self.pages.remove(state)
    }
    /// The states that nobody has taken yet.
    pub fn states(&self) -> impl Iterator<Item = &StateId> {
        self.pages.keys()
    }
}
