//! Objects as files in folders.

use super::place::{Place, write_error};
use crate::blob::check_folder;
use crate::memory::{check_range, taken, too_short};
use crate::{Blob, BlobEntry, BlobKey, Digest, StorageError};
use bytes::Bytes;
use rivermark_env::{BoxFuture, DirEntry, Env};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A store of objects in the folders of a directory. A folder appears with its first object and goes with its last;
/// files in the directory itself are not its business.
pub struct LocalBlob {
    place: Place,
}

impl LocalBlob {
    /// The store in a directory, which is made if it is missing.
    pub async fn open(env: &Env, root: impl Into<PathBuf>) -> Result<LocalBlob, StorageError> {
        Ok(LocalBlob {
            place: Place::open(env, root.into()).await?,
        })
    }

    /// The store in a directory as it is: for reading. Nothing is made; a directory that is missing holds no objects.
    pub fn existing(env: &Env, root: impl Into<PathBuf>) -> LocalBlob {
        LocalBlob {
            place: Place::existing(env, root.into()),
        }
    }

    /// The files that writers have not finished, or left behind when they crashed: paths in the directory.
    pub async fn temporaries(&self) -> Result<Vec<String>, StorageError> {
        let found = self.walk("", |entry| Place::is_temporary(&entry.name)).await?;
        Ok(found.into_iter().map(|(path, _)| path).collect())
    }

    /// Removes what writers that crashed left unfinished, and says how many files that were. The temporaries of this
    /// store itself are spared; those of another living writer are not (it gets a retryable error).
    pub async fn sweep_temporaries(&self) -> Result<usize, StorageError> {
        self.place.remove_dropped().await;
        let mut swept = 0;
        for (path, _) in self
            .walk("", |entry| self.place.is_foreign_temporary(&entry.name))
            .await?
        {
            self.remove(&self.place.root.join(path)).await?;
            swept += 1;
        }
        Ok(swept)
    }

    fn path(&self, key: &BlobKey) -> PathBuf {
        self.place.root.join(key.as_str())
    }

    async fn write(&self, key: &BlobKey, parts: &[Bytes]) -> Result<(), StorageError> {
        let path = self.path(key);
        let dir = path.parent().unwrap_or(&self.place.root);
        match self.place.write_temporary(dir, parts).await?.link(&path).await {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let found = self.place.digest(&path).await.map_err(write_error)?;
                if found != Digest::of_parts(parts) {
                    return Err(taken(key));
                }
            }
            Err(error) => return Err(write_error(error)),
        }
        self.place.sync_up(dir).await
    }

    /// All files in a folder and below whose entry fits, as paths under the root; files in the root itself never do.
    async fn walk(
        &self,
        folder: &str,
        fits: impl Fn(&DirEntry) -> bool + Send + Sync,
    ) -> Result<Vec<(String, u64)>, StorageError> {
        let mut found = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            let entries = match self.place.files.list(&self.place.root.join(&folder)).await {
                Ok(entries) => entries,
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            for entry in entries {
                let path = if folder.is_empty() {
                    entry.name.clone()
                } else {
                    format!("{folder}/{}", entry.name)
                };
                if entry.is_dir {
                    folders.push(path);
                } else if !folder.is_empty() && fits(&entry) {
                    found.push((path, entry.len));
                }
            }
        }
        Ok(found)
    }

    /// Removes a file and the folders that it leaves empty, durably.
    async fn remove(&self, path: &Path) -> Result<(), StorageError> {
        match self.place.files.remove_file(path).await {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(write_error(error)),
        }
        for dir in path.ancestors().skip(1) {
            // A folder that cannot be removed holds something: it stays, and so does all above.
            if dir != self.place.root && self.is_gone(self.place.files.remove_dir(dir).await) {
                continue;
            }
            match self.place.files.sync_dir(dir).await {
                Err(error) if error.kind() == io::ErrorKind::NotFound && dir != self.place.root => continue,
                synced => return synced.map_err(write_error),
            }
        }
        Ok(())
    }

    fn is_gone(&self, removed: io::Result<()>) -> bool {
        removed.map_or_else(|error| error.kind() == io::ErrorKind::NotFound, |()| true)
    }
}

impl Blob for LocalBlob {
    fn put<'a>(&'a self, key: &'a BlobKey, bytes: Vec<Bytes>) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(async move { self.write(key, &bytes).await })
    }

    fn get<'a>(&'a self, key: &'a BlobKey) -> BoxFuture<'a, Result<Bytes, StorageError>> {
        Box::pin(async move { Ok(self.place.read(&self.path(key), 0, u64::MAX).await?.into()) })
    }

    fn get_range<'a>(
        &'a self,
        key: &'a BlobKey,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, StorageError>> {
        Box::pin(async move {
            check_range(key, &range)?;
            let path = self.path(key);
            let bytes = self
                .place
                .read(&path, range.start, range.end - range.start)
                .await?;
            // An empty range may lie behind the end as well, so what was read does not tell.
            let short = (bytes.len() as u64) < range.end - range.start || bytes.is_empty();
            if short {
                let len = self.place.files.metadata(&path).await?.map_or(0, |meta| meta.len);
                if range.end > len {
                    return Err(too_short(key, len, &range));
                }
            }
            Ok(bytes.into())
        })
    }

    fn list<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Vec<BlobEntry>, StorageError>> {
        Box::pin(async move {
            check_folder(folder)?;
            let files = self.walk(folder, |_| true).await?;
            // A name that is no key is a temporary or none of ours.
            let objects = files
                .into_iter()
                .filter_map(|(path, len)| BlobKey::new(path).ok().map(|key| BlobEntry { key, len }));
            let mut objects: Vec<BlobEntry> = objects.collect();
            objects.sort();
            Ok(objects)
        })
    }

    fn delete<'a>(&'a self, key: &'a BlobKey) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(async move { self.remove(&self.path(key)).await })
    }
}
