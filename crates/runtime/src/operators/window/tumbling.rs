//! Tumbling windows: one accumulator a key and window, a table a window. Firing drains the table slice by slice.
//!
//! A row belongs to the window its event time lies in. A window fires when the watermark reaches its last millisecond,
//! and is gone then; a row that comes later is late: dropped and counted, or sent to the late output.
//! Non-goals: triggers, allowed lateness.

use super::{Aggregate, LATE_PORT, LateRows, Window};
use crate::cursor::RowCursor;
use crate::operator::{Cx, Flow, OpenCx, Operator};
use crate::operators::keyed::{Opened, no_time, not_open};
use rivermark_data::{Key as KeyType, Typed};
use rivermark_state::WindowState;
use rivermark_types::{InputId, Result, Timestamp};
use std::time::Duration;

/// Windows one behind the other, each of the same size, that leave no gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tumbling {
    size_ms: i64,
    offset_ms: i64,
}

impl Tumbling {
    /// Windows of a size, in whole milliseconds and at least one, that begin at multiples of it since 1970 (UTC).
    pub fn of(size: Duration) -> Tumbling {
        let size_ms = i64::try_from(size.as_millis()).unwrap_or(i64::MAX).max(1);
        Tumbling {
            size_ms,
            offset_ms: 0,
        }
    }

    /// The same windows, beginning so much later: for days of another time zone, for example.
    pub fn with_offset(self, offset: Duration) -> Tumbling {
        let offset_ms = i64::try_from(offset.as_millis()).unwrap_or(i64::MAX) % self.size_ms;
        Tumbling { offset_ms, ..self }
    }

    /// The window that a time lies in. At the ends of all time windows are cut short.
    #[inline]
    pub fn window_of(&self, time: Timestamp) -> Window {
        let into = time.0.saturating_sub(self.offset_ms).rem_euclid(self.size_ms);
        let start = time.0.saturating_sub(into);
        Window {
            start: Timestamp(start),
            end: Timestamp(time.0.saturating_add(self.size_ms - into)),
        }
    }

    /// The window that ends at a time.
    pub(super) fn window_to(&self, end: Timestamp) -> Window {
        Window {
            start: Timestamp(end.0.saturating_sub(self.size_ms)),
            end,
        }
    }
}

/// Aggregates rows by key and window.
pub struct WindowOperator<K: KeyType, F, A: Aggregate<K>> {
    select: F,
    windows: Tumbling,
    aggregate: A,
    late: LateRows,
    opened: Option<(Opened<K>, WindowState<K, A::Acc>)>,
}

impl<K: KeyType, F, A: Aggregate<K>> WindowOperator<K, F, A> {
    /// An operator for rows whose key `select` gives.
    pub fn new(select: F, windows: Tumbling, aggregate: A, late: LateRows) -> Self {
        WindowOperator {
            select,
            windows,
            aggregate,
            late,
            opened: None,
        }
    }
}

impl<K, F, A> Operator for WindowOperator<K, F, A>
where
    K: KeyType,
    F: Fn(&A::Input) -> K + 'static,
    A: Aggregate<K>,
{
    fn open(&mut self, cx: &mut OpenCx<'_>) -> Result<()> {
        let state = cx.keyed()?.windows("windows")?;
        self.opened = Some((Opened::new(cx, |_| Ok(()))?, state));
        Ok(())
    }

    fn on_batch(&mut self, _: InputId, rows: &mut RowCursor<'_>, cx: &mut Cx<'_>) -> Result<Flow> {
        let (opened, state) = self.opened.as_mut().ok_or_else(not_open)?;
        let rows = rows.typed::<A::Input>()?;
        opened.check(rows, &self.select)?;
        let (watermark, room) = (cx.watermark(), cx.room());
        let (mut late, mut dropped) = (Typed::default(), 0);
        let mut result = Ok(());
        // Neighbouring rows mostly share their window: a look costs less than a division.
        let mut window = Window {
            start: Timestamp::MAX,
            end: Timestamp::MIN,
        };
        opened.each_keyed(rows, &self.select, |key, row, time| {
            let Some(at) = time else {
                result = Err(no_time("a row of a window"));
                return false;
            };
            if at < window.start || at >= window.end {
                window = self.windows.window_of(at);
            }
            if window.last() > watermark {
                self.aggregate
                    .add(state.update_or_else(window.end, key, A::Acc::default), row);
            } else if self.late == LateRows::Emit {
                late.push(row, time);
            } else {
                dropped += 1;
            }
            late.len() < room
        });
        result?;
        let flow = if rows.is_exhausted() {
            Flow::Done
        } else {
            Flow::More
        };
        cx.count_late(dropped);
        cx.emit(LATE_PORT, late);
        Ok(flow)
    }

    fn on_watermark(&mut self, watermark: Timestamp, cx: &mut Cx<'_>) -> Result<Flow> {
        let (_, state) = self.opened.as_mut().ok_or_else(not_open)?;
        let room = cx.room();
        let mut out = Typed::default();
        let flow = loop {
            let due = state.first_end().map(|end| self.windows.window_to(end));
            let Some(window) = due.filter(|window| window.last() <= watermark) else {
                break Flow::Done;
            };
            if out.len() >= room {
                break Flow::More;
            }
            state.drain_slice(window.end, room - out.len(), |key, acc| {
                out.push(self.aggregate.result(&key, window, acc), Some(window.last()));
            });
        };
        cx.emit(0, out);
        Ok(flow)
    }
}
