//! Windows of one size: a table a window, which fires and goes as a whole, and allowed lateness.
//!
//! A window fires when the watermark reaches its last millisecond: its rows move, a slice at a time, from the table of
//! pending windows to that of fired ones, where they stay as long as late rows are allowed; then the table is dropped.
//! Which keys have fired is thus never in doubt, whatever comes between two slices. A row for a window that has fired makes it
//! fire again, for the row's key. A watermark at which nothing is due costs two comparisons.
//! Non-goals: triggers, windows that merge (`triggered`).

use super::inputs::WindowInput;
use super::{Contents, LateRows, Lateness, SizedWindows, Window, WindowCore};
use crate::cursor::RowCursor;
use crate::operator::{Cx, Flow, OpenCx};
use crate::operators::keyed::{Opened, Out, Timed, no_time, not_open};
use rivermark_data::{Key as KeyType, Typed};
use rivermark_state::{Key, WindowState};
use rivermark_types::{Result, Timestamp};

/// The windows of an operator that are all of one size.
pub struct AlignedWindows<K: KeyType, W, C: Contents<K>> {
    windows: W,
    contents: C,
    lateness: Lateness,
    state: Option<State<K, C>>,
}

struct State<K: KeyType, C: Contents<K>> {
    opened: Opened<K>,
    tables: Tables<K, C>,
    /// The windows of the row at hand.
    of_row: Vec<Window>,
}

struct Tables<K: KeyType, C: Contents<K>> {
    /// What has not fired yet.
    pending: WindowState<K, C::Acc>,
    /// What has fired and waits for late rows.
    fired: WindowState<K, C::Acc>,
}

impl<K: KeyType, W: SizedWindows, C: Contents<K>> AlignedWindows<K, W, C> {
    /// Windows with their contents, and what becomes of late rows.
    pub fn new(windows: W, contents: C, lateness: Lateness) -> Self {
        AlignedWindows {
            windows,
            contents,
            lateness,
            state: None,
        }
    }
}

impl<K: KeyType, C: Contents<K>> Tables<K, C> {
    /// Takes a row into one of its windows, which is not beyond the allowed lateness.
    fn add(
        &mut self,
        contents: &C,
        window: Window,
        key: &Key<K>,
        row: Timed<C::Input>,
        is_kept: bool,
        out: &mut Out<C::Output>,
    ) {
        let Tables { pending, fired } = self;
        let end = window.end;
        let is_due = window.last() <= out.watermark();
        if !is_due || pending.get(end, key).is_some() {
            // After a restore the watermark may be behind what has fired: then it fires again, with all that it had.
            let acc = pending.update_or_else(end, key, || {
                let before = if is_kept { fired.remove(end, key) } else { None };
                before.unwrap_or_default()
            });
            contents.add(acc, row);
        } else {
            let acc = fired.update_or_else(end, key, C::Acc::default);
            contents.add(acc, row);
            out.set_time(Some(window.last()));
            contents.fire(key, window, acc, out);
        }
    }

    /// Fires a slice of a window that is due: all that there is room for.
    fn fire_slice(
        &mut self,
        contents: &C,
        window: Window,
        is_kept: bool,
        room: usize,
        out: &mut Out<C::Output>,
    ) {
        let Tables { pending, fired } = self;
        let mut unfired = Vec::new();
        let most = room.saturating_sub(out.len()).clamp(1, 1024);
        out.set_time(Some(window.last()));
        pending.drain_slice(window.end, most, |key, mut acc| {
            if out.len() >= room {
                unfired.push((key, acc));
            } else if is_kept {
                contents.fire(&key, window, &mut acc, out);
                fired.update_or_else(window.end, &key, || acc);
            } else if let Some(rest) = contents.finish(&key, window, acc, room, out) {
                unfired.push((key, rest));
            }
        });
        for (key, acc) in unfired {
            pending.update_or_else(window.end, &key, || acc);
        }
    }
}

impl<K: KeyType, W: SizedWindows, C: Contents<K>> WindowCore<K> for AlignedWindows<K, W, C> {
    type Input = C::Input;
    type Output = C::Output;

    fn open(&mut self, cx: &mut OpenCx<'_>) -> Result<()> {
        let backend = cx.keyed()?;
        let (pending, fired) = (backend.windows("windows")?, backend.windows("fired")?);
        self.state = Some(State {
            opened: Opened::new(cx, |_| Ok(()))?,
            tables: Tables { pending, fired },
            of_row: vec![],
        });
        Ok(())
    }

    fn rows<I: WindowInput<Held = C::Input>>(
        &mut self,
        rows: &mut RowCursor<'_>,
        cx: &mut Cx<'_>,
        select: &impl Fn(&I::Row) -> K,
    ) -> Result<Flow> {
        let State {
            opened,
            tables,
            of_row,
        } = self.state.as_mut().ok_or_else(not_open)?;
        let (windows, contents, lateness) = (&self.windows, &self.contents, self.lateness);
        let rows = rows.typed::<I::Row>()?;
        opened.check(rows, select)?;
        let (watermark, room) = (cx.watermark(), cx.room());
        let mut out = Out::new(0, cx);
        let (mut late, mut dropped) = (Typed::default(), 0);
        let mut result = Ok(());
        opened.each_keyed(rows, select, |key, row, time| {
            let Some(at) = time else {
                result = Err(no_time("a row of a window"));
                return false;
            };
            windows.windows_of(at, |window| {
                if lateness.gone_at(window) > watermark {
                    of_row.push(window);
                }
            });
            let row = I::hold(row);
            let last = of_row.pop();
            for window in of_row.drain(..) {
                let value = row.clone();
                tables.add(
                    contents,
                    window,
                    key,
                    Timed { value, time },
                    lateness.keeps(),
                    &mut out,
                );
            }
            match last {
                Some(window) => {
                    let row = Timed { value: row, time };
                    tables.add(contents, window, key, row, lateness.keeps(), &mut out);
                }
                // A row in a gap between windows is not late before it would be in any.
                None if lateness.of(at) > watermark => {}
                None if lateness.rows == LateRows::Emit => {
                    if let Some(row) = I::give_back(row) {
                        late.push(row, time);
                    }
                }
                None => dropped += 1,
            }
            late.len() < room && out.len() < room
        });
        result?;
        cx.count_late(dropped);
        cx.emit(0, out.into_rows());
        cx.emit(I::LATE_PORT, late);
        Ok(match rows.is_exhausted() {
            true => Flow::Done,
            false => Flow::More,
        })
    }

    fn fire(&mut self, watermark: Timestamp, cx: &mut Cx<'_>) -> Result<Flow> {
        let State { tables, .. } = self.state.as_mut().ok_or_else(not_open)?;
        let room = cx.room();
        let mut out = Out::new(0, cx);
        let flow = loop {
            let due = tables.pending.first_end().map(|end| self.windows.window_to(end));
            let Some(window) = due.filter(|window| window.last() <= watermark) else {
                break Flow::Done;
            };
            if out.len() >= room {
                break Flow::More;
            }
            let is_kept = self.lateness.gone_at(window) > watermark;
            tables.fire_slice(&self.contents, window, is_kept, room, &mut out);
        };
        cx.emit(0, out.into_rows());
        while let Some(end) = tables.fired.first_end()
            && self.lateness.gone_at(self.windows.window_to(end)) <= watermark
        {
            tables.fired.drop_window(end);
        }
        Ok(flow)
    }
}
