//! A record batch as one message of an Arrow IPC stream, its columns copied once.
//!
//! The library's writer copies each column into a body that grows, and the body into the stream; pages are written so often
//! that this shows. Only layouts that `columns` builds are written here: others are the library's.

use arrow_array::{Array, RecordBatch};
use arrow_buffer::bit_util;
use arrow_data::ArrayData;
use arrow_ipc::{Buffer, FieldNode, MessageBuilder, MessageHeader, MetadataVersion, RecordBatchBuilder};
use arrow_schema::DataType;
use flatbuffers::FlatBufferBuilder;

/// Where buffers may start.
const ALIGNMENT: usize = 8;
/// Devices are written by blocks of so many bytes.
pub(super) const BLOCK: usize = 512;
/// Streams of so many bytes are made to end with a block.
const LEAST_OF_BLOCKS: usize = 32 << 10;
/// What ends a stream.
const END: usize = 8;

/// Appends the batch to a stream that starts at `start` and whose schema is written; `false`, and nothing is done, if it has a
/// layout that is not written here. A large stream will be whole blocks long when it is ended.
pub(super) fn append(batch: &RecordBatch, stream: &mut Vec<u8>, start: usize) -> bool {
    let columns: Vec<ArrayData> = batch.columns().iter().map(|column| column.to_data()).collect();
    let mut body = Body::default();
    if columns.iter().any(|column| body.add(column).is_none()) {
        return false;
    }
    let head = head(batch.num_rows(), &body);
    let mut padding = head.len().next_multiple_of(ALIGNMENT) - head.len();
    let len = stream.len() - start + 2 * size_of::<u32>() + head.len() + padding + body.len + END;
    if len >= LEAST_OF_BLOCKS {
        padding += len.next_multiple_of(BLOCK) - len;
    }
    stream.extend(u32::MAX.to_le_bytes());
    stream.extend(((head.len() + padding) as u32).to_le_bytes());
    stream.extend(&head);
    pad(stream, padding);
    stream.reserve(body.len);
    for part in &body.parts {
        stream.extend_from_slice(part);
        pad(stream, part.len().next_multiple_of(ALIGNMENT) - part.len());
    }
    true
}

/// The parts of the body in order, and how the head names them.
#[derive(Default)]
struct Body<'a> {
    nodes: Vec<FieldNode>,
    buffers: Vec<Buffer>,
    parts: Vec<&'a [u8]>,
    len: usize,
}

impl<'a> Body<'a> {
    /// Adds a column and those inside of it; `None` if one has another layout.
    fn add(&mut self, column: &'a ArrayData) -> Option<()> {
        let rows = column.len();
        if column.offset() != 0 {
            return None;
        }
        self.nodes
            .push(FieldNode::new(rows as i64, column.null_count() as i64));
        match column.nulls().filter(|nulls| nulls.null_count() > 0) {
            Some(nulls) if nulls.offset() == 0 => self.part(nulls.validity().get(..bit_util::ceil(rows, 8))?),
            Some(_) => return None,
            None => self.part(&[]),
        }
        let buffer = |at: usize, bytes: usize| column.buffers().get(at)?.as_slice().get(..bytes);
        match column.data_type() {
            DataType::Boolean => self.part(buffer(0, bit_util::ceil(rows, 8))?),
            DataType::LargeUtf8 | DataType::LargeBinary => {
                let ends = buffer(0, (rows + 1) * size_of::<i64>())?;
                self.part(ends);
                self.part(buffer(1, last(ends)?)?);
            }
            DataType::LargeList(_) => {
                self.part(buffer(0, (rows + 1) * size_of::<i64>())?);
                self.add(column.child_data().first()?)?;
            }
            DataType::Struct(_) => {
                for child in column.child_data() {
                    self.add(child)?;
                }
            }
            plain => self.part(buffer(0, rows * plain.primitive_width()?)?),
        }
        Some(())
    }

    fn part(&mut self, bytes: &'a [u8]) {
        self.buffers
            .push(Buffer::new(self.len as i64, bytes.len() as i64));
        self.parts.push(bytes);
        self.len += bytes.len().next_multiple_of(ALIGNMENT);
    }
}

/// The last of some offsets.
fn last(ends: &[u8]) -> Option<usize> {
    let last = ends.last_chunk::<8>()?;
    usize::try_from(i64::from_le_bytes(*last)).ok()
}

fn head(rows: usize, body: &Body<'_>) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let buffers = builder.create_vector(&body.buffers);
    let nodes = builder.create_vector(&body.nodes);
    let mut batch = RecordBatchBuilder::new(&mut builder);
    batch.add_length(rows as i64);
    batch.add_nodes(nodes);
    batch.add_buffers(buffers);
    let batch = batch.finish().as_union_value();
    let mut message = MessageBuilder::new(&mut builder);
    message.add_version(MetadataVersion::V5);
    message.add_header_type(MessageHeader::RecordBatch);
    message.add_bodyLength(body.len as i64);
    message.add_header(batch);
    let message = message.finish();
    builder.finish(message, None);
    builder.finished_data().to_vec()
}

fn pad(stream: &mut Vec<u8>, bytes: usize) {
    stream.resize(stream.len() + bytes, 0);
}

#[cfg(test)]
mod tests {
    use super::super::page;
    use super::*;
    use arrow_array::types::{Int8Type, Int64Type};
    use arrow_array::{
        ArrayRef, BooleanArray, DictionaryArray, Int32Array, LargeListArray, LargeStringArray, StructArray,
    };
    use arrow_ipc::writer::StreamWriter;
    use arrow_schema::{Field, Schema};
    use std::sync::Arc;

    fn batch(columns: Vec<ArrayRef>) -> RecordBatch {
        let field =
            |(at, column): (usize, &ArrayRef)| Field::new(format!("c{at}"), column.data_type().clone(), true);
        let fields: Vec<Field> = columns.iter().enumerate().map(field).collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
    }

    /// The batch as it comes back; `None` if it is not written here.
    fn back(batch: &RecordBatch) -> Option<RecordBatch> {
        let mut writer = StreamWriter::try_new(Vec::new(), batch.schema_ref()).unwrap();
        append(batch, writer.get_mut(), 0).then(|| {
            let stream = writer.into_inner().unwrap();
            let alignment = if stream.len() < LEAST_OF_BLOCKS {
                ALIGNMENT
            } else {
                BLOCK
            };
            assert_eq!(stream.len() % alignment, 0, "what follows it is aligned too");
            page::read(stream.into()).unwrap().remove(0)
        })
    }

    #[test]
    fn the_library_reads_what_is_written_here() {
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, Some(3)]));
        let inner = Arc::new(Field::new("inner", numbers.data_type().clone(), true));
        let lists = [Some(vec![Some(1i64), None]), None, Some(vec![])];
        let whole = batch(vec![
            numbers.clone(),
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
            Arc::new(LargeStringArray::from(vec![Some("one"), None, Some("")])),
            Arc::new(LargeListArray::from_iter_primitive::<Int64Type, _, _>(lists)),
            Arc::new(StructArray::from(vec![(inner, numbers)])),
        ]);
        assert_eq!(back(&whole), Some(whole));
        for rows in [LEAST_OF_BLOCKS / 4, LEAST_OF_BLOCKS + 1] {
            let large = batch(vec![Arc::new(Int32Array::from_iter_values(0..rows as i32))]);
            assert_eq!(back(&large), Some(large));
        }
        let empty = batch(vec![Arc::new(Int32Array::from(Vec::<i32>::new()))]);
        assert_eq!(back(&empty), Some(empty));
    }

    #[test]
    fn other_layouts_are_left_to_the_library() {
        let words: DictionaryArray<Int8Type> = ["a", "b", "a"].into_iter().collect();
        assert_eq!(back(&batch(vec![Arc::new(words)])), None);
        let bits = BooleanArray::from(vec![true, false, true]).slice(1, 2);
        assert_eq!(back(&batch(vec![Arc::new(bits)])), None);
    }
}
