//! Columns written and read directly, for types whose shape is flat: numbers, text, bytes, and structs, tuples, options
//! and lists of them, at any depth.
//!
//! A general writer of columns costs 31 to 81 ns a row (it looks every field up by name and keeps a path for errors), which
//! at 60M rows is the whole time that a checkpoint may take. Here a value walks straight into vectors, by static calls.
//! Whatever is not of such a shape is refused, and takes the general way; so is a type that does not come back here as it
//! does there (`column` tries it). Layout: `write` and `read` are the two ways; here is the tree of columns being built.

pub(super) mod read;
pub(super) mod write;

use arrow_array::types::*;
use arrow_array::{
    ArrayRef, ArrowPrimitiveType, BooleanArray, LargeBinaryArray, LargeListArray, LargeStringArray,
    PrimitiveArray, StructArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, Field, FieldRef};
use std::fmt;
use std::sync::Arc;

/// A value is not of the columns' shape; whoever gets this takes the general way.
#[derive(Debug)]
pub(super) struct Misfit;

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value does not fit its columns")
    }
}
impl std::error::Error for Misfit {}
impl serde::ser::Error for Misfit {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Misfit
    }
}
impl serde::de::Error for Misfit {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Misfit
    }
}

/// A column being built.
pub(super) struct Builder {
    /// Whether each value is there, where the column may have nulls.
    valid: Option<Vec<bool>>,
    kind: Kind,
}

enum Kind {
    Bool(Vec<bool>),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Text(Bytes),
    Binary(Bytes),
    Struct(Vec<Member>),
    List(Vec<i64>, FieldRef, Box<Builder>),
}

/// Values of different lengths, one behind the other.
struct Bytes {
    ends: Vec<i64>,
    bytes: Vec<u8>,
}

impl Bytes {
    fn new(rows: usize) -> Bytes {
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        Bytes {
            ends,
            bytes: Vec::new(),
        }
    }
    #[inline(always)]
    fn push(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.ends.push(self.bytes.len() as i64);
    }
}

/// A field of a struct or tuple.
struct Member {
    field: FieldRef,
    /// The name as the type spells it: the same place in memory, once it was compared.
    name: Option<&'static str>,
    column: Builder,
}

impl Member {
    #[inline(always)]
    fn is_called(&mut self, name: &'static str) -> bool {
        match self.name {
            Some(known) if std::ptr::eq(known, name) => true,
            _ => {
                let same = self.field.name() == name;
                self.name = same.then_some(name);
                same
            }
        }
    }
}

impl Builder {
    /// Columns for a traced field, with room for so many rows; `None` if the field is not flat.
    pub(super) fn new(field: &Field, rows: usize) -> Option<Builder> {
        let kind = match field.data_type() {
            DataType::Boolean => Kind::Bool(Vec::with_capacity(rows)),
            DataType::Int8 => Kind::I8(Vec::with_capacity(rows)),
            DataType::Int16 => Kind::I16(Vec::with_capacity(rows)),
            DataType::Int32 => Kind::I32(Vec::with_capacity(rows)),
            DataType::Int64 => Kind::I64(Vec::with_capacity(rows)),
            DataType::UInt8 => Kind::U8(Vec::with_capacity(rows)),
            DataType::UInt16 => Kind::U16(Vec::with_capacity(rows)),
            DataType::UInt32 => Kind::U32(Vec::with_capacity(rows)),
            DataType::UInt64 => Kind::U64(Vec::with_capacity(rows)),
            DataType::Float32 => Kind::F32(Vec::with_capacity(rows)),
            DataType::Float64 => Kind::F64(Vec::with_capacity(rows)),
            DataType::LargeUtf8 => Kind::Text(Bytes::new(rows)),
            DataType::LargeBinary => Kind::Binary(Bytes::new(rows)),
            DataType::Struct(fields) => {
                let member = |field: &FieldRef| {
                    Some(Member {
                        field: field.clone(),
                        name: None,
                        column: Builder::new(field, rows)?,
                    })
                };
                Kind::Struct(fields.iter().map(member).collect::<Option<Vec<_>>>()?)
            }
            DataType::LargeList(item) => {
                let mut ends = Vec::with_capacity(rows + 1);
                ends.push(0);
                Kind::List(ends, item.clone(), Box::new(Builder::new(item, 0)?))
            }
            _ => return None,
        };
        let valid = field.is_nullable().then(|| Vec::with_capacity(rows));
        Some(Builder { valid, kind })
    }

    fn len(&self) -> usize {
        match &self.kind {
            Kind::Bool(values) => values.len(),
            Kind::I8(values) => values.len(),
            Kind::I16(values) => values.len(),
            Kind::I32(values) => values.len(),
            Kind::I64(values) => values.len(),
            Kind::U8(values) => values.len(),
            Kind::U16(values) => values.len(),
            Kind::U32(values) => values.len(),
            Kind::U64(values) => values.len(),
            Kind::F32(values) => values.len(),
            Kind::F64(values) => values.len(),
            Kind::Text(bytes) | Kind::Binary(bytes) => bytes.ends.len() - 1,
            Kind::Struct(members) => members.first().map_or(0, |member| member.column.len()),
            Kind::List(ends, ..) => ends.len() - 1,
        }
    }

    /// Makes room for `more` values like the `seen` ones: texts are as long as they happen to be.
    pub(super) fn reserve_like(&mut self, seen: usize, more: usize) {
        match &mut self.kind {
            Kind::Text(Bytes { bytes, .. }) | Kind::Binary(Bytes { bytes, .. }) if seen > 0 => {
                bytes.reserve(bytes.len().div_ceil(seen).saturating_mul(more));
            }
            Kind::Struct(members) => {
                for member in members {
                    member.column.reserve_like(seen, more);
                }
            }
            _ => {}
        }
    }

    /// What stands where there is no value.
    fn push_null(&mut self) {
        if let Some(valid) = &mut self.valid {
            valid.push(false);
        }
        match &mut self.kind {
            Kind::Bool(values) => values.push(false),
            Kind::I8(values) => values.push(0),
            Kind::I16(values) => values.push(0),
            Kind::I32(values) => values.push(0),
            Kind::I64(values) => values.push(0),
            Kind::U8(values) => values.push(0),
            Kind::U16(values) => values.push(0),
            Kind::U32(values) => values.push(0),
            Kind::U64(values) => values.push(0),
            Kind::F32(values) => values.push(0.0),
            Kind::F64(values) => values.push(0.0),
            Kind::Text(bytes) | Kind::Binary(bytes) => bytes.push(&[]),
            Kind::Struct(members) => members.iter_mut().for_each(|member| member.column.push_null()),
            Kind::List(ends, _, items) => ends.push(items.len() as i64),
        }
    }

    /// The column, which must have come to so many rows.
    pub(super) fn finish(self, rows: usize) -> Result<ArrayRef, ArrowError> {
        let len = self.len();
        let whole = len == rows && self.valid.as_ref().is_none_or(|valid| valid.len() == rows);
        // A struct without fields has no length of its own.
        let is_hollow = matches!(&self.kind, Kind::Struct(members) if members.is_empty());
        if !whole || is_hollow {
            return Err(ArrowError::InvalidArgumentError(Misfit.to_string()));
        }
        let nulls = self
            .valid
            .map(NullBuffer::from)
            .filter(|nulls| nulls.null_count() > 0);
        Ok(match self.kind {
            Kind::Bool(values) => Arc::new(BooleanArray::new(values.into(), nulls)),
            Kind::I8(values) => numbers::<Int8Type>(values, nulls),
            Kind::I16(values) => numbers::<Int16Type>(values, nulls),
            Kind::I32(values) => numbers::<Int32Type>(values, nulls),
            Kind::I64(values) => numbers::<Int64Type>(values, nulls),
            Kind::U8(values) => numbers::<UInt8Type>(values, nulls),
            Kind::U16(values) => numbers::<UInt16Type>(values, nulls),
            Kind::U32(values) => numbers::<UInt32Type>(values, nulls),
            Kind::U64(values) => numbers::<UInt64Type>(values, nulls),
            Kind::F32(values) => numbers::<Float32Type>(values, nulls),
            Kind::F64(values) => numbers::<Float64Type>(values, nulls),
            Kind::Text(Bytes { ends, bytes }) => {
                Arc::new(LargeStringArray::try_new(offsets(ends), bytes.into(), nulls)?)
            }
            Kind::Binary(Bytes { ends, bytes }) => {
                Arc::new(LargeBinaryArray::try_new(offsets(ends), bytes.into(), nulls)?)
            }
            Kind::Struct(members) => {
                let mut fields = Vec::with_capacity(members.len());
                let mut arrays = Vec::with_capacity(members.len());
                for Member { field, column, .. } in members {
                    arrays.push(column.finish(rows)?);
                    fields.push(field);
                }
                Arc::new(StructArray::try_new(fields.into(), arrays, nulls)?)
            }
            Kind::List(ends, item, items) => {
                let count = items.len();
                let items = items.finish(count)?;
                Arc::new(LargeListArray::try_new(item, offsets(ends), items, nulls)?)
            }
        })
    }
}

fn numbers<P: ArrowPrimitiveType>(values: Vec<P::Native>, nulls: Option<NullBuffer>) -> ArrayRef {
    Arc::new(PrimitiveArray::<P>::new(ScalarBuffer::from(values), nulls))
}

fn offsets(ends: Vec<i64>) -> OffsetBuffer<i64> {
    OffsetBuffer::new(ScalarBuffer::from(ends))
}
