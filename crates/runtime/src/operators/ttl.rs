//! State with a time to live, as a user's operator declares it. What it means is told in `rivermark_state::ttl`.

use super::keyed::KeyedOpenCx;
use rivermark_data::{Data, Key as KeyType};
use rivermark_state::{
    AggregateFunction, KeyedBackend, StateTtl, TtlAggregatingState, TtlListState, TtlMapState,
    TtlReducingState, TtlValueState,
};
use rivermark_types::Result;
use std::marker::PhantomData;

impl<K: KeyType> KeyedOpenCx<'_, K> {
    /// Declares states with a time to live: `cx.with_ttl(ttl).value("name")`. A state may get or lose its time to live from
    /// one start of a job to the next: one that gets it counts as used when it is restored, one that loses it keeps what
    /// had not expired.
    pub fn with_ttl(&mut self, ttl: StateTtl) -> TtlOpenCx<'_, K> {
        TtlOpenCx {
            backend: self.backend,
            ttl,
            key: PhantomData,
        }
    }
}

/// Declares states with a time to live.
pub struct TtlOpenCx<'a, K> {
    backend: &'a mut KeyedBackend,
    ttl: StateTtl,
    key: PhantomData<fn(K)>,
}

impl<K: KeyType> TtlOpenCx<'_, K> {
    /// Declares one value a key.
    pub fn value<V: Data>(self, name: &str) -> Result<TtlValueState<K, V>> {
        Ok(self.backend.ttl_value(name, self.ttl)?)
    }
    /// Declares a list a key; each item lives by itself.
    pub fn list<T: Data>(self, name: &str) -> Result<TtlListState<K, T>> {
        Ok(self.backend.ttl_list(name, self.ttl)?)
    }
    /// Declares a map a key; each entry lives by itself.
    pub fn map<MK: KeyType + Ord, MV: Data>(self, name: &str) -> Result<TtlMapState<K, MK, MV>> {
        Ok(self.backend.ttl_map(name, self.ttl)?)
    }
    /// Declares one value a key, to which `reduce` brings each row.
    pub fn reducing<T: Data>(self, name: &str, reduce: fn(&mut T, T)) -> Result<TtlReducingState<K, T>> {
        Ok(self.backend.ttl_reducing(name, reduce, self.ttl)?)
    }
    /// Declares one accumulator a key.
    pub fn aggregating<A: AggregateFunction>(
        self,
        name: &str,
        aggregate: A,
    ) -> Result<TtlAggregatingState<K, A>> {
        Ok(self.backend.ttl_aggregating(name, aggregate, self.ttl)?)
    }
}
