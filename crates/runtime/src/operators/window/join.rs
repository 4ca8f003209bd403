//! Contents of windows over two streams: pairs of rows, or both sides as they are.

use super::{Contents, MergingContents, Window};
use crate::operators::keyed::{Out, Timed};
use rivermark_data::Data;
use serde::{Deserialize, Serialize};
use std::marker::PhantomData;

/// A row of one of two streams.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side<L, R> {
    /// Of the first.
    Left(L),
    /// Of the second.
    Right(R),
}

/// The rows of both streams in a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sides<L, R> {
    /// Those of the first, in the order in which they came.
    pub left: Vec<L>,
    /// Those of the second.
    pub right: Vec<R>,
}

impl<L, R> Default for Sides<L, R> {
    fn default() -> Self {
        Sides {
            left: vec![],
            right: vec![],
        }
    }
}

impl<L, R> Sides<L, R> {
    fn add(&mut self, row: Side<L, R>) {
        match row {
            Side::Left(row) => self.left.push(row),
            Side::Right(row) => self.right.push(row),
        }
    }
    fn append(&mut self, mut other: Self) {
        self.left.append(&mut other.left);
        self.right.append(&mut other.right);
    }
}

/// What becomes of each pair of rows with the same key in the same window.
pub struct JoinedPairs<L, R, O, F> {
    join: F,
    types: PhantomData<fn(L, R) -> O>,
}

impl<L, R, O, F: Fn(&L, &R) -> O> JoinedPairs<L, R, O, F> {
    /// `join` makes a row of each pair.
    pub fn new(join: F) -> Self {
        JoinedPairs {
            join,
            types: PhantomData,
        }
    }
}

impl<L, R, O, F: Clone> Clone for JoinedPairs<L, R, O, F> {
    fn clone(&self) -> Self {
        JoinedPairs {
            join: self.join.clone(),
            types: PhantomData,
        }
    }
}

impl<K, L, R, O, F> Contents<K> for JoinedPairs<L, R, O, F>
where
    L: Data,
    R: Data,
    O: Data,
    F: Fn(&L, &R) -> O + Clone + Send + Sync + 'static,
{
    type Input = Side<L, R>;
    type Acc = Sides<L, R>;
    type Output = O;
    fn add(&self, acc: &mut Sides<L, R>, row: Timed<Side<L, R>>) {
        acc.add(row.value);
    }
    fn fire(&self, _: &K, _: Window, acc: &mut Sides<L, R>, out: &mut Out<O>) {
        for left in &acc.left {
            for right in &acc.right {
                out.emit((self.join)(left, right));
            }
        }
    }
    /// Stops between two rows of the left: a large window does not hold up the barrier behind it.
    fn finish(
        &self,
        _: &K,
        _: Window,
        mut acc: Sides<L, R>,
        room: usize,
        out: &mut Out<O>,
    ) -> Option<Sides<L, R>> {
        for (taken, left) in acc.left.iter().enumerate() {
            if out.len() >= room && !acc.right.is_empty() {
                acc.left.drain(..taken);
                return Some(acc);
            }
            for right in &acc.right {
                out.emit((self.join)(left, right));
            }
        }
        None
    }
}
impl<K, L, R, O, F> MergingContents<K> for JoinedPairs<L, R, O, F>
where
    L: Data,
    R: Data,
    O: Data,
    F: Fn(&L, &R) -> O + Clone + Send + Sync + 'static,
{
    fn merge(&self, into: &mut Sides<L, R>, other: Sides<L, R>) {
        into.append(other);
    }
}

/// Both sides of a key and window, for a closure that sees them whole; one of them may be empty.
pub struct CoGrouped<K, L, R, O, F> {
    apply: F,
    types: PhantomData<fn(K, L, R) -> O>,
}

impl<K, L, R, O, F: Fn(&K, Window, &[L], &[R], &mut Out<O>)> CoGrouped<K, L, R, O, F> {
    /// Gives the closure key, window and the rows of both sides.
    pub fn new(apply: F) -> Self {
        CoGrouped {
            apply,
            types: PhantomData,
        }
    }
}

impl<K, L, R, O, F: Clone> Clone for CoGrouped<K, L, R, O, F> {
    fn clone(&self) -> Self {
        CoGrouped {
            apply: self.apply.clone(),
            types: PhantomData,
        }
    }
}

impl<K, L, R, O, F> Contents<K> for CoGrouped<K, L, R, O, F>
where
    K: 'static,
    L: Data,
    R: Data,
    O: Data,
    F: Fn(&K, Window, &[L], &[R], &mut Out<O>) + Clone + Send + Sync + 'static,
{
    type Input = Side<L, R>;
    type Acc = Sides<L, R>;
    type Output = O;
    fn add(&self, acc: &mut Sides<L, R>, row: Timed<Side<L, R>>) {
        acc.add(row.value);
    }
    fn fire(&self, key: &K, window: Window, acc: &mut Sides<L, R>, out: &mut Out<O>) {
        (self.apply)(key, window, &acc.left, &acc.right, out);
    }
}
impl<K, L, R, O, F> MergingContents<K> for CoGrouped<K, L, R, O, F>
where
    K: 'static,
    L: Data,
    R: Data,
    O: Data,
    F: Fn(&K, Window, &[L], &[R], &mut Out<O>) + Clone + Send + Sync + 'static,
{
    fn merge(&self, into: &mut Sides<L, R>, other: Sides<L, R>) {
        into.append(other);
    }
}
