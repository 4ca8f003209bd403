//! The file that takes encoded pages when memory is full. It never outlives its checkpoint and is never synced: after a
//! crash nobody wants it.

use crate::object::PageEntry;
use bytes::Bytes;
use rivermark_env::{Env, FileWriter};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// What file systems and devices write by.
const BLOCK: u64 = 4096;

/// A scratch file that is being written.
pub(super) struct Scratch {
    path: Arc<Path>,
    writer: Box<dyn FileWriter>,
    len: u64,
}

impl Scratch {
    /// A new file in the directory, which is made if it is missing.
    pub async fn create(env: &Env, dir: &Path) -> io::Result<Scratch> {
        env.files().create_dir_all(dir).await?;
        let path = dir.join(format!("rivermark-snapshot-{:016x}.tmp", env.random_u64()));
        let writer = env.files().create_new(&path).await?;
        Ok(Scratch {
            path: path.into(),
            writer,
            len: 0,
        })
    }

    /// Appends pages; returns the offset of the first.
    pub async fn append(&mut self, mut pages: Vec<Bytes>) -> io::Result<u64> {
        let offset = self.len;
        let len = pages.iter().map(|page| page.len() as u64).sum();
        // The next ones start at a block again: such writes are the cheapest.
        let rest = Scratch::room_for(len) - len;
        pages.push(Bytes::from_static(&[0; BLOCK as usize]).slice(..rest as usize));
        self.writer.write_parts(pages).await?;
        self.len += len + rest;
        Ok(offset)
    }

    /// What so many bytes of pages take in the file.
    pub fn room_for(bytes: u64) -> u64 {
        bytes.next_multiple_of(BLOCK)
    }

    /// Its bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn path(&self) -> &Arc<Path> {
        &self.path
    }

    /// Removes the file. One that cannot be removed is left to whoever cleans the directory.
    pub async fn remove(self, env: &Env) {
        drop(self.writer);
        if let Err(error) = env.files().remove_file(&self.path).await {
            tracing::warn!(%error, "a scratch file is left behind");
        }
    }
}

/// Reads a page back and checks it.
pub(super) async fn read_page(
    env: &Env,
    path: &Path,
    offset: u64,
    page: &PageEntry,
) -> Result<Vec<u8>, String> {
    let mut file = env.files().open(path).await.map_err(|error| error.to_string())?;
    let bytes = file
        .read_at(offset, page.len as usize)
        .await
        .map_err(|error| error.to_string())?;
    let name = format_args!("scratch file {} at byte {offset}", path.display());
    page.checksum
        .check(name, &bytes)
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}
