//! Neighbouring map, filter and flat_map closures as one operator: fused by the compiler, before anything is boxed.
//!
//! A [`Pipe`] is a type that grows with each closure, like an iterator's; pushing a row through it is one inlined call.
//! So a run of closures is one loop a slice, without a dynamic call or an allocation a record. Which closure is at work
//! is kept in a [`Stage`], a local of the loop; only if a closure fails or panics does it leave the loop.
//! Non-goal: state. A run has none, and its rows keep their times.

use crate::cursor::RowCursor;
use crate::operator::{Cx, Flow, OpenCx, Operator};
use rivermark_data::{Data, Typed};
use rivermark_types::{Failure, InputId, Result};
use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::marker::PhantomData;

/// Closures one behind the other, from rows of `I` to rows of `Out`.
pub trait Pipe<I>: Clone + Send + Sync + 'static {
    /// What comes out.
    type Out;
    /// How many closures there are.
    const STAGES: u32;
    /// Whether a row may become more than one.
    const GROWS: bool;
    /// Whether a closure may fail.
    const FAILS: bool;
    /// Pushes one row through, which gives any number of rows. A closure that fails notes it in `stage`.
    fn push(&self, row: I, stage: &Stage, out: &mut impl FnMut(Self::Out));
}

/// Which closure of a run is at work, counted from 1, and whether it failed.
#[derive(Debug, Default)]
pub struct Stage {
    at: Cell<u32>,
    is_failed: Cell<bool>,
    failure: RefCell<Option<Failure>>,
}

impl Stage {
    #[inline(always)]
    fn enter(&self, stage: u32) {
        self.at.set(stage);
    }

    #[cold]
    fn fail(&self, failure: Failure) {
        self.is_failed.set(true);
        *self.failure.borrow_mut() = Some(failure);
    }

    #[inline(always)]
    fn is_failed(&self) -> bool {
        self.is_failed.get()
    }
}

/// No closure at all: where every pipe begins.
#[derive(Clone, Copy, Debug, Default)]
pub struct Identity;

impl<I> Pipe<I> for Identity {
    type Out = I;
    const STAGES: u32 = 0;
    const GROWS: bool = false;
    const FAILS: bool = false;
    #[inline(always)]
    fn push(&self, row: I, _: &Stage, out: &mut impl FnMut(I)) {
        out(row);
    }
}

/// A pipe with a closure behind it that turns each row into one.
#[derive(Clone)]
pub struct Map<P, F>(pub P, pub F);

impl<I, P, U, F> Pipe<I> for Map<P, F>
where
    P: Pipe<I>,
    F: Fn(P::Out) -> U + Clone + Send + Sync + 'static,
{
    type Out = U;
    const STAGES: u32 = P::STAGES + 1;
    const GROWS: bool = P::GROWS;
    const FAILS: bool = P::FAILS;
    #[inline(always)]
    fn push(&self, row: I, stage: &Stage, out: &mut impl FnMut(U)) {
        self.0.push(row, stage, &mut |row| {
            stage.enter(P::STAGES + 1);
            out((self.1)(row));
        });
    }
}

/// A pipe with a closure behind it that lets rows through or not.
#[derive(Clone)]
pub struct Filter<P, F>(pub P, pub F);

impl<I, P, F> Pipe<I> for Filter<P, F>
where
    P: Pipe<I>,
    F: Fn(&P::Out) -> bool + Clone + Send + Sync + 'static,
{
    type Out = P::Out;
    const STAGES: u32 = P::STAGES + 1;
    const GROWS: bool = P::GROWS;
    const FAILS: bool = P::FAILS;
    #[inline(always)]
    fn push(&self, row: I, stage: &Stage, out: &mut impl FnMut(P::Out)) {
        self.0.push(row, stage, &mut |row| {
            stage.enter(P::STAGES + 1);
            if (self.1)(&row) {
                out(row);
            }
        });
    }
}

/// A pipe with a closure behind it that turns each row into any number of them.
#[derive(Clone)]
pub struct FlatMap<P, F>(pub P, pub F);

impl<I, P, R, F> Pipe<I> for FlatMap<P, F>
where
    P: Pipe<I>,
    R: IntoIterator,
    F: Fn(P::Out) -> R + Clone + Send + Sync + 'static,
{
    type Out = R::Item;
    const STAGES: u32 = P::STAGES + 1;
    const GROWS: bool = true;
    const FAILS: bool = P::FAILS;
    #[inline(always)]
    fn push(&self, row: I, stage: &Stage, out: &mut impl FnMut(R::Item)) {
        self.0.push(row, stage, &mut |row| {
            stage.enter(P::STAGES + 1);
            for row in (self.1)(row) {
                out(row);
                if stage.is_failed() {
                    break;
                }
                // The iterator runs the user's code again, after the closures behind this one did.
                stage.enter(P::STAGES + 1);
            }
        });
    }
}

/// A pipe with a closure behind it that turns each row into one, or fails the attempt.
#[derive(Clone)]
pub struct TryMap<P, F>(pub P, pub F);

impl<I, P, U, E, F> Pipe<I> for TryMap<P, F>
where
    P: Pipe<I>,
    E: Display,
    F: Fn(P::Out) -> Result<U, E> + Clone + Send + Sync + 'static,
{
    type Out = U;
    const STAGES: u32 = P::STAGES + 1;
    const GROWS: bool = P::GROWS;
    const FAILS: bool = true;
    #[inline(always)]
    fn push(&self, row: I, stage: &Stage, out: &mut impl FnMut(U)) {
        self.0.push(row, stage, &mut |row| {
            stage.enter(P::STAGES + 1);
            match (self.1)(row) {
                Ok(row) => out(row),
                Err(error) => stage.fail(Failure::data(error.to_string())),
            }
        });
    }
}

/// Runs a pipe over each slice of rows.
pub struct FusedOperator<I, P> {
    pipe: P,
    rows: PhantomData<fn(I)>,
}

impl<I, P> FusedOperator<I, P> {
    /// An operator over a pipe.
    pub fn new(pipe: P) -> FusedOperator<I, P> {
        FusedOperator {
            pipe,
            rows: PhantomData,
        }
    }
}

/// Tells the engine the stage when the loop ends before its time, by an error or by a panic.
struct Tell<'a> {
    stage: Stage,
    engine: &'a Cell<u32>,
}

impl Drop for Tell<'_> {
    fn drop(&mut self) {
        self.engine.set(self.stage.at.get());
    }
}

impl<I: Data, P: Pipe<I>> Operator for FusedOperator<I, P>
where
    P::Out: Data,
{
    fn open(&mut self, _: &mut OpenCx<'_>) -> Result<()> {
        Ok(())
    }

    fn on_batch(&mut self, _: InputId, rows: &mut RowCursor<'_>, cx: &mut Cx<'_>) -> Result<Flow> {
        let room = cx.room();
        let rows = rows.typed::<I>()?;
        if !P::GROWS {
            // Then what comes out of the slice is no more than what goes in, and the loop need not count.
            rows.at_most(room);
        }
        let mut out = Typed::with_room(rows.rest_of_slice().len());
        let tell = Tell {
            stage: Stage::default(),
            engine: cx.stage(),
        };
        let goes_on = |rows: usize| (!P::GROWS || rows < room) && (!P::FAILS || !tell.stage.is_failed());
        if rows.is_timed() {
            rows.each_row(|row, time| {
                self.pipe.push(row, &tell.stage, &mut |row| out.push(row, time));
                goes_on(out.len())
            });
        } else {
            let out = &mut out.values;
            rows.each_row(|row, _| {
                self.pipe.push(row, &tell.stage, &mut |row| out.push(row));
                goes_on(out.len())
            });
        }
        if let Some(failure) = tell.stage.failure.take() {
            return Err(failure);
        }
        tell.stage.enter(0);
        drop(tell);
        let flow = if rows.is_exhausted() {
            Flow::Done
        } else {
            Flow::More
        };
        cx.emit(0, out);
        Ok(flow)
    }
}
