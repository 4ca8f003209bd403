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
use arrow_array::types::{ArrowPrimitiveType, Int64Type, UInt32Type};
use arrow_array::{Array, ArrayRef, PrimitiveArray, RecordBatch};
use arrow_schema::{Field, FieldRef};
use bytes::Bytes;
use column::ColumnCodec;
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

impl<K: Key, V: Data> RowEncoder for RowCodec<K, V> {
    fn encode(&self, chunks: Vec<Box<dyn Any + Send>>) -> Result<Vec<EncodedPage>, String> {
        let open = |chunk: Box<dyn Any + Send>| chunk.downcast::<ImageRows<K, V>>().map(|rows| *rows);
        let chunks = chunks.into_iter().map(open).collect::<Result<Vec<_>, _>>();
        let chunks = chunks.map_err(|_| "a chunk of rows came to the codec of another type")?;
        let rows = Sorted::new(&chunks);
        rows.pages(PAGE_BYTES, MAX_PAGES)
            .map(|page| self.page(&rows, page).map_err(|error| error.to_string()))
            .collect()
    }
}

impl<K: Key, V: Data> RowCodec<K, V> {
    /// The rows of a page, perhaps written by an older version of the types. A page holds every row of its key groups,
    /// so some may belong to another subtask.
    pub fn decode(&self, bytes: &[u8]) -> Result<Vec<ImageRow<K, V>>, StateError> {
        self.decode_page(Bytes::copy_from_slice(bytes))
    }

    /// The same, without a copy of the page.
    pub fn decode_page(&self, page: Bytes) -> Result<Vec<ImageRow<K, V>>, StateError> {
        // The Arrow libraries panic on schemas that no writer makes, and a `Deserialize` may on what it does not expect.
        let decoded = catch_unwind(AssertUnwindSafe(|| self.decode_batches(page)));
        decoded.unwrap_or_else(|_| Err(StateError::Page("reading it panicked".into())))
    }

    fn decode_batches(&self, page: Bytes) -> Result<Vec<ImageRow<K, V>>, StateError> {
        let mut rows = Vec::new();
        for batch in page::read(page)? {
            let groups = primitive::<UInt32Type>(&batch, GROUP)?;
            let namespaces = match batch.schema_ref().fields().find(NAMESPACE) {
                Some(_) => primitive::<Int64Type>(&batch, NAMESPACE)?.values().to_vec(),
                None => vec![0; batch.num_rows()],
            };
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
            let places = groups.values().iter().zip(namespaces);
            rows.extend(
                places
                    .zip(keys)
                    .zip(values)
                    .map(|(((&group, namespace), key), value)| ImageRow {
                        group: KeyGroup(group),
                        namespace,
                        key,
                        value,
                    }),
            );
        }
        Ok(rows)
    }

    /// One page of a range of the rows.
    fn page(&self, sorted: &Sorted<'_, K, V>, range: Range<usize>) -> Result<EncodedPage, StateError> {
        let rows = sorted.rows(range.clone());
        let groups = sorted.groups(range.clone());
        let (first, last) = (groups.first().copied(), groups.last().copied());
        let mut columns = vec![plain::<UInt32Type>(GROUP, groups)];
        columns.extend(
            sorted
                .namespaces(range)
                .map(|all| plain::<Int64Type>(NAMESPACE, all)),
        );
        columns.push(self.keys.encode(KEY, rows, |row| &row.0)?);
        columns.push(self.values.encode(VALUE, rows, |row| &row.1)?);
        let bytes = page::write(columns);
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
