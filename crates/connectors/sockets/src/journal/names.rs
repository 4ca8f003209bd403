//! The names of a journal's files: `journal-<source>-g<generation>-a<attempt>-<start>.log`, hidden as `.<name>.inprogress` while
//! the copy that an attempt begins with is written. `<source>` is a hash of the job's name and the source's uid.

use super::file_failure;
use rivermark_env::Files;
use rivermark_runtime::SubtaskInfo;
use rivermark_types::Result;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

const HIDDEN: &str = ".inprogress";

/// Which attempt wrote a file. A later one is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owner {
    pub(crate) generation: u64,
    pub(crate) attempt: u32,
}

/// The journal of one source, as one attempt writes it.
#[derive(Clone, Debug)]
pub(crate) struct JournalName {
    dir: PathBuf,
    source: String,
    owner: Owner,
}

impl JournalName {
    pub(crate) fn new(dir: &Path, info: &SubtaskInfo) -> JournalName {
        let uid = info.uid.as_ref().map_or("", |uid| uid.as_str());
        let source = xxh3_64(format!("{}\n{uid}", info.job).as_bytes());
        JournalName {
            dir: dir.to_owned(),
            source: format!("{source:016x}"),
            owner: Owner {
                generation: info.generation.0,
                attempt: info.attempt.0,
            },
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn owner(&self) -> Owner {
        self.owner
    }

    fn file_name(&self, start: u64) -> String {
        let Owner { generation, attempt } = self.owner;
        format!("journal-{}-g{generation}-a{attempt}-{start:020}.log", self.source)
    }

    /// The file whose first record stands at `start`.
    pub(super) fn segment(&self, start: u64) -> PathBuf {
        self.dir.join(self.file_name(start))
    }

    /// The same while it is written.
    pub(super) fn hidden(&self, start: u64) -> PathBuf {
        self.dir.join(format!(".{}{HIDDEN}", self.file_name(start)))
    }

    /// What a name in the directory is, if it is of this journal.
    fn classify(&self, name: &str) -> Option<Segment> {
        let hidden = name.strip_prefix('.').and_then(|name| name.strip_suffix(HIDDEN));
        let plain = hidden.unwrap_or(name);
        let rest = plain
            .strip_prefix("journal-")?
            .strip_prefix(self.source.as_str())?;
        let (generation, rest) = rest.strip_prefix("-g")?.split_once("-a")?;
        let (attempt, start) = rest.strip_suffix(".log")?.split_once('-')?;
        Some(Segment {
            path: self.dir.join(name),
            owner: Owner {
                generation: generation.parse().ok()?,
                attempt: attempt.parse().ok()?,
            },
            start: start.parse().ok()?,
            hidden: hidden.is_some(),
        })
    }
}

/// A file of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) owner: Owner,
    pub(super) start: u64,
    pub(super) hidden: bool,
}

impl Segment {
    pub(super) fn name(&self) -> SegmentName {
        SegmentName {
            path: self.path.clone(),
            start: self.start,
        }
    }
}

/// A file to read: where its first record stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentName {
    pub(super) path: PathBuf,
    pub(super) start: u64,
}

/// All files of the journal.
pub(super) async fn find(files: &dyn Files, name: &JournalName) -> Result<Vec<Segment>> {
    let entries = files.list(&name.dir).await.map_err(file_failure)?;
    let files = entries.iter().filter(|entry| !entry.is_dir);
    Ok(files.filter_map(|entry| name.classify(&entry.name)).collect())
}
