//! Who reads which split of one source, and how far its watermark may go.
//!
//! A [`SplitTracker`] sits beside the enumerator, in the coordinator. The enumerator tells it what it discovers, readers
//! ask it for work, and it keeps each split in exactly one place: unassigned, assigned to a reader, or finished. Splits go
//! out in the order of their discovery. So splits that come back by a restore go first: they were discovered before all
//! those that never went out.
//!
//! **Restore** ([`SplitTracker::restore`]): all splits come back here, whoever read them, so that any number of readers may
//! go on. Assignments and barriers reach a reader in the order in which they left the coordinator, so whatever the
//! snapshot calls assigned is in a reader's snapshot, unless the reader had finished it.
//!
//! Finished splits are remembered by id: an enumerator may list its directory again and again, and after a restore. Where
//! it remembers by itself what it has found, they may be forgotten ([`SplitTracker::forget_finished`]).
//!
//! Non-goals: discovering, positions' meaning, fairness (readers ask when they want more).

use rivermark_types::{ErrorKind, Failure, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The name of a split, unique and stable within its source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SplitId(pub String);

impl From<&str> for SplitId {
    fn from(text: &str) -> SplitId {
        SplitId(text.to_owned())
    }
}

impl fmt::Display for SplitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A split that an enumerator found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discovered<S> {
    /// Its name.
    pub id: SplitId,
    /// What a reader needs to read it.
    pub split: S,
    /// No row in it is older; `None` if that is not known.
    pub lower_bound: Option<Timestamp>,
}

/// A split that a reader held when its snapshot was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Returned<P> {
    /// Its name.
    pub id: SplitId,
    /// Where to go on.
    pub position: P,
    /// The split's watermark, if it had one yet.
    pub watermark: Option<Timestamp>,
}

/// A split on its way to a reader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment<S, P> {
    /// Its name.
    pub id: SplitId,
    /// What a reader needs to read it.
    pub split: S,
    /// Where to go on; `None` at its beginning.
    pub position: Option<P>,
    /// The watermark it had reached, if it was read before.
    pub watermark: Option<Timestamp>,
}

/// Why a report or a snapshot does not fit what the tracker knows: ids got mixed up somewhere, which is a bug.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// A reader speaks of a split that it does not have.
    #[error("reader {reader} finished split \"{id}\", which it was not reading")]
    NotAssigned {
        /// The reader's subtask index.
        reader: u32,
        /// The split.
        id: SplitId,
    },
    /// A reader's snapshot holds a split that the coordinator's snapshot calls unassigned or finished, or does not know,
    /// or that another reader's snapshot holds too.
    #[error(
        "split \"{id}\" is in a reader's snapshot, but not assigned to exactly one reader in the coordinator's"
    )]
    Misplaced {
        /// The split.
        id: SplitId,
    },
    /// The coordinator's snapshot has one split twice.
    #[error("split \"{id}\" is in the coordinator's snapshot twice")]
    Doubled {
        /// The split.
        id: SplitId,
    },
}

impl SplitError {
    /// Never the user's fault.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Bug
    }
}

impl From<SplitError> for Failure {
    fn from(error: SplitError) -> Failure {
        Failure::new(error.kind(), error.to_string())
    }
}

/// What a snapshot keeps of a split that is not finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSplit<S, P> {
    /// Its rank: the order of discovery.
    pub order: u64,
    /// Its name.
    pub id: SplitId,
    /// What a reader needs to read it.
    pub split: S,
    /// No row in it is older.
    pub lower_bound: Option<Timestamp>,
    /// Where to go on, if it was returned by a restore and has not been given out since.
    pub position: Option<P>,
    /// The watermark it had reached then.
    pub watermark: Option<Timestamp>,
}

/// The tracker's part of a snapshot: plain data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitSnapshot<S, P> {
    /// Splits that no reader has.
    pub unassigned: Vec<OpenSplit<S, P>>,
    /// Splits that readers have; their positions are in the readers' snapshots.
    pub assigned: Vec<OpenSplit<S, P>>,
    /// Splits that were read to their end.
    pub finished: Vec<SplitId>,
    /// The rank of the next split to be discovered.
    pub next_order: u64,
    /// Whether no more splits will be discovered.
    pub exhausted: bool,
    /// What the enumerator said of rows in splits yet to be discovered.
    pub undiscovered_bound: Option<Timestamp>,
}

/// See the module. `S` describes a split, `P` is a position in one.
#[derive(Clone, Debug)]
pub struct SplitTracker<S, P> {
    /// By rank, the order of discovery.
    unassigned: BTreeMap<u64, OpenSplit<S, P>>,
    assigned: BTreeMap<SplitId, (u32, OpenSplit<S, P>)>,
    finished: BTreeSet<SplitId>,
    /// All ids in `unassigned`.
    waiting: BTreeSet<SplitId>,
    next_order: u64,
    exhausted: bool,
    undiscovered_bound: Option<Timestamp>,
}

impl<S, P> Default for SplitTracker<S, P> {
    fn default() -> Self {
        SplitTracker {
            unassigned: BTreeMap::new(),
            assigned: BTreeMap::new(),
            finished: BTreeSet::new(),
            waiting: BTreeSet::new(),
            next_order: 0,
            exhausted: false,
            undiscovered_bound: None,
        }
    }
}

impl<S: Clone, P: Clone> SplitTracker<S, P> {
    /// A tracker that knows of no split yet.
    pub fn new() -> Self {
        SplitTracker::default()
    }

    /// Takes in what the enumerator found, in that order, and says how many of them are new; known ones are left as they are.
    pub fn discovered(&mut self, found: impl IntoIterator<Item = Discovered<S>>) -> usize {
        let before = self.next_order;
        for Discovered {
            id,
            split,
            lower_bound,
        } in found
        {
            if self.knows(&id) {
                continue;
            }
            let order = self.next_order;
            self.next_order += 1;
            self.wait(OpenSplit {
                order,
                id,
                split,
                lower_bound,
                position: None,
                watermark: None,
            });
        }
        (self.next_order - before) as usize
    }

    /// No more splits will be discovered.
    pub fn exhausted(&mut self) {
        self.exhausted = true;
    }

    /// No row in a split yet to be discovered is older than this. Without such a word they hold nothing back.
    pub fn set_undiscovered_bound(&mut self, bound: Option<Timestamp>) {
        self.undiscovered_bound = bound;
    }

    /// A reader asks for work: the next split, now its own; `None` if there is none at present.
    pub fn next_for(&mut self, reader: u32) -> Option<Assignment<S, P>> {
        let (_, mut open) = self.unassigned.pop_first()?;
        self.waiting.remove(&open.id);
        // From now on the reader knows better than we do.
        let (position, watermark) = (open.position.take(), open.watermark.take());
        let assignment = Assignment {
            id: open.id.clone(),
            split: open.split.clone(),
            position,
            watermark,
        };
        self.assigned.insert(open.id.clone(), (reader, open));
        Some(assignment)
    }

    /// A reader came to the end of a split.
    pub fn finished(&mut self, reader: u32, id: &SplitId) -> Result<(), SplitError> {
        match self.assigned.get(id) {
            Some((owner, _)) if *owner == reader => {
                self.assigned.remove(id);
                self.finished.insert(id.clone());
                Ok(())
            }
            _ => Err(SplitError::NotAssigned {
                reader,
                id: id.clone(),
            }),
        }
    }

    /// Forgets the splits that were read to their end: right where the enumerator never finds a split again.
    pub fn forget_finished(&mut self) {
        self.finished.clear();
    }

    /// Splits that no reader has, in the order in which they will go out.
    pub fn unassigned(&self) -> impl Iterator<Item = &SplitId> {
        self.unassigned.values().map(|open| &open.id)
    }

    /// Splits that readers have, by id, each with its reader.
    pub fn assigned(&self) -> impl Iterator<Item = (&SplitId, u32)> {
        self.assigned.iter().map(|(id, (reader, _))| (id, *reader))
    }

    /// How many splits were read to their end.
    pub fn finished_count(&self) -> usize {
        self.finished.len()
    }

    /// Whether the enumerator said that no more splits will be discovered.
    pub fn is_exhausted(&self) -> bool {
        self.exhausted
    }

    /// Whether readers that ask get nothing now and never will: time to tell them "no more splits".
    pub fn all_assigned_and_exhausted(&self) -> bool {
        self.exhausted && self.unassigned.is_empty()
    }

    /// Whether the source has been read to its end.
    pub fn all_finished(&self) -> bool {
        self.all_assigned_and_exhausted() && self.assigned.is_empty()
    }

    /// The source's watermark must not pass this, because of splits that nobody reads yet.
    pub fn watermark_hold(&self) -> Timestamp {
        let unread = self.unassigned.values().map(|open| {
            // What was read of it already counts.
            open.watermark.max(open.lower_bound).unwrap_or(Timestamp::MIN)
        });
        let undiscovered = self.undiscovered_bound.filter(|_| !self.exhausted);
        unread.chain(undiscovered).min().unwrap_or(Timestamp::MAX)
    }

    /// What a checkpoint must keep.
    pub fn snapshot(&self) -> SplitSnapshot<S, P> {
        SplitSnapshot {
            unassigned: self.unassigned.values().cloned().collect(),
            assigned: self.assigned.values().map(|(_, open)| open.clone()).collect(),
            finished: self.finished.iter().cloned().collect(),
            next_order: self.next_order,
            exhausted: self.exhausted,
            undiscovered_bound: self.undiscovered_bound,
        }
    }

    /// The tracker of a checkpoint, and in it, unassigned again, every split that a reader held. What was assigned and no
    /// reader held any more had been finished.
    pub fn restore(
        snapshot: SplitSnapshot<S, P>,
        returned: impl IntoIterator<Item = Returned<P>>,
    ) -> Result<Self, SplitError> {
        let SplitSnapshot {
            unassigned,
            assigned,
            finished,
            next_order,
            exhausted,
            undiscovered_bound,
        } = snapshot;
        let finished = finished.into_iter().collect();
        let mut tracker = SplitTracker {
            finished,
            next_order,
            exhausted,
            undiscovered_bound,
            ..SplitTracker::default()
        };
        let mut held = BTreeMap::new();
        for open in assigned {
            if tracker.knows(&open.id) || held.contains_key(&open.id) {
                return Err(SplitError::Doubled { id: open.id });
            }
            held.insert(open.id.clone(), open);
        }
        for open in unassigned {
            if tracker.knows(&open.id) || held.contains_key(&open.id) {
                return Err(SplitError::Doubled { id: open.id });
            }
            tracker.wait(open);
        }
        for Returned {
            id,
            position,
            watermark,
        } in returned
        {
            let Some(open) = held.remove(&id) else {
                return Err(SplitError::Misplaced { id });
            };
            tracker.wait(OpenSplit {
                position: Some(position),
                watermark,
                ..open
            });
        }
        tracker.finished.extend(held.into_keys());
        Ok(tracker)
    }

    fn knows(&self, id: &SplitId) -> bool {
        self.waiting.contains(id) || self.assigned.contains_key(id) || self.finished.contains(id)
    }

    fn wait(&mut self, open: OpenSplit<S, P>) {
        self.waiting.insert(open.id.clone());
        self.unassigned.insert(open.order, open);
    }
}

#[cfg(test)]
mod tests;
