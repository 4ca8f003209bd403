//! Large writes that bypass the system's page cache.
//!
//! A snapshot is written once and seldom read: through the page cache each of its pages costs fresh memory, a copy into it and
//! the system's work of writing it back, several times what the device itself takes. Non-goal: whether a file system takes such
//! writes; where one does not, they are made the ordinary way.

use bytes::Bytes;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// From so many bytes on it pays.
const LEAST_BYTES: usize = 1 << 20;
/// What offsets in the file are a multiple of, and blocks in memory: devices and file systems want this or less.
const ALIGNMENT: usize = 4096;
/// What memory that is written from where it is starts and ends at.
const SECTOR: usize = 512;
/// So many pieces of memory are written at once, at most.
const MOST_SLICES: usize = 1024;
/// So much is gathered and written at once.
const BLOCK_BYTES: usize = 1 << 20;
/// So many buffers stay for the next writes.
const KEPT: usize = 4;

/// Memory that blocks are gathered in, used again and again.
#[derive(Clone, Default)]
pub(super) struct Blocks(Arc<Mutex<Vec<Vec<u8>>>>);

impl Blocks {
    /// Appends all parts to a file.
    pub(super) fn append(&self, file: &File, parts: &[Bytes]) -> io::Result<()> {
        let bytes: usize = parts.iter().map(Bytes::len).sum();
        if bytes < LEAST_BYTES || !file.metadata()?.len().is_multiple_of(ALIGNMENT as u64) {
            let mut file = file;
            return parts.iter().try_for_each(|part| file.write_all(part));
        }
        let done = append_aligned(file, parts);
        let (_, rest) = split(parts, done);
        if !done.is_multiple_of(ALIGNMENT) {
            let mut file = file;
            return rest.iter().try_for_each(|part| file.write_all(part));
        }
        let mut buffer = self.take();
        let start = buffer.as_ptr().align_offset(ALIGNMENT);
        let written = match buffer.get_mut(start..start.saturating_add(BLOCK_BYTES)) {
            Some(block) => append_blocks(file, &rest, block),
            None => Err(io::Error::other("memory cannot be aligned")),
        };
        self.give_back(buffer);
        written
    }

    fn take(&self) -> Vec<u8> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(|| vec![0; BLOCK_BYTES + ALIGNMENT])
    }

    fn give_back(&self, buffer: Vec<u8>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(buffer);
        }
    }
}

/// Writes the first parts, as far as they lie on sectors, from where they are. Tells how many bytes; whatever goes wrong, the
/// others meet it again.
fn append_aligned(file: &File, parts: &[Bytes]) -> usize {
    let lies_on_sectors =
        |part: &&Bytes| part.as_ptr().addr().is_multiple_of(SECTOR) && part.len().is_multiple_of(SECTOR);
    let first = parts.iter().take(MOST_SLICES).take_while(lies_on_sectors);
    let len: usize = first.map(Bytes::len).sum();
    let (first, _) = split(parts, len - len % ALIGNMENT);
    if first.is_empty() || bypass_cache(file, true).is_err() {
        return 0;
    }
    let slices: Vec<IoSlice<'_>> = first.iter().map(|part| IoSlice::new(part)).collect();
    let written = rustix::io::writev(file, &slices).unwrap_or(0);
    // What cannot be undone here fails the write that follows, or the next.
    let _ = bypass_cache(file, false);
    written
}

/// The first so many bytes of the parts, and the others.
fn split(parts: &[Bytes], at: usize) -> (Vec<Bytes>, Vec<Bytes>) {
    let (mut first, mut others, mut left) = (Vec::new(), Vec::new(), at);
    for part in parts {
        let cut = left.min(part.len());
        left -= cut;
        let pieces = [(&mut first, part.slice(..cut)), (&mut others, part.slice(cut..))];
        for (side, piece) in pieces {
            if !piece.is_empty() {
                side.push(piece);
            }
        }
    }
    (first, others)
}

/// Gathers the parts in the block, which is aligned, and writes it each time it is full.
fn append_blocks(file: &File, parts: &[Bytes], block: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    for part in parts {
        let mut rest = &part[..];
        while !rest.is_empty() {
            let (piece, left) = rest.split_at(rest.len().min(block.len() - filled));
            block[filled..filled + piece.len()].copy_from_slice(piece);
            filled += piece.len();
            rest = left;
            if filled == block.len() {
                write_block(file, block)?;
                filled = 0;
            }
        }
    }
    write_block(file, &block[..filled])
}

/// Writes what is aligned past the page cache, as far as that goes, and the rest through it: that meets any error again.
fn write_block(mut file: &File, block: &[u8]) -> io::Result<()> {
    let aligned = block.len() - block.len() % ALIGNMENT;
    let mut done = 0;
    if aligned > 0 && bypass_cache(file, true).is_ok() {
        while done < aligned && done.is_multiple_of(ALIGNMENT) {
            match rustix::io::write(file, &block[done..aligned]) {
                Ok(written) if written > 0 => done += written,
                Err(Errno::INTR) => {}
                _ => break,
            }
        }
        bypass_cache(file, false)?;
    }
    file.write_all(&block[done..])
}

#[cfg(target_os = "linux")]
fn bypass_cache(file: &File, bypass: bool) -> io::Result<()> {
    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, bypass);
    Ok(fcntl_setfl(file, flags)?)
}

#[cfg(not(target_os = "linux"))]
fn bypass_cache(_: &File, _: bool) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
