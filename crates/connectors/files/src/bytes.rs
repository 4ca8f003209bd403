//! The bytes of a split: read from its file in pieces, unpacked, begun at the right place. Asynchronous; runs on the I/O
//! runtime, ahead of the slot.

use crate::file_failure;
use crate::source::FileSplit;
use crate::unpack::{Packing, Unpack};
use rivermark_env::{FileReader, Files};
use rivermark_format::Decode;
use rivermark_types::{Failure, Result};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// Bytes handed on at once.
pub(crate) const PIECE: usize = 256 << 10;
/// Packed bytes unpacked at once: gzip makes at most about a thousand times as much of them, zstd gives a block at a time.
const PACKED_PIECE: usize = 16 << 10;
/// A header longer than this is none.
const LONGEST_HEADER: usize = 1 << 20;

/// Where reading begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Beginning {
    /// The header of the file, if its format has one and reading does not begin with it.
    pub(crate) header: Option<Vec<u8>>,
    /// The offset of the first byte, in the unpacked file.
    pub(crate) offset: u64,
    /// The number of the line there (from 1), where known.
    pub(crate) line: Option<u64>,
}

/// The unpacked bytes of a split from a position on, up to the end of the file.
pub(crate) struct SplitBytes {
    raw: RawBytes,
    /// Unpacked, not handed on yet.
    ready: VecDeque<Vec<u8>>,
    beginning: Beginning,
}

impl SplitBytes {
    /// Opens the file and goes to where reading begins: the position; or, at a split's beginning inside a file, the byte
    /// before it (a record that begins exactly at the split's start follows the line end there).
    pub(crate) async fn open<F: Decode>(
        files: &Arc<dyn Files>,
        split: &FileSplit,
        position: u64,
        format: &F,
    ) -> Result<SplitBytes> {
        let mut raw = RawBytes::open(files, split).await?;
        let offset = if position > 0 {
            position
        } else {
            split.start.saturating_sub(1)
        };
        let mut ready = VecDeque::new();
        let header = match format.has_header() && offset > 0 {
            true => Some(raw.read_header(format, &mut ready).await?),
            false => None,
        };
        let line = raw.skip_to(offset, &mut ready).await?;
        Ok(SplitBytes {
            raw,
            ready,
            beginning: Beginning { header, offset, line },
        })
    }

    /// Where the first byte stands.
    pub(crate) fn beginning(&self) -> Beginning {
        self.beginning.clone()
    }

    /// The next bytes; `None` at the end of the file.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        match self.ready.pop_front() {
            Some(bytes) => Ok(Some(bytes)),
            None => self.raw.next().await,
        }
    }
}

/// A file read from its beginning, unpacked where it is packed.
struct RawBytes {
    file: Box<dyn FileReader>,
    name: String,
    /// Where to read next in the file itself.
    at: u64,
    /// Nothing is read behind this.
    len: u64,
    unpack: Option<(Packing, Unpack)>,
    ended: bool,
}

impl RawBytes {
    async fn open(files: &Arc<dyn Files>, split: &FileSplit) -> Result<RawBytes> {
        let name = split.path.display().to_string();
        let file = files
            .open(&split.path)
            .await
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    Failure::invalid(format!("{name} was removed while the job reads it: put it back"))
                }
                _ => file_failure(error),
            })?;
        let unpack = Packing::of(&split.path).map(|packing| (packing, packing.unpack()));
        Ok(RawBytes {
            file,
            name,
            at: 0,
            len: split.len,
            unpack,
            ended: false,
        })
    }

    async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some((packing, unpack)) = &mut self.unpack {
                let bytes = unpack
                    .pull()
                    .map_err(|error| damaged(&self.name, self.at, *packing, &error))?;
                if !bytes.is_empty() {
                    return Ok(Some(bytes));
                }
            }
            if self.ended {
                return Ok(None);
            }
            let most = if self.unpack.is_some() {
                PACKED_PIECE
            } else {
                PIECE
            };
            let most = usize::try_from(self.len - self.at).unwrap_or(most).min(most);
            let bytes = match most {
                0 => Vec::new(),
                most => self.read(most).await?,
            };
            self.ended = bytes.is_empty();
            let Some((packing, unpack)) = &mut self.unpack else {
                return Ok(Some(bytes).filter(|bytes| !bytes.is_empty()));
            };
            let taken = match self.ended {
                true => unpack.end(),
                false => unpack.push(&bytes),
            };
            taken.map_err(|error| damaged(&self.name, self.at, *packing, &error))?;
        }
    }

    async fn read(&mut self, most: usize) -> Result<Vec<u8>> {
        let bytes = self.file.read_at(self.at, most).await.map_err(file_failure)?;
        self.at += bytes.len() as u64;
        if bytes.len() < most {
            return Err(Failure::invalid(format!(
                "{} has become shorter while the job reads it ({} bytes, {} when it was found): put the old one back",
                self.name, self.at, self.len
            )));
        }
        Ok(bytes)
    }

    /// The file's first record. Of a packed file, what was unpacked for it is kept in `ready`.
    async fn read_header<F: Decode>(&mut self, format: &F, ready: &mut VecDeque<Vec<u8>>) -> Result<Vec<u8>> {
        let mut head = Vec::new();
        loop {
            if let Some(len) = format.record_len(&head, 0) {
                head.truncate(len);
                return Ok(head);
            }
            if head.len() > LONGEST_HEADER {
                return Err(Failure::data(format!(
                    "{}:1: the header line is longer than 1 MB",
                    self.name
                )));
            }
            let Some(bytes) = self.next().await? else {
                return Ok(head);
            };
            head.extend_from_slice(&bytes);
            ready.push_back(bytes);
        }
    }

    /// Goes to an offset of the unpacked file; tells the line there, if it passed all lines before.
    async fn skip_to(&mut self, offset: u64, ready: &mut VecDeque<Vec<u8>>) -> Result<Option<u64>> {
        if self.unpack.is_none() {
            if offset > self.len {
                return Err(self.too_short(offset));
            }
            ready.clear();
            (self.at, self.ended) = (offset, false);
            return Ok((offset == 0).then_some(1));
        }
        let (mut left, mut line) = (offset, 1);
        while left > 0 {
            let Some(mut bytes) = (match ready.pop_front() {
                Some(bytes) => Some(bytes),
                None => self.next().await?,
            }) else {
                return Err(self.too_short(offset));
            };
            let skipped = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            line += bytes[..skipped].iter().filter(|byte| **byte == b'\n').count() as u64;
            left -= skipped as u64;
            if skipped < bytes.len() {
                ready.push_front(bytes.split_off(skipped));
            }
        }
        Ok(Some(line))
    }

    fn too_short(&self, offset: u64) -> Failure {
        Failure::invalid(format!(
            "{} is shorter than when the checkpoint was taken (no byte {offset}): put the old one back",
            self.name
        ))
    }
}

fn damaged(name: &str, at: u64, packing: Packing, error: &io::Error) -> Failure {
    let packing = packing.name();
    Failure::data(format!(
        "{name}: damaged {packing} before byte {at}: {error}: replace the file by an undamaged copy"
    ))
}
