//! The journal of a socket: what was received, on the local disk, before anybody sees it.
//!
//! The stream of whole records is cut into frames (`frames`), each with a checksum, and these into files (`names`), each named
//! by its writer (generation, attempt) and by where its first byte stands in the stream. A writer only ever appends to files
//! that it has created. So an attempt begins by copying what it still needs of its predecessor's files into one of its own,
//! which appears under its name when it is whole and synced; only then are older ones removed. The newest writer's files
//! are the journal; whatever a dead attempt still writes is in files that nobody reads.
//!
//! What is synced, and why: a frame before its records are handed on; a new file's name before its first frame counts; the copy
//! before it takes its name, and that name before the originals go (also because their last frames may never have been
//! synced, and rows of them are about to be emitted again). Removals are not: what reappears lies before the checkpoint.

mod frames;
mod names;

pub(crate) use names::JournalName;

use frames::{FrameReader, frame};
use names::{Segment, SegmentName};
use rivermark_env::{FileWriter, Files, create_dir_durably};
use rivermark_types::{ErrorKind, Failure, Result};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Copied at once.
const COPY_BYTES: usize = 256 << 10;

/// What a file operation's failure means for the job. The error's own text names operation and path.
fn file_failure(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Failure::external(format!(
                "{error}: the disk of the journal is full: free space there, or put the journal elsewhere"
            ))
        }
        _ => Failure::external(error.to_string()),
    }
}

/// The journal of one attempt.
pub(crate) struct Journal {
    files: Arc<dyn Files>,
    name: JournalName,
    roll_bytes: u64,
    /// Written to their end, oldest first: where each ends in the stream.
    closed: VecDeque<(PathBuf, u64)>,
    current: Box<dyn FileWriter>,
    path: PathBuf,
    /// The length of the current file's records.
    written: u64,
    /// The first file, with what was there when the attempt began.
    first: PathBuf,
    /// Where the next record stands.
    end: u64,
}

impl Journal {
    /// Takes over what earlier attempts left from a position on, and begins to write.
    pub(crate) async fn open(
        files: Arc<dyn Files>,
        name: JournalName,
        roll_bytes: u64,
        position: u64,
    ) -> Result<Journal> {
        create_dir_durably(&*files, name.dir())
            .await
            .map_err(file_failure)?;
        let found = names::find(&*files, &name).await?;
        let chain = chain(&name, &found, position)?;
        // Copies that were begun by attempts, and by a start that did not get further than this.
        for begun in found.iter().filter(|segment| segment.hidden) {
            remove(&*files, &begun.path).await?;
        }
        let hidden = name.hidden(position);
        let mut copy = files.create_new(&hidden).await.map_err(file_failure)?;
        let end = copy_frames(&*files, &chain, position, &mut *copy).await?;
        if end < position {
            return Err(missing(&name, position, &format!("it ends at byte {end}")));
        }
        copy.sync().await.map_err(file_failure)?;
        let path = name.segment(position);
        files.rename(&hidden, &path).await.map_err(file_failure)?;
        files.sync_dir(name.dir()).await.map_err(file_failure)?;
        for old in found {
            remove(&*files, &old.path).await?;
        }
        Ok(Journal {
            files,
            name,
            roll_bytes,
            closed: VecDeque::new(),
            current: copy,
            first: path.clone(),
            path,
            written: end - position,
            end,
        })
    }

    /// Where the next record will stand.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// What was there when the attempt began. To be read before anything is appended.
    pub(crate) async fn replay(&mut self) -> Result<FrameReader> {
        let start = self.end - self.written;
        FrameReader::open(&*self.files, &self.first, start).await
    }

    /// Writes records, durably.
    pub(crate) async fn append(&mut self, records: &[u8]) -> Result<()> {
        if self.written >= self.roll_bytes {
            self.roll().await?;
        }
        let bytes = frame(self.end, records);
        self.current.write(bytes).await.map_err(file_failure)?;
        self.current.sync().await.map_err(file_failure)?;
        self.written += records.len() as u64;
        self.end += records.len() as u64;
        Ok(())
    }

    async fn roll(&mut self) -> Result<()> {
        let path = self.name.segment(self.end);
        self.current = self.files.create_new(&path).await.map_err(file_failure)?;
        self.files.sync_dir(self.name.dir()).await.map_err(file_failure)?;
        self.closed
            .push_back((std::mem::replace(&mut self.path, path), self.end));
        self.written = 0;
        Ok(())
    }

    /// Nobody will read what stands before this any more.
    pub(crate) async fn trim(&mut self, upto: u64) -> Result<()> {
        while self.closed.front().is_some_and(|(_, end)| *end <= upto) {
            if let Some((path, _)) = self.closed.pop_front() {
                remove(&*self.files, &path).await?;
            }
        }
        Ok(())
    }

    /// The stream has ended, and a decided checkpoint has all of it: nothing is left for anybody to read.
    pub(crate) async fn remove_all(self) -> Result<()> {
        for (path, _) in &self.closed {
            remove(&*self.files, path).await?;
        }
        remove(&*self.files, &self.path).await
    }
}

async fn remove(files: &dyn Files, path: &Path) -> Result<()> {
    match files.remove_file(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_failure(error)),
        _ => Ok(()),
    }
}

fn missing(name: &JournalName, position: u64, what: &str) -> Failure {
    Failure::invalid(format!(
        "the checkpoint has the stream up to byte {position}, but its journal in {} does not go on there: {what}. Put the \
         journal back, or start with --from none and an empty directory",
        name.dir().display()
    ))
}

/// The newest earlier writer's files from the one with the position on.
fn chain(name: &JournalName, found: &[Segment], position: u64) -> Result<Vec<SegmentName>> {
    let ours = name.owner();
    let theirs = |segment: &&Segment| segment.owner > ours || segment.owner == ours && !segment.hidden;
    if let Some(newer) = found.iter().find(theirs) {
        let path = newer.path.display();
        if newer.owner.generation > name.owner().generation {
            let (theirs, ours) = (newer.owner.generation, name.owner().generation);
            let message = format!(
                "{path} was written by generation {theirs}, this is generation {ours}: a newer start owns the job"
            );
            return Err(Failure::new(ErrorKind::Fenced, message));
        }
        return Err(Failure::invalid(format!(
            "{path} was written by another run: empty the directory, or give the journal another one"
        )));
    }
    let whole = found.iter().filter(|segment| !segment.hidden);
    let owner = whole.clone().map(|segment| segment.owner).max();
    let mut chain: Vec<SegmentName> = whole
        .filter(|segment| Some(segment.owner) == owner)
        .map(Segment::name)
        .collect();
    chain.sort_by_key(|segment| segment.start);
    match chain.iter().rposition(|segment| segment.start <= position) {
        Some(first) => Ok(chain.split_off(first)),
        None if chain.is_empty() && position == 0 => Ok(chain),
        None if chain.is_empty() => Err(missing(name, position, "there is none")),
        None if position == 0 => Err(Failure::invalid(format!(
            "the journal in {} is of an earlier run, and trimmed: go on with --from latest, or empty the directory",
            name.dir().display()
        ))),
        None => {
            let begins = format!(
                "it begins at byte {} (it is trimmed behind each checkpoint)",
                chain[0].start
            );
            Err(missing(name, position, &begins))
        }
    }
}

/// Copies the records from a position on; tells where they end.
async fn copy_frames(
    files: &dyn Files,
    chain: &[SegmentName],
    position: u64,
    copy: &mut dyn FileWriter,
) -> Result<u64> {
    let mut end = chain.first().map_or(position, |segment| segment.start);
    let mut batch = Vec::new();
    for (at, segment) in chain.iter().enumerate() {
        if segment.start != end {
            let before = at.checked_sub(1).and_then(|before| chain.get(before));
            let path = before.unwrap_or(segment).path.display();
            return Err(Failure::new(
                ErrorKind::Damaged,
                format!(
                    "{path} is damaged: its records end at byte {end} of the stream instead of {}",
                    segment.start
                ),
            ));
        }
        let mut frames = FrameReader::open(files, &segment.path, segment.start).await?;
        while let Some((offset, records)) = frames.next().await? {
            end = offset + records.len() as u64;
            let skipped = usize::try_from(position.saturating_sub(offset)).unwrap_or(usize::MAX);
            batch.extend_from_slice(records.get(skipped..).unwrap_or_default());
            if batch.len() >= COPY_BYTES {
                let bytes = frame(end - batch.len() as u64, &std::mem::take(&mut batch));
                copy.write(bytes).await.map_err(file_failure)?;
            }
        }
    }
    if !batch.is_empty() {
        let bytes = frame(end - batch.len() as u64, &batch);
        copy.write(bytes).await.map_err(file_failure)?;
    }
    Ok(end)
}

#[cfg(test)]
mod tests;
