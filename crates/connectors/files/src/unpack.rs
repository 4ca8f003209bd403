//! Packed bytes to unpacked ones, by the end of the file's name: gzip, zstd.

use flate2::write::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::io::{self, Write};
use std::path::Path;

/// How a file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Gzip,
    Zstd,
}

impl Packing {
    /// What the end of a name says: `.gz`, `.zst`.
    pub(crate) fn of(path: &Path) -> Option<Packing> {
        let extension = path.extension()?.to_str()?;
        [("gz", Packing::Gzip), ("zst", Packing::Zstd)]
            .into_iter()
            .find_map(|(end, packing)| extension.eq_ignore_ascii_case(end).then_some(packing))
    }

    /// Its name for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Packing::Gzip => "gzip",
            Packing::Zstd => "zstd",
        }
    }

    pub(crate) fn unpack(self) -> Unpack {
        match self {
            Packing::Gzip => Unpack::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
            Packing::Zstd => Unpack::Zstd(Box::new(Zstd::new())),
        }
    }
}

/// Unpacks a file in pieces.
pub(crate) enum Unpack {
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    Zstd(Box<Zstd>),
}

impl Unpack {
    /// Takes in packed bytes.
    pub(crate) fn push(&mut self, packed: &[u8]) -> io::Result<()> {
        match self {
            Unpack::Gzip(gzip) => {
                gzip.write_all(packed)?;
                // What the decoder still holds back would come with the next bytes only.
                gzip.flush()
            }
            Unpack::Zstd(zstd) => {
                zstd.packed.drain(..zstd.at);
                zstd.at = 0;
                zstd.packed.extend_from_slice(packed);
                Ok(())
            }
        }
    }

    /// Nothing more comes: fails if something is missing.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        match self {
            Unpack::Gzip(gzip) => gzip.try_finish(),
            Unpack::Zstd(zstd) => match zstd.inside || zstd.at < zstd.packed.len() {
                true => Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the file is cut off",
                )),
                false => Ok(()),
            },
        }
    }

    /// The next unpacked bytes; none if more packed ones are needed.
    pub(crate) fn pull(&mut self) -> io::Result<Vec<u8>> {
        match self {
            Unpack::Gzip(gzip) => Ok(std::mem::take(gzip.get_mut())),
            Unpack::Zstd(zstd) => zstd.pull(),
        }
    }
}

/// The longest header of a frame.
const LONGEST_HEADER: usize = 18;
/// A frame without content: what a decoder begins with, so that it looks at the window of the first real one as well.
const NO_FRAME: [u8; 6] = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x00];

/// Frames of blocks, one block at a time, so that little is unpacked at once.
pub(crate) struct Zstd {
    decoder: FrameDecoder,
    packed: Vec<u8>,
    at: usize,
    /// Between the header of a frame and its end.
    inside: bool,
    /// The frame ends with a checksum.
    checked: bool,
    /// What is left of a frame that is to be skipped.
    skip: usize,
}

fn damaged(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

impl Zstd {
    fn new() -> Zstd {
        let mut decoder = FrameDecoder::new();
        // It cannot fail; if it did, the first frame would.
        let _ = decoder.reset(NO_FRAME.as_slice());
        Zstd {
            decoder,
            packed: Vec::new(),
            at: 0,
            inside: false,
            checked: false,
            skip: 0,
        }
    }

    fn rest(&self) -> &[u8] {
        &self.packed[self.at..]
    }

    fn pull(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let skipped = self.skip.min(self.rest().len());
            self.skip -= skipped;
            self.at += skipped;
            let progress = match self.inside {
                true => self.block()?,
                false => self.header()?,
            };
            if !progress {
                return Ok(Vec::new());
            }
            let unpacked = self.decoder.collect().unwrap_or_default();
            if !self.inside && std::mem::take(&mut self.checked) {
                let found = self.decoder.get_calculated_checksum();
                if found != self.decoder.get_checksum_from_data() {
                    return Err(damaged("its checksum does not fit"));
                }
            }
            if !unpacked.is_empty() {
                return Ok(unpacked);
            }
        }
    }

    /// Begins a frame; false if its header is not there yet.
    fn header(&mut self) -> io::Result<bool> {
        if self.rest().is_empty() || self.skip > 0 {
            return Ok(false);
        }
        let before = &self.packed[self.at..];
        let mut source = before;
        match self.decoder.reset(&mut source) {
            Ok(()) => {
                let read = before.len() - source.len();
                self.checked = before[4] & 4 != 0;
                self.at += read;
                self.inside = true;
                Ok(true)
            }
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length, ..
            })) => {
                self.at += before.len() - source.len();
                self.skip = length as usize;
                Ok(true)
            }
            Err(_) if before.len() < LONGEST_HEADER => Ok(false),
            Err(error) => Err(damaged(error)),
        }
    }

    /// Unpacks a block; false if it is not there yet.
    fn block(&mut self) -> io::Result<bool> {
        let rest = &self.packed[self.at..];
        let Some(header) = rest.get(..3) else {
            return Ok(false);
        };
        let header = u32::from_le_bytes([header[0], header[1], header[2], 0]);
        let (last, repeated) = (header & 1 == 1, (header >> 1) & 3 == 1);
        let body = if repeated { 1 } else { header as usize >> 3 };
        let len = 3 + body + if last && self.checked { 4 } else { 0 };
        let Some(mut block) = rest.get(..len) else {
            return Ok(false);
        };
        let done = self
            .decoder
            .decode_blocks(&mut block, BlockDecodingStrategy::UptoBlocks(1))
            .map_err(damaged)?;
        self.at += len;
        self.inside = !done;
        Ok(true)
    }
}
