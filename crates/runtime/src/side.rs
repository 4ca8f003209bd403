//! Side outputs: further streams out of an operator, by name and type.
//!
//! A user's operator declares a tag in `open` and keeps the handle; the stream's user takes the tag from the operator's
//! stream. The two meet when the operator opens: handle and task share a typed buffer, which the task empties behind
//! every call. So a row costs a push, no lookup and no downcast; a tag that nobody takes drops its rows at once.
//! Non-goal: ports with fixed numbers, which an operator of the engine emits on through `Cx`.

use crate::operator::Output;
use rivermark_data::{Batch, Data, Typed};
use rivermark_types::{Failure, Result, Timestamp};
use std::any::type_name;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;

/// The name and the type of a side output. Best a constant, so that the operator and whoever takes its rows say the same.
///
/// ```
/// use rivermark_runtime::OutputTag;
///
/// const LATE: OutputTag<(u64, i64)> = OutputTag::new("late");
/// assert_eq!(LATE.name(), "late");
/// ```
pub struct OutputTag<T> {
    name: &'static str,
    rows: PhantomData<fn() -> T>,
}

impl<T> OutputTag<T> {
    /// A tag. Two of one operator must not have the same name.
    pub const fn new(name: &'static str) -> OutputTag<T> {
        OutputTag {
            name,
            rows: PhantomData,
        }
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<T> Clone for OutputTag<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for OutputTag<T> {}
impl<T> fmt::Debug for OutputTag<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutputTag<{}>({:?})", type_name::<T>(), self.name)
    }
}

/// Side outputs that a graph takes from an operator: the tag's name, and where its rows are to go.
pub type TakenOutputs = BTreeMap<String, TakenOutput>;

/// A side output that somebody takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenOutput {
    /// The output port that leads there.
    pub port: u8,
    /// The type of the rows that are expected there.
    pub type_name: String,
}

/// An operator's side of a side output: where its rows go in. Made by `open`; one that was not is a mistake in the operator.
pub struct SideOutput<T>(Side<T>);

enum Side<T> {
    Undeclared,
    /// Nobody takes it.
    Dropped,
    Taken(Rc<Buffer<T>>),
}

struct Buffer<T> {
    port: u8,
    rows: RefCell<Typed<T>>,
    moment: Rc<Moment>,
}

/// What all side outputs of an operator share during a call.
#[derive(Default)]
struct Moment {
    /// The time of the row or timer at hand.
    time: Cell<Option<Timestamp>>,
    /// Rows in all buffers.
    rows: Cell<usize>,
}

impl<T> Default for SideOutput<T> {
    fn default() -> Self {
        SideOutput(Side::Undeclared)
    }
}

impl<T: Data> SideOutput<T> {
    /// Emits a row, with the time of the row or timer that is being handled.
    #[inline]
    pub fn emit(&self, value: T) {
        if let Some(buffer) = self.buffer() {
            buffer.push(value, buffer.moment.time.get());
        }
    }

    /// Emits a row with a time of its own.
    #[inline]
    pub fn emit_at(&self, value: T, time: Timestamp) {
        if let Some(buffer) = self.buffer() {
            buffer.push(value, Some(time));
        }
    }

    /// Whether somebody takes the rows: without, what is emitted is dropped, and need not be made.
    pub fn is_taken(&self) -> bool {
        self.buffer().is_some()
    }

    #[inline(always)]
    fn buffer(&self) -> Option<&Buffer<T>> {
        match &self.0 {
            Side::Taken(buffer) => Some(buffer),
            Side::Dropped => None,
            Side::Undeclared => undeclared(),
        }
    }
}

/// A handle was used before its tag was declared: a mistake in the operator, which fails the attempt.
#[cold]
#[inline(never)]
fn undeclared() -> ! {
    panic!(
        "a side output was used that `open` did not declare: keep there what `cx.side_output(&TAG)` returns"
    )
}

impl<T> Buffer<T> {
    #[inline]
    fn push(&self, value: T, time: Option<Timestamp>) {
        self.rows.borrow_mut().push(value, time);
        self.moment.rows.set(self.moment.rows.get() + 1);
    }
}

/// A buffer as the task sees it.
trait Drain {
    fn drain(&self) -> Option<(u8, Batch)>;
}

impl<T: Data> Drain for Buffer<T> {
    fn drain(&self) -> Option<(u8, Batch)> {
        let rows = self.rows.borrow_mut().take();
        (!rows.is_empty()).then(|| (self.port, Batch::new(rows)))
    }
}

/// The task's side of all side outputs of one operator.
#[derive(Default)]
pub(crate) struct SideOutputs {
    taken: TakenOutputs,
    declared: Vec<&'static str>,
    buffers: Vec<Rc<dyn Drain>>,
    moment: Rc<Moment>,
}

impl SideOutputs {
    pub(crate) fn new(taken: TakenOutputs) -> SideOutputs {
        SideOutputs {
            taken,
            ..SideOutputs::default()
        }
    }

    /// An operator declares a tag.
    pub(crate) fn declare<T: Data>(&mut self, tag: &OutputTag<T>, operator: &str) -> Result<SideOutput<T>> {
        let name = tag.name();
        if self.declared.contains(&name) {
            return Err(Failure::invalid(format!(
                "operator {operator} declares two side outputs {name:?}: give one of them another name"
            )));
        }
        self.declared.push(name);
        let Some(taken) = self.taken.get(name) else {
            return Ok(SideOutput(Side::Dropped));
        };
        if taken.type_name != type_name::<T>() {
            return Err(Failure::invalid(format!(
                "operator {operator} declares side output {name:?} with rows of {}, but it is taken with rows of {}: use \
                 one constant for both",
                type_name::<T>(),
                taken.type_name
            )));
        }
        let buffer = Rc::new(Buffer {
            port: taken.port,
            rows: RefCell::new(Typed::default()),
            moment: self.moment.clone(),
        });
        self.buffers.push(buffer.clone());
        Ok(SideOutput(Side::Taken(buffer)))
    }

    /// Refuses a graph that takes what the operator did not declare.
    pub(crate) fn finish_open(&self, operator: &str) -> Result<()> {
        let declared = |name: &&String| self.declared.contains(&name.as_str());
        let Some(missing) = self.taken.keys().find(|name| !declared(name)) else {
            return Ok(());
        };
        let known = match self.declared.as_slice() {
            [] => "none".to_owned(),
            names => names.join(", "),
        };
        Err(Failure::invalid(format!(
            "side output {missing:?} is taken from operator {operator}, which declares {known}: declare it in `open` with \
             cx.side_output(&TAG), or take it from the operator that does"
        )))
    }

    /// What the operator tells of the row at hand.
    pub(crate) fn at_hand(&self) -> AtHand {
        AtHand((!self.buffers.is_empty()).then(|| self.moment.clone()))
    }

    /// Moves what was emitted during a call behind the main output.
    #[inline]
    pub(crate) fn flush(&self, out: &mut Vec<Output>) {
        if self.moment.rows.replace(0) > 0 {
            let drained = self.buffers.iter().filter_map(|buffer| buffer.drain());
            out.extend(drained.map(|(port, batch)| Output::Rows(port, batch)));
        }
    }
}

/// Tells side outputs which row is at hand; costs a branch where there are none.
#[derive(Default)]
pub(crate) struct AtHand(Option<Rc<Moment>>);

impl AtHand {
    /// A row or a timer of this time is at hand.
    #[inline(always)]
    pub(crate) fn set_time(&self, time: Option<Timestamp>) {
        if let Some(moment) = &self.0 {
            moment.time.set(time);
        }
    }

    /// Rows emitted sideways in this call: they count against the room as others do.
    #[inline(always)]
    pub(crate) fn rows(&self) -> usize {
        self.0.as_ref().map_or(0, |moment| moment.rows.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: OutputTag<u64> = OutputTag::new("late");

    fn taken(type_name: &str) -> TakenOutputs {
        let type_name = type_name.to_owned();
        TakenOutputs::from([("late".to_owned(), TakenOutput { port: 3, type_name })])
    }

    #[test]
    fn rows_come_out_behind_the_call_with_the_time_of_the_row_at_hand() {
        let mut sides = SideOutputs::new(taken("u64"));
        let late = sides.declare(&LATE, "op").unwrap();
        let at_hand = sides.at_hand();
        at_hand.set_time(Some(Timestamp(5)));
        late.emit(1);
        late.emit_at(2, Timestamp(7));
        assert_eq!(at_hand.rows(), 2);
        let mut out = vec![];
        sides.flush(&mut out);
        assert_eq!(at_hand.rows(), 0);
        let [Output::Rows(3, _)] = out.as_slice() else {
            panic!("one batch on port 3");
        };
        let Some(Output::Rows(_, batch)) = out.pop() else {
            unreachable!()
        };
        let rows = batch.take::<u64>().unwrap();
        assert_eq!(
            (rows.values, rows.times.unwrap()),
            (vec![1, 2], vec![Timestamp(5), Timestamp(7)])
        );
        sides.flush(&mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn a_tag_that_nobody_takes_drops_its_rows() {
        let mut sides = SideOutputs::default();
        let late = sides.declare(&LATE, "op").unwrap();
        late.emit(1);
        assert!(!late.is_taken());
        let mut out = vec![];
        sides.flush(&mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn tags_that_do_not_fit_are_refused() {
        let mut sides = SideOutputs::new(taken("u64"));
        let missing = sides.finish_open("op").unwrap_err();
        assert!(missing.message.contains("declares none"), "{missing}");
        sides.declare(&OutputTag::<u8>::new("other"), "op").unwrap();
        let missing = sides.finish_open("op").unwrap_err();
        assert!(
            missing
                .message
                .contains("\"late\" is taken from operator op, which declares other"),
            "{missing}"
        );
        sides.declare(&LATE, "op").unwrap();
        sides.finish_open("op").unwrap();
        let twice = sides.declare(&LATE, "op").err().unwrap();
        assert!(twice.message.contains("two side outputs"), "{twice}");
        let mut sides = SideOutputs::new(taken("u32"));
        let other = sides.declare(&LATE, "op").err().unwrap();
        assert!(
            other
                .message
                .contains("rows of u64, but it is taken with rows of u32"),
            "{other}"
        );
    }

    #[test]
    #[should_panic(expected = "`open` did not declare")]
    fn a_handle_that_was_not_declared_says_so() {
        SideOutput::default().emit(1u8);
    }
}
