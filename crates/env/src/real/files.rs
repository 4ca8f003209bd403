//! The file seam on `std::fs`. Every call runs on a blocking thread of the runtime; every error names the operation and
//! the path. A caller that stops waiting does not undo a call that is under way.

use super::direct::Blocks;
use crate::files::{DirEntry, FileMeta, FileReader, FileWriter, Files};
use crate::platform::BoxFuture;
use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, pread};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::Handle;

/// The machine's files.
pub(super) struct RealFiles {
    runtime: Handle,
    blocks: Blocks,
}

impl RealFiles {
    pub(super) fn new(runtime: Handle) -> RealFiles {
        RealFiles {
            runtime,
            blocks: Blocks::default(),
        }
    }

    fn open_file(&self, file: File, path: &Path) -> OpenFile {
        OpenFile {
            file: Arc::new(file),
            path: path.to_owned(),
            runtime: self.runtime.clone(),
            blocks: self.blocks.clone(),
        }
    }
}

/// Runs `call` where it may block and names operation and path in its error.
async fn blocking<T: Send + 'static>(
    runtime: &Handle,
    operation: &'static str,
    path: PathBuf,
    call: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let work = move || {
        call(&path)
            .map_err(|error| io::Error::new(error.kind(), format!("{operation} {}: {error}", path.display())))
    };
    match runtime.spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(io::Error::other(format!("{operation}: {error}"))),
    }
}

fn list(path: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let meta = match fs::metadata(entry.path()) {
            Ok(meta) => meta,
            // Removed since the directory was read, or a link to nothing: not there.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let name = entry.file_name().into_string().map_err(|name| {
            io::Error::new(ErrorKind::InvalidData, format!("the name {name:?} is not UTF-8"))
        })?;
        entries.push(DirEntry {
            name,
            is_dir: meta.is_dir(),
            len: visible_len(&meta),
        });
    }
    entries.sort();
    Ok(entries)
}

fn metadata(path: &Path) -> io::Result<Option<FileMeta>> {
    match fs::metadata(path) {
        Ok(meta) => Ok(Some(FileMeta {
            is_dir: meta.is_dir(),
            len: visible_len(&meta),
        })),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn visible_len(meta: &fs::Metadata) -> u64 {
    if meta.is_dir() { 0 } else { meta.len() }
}

fn open_to_read(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    Ok(file)
}

fn read_at(file: &File, offset: u64, max: usize) -> io::Result<Vec<u8>> {
    let left = file.metadata()?.len().saturating_sub(offset);
    let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(max);
    // Read into memory that nobody has filled with zeros before.
    let mut bytes = Vec::with_capacity(wanted);
    advise_huge_pages(&mut bytes);
    while bytes.len() < wanted {
        let at = offset + bytes.len() as u64;
        match pread(file, spare_capacity(&mut bytes), at) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(wanted);
    Ok(bytes)
}

/// Large buffers are touched once: a fault for each 4 KB would cost as much as what is read into them.
#[cfg(all(target_os = "linux", not(miri)))]
fn advise_huge_pages(buffer: &mut Vec<u8>) {
    const HUGE: usize = 2 << 20;
    let spare = buffer.spare_capacity_mut();
    let before = spare.as_ptr().align_offset(HUGE);
    let whole = spare.len().saturating_sub(before) / HUGE * HUGE;
    if whole > 0 {
        let start = spare.as_mut_ptr().wrapping_add(before).cast();
        // SAFETY: the range lies in the buffer, and the advice changes no content. Without huge pages it works as well.
        let _ = unsafe { rustix::mm::madvise(start, whole, rustix::mm::Advice::LinuxHugepage) };
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn advise_huge_pages(_: &mut Vec<u8>) {}

impl Files for RealFiles {
    fn open<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Box<dyn FileReader>>> {
        Box::pin(async move {
            let file = blocking(&self.runtime, "open", path.to_owned(), open_to_read).await?;
            Ok(Box::new(self.open_file(file, path)) as Box<dyn FileReader>)
        })
    }

    fn create_new<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Box<dyn FileWriter>>> {
        Box::pin(async move {
            let create = |path: &Path| OpenOptions::new().append(true).create_new(true).open(path);
            let file = blocking(&self.runtime, "create", path.to_owned(), create).await?;
            Ok(Box::new(self.open_file(file, path)) as Box<dyn FileWriter>)
        })
    }

    fn rename<'a>(&'a self, from: &'a Path, to: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        let from = from.to_owned();
        Box::pin(blocking(&self.runtime, "rename to", to.to_owned(), move |to| {
            fs::rename(from, to)
        }))
    }

    fn hard_link<'a>(&'a self, from: &'a Path, to: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        let from = from.to_owned();
        Box::pin(blocking(&self.runtime, "link to", to.to_owned(), move |to| {
            fs::hard_link(from, to)
        }))
    }

    fn remove_file<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(blocking(&self.runtime, "remove", path.to_owned(), |path| {
            fs::remove_file(path)
        }))
    }

    fn remove_dir<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(blocking(
            &self.runtime,
            "remove directory",
            path.to_owned(),
            |path| fs::remove_dir(path),
        ))
    }

    fn create_dir_all<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(blocking(
            &self.runtime,
            "create directory",
            path.to_owned(),
            |path| fs::create_dir_all(path),
        ))
    }

    fn sync_dir<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        let sync = |path: &Path| File::open(path)?.sync_all();
        Box::pin(blocking(&self.runtime, "sync directory", path.to_owned(), sync))
    }

    fn list<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Vec<DirEntry>>> {
        Box::pin(blocking(&self.runtime, "list", path.to_owned(), list))
    }

    fn metadata<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Option<FileMeta>>> {
        Box::pin(blocking(&self.runtime, "look at", path.to_owned(), metadata))
    }
}

/// An open file, to read from or to append to.
struct OpenFile {
    file: Arc<File>,
    path: PathBuf,
    runtime: Handle,
    blocks: Blocks,
}

impl OpenFile {
    async fn call<T: Send + 'static>(
        &self,
        operation: &'static str,
        call: impl FnOnce(&File) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let file = self.file.clone();
        blocking(&self.runtime, operation, self.path.clone(), move |_| call(&file)).await
    }
}

impl FileReader for OpenFile {
    fn read_at(&mut self, offset: u64, max: usize) -> BoxFuture<'_, io::Result<Vec<u8>>> {
        Box::pin(self.call("read", move |file| read_at(file, offset, max)))
    }
}

impl FileWriter for OpenFile {
    fn write_parts(&mut self, parts: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>> {
        let blocks = self.blocks.clone();
        Box::pin(self.call("write", move |file| blocks.append(file, &parts)))
    }

    fn sync(&mut self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(self.call("sync", File::sync_data))
    }
}
