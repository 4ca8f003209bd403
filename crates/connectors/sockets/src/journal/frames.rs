//! Frames: some records, with their length and a checksum that covers where they stand in the stream too.

use super::file_failure;
use rivermark_env::Files;
use rivermark_types::Result;
use std::path::Path;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Length (4 bytes) and checksum (8 bytes).
const HEADER: usize = 12;
const READ_BYTES: usize = 1 << 20;
/// A frame longer than this is none.
const LONGEST: usize = 128 << 20;

/// The frame of records that stand at `offset`.
pub(super) fn frame(offset: u64, records: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + records.len());
    bytes.extend_from_slice(&(records.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&xxh3_64_with_seed(records, offset).to_le_bytes());
    bytes.extend_from_slice(records);
    bytes
}

/// Reads the frames of a file up to the first that is not whole.
pub(crate) struct FrameReader {
    file: Box<dyn rivermark_env::FileReader>,
    at: u64,
    /// Where the next frame's records stand.
    offset: u64,
    bytes: Vec<u8>,
    used: usize,
}

impl FrameReader {
    /// A file whose first record stands at `offset`.
    pub(super) async fn open(files: &dyn Files, path: &Path, offset: u64) -> Result<FrameReader> {
        Ok(FrameReader {
            file: files.open(path).await.map_err(file_failure)?,
            at: 0,
            offset,
            bytes: Vec::new(),
            used: 0,
        })
    }

    /// The next frame's records, and where they stand; `None` when no whole frame is left.
    pub(crate) async fn next(&mut self) -> Result<Option<(u64, Vec<u8>)>> {
        if !self.fill(HEADER).await? {
            return Ok(None);
        }
        let header = &self.bytes[self.used..self.used + HEADER];
        let (len, checksum) = header.split_at(4);
        let len = len
            .iter()
            .rev()
            .fold(0usize, |len, byte| len << 8 | usize::from(*byte));
        let checksum = checksum
            .iter()
            .rev()
            .fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        if len == 0 || len > LONGEST || !self.fill(HEADER + len).await? {
            return Ok(None);
        }
        let begin = self.used + HEADER;
        let records = self.bytes[begin..begin + len].to_vec();
        if xxh3_64_with_seed(&records, self.offset) != checksum {
            return Ok(None);
        }
        let offset = self.offset;
        self.offset += len as u64;
        self.used = begin + len;
        Ok(Some((offset, records)))
    }

    /// Sees to it that so many bytes are at hand; false if the file ends before.
    async fn fill(&mut self, wanted: usize) -> Result<bool> {
        while self.bytes.len() - self.used < wanted {
            self.bytes.drain(..self.used);
            self.used = 0;
            let most = READ_BYTES.max(wanted);
            let more = self.file.read_at(self.at, most).await.map_err(file_failure)?;
            if more.is_empty() {
                return Ok(false);
            }
            self.at += more.len() as u64;
            self.bytes.extend(more);
        }
        Ok(true)
    }
}
