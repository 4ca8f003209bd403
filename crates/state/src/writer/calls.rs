//! The calls that are under way: objects to be stored, several at once, an object to be moved to the scratch file, and
//! objects to be deleted.
//!
//! A call is never cut off: one that runs when its checkpoint is given up runs to its end (a dropped write may still
//! happen), and its key is deleted after it.

use super::part::{PageBody, Plan};
use super::scratch::{Scratch, read_page};
use crate::object::PageEntry;
use bytes::Bytes;
use rivermark_env::{BoxFuture, Env};
use rivermark_storage::{Blob, BlobKey, StorageError, StorageErrorKind, backoff};
use rivermark_types::{CheckpointId, Millis};
use std::future::poll_fn;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// How many objects are being stored at once: a store takes its time to make one durable, and the next need not wait.
const STORING: usize = 3;
/// The first wait before a call is repeated; it doubles up to [`LAST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LAST_WAIT: Duration = Duration::from_secs(10);

/// Names an object that is to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StoreId(pub u64);

pub(super) struct Deletion {
    pub keys: Vec<BlobKey>,
    pub retry: Retry,
}

/// When a call may be made (again).
#[derive(Clone, Copy)]
pub(super) struct Retry {
    pub tries: u32,
    pub not_before: Millis,
}

impl Retry {
    pub fn first(now: Millis) -> Retry {
        Retry {
            tries: 0,
            not_before: now,
        }
    }

    pub fn again(self, env: &Env) -> Retry {
        let wait = backoff(FIRST_WAIT, LAST_WAIT, self.tries, env.random_u64());
        Retry {
            tries: self.tries + 1,
            not_before: env.now().after(wait),
        }
    }
}

/// How a call to the store ended.
pub(super) enum Called {
    Stored {
        id: StoreId,
        key: BlobKey,
        /// Its bytes.
        parts: Vec<Bytes>,
        outcome: Outcome,
    },
    Spilled(Spilled),
    Deleted {
        deletion: Deletion,
        outcome: Outcome,
    },
}

/// An object that was moved to the scratch file of its checkpoint, or was not.
pub(super) struct Spilled {
    pub checkpoint: CheckpointId,
    pub id: StoreId,
    /// The file, if it could be made.
    pub scratch: Option<Scratch>,
    /// Where its pages are now.
    pub result: io::Result<Vec<PageBody>>,
}

pub(super) enum Outcome {
    Done,
    Again(String),
    Failed(String),
}

impl Outcome {
    fn of(result: Result<(), StorageError>) -> Outcome {
        match result {
            Ok(()) => Outcome::Done,
            Err(error) if error.kind() == StorageErrorKind::Retryable => Outcome::Again(error.to_string()),
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }
}

/// The calls under way.
pub(super) struct Calls {
    env: Env,
    blob: Arc<dyn Blob>,
    storing: Vec<(StoreId, BoxFuture<'static, Called>)>,
    spilling: Option<(StoreId, BoxFuture<'static, Spilled>)>,
    deleting: Option<BoxFuture<'static, Called>>,
}

impl Calls {
    pub fn new(env: Env, blob: Arc<dyn Blob>) -> Calls {
        Calls {
            env,
            blob,
            storing: Vec::new(),
            spilling: None,
            deleting: None,
        }
    }

    /// Whether one more object may be on its way to the store.
    pub fn may_store(&self) -> bool {
        self.storing.len() < STORING
    }

    pub fn is_storing(&self, id: StoreId) -> bool {
        self.storing.iter().any(|(other, _)| *other == id)
    }

    /// Whether the object is being stored or moved.
    pub fn is_busy_with(&self, id: StoreId) -> bool {
        self.is_storing(id) || self.spilling.as_ref().is_some_and(|(other, _)| *other == id)
    }

    pub fn is_spilling(&self) -> bool {
        self.spilling.is_some()
    }

    pub fn is_deleting(&self) -> bool {
        self.deleting.is_some()
    }

    pub fn store(&mut self, id: StoreId, plan: Arc<Plan>) {
        let call = store(self.env.clone(), self.blob.clone(), id, plan);
        self.storing.push((id, Box::pin(call)));
    }

    /// Has the pages of an object appended to a scratch file, which is made in `dir` if there is none yet.
    pub fn spill(
        &mut self,
        (checkpoint, id): (CheckpointId, StoreId),
        plan: Arc<Plan>,
        scratch: Option<Scratch>,
        dir: PathBuf,
    ) {
        let env = self.env.clone();
        let call = async move {
            let (scratch, result) = spill(&env, &plan, scratch, dir).await;
            Spilled {
                checkpoint,
                id,
                scratch,
                result,
            }
        };
        self.spilling = Some((id, Box::pin(call)));
    }

    pub fn delete(&mut self, deletion: Deletion) {
        self.deleting = Some(Box::pin(delete(self.blob.clone(), deletion)));
    }

    /// Waits for the call that writes to a scratch file, if there is one, and for no other.
    pub async fn spilled(&mut self) -> Option<Spilled> {
        let (_, call) = self.spilling.take()?;
        Some(call.await)
    }

    /// The next call to end. May be dropped and called again.
    pub async fn next(&mut self) -> Called {
        poll_fn(|cx| {
            for at in 0..self.storing.len() {
                if let Poll::Ready(called) = self.storing[at].1.as_mut().poll(cx) {
                    drop(self.storing.remove(at));
                    return Poll::Ready(called);
                }
            }
            if let Some((_, call)) = &mut self.spilling
                && let Poll::Ready(spilled) = call.as_mut().poll(cx)
            {
                self.spilling = None;
                return Poll::Ready(Called::Spilled(spilled));
            }
            if let Some(call) = &mut self.deleting
                && let Poll::Ready(called) = call.as_mut().poll(cx)
            {
                self.deleting = None;
                return Poll::Ready(called);
            }
            Poll::Pending
        })
        .await
    }
}

/// One try at storing an object.
async fn store(env: Env, blob: Arc<dyn Blob>, id: StoreId, plan: Arc<Plan>) -> Called {
    let key = plan.object.key.clone();
    let (parts, outcome) = match parts(&env, &plan).await {
        Ok(parts) => {
            let outcome = Outcome::of(blob.put(&key, parts.clone()).await);
            (parts, outcome)
        }
        Err(reason) => (vec![], Outcome::Failed(reason)),
    };
    Called::Stored {
        id,
        key,
        parts,
        outcome,
    }
}

/// The bytes of an object.
async fn parts(env: &Env, plan: &Plan) -> Result<Vec<Bytes>, String> {
    let mut parts = Vec::with_capacity(plan.pages.len() + 1);
    for (entry, body) in &plan.pages {
        parts.push(match body {
            PageBody::Memory(page) => page.clone(),
            PageBody::Scratch(file, offset) => read_page(env, file, *offset, entry).await?.into(),
        });
    }
    parts.push(plan.tail.clone());
    Ok(parts)
}

async fn spill(
    env: &Env,
    plan: &Plan,
    scratch: Option<Scratch>,
    dir: PathBuf,
) -> (Option<Scratch>, io::Result<Vec<PageBody>>) {
    let mut scratch = match scratch {
        Some(scratch) => scratch,
        None => match Scratch::create(env, &dir).await {
            Ok(scratch) => scratch,
            Err(error) => return (None, Err(error)),
        },
    };
    let pages = plan.pages.iter().filter_map(|(_, body)| match body {
        PageBody::Memory(page) => Some(page.clone()),
        PageBody::Scratch(..) => None,
    });
    let moved = scratch.append(pages.collect()).await;
    let bodies = moved.map(|mut offset| {
        let place = |(entry, _): &(PageEntry, PageBody)| {
            let body = PageBody::Scratch(scratch.path().clone(), offset);
            offset += entry.len;
            body
        };
        plan.pages.iter().map(place).collect()
    });
    (Some(scratch), bodies)
}

/// One try at deleting some objects; those that are gone are taken off the list.
async fn delete(blob: Arc<dyn Blob>, mut deletion: Deletion) -> Called {
    while let Some(key) = deletion.keys.last() {
        match Outcome::of(blob.delete(key).await) {
            Outcome::Done => drop(deletion.keys.pop()),
            outcome => return Called::Deleted { deletion, outcome },
        }
    }
    Called::Deleted {
        deletion,
        outcome: Outcome::Done,
    }
}
