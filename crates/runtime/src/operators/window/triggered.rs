//! Windows of any kind under a trigger: for each key the windows it has, with their contents, the trigger's state and timers.
//!
//! A key has one timer in the engine, at or before the earliest time that any of its windows waits for: a row that only moves
//! that time on (each row of a session does) leaves it where it is, and when it fires too early it is set anew.
//! Windows that merge do so as the row comes; the row then belongs to what they have become.

use super::assign::{Merge, WindowsOf};
use super::inputs::WindowInput;
use super::{
    Contents, LateRows, Lateness, Trigger, TriggerCx, TriggerResult, Window, WindowAssigner, WindowCore,
};
use crate::cursor::RowCursor;
use crate::operator::{Cx, Flow, OpenCx};
use crate::operators::keyed::{Opened, Out, Timed, no_time, not_open};
use rivermark_data::{Data, Key as KeyType, Typed};
use rivermark_state::{Key, Timers, ValueState};
use rivermark_types::{Result, Timestamp};
use serde::{Deserialize, Serialize};

/// A window of a key.
#[derive(Clone, Serialize, Deserialize)]
struct Pane<A, S> {
    window: Window,
    /// `None` since it was purged.
    rows: Option<A>,
    trigger: Option<S>,
    timers: Vec<Timestamp>,
}

/// The windows of a key, by their start.
#[derive(Clone, Serialize, Deserialize)]
struct Panes<A, S> {
    /// When the key's timer in the engine fires.
    wake: Option<Timestamp>,
    panes: Vec<Pane<A, S>>,
}

impl<A, S> Default for Panes<A, S> {
    fn default() -> Self {
        Panes {
            wake: None,
            panes: vec![],
        }
    }
}

/// The windows of an operator, under a trigger.
pub struct TriggeredWindows<K: KeyType, W, Tr: Trigger<C::Input>, C: Contents<K>> {
    rules: Rules<K, W, Tr, C>,
    state: Option<State<K, C::Acc, Tr::State>>,
}

struct State<K: KeyType, A: Data, S: Data> {
    opened: Opened<K>,
    keys: ValueState<K, Panes<A, S>>,
    timers: Timers<K>,
}

/// What decides about windows.
struct Rules<K, W, Tr, C: Contents<K>> {
    windows: W,
    trigger: Tr,
    contents: C,
    lateness: Lateness,
    merge: Option<Merge<K, C>>,
}

impl<K: KeyType, W: WindowsOf<K, C>, Tr: Trigger<C::Input>, C: Contents<K>> TriggeredWindows<K, W, Tr, C> {
    /// Windows with their contents, when they fire, and what becomes of late rows.
    pub fn new(windows: W, trigger: Tr, contents: C, lateness: Lateness) -> Self {
        let merge = W::merge();
        TriggeredWindows {
            rules: Rules {
                windows,
                trigger,
                contents,
                lateness,
                merge,
            },
            state: None,
        }
    }
}

type PanesOf<K, C, Tr> = Panes<<C as Contents<K>>::Acc, <Tr as Trigger<<C as Contents<K>>::Input>>::State>;
type PaneOf<K, C, Tr> = Pane<<C as Contents<K>>::Acc, <Tr as Trigger<<C as Contents<K>>::Input>>::State>;

impl<K: KeyType, W, Tr: Trigger<C::Input>, C: Contents<K>> Rules<K, W, Tr, C>
where
    W: WindowAssigner<C::Input>,
{
    /// Takes a row into one of its windows; hands it back if that is gone.
    fn add(
        &self,
        of_key: &mut PanesOf<K, C, Tr>,
        key: &K,
        window: Window,
        row: Timed<C::Input>,
        out: &mut Out<C::Output>,
    ) -> Option<C::Input> {
        let at = match self.merge {
            Some(merge) => self.pane_merged(of_key, window, merge, out.watermark()),
            None => self.pane_of(of_key, window, out.watermark()),
        };
        let Some(at) = at else { return Some(row.value) };
        let pane = &mut of_key.panes[at];
        let mut cx = TriggerCx {
            watermark: out.watermark(),
            timers: &mut pane.timers,
        };
        let (trigger, time) = (&mut pane.trigger, row.time);
        let result = self
            .trigger
            .on_row(&row.value, time, pane.window, trigger, &mut cx);
        self.contents.add(pane.rows.get_or_insert_default(), row);
        self.act(pane, key, result, time, out);
        if self.is_idle(pane) {
            of_key.panes.remove(at);
        }
        None
    }

    /// The place of a window that is as it is, new if there is none.
    fn pane_of(&self, of_key: &mut PanesOf<K, C, Tr>, window: Window, watermark: Timestamp) -> Option<usize> {
        if self.lateness.gone_at(window) <= watermark {
            return None;
        }
        let found = of_key.panes.binary_search_by_key(&window, |pane| pane.window);
        Some(found.unwrap_or_else(|at| {
            of_key.panes.insert(at, Pane::new(window));
            at
        }))
    }

    /// The place of the window that a row's becomes together with those it overlaps.
    fn pane_merged(
        &self,
        of_key: &mut PanesOf<K, C, Tr>,
        window: Window,
        merge: Merge<K, C>,
        watermark: Timestamp,
    ) -> Option<usize> {
        let panes = &mut of_key.panes;
        // Windows that only touch stay apart: whether the first has fired and gone when the second comes is a matter of
        // chance. Windows of a key do not overlap, so their ends are in order too.
        let from = panes.partition_point(|pane| pane.window.end <= window.start);
        let to = panes.partition_point(|pane| pane.window.start < window.end);
        let Some(first) = panes.get(from).filter(|_| from < to) else {
            if self.lateness.gone_at(window) <= watermark {
                return None;
            }
            panes.insert(from, Pane::new(window));
            return Some(from);
        };
        let merged = Window {
            start: window.start.min(first.window.start),
            end: window.end.max(panes[to - 1].window.end),
        };
        if to - from == 1 && merged == first.window {
            return Some(from);
        }
        let mut states = Vec::new();
        let mut rows: Option<C::Acc> = None;
        for pane in panes.drain(from + 1..to).rev() {
            states.extend(pane.trigger);
            rows = self.merged(merge, pane.rows, rows);
        }
        let pane = &mut panes[from];
        states.extend(pane.trigger.take());
        states.reverse();
        pane.rows = self.merged(merge, pane.rows.take(), rows);
        pane.window = merged;
        pane.timers.clear();
        let mut cx = TriggerCx {
            watermark,
            timers: &mut pane.timers,
        };
        pane.trigger = self.trigger.on_merge(merged, states, &mut cx);
        Some(from)
    }

    fn merged(&self, merge: Merge<K, C>, into: Option<C::Acc>, other: Option<C::Acc>) -> Option<C::Acc> {
        match (into, other) {
            (Some(mut into), Some(other)) => {
                merge(&self.contents, &mut into, other);
                Some(into)
            }
            (into, other) => into.or(other),
        }
    }

    /// Does with a window what its trigger says. `at` is the time of the row or timer that it spoke on.
    fn act(
        &self,
        pane: &mut PaneOf<K, C, Tr>,
        key: &K,
        result: TriggerResult,
        at: Option<Timestamp>,
        out: &mut Out<C::Output>,
    ) {
        if result.is_fire() {
            let last = pane.window.last();
            // A window without an end has no last time to give to what it emits.
            out.set_time(if last == Timestamp::MAX { at } else { Some(last) });
            match (&mut pane.rows, result) {
                (rows @ Some(_), TriggerResult::FireAndPurge) => {
                    let rows = rows.take().unwrap_or_default();
                    self.contents.finish(key, pane.window, rows, usize::MAX, out);
                }
                (Some(rows), _) => self.contents.fire(key, pane.window, rows, out),
                (None, _) => {}
            }
        }
        if result.is_purge() {
            pane.rows = None;
        }
    }

    /// Whether a window is as good as one that no row has come to yet. The extent of one that merges counts.
    fn is_idle(&self, pane: &PaneOf<K, C, Tr>) -> bool {
        self.merge.is_none() && pane.rows.is_none() && pane.trigger.is_none() && pane.timers.is_empty()
    }

    /// Calls triggers whose time has come, and drops windows whose time is over.
    fn due(&self, of_key: &mut PanesOf<K, C, Tr>, key: &K, time: Timestamp, out: &mut Out<C::Output>) {
        for pane in &mut of_key.panes {
            let mut due: Vec<Timestamp> = Vec::new();
            pane.timers.retain(|at| {
                if *at <= time {
                    due.push(*at);
                }
                *at > time
            });
            due.sort_unstable();
            for at in due {
                let mut cx = TriggerCx {
                    watermark: out.watermark(),
                    timers: &mut pane.timers,
                };
                let result = self
                    .trigger
                    .on_event_time(at, pane.window, &mut pane.trigger, &mut cx);
                self.act(pane, key, result, Some(at), out);
            }
        }
        of_key
            .panes
            .retain(|pane| self.lateness.gone_at(pane.window) > time && !self.is_idle(pane));
    }

    /// The earliest time that a window of a key waits for.
    fn next(&self, of_key: &PanesOf<K, C, Tr>) -> Option<Timestamp> {
        let of_pane = |pane: &PaneOf<K, C, Tr>| {
            let gone = Some(self.lateness.gone_at(pane.window)).filter(|at| *at < Timestamp::MAX);
            pane.timers.iter().copied().chain(gone).min()
        };
        of_key.panes.iter().filter_map(of_pane).min()
    }
}

impl<A, S> Pane<A, S> {
    fn new(window: Window) -> Self {
        Pane {
            window,
            rows: None,
            trigger: None,
            timers: vec![],
        }
    }
}

/// Sets a key's timer if it would fire too late, or not at all.
fn wake_at<K: KeyType>(
    timers: &mut Timers<K>,
    key: &Key<K>,
    wake: &mut Option<Timestamp>,
    next: Option<Timestamp>,
) {
    let Some(next) = next.filter(|next| wake.is_none_or(|wake| *next < wake)) else {
        return;
    };
    if let Some(old) = wake.replace(next) {
        timers.delete(key, old);
    }
    timers.register(key, next);
}

impl<K: KeyType, W, Tr, C> WindowCore<K> for TriggeredWindows<K, W, Tr, C>
where
    W: WindowAssigner<C::Input>,
    Tr: Trigger<C::Input>,
    C: Contents<K>,
{
    type Input = C::Input;
    type Output = C::Output;

    fn open(&mut self, cx: &mut OpenCx<'_>) -> Result<()> {
        let keys = cx.keyed()?.value("windows")?;
        let mut timers = Timers::default();
        let opened = Opened::new(cx, |user| {
            timers = user.timers()?;
            Ok(())
        })?;
        self.state = Some(State { opened, keys, timers });
        Ok(())
    }

    fn rows<I: WindowInput<Held = C::Input>>(
        &mut self,
        rows: &mut RowCursor<'_>,
        cx: &mut Cx<'_>,
        select: &impl Fn(&I::Row) -> K,
    ) -> Result<Flow> {
        let State { opened, keys, timers } = self.state.as_mut().ok_or_else(not_open)?;
        let rules = &self.rules;
        let rows = rows.typed::<I::Row>()?;
        opened.check(rows, select)?;
        let (watermark, room) = (cx.watermark(), cx.room());
        let mut out = Out::new(0, cx);
        let (mut late, mut dropped) = (Typed::default(), 0);
        let mut windows = Vec::new();
        let mut result = Ok(());
        opened.each_keyed(rows, select, |key, row, time| {
            if time.is_none() && W::NEEDS_TIME {
                result = Err(no_time("a row of a window"));
                return false;
            }
            let at = time.unwrap_or(Timestamp::MIN);
            let row = I::hold(row);
            rules.windows.assign(&row, at, &mut windows);
            let of_key = keys.update(key);
            let last = windows.pop();
            let mut is_taken = false;
            for window in windows.drain(..) {
                let value = row.clone();
                is_taken |= rules
                    .add(of_key, key, window, Timed { value, time }, &mut out)
                    .is_none();
            }
            let rest = match last {
                Some(window) => rules.add(of_key, key, window, Timed { value: row, time }, &mut out),
                None => Some(row),
            };
            let next = rules.next(of_key);
            wake_at(timers, key, &mut of_key.wake, next);
            if of_key.panes.is_empty() && of_key.wake.is_none() {
                keys.clear(key);
            }
            let is_late = !is_taken && rules.lateness.of(at) <= watermark;
            match (rest.filter(|_| is_late), rules.lateness.rows) {
                (Some(row), LateRows::Emit) => {
                    if let Some(row) = I::give_back(row) {
                        late.push(row, time);
                    }
                }
                (Some(_), LateRows::Drop) => dropped += 1,
                (None, _) => {}
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
        let State { opened, keys, timers } = self.state.as_mut().ok_or_else(not_open)?;
        let rules = &self.rules;
        opened.fire(watermark, cx, |key, timer, out| {
            let of_key = keys.update(key);
            of_key.wake = None;
            rules.due(of_key, key, timer.time, out);
            let next = rules.next(of_key);
            wake_at(timers, key, &mut of_key.wake, next);
            if of_key.panes.is_empty() {
                keys.clear(key);
            }
            Ok(())
        })
    }
}
