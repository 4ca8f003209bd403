//! The calls under way, and the order in which their results and the marks between them come out.

use super::options::AsyncMode;
use crate::operator::Cx;
use rivermark_data::{Activity, Data, Typed};
use rivermark_types::Timestamp;
use std::collections::VecDeque;

/// What passes between rows and keeps its place.
pub(super) enum Mark {
    Watermark(Timestamp),
    Status(Activity),
}

impl Mark {
    fn emit(self, cx: &mut Cx<'_>) {
        match self {
            Mark::Watermark(watermark) => cx.emit_watermark(watermark),
            Mark::Status(status) => cx.emit_status(status),
        }
    }
}

/// A row whose result is not out yet.
struct Call<I, O> {
    /// Its place in the input.
    number: u64,
    row: I,
    time: Option<Timestamp>,
    /// The marks before it.
    marks: u64,
    result: Option<O>,
}

/// Calls by place. Places are used again, so the book is as large as the calls that were ever under way at once.
pub(super) struct Book<I, O> {
    calls: Vec<Option<Call<I, O>>>,
    free: Vec<usize>,
    next_number: u64,
    line: Line,
}

/// What comes out next.
enum Line {
    /// Row by row.
    Ordered(VecDeque<Next>),
    Unordered {
        /// Rows between two marks, from the first with anything to come.
        spans: VecDeque<Span>,
        /// How many marks have come out.
        passed: u64,
        /// Results of the first span.
        ready: VecDeque<usize>,
    },
}

enum Next {
    Row(usize),
    Mark(Mark),
}

#[derive(Default)]
struct Span {
    /// Rows whose results are not out.
    open: usize,
    /// What ends it.
    mark: Option<Mark>,
}

impl<I: Data, O: Data> Book<I, O> {
    pub(super) fn new(mode: AsyncMode) -> Book<I, O> {
        let line = match mode {
            AsyncMode::Ordered => Line::Ordered(VecDeque::new()),
            AsyncMode::Unordered => Line::Unordered {
                spans: VecDeque::from([Span::default()]),
                passed: 0,
                ready: VecDeque::new(),
            },
        };
        Book {
            calls: vec![],
            free: vec![],
            next_number: 0,
            line,
        }
    }

    /// How many rows are in it.
    pub(super) fn len(&self) -> usize {
        self.calls.len() - self.free.len()
    }

    /// Whether neither a row nor a mark is left.
    pub(super) fn is_empty(&self) -> bool {
        let no_marks = match &self.line {
            Line::Ordered(line) => line.is_empty(),
            Line::Unordered { spans, .. } => spans.iter().all(|span| span.mark.is_none()),
        };
        self.len() == 0 && no_marks
    }

    /// Whether something could come out at once.
    pub(super) fn has_ready(&self) -> bool {
        match &self.line {
            Line::Ordered(line) => match line.front() {
                Some(Next::Row(at)) => self.is_finished(*at),
                Some(Next::Mark(_)) => true,
                None => false,
            },
            Line::Unordered { spans, ready, .. } => {
                let ends = |span: &Span| span.open == 0 && span.mark.is_some();
                !ready.is_empty() || spans.front().is_some_and(ends)
            }
        }
    }

    fn is_finished(&self, at: usize) -> bool {
        matches!(self.calls.get(at), Some(Some(call)) if call.result.is_some())
    }

    /// A row for which a call is made now; its place.
    pub(super) fn insert(&mut self, row: I, time: Option<Timestamp>) -> usize {
        let at = self.free.pop().unwrap_or_else(|| {
            self.calls.push(None);
            self.calls.len() - 1
        });
        let marks = match &mut self.line {
            Line::Ordered(line) => {
                line.push_back(Next::Row(at));
                0
            }
            Line::Unordered { spans, passed, .. } => {
                let before = spans.len() as u64 - 1;
                if let Some(last) = spans.back_mut() {
                    last.open += 1;
                }
                *passed + before
            }
        };
        self.calls[at] = Some(Call {
            number: self.next_number,
            row,
            time,
            marks,
            result: None,
        });
        self.next_number += 1;
        at
    }

    /// The row at a place.
    pub(super) fn row(&self, at: usize) -> Option<&I> {
        self.calls.get(at)?.as_ref().map(|call| &call.row)
    }

    /// The result of the row at a place is there.
    pub(super) fn finish(&mut self, at: usize, result: O) {
        let Some(Some(call)) = self.calls.get_mut(at) else {
            return;
        };
        call.result = Some(result);
        if let Line::Unordered { passed, ready, .. } = &mut self.line
            && call.marks == *passed
        {
            ready.push_back(at);
        }
    }

    /// A mark behind all rows so far.
    pub(super) fn mark(&mut self, mark: Mark) {
        match &mut self.line {
            Line::Ordered(line) => line.push_back(Next::Mark(mark)),
            Line::Unordered { spans, .. } => {
                if let Some(last) = spans.back_mut() {
                    last.mark = Some(mark);
                }
                spans.push_back(Span::default());
            }
        }
    }

    /// Emits what may come out, as far as there is room.
    pub(super) fn let_out(&mut self, cx: &mut Cx<'_>) {
        let mut left = cx.room();
        let mut out = Typed::default();
        while self.has_ready() {
            if let Some(mark) = self.next_mark() {
                cx.emit(0, std::mem::take(&mut out));
                mark.emit(cx);
                continue;
            }
            if left == 0 {
                break;
            }
            let Some((result, time)) = self.next_result() else {
                break;
            };
            out.push(result, time);
            left -= 1;
        }
        cx.emit(0, out);
    }

    /// The mark that is next, if one is.
    fn next_mark(&mut self) -> Option<Mark> {
        match &mut self.line {
            Line::Ordered(line) => match line.pop_front()? {
                Next::Mark(mark) => Some(mark),
                row => {
                    line.push_front(row);
                    None
                }
            },
            Line::Unordered { spans, passed, ready } => {
                let first = spans.front_mut().filter(|span| span.open == 0)?;
                let mark = first.mark.take()?;
                spans.pop_front();
                *passed += 1;
                // What of the next span is finished already has waited for this mark.
                let calls = self.calls.iter().enumerate();
                ready.extend(calls.filter_map(|(at, call)| {
                    let call = call.as_ref()?;
                    (call.marks == *passed && call.result.is_some()).then_some(at)
                }));
                Some(mark)
            }
        }
    }

    fn next_result(&mut self) -> Option<(O, Option<Timestamp>)> {
        let at = match &mut self.line {
            Line::Ordered(line) => match line.pop_front()? {
                Next::Row(at) => at,
                Next::Mark(_) => return None,
            },
            Line::Unordered { spans, ready, .. } => {
                let at = ready.pop_front()?;
                if let Some(first) = spans.front_mut() {
                    first.open -= 1;
                }
                at
            }
        };
        let call = self.calls.get_mut(at)?.take()?;
        self.free.push(at);
        Some((call.result?, call.time))
    }

    /// The rows that are in it, in the order in which they came.
    pub(super) fn unfinished(&self) -> Vec<(&I, Option<Timestamp>)> {
        let mut calls: Vec<&Call<I, O>> = self.calls.iter().flatten().collect();
        calls.sort_unstable_by_key(|call| call.number);
        calls.into_iter().map(|call| (&call.row, call.time)).collect()
    }
}
