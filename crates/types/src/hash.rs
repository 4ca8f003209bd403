//! The key's hash: one frozen 64-bit function. Snapshots depend on it, so it never changes (golden vectors below).
//!
//! A key feeds the function through serde, with static calls and no bytes built; integers take a direct path. The
//! mixing step is a folded 64×64→128 multiplication, as in the wyhash family of functions (public domain idea).

use serde::ser::{self, Serialize};
use std::fmt;

/// The 64-bit hash of a key under a job's seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub u64);

/// Why a type cannot be a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyError(String);

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for KeyError {}
impl ser::Error for KeyError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        KeyError(message.to_string())
    }
}

const M0: u64 = 0x9E37_79B9_7F4A_7C15;
const M1: u64 = 0xD1B5_4A32_D192_ED03;
const M2: u64 = 0xA076_1D64_78BD_642F;

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    (wide as u64) ^ ((wide >> 64) as u64)
}

/// The hash of a key under a job's seed. A key that cannot be hashed hashes to the seed alone: [`check_key`] refuses
/// such types when the graph is built, so no record ever takes that path.
#[inline]
pub fn hash_key<K: Serialize + ?Sized>(seed: u64, key: &K) -> KeyHash {
    let mut hasher = KeyHasher { state: seed ^ M2 };
    let _ = key.serialize(&mut hasher);
    KeyHash(fold(hasher.state ^ M0, M1))
}

/// Whether a value may be a key: floats (no equality to rely on) and maps (no order to rely on) may not.
pub fn check_key<K: Serialize + ?Sized>(key: &K) -> Result<(), KeyError> {
    key.serialize(&mut KeyHasher { state: 0 })
}

struct KeyHasher {
    state: u64,
}

impl KeyHasher {
    #[inline(always)]
    fn word(&mut self, word: u64) {
        self.state = fold(self.state ^ word ^ M0, M1 ^ word.rotate_left(32));
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
        let mut tail = [0; 8];
        let rest = chunks.remainder();
        tail[..rest.len()].copy_from_slice(rest);
        self.word(u64::from_le_bytes(tail));
        self.word(bytes.len() as u64);
    }
}

macro_rules! words {
    ($($method:ident($t:ty)),*) => {$(
        #[inline]
        fn $method(self, v: $t) -> Result<(), KeyError> { self.word(v as u64); Ok(()) }
    )*};
}

impl<'a> ser::Serializer for &'a mut KeyHasher {
    type Ok = ();
    type Error = KeyError;
    type SerializeSeq = &'a mut KeyHasher;
    type SerializeTuple = &'a mut KeyHasher;
    type SerializeTupleStruct = &'a mut KeyHasher;
    type SerializeTupleVariant = &'a mut KeyHasher;
    type SerializeMap = ser::Impossible<(), KeyError>;
    type SerializeStruct = &'a mut KeyHasher;
    type SerializeStructVariant = &'a mut KeyHasher;

    words!(
        serialize_bool(bool),
        serialize_i8(i8),
        serialize_i16(i16),
        serialize_i32(i32),
        serialize_i64(i64),
        serialize_u8(u8),
        serialize_u16(u16),
        serialize_u32(u32),
        serialize_u64(u64),
        serialize_char(char)
    );

    fn serialize_i128(self, v: i128) -> Result<(), KeyError> {
        self.serialize_u128(v as u128)
    }
    fn serialize_u128(self, v: u128) -> Result<(), KeyError> {
        self.word(v as u64);
        self.word((v >> 64) as u64);
        Ok(())
    }
    fn serialize_f32(self, _: f32) -> Result<(), KeyError> {
        Err(KeyError(
            "a float cannot be part of a key: round it to an integer first".into(),
        ))
    }
    fn serialize_f64(self, _: f64) -> Result<(), KeyError> {
        self.serialize_f32(0.0)
    }
    #[inline]
    fn serialize_str(self, v: &str) -> Result<(), KeyError> {
        self.bytes(v.as_bytes());
        Ok(())
    }
    #[inline]
    fn serialize_bytes(self, v: &[u8]) -> Result<(), KeyError> {
        self.bytes(v);
        Ok(())
    }
    fn serialize_none(self) -> Result<(), KeyError> {
        self.word(0);
        Ok(())
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), KeyError> {
        self.word(1);
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<(), KeyError> {
        self.word(0);
        Ok(())
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), KeyError> {
        self.serialize_unit()
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), KeyError> {
        // By name, not by number: a variant added in front must not move the others' keys.
        self.serialize_str(variant)
    }
    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), KeyError> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), KeyError> {
        self.bytes(variant.as_bytes());
        value.serialize(self)
    }
    fn serialize_seq(self, len: Option<usize>) -> Result<Self, KeyError> {
        self.word(len.unwrap_or(usize::MAX) as u64);
        Ok(self)
    }
    fn serialize_tuple(self, _: usize) -> Result<Self, KeyError> {
        Ok(self)
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, KeyError> {
        Ok(self)
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self, KeyError> {
        self.bytes(variant.as_bytes());
        Ok(self)
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, KeyError> {
        Err(KeyError(
            "a map cannot be part of a key: its order is not defined".into(),
        ))
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, KeyError> {
        Ok(self)
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self, KeyError> {
        self.bytes(variant.as_bytes());
        Ok(self)
    }
}

macro_rules! sequences {
    ($($trait:ident :: $method:ident),*) => {$(
        impl ser::$trait for &mut KeyHasher {
            type Ok = ();
            type Error = KeyError;
            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), KeyError> {
                value.serialize(&mut **self)
            }
            fn end(self) -> Result<(), KeyError> { Ok(()) }
        }
    )*};
}
sequences!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

macro_rules! structs {
    ($($trait:ident),*) => {$(
        impl ser::$trait for &mut KeyHasher {
            type Ok = ();
            type Error = KeyError;
            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Result<(), KeyError> {
                value.serialize(&mut **self)
            }
            fn end(self) -> Result<(), KeyError> { Ok(()) }
        }
    )*};
}
structs!(SerializeStruct, SerializeStructVariant);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn integers_spread_over_high_and_low_bits() {
        let (mut high, mut low) = (BTreeSet::new(), BTreeSet::new());
        for key in 0u64..4096 {
            let hash = hash_key(7, &key).0;
            high.insert(hash >> 52);
            low.insert(hash & 0xFFF);
        }
        // 4096 balls in 4096 boxes leave about 1/e of them empty.
        assert!((2450..2750).contains(&high.len()), "{}", high.len());
        assert!((2450..2750).contains(&low.len()), "{}", low.len());
    }

    #[test]
    fn the_function_is_frozen() {
        // Golden vectors: snapshots in the field depend on them. Never change one.
        let golden = [
            hash_key(0, &0u64).0,
            hash_key(0, &1u64).0,
            hash_key(42, &u64::MAX).0,
            hash_key(0, "").0,
            hash_key(0, "a").0,
            hash_key(0, "key-00001").0,
            hash_key(0, &("JFK", 7u32)).0,
            hash_key(9, &Some(3i32)).0,
        ];
        assert_eq!(golden, GOLDEN);
    }
    const GOLDEN: [u64; 8] = [
        11625483503908676239,
        6343247182305776575,
        9449638604276027018,
        15819914518786647873,
        2070828764140456400,
        5299972310617392963,
        6855757715445738439,
        7797032979600525393,
    ];

    #[test]
    fn text_and_its_neighbours_differ() {
        let texts = ["", "\0", "\0\0", "a", "a\0", "aaaaaaaa", "aaaaaaaa\0", "aaaaaaab"];
        let hashes: BTreeSet<_> = texts.iter().map(|t| hash_key(0, t)).collect();
        assert_eq!(hashes.len(), texts.len());
    }

    #[test]
    fn a_float_or_a_map_is_no_key() {
        assert!(check_key(&1.5f64).is_err());
        assert!(check_key(&std::collections::BTreeMap::from([(1, 2)])).is_err());
        assert!(check_key(&("a", 1u8, Some('c'))).is_ok());
    }
}
