//! Rows to Arrow pages and back: the snapshot format's inside.
//!
//! A page is an Arrow IPC stream with the columns `key_group` (u32), `namespace` (i64; left out where all are 0), `key` and
//! `value`; it carries its schema and can be read alone, by any Arrow tool. Layout: `column` turns values into an array (traced from the
//! type, or opaque), `columns` does so directly for flat types, `sorted` brings rows into the order of their key groups, `page` and `message` turn arrays into bytes, and `page` guards the way back, `sample` makes up values to try a type on;
//! [`batch_rows`] writes records in flight; `look` reads pages without knowing their types; here, rows are sorted and cut into pages. Non-goals: where pages are kept, and
//! what protects their bytes (`object`).

mod batch;
mod column;
mod columns;
mod look;
mod message;
mod page;
mod sample;
mod sorted;
#[cfg(test)]
mod tests;

pub use batch::batch_rows;
pub use column::ENCODING_KEY;
pub use look::{PageLook, look_at_page};
pub use sample::check_key_type;

use crate::StateError;
use crate::image::{EncodedPage, ImageRow, ImageRows, RowEncoder};
use crate::page_memory::PageMemory;
use arrow_array::types::{ArrowPrimitiveType, Int64Type, UInt32Type};
use arrow_array::{Array, ArrayRef, PrimitiveArray, RecordBatch};
use arrow_buffer::ScalarBuffer;
use arrow_schema::{Field, FieldRef};
use bytes::Bytes;
use column::{ColumnCodec, encode_both};
use rivermark_data::{Data, Key};
use rivermark_types::{KeyGroup, MaxParallelism};
use sorted::Sorted;
use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// About how large a page should be.
const PAGE_BYTES: usize = 64 * 1024;
/// The most pages one call to `encode` makes.
const MAX_PAGES: usize = 16;

const GROUP: &str = "key_group";
const NAMESPACE: &str = "namespace";
const KEY: &str = "key";
const VALUE: &str = "value";

/// Encodes and decodes the rows of one state.
pub struct RowCodec<K, V> {
    keys: ColumnCodec<K>,
    values: ColumnCodec<V>,
}

/// A codec for rows of `K` and `V`.
pub fn row_codec<K: Key, V: Data>() -> Arc<RowCodec<K, V>> {
    Arc::new(RowCodec {
        keys: ColumnCodec::new(),
        values: ColumnCodec::new(),
    })
}

/// Rows of a page, column by column; all are equally long.
pub struct Columns<K, V> {
    groups: ScalarBuffer<u32>,
    /// `None` if all are 0.
    pub namespaces: Option<Vec<i64>>,
    /// The keys.
    pub keys: Vec<K>,
    /// The values.
    pub values: Vec<V>,
}

impl<K, V> Columns<K, V> {
    /// The namespace of each row.
    pub fn namespaces(&self) -> Vec<i64> {
        self.namespaces
            .clone()
            .unwrap_or_else(|| vec![0; self.keys.len()])
    }

    /// Drops the rows that are not to be kept, by their place.
    pub fn retain(&mut self, keep: impl Fn(usize) -> bool) {
        fn retain<T>(column: &mut Vec<T>, keep: &impl Fn(usize) -> bool) {
            let mut places = 0..;
            column.retain(|_| places.next().is_some_and(keep));
        }
        self.groups = (0..)
            .zip(self.groups.iter())
            .filter(|(at, _)| keep(*at))
            .map(|(_, group)| *group)
            .collect();
        self.namespaces
            .iter_mut()
            .for_each(|column| retain(column, &keep));
        retain(&mut self.keys, &keep);
        retain(&mut self.values, &keep);
    }

    /// The rows one by one.
    pub fn into_rows(self) -> Vec<ImageRow<K, V>> {
        let namespaces = self.namespaces();
        let places = self.groups.iter().copied().zip(namespaces);
        let rows = places.zip(self.keys).zip(self.values);
        rows.map(|(((group, namespace), key), value)| ImageRow {
            group: KeyGroup(group),
            namespace,
            key,
            value,
        })
        .collect()
    }
}

impl<K: Key, V: Data> RowEncoder for RowCodec<K, V> {
    fn encode_in(
        &self,
        chunks: Vec<Box<dyn Any + Send>>,
        memory: &Arc<PageMemory>,
    ) -> Result<Vec<EncodedPage>, String> {
        let open = |chunk: Box<dyn Any + Send>| chunk.downcast::<ImageRows<K, V>>().map(|rows| *rows);
        let chunks = chunks.into_iter().map(open).collect::<Result<Vec<_>, _>>();
        let chunks = chunks.map_err(|_| "a chunk of rows came to the codec of another type")?;
        let rows = Sorted::new(&chunks, memory);
        let pages = rows
            .pages(PAGE_BYTES, MAX_PAGES)
            .map(|page| self.page(&rows, page, memory).map_err(|error| error.to_string()))
            .collect();
        rows.end(memory);
        pages
    }
}

impl<K: Key, V: Data> RowCodec<K, V> {
    /// The rows of a page, perhaps written by an older version of the types. A page holds every row of its key groups,
    /// so some may belong to another subtask.
    pub fn decode(&self, bytes: &[u8]) -> Result<Vec<ImageRow<K, V>>, StateError> {
        let columns = self.decode_columns(Bytes::copy_from_slice(bytes))?;
        Ok(columns.into_iter().flat_map(Columns::into_rows).collect())
    }

    /// The same, column by column and without a copy of the page.
    pub fn decode_columns(&self, page: Bytes) -> Result<Vec<Columns<K, V>>, StateError> {
        // The Arrow libraries panic on schemas that no writer makes, and a `Deserialize` may on what it does not expect.
        let decoded = catch_unwind(AssertUnwindSafe(|| {
            let batches = page::read(page)?.into_iter();
            batches.map(|batch| self.decode_batch(&batch)).collect()
        }));
        decoded.unwrap_or_else(|_| Err(StateError::Page("reading it panicked".into())))
    }

    fn decode_batch(&self, batch: &RecordBatch) -> Result<Columns<K, V>, StateError> {
        let groups = primitive::<UInt32Type>(batch, GROUP)?.values().clone();
        let namespaces = match batch.schema_ref().fields().find(NAMESPACE) {
            Some(_) => Some(primitive::<Int64Type>(batch, NAMESPACE)?.values().to_vec()),
            None => None,
        };
        let (field, array) = column(batch, KEY)?;
        let keys = self.keys.decode(field, array)?;
        let (field, array) = column(batch, VALUE)?;
        let values = self.values.decode(field, array)?;
        let count = batch.num_rows();
        if keys.len() != count || values.len() != count {
            return Err(StateError::Page("its columns differ in length".into()));
        }
        if let Some(group) = groups.iter().find(|&&group| group >= MaxParallelism::LIMIT) {
            return Err(StateError::Page(format!("there is no key group {group}")));
        }
        Ok(Columns {
            groups,
            namespaces,
            keys,
            values,
        })
    }

    /// One page of a range of the rows.
    fn page(
        &self,
        sorted: &Sorted<'_, K, V>,
        range: Range<usize>,
        memory: &Arc<PageMemory>,
    ) -> Result<EncodedPage, StateError> {
        let rows = sorted.rows(range.clone());
        let groups = sorted.groups(range.clone());
        let (first, last) = (groups.first().copied(), groups.last().copied());
        let mut columns = vec![plain::<UInt32Type>(GROUP, groups)];
        columns.extend(
            sorted
                .namespaces(range)
                .map(|all| plain::<Int64Type>(NAMESPACE, all)),
        );
        match encode_both([KEY, VALUE], rows) {
            Some(both) => columns.extend(both),
            None => {
                columns.push(self.keys.encode(KEY, rows, |row| &row.0)?);
                columns.push(self.values.encode(VALUE, rows, |row| &row.1)?);
            }
        }
        let bytes = page::write(columns, memory);
        Ok(EncodedPage {
            first_group: KeyGroup(first.unwrap_or(0)),
            last_group: KeyGroup(last.unwrap_or(0)),
            rows: rows.len() as u64,
            bytes: bytes.map_err(|error| StateError::Page(error.to_string()))?,
        })
    }
}

fn plain<P: ArrowPrimitiveType>(name: &str, values: Vec<P::Native>) -> (FieldRef, ArrayRef) {
    let values = PrimitiveArray::<P>::new(values.into(), None);
    (Arc::new(Field::new(name, P::DATA_TYPE, false)), Arc::new(values))
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<(&'a FieldRef, &'a ArrayRef), StateError> {
    let missing = || StateError::Page(format!("it has no column {name:?}"));
    let (index, field) = batch.schema_ref().fields().find(name).ok_or_else(missing)?;
    Ok((field, batch.column(index)))
}

fn primitive<'a, P: ArrowPrimitiveType>(
    batch: &'a RecordBatch,
    name: &str,
) -> Result<&'a PrimitiveArray<P>, StateError> {
    let (field, array) = column(batch, name)?;
    array
        .as_any()
        .downcast_ref::<PrimitiveArray<P>>()
        .filter(|array| array.null_count() == 0)
        .ok_or_else(|| {
            StateError::Page(format!(
                "column {name:?} is {}, it should be {} without nulls",
                field.data_type(),
                P::DATA_TYPE
            ))
        })
}
