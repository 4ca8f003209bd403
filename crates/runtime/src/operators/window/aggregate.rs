//! How the rows of a window become one result.

use super::Window;
use rivermark_data::Data;
use std::marker::PhantomData;

/// How the rows of a key and window become one.
pub trait Aggregate<K>: Clone + Send + Sync + 'static {
    /// What goes in.
    type Input: Data;
    /// What is kept; a window begins with the default.
    type Acc: Data + Default;
    /// What comes out.
    type Output: Data;
    /// Takes a row in.
    fn add(&self, acc: &mut Self::Acc, row: Self::Input);
    /// The result, when the window fires.
    fn result(&self, key: &K, window: Window, acc: Self::Acc) -> Self::Output;
}

/// An [`Aggregate`] for windows that merge, as sessions do.
pub trait MergeAggregate<K>: Aggregate<K> {
    /// Takes in what another window had. Which of the two was earlier is not defined.
    fn merge(&self, into: &mut Self::Acc, other: Self::Acc);
}

/// An [`Aggregate`] of two closures.
pub struct Fold<K, I, A, O, Add, Finish> {
    add: Add,
    finish: Finish,
    types: PhantomData<fn(K, I, A) -> O>,
}

impl<K, I, A, O, Add, Finish> Fold<K, I, A, O, Add, Finish>
where
    Add: Fn(&mut A, I),
    Finish: Fn(&K, Window, A) -> O,
{
    /// `add` takes a row in, `finish` makes the result.
    pub fn new(add: Add, finish: Finish) -> Self {
        Fold {
            add,
            finish,
            types: PhantomData,
        }
    }
}

impl<K, I, A, O, Add: Clone, Finish: Clone> Clone for Fold<K, I, A, O, Add, Finish> {
    fn clone(&self) -> Self {
        Fold {
            add: self.add.clone(),
            finish: self.finish.clone(),
            types: PhantomData,
        }
    }
}

impl<K, I, A, O, Add, Finish> Aggregate<K> for Fold<K, I, A, O, Add, Finish>
where
    K: 'static,
    I: Data,
    A: Data + Default,
    O: Data,
    Add: Fn(&mut A, I) + Clone + Send + Sync + 'static,
    Finish: Fn(&K, Window, A) -> O + Clone + Send + Sync + 'static,
{
    type Input = I;
    type Acc = A;
    type Output = O;
    #[inline]
    fn add(&self, acc: &mut A, row: I) {
        (self.add)(acc, row);
    }
    fn result(&self, key: &K, window: Window, acc: A) -> O {
        (self.finish)(key, window, acc)
    }
}

/// A [`MergeAggregate`] of three closures.
pub struct MergingFold<K, I, A, O, Add, Merge, Finish> {
    fold: Fold<K, I, A, O, Add, Finish>,
    merge: Merge,
}

impl<K, I, A, O, Add, Merge, Finish> MergingFold<K, I, A, O, Add, Merge, Finish>
where
    Add: Fn(&mut A, I),
    Merge: Fn(&mut A, A),
    Finish: Fn(&K, Window, A) -> O,
{
    /// `add` takes a row in, `merge` what another window has, `finish` makes the result.
    pub fn new(add: Add, merge: Merge, finish: Finish) -> Self {
        MergingFold {
            fold: Fold::new(add, finish),
            merge,
        }
    }
}

impl<K, I, A, O, Add: Clone, Merge: Clone, Finish: Clone> Clone
    for MergingFold<K, I, A, O, Add, Merge, Finish>
{
    fn clone(&self) -> Self {
        MergingFold {
            fold: self.fold.clone(),
            merge: self.merge.clone(),
        }
    }
}

impl<K, I, A, O, Add, Merge, Finish> Aggregate<K> for MergingFold<K, I, A, O, Add, Merge, Finish>
where
    K: 'static,
    I: Data,
    A: Data + Default,
    O: Data,
    Add: Fn(&mut A, I) + Clone + Send + Sync + 'static,
    Merge: Fn(&mut A, A) + Clone + Send + Sync + 'static,
    Finish: Fn(&K, Window, A) -> O + Clone + Send + Sync + 'static,
{
    type Input = I;
    type Acc = A;
    type Output = O;
    fn add(&self, acc: &mut A, row: I) {
        self.fold.add(acc, row);
    }
    fn result(&self, key: &K, window: Window, acc: A) -> O {
        self.fold.result(key, window, acc)
    }
}

impl<K, I, A, O, Add, Merge, Finish> MergeAggregate<K> for MergingFold<K, I, A, O, Add, Merge, Finish>
where
    K: 'static,
    I: Data,
    A: Data + Default,
    O: Data,
    Add: Fn(&mut A, I) + Clone + Send + Sync + 'static,
    Merge: Fn(&mut A, A) + Clone + Send + Sync + 'static,
    Finish: Fn(&K, Window, A) -> O + Clone + Send + Sync + 'static,
{
    fn merge(&self, into: &mut A, other: A) {
        (self.merge)(into, other);
    }
}
