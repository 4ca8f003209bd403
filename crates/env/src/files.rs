//! The file seam: what Rivermark asks of a file system, and what survives a loss of power.

use crate::platform::BoxFuture;
use bytes::Bytes;
use std::io;
use std::path::Path;

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The last part of its path.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Its length in bytes; 0 for a directory.
    pub len: u64,
}

/// What is known of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMeta {
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Its length in bytes; 0 for a directory.
    pub len: u64,
}

/// The files of a process. Nothing blocks its caller; all errors are `io::Error`s whose text names the path.
///
/// Durability, as POSIX gives it: bytes survive a loss of power after [`FileWriter::sync`], names (create, rename, link,
/// remove) after [`Files::sync_dir`] of their directory. Before that, any part of them may survive.
pub trait Files: Send + Sync {
    /// Opens a file for reading; `NotFound` if there is none.
    fn open<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Box<dyn FileReader>>>;
    /// Creates a file; `AlreadyExists` if there is one.
    fn create_new<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Box<dyn FileWriter>>>;
    /// Renames within a file system, replacing what is at `to`.
    fn rename<'a>(&'a self, from: &'a Path, to: &'a Path) -> BoxFuture<'a, io::Result<()>>;
    /// A second name for a file; `AlreadyExists` if the name is taken. Atomic: of two callers, one wins.
    fn hard_link<'a>(&'a self, from: &'a Path, to: &'a Path) -> BoxFuture<'a, io::Result<()>>;
    /// Removes a file; `NotFound` if there is none.
    fn remove_file<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>>;
    /// Removes an empty directory; `NotFound` if there is none.
    fn remove_dir<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>>;
    /// Creates a directory and its parents (each durable only after a `sync_dir` of *its* parent); fine if it is there.
    fn create_dir_all<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>>;
    /// Makes the names in a directory durable.
    fn sync_dir<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>>;
    /// The names in a directory, sorted; `NotFound` if there is none.
    fn list<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Vec<DirEntry>>>;
    /// What is at a path; `None` if nothing.
    fn metadata<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Option<FileMeta>>>;
}

/// An open file to read from.
pub trait FileReader: Send {
    /// Up to `max` bytes from `offset`; fewer only at the end of the file, empty behind it.
    fn read_at(&mut self, offset: u64, max: usize) -> BoxFuture<'_, io::Result<Vec<u8>>>;
}

/// An open file to append to. Dropping it closes it without a sync.
pub trait FileWriter: Send {
    /// Appends all parts in their order, in one go: one wait, however many they are. After an error any beginning of them may
    /// be there.
    fn write_parts(&mut self, parts: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>>;
    /// Appends all bytes.
    fn write(&mut self, bytes: Vec<u8>) -> BoxFuture<'_, io::Result<()>> {
        self.write_parts(vec![bytes.into()])
    }
    /// Makes all bytes written so far durable.
    fn sync(&mut self) -> BoxFuture<'_, io::Result<()>>;
}

/// Creates a directory where it is missing, so that it is there after a loss of power too. Level by level, each synced before the
/// next: so of what is found only the last name can be one that was created and not synced yet. `NotADirectory` if
/// something else has the name of one of its levels.
pub async fn create_dir_durably(files: &dyn Files, path: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    let mut level = path;
    loop {
        match files.metadata(level).await? {
            Some(meta) if meta.is_dir => break,
            Some(_) => {
                let what = format!("{} is no directory", level.display());
                return Err(io::Error::new(io::ErrorKind::NotADirectory, what));
            }
            None => missing.push(level),
        }
        match parent_of(level) {
            Some(parent) => level = parent,
            None => break,
        }
    }
    if let Some(parent) = parent_of(level) {
        files.sync_dir(parent).await?;
    }
    for level in missing.into_iter().rev() {
        files.create_dir_all(level).await?;
        if let Some(parent) = parent_of(level) {
            files.sync_dir(parent).await?;
        }
    }
    Ok(())
}

/// The directory that holds a path's last name.
fn parent_of(path: &Path) -> Option<&Path> {
    let parent = path.parent()?;
    Some(if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    })
}
