//! States that take rows in and keep one value a key: reduced, or an accumulator.

use crate::key::Key;
use crate::shared::Handle;
use crate::table::Table;
use rivermark_data::{Data, Key as KeyType};

/// The rows of a key, reduced to one by a function that changes the value so far. The first row is the first value.
pub struct ReducingState<K: KeyType, T: Data> {
    table: Handle<Table<K, T>>,
    reduce: fn(&mut T, T),
}

impl<K: KeyType, T: Data> Default for ReducingState<K, T> {
    /// Not declared yet.
    fn default() -> Self {
        ReducingState {
            table: Handle::default(),
            reduce: |_, _| {},
        }
    }
}

impl<K: KeyType, T: Data> ReducingState<K, T> {
    pub(crate) fn new(table: Handle<Table<K, T>>, reduce: fn(&mut T, T)) -> Self {
        ReducingState { table, reduce }
    }
    /// The value of the key; `None` before its first row.
    #[inline]
    pub fn get(&self, key: &Key<K>) -> Option<&T> {
        self.table.get().get(&key.value, key.hash)
    }
    /// Takes a row in.
    #[inline]
    pub fn add(&mut self, key: &Key<K>, row: T) {
        let table = self.table.get_mut();
        match table.get_mut_existing(&key.value, key.hash) {
            Some(value) => (self.reduce)(value, row),
            None => drop(table.insert(key.value.clone(), key.hash, row)),
        }
    }
    /// Removes the value of the key and returns it.
    pub fn clear(&mut self, key: &Key<K>) -> Option<T> {
        self.table.get_mut().remove(&key.value, key.hash)
    }
}

/// How the rows of a key become an accumulator, and that a result. A named type, so that a field can hold the state.
///
/// ```
/// use rivermark_state::AggregateFunction;
///
/// struct Average;
/// impl AggregateFunction for Average {
///     type Input = f64;
///     type Acc = (f64, u64);
///     type Output = f64;
///     fn create(&self) -> (f64, u64) {
///         (0.0, 0)
///     }
///     fn add(&self, (sum, count): &mut (f64, u64), row: f64) {
///         *sum += row;
///         *count += 1;
///     }
///     fn result(&self, (sum, count): &(f64, u64)) -> f64 {
///         sum / *count as f64
///     }
/// }
/// let mut acc = Average.create();
/// Average.add(&mut acc, 1.0);
/// Average.add(&mut acc, 2.0);
/// assert_eq!(Average.result(&acc), 1.5);
/// ```
pub trait AggregateFunction: 'static {
    /// What goes in.
    type Input;
    /// What is kept.
    type Acc: Data;
    /// What comes out.
    type Output;
    /// An accumulator with nothing in it.
    fn create(&self) -> Self::Acc;
    /// Takes a row in.
    fn add(&self, acc: &mut Self::Acc, row: Self::Input);
    /// The result so far.
    fn result(&self, acc: &Self::Acc) -> Self::Output;
}

/// An accumulator a key, into which an [`AggregateFunction`] takes rows.
pub struct AggregatingState<K: KeyType, A: AggregateFunction>(Option<Declared<K, A>>);

struct Declared<K: KeyType, A: AggregateFunction> {
    table: Handle<Table<K, A::Acc>>,
    aggregate: A,
}

impl<K: KeyType, A: AggregateFunction> Default for AggregatingState<K, A> {
    /// Not declared yet.
    fn default() -> Self {
        AggregatingState(None)
    }
}

impl<K: KeyType, A: AggregateFunction> AggregatingState<K, A> {
    pub(crate) fn new(table: Handle<Table<K, A::Acc>>, aggregate: A) -> Self {
        AggregatingState(Some(Declared { table, aggregate }))
    }
    #[inline(always)]
    fn declared(&mut self) -> &mut Declared<K, A> {
        self.0.as_mut().unwrap_or_else(|| crate::shared::undeclared())
    }
    /// The result of the key's rows; `None` before its first.
    pub fn get(&self, key: &Key<K>) -> Option<A::Output> {
        let Declared { table, aggregate } = self.0.as_ref().unwrap_or_else(|| crate::shared::undeclared());
        let acc = table.get().get(&key.value, key.hash)?;
        Some(aggregate.result(acc))
    }
    /// Takes a row in.
    #[inline]
    pub fn add(&mut self, key: &Key<K>, row: A::Input) {
        let Declared { table, aggregate } = self.declared();
        let acc = table
            .get_mut()
            .update_or_else(&key.value, key.hash, || aggregate.create());
        aggregate.add(acc, row);
    }
    /// Removes the accumulator of the key; whether there was one.
    pub fn clear(&mut self, key: &Key<K>) -> bool {
        self.declared()
            .table
            .get_mut()
            .remove(&key.value, key.hash)
            .is_some()
    }
}
