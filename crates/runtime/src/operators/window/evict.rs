//! Which rows a window forgets when it fires, before or after its rows are looked at.

use super::{Contents, MergingContents, Window};
use crate::operators::keyed::{Out, Timed};
use rivermark_data::Data;
use rivermark_types::Timestamp;
use std::time::Duration;

/// Takes rows out of a window that fires. The rows are in the order in which they came (of windows that merged: each in its
/// own order). A window with an evictor keeps all of its rows, also for an aggregate.
pub trait Evictor<T>: Clone + Send + Sync + 'static {
    /// Before the window's function sees the rows.
    fn before(&self, _rows: &mut Vec<Timed<T>>, _window: Window) {}
    /// After it has.
    fn after(&self, _rows: &mut Vec<Timed<T>>, _window: Window) {}
}

/// When a built-in evictor is at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Before,
    After,
}

macro_rules! before_or_after {
    ($evictor:ty, $row:ident: [$($bound:tt)*] $(, $generic:ident)?) => {
        impl<$($generic)?> $evictor {
            /// Evicts after the window's function has seen the rows, not before.
            pub fn after(self) -> Self {
                Self { when: When::After, ..self }
            }
        }
        impl<$row: $($bound)* $(, $generic: Fn(&$row, &$row) -> f64 + Clone + Send + Sync + 'static)?> Evictor<$row> for $evictor {
            fn before(&self, rows: &mut Vec<Timed<$row>>, _: Window) {
                if self.when == When::Before {
                    self.evict(rows);
                }
            }
            fn after(&self, rows: &mut Vec<Timed<$row>>, _: Window) {
                if self.when == When::After {
                    self.evict(rows);
                }
            }
        }
    };
}

/// Keeps the last so many rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvictCount {
    most: usize,
    when: When,
}

impl EvictCount {
    /// Keeps at most `rows`.
    pub fn keep(rows: usize) -> EvictCount {
        EvictCount {
            most: rows,
            when: When::Before,
        }
    }

    fn evict<T>(&self, rows: &mut Vec<Timed<T>>) {
        rows.drain(..rows.len().saturating_sub(self.most));
    }
}
before_or_after!(EvictCount, T: [Data]);

/// Keeps the rows of the last span of time before the window's latest row. Rows without times stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvictTime {
    span_ms: i64,
    when: When,
}

impl EvictTime {
    /// Keeps the rows that are less than `span` older than the latest.
    pub fn keep(span: Duration) -> EvictTime {
        EvictTime {
            span_ms: super::assign::millis(span),
            when: When::Before,
        }
    }

    fn evict<T>(&self, rows: &mut Vec<Timed<T>>) {
        let Some(latest) = rows.iter().filter_map(|row| row.time).max() else {
            return;
        };
        let last_gone = Timestamp(latest.0.saturating_sub(self.span_ms));
        rows.retain(|row| row.time.is_none_or(|time| time > last_gone));
    }
}
before_or_after!(EvictTime, T: [Data]);

/// Keeps the rows that are near the last one.
#[derive(Clone, Copy, Debug)]
pub struct EvictDelta<D> {
    threshold: f64,
    distance: D,
    when: When,
}

impl<D> EvictDelta<D> {
    /// Keeps the rows for which `distance(row, last) < threshold`.
    pub fn keep<T>(threshold: f64, distance: D) -> EvictDelta<D>
    where
        D: Fn(&T, &T) -> f64,
    {
        EvictDelta {
            threshold,
            distance,
            when: When::Before,
        }
    }

    fn evict<T: Data>(&self, rows: &mut Vec<Timed<T>>)
    where
        D: Fn(&T, &T) -> f64,
    {
        let Some(last) = rows.last().map(|row| row.value.clone()) else {
            return;
        };
        rows.retain(|row| (self.distance)(&row.value, &last) < self.threshold);
    }
}
before_or_after!(EvictDelta<D>, T: [Data], D);

/// Contents behind an evictor: all rows are kept, and what is left of them at a firing goes through the contents anew.
#[derive(Clone)]
pub struct Evicted<C, E> {
    contents: C,
    evictor: E,
}

impl<C, E> Evicted<C, E> {
    /// `contents` of the rows that `evictor` leaves.
    pub fn new(contents: C, evictor: E) -> Self {
        Evicted { contents, evictor }
    }
}

impl<K: 'static, C: Contents<K>, E: Evictor<C::Input>> Contents<K> for Evicted<C, E> {
    type Input = C::Input;
    type Acc = Vec<Timed<C::Input>>;
    type Output = C::Output;
    fn add(&self, acc: &mut Self::Acc, row: Timed<C::Input>) {
        acc.push(row);
    }
    fn fire(&self, key: &K, window: Window, acc: &mut Self::Acc, out: &mut Out<C::Output>) {
        self.evictor.before(acc, window);
        if !acc.is_empty() {
            let mut rows = C::Acc::default();
            for row in acc.iter() {
                self.contents.add(&mut rows, row.clone());
            }
            self.contents.finish(key, window, rows, usize::MAX, out);
        }
        self.evictor.after(acc, window);
    }
}
impl<K: 'static, C: Contents<K>, E: Evictor<C::Input>> MergingContents<K> for Evicted<C, E> {
    fn merge(&self, into: &mut Self::Acc, mut other: Self::Acc) {
        into.append(&mut other);
    }
}
