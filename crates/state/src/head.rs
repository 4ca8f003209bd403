//! The head of a job: what is decided. The one value in the job's [`rivermark_storage::Cas`].
//!
//! A checkpoint exists from the moment a head that names it is the newest; a process owns the job as long as the head has
//! its generation. Non-goals: how heads are written (the JobMaster), what a checkpoint contains (`manifest`).

use crate::StateError;
use crate::document;
use rivermark_storage::{BlobKey, Digest};
use rivermark_types::{Attempt, CheckpointId, Generation, JobName, SnapshotKind, Timestamp};
use serde::{Deserialize, Serialize};

/// The format that this version writes, and the newest that it reads.
pub const HEAD_FORMAT: u32 = 1;
/// The most bytes a head may have.
pub const MAX_HEAD_BYTES: usize = 16 << 20;

/// What is decided of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobHead {
    /// The version of this form.
    pub format: u32,
    /// The job.
    pub job: JobName,
    /// The run that owns the job.
    pub generation: Generation,
    /// The last attempt that a checkpoint was decided in, or 0.
    pub last_attempt: Attempt,
    /// What the job's key hash is keyed with: drawn once, kept for ever.
    pub seed: u64,
    /// Drawn by each start: tells two starts apart that would otherwise write the same head.
    #[serde(default)]
    pub run: u64,
    /// Checkpoints up to this id belong to runs before a start from the beginning: kept, never resumed by `latest`.
    #[serde(default)]
    pub lineage_start: CheckpointId,
    /// The decided checkpoints that are kept, oldest first.
    pub checkpoints: Vec<CheckpointRef>,
    /// The savepoints, oldest first. They are deleted by nobody but the user.
    pub savepoints: Vec<CheckpointRef>,
    /// The id that the next checkpoint or savepoint takes at the earliest.
    pub next_checkpoint: CheckpointId,
    /// Whether the job has come to its end: there is nothing left to resume.
    pub finished: bool,
}

/// A decided checkpoint or savepoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointRef {
    /// Its id.
    pub id: CheckpointId,
    /// What it was taken for.
    pub kind: SnapshotKind,
    /// The key of its manifest.
    pub manifest: BlobKey,
    /// The digest of its manifest.
    pub digest: Digest,
    /// When it was decided, by the wall clock.
    pub decided_at: Timestamp,
    /// Whether it names something that a sink must commit: going back behind it may publish twice.
    pub has_committables: bool,
}

impl JobHead {
    /// The head of a job that starts for the first time, before it takes its first generation.
    pub fn new(job: JobName, seed: u64) -> JobHead {
        JobHead {
            format: HEAD_FORMAT,
            job,
            generation: Generation(0),
            last_attempt: Attempt(0),
            seed,
            run: 0,
            lineage_start: CheckpointId(0),
            checkpoints: Vec::new(),
            savepoints: Vec::new(),
            next_checkpoint: CheckpointId(1),
            finished: false,
        }
    }

    /// Its bytes, to be proposed in a compare-and-set.
    pub fn encode(&self) -> Result<Vec<u8>, StateError> {
        document::encode(self)
    }

    /// The head back from the bytes of a version; `object` names where they come from.
    pub fn decode(object: &str, bytes: &[u8]) -> Result<JobHead, StateError> {
        let head: JobHead = document::decode(object, bytes, MAX_HEAD_BYTES, HEAD_FORMAT)?;
        let rising = |list: &[CheckpointRef]| list.windows(2).all(|pair| pair[0].id < pair[1].id);
        let known = head.checkpoints.iter().chain(&head.savepoints);
        if rising(&head.checkpoints)
            && rising(&head.savepoints)
            && known
                .clone()
                .all(|checkpoint| checkpoint.id < head.next_checkpoint)
        {
            return Ok(head);
        }
        Err(StateError::Damaged {
            object: object.to_owned(),
            reason: "its checkpoints are out of order".into(),
        })
    }

    /// The newest checkpoint that an automatic recovery starts from. Savepoints are never among them.
    pub fn latest(&self) -> Option<&CheckpointRef> {
        self.checkpoints.last()
    }

    /// A checkpoint or savepoint by its id.
    pub fn find(&self, id: CheckpointId) -> Option<&CheckpointRef> {
        let mut known = self.checkpoints.iter().chain(&self.savepoints);
        known.find(|checkpoint| checkpoint.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head() -> JobHead {
        let mut head = JobHead::new(JobName::from("flights"), 17);
        let checkpoint = |id: u64| CheckpointRef {
            id: CheckpointId(id),
            kind: SnapshotKind::Checkpoint,
            manifest: BlobKey::new(format!("g1/a1/chk-{id}/manifest")).unwrap(),
            digest: Digest::of(b"x"),
            decided_at: Timestamp(1_000),
            has_committables: id == 4,
        };
        head.generation = Generation(3);
        head.checkpoints = vec![checkpoint(3), checkpoint(5)];
        head.savepoints = vec![checkpoint(4)];
        head.next_checkpoint = CheckpointId(9);
        head
    }

    #[test]
    fn a_head_round_trips_and_finds_its_checkpoints() {
        let head = head();
        let back = JobHead::decode("decision-3", &head.encode().unwrap()).unwrap();
        assert_eq!(back, head);
        assert_eq!(back.latest().unwrap().id, CheckpointId(5));
        assert_eq!(back.find(CheckpointId(4)).unwrap().id, CheckpointId(4));
        assert!(back.find(CheckpointId(6)).is_none());
    }

    #[test]
    fn a_head_that_contradicts_itself_is_refused() {
        for spoil in [
            |head: &mut JobHead| head.checkpoints.reverse(),
            |head: &mut JobHead| head.next_checkpoint = CheckpointId(5),
        ] {
            let mut head = head();
            spoil(&mut head);
            let error = JobHead::decode("decision-3", &head.encode().unwrap()).unwrap_err();
            assert!(error.to_string().contains("decision-3"), "{error}");
        }
    }

    #[test]
    fn a_newer_format_is_named() {
        let mut head = head();
        head.format = HEAD_FORMAT + 1;
        let error = JobHead::decode("decision-3", &head.encode().unwrap()).unwrap_err();
        assert!(
            matches!(error, StateError::NewerFormat { found: 2, .. }),
            "{error}"
        );
    }

    #[test]
    fn no_byte_can_be_damaged_unnoticed() {
        let bytes = head().encode().unwrap();
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x20;
            assert!(JobHead::decode("head", &damaged).is_err(), "byte {place}");
            assert!(
                JobHead::decode("head", &bytes[..place]).is_err(),
                "cut at {place}"
            );
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_are_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(JobHead::decode("head", &bytes).is_err());
        }
    }
}
