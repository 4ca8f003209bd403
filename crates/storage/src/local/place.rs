//! A directory as both local stores use it: temporaries, reading, and what it takes to make names durable.

use crate::{Digest, StorageError, checksum::Digester};
use bytes::Bytes;
use rivermark_env::{Env, FileReader, Files};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const TEMPORARY: &str = ".tmp-";
/// How many bytes one call of the file seam reads for a digest.
const CHUNK: usize = 1 << 20;
/// How many bytes one call of the file seam reads at most: all that is asked for, mostly.
const READ_BYTES: usize = 32 << 20;
/// How many bytes one call of the file seam writes, about: on a busy machine each call waits for a processor, twice.
const WRITE_BYTES: usize = 8 << 20;
/// How often a folder is made again that others remove as empty meanwhile.
const FOLDER_ATTEMPTS: usize = 16;

/// How often the removal of a file is tried before it is left to a sweep.
const DISCARD_TRIES: u32 = 3;

pub(super) struct Place {
    pub(super) files: Arc<dyn Files>,
    pub(super) root: PathBuf,
    /// Tells this process's temporaries and values from those of others.
    pub(super) writer: u64,
    temporaries: AtomicU64,
    /// Temporaries of writes that were dropped half-way, to be removed by the next one.
    dropped: Mutex<VecDeque<PathBuf>>,
}

impl Place {
    /// Makes the directory, durably.
    pub(super) async fn open(env: &Env, root: PathBuf) -> Result<Place, StorageError> {
        let files = Arc::clone(env.files());
        files.create_dir_all(&root).await.map_err(write_error)?;
        for (distance, above) in root.ancestors().skip(1).enumerate() {
            let above = if above.as_os_str().is_empty() {
                Path::new(".")
            } else {
                above
            };
            match files.sync_dir(above).await {
                Ok(()) => {}
                // Further up, directories are seldom ours; one that we may not even open was there before us.
                Err(_) if distance > 0 => break,
                Err(error) => return Err(write_error(error)),
            }
        }
        Ok(Place::existing(env, root))
    }

    /// The directory as it is, which may be missing: for reading.
    pub(super) fn existing(env: &Env, root: PathBuf) -> Place {
        Place {
            files: Arc::clone(env.files()),
            root,
            writer: env.random_u64(),
            temporaries: AtomicU64::new(0),
            dropped: Mutex::default(),
        }
    }

    pub(super) fn is_temporary(name: &str) -> bool {
        name.starts_with(TEMPORARY)
    }

    /// Writes and syncs a temporary file in a directory, which is made if it is missing (but not durably).
    pub(super) async fn write_temporary(
        &self,
        dir: &Path,
        parts: &[Bytes],
    ) -> Result<Temporary<'_>, StorageError> {
        self.remove_dropped().await;
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("{TEMPORARY}{:016x}-{number}", self.writer));
        let temporary = Temporary { place: self, path };
        match self.fill(&temporary.path, dir, parts).await {
            Ok(()) => Ok(temporary),
            Err(error) => {
                temporary.remove().await;
                Err(write_error(error))
            }
        }
    }

    async fn fill(&self, path: &Path, dir: &Path, parts: &[Bytes]) -> io::Result<()> {
        let mut attempts = 0;
        let mut writer = loop {
            self.files.create_dir_all(dir).await?;
            match self.files.create_new(path).await {
                // Whoever deleted the last object of the folder removed it as well.
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempts < FOLDER_ATTEMPTS => {
                    attempts += 1
                }
                made => break made?,
            }
        };
        for parts in in_calls(parts, WRITE_BYTES) {
            writer.write_parts(parts).await?;
        }
        writer.sync().await
    }

    /// Removes the temporaries that are still there although nothing writes them any more.
    pub(super) async fn remove_dropped(&self) {
        // One by one: this may be cut off too, and what is not removed then must not be forgotten.
        let waiting = self.dropped().len();
        for _ in 0..waiting {
            let next = self.dropped().pop_front();
            let Some(path) = next else { return };
            Temporary { place: self, path }.remove().await;
        }
    }

    fn dropped(&self) -> MutexGuard<'_, VecDeque<PathBuf>> {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes a temporary; if that fails, a later write or sweep tries again.
    async fn remove_temporary(&self, path: PathBuf) {
        if !self.discard(&path).await {
            self.dropped().push_back(path);
        }
    }

    /// Removes a file that nobody needs. Tells whether it is gone; what is not, a later sweep removes.
    pub(super) async fn discard(&self, path: &Path) -> bool {
        for _ in 0..DISCARD_TRIES {
            match self.files.remove_file(path).await {
                Ok(()) => return true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return true,
                Err(_) => {}
            }
        }
        false
    }

    pub(super) fn is_foreign_temporary(&self, name: &str) -> bool {
        let own = format!("{:016x}-", self.writer);
        name.strip_prefix(TEMPORARY)
            .is_some_and(|rest| !rest.starts_with(&own))
    }

    /// Makes the names in a directory durable, and the directory's own name, up to the root. It does so even for folders
    /// that were there: their maker may not have come to it yet.
    pub(super) async fn sync_up(&self, dir: &Path) -> Result<(), StorageError> {
        for dir in dir.ancestors() {
            self.files.sync_dir(dir).await.map_err(write_error)?;
            if dir == self.root {
                break;
            }
        }
        Ok(())
    }

    /// Up to `len` bytes from `offset`: fewer if the file ends before.
    pub(super) async fn read(&self, path: &Path, offset: u64, len: u64) -> io::Result<Vec<u8>> {
        let mut reader = self.files.open(path).await?;
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < len {
            let wanted = READ_BYTES.min(usize::try_from(len - bytes.len() as u64).unwrap_or(READ_BYTES));
            let chunk = reader.read_at(offset + bytes.len() as u64, wanted).await?;
            match (chunk.len(), bytes.is_empty()) {
                (0, _) => break,
                (_, true) => bytes = chunk,
                (_, false) => bytes.extend_from_slice(&chunk),
            }
        }
        Ok(bytes)
    }

    pub(super) async fn digest(&self, path: &Path) -> io::Result<Digest> {
        let mut reader: Box<dyn FileReader> = self.files.open(path).await?;
        let mut digester = Digester::default();
        let mut offset = 0;
        loop {
            let chunk = reader.read_at(offset, CHUNK).await?;
            if chunk.is_empty() {
                return Ok(digester.digest());
            }
            offset += chunk.len() as u64;
            digester.update(&chunk);
        }
    }
}

/// A temporary file. Dropped without [`Temporary::remove`] (its write was cut off), it is removed by a later write.
pub(super) struct Temporary<'a> {
    place: &'a Place,
    path: PathBuf,
}

impl Temporary<'_> {
    /// Gives the file its name for good, then removes the temporary one.
    pub(super) async fn link(self, to: &Path) -> io::Result<()> {
        let linked = self.place.files.hard_link(&self.path, to).await;
        self.remove().await;
        linked
    }

    async fn remove(mut self) {
        self.place.remove_temporary(self.path.clone()).await;
        self.path = PathBuf::new();
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.path);
        if !path.as_os_str().is_empty() {
            self.place.dropped().push_back(path);
        }
    }
}

/// Parts in groups of about so many bytes; what is larger is cut.
fn in_calls(parts: &[Bytes], bytes: usize) -> Vec<Vec<Bytes>> {
    let mut calls = vec![];
    let (mut call, mut len) = (vec![], 0);
    for part in parts {
        let mut part = part.clone();
        while !part.is_empty() {
            let piece = part.split_to(part.len().min(bytes - len));
            len += piece.len();
            call.push(piece);
            if len == bytes {
                calls.push(std::mem::take(&mut call));
                len = 0;
            }
        }
    }
    if !call.is_empty() {
        calls.push(call);
    }
    calls
}

/// The error of a write. What is missing then is a folder or a temporary that somebody removed: the next try makes it.
pub(super) fn write_error(error: io::Error) -> StorageError {
    match error.kind() {
        io::ErrorKind::NotFound => StorageError::retryable(error.to_string()),
        _ => StorageError::from(error),
    }
}
