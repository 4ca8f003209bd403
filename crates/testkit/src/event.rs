//! What an operator is fed: rows of any type on any input, watermarks, and the passing of processing time.

use rivermark_data::{Batch, Data, Key, Typed};
use rivermark_types::{InputId, KeyHash, Timestamp, hash_key};
use std::any::{Any, type_name};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// An element of the input.
#[derive(Clone)]
pub struct Event(Kind);

#[derive(Clone)]
enum Kind {
    Row(InputId, Rc<dyn AnyRow>),
    Watermark(Timestamp),
    ProcessingTime(Timestamp),
}

impl Event {
    /// A row without an event time, on input 0.
    pub fn row<T: Data>(value: T) -> Event {
        Event(Kind::Row(InputId(0), Rc::new(Row { value, time: None })))
    }

    /// A watermark. One that does not rise is not passed on, as by a gate.
    pub fn watermark(time: i64) -> Event {
        Event(Kind::Watermark(Timestamp(time)))
    }

    /// Processing time moves on to this, and operators that want to be called on the way are called, each at its time. Every
    /// run begins at 0; between these events time stands still.
    pub fn processing_time(time: i64) -> Event {
        Event(Kind::ProcessingTime(Timestamp(time)))
    }

    /// The row with an event time.
    pub fn at(self, time: i64) -> Event {
        match self.0 {
            Kind::Row(input, row) => Event(Kind::Row(input, row.at(Timestamp(time)))),
            mark => Event(mark),
        }
    }

    /// The row on another input.
    pub fn on(self, input: u8) -> Event {
        match self.0 {
            Kind::Row(_, row) => Event(Kind::Row(InputId(input), row)),
            mark => Event(mark),
        }
    }
}

struct Row<T> {
    value: T,
    time: Option<Timestamp>,
}

trait AnyRow {
    fn at(&self, time: Timestamp) -> Rc<dyn AnyRow>;
    fn value(&self) -> &dyn Any;
    fn type_name(&self) -> &'static str;
    /// A batch of rows that are all of this one's type.
    fn batch(&self, rows: &[Rc<dyn AnyRow>]) -> Batch;
    fn as_any(&self) -> &dyn Any;
}

impl<T: Data> AnyRow for Row<T> {
    fn at(&self, time: Timestamp) -> Rc<dyn AnyRow> {
        Rc::new(Row {
            value: self.value.clone(),
            time: Some(time),
        })
    }
    fn value(&self) -> &dyn Any {
        &self.value
    }
    fn type_name(&self) -> &'static str {
        type_name::<T>()
    }
    fn batch(&self, rows: &[Rc<dyn AnyRow>]) -> Batch {
        let mut typed = Typed::default();
        for row in rows {
            let row = row.as_any().downcast_ref::<Row<T>>();
            let row =
                row.unwrap_or_else(|| panic!("rows of one input are of two types, one {}", self.type_name()));
            typed.push(row.value.clone(), row.time);
        }
        Batch::new(typed)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Gives the hash of a row's key.
type Select = Box<dyn Fn(u64, &dyn Any) -> Option<KeyHash>>;

/// How the rows of each input are dealt out to several instances.
#[derive(Default)]
pub(crate) struct Keys {
    by_input: BTreeMap<InputId, Select>,
    /// Inputs whose rows every instance gets.
    broadcast: BTreeSet<InputId>,
}

impl Keys {
    pub(crate) fn add<I: Data, K: Key>(&mut self, input: u8, select: impl Fn(&I) -> K + 'static) {
        let hash = move |seed, row: &dyn Any| row.downcast_ref::<I>().map(|row| hash_key(seed, &select(row)));
        self.by_input.insert(InputId(input), Box::new(hash));
    }

    pub(crate) fn add_broadcast(&mut self, input: u8) {
        self.broadcast.insert(InputId(input));
    }

    /// Whether the operator stands behind a `key_by`.
    pub(crate) fn is_keyed(&self) -> bool {
        !self.by_input.is_empty()
    }

    fn hash(&self, seed: u64, input: InputId, row: &dyn AnyRow) -> Option<KeyHash> {
        let select = self.by_input.get(&input)?;
        let hash = select(seed, row.value());
        Some(
            hash.unwrap_or_else(|| panic!("the key selector of {input} does not take a {}", row.type_name())),
        )
    }
}

/// What goes into one instance at once.
#[derive(Clone)]
pub(crate) enum Portion {
    Rows(InputId, Batch),
    Watermark(Timestamp),
    ProcessingTime(Timestamp),
}

/// Deals events out to instances and packs them: at most `batch` rows of one input, never beyond a watermark. `owner` is
/// told the key's hash, or `None` where there is no key, and says which instance gets the row.
pub(crate) fn portions(
    events: &[Event],
    batch: usize,
    keys: &Keys,
    seed: u64,
    instances: usize,
    mut owner: impl FnMut(Option<KeyHash>) -> usize,
) -> Vec<(usize, Portion)> {
    let mut portions = vec![];
    let mut rest = events;
    while let Some(Event(first)) = rest.first() {
        match first {
            Kind::Watermark(time) => {
                rest = &rest[1..];
                portions.extend((0..instances).map(|at| (at, Portion::Watermark(*time))));
            }
            Kind::ProcessingTime(time) => {
                rest = &rest[1..];
                // It passes for all at once.
                portions.push((0, Portion::ProcessingTime(*time)));
            }
            Kind::Row(input, model) => {
                let mut dealt: Vec<Vec<Rc<dyn AnyRow>>> = vec![vec![]; instances];
                let of_run = |event: &Event| match &event.0 {
                    Kind::Row(other, row) if other == input => Some(row.clone()),
                    _ => None,
                };
                let run: Vec<_> = rest.iter().map_while(of_run).take(batch).collect();
                rest = &rest[run.len()..];
                for row in run {
                    if keys.broadcast.contains(input) {
                        dealt.iter_mut().for_each(|rows| rows.push(row.clone()));
                        continue;
                    }
                    dealt[owner(keys.hash(seed, *input, &*row))].push(row);
                }
                let full = dealt.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty());
                portions.extend(full.map(|(at, rows)| (at, Portion::Rows(*input, model.batch(&rows)))));
            }
        }
    }
    portions
}
