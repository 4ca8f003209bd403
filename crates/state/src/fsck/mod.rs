//! Checks a job's checkpoints from outside: whether all that is decided can be restored, and what lies about besides.
//!
//! Layout: [`check_job`] reads the head, has each checkpoint that counts checked by `checkpoint`, and lists the store;
//! [`FsckReport`] says what it found. It only reads, and a running job may go on deciding meanwhile. Non-goals: mending
//! anything; telling whether rows are those that the job had (the types of rows are the job's).

mod checkpoint;
#[cfg(test)]
mod tests;

use crate::{JobHead, StateError};
use checkpoint::Checking;
use rivermark_storage::{Blob, BlobEntry, BlobKey, Cas, StorageErrorKind};
use rivermark_types::{CheckpointId, Generation, JobName, SnapshotKind, Timestamp};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// How often a check begins anew because the job decided something meanwhile.
const ATTEMPTS: usize = 8;

/// What a check of a job found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FsckReport {
    /// The number of the newest decision.
    pub decision: u64,
    /// What it says of the job; `None` if it cannot be read: then nothing else was checked.
    pub job: Option<JobSummary>,
    /// The checkpoints and savepoints that count, oldest first.
    pub checkpoints: Vec<CheckpointCheck>,
    /// What is not as it was written.
    pub damage: Vec<Damage>,
    /// Objects that no decided checkpoint names.
    pub orphans: Vec<Orphan>,
}

/// A job as its newest decision has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobSummary {
    /// Its name.
    pub name: JobName,
    /// The run that owns it.
    pub generation: Generation,
    /// The id that the next checkpoint takes at the earliest.
    pub next_checkpoint: CheckpointId,
    /// Whether it has come to its end.
    pub finished: bool,
}

/// A checkpoint that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckpointCheck {
    /// Its id.
    pub id: CheckpointId,
    /// What it was taken for.
    pub kind: SnapshotKind,
    /// When it was decided, by the wall clock, in milliseconds since 1970.
    pub decided_at: Timestamp,
    /// Whether a run that starts from it may publish again what was published after it, unless it is the newest.
    pub has_committables: bool,
    /// Its objects, the manifest among them.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Pages that decode and are as they were written.
    pub pages: u64,
    /// Keyed rows in them.
    pub rows: u64,
    /// Records in flight in them.
    pub in_flight_rows: u64,
    /// Whether nothing of it is damaged.
    pub sound: bool,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The checkpoint that cannot be restored as it is; `None` if it is the decision itself.
    pub checkpoint: Option<CheckpointId>,
    /// The object; `None` if it is the decision itself.
    pub object: Option<BlobKey>,
    /// Where in it.
    pub place: String,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

/// An object that no decided checkpoint names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Orphan {
    /// Its key.
    pub object: BlobKey,
    /// Its bytes.
    pub bytes: u64,
    /// Whose it may be.
    pub standing: Standing,
}

/// Whose an orphan may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Nobody's: the run that wrote it is over, or the job is.
    Left,
    /// Its run still owns the job (or is a newer one, about to): it may belong to a checkpoint in progress, or be about to be
    /// deleted. Once no run is alive it is as good as left.
    MayBeInUse,
}

impl FsckReport {
    /// Whether all that is decided can be restored, and nothing is left behind for good.
    pub fn is_clean(&self) -> bool {
        self.damage.is_empty()
            && self
                .orphans
                .iter()
                .all(|orphan| orphan.standing != Standing::Left)
    }

    /// The newest checkpoint or savepoint with nothing damaged.
    pub fn newest_sound(&self) -> Option<CheckpointId> {
        let sound = self.checkpoints.iter().filter(|checkpoint| checkpoint.sound);
        sound.map(|checkpoint| checkpoint.id).max()
    }
}

/// Checks all that is decided of a job; `None` if nothing ever was. The error says that the store did not answer, or not
/// as a store does: then nothing is known.
pub async fn check_job(blob: &dyn Blob, cas: &dyn Cas) -> Result<Option<FsckReport>, StateError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let Some(report) = check_once(blob, cas).await? else {
            return Ok(None);
        };
        if report.damage.is_empty() && report.orphans.is_empty() || attempts >= ATTEMPTS {
            return Ok(Some(report));
        }
        // What seems to be missing or left may be the work of a decision made meanwhile.
        match cas.head().await {
            Ok(Some(head)) if head.version != report.decision => continue,
            _ => return Ok(Some(report)),
        }
    }
}

async fn check_once(blob: &dyn Blob, cas: &dyn Cas) -> Result<Option<FsckReport>, StateError> {
    let mut report = FsckReport {
        decision: 0,
        job: None,
        checkpoints: vec![],
        damage: vec![],
        orphans: vec![],
    };
    let head = match cas.head().await {
        Ok(None) => return Ok(None),
        Ok(Some(head)) => head,
        Err(error) if error.kind() == StorageErrorKind::Damaged => {
            report.damage.push(damaged_decision(error.to_string()));
            return Ok(Some(report));
        }
        Err(error) => return Err(error.into()),
    };
    report.decision = head.version;
    let head = match JobHead::decode(&format!("decision {}", head.version), &head.bytes) {
        Ok(head) => head,
        Err(error) => {
            report.damage.push(damaged_decision(error.to_string()));
            return Ok(Some(report));
        }
    };
    report.job = Some(JobSummary {
        name: head.job.clone(),
        generation: head.generation,
        next_checkpoint: head.next_checkpoint,
        finished: head.finished,
    });
    let entries = blob.list("").await?;
    let lengths = entries.iter().map(|entry| (&entry.key, entry.len)).collect();
    let mut wanted = BTreeSet::new();
    let mut known: Vec<_> = head.checkpoints.iter().chain(&head.savepoints).collect();
    known.sort_by_key(|checkpoint| checkpoint.id);
    let mut all_named = true;
    for checkpoint in known {
        let checked = Checking::new(blob, &lengths, &head, checkpoint).check().await?;
        all_named &= checked.is_read;
        wanted.extend(checked.named);
        report.checkpoints.push(checked.summary);
        report.damage.extend(checked.damage);
    }
    // What a manifest names that cannot be read is unknown: nothing can be called an orphan but what no run owns any more.
    report.orphans = orphans(&entries, &wanted, &head, all_named);
    Ok(Some(report))
}

fn damaged_decision(found: String) -> Damage {
    Damage {
        checkpoint: None,
        object: None,
        place: "the newest decision".into(),
        expected: "what its writer wrote".into(),
        found,
    }
}

fn orphans(
    entries: &[BlobEntry],
    wanted: &BTreeSet<BlobKey>,
    head: &JobHead,
    all_named: bool,
) -> Vec<Orphan> {
    // An object of a checkpoint whose manifest cannot be read is that checkpoint's.
    let unread: Vec<String> = match all_named {
        true => vec![],
        false => head
            .checkpoints
            .iter()
            .chain(&head.savepoints)
            .filter_map(|checkpoint| folder(&checkpoint.manifest).map(str::to_owned))
            .collect(),
    };
    let is_named = |key: &BlobKey| {
        wanted.contains(key) || unread.iter().any(|unread| folder(key) == Some(unread.as_str()))
    };
    let orphan = |entry: &BlobEntry| Orphan {
        object: entry.key.clone(),
        bytes: entry.len,
        standing: standing(&entry.key, head),
    };
    entries
        .iter()
        .filter(|entry| !is_named(&entry.key))
        .map(orphan)
        .collect()
}

fn folder(key: &BlobKey) -> Option<&str> {
    key.as_str().rsplit_once('/').map(|(folder, _)| folder)
}

/// The first folder of a key is the generation that wrote it.
fn standing(key: &BlobKey, head: &JobHead) -> Standing {
    let first = key.as_str().split('/').next().unwrap_or_default();
    let generation = first
        .strip_prefix('g')
        .and_then(|number| number.parse::<u64>().ok());
    match generation {
        Some(generation) if generation > head.generation.0 => Standing::MayBeInUse,
        Some(generation) if generation == head.generation.0 && !head.finished => Standing::MayBeInUse,
        _ => Standing::Left,
    }
}

/// The lengths of the objects that a store has.
type Lengths<'a> = BTreeMap<&'a BlobKey, u64>;
