//! `rivermark checkpoint list`: the checkpoints that count, oldest first.

use super::Target;
use crate::page::{Colour, paint, print, print_json, table};
use crate::place::{Place, in_world};
use crate::{Outcome, Verdict};
use rivermark::wording::{count, date, size};
use rivermark_state::{CheckpointRef, Manifest};
use rivermark_storage::Blob;
use rivermark_types::SnapshotKind;
use serde::Serialize;

/// What is said of a checkpoint. A manifest that cannot be read is `checkpoint fsck`'s business: its numbers are missing here.
#[derive(Serialize)]
struct Listed {
    id: u64,
    kind: &'static str,
    decided_at_ms: i64,
    generation: Option<u64>,
    bytes: Option<u64>,
    rows: Option<u64>,
    objects: Option<usize>,
    in_flight_rows: Option<u64>,
}

#[derive(Serialize)]
struct Listing {
    job: String,
    generation: u64,
    finished: bool,
    checkpoints: Vec<Listed>,
}

impl Listing {
    fn is_readable(&self) -> bool {
        self.checkpoints.iter().all(|listed| listed.bytes.is_some())
    }
}

pub(super) fn run(target: &Target) -> Outcome {
    let listing = in_world(async |env| {
        let place = Place::find(env, &target.dir).await?;
        let head = place.head().await?;
        let mut known: Vec<&CheckpointRef> = head.checkpoints.iter().chain(&head.savepoints).collect();
        known.sort_by_key(|checkpoint| checkpoint.id);
        let mut checkpoints = Vec::with_capacity(known.len());
        for checkpoint in known {
            checkpoints.push(listed(&place, checkpoint).await);
        }
        Ok(Listing {
            job: head.job.as_str().to_owned(),
            generation: head.generation.0,
            finished: head.finished,
            checkpoints,
        })
    })?;
    match target.json {
        true => print_json(&listing)?,
        false => print(&text(&listing)),
    }
    match listing.is_readable() {
        true => Ok(Verdict::Well),
        false => Ok(Verdict::Found),
    }
}

async fn listed(place: &Place, checkpoint: &CheckpointRef) -> Listed {
    let bytes = place.blob.get(&checkpoint.manifest).await.ok();
    let manifest = bytes.and_then(|bytes| {
        Manifest::decode(checkpoint.manifest.as_str(), &bytes, Some(checkpoint.digest)).ok()
    });
    let manifest = manifest.as_ref();
    Listed {
        id: checkpoint.id.0,
        kind: kind(checkpoint.kind),
        decided_at_ms: checkpoint.decided_at.0,
        generation: manifest.map(|manifest| manifest.generation.0),
        bytes: manifest.map(|manifest| manifest.written.bytes),
        rows: manifest.map(|manifest| manifest.written.rows),
        objects: manifest.map(|manifest| manifest.objects.len()),
        in_flight_rows: manifest.map(in_flight_rows),
    }
}

fn in_flight_rows(manifest: &Manifest) -> u64 {
    let subtasks = manifest.operators.iter().flat_map(|operator| &operator.subtasks);
    subtasks
        .flat_map(|subtask| &subtask.in_flight)
        .map(|channel| channel.rows)
        .sum()
}

/// A kind in one word.
pub(super) fn kind(kind: SnapshotKind) -> &'static str {
    match kind {
        SnapshotKind::Checkpoint => "checkpoint",
        SnapshotKind::Savepoint => "savepoint",
        SnapshotKind::Final => "final",
    }
}

fn text(listing: &Listing) -> String {
    let Listing { job, checkpoints, .. } = listing;
    if checkpoints.is_empty() {
        let why = match listing.finished {
            true => "it has finished: there is nothing left to resume",
            false => "none is decided yet",
        };
        return format!("job {job:?} has no checkpoints: {why}\n");
    }
    let head = [
        "id",
        "kind",
        "decided (UTC)",
        "size",
        "rows",
        "in flight",
        "objects",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let or_unknown = |value: Option<String>| value.unwrap_or_else(|| "?".to_owned());
    rows.extend(checkpoints.iter().map(|listed| {
        vec![
            listed.id.to_string(),
            listed.kind.to_owned(),
            date(rivermark_types::Timestamp(listed.decided_at_ms)),
            or_unknown(listed.bytes.map(size)),
            or_unknown(listed.rows.map(count)),
            or_unknown(listed.in_flight_rows.map(count)),
            or_unknown(listed.objects.map(|objects| objects.to_string())),
        ]
    }));
    let mut text = table(&rows);
    if !listing.is_readable() {
        let note = "?: its manifest cannot be read; `rivermark checkpoint fsck` says why";
        text.push_str(&paint(Colour::Yellow, note));
        text.push('\n');
    }
    text
}
