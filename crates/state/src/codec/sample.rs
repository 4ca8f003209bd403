//! Made-up values of any type, drawn through its own `Deserialize`: what a codec is tried on before it is trusted.
//!
//! Layout: [`samples`] asks a type for values, [`check_key_type`] tries them as keys; `Draw` answers its questions (which variant, some or none, how long)
//! from a fixed sequence. Non-goals: no coverage is promised, and types that read text in a format of their own (dates,
//! addresses) give no samples at all.

use rivermark_data::Key;
use rivermark_types::{KeyError, check_key};
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};
use std::fmt;

/// Below this depth, options are empty and sequences too, so that recursive types end.
const DEEP: u32 = 12;
/// Below this depth a draw gives up.
const TOO_DEEP: u32 = 64;
/// How many keys are tried.
const SAMPLE_KEYS: u32 = 64;
/// Questions a single draw answers before it gives up.
const QUESTIONS: u32 = 10_000;

/// Up to `count` values of a type, always the same ones; fewer (or none) where its `Deserialize` refuses what was drawn.
pub(super) fn samples<T: DeserializeOwned>(count: u32) -> Vec<T> {
    (0..count)
        .filter_map(|seed| T::deserialize(&mut Draw::new(seed)).ok())
        .collect()
}

/// Answers the questions of one `deserialize` call.
struct Draw {
    state: u64,
    depth: u32,
    questions: u32,
}

/// Why a draw gave up.
#[derive(Debug)]
struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl de::Error for Refused {
    fn custom<M: fmt::Display>(message: M) -> Self {
        Refused(message.to_string())
    }
}

impl Draw {
    fn new(seed: u32) -> Draw {
        Draw {
            state: u64::from(seed),
            depth: 0,
            questions: 0,
        }
    }

    /// The next number of the sequence (SplitMix64).
    fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn flip(&mut self) -> bool {
        self.depth < DEEP && self.number() >> 63 == 1
    }

    /// An integer; often one at the edge of its type once it is cut to size.
    fn integer(&mut self) -> u64 {
        match self.number() % 4 {
            0 => 0,
            1 => u64::MAX,
            2 => self.number() % 100,
            _ => self.number(),
        }
    }

    fn text(&mut self) -> &'static str {
        ["", "a", "zwei Wörter", "\u{1F30A}\0"][(self.number() % 4) as usize]
    }

    /// Goes one level down for `visit`.
    fn nested<R>(&mut self, visit: impl FnOnce(&mut Draw) -> Result<R, Refused>) -> Result<R, Refused> {
        self.questions += 1;
        if self.depth >= TOO_DEEP || self.questions > QUESTIONS {
            return Err(Refused("the type is too deep".into()));
        }
        self.depth += 1;
        let result = visit(self);
        self.depth -= 1;
        result
    }
}

macro_rules! integers {
    ($($method:ident => $visit:ident($type:ty)),* $(,)?) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
            visitor.$visit(self.integer() as $type)
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Draw {
    type Error = Refused;

    integers! {
        deserialize_i8 => visit_i8(i8), deserialize_i16 => visit_i16(i16), deserialize_i32 => visit_i32(i32),
        deserialize_i64 => visit_i64(i64), deserialize_u8 => visit_u8(u8), deserialize_u16 => visit_u16(u16),
        deserialize_u32 => visit_u32(u32), deserialize_u64 => visit_u64(u64), deserialize_i128 => visit_i128(i128),
        deserialize_u128 => visit_u128(u128), deserialize_f32 => visit_f32(f32), deserialize_f64 => visit_f64(f64),
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Refused> {
        Err(Refused("the type does not say what it is".into()))
    }
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_unit()
    }
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_bool(self.number() >> 63 == 1)
    }
    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_char(['\0', 'a', 'ö', '\u{1F30A}'][(self.number() % 4) as usize])
    }
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_str(self.text())
    }
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_str(self.text())
    }
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_str(self.text())
    }
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_bytes(self.text().as_bytes())
    }
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_bytes(self.text().as_bytes())
    }
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        if self.flip() {
            self.nested(|draw| visitor.visit_some(draw))
        } else {
            visitor.visit_none()
        }
    }
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_unit()
    }
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        visitor.visit_unit()
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.nested(|draw| visitor.visit_newtype_struct(draw))
    }
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        // At most one element: a hash set of two comes back in another order.
        let left = usize::from(self.flip());
        self.nested(|draw| visitor.visit_seq(Items { draw, left }))
    }
    fn deserialize_tuple<V: Visitor<'de>>(self, left: usize, visitor: V) -> Result<V::Value, Refused> {
        self.nested(|draw| visitor.visit_seq(Items { draw, left }))
    }
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        left: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.nested(|draw| visitor.visit_seq(Items { draw, left }))
    }
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let left = usize::from(self.flip());
        self.nested(|draw| visitor.visit_map(Items { draw, left }))
    }
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.nested(|draw| visitor.visit_map(Fields { draw, fields }))
    }
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let pick = self.number() % (variants.len().max(1) as u64);
        let variant = variants
            .get(pick as usize)
            .ok_or_else(|| Refused("an enum without variants".into()))?;
        self.nested(|draw| visitor.visit_enum(Variant { draw, variant }))
    }
}

/// So many elements of a sequence, or entries of a map.
struct Items<'a> {
    draw: &'a mut Draw,
    left: usize,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Refused;
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Refused> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.draw).map(Some)
    }
    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'de> de::MapAccess<'de> for Items<'_> {
    type Error = Refused;
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Refused> {
        de::SeqAccess::next_element_seed(self, seed)
    }
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refused> {
        seed.deserialize(&mut *self.draw)
    }
}

/// The fields of a struct, by name.
struct Fields<'a> {
    draw: &'a mut Draw,
    fields: &'static [&'static str],
}

impl<'de> de::MapAccess<'de> for Fields<'_> {
    type Error = Refused;
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Refused> {
        let Some((first, rest)) = self.fields.split_first() else {
            return Ok(None);
        };
        self.fields = rest;
        let name: StrDeserializer<'_, Refused> = first.into_deserializer();
        seed.deserialize(name).map(Some)
    }
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refused> {
        seed.deserialize(&mut *self.draw)
    }
}

/// One variant of an enum.
struct Variant<'a> {
    draw: &'a mut Draw,
    variant: &'static str,
}

impl<'de> de::EnumAccess<'de> for Variant<'_> {
    type Error = Refused;
    type Variant = Self;
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Refused> {
        let name: StrDeserializer<'_, Refused> = self.variant.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_> {
    type Error = Refused;
    fn unit_variant(self) -> Result<(), Refused> {
        Ok(())
    }
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Refused> {
        seed.deserialize(self.draw)
    }
    fn tuple_variant<V: Visitor<'de>>(self, left: usize, visitor: V) -> Result<V::Value, Refused> {
        let draw = self.draw;
        visitor.visit_seq(Items { draw, left })
    }
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let draw = self.draw;
        visitor.visit_map(Fields { draw, fields })
    }
}

/// Whether values of a type may be keys, as far as made-up ones show it: before there is a record, when a graph is built.
pub fn check_key_type<K: Key>() -> Result<(), KeyError> {
    samples::<K>(SAMPLE_KEYS).iter().try_for_each(check_key)
}
