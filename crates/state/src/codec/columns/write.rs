//! Values into columns: a serializer that knows where each of them goes.

use super::{Builder, Kind, Member, Misfit};
use serde::Serialize;
use serde::ser::{
    Impossible, SerializeSeq, SerializeStruct, SerializeTuple, SerializeTupleStruct, Serializer,
};

impl Builder {
    /// Adds a value. After a misfit the column is of no use any more.
    #[inline(always)]
    pub(in crate::codec) fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Misfit> {
        value.serialize(self)
    }
}

macro_rules! plain {
    ($($method:ident($type:ty) => $kind:ident),* $(,)?) => {$(
        #[inline(always)]
        fn $method(self, value: $type) -> Result<(), Misfit> {
            match &mut self.kind {
                Kind::$kind(values) => values.push(value),
                _ => return Err(Misfit),
            }
            Ok(())
        }
    )*};
}

impl<'a> Serializer for &'a mut Builder {
    type Ok = ();
    type Error = Misfit;
    type SerializeSeq = ListWriter<'a>;
    type SerializeTuple = MembersWriter<'a>;
    type SerializeTupleStruct = MembersWriter<'a>;
    type SerializeTupleVariant = Impossible<(), Misfit>;
    type SerializeMap = Impossible<(), Misfit>;
    type SerializeStruct = MembersWriter<'a>;
    type SerializeStructVariant = Impossible<(), Misfit>;

    plain!(
        serialize_bool(bool) => Bool,
        serialize_i8(i8) => I8,
        serialize_i16(i16) => I16,
        serialize_i32(i32) => I32,
        serialize_i64(i64) => I64,
        serialize_u8(u8) => U8,
        serialize_u16(u16) => U16,
        serialize_u32(u32) => U32,
        serialize_u64(u64) => U64,
        serialize_f32(f32) => F32,
        serialize_f64(f64) => F64,
    );

    fn serialize_char(self, value: char) -> Result<(), Misfit> {
        self.serialize_u32(value.into())
    }
    #[inline(always)]
    fn serialize_str(self, value: &str) -> Result<(), Misfit> {
        match &mut self.kind {
            Kind::Text(bytes) => bytes.push(value.as_bytes()),
            _ => return Err(Misfit),
        }
        Ok(())
    }
    #[inline(always)]
    fn serialize_bytes(self, value: &[u8]) -> Result<(), Misfit> {
        match &mut self.kind {
            Kind::Binary(bytes) => bytes.push(value),
            _ => return Err(Misfit),
        }
        Ok(())
    }
    fn serialize_none(self) -> Result<(), Misfit> {
        if self.valid.is_none() {
            return Err(Misfit);
        }
        self.push_null();
        Ok(())
    }
    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Misfit> {
        self.valid.as_mut().ok_or(Misfit)?.push(true);
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<(), Misfit> {
        Err(Misfit)
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Misfit> {
        Err(Misfit)
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), Misfit> {
        Err(Misfit)
    }
    #[inline(always)]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Misfit> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Misfit> {
        Err(Misfit)
    }
    #[inline(always)]
    fn serialize_seq(self, _: Option<usize>) -> Result<ListWriter<'a>, Misfit> {
        match &mut self.kind {
            Kind::List(ends, _, items) => Ok(ListWriter { ends, items }),
            _ => Err(Misfit),
        }
    }
    #[inline(always)]
    fn serialize_tuple(self, len: usize) -> Result<MembersWriter<'a>, Misfit> {
        match &mut self.kind {
            Kind::Struct(members) if members.len() == len => Ok(MembersWriter { members, next: 0 }),
            _ => Err(Misfit),
        }
    }
    #[inline(always)]
    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<MembersWriter<'a>, Misfit> {
        self.serialize_tuple(len)
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Misfit> {
        Err(Misfit)
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Misfit> {
        Err(Misfit)
    }
    #[inline(always)]
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<MembersWriter<'a>, Misfit> {
        match &mut self.kind {
            Kind::Struct(members) => Ok(MembersWriter { members, next: 0 }),
            _ => Err(Misfit),
        }
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Misfit> {
        Err(Misfit)
    }
}

/// Writes a list.
pub(in crate::codec) struct ListWriter<'a> {
    ends: &'a mut Vec<i64>,
    items: &'a mut Builder,
}

impl SerializeSeq for ListWriter<'_> {
    type Ok = ();
    type Error = Misfit;
    #[inline(always)]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Misfit> {
        value.serialize(&mut *self.items)
    }
    #[inline(always)]
    fn end(self) -> Result<(), Misfit> {
        self.ends.push(self.items.len() as i64);
        Ok(())
    }
}

/// Writes the fields of a struct or tuple, which come in the order of the columns.
pub(in crate::codec) struct MembersWriter<'a> {
    members: &'a mut [Member],
    next: usize,
}

impl MembersWriter<'_> {
    #[inline(always)]
    fn next(&mut self) -> Result<&mut Member, Misfit> {
        let member = self.members.get_mut(self.next).ok_or(Misfit)?;
        self.next += 1;
        Ok(member)
    }
    #[inline(always)]
    fn finish(self) -> Result<(), Misfit> {
        if self.next == self.members.len() {
            Ok(())
        } else {
            Err(Misfit)
        }
    }
}

impl SerializeStruct for MembersWriter<'_> {
    type Ok = ();
    type Error = Misfit;
    #[inline(always)]
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Misfit> {
        let member = self.next()?;
        if !member.is_called(name) {
            return Err(Misfit);
        }
        value.serialize(&mut member.column)
    }
    fn skip_field(&mut self, _: &'static str) -> Result<(), Misfit> {
        Err(Misfit)
    }
    #[inline(always)]
    fn end(self) -> Result<(), Misfit> {
        self.finish()
    }
}

impl SerializeTuple for MembersWriter<'_> {
    type Ok = ();
    type Error = Misfit;
    #[inline(always)]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Misfit> {
        value.serialize(&mut self.next()?.column)
    }
    #[inline(always)]
    fn end(self) -> Result<(), Misfit> {
        self.finish()
    }
}

impl SerializeTupleStruct for MembersWriter<'_> {
    type Ok = ();
    type Error = Misfit;
    #[inline(always)]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Misfit> {
        value.serialize(&mut self.next()?.column)
    }
    #[inline(always)]
    fn end(self) -> Result<(), Misfit> {
        self.finish()
    }
}
