//! One checkpoint: its manifest, all objects that it names, all their pages.

use super::{CheckpointCheck, Damage, Lengths};
use crate::codec::look_at_page;
use crate::image::{StateId, StateKind};
use crate::manifest::OperatorEntry;
use crate::object::{ObjectIndex, PageEntry, find_object};
use crate::reader::runs_of;
use crate::{CheckpointRef, JobHead, Manifest, ObjectRef, StateError};
use bytes::Bytes;
use rivermark_storage::{Blob, BlobKey, Digest, StorageErrorKind};
use rivermark_types::Uid;
use std::collections::{BTreeMap, BTreeSet};

/// A checkpoint under examination.
pub(super) struct Checking<'a> {
    blob: &'a dyn Blob,
    lengths: &'a Lengths<'a>,
    head: &'a JobHead,
    checkpoint: &'a CheckpointRef,
    found: Checked,
    /// Records in flight by channel, as pages have them.
    in_flight: BTreeMap<StateId, (u64, BlobKey)>,
}

/// What became of it.
pub(super) struct Checked {
    pub(super) summary: CheckpointCheck,
    pub(super) damage: Vec<Damage>,
    /// Every object that it names, itself included.
    pub(super) named: BTreeSet<BlobKey>,
    /// Whether its manifest can be read: else what it names is not known.
    pub(super) is_read: bool,
}

impl<'a> Checking<'a> {
    pub(super) fn new(
        blob: &'a dyn Blob,
        lengths: &'a Lengths<'a>,
        head: &'a JobHead,
        checkpoint: &'a CheckpointRef,
    ) -> Checking<'a> {
        let summary = CheckpointCheck {
            id: checkpoint.id,
            kind: checkpoint.kind,
            decided_at: checkpoint.decided_at,
            has_committables: checkpoint.has_committables,
            objects: 0,
            bytes: 0,
            pages: 0,
            rows: 0,
            in_flight_rows: 0,
            sound: true,
        };
        Checking {
            blob,
            lengths,
            head,
            checkpoint,
            found: Checked {
                summary,
                damage: vec![],
                named: BTreeSet::new(),
                is_read: false,
            },
            in_flight: BTreeMap::new(),
        }
    }

    pub(super) async fn check(mut self) -> Result<Checked, StateError> {
        self.found.named.insert(self.checkpoint.manifest.clone());
        if let Some(manifest) = self.manifest().await? {
            self.found.is_read = true;
            self.operators(&manifest);
            for object in &manifest.objects {
                self.found.named.insert(object.key.clone());
                self.object(&manifest, object).await?;
            }
            self.records_in_flight(&manifest);
            self.rows(&manifest);
        }
        self.found.summary.sound = self.found.damage.is_empty();
        Ok(self.found)
    }

    fn damaged(
        &mut self,
        object: &BlobKey,
        place: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) {
        self.found.damage.push(Damage {
            checkpoint: Some(self.checkpoint.id),
            object: Some(object.clone()),
            place: place.into(),
            expected: expected.into(),
            found: found.into(),
        });
    }

    async fn manifest(&mut self) -> Result<Option<Manifest>, StateError> {
        let (key, digest) = (&self.checkpoint.manifest, self.checkpoint.digest);
        let expected = format!("the manifest with checksum {digest}");
        let bytes = match self.blob.get(key).await {
            Ok(bytes) => bytes,
            Err(error) => {
                let found = what_is_wrong(error.into())?;
                self.damaged(key, "the manifest", expected, found);
                return Ok(None);
            }
        };
        self.found.summary.objects += 1;
        self.found.summary.bytes += bytes.len() as u64;
        let found = Digest::of(&bytes);
        if found != digest {
            let found = format!("{} bytes with checksum {found}", bytes.len());
            self.damaged(key, "the manifest", expected, found);
            return Ok(None);
        }
        let manifest = match Manifest::decode(key.as_str(), &bytes, None) {
            Ok(manifest) => manifest,
            Err(error) => {
                let found = what_is_wrong(error)?;
                self.damaged(key, "the manifest", "a manifest that this version reads", found);
                return Ok(None);
            }
        };
        let says = |job: &str, id: u64| format!("checkpoint {id} of job {job:?}");
        let expected = says(self.head.job.as_str(), self.checkpoint.id.0);
        let found = says(manifest.job.as_str(), manifest.checkpoint.0);
        if expected != found {
            self.damaged(key, "the manifest", expected, found);
        }
        Ok(Some(manifest))
    }

    /// Every subtask is there, so that their ranges of key groups are all key groups; and in-flight marks make sense.
    fn operators(&mut self, manifest: &Manifest) {
        let key = &self.checkpoint.manifest;
        for operator in &manifest.operators {
            let place = format!("operator {:?}", operator.uid.as_str());
            let there: BTreeSet<u32> = operator.subtasks.iter().map(|subtask| subtask.index).collect();
            let missing: Vec<u32> = (0..operator.parallelism)
                .filter(|index| !there.contains(index))
                .collect();
            if !missing.is_empty() {
                let ranges = missing
                    .iter()
                    .map(|&index| operator.max_parallelism.range_of(index, operator.parallelism));
                let ranges: Vec<String> = ranges.map(|range| range.to_string()).collect();
                let expected = format!("all {} subtasks", operator.parallelism);
                let found = format!(
                    "none of subtasks {missing:?}: key groups {} are missing",
                    ranges.join(", ")
                );
                self.damaged(key, place.clone(), expected, found);
            }
            for subtask in &operator.subtasks {
                for channel in subtask.in_flight.iter().filter(|channel| !channel.marks_fit()) {
                    let place = format!("{place}, {}", channel.state(&operator.uid, subtask.index).name);
                    let expected = format!("marks in order among {} records", channel.rows);
                    let found = format!("{:?}", channel.marks);
                    self.damaged(key, place, expected, found);
                }
            }
        }
    }

    async fn object(&mut self, manifest: &Manifest, object: &ObjectRef) -> Result<(), StateError> {
        let ObjectRef { key, len, .. } = object;
        let expected = format!("an object of {len} bytes");
        match self.lengths.get(key) {
            None => {
                self.damaged(key, "the object", expected, "no such object");
                return Ok(());
            }
            Some(found) if found != len => {
                self.damaged(key, "the object", expected, format!("{found} bytes"));
                return Ok(());
            }
            Some(_) => {}
        }
        self.found.summary.objects += 1;
        self.found.summary.bytes += len;
        match find_object(self.blob, key, *len).await {
            Ok(found) if found == *object => {}
            Ok(found) => {
                let place = |object: &ObjectRef| {
                    format!(
                        "an index of {} bytes at byte {} with checksum {}",
                        object.index_len, object.index_offset, object.index_checksum
                    )
                };
                self.damaged(key, "the footer", place(object), place(&found));
            }
            Err(error) => {
                let found = what_is_wrong(error)?;
                self.damaged(key, "the footer", "what its writer wrote", found);
            }
        }
        match ObjectIndex::load(self.blob, object).await {
            Ok(index) => self.pages(manifest, object, &index).await?,
            Err(error) => {
                let expected = format!("an index with checksum {}", object.index_checksum);
                let found = what_is_wrong(error)?;
                self.damaged(key, "the index", expected, found);
            }
        }
        Ok(())
    }

    async fn pages(
        &mut self,
        manifest: &Manifest,
        object: &ObjectRef,
        index: &ObjectIndex,
    ) -> Result<(), StateError> {
        let key = &object.key;
        let all: Vec<&PageEntry> = index.pages.iter().collect();
        for run in runs_of(&all) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else {
                continue;
            };
            let range = first.offset..last.offset + last.len;
            let mut bytes = match self.blob.get_range(key, range.clone()).await {
                Ok(bytes) => bytes,
                Err(error) => {
                    let found = what_is_wrong(error.into())?;
                    let place = format!("bytes {} to {}", range.start, range.end);
                    self.damaged(key, place, "pages", found);
                    continue;
                }
            };
            for page in run {
                let len = usize::try_from(page.len).map_or(bytes.len(), |len| len.min(bytes.len()));
                let bytes = bytes.split_to(len);
                self.page(manifest, key, page, bytes);
            }
        }
        Ok(())
    }

    fn page(&mut self, manifest: &Manifest, key: &BlobKey, page: &PageEntry, bytes: Bytes) {
        let PageEntry { state, .. } = page;
        let place = format!(
            "the page of {} at byte {}, {} bytes",
            describe(state),
            page.offset,
            page.len
        );
        let found = Digest::of(&bytes);
        if found != page.checksum {
            let expected = format!("checksum {}", page.checksum);
            return self.damaged(key, place, expected, format!("checksum {found}"));
        }
        let keyed = state.kind != StateKind::InFlight;
        let look = match look_at_page(bytes, keyed) {
            Ok(look) => look,
            Err(error) => return self.damaged(key, place, "a page of rows", error.to_string()),
        };
        if look.rows != page.rows {
            let expected = format!("{} rows", page.rows);
            return self.damaged(key, place, expected, format!("{} rows", look.rows));
        }
        self.found.summary.pages += 1;
        let Some(operator) = manifest.operator(&state.operator) else {
            let expected = format!("an operator {:?} in the manifest", state.operator.as_str());
            return self.damaged(key, place, expected, "none");
        };
        if !keyed {
            self.found.summary.in_flight_rows += look.rows;
            let seen = self.in_flight.entry(state.clone()).or_insert((0, key.clone()));
            seen.0 += look.rows;
            return;
        }
        self.found.summary.rows += look.rows;
        if let Some((expected, found)) =
            wrong_groups(operator, page, look.groups.map(|(low, high)| (low.0, high.0)))
        {
            self.damaged(key, place, expected, found);
        }
    }

    /// Every channel has the records that the manifest says, and there are no others.
    fn records_in_flight(&mut self, manifest: &Manifest) {
        // Damaged pages were reported, and their records are missing here.
        let is_whole = self.found.damage.is_empty();
        let mut channels: BTreeMap<StateId, u64> = BTreeMap::new();
        for operator in &manifest.operators {
            for subtask in &operator.subtasks {
                for channel in &subtask.in_flight {
                    let state = channel.state(&operator.uid, subtask.index);
                    *channels.entry(state).or_default() += channel.rows;
                }
            }
        }
        for (state, (found, key)) in std::mem::take(&mut self.in_flight) {
            let expected = channels.remove(&state).unwrap_or(0);
            if found != expected && is_whole {
                let found = format!("{found} records");
                self.damaged(&key, describe(&state), format!("{expected} records"), found);
            }
        }
        let key = &self.checkpoint.manifest;
        for (state, expected) in channels.into_iter().filter(|(_, rows)| *rows > 0 && is_whole) {
            self.damaged(key, describe(&state), format!("{expected} records"), "none");
        }
    }

    /// As many keyed rows as subtasks handed over, in objects as large as they were.
    fn rows(&mut self, manifest: &Manifest) {
        if !self.found.damage.is_empty() {
            return;
        }
        let objects: u64 = manifest.objects.iter().map(|object| object.len).sum();
        let (rows, written) = (self.found.summary.rows, manifest.written);
        if (rows, objects) != (written.rows, written.bytes) {
            let say = |rows: u64, bytes: u64| format!("{rows} keyed rows in objects of {bytes} bytes");
            let key = &self.checkpoint.manifest;
            self.damaged(
                key,
                "all objects",
                say(written.rows, written.bytes),
                say(rows, objects),
            );
        }
    }
}

/// Expected and found, if the key groups of a page's rows are not what its entry and its operator allow.
fn wrong_groups(
    operator: &OperatorEntry,
    page: &PageEntry,
    found: Option<(u32, u32)>,
) -> Option<(String, String)> {
    let (low, high) = found?;
    let max = operator.max_parallelism.get();
    let (first, last) = (page.first_group.0, page.last_group.0);
    let say = |low: u32, high: u32| format!("key groups {low} to {high}");
    if !operator.keyed {
        return Some((
            format!("no keyed state: operator {:?} has none", operator.uid.as_str()),
            say(low, high),
        ));
    }
    if high >= max {
        return Some((format!("key groups below {max}"), say(low, high)));
    }
    ((low, high) != (first, last)).then(|| (say(first, last), say(low, high)))
}

fn describe(state: &StateId) -> String {
    let operator: &Uid = &state.operator;
    format!("state {:?} of operator {:?}", state.name, operator.as_str())
}

/// What is there instead, if an error says that something else is; the error itself if the store did not answer.
fn what_is_wrong(error: StateError) -> Result<String, StateError> {
    match error {
        StateError::Storage(error) => match error.kind() {
            StorageErrorKind::NotFound => Ok("no such object".into()),
            StorageErrorKind::Damaged => Ok(error.to_string()),
            _ => Err(error.into()),
        },
        StateError::Damaged { reason, .. } => Ok(reason),
        error @ StateError::NewerFormat { .. } => Ok(error.to_string()),
        error => Err(error),
    }
}
