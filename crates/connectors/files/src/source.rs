//! Which files are read, in which order, and how they are cut into splits.

use crate::bytes::SplitBytes;
use crate::file_failure;
use crate::reader::FileReader;
use crate::records::{Next, Records};
use crate::unpack::Packing;
use crate::watch::{Watched, is_temporary};
use rivermark_connector::{Found, Peek, ReaderCx, Source, SplitEnumerator, Undecodable};
use rivermark_data::Data;
use rivermark_env::{Env, Files};
use rivermark_format::{Csv, Decode, JsonLines, Lines};
use rivermark_types::{Failure, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const SPLIT_BYTES: u64 = 16 << 20;

/// Files as a source, in the order of their names, bounded unless it goes on [continuously](FileSource::continuously); of a directory, the files directly in it whose names begin with
/// neither `.` nor `_`. Files are read up to the length they have when the job starts, and must not change before that.
///
/// A record belongs to the split in which it begins. Files ending in `.gz` (gzip) or `.zst` (zstd) are unpacked, and one split each.
#[derive(Clone, Debug)]
pub struct FileSource<F> {
    paths: Vec<PathBuf>,
    format: F,
    split_bytes: u64,
    /// How often to look for new files; `None`: once.
    look_every: Option<Duration>,
    undecodable: Option<Undecodable>,
}

impl<T: Data> FileSource<Csv<T>> {
    /// CSV with a header line, to rows with fields of the columns' names. A file or a directory.
    pub fn csv(path: impl Into<PathBuf>) -> FileSource<Csv<T>> {
        FileSource::new([path.into()], Csv::default())
    }

    /// Fields in quotes may hold line breaks; each file is then one split.
    pub fn with_quoted_newlines(mut self) -> FileSource<Csv<T>> {
        self.format = self.format.with_quoted_newlines();
        self
    }
}

impl FileSource<Lines> {
    /// Lines of text. A file or a directory.
    pub fn lines(path: impl Into<PathBuf>) -> FileSource<Lines> {
        FileSource::new([path.into()], Lines)
    }
}

impl<T: Data> FileSource<JsonLines<T>> {
    /// A JSON object a line. A file or a directory.
    pub fn json(path: impl Into<PathBuf>) -> FileSource<JsonLines<T>> {
        FileSource::new([path.into()], JsonLines::default())
    }
}

impl<F: Decode> FileSource<F> {
    /// Files and directories, in this order, in any format.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>, format: F) -> FileSource<F> {
        FileSource {
            paths: paths.into_iter().collect(),
            format,
            split_bytes: SPLIT_BYTES,
            look_every: None,
            undecodable: None,
        }
    }

    /// Goes on looking for new files, this often, without an end. Each file is read once, whole: it is taken when two looks in
    /// a row find it with the same length (and not empty), in the order of names within a look. Names that begin with `.` or
    /// `_`, or end as unfinished files do (`.tmp`, `.part`, `~` and the like), are left alone: the safest way to bring a file
    /// is to write it under such a name and rename it.
    ///
    /// A file that changes after it was taken fails the job with its name. It may be removed when it has been read; a new
    /// file of the same name is read again if a look has missed the old one in between. Where event time matters, give the
    /// source as many readers as keep busy: one without a file holds the watermark back.
    ///
    /// ```
    /// # use rivermark_files::FileSource;
    /// # use std::time::Duration;
    /// let source = FileSource::lines("inbox/").continuously(Duration::from_secs(1));
    /// ```
    pub fn continuously(mut self, interval: Duration) -> FileSource<F> {
        self.look_every = Some(interval.max(Duration::from_millis(1)));
        self
    }

    /// What becomes of records that cannot be decoded; without it the job's setting (`rivermark.source.on-undecodable`)
    /// counts, by which the first one fails the job.
    ///
    /// ```
    /// # use rivermark_files::FileSource;
    /// # use rivermark_connector::Undecodable;
    /// # use rivermark_format::JsonLines;
    /// let orders: FileSource<JsonLines<(u64, String)>> =
    ///     FileSource::json("orders/").on_undecodable(Undecodable::Skip);
    /// ```
    pub fn on_undecodable(mut self, what: Undecodable) -> FileSource<F> {
        self.undecodable = Some(what);
        self
    }

    /// Cuts files into splits of this size; 16 MB if not set.
    pub fn with_split_bytes(mut self, bytes: u64) -> FileSource<F> {
        self.split_bytes = bytes.max(1);
        self
    }
}

/// A part of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSplit {
    /// The file.
    pub path: PathBuf,
    /// The first byte of the part.
    pub start: u64,
    /// One past its last byte; `None` for a file read as a whole.
    pub end: Option<u64>,
    /// The length of the file when it was found: what comes behind is not read.
    pub len: u64,
}

impl fmt::Display for FileSplit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end {
            Some(end) if self.start > 0 || end < self.len => {
                write!(f, "{} bytes {}..{end}", self.path.display(), self.start)
            }
            _ => write!(f, "{}", self.path.display()),
        }
    }
}

impl<F: Decode> Source for FileSource<F> {
    type Row = F::Row;
    type Split = FileSplit;
    type Reader = FileReader<F>;
    type Enumerator = FileEnumerator;

    fn name(&self) -> String {
        match self.paths.as_slice() {
            [path] => format!("files {}", path.display()),
            paths => format!("files ({} paths)", paths.len()),
        }
    }

    fn undecodable(&self) -> Option<Undecodable> {
        self.undecodable
    }

    fn reader(&self, cx: ReaderCx) -> Result<FileReader<F>> {
        Ok(FileReader::new(self.format.clone(), cx))
    }

    fn enumerator(&self, env: &Env) -> Result<FileEnumerator> {
        Ok(FileEnumerator {
            files: env.files().clone(),
            paths: self.paths.clone(),
            split_bytes: self.format.is_splittable().then_some(self.split_bytes),
            look_every: self.look_every,
            found: false,
            watched: Watched::default(),
        })
    }

    async fn peek(&self, env: &Env, split: &FileSplit) -> Result<Peek<F::Row>> {
        Ok(self.first_row(env, split).await.unwrap_or(Peek::Unknown))
    }
}

impl<F: Decode> FileSource<F> {
    async fn first_row(&self, env: &Env, split: &FileSplit) -> Result<Peek<F::Row>> {
        let mut bytes = SplitBytes::open(env.files(), split, 0, &self.format).await?;
        let mut records = Records::new(self.format.clone(), split, 0, bytes.beginning());
        loop {
            match records.next()? {
                Next::Row { row, .. } => return Ok(Peek::First(row)),
                Next::Undecodable { .. } => {}
                Next::Done => return Ok(Peek::Empty),
                Next::NeedsBytes => match bytes.next().await? {
                    Some(more) => records.push(&more),
                    None => records.end(),
                },
            }
        }
    }
}

/// Lists files and cuts them: once, or again and again.
pub struct FileEnumerator {
    files: Arc<dyn Files>,
    paths: Vec<PathBuf>,
    /// `None`: files are read as a whole.
    split_bytes: Option<u64>,
    look_every: Option<Duration>,
    found: bool,
    watched: Watched,
}

impl FileEnumerator {
    /// The files behind a path the user gave, with their lengths.
    async fn files_of(&self, path: &Path) -> Result<Vec<(PathBuf, u64)>> {
        let Some(meta) = self.files.metadata(path).await.map_err(file_failure)? else {
            return Err(Failure::invalid(format!(
                "there is no file or directory {}: check the path given to the source",
                path.display()
            )));
        };
        if !meta.is_dir {
            return Ok(vec![(path.to_owned(), meta.len)]);
        }
        let mut entries = self.files.list(path).await.map_err(file_failure)?;
        entries.sort();
        let watching = self.look_every.is_some();
        let left_alone = |name: &str| name.starts_with(['.', '_']) || watching && is_temporary(name);
        let files = entries
            .into_iter()
            .filter(|entry| !entry.is_dir && !left_alone(&entry.name));
        Ok(files.map(|entry| (path.join(&entry.name), entry.len)).collect())
    }

    fn cut(&self, path: &Path, len: u64, splits: &mut Vec<FileSplit>) {
        let whole = FileSplit {
            path: path.to_owned(),
            start: 0,
            end: None,
            len,
        };
        let Some(size) = self.split_bytes.filter(|_| Packing::of(path).is_none()) else {
            splits.push(whole);
            return;
        };
        let mut start = 0;
        while start < len {
            let end = start.saturating_add(size).min(len);
            splits.push(FileSplit {
                start,
                end: Some(end),
                ..whole.clone()
            });
            start = end;
        }
    }
}

impl SplitEnumerator for FileEnumerator {
    type Split = FileSplit;

    async fn discover(&mut self, _parallelism: u32) -> Result<Found<FileSplit>> {
        let watching = self.look_every.is_some();
        let mut files = Vec::new();
        if watching || !self.found {
            for path in &self.paths {
                files.extend(self.files_of(path).await?);
            }
        }
        if watching {
            files = self.watched.look(files)?;
            self.watched.prepare_snapshot();
        }
        let mut splits = Vec::new();
        for (file, len) in files.into_iter().filter(|(_, len)| *len > 0) {
            self.cut(&file, len, &mut splits);
        }
        self.found = true;
        Ok(Found {
            splits,
            exhausted: !watching,
        })
    }

    fn look_again(&self) -> Option<Duration> {
        self.look_every
    }

    fn snapshot(&self) -> Result<Value> {
        Ok(match self.look_every {
            Some(_) => self.watched.snapshot(),
            None => Value::Bool(self.found),
        })
    }

    fn restore(&mut self, state: Value) -> Result<()> {
        if self.look_every.is_some() {
            return self.watched.restore(&state);
        }
        let found = state.as_bool();
        self.found =
            found.ok_or_else(|| Failure::invalid(format!("{state} is no state of a file source")))?;
        Ok(())
    }
}
