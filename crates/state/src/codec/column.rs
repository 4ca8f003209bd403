//! One column of a page: the values of one Rust type as an Arrow array.
//!
//! Layout: [`ColumnCodec`] decides once per type how its values are written, and reads whatever a page's own metadata
//! says it holds. *Traced* values are Arrow columns that other tools read and that evolve by field name. A type that
//! cannot be traced, or that does not come back from its columns as it was (an option in an option, for one), is
//! *opaque*: a binary column, each value by itself, that does not evolve.

use super::columns::Builder;
use super::columns::read::Column;
use super::page;
use super::sample::samples;
use crate::StateError;
use arrow_array::{Array, ArrayRef, LargeBinaryArray, make_array};
use arrow_data::ArrayData;
use arrow_schema::{ArrowError, DataType, Field, FieldRef};
use rivermark_data::Data;
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use serde_arrow::schema::{SchemaLike, TracingOptions};
use serde_arrow::utils::{Item, Items};
use std::any::{TypeId, type_name};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

/// The metadata key of an opaque column; its value names the encoding.
pub const ENCODING_KEY: &str = "rivermark.encoding";
/// What serde_arrow calls the only field of a row that is no struct.
const ITEM: &str = "item";
/// How many made-up values a traced type must get right.
const TRIALS: u32 = 64;

/// So many values tell how long texts are.
const SAMPLE_ROWS: usize = 16;

/// Writes and reads columns of `T`.
pub(super) struct ColumnCodec<T> {
    values: PhantomData<fn() -> T>,
}

/// How one value of an opaque column is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opaque {
    /// Compact; for most types.
    Postcard,
    /// For types that only a self-describing encoding can hold.
    Json,
}

impl<T: Data> ColumnCodec<T> {
    pub(super) fn new() -> Self {
        ColumnCodec { values: PhantomData }
    }

    /// The values as an array, and its field under `name`.
    pub(super) fn encode<'a, R>(
        &self,
        name: &str,
        rows: &'a [R],
        value_of: fn(&'a R) -> &'a T,
    ) -> Result<(FieldRef, ArrayRef), StateError> {
        if let Some(Traced { field, is_flat }) = traced::<T>() {
            if is_flat && let Some(array) = to_columns(&field, rows, value_of) {
                return Ok((field_of(&field, name, &array), array));
            }
            match to_array(&field, rows, value_of) {
                Ok(array) => return Ok((field_of(&field, name, &array), array)),
                // The trials did not show it, but this value has no place in the columns: better opaque than not at all.
                Err(error) => {
                    tracing::warn!(type_name = type_name::<T>(), %error, "values are written as opaque bytes")
                }
            }
        }
        let opaque = |error: String| StateError::Unwritable {
            type_name: type_name::<T>(),
            reason: error,
        };
        let (encoding, array) = match opaque_array(Opaque::Postcard, rows, value_of) {
            Ok(array) => (Opaque::Postcard, array),
            Err(first) => match opaque_array(Opaque::Json, rows, value_of) {
                Ok(array) => (Opaque::Json, array),
                Err(second) => return Err(opaque(format!("as postcard: {first}; as JSON: {second}"))),
            },
        };
        let metadata = [(ENCODING_KEY.to_owned(), encoding.name().to_owned())];
        let field = Field::new(name, DataType::LargeBinary, false).with_metadata(metadata.into());
        Ok((Arc::new(field), Arc::new(array)))
    }

    /// The values of an array, by what its field says of it.
    pub(super) fn decode(&self, field: &FieldRef, array: &ArrayRef) -> Result<Vec<T>, StateError> {
        let unreadable = |reason: String| {
            StateError::Page(format!(
                "column {:?} of type {} as {}: {reason}",
                field.name(),
                field.data_type(),
                type_name::<T>()
            ))
        };
        match field.metadata().get(ENCODING_KEY) {
            None => {
                let is_ours =
                    |traced: &Traced| traced.is_flat && traced.field.data_type() == field.data_type();
                if traced::<T>().as_ref().is_some_and(is_ours)
                    && let Some(values) = from_columns(array)
                {
                    return Ok(values);
                }
                from_array(field, array).map_err(|error| unreadable(error.to_string()))
            }
            Some(name) => {
                let encoding = Opaque::named(name)
                    .ok_or_else(|| unreadable(format!("its encoding {name:?} is unknown")))?;
                let column = array
                    .as_any()
                    .downcast_ref::<LargeBinaryArray>()
                    .filter(|column| column.null_count() == 0)
                    .ok_or_else(|| unreadable("an opaque column must be binary without nulls".into()))?;
                (0..column.len())
                    .map(|row| encoding.read(column.value(row)).map_err(unreadable))
                    .collect()
            }
        }
    }

    /// Whether values are written as bytes that only this type can read.
    #[cfg(test)]
    pub(super) fn is_opaque(&self) -> bool {
        traced::<T>().is_none()
    }
}

/// Keys and values of rows as the columns of these names, in one pass over the rows, which lie anywhere; `None` if one of them
/// cannot be written directly.
pub(super) fn encode_both<K: Data, V: Data>(
    names: [&str; 2],
    rows: &[&(K, V)],
) -> Option<[(FieldRef, ArrayRef); 2]> {
    let fields = [traced::<K>()?, traced::<V>()?];
    if !fields.iter().all(|traced| traced.is_flat) {
        return None;
    }
    let mut keys = Builder::new(&fields[0].field, rows.len())?;
    let mut values = Builder::new(&fields[1].field, rows.len())?;
    let (first, others) = rows.split_at(rows.len().min(SAMPLE_ROWS));
    for (key, value) in first {
        keys.push(key).ok()?;
        values.push(value).ok()?;
    }
    keys.reserve_like(first.len(), others.len());
    values.reserve_like(first.len(), others.len());
    for (key, value) in others {
        keys.push(key).ok()?;
        values.push(value).ok()?;
    }
    let arrays = [keys.finish(rows.len()).ok()?, values.finish(rows.len()).ok()?];
    let named = |at: usize| {
        (
            field_of(&fields[at].field, names[at], &arrays[at]),
            arrays[at].clone(),
        )
    };
    Some([named(0), named(1)])
}

/// What columns a type becomes.
#[derive(Clone)]
struct Traced {
    field: FieldRef,
    /// Whether its columns can be written and read directly (`columns`).
    is_flat: bool,
}

/// How types are traced, or `None` for the opaque ones. It costs about a millisecond a type and is always the same, so a
/// process does it once.
static TRACED: Mutex<BTreeMap<TypeId, Option<Traced>>> = Mutex::new(BTreeMap::new());

/// What [`trace`] says of `T`.
fn traced<T: Data>() -> Option<Traced> {
    let known = || TRACED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(traced) = known().get(&TypeId::of::<T>()) {
        return traced.clone();
    }
    let traced = trace::<T>();
    known().insert(TypeId::of::<T>(), traced.clone());
    traced
}

/// The field of `T` named [`ITEM`], if `T` can be traced and every trial comes back as it went in.
fn trace<T: Data>() -> Option<Traced> {
    let options = TracingOptions::default()
        .allow_null_fields(true)
        .map_as_struct(false)
        .enums_without_data_as_strings(true)
        .from_type_budget(1_000);
    let fields = Vec::<FieldRef>::from_type::<Item<T>>(options).ok()?;
    let [field] = fields.as_slice() else { return None };
    let trials = samples::<T>(TRIALS);
    let general = to_array(field, &trials, |value| value).ok()?;
    let survives =
        |array: &ArrayRef, read: Read<T>| matches!(survives(field, &trials, array, read), Ok(true));
    if trials.is_empty() || !survives(&general, from_array) {
        return None;
    }
    // Each way must read what the other wrote.
    let read_flat: Read<T> = |_, array| from_columns(array).ok_or_else(|| failed("not flat".into()));
    let is_flat = to_columns(field, &trials, |value| value).is_some_and(|flat| {
        survives(&flat, from_array) && survives(&flat, read_flat) && survives(&general, read_flat)
    });
    Some(Traced {
        field: field.clone(),
        is_flat,
    })
}

/// A way to read a column.
type Read<T> = fn(&FieldRef, &ArrayRef) -> Result<Vec<T>, serde_arrow::Error>;

fn failed(reason: String) -> serde_arrow::Error {
    serde_arrow::Error::new(serde_arrow::ErrorKind::Custom, reason)
}

/// Whether all trials come back as they were, by the whole way that rows go.
fn survives<T: Data>(
    field: &FieldRef,
    trials: &[T],
    array: &ArrayRef,
    read: Read<T>,
) -> Result<bool, StateError> {
    let unreadable = |error: &dyn std::fmt::Display| StateError::Page(error.to_string());
    let page = page::write(
        vec![(field_of(field, ITEM, array), array.clone())],
        &Arc::default(),
    );
    let page = page.map_err(|error| unreadable(&error))?;
    let mut there = trials.iter().map(postcard::to_allocvec);
    for batch in page::read(page)? {
        let field = &batch.schema_ref().fields()[0];
        let back = read(field, batch.column(0)).map_err(|error| unreadable(&error))?;
        for value in &back {
            match (there.next(), postcard::to_allocvec(value)) {
                (Some(Ok(there)), Ok(back)) if there == back => {}
                _ => return Ok(false),
            }
        }
    }
    Ok(there.next().is_none())
}

/// A sequence of rows of one field each, as serde_arrow wants it.
struct Rows<'a, R, T> {
    rows: &'a [R],
    value_of: fn(&'a R) -> &'a T,
}

impl<'a, R, T: Serialize> Serialize for Rows<'a, R, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.rows.iter().map(|row| Item((self.value_of)(row))))
    }
}

fn to_array<'a, R, T: Data>(
    field: &FieldRef,
    rows: &'a [R],
    value_of: fn(&'a R) -> &'a T,
) -> Result<ArrayRef, serde_arrow::Error> {
    let arrays = serde_arrow::to_arrow(std::slice::from_ref(field), Rows { rows, value_of })?;
    let first = arrays.into_iter().next();
    let built = first.map(|array| nullable_unions(array.to_data()).map(make_array));
    built
        .ok_or_else(|| failed("no array was built".into()))?
        .map_err(|error| failed(error.to_string()))
}

/// The values as columns, written directly; `None` if they do not fit.
fn to_columns<'a, R, T: Data>(
    field: &FieldRef,
    rows: &'a [R],
    value_of: fn(&'a R) -> &'a T,
) -> Option<ArrayRef> {
    let mut columns = Builder::new(field, rows.len())?;
    let (first, others) = rows.split_at(rows.len().min(SAMPLE_ROWS));
    for row in first {
        columns.push(value_of(row)).ok()?;
    }
    columns.reserve_like(first.len(), others.len());
    for row in others {
        columns.push(value_of(row)).ok()?;
    }
    columns.finish(rows.len()).ok()
}

/// The values of columns, read directly; `None` if they do not fit.
fn from_columns<T: Data>(array: &ArrayRef) -> Option<Vec<T>> {
    let column = Column::of(array)?;
    let mut values = Vec::with_capacity(array.len());
    for row in 0..array.len() {
        values.push(T::deserialize(column.at(row)).ok()?);
    }
    Some(values)
}

fn from_array<T: Data>(field: &FieldRef, array: &ArrayRef) -> Result<Vec<T>, serde_arrow::Error> {
    let fields = [renamed(field, ITEM)];
    let Items(values) = serde_arrow::from_arrow::<Items<Vec<T>>, _>(&fields, std::slice::from_ref(array))?;
    Ok(values)
}

fn renamed(field: &FieldRef, name: &str) -> FieldRef {
    Arc::new(field.as_ref().clone().with_name(name))
}

fn field_of(traced: &FieldRef, name: &str, array: &ArrayRef) -> FieldRef {
    let field = traced.as_ref().clone().with_name(name);
    Arc::new(field.with_data_type(array.data_type().clone()))
}

/// The same data with every nested union field nullable. Arrow counts a variant without content as a null of the union,
/// and its reader refuses nulls where the schema denies them.
fn nullable_unions(data: ArrayData) -> Result<ArrayData, ArrowError> {
    let children = data.child_data().iter().cloned().map(nullable_unions);
    let children = children.collect::<Result<Vec<_>, _>>()?;
    let mut types = children.iter().map(|child| child.data_type().clone());
    let mut relaxed = |field: &FieldRef| {
        let data_type = types.next().unwrap_or_else(|| field.data_type().clone());
        let nullable = field.is_nullable() || matches!(data_type, DataType::Union(..));
        let field = field.as_ref().clone();
        Arc::new(field.with_data_type(data_type).with_nullable(nullable))
    };
    let data_type = match data.data_type() {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(relaxed).collect()),
        DataType::List(field) => DataType::List(relaxed(field)),
        DataType::LargeList(field) => DataType::LargeList(relaxed(field)),
        DataType::FixedSizeList(field, len) => DataType::FixedSizeList(relaxed(field), *len),
        DataType::Map(field, sorted) => DataType::Map(relaxed(field), *sorted),
        DataType::Union(fields, mode) => {
            let fields = fields.iter().map(|(id, field)| (id, relaxed(field)));
            DataType::Union(fields.collect(), *mode)
        }
        other => other.clone(),
    };
    if data_type == *data.data_type() {
        return Ok(data);
    }
    data.into_builder()
        .data_type(data_type)
        .child_data(children)
        .build()
}

/// Each value by itself. Each is read back at once: a value that cannot be read must fail the checkpoint, not the restore.
fn opaque_array<'a, R, T: Data>(
    encoding: Opaque,
    rows: &'a [R],
    value_of: fn(&'a R) -> &'a T,
) -> Result<LargeBinaryArray, String> {
    let cells = rows.iter().map(|row| {
        let bytes = encoding.write(value_of(row))?;
        encoding.read::<T>(&bytes)?;
        Ok(bytes)
    });
    let cells = cells.collect::<Result<Vec<Vec<u8>>, String>>()?;
    Ok(LargeBinaryArray::from_iter_values(cells))
}

impl Opaque {
    fn name(self) -> &'static str {
        match self {
            Opaque::Postcard => "postcard",
            Opaque::Json => "json",
        }
    }

    fn named(name: &str) -> Option<Opaque> {
        [Opaque::Postcard, Opaque::Json]
            .into_iter()
            .find(|encoding| encoding.name() == name)
    }

    fn write<T: Serialize>(self, value: &T) -> Result<Vec<u8>, String> {
        match self {
            Opaque::Postcard => postcard::to_allocvec(value).map_err(|error| error.to_string()),
            Opaque::Json => serde_json::to_vec(value).map_err(|error| error.to_string()),
        }
    }

    fn read<T: for<'de> Deserialize<'de>>(self, bytes: &[u8]) -> Result<T, String> {
        match self {
            Opaque::Postcard => match postcard::take_from_bytes(bytes).map_err(|error| error.to_string())? {
                (value, []) => Ok(value),
                (_, rest) => Err(format!("{} bytes are left over", rest.len())),
            },
            Opaque::Json => serde_json::from_slice(bytes).map_err(|error| error.to_string()),
        }
    }
}
