//! Two codecs for a batch: the wire wants speed between equal binaries, a snapshot must be readable and evolve.

use crate::batch::{Batch, Typed};
use crate::record::Data;
use rivermark_types::{Failure, Timestamp};
use std::marker::PhantomData;

/// Positional bytes for the network between processes of one run (equal binaries). Decoding never panics.
pub trait WireCodec: Send + Sync {
    /// Appends the batch's bytes.
    fn encode(&self, batch: &Batch, out: &mut Vec<u8>) -> Result<(), Failure>;
    /// The batch back.
    fn decode(&self, bytes: &[u8]) -> Result<Batch, Failure>;
}

/// Rows with named fields, in the format of snapshots: what in-flight records are kept as. Decoding never panics.
pub trait RowCodec: Send + Sync {
    /// The batch as a self-describing page.
    fn encode(&self, batch: &Batch) -> Result<Vec<u8>, Failure>;
    /// The batch back, perhaps written by an older version of its type.
    fn decode(&self, bytes: &[u8]) -> Result<Batch, Failure>;
}

/// The wire codec of [`Typed`] batches: postcard.
pub struct PostcardCodec<T>(PhantomData<fn() -> T>);

impl<T> Default for PostcardCodec<T> {
    fn default() -> Self {
        PostcardCodec(PhantomData)
    }
}

impl<T: Data> WireCodec for PostcardCodec<T> {
    fn encode(&self, batch: &Batch, out: &mut Vec<u8>) -> Result<(), Failure> {
        let rows = batch
            .peek::<T>()
            .ok_or_else(|| Failure::bug("the edge's codec met a batch of another type"))?;
        postcard::to_io(&(&rows.values, &rows.times), out)
            .map(drop)
            .map_err(|error| {
                Failure::data(format!("cannot encode a {}", std::any::type_name::<T>())).caused_by(error)
            })
    }

    fn decode(&self, bytes: &[u8]) -> Result<Batch, Failure> {
        let damaged = |what: String| {
            Failure::bug(format!(
                "a frame of {} is damaged: {what}",
                std::any::type_name::<T>()
            ))
        };
        let (values, times): (Vec<T>, Option<Vec<Timestamp>>) =
            postcard::from_bytes(bytes).map_err(|error| damaged(error.to_string()))?;
        if times.as_ref().is_some_and(|times| times.len() != values.len()) {
            return Err(damaged("it has another number of times than of records".into()));
        }
        Ok(Batch::new(Typed { values, times }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_crosses_the_wire() {
        let codec = PostcardCodec::<(String, u32)>::default();
        let rows = Typed {
            values: vec![("a".to_string(), 1), ("b".into(), 2)],
            times: Some(vec![Timestamp(5), Timestamp::MAX]),
        };
        let mut bytes = Vec::new();
        codec.encode(&Batch::new(rows.clone()), &mut bytes).unwrap();
        assert_eq!(
            codec.decode(&bytes).unwrap().take::<(String, u32)>().unwrap(),
            rows
        );
        for cut in 0..bytes.len() {
            assert!(codec.decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}
