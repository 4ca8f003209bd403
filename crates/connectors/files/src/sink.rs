//! Files as an exactly-once sink: rows go to hidden files; a checkpoint closes and syncs them; its commit renames them.
//!
//! What is synced, and why: a file before `prepare` returns, and the directory once behind it (the hidden names must be there
//! after a loss of power, to be renamed); the directory after the renames of a commit and before it is reported (a finished
//! file must not become hidden again when nobody remembers its commit); the directory's own name in its parent, once per
//! attempt, before anything is written into it. Files whose rows no checkpoint will list are never synced.

use crate::directory::PartDirectory;
use crate::encode::{PartEncoder, PartFormat};
use crate::file_failure;
use crate::part::{PartOwner, hidden_name};
use rivermark_connector::{Sink, TwoPhaseSink};
use rivermark_data::Data;
use rivermark_env::{Env, FileWriter as OpenFile};
use rivermark_format::{Csv, JsonLines, Lines};
use rivermark_runtime::SubtaskInfo;
use rivermark_types::{CheckpointId, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

const ROLL_BYTES: u64 = 128 << 20;
/// Encoded bytes collected before they are written.
const WRITE_BYTES: usize = 256 << 10;
/// Rows encoded before the sizes are looked at.
const ROWS_AT_ONCE: usize = 256;

/// Files in a directory of their own. A new file begins with every checkpoint, and when one has reached the roll size.
#[derive(Clone, Debug)]
pub struct FileSink<E> {
    dir: PathBuf,
    format: E,
    roll_bytes: u64,
}

impl<T: Data> FileSink<Csv<T>> {
    /// CSV with a header in every file.
    pub fn csv(dir: impl Into<PathBuf>) -> FileSink<Csv<T>> {
        FileSink::new(dir, Csv::default())
    }
}

impl<T: Data> FileSink<JsonLines<T>> {
    /// A JSON object a line.
    pub fn json(dir: impl Into<PathBuf>) -> FileSink<JsonLines<T>> {
        FileSink::new(dir, JsonLines::default())
    }
}

impl FileSink<Lines> {
    /// A line of text a row.
    pub fn text(dir: impl Into<PathBuf>) -> FileSink<Lines> {
        FileSink::new(dir, Lines)
    }
}

impl<E: PartFormat> FileSink<E> {
    /// Any format.
    pub fn new(dir: impl Into<PathBuf>, format: E) -> FileSink<E> {
        FileSink {
            dir: dir.into(),
            format,
            roll_bytes: ROLL_BYTES,
        }
    }

    /// Begins a new file when one has about this size; 128 MB if not set.
    pub fn with_roll_bytes(mut self, bytes: u64) -> FileSink<E> {
        self.roll_bytes = bytes.max(1);
        self
    }
}

impl<E: PartFormat> Sink for FileSink<E> {
    type Writer = PartWriter<E>;

    fn name(&self) -> String {
        format!("files {}", self.dir.display())
    }

    fn writer(&self, env: &Env, info: &SubtaskInfo) -> Result<PartWriter<E>> {
        Ok(PartWriter {
            sink: self.clone(),
            dir: PartDirectory::new(env.files().clone(), self.dir.clone()),
            owner: PartOwner::new(info),
            subtask: info.subtask.index,
            counter: 0,
            part: None,
            closed: Vec::new(),
        })
    }
}

/// A closed and synced file that waits for its commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartFile {
    /// Its name now, in the sink's directory.
    pub hidden: String,
    /// Its name once finished.
    pub name: String,
    /// Its length.
    pub len: u64,
}

/// One subtask's writer.
pub struct PartWriter<E: PartFormat> {
    sink: FileSink<E>,
    dir: PartDirectory,
    owner: PartOwner,
    subtask: u32,
    counter: u64,
    part: Option<OpenPart<E::Encoder>>,
    /// Closed since the last `prepare`.
    closed: Vec<PartFile>,
}

/// The file being written.
struct OpenPart<N> {
    encoder: N,
    file: Box<dyn OpenFile>,
    name: String,
    written: u64,
    buffer: Vec<u8>,
}

impl<N: PartEncoder> OpenPart<N> {
    fn len(&self) -> u64 {
        self.written + (self.buffer.len() + self.encoder.held()) as u64
    }

    async fn flush(&mut self) -> Result<()> {
        let bytes = std::mem::take(&mut self.buffer);
        self.written += bytes.len() as u64;
        self.file.write(bytes).await.map_err(file_failure)
    }
}

impl<E: PartFormat> PartWriter<E> {
    async fn write_rows(&mut self, rows: &[E::Row]) -> Result<()> {
        let mut part = match self.part.take() {
            Some(part) => part,
            None => self.begin_part().await?,
        };
        part.encoder.encode(rows, &mut part.buffer)?;
        if part.buffer.len() >= WRITE_BYTES {
            part.flush().await?;
        }
        let full = part.len() >= self.sink.roll_bytes;
        self.part = Some(part);
        if full { self.close_part().await } else { Ok(()) }
    }

    async fn begin_part(&mut self) -> Result<OpenPart<E::Encoder>> {
        let encoder = self.sink.format.begin()?;
        let name = self
            .owner
            .part_name(self.subtask, self.counter, self.sink.format.extension());
        self.counter += 1;
        let file = self.dir.create(&hidden_name(&name)).await?;
        Ok(OpenPart {
            encoder,
            file,
            name,
            written: 0,
            buffer: Vec::new(),
        })
    }

    async fn close_part(&mut self) -> Result<()> {
        let Some(mut part) = self.part.take() else {
            return Ok(());
        };
        part.encoder.finish(&mut part.buffer)?;
        if !part.buffer.is_empty() {
            part.flush().await?;
        }
        part.file.sync().await.map_err(file_failure)?;
        self.closed.push(PartFile {
            hidden: hidden_name(&part.name),
            name: part.name,
            len: part.written,
        });
        Ok(())
    }
}

impl<E: PartFormat> TwoPhaseSink for PartWriter<E> {
    type Row = E::Row;
    type Committable = PartFile;

    async fn write(&mut self, rows: Vec<E::Row>) -> Result<()> {
        for rows in rows.chunks(ROWS_AT_ONCE) {
            self.write_rows(rows).await?;
        }
        Ok(())
    }

    async fn prepare(&mut self, _checkpoint: CheckpointId) -> Result<Vec<PartFile>> {
        self.close_part().await?;
        if !self.closed.is_empty() {
            self.dir.sync().await?;
        }
        Ok(std::mem::take(&mut self.closed))
    }

    async fn commit(&mut self, parts: Vec<PartFile>) -> Result<()> {
        self.dir.finish(&parts).await
    }

    async fn abort_unlisted(&mut self) -> Result<()> {
        self.dir.ensure().await?;
        self.dir.remove_older(self.owner).await
    }
}
