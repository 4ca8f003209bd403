//! A page as bytes: one Arrow IPC stream, uncompressed, without dictionaries of its own making.
//!
//! The Arrow reader trusts lengths and offsets that a stream names, and allocates without bound when they lead outside of
//! it, so [`read`] checks them first. Non-goals: what the columns mean.

use super::message;
use crate::StateError;
use crate::page_memory::PageMemory;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::writer::StreamWriter;
use arrow_ipc::{MessageHeader, root_as_message};
use arrow_schema::{ArrowError, FieldRef, Schema};
use bytes::Bytes;
use std::sync::Arc;

/// About what a stream needs besides its columns.
const HEADS: usize = 4096;

/// Writes the columns as one record batch.
pub(super) fn write(
    columns: Vec<(FieldRef, ArrayRef)>,
    memory: &Arc<PageMemory>,
) -> Result<Bytes, ArrowError> {
    let (fields, arrays): (Vec<FieldRef>, Vec<ArrayRef>) = columns.into_iter().unzip();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(schema.clone(), arrays)?;
    let room: usize = batch
        .columns()
        .iter()
        .map(|array| array.get_buffer_memory_size())
        .sum();
    let mut buffer = memory.take(room + room / 8 + HEADS);
    // Where it lies on blocks it can go to a device without a copy.
    let start = buffer.as_ptr().align_offset(message::BLOCK).min(message::BLOCK);
    buffer.resize(start, 0);
    let mut writer = StreamWriter::try_new(buffer, &schema)?;
    if !message::append(&batch, writer.get_mut(), start) {
        writer.write(&batch)?;
    }
    Ok(memory.lend(writer.into_inner()?).slice(start..))
}

/// The record batches of a stream. They go on using its bytes, where those are aligned as they were written.
pub(super) fn read(bytes: Bytes) -> Result<Vec<RecordBatch>, StateError> {
    check_frames(&bytes).map_err(StateError::Page)?;
    let unreadable = |error: ArrowError| StateError::Page(error.to_string());
    let mut rest = Buffer::from(bytes);
    let mut decoder = StreamDecoder::new();
    let mut batches = Vec::new();
    while let Some(batch) = decoder.decode(&mut rest).map_err(unreadable)? {
        batches.push(batch);
    }
    decoder.finish().map_err(unreadable)?;
    Ok(batches)
}

/// Walks the messages of a stream: each must lie inside of it, and its buffers inside its body.
fn check_frames(bytes: &[u8]) -> Result<(), String> {
    let mut rest = bytes;
    loop {
        let (mark, length) = (word(&mut rest)?, word(&mut rest)?);
        if mark != u32::MAX {
            return Err("it is no Arrow stream".into());
        }
        if length == 0 {
            return match rest {
                [] => Ok(()),
                _ => Err(format!("{} bytes follow its end", rest.len())),
            };
        }
        let head = cut(&mut rest, u64::from(length))?;
        let message = root_as_message(head).map_err(|error| error.to_string())?;
        let body = u64::try_from(message.bodyLength()).map_err(|_| "a message has a negative length")?;
        cut(&mut rest, body)?;
        match message.header_type() {
            MessageHeader::Schema => {}
            MessageHeader::RecordBatch => check_batch(
                message.header_as_record_batch().ok_or("a batch has no head")?,
                body,
            )?,
            MessageHeader::DictionaryBatch => {
                let dictionary = message
                    .header_as_dictionary_batch()
                    .ok_or("a dictionary has no head")?;
                check_batch(dictionary.data().ok_or("a dictionary has no data")?, body)?
            }
            other => return Err(format!("it has an unknown message {other:?}")),
        }
    }
}

/// No buffer may leave the body, and what the reader would have to guess at is refused.
fn check_batch(batch: arrow_ipc::RecordBatch<'_>, body: u64) -> Result<(), String> {
    let inside = |start: i64, len: i64| {
        let end = u64::try_from(start)
            .ok()
            .zip(u64::try_from(len).ok())
            .and_then(|(start, len)| start.checked_add(len));
        end.is_some_and(|end| end <= body)
    };
    // No column of ours takes less than a bit a row, but for those without any content.
    let believable = |rows: i64| u64::try_from(rows).is_ok_and(|rows| rows <= body.saturating_mul(8));
    let buffers = batch.buffers().ok_or("a batch has no buffers")?;
    let nodes = batch.nodes().ok_or("a batch has no columns")?;
    if !buffers
        .iter()
        .all(|buffer| inside(buffer.offset(), buffer.length()))
    {
        return Err("a buffer lies outside of its batch".into());
    }
    if !believable(batch.length()) || !nodes.iter().all(|node| believable(node.length())) {
        return Err("a column has more rows than its batch can hold".into());
    }
    if !nodes
        .iter()
        .all(|node| (0..=node.length()).contains(&node.null_count()))
    {
        return Err("a column has more nulls than rows".into());
    }
    if batch.variadicBufferCounts().is_some() || batch.compression().is_some() {
        return Err("it uses views or compression".into());
    }
    Ok(())
}

fn word(rest: &mut &[u8]) -> Result<u32, String> {
    let (word, left) = rest.split_first_chunk::<4>().ok_or("it ends too early")?;
    *rest = left;
    Ok(u32::from_le_bytes(*word))
}

fn cut<'a>(rest: &mut &'a [u8], len: u64) -> Result<&'a [u8], String> {
    let len = usize::try_from(len).ok().filter(|&len| len <= rest.len());
    let (head, left) = rest.split_at(len.ok_or("it ends too early")?);
    *rest = left;
    Ok(head)
}
