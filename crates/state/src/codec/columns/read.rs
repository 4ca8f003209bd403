//! Columns into values: a deserializer on one row of a tree of columns.
//!
//! For pages whose columns are exactly those that the type is written with; any other page is read by name, the general way.

use super::Misfit;
use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, ArrayRef, BooleanArray, LargeBinaryArray, LargeStringArray};
use arrow_buffer::NullBuffer;
use arrow_schema::DataType;
use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

/// A column to read from.
pub(in crate::codec) struct Column<'a> {
    nulls: Option<&'a NullBuffer>,
    kind: Kind<'a>,
}

enum Kind<'a> {
    Bool(&'a BooleanArray),
    I8(&'a [i8]),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    U8(&'a [u8]),
    U16(&'a [u16]),
    U32(&'a [u32]),
    U64(&'a [u64]),
    F32(&'a [f32]),
    F64(&'a [f64]),
    Text(&'a LargeStringArray),
    Binary(&'a LargeBinaryArray),
    Struct(Vec<Column<'a>>),
    List(&'a [i64], Box<Column<'a>>),
}

impl<'a> Column<'a> {
    /// The column of an array; `None` if it is not flat.
    pub(in crate::codec) fn of(array: &'a ArrayRef) -> Option<Column<'a>> {
        let kind = match array.data_type() {
            DataType::Boolean => Kind::Bool(array.as_boolean_opt()?),
            DataType::Int8 => Kind::I8(array.as_primitive_opt::<Int8Type>()?.values()),
            DataType::Int16 => Kind::I16(array.as_primitive_opt::<Int16Type>()?.values()),
            DataType::Int32 => Kind::I32(array.as_primitive_opt::<Int32Type>()?.values()),
            DataType::Int64 => Kind::I64(array.as_primitive_opt::<Int64Type>()?.values()),
            DataType::UInt8 => Kind::U8(array.as_primitive_opt::<UInt8Type>()?.values()),
            DataType::UInt16 => Kind::U16(array.as_primitive_opt::<UInt16Type>()?.values()),
            DataType::UInt32 => Kind::U32(array.as_primitive_opt::<UInt32Type>()?.values()),
            DataType::UInt64 => Kind::U64(array.as_primitive_opt::<UInt64Type>()?.values()),
            DataType::Float32 => Kind::F32(array.as_primitive_opt::<Float32Type>()?.values()),
            DataType::Float64 => Kind::F64(array.as_primitive_opt::<Float64Type>()?.values()),
            DataType::LargeUtf8 => Kind::Text(array.as_string_opt::<i64>()?),
            DataType::LargeBinary => Kind::Binary(array.as_binary_opt::<i64>()?),
            DataType::Struct(_) => {
                let members = array.as_struct_opt()?.columns().iter().map(Column::of);
                Kind::Struct(members.collect::<Option<Vec<_>>>()?)
            }
            DataType::LargeList(_) => {
                let list = array.as_list_opt::<i64>()?;
                Kind::List(list.value_offsets(), Box::new(Column::of(list.values())?))
            }
            _ => return None,
        };
        let nulls = array.nulls();
        Some(Column { nulls, kind })
    }

    /// A row of it.
    #[inline(always)]
    pub(in crate::codec) fn at(&self, row: usize) -> Value<'_, 'a> {
        Value { column: self, row }
    }
}

/// One value of a column.
#[derive(Clone, Copy)]
pub(in crate::codec) struct Value<'c, 'a> {
    column: &'c Column<'a>,
    row: usize,
}

macro_rules! numbers {
    ($($method:ident => $kind:ident, $visit:ident);* $(;)?) => {$(
        #[inline(always)]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
            match &self.column.kind {
                Kind::$kind(values) => visitor.$visit(*values.get(self.row).ok_or(Misfit)?),
                _ => Err(Misfit),
            }
        }
    )*};
}

impl<'de, 'c> Deserializer<'de> for Value<'c, 'de> {
    type Error = Misfit;

    numbers!(
        deserialize_i8 => I8, visit_i8;
        deserialize_i16 => I16, visit_i16;
        deserialize_i32 => I32, visit_i32;
        deserialize_i64 => I64, visit_i64;
        deserialize_u8 => U8, visit_u8;
        deserialize_u16 => U16, visit_u16;
        deserialize_u32 => U32, visit_u32;
        deserialize_u64 => U64, visit_u64;
        deserialize_f32 => F32, visit_f32;
        deserialize_f64 => F64, visit_f64;
    );

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Misfit> {
        Err(Misfit)
    }
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.column.kind {
            Kind::Bool(values) if self.row < values.len() => visitor.visit_bool(values.value(self.row)),
            _ => Err(Misfit),
        }
    }
    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.column.kind {
            Kind::U32(values) => {
                let letter = values.get(self.row).and_then(|letter| char::from_u32(*letter));
                visitor.visit_char(letter.ok_or(Misfit)?)
            }
            _ => Err(Misfit),
        }
    }
    #[inline(always)]
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.column.kind {
            Kind::Text(texts) if self.row < texts.len() => visitor.visit_borrowed_str(texts.value(self.row)),
            _ => Err(Misfit),
        }
    }
    #[inline(always)]
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_str(visitor)
    }
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.column.kind {
            Kind::Binary(values) if self.row < values.len() => {
                visitor.visit_borrowed_bytes(values.value(self.row))
            }
            _ => Err(Misfit),
        }
    }
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_bytes(visitor)
    }
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.column.nulls {
            Some(nulls) if self.row >= nulls.len() => Err(Misfit),
            Some(nulls) if nulls.is_null(self.row) => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }
    #[inline(always)]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let Kind::List(ends, items) = &self.column.kind else {
            return Err(Misfit);
        };
        let end_of = |at: usize| {
            ends.get(at)
                .and_then(|end| usize::try_from(*end).ok())
                .ok_or(Misfit)
        };
        let (next, end) = (end_of(self.row)?, end_of(self.row + 1)?);
        visitor.visit_seq(Items { items, next, end })
    }
    #[inline(always)]
    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Misfit> {
        match &self.column.kind {
            Kind::Struct(members) if members.len() == len => visitor.visit_seq(Members {
                members: members.iter(),
                row: self.row,
            }),
            _ => Err(Misfit),
        }
    }
    #[inline(always)]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.deserialize_tuple(len, visitor)
    }
    /// The columns are those that the type is written with, so its fields come in their order.
    #[inline(always)]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    forward_to_deserialize_any! { i128 u128 unit unit_struct map enum identifier ignored_any }
}

/// The items of a list.
struct Items<'c, 'a> {
    items: &'c Column<'a>,
    next: usize,
    end: usize,
}

impl<'de, 'c> SeqAccess<'de> for Items<'c, 'de> {
    type Error = Misfit;
    #[inline(always)]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Misfit> {
        if self.next >= self.end {
            return Ok(None);
        }
        let value = self.items.at(self.next);
        self.next += 1;
        seed.deserialize(value).map(Some)
    }
    fn size_hint(&self) -> Option<usize> {
        self.end.checked_sub(self.next)
    }
}

/// The fields of a struct or tuple.
struct Members<'c, 'a> {
    members: std::slice::Iter<'c, Column<'a>>,
    row: usize,
}

impl<'de, 'c> SeqAccess<'de> for Members<'c, 'de> {
    type Error = Misfit;
    #[inline(always)]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Misfit> {
        match self.members.next() {
            Some(member) => seed.deserialize(member.at(self.row)).map(Some),
            None => Ok(None),
        }
    }
    fn size_hint(&self) -> Option<usize> {
        Some(self.members.len())
    }
}
