//! Rows to Arrow pages and back: the snapshot format's inside.
//!
//! A page is an Arrow IPC stream with the columns `key_group` (u32), `namespace` (i64), `key` and `value`; it carries
//! its schema and can be read alone, by any Arrow tool. Layout: `column` turns values into an array (traced from the
//! type, or opaque), `page` turns arrays into bytes and guards the way back, `sample` makes up values to try a type on;
//! [`batch_rows`] writes records in flight; here, rows are sorted and cut into pages. Non-goals: where pages are kept, and
//! what protects their bytes (`object`).

mod batch;
mod column;
mod page;
mod sample;
#[cfg(test)]
mod tests;

pub use batch::batch_rows;
pub use column::ENCODING_KEY;
pub use sample::check_key_type;

use crate::StateError;
use crate::image::{EncodedPage, ImageRow, RowEncoder};
use arrow_array::types::{ArrowPrimitiveType, Int64Type, UInt32Type};
use arrow_array::{Array, ArrayRef, PrimitiveArray, RecordBatch};
use arrow_schema::{Field, FieldRef};
use column::ColumnCodec;
use rivermark_data::{Data, Key};
use rivermark_types::{KeyGroup, MaxParallelism};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// About how large a page should be.
const PAGE_BYTES: usize = 256 * 1024;
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

impl<K: Key, V: Data> RowEncoder for RowCodec<K, V> {
    fn encode(&self, chunks: Vec<Box<dyn Any + Send>>) -> Result<Vec<EncodedPage>, String> {
        let mut rows: Vec<ImageRow<K, V>> = Vec::new();
        for chunk in chunks {
            let chunk = chunk
                .downcast::<Vec<ImageRow<K, V>>>()
                .map_err(|_| "a chunk of rows came to the codec of another type")?;
            if rows.is_empty() {
                rows = *chunk;
            } else {
                rows.extend(*chunk);
            }
        }
        rows.sort_by_key(|row| row.group);
        pages_of(&rows)
            .map(|rows| self.page(rows).map_err(|error| error.to_string()))
            .collect()
    }
}

impl<K: Key, V: Data> RowCodec<K, V> {
    /// The rows of a page, perhaps written by an older version of the types. A page holds every row of its key groups,
    /// so some may belong to another subtask.
    pub fn decode(&self, bytes: &[u8]) -> Result<Vec<ImageRow<K, V>>, StateError> {
        // The Arrow libraries panic on schemas that no writer makes, and a `Deserialize` may on what it does not expect.
        let decoded = catch_unwind(AssertUnwindSafe(|| self.decode_batches(bytes)));
        decoded.unwrap_or_else(|_| Err(StateError::Page("reading it panicked".into())))
    }

    fn decode_batches(&self, bytes: &[u8]) -> Result<Vec<ImageRow<K, V>>, StateError> {
        let mut rows = Vec::new();
        for batch in page::read(bytes)? {
            let groups = primitive::<UInt32Type>(&batch, GROUP)?;
            let namespaces = primitive::<Int64Type>(&batch, NAMESPACE)?;
            let (field, array) = column(&batch, KEY)?;
            let keys = self.keys.decode(field, array)?;
            let (field, array) = column(&batch, VALUE)?;
            let values = self.values.decode(field, array)?;
            let count = batch.num_rows();
            if keys.len() != count || values.len() != count {
                return Err(StateError::Page("its columns differ in length".into()));
            }
            if let Some(group) = groups
                .values()
                .iter()
                .find(|&&group| group >= MaxParallelism::LIMIT)
            {
                return Err(StateError::Page(format!("there is no key group {group}")));
            }
            let places = groups.values().iter().zip(namespaces.values());
            rows.extend(
                places
                    .zip(keys)
                    .zip(values)
                    .map(|(((&group, &namespace), key), value)| ImageRow {
                        group: KeyGroup(group),
                        namespace,
                        key,
                        value,
                    }),
            );
        }
        Ok(rows)
    }

    /// One page of rows that are sorted by key group.
    fn page(&self, rows: &[ImageRow<K, V>]) -> Result<EncodedPage, StateError> {
        let groups = PrimitiveArray::<UInt32Type>::from_iter_values(rows.iter().map(|row| row.group.0));
        let namespaces = PrimitiveArray::<Int64Type>::from_iter_values(rows.iter().map(|row| row.namespace));
        let bytes = page::write(vec![
            plain(GROUP, groups),
            plain(NAMESPACE, namespaces),
            self.keys.encode(KEY, rows, |row| &row.key)?,
            self.values.encode(VALUE, rows, |row| &row.value)?,
        ]);
        let (first, last) = (rows.first(), rows.last());
        Ok(EncodedPage {
            first_group: first.map_or(KeyGroup(0), |row| row.group),
            last_group: last.map_or(KeyGroup(0), |row| row.group),
            rows: rows.len() as u64,
            bytes: bytes.map_err(|error| StateError::Page(error.to_string()))?,
        })
    }
}

/// Cuts sorted rows into runs of about equal length, never inside a key group.
fn pages_of<K, V>(rows: &[ImageRow<K, V>]) -> impl Iterator<Item = &[ImageRow<K, V>]> {
    let pages = (size_of_val(rows) / PAGE_BYTES).clamp(1, MAX_PAGES);
    let target = rows.len().div_ceil(pages).max(1);
    let mut rest = rows;
    std::iter::from_fn(move || {
        let last = rest.get(..target.min(rest.len()))?.last()?.group;
        let end = rest.partition_point(|row| row.group <= last);
        let (page, left) = rest.split_at(end);
        rest = left;
        Some(page)
    })
}

fn plain<P: ArrowPrimitiveType>(name: &str, values: PrimitiveArray<P>) -> (FieldRef, ArrayRef) {
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
