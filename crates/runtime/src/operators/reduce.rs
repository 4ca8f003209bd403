//! A running value a key: each row is combined with what there was, and the result is both kept and emitted.

use super::keyed::{KeyedOp, KeyedOpenCx, Out, Timed};
use rivermark_data::{Data, Key as KeyType};
use rivermark_state::{Key, ValueState};
use rivermark_types::Result;

/// The [`KeyedOp`] of `reduce`. The first row of a key is its first value.
pub struct Reduce<K: KeyType, T: Data, F> {
    combine: F,
    value: ValueState<K, T>,
}

impl<K: KeyType, T: Data, F> Reduce<K, T, F> {
    /// Combines by a closure from the value so far and the next row to the next value.
    pub fn new(combine: F) -> Self {
        Reduce {
            combine,
            value: ValueState::default(),
        }
    }
}

impl<K: KeyType, T: Data, F: Fn(&T, T) -> T + 'static> KeyedOp<K, T, T> for Reduce<K, T, F> {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, K>) -> Result<()> {
        self.value = cx.value("value")?;
        Ok(())
    }

    fn row(&mut self, key: &Key<K>, row: Timed<T>, out: &mut Out<T>) -> Result<()> {
        let mut is_first = false;
        let value = self.value.update_or_else(key, || {
            is_first = true;
            row.value.clone()
        });
        if !is_first {
            *value = (self.combine)(value, row.value);
        }
        out.emit(value.clone());
        Ok(())
    }
}
