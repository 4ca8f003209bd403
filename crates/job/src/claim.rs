//! The start of a run: reads the job's head, checks that the start is what the user meant, and takes the next generation
//! by compare-and-set. From then on every older process of the job is fenced.

use crate::retry::patiently;
use crate::storage::JobStorage;
use bytes::Bytes;
use rivermark_env::Env;
use rivermark_state::{CheckpointRef, JobHead, Manifest};
use rivermark_storage::{CasOutcome, Head};
use rivermark_types::{CheckpointId, ErrorKind, Failure, Generation, JobName, Result, SnapshotKind};
use std::fmt;

/// Where a run starts from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StartFrom {
    /// The user did not say: an error where there are decided checkpoints.
    #[default]
    Unsaid,
    /// The newest decided checkpoint of the job; from the beginning if there is none yet.
    Latest,
    /// The beginning; the decided checkpoints are kept.
    Beginning,
    /// This decided checkpoint.
    Checkpoint(CheckpointId),
}

impl fmt::Display for StartFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartFrom::Unsaid => f.write_str("nothing said"),
            StartFrom::Latest => f.write_str("latest"),
            StartFrom::Beginning => f.write_str("none"),
            StartFrom::Checkpoint(id) => write!(f, "{id}"),
        }
    }
}

/// A start, as the user asked for it.
#[derive(Clone, Debug, Default)]
pub struct StartOptions {
    /// Where from.
    pub from: StartFrom,
    /// Whether what exactly-once sinks have published after that checkpoint may be published again.
    pub accept_duplicates: bool,
    /// Whether state that no operator claims is dropped.
    pub ignore_unclaimed: bool,
}

/// The head as this process last wrote or read it.
pub(crate) struct OwnedHead {
    pub(crate) version: u64,
    pub(crate) head: JobHead,
    /// Checkpoints that it lists no more, until they are deleted.
    pub(crate) unlisted: Vec<CheckpointRef>,
}

/// What a start found: everything is read and nothing written yet, so that a start that cannot go on fences nobody.
pub(crate) struct Found {
    version: Option<u64>,
    /// The head that will take the next generation.
    next: JobHead,
    /// The checkpoint to start from, read and checked.
    pub(crate) from: Option<Manifest>,
    /// The job was to be resumed, but has read and committed everything: there is nothing left to do.
    pub(crate) finished: bool,
}

/// How often a start begins anew because an older process that is still at work replaced what it was reading.
const FIND_ATTEMPTS: usize = 16;

/// Reads the job's head, and the checkpoint that the user means.
pub(crate) async fn find(
    env: &Env,
    storage: &JobStorage,
    job: &JobName,
    options: &StartOptions,
    has_exactly_once_sinks: bool,
) -> Result<Found> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let head = patiently(env, || storage.cas.head()).await?;
        let version = head.as_ref().map(|head| head.version);
        let found = find_from(env, storage, job, options, has_exactly_once_sinks, head).await;
        if !matches!(&found, Err(failure) if failure.kind == ErrorKind::Damaged) || attempts >= FIND_ATTEMPTS
        {
            return found;
        }
        // Not damaged, but deleted, if a newer decision does not name it any more.
        let now = patiently(env, || storage.cas.head()).await?;
        if now.map(|head| head.version) == version {
            return found;
        }
    }
}

/// Reads the checkpoint that the user means out of a head.
async fn find_from(
    env: &Env,
    storage: &JobStorage,
    job: &JobName,
    options: &StartOptions,
    has_exactly_once_sinks: bool,
    head: Option<Head>,
) -> Result<Found> {
    let old = head.as_ref().map(|head| parse_head(head, job)).transpose()?;
    let finished = options.from == StartFrom::Latest && old.as_ref().is_some_and(|old| old.finished);
    let from = match &old {
        Some(_) if finished => None,
        Some(old) => choose(env, storage, old, options, has_exactly_once_sinks).await?,
        None => refuse_missing(options)?,
    };
    let next = next_head(env, job, old, from.as_ref(), options);
    let version = head.map(|head| head.version);
    let next = JobHead { finished, ..next };
    Ok(Found {
        version,
        next,
        from,
        finished,
    })
}

/// Takes the next generation: every older process of the job is fenced from now on.
pub(crate) async fn claim(env: &Env, storage: &JobStorage, found: Found) -> Result<OwnedHead> {
    let version = take(env, storage, found.version, &found.next).await?;
    storage.sweep_temporaries().await?;
    Ok(OwnedHead {
        version,
        head: found.next,
        unlisted: vec![],
    })
}

fn parse_head(head: &Head, job: &JobName) -> Result<JobHead> {
    let parsed = JobHead::decode("the job's head", &head.bytes)?;
    if parsed.job != *job {
        return Err(Failure::invalid(format!(
            "this storage belongs to job {:?}, not to {:?}: choose another execution.checkpointing.dir or set \
             pipeline.name to that job's name",
            parsed.job.as_str(),
            job.as_str()
        )));
    }
    Ok(parsed)
}

fn refuse_missing(options: &StartOptions) -> Result<Option<Manifest>> {
    match options.from {
        StartFrom::Checkpoint(id) => Err(Failure::invalid(format!(
            "there is no checkpoint {id}: the job has never run with this directory; start it without --from"
        ))),
        _ => Ok(None),
    }
}

/// The checkpoint the user means, read whole. A damaged one stops the start where going back would write again what
/// exactly-once sinks have published; else it falls back by itself, loudly.
async fn choose(
    env: &Env,
    storage: &JobStorage,
    head: &JobHead,
    options: &StartOptions,
    has_exactly_once_sinks: bool,
) -> Result<Option<Manifest>> {
    let current: Vec<_> = head
        .checkpoints
        .iter()
        .filter(|c| c.id > head.lineage_start)
        .collect();
    let wanted = match options.from {
        StartFrom::Beginning => return Ok(None),
        StartFrom::Unsaid if head.checkpoints.is_empty() => return Ok(None),
        StartFrom::Unsaid => return Err(refuse_unsaid(head)),
        StartFrom::Latest => current
            .iter()
            .rev()
            .find(|c| c.kind != SnapshotKind::Savepoint)
            .map(|c| c.id),
        StartFrom::Checkpoint(id) => {
            let newer = current
                .iter()
                .any(|c| c.id > id && c.kind != SnapshotKind::Savepoint);
            if newer && has_exactly_once_sinks && !options.accept_duplicates {
                return Err(Failure::invalid(format!(
                    "checkpoint {id} is not the newest: its exactly-once sinks have published what came after it, and \
                     would again; start with --from latest, or with --from {id} --accept-duplicates"
                )));
            }
            Some(id)
        }
    };
    let Some(wanted) = wanted else { return Ok(None) };
    let mut candidates: Vec<_> = head.checkpoints.iter().filter(|c| c.id <= wanted).collect();
    let Some(newest) = candidates.pop().filter(|c| c.id == wanted) else {
        let kept: Vec<String> = head.checkpoints.iter().map(|c| c.id.to_string()).collect();
        return Err(Failure::invalid(format!(
            "there is no decided checkpoint {wanted}; there are: {}",
            kept.join(", ")
        )));
    };
    match read_manifest(env, storage, newest).await {
        Err(damage) if damage.kind == ErrorKind::Damaged => {
            let may_go_back = options.accept_duplicates || !has_exactly_once_sinks;
            go_back(env, storage, head, wanted, may_go_back, damage)
                .await
                .map(Some)
        }
        read => read.map(Some),
    }
}

/// A decided checkpoint is damaged: the newest older one that can be read, where going back is allowed.
pub(crate) async fn go_back(
    env: &Env,
    storage: &JobStorage,
    head: &JobHead,
    from: CheckpointId,
    may_go_back: bool,
    damage: Failure,
) -> Result<Manifest> {
    let mut older: Vec<_> = head.checkpoints.iter().filter(|c| c.id < from).collect();
    if !may_go_back {
        let choice = older.last().map_or(String::new(), |c| {
            format!("--from {} --accept-duplicates or ", c.id)
        });
        return Err(damage.at(format!(
            "checkpoint {from} is damaged, and going back would write again what exactly-once sinks have published; \
             restore the object, or go back all the same with {choice}--from none"
        )));
    }
    let mut damage = damage;
    while let Some(candidate) = older.pop() {
        tracing::error!(%damage, going_back_to = %candidate.id, "checkpoint {from} is damaged");
        match read_manifest(env, storage, candidate).await {
            Err(failure) if failure.kind == ErrorKind::Damaged => damage = failure,
            read => return read,
        }
    }
    Err(damage.at(format!(
        "checkpoint {from} is damaged and there is no older one; start anew with --from none"
    )))
}

fn refuse_unsaid(head: &JobHead) -> Failure {
    let newest = head
        .checkpoints
        .last()
        .map_or_else(String::new, |c| format!(" (the newest is {})", c.id));
    Failure::invalid(format!(
        "job {:?} has decided checkpoints{newest}: say --from latest to resume it, or --from none to begin anew (they \
         are kept)",
        head.job.as_str()
    ))
}

/// Reads and checks a checkpoint's manifest; waits for a store that is away.
pub(crate) async fn read_manifest(
    env: &Env,
    storage: &JobStorage,
    checkpoint: &CheckpointRef,
) -> Result<Manifest> {
    let key = &checkpoint.manifest;
    let bytes = patiently(env, || storage.blob.get(key)).await?;
    Ok(Manifest::decode(key.as_str(), &bytes, Some(checkpoint.digest))?)
}

fn next_head(
    env: &Env,
    job: &JobName,
    old: Option<JobHead>,
    from: Option<&Manifest>,
    options: &StartOptions,
) -> JobHead {
    let mut head = old.unwrap_or_else(|| JobHead::new(job.clone(), env.random_u64()));
    head.generation = Generation(head.generation.0 + 1);
    // Two starts at once would write the same head, and each would find "its own": the run's number tells them apart.
    head.run = env.random_u64();
    match from {
        Some(manifest) => {
            head.seed = manifest.seed;
            // A branch that was gone back from is not to be resumed by the next start.
            head.checkpoints.retain(|c| c.id <= manifest.checkpoint);
            if manifest.checkpoint <= head.lineage_start {
                head.lineage_start = CheckpointId(0);
            }
        }
        None if options.from == StartFrom::Beginning => {
            head.lineage_start = CheckpointId(head.next_checkpoint.0.saturating_sub(1));
        }
        None => {}
    }
    head
}

/// Writes the new generation; of two starts at once, one wins. Waits for a store that is away.
async fn take(env: &Env, storage: &JobStorage, expected: Option<u64>, head: &JobHead) -> Result<u64> {
    let bytes = Bytes::from(head.encode()?);
    let once = || async {
        match storage.cas.compare_and_set(expected, bytes.clone()).await {
            CasOutcome::Committed { version } => Ok(Some(version)),
            CasOutcome::Conflict(_) => Ok(None),
            // The same write again: if it was done after all, it answers "committed".
            CasOutcome::NotWritten(error) | CasOutcome::Unknown(error) => Err(error),
        }
    };
    let (job, generation) = (head.job.as_str(), head.generation);
    let taken = patiently(env, once).await.map_err(|error| {
        Failure::from(error).at(format!(
            "generation {generation} of job {job:?} could not be taken"
        ))
    })?;
    taken.ok_or_else(|| {
        let message = format!("fenced: another start of job {job:?} took generation {generation}");
        Failure::new(ErrorKind::Fenced, message)
    })
}
