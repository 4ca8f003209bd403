//! What a window keeps of its rows, and what it makes of them when it fires.
//!
//! [`Aggregated`] and [`Reduced`] keep one value, [`Gathered`] keeps the rows. Windows that merge need [`MergingContents`].

use super::{
    Aggregate, AlignedWindows, LateRows, Lateness, MergeAggregate, Tumbling, Window, WindowOperator,
    WindowsOperator,
};
use crate::operator::Operator;
use crate::operators::keyed::{Out, Timed};
use rivermark_data::{Data, Key as KeyType};
use std::marker::PhantomData;
use std::time::Duration;

/// What a window keeps of its rows, and what it makes of them.
pub trait Contents<K>: Clone + Send + Sync + 'static {
    /// What goes in.
    type Input: Data;
    /// What is kept; a window begins with the default.
    type Acc: Data + Default;
    /// What comes out.
    type Output: Data;

    /// Takes a row in.
    fn add(&self, acc: &mut Self::Acc, row: Timed<Self::Input>);

    /// The window fires, and keeps what it has.
    fn fire(&self, key: &K, window: Window, acc: &mut Self::Acc, out: &mut Out<Self::Output>);

    /// The window fires and goes. Returns what is left to fire if `out` came to hold `room` rows before all was emitted.
    fn finish(
        &self,
        key: &K,
        window: Window,
        mut acc: Self::Acc,
        _room: usize,
        out: &mut Out<Self::Output>,
    ) -> Option<Self::Acc> {
        self.fire(key, window, &mut acc, out);
        None
    }

    /// The operator for tumbling windows without allowed lateness: the most frequent case, for which some contents have a
    /// faster one.
    fn tumbling<F>(&self, select: F, windows: Tumbling, late: LateRows) -> Box<dyn Operator>
    where
        K: KeyType,
        F: Fn(&Self::Input) -> K + 'static,
    {
        let lateness = Lateness::new(Duration::ZERO, late);
        let windows = AlignedWindows::new(windows, self.clone(), lateness);
        Box::new(WindowsOperator::new(select, windows))
    }
}

/// Contents of windows that merge.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot merge what two windows have",
    note = "sessions merge when a row closes the gap between two: use `.fold_merging(add, merge, finish)`, `.reduce(..)`, \
            `.process(..)`, or an aggregate that implements `MergeAggregate`"
)]
pub trait MergingContents<K>: Contents<K> {
    /// Takes in what another window had. Which of the two was earlier is not defined.
    fn merge(&self, into: &mut Self::Acc, other: Self::Acc);
}

/// An accumulator.
#[derive(Clone)]
pub struct Aggregated<A>(pub A);

impl<K, A: Aggregate<K>> Contents<K> for Aggregated<A> {
    type Input = A::Input;
    type Acc = A::Acc;
    type Output = A::Output;
    #[inline]
    fn add(&self, acc: &mut A::Acc, row: Timed<A::Input>) {
        self.0.add(acc, row.value);
    }
    fn fire(&self, key: &K, window: Window, acc: &mut A::Acc, out: &mut Out<A::Output>) {
        out.emit(self.0.result(key, window, acc.clone()));
    }
    fn finish(
        &self,
        key: &K,
        window: Window,
        acc: A::Acc,
        _: usize,
        out: &mut Out<A::Output>,
    ) -> Option<A::Acc> {
        out.emit(self.0.result(key, window, acc));
        None
    }
    fn tumbling<F>(&self, select: F, windows: Tumbling, late: LateRows) -> Box<dyn Operator>
    where
        K: KeyType,
        F: Fn(&A::Input) -> K + 'static,
    {
        Box::new(WindowOperator::new(select, windows, self.0.clone(), late))
    }
}
impl<K, A: MergeAggregate<K>> MergingContents<K> for Aggregated<A> {
    fn merge(&self, into: &mut A::Acc, other: A::Acc) {
        self.0.merge(into, other);
    }
}

/// The rows combined two by two into one; what comes out is of the same type.
pub struct Reduced<T, F> {
    combine: F,
    rows: PhantomData<fn(T) -> T>,
}

impl<T, F: Fn(&T, T) -> T> Reduced<T, F> {
    /// Combines by a closure from the value so far and the next row to the next value.
    pub fn new(combine: F) -> Self {
        Reduced {
            combine,
            rows: PhantomData,
        }
    }

    fn take_in(&self, acc: &mut Option<T>, row: T) {
        *acc = Some(match acc.take() {
            Some(value) => (self.combine)(&value, row),
            None => row,
        });
    }
}

impl<T, F: Clone> Clone for Reduced<T, F> {
    fn clone(&self) -> Self {
        Reduced {
            combine: self.combine.clone(),
            rows: PhantomData,
        }
    }
}

impl<K, T: Data, F: Fn(&T, T) -> T + Clone + Send + Sync + 'static> Contents<K> for Reduced<T, F> {
    type Input = T;
    type Acc = Option<T>;
    type Output = T;
    fn add(&self, acc: &mut Option<T>, row: Timed<T>) {
        self.take_in(acc, row.value);
    }
    fn fire(&self, _: &K, _: Window, acc: &mut Option<T>, out: &mut Out<T>) {
        if let Some(value) = acc {
            out.emit(value.clone());
        }
    }
}
impl<K, T: Data, F: Fn(&T, T) -> T + Clone + Send + Sync + 'static> MergingContents<K> for Reduced<T, F> {
    fn merge(&self, into: &mut Option<T>, other: Option<T>) {
        if let Some(value) = other {
            self.take_in(into, value);
        }
    }
}

/// All rows, for a closure that sees the whole window.
pub struct Gathered<K, T, O, F> {
    process: F,
    types: PhantomData<fn(K, T) -> O>,
}

impl<K, T, O, F: Fn(&K, Window, &[T], &mut Out<O>)> Gathered<K, T, O, F> {
    /// Gives the closure key, window and rows, in the order in which they came.
    pub fn new(process: F) -> Self {
        Gathered {
            process,
            types: PhantomData,
        }
    }
}

impl<K, T, O, F: Clone> Clone for Gathered<K, T, O, F> {
    fn clone(&self) -> Self {
        Gathered {
            process: self.process.clone(),
            types: PhantomData,
        }
    }
}

impl<K, T, O, F> Contents<K> for Gathered<K, T, O, F>
where
    K: 'static,
    T: Data,
    O: Data,
    F: Fn(&K, Window, &[T], &mut Out<O>) + Clone + Send + Sync + 'static,
{
    type Input = T;
    type Acc = Vec<T>;
    type Output = O;
    fn add(&self, acc: &mut Vec<T>, row: Timed<T>) {
        acc.push(row.value);
    }
    fn fire(&self, key: &K, window: Window, acc: &mut Vec<T>, out: &mut Out<O>) {
        (self.process)(key, window, acc, out);
    }
}
impl<K, T, O, F> MergingContents<K> for Gathered<K, T, O, F>
where
    K: 'static,
    T: Data,
    O: Data,
    F: Fn(&K, Window, &[T], &mut Out<O>) + Clone + Send + Sync + 'static,
{
    fn merge(&self, into: &mut Vec<T>, mut other: Vec<T>) {
        into.append(&mut other);
    }
}
