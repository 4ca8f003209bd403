//! Windows of any kind under a trigger: for each key the windows it has, with their contents, the trigger's state and timers.
//!
//! A key has one timer in the engine for event time and one for processing time, at or before the earliest time that any of its
//! windows waits for: a row that only moves that time on (each row of a session does) leaves it where it is, and when it fires
//! too early it is set anew.
//! Windows that merge do so as the row comes; the row then belongs to what they have become.

use super::assign::{Merge, WindowsOf};
use super::inputs::WindowInput;
use super::{
    Contents, LateRows, Lateness, Trigger, TriggerCx, TriggerResult, Window, WindowAssigner, WindowCore,
};
use crate::cursor::RowCursor;
use crate::operator::{Cx, Flow, OpenCx};
use crate::operators::keyed::{Opened, Out, Timed, Timer, no_time, not_open};
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
    #[serde(default)]
    processing_timers: Vec<Timestamp>,
}

/// Which of the two times.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clock {
    Event,
    Processing,
}

/// The windows of a key, by their start.
#[derive(Clone, Serialize, Deserialize)]
struct Panes<A, S> {
    /// When the key's timers in the engine fire: that of event time and that of processing time.
    wake: Option<Timestamp>,
    #[serde(default)]
    wake_processing: Option<Timestamp>,
    panes: Vec<Pane<A, S>>,
}

impl<A, S> Default for Panes<A, S> {
    fn default() -> Self {
        Panes {
            wake: None,
            wake_processing: None,
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
    processing_timers: Timers<K>,
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
            Some(merge) => self.pane_merged(of_key, window, merge, out),
            None => self.pane_of(of_key, window, out),
        };
        let Some(at) = at else { return Some(row.value) };
        let pane = &mut of_key.panes[at];
        let (window, time) = (pane.window, row.time);
        let (state, mut cx) = pane.trigger(W::PROCESSING_TIME, out);
        let result = self.trigger.on_row(&row.value, time, window, state, &mut cx);
        self.contents.add(pane.rows.get_or_insert_default(), row);
        self.act(pane, key, result, time, out);
        if self.is_idle(pane) {
            of_key.panes.remove(at);
        }
        None
    }

    /// The place of a window that is as it is, new if there is none.
    fn pane_of(&self, of_key: &mut PanesOf<K, C, Tr>, window: Window, out: &Out<C::Output>) -> Option<usize> {
        if self.is_gone(window, out) {
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
        out: &Out<C::Output>,
    ) -> Option<usize> {
        let panes = &mut of_key.panes;
        // Windows that only touch stay apart: whether the first has fired and gone when the second comes is a matter of
        // chance. Windows of a key do not overlap, so their ends are in order too.
        let from = panes.partition_point(|pane| pane.window.end <= window.start);
        let to = panes.partition_point(|pane| pane.window.start < window.end);
        let Some(first) = panes.get(from).filter(|_| from < to) else {
            if self.is_gone(window, out) {
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
        pane.processing_timers.clear();
        let (state, mut cx) = pane.trigger(W::PROCESSING_TIME, out);
        *state = self.trigger.on_merge(merged, states, &mut cx);
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
        self.merge.is_none()
            && pane.rows.is_none()
            && pane.trigger.is_none()
            && pane.timers.is_empty()
            && pane.processing_timers.is_empty()
    }

    /// Calls triggers whose time has come, and drops windows whose time is over.
    fn due(
        &self,
        of_key: &mut PanesOf<K, C, Tr>,
        key: &K,
        (clock, time): (Clock, Timestamp),
        out: &mut Out<C::Output>,
    ) {
        for pane in &mut of_key.panes {
            let mut due: Vec<Timestamp> = Vec::new();
            clock.timers(pane).retain(|at| {
                if *at <= time {
                    due.push(*at);
                }
                *at > time
            });
            due.sort_unstable();
            for at in due {
                let window = pane.window;
                let (state, mut cx) = pane.trigger(W::PROCESSING_TIME, out);
                let result = match clock {
                    Clock::Event => self.trigger.on_event_time(at, window, state, &mut cx),
                    Clock::Processing => self.trigger.on_processing_time(at, window, state, &mut cx),
                };
                // An event time, for windows without an end.
                let at = Some(at).filter(|_| clock == Clock::Event);
                self.act(pane, key, result, at, out);
            }
        }
        let is_own = clock == Self::CLOCK;
        of_key.panes.retain(|pane| {
            let stays = !is_own || self.gone_at(pane.window) > time;
            stays && !self.is_idle(pane)
        });
    }

    /// The earliest time that a window of a key waits for.
    fn next(&self, of_key: &PanesOf<K, C, Tr>, clock: Clock) -> Option<Timestamp> {
        let of_pane = |pane: &PaneOf<K, C, Tr>| {
            let gone = Some(self.gone_at(pane.window));
            let gone = gone.filter(|at| clock == Self::CLOCK && *at < Timestamp::MAX);
            let timers = match clock {
                Clock::Event => &pane.timers,
                Clock::Processing => &pane.processing_timers,
            };
            timers.iter().copied().chain(gone).min()
        };
        of_key.panes.iter().filter_map(of_pane).min()
    }

    /// The time that the windows are of.
    const CLOCK: Clock = match W::PROCESSING_TIME {
        true => Clock::Processing,
        false => Clock::Event,
    };

    /// When a window goes.
    fn gone_at(&self, window: Window) -> Timestamp {
        match Self::CLOCK {
            Clock::Event => self.lateness.gone_at(window),
            // The last millisecond has passed then: no row is late.
            Clock::Processing => window.end,
        }
    }

    fn is_gone(&self, window: Window, out: &Out<C::Output>) -> bool {
        let now = match Self::CLOCK {
            Clock::Event => out.watermark(),
            Clock::Processing => out.processing_time(),
        };
        self.gone_at(window) <= now
    }
}

impl Clock {
    fn timers<A, S>(self, pane: &mut Pane<A, S>) -> &mut Vec<Timestamp> {
        match self {
            Clock::Event => &mut pane.timers,
            Clock::Processing => &mut pane.processing_timers,
        }
    }
}

impl<A, S> Pane<A, S> {
    fn new(window: Window) -> Self {
        Pane {
            window,
            rows: None,
            trigger: None,
            timers: vec![],
            processing_timers: vec![],
        }
    }

    /// The trigger's state, and what it sees.
    fn trigger<O: 'static>(&mut self, in_processing: bool, out: &Out<O>) -> (&mut Option<S>, TriggerCx<'_>) {
        let cx = TriggerCx {
            watermark: out.watermark(),
            processing_time: out.processing_time(),
            timers: &mut self.timers,
            processing_timers: &mut self.processing_timers,
            in_processing,
        };
        (&mut self.trigger, cx)
    }
}

impl<K: KeyType, W, Tr: Trigger<C::Input>, C: Contents<K>> TriggeredWindows<K, W, Tr, C>
where
    W: WindowAssigner<C::Input>,
{
    /// Fires what is due by a clock.
    fn fire_by(&mut self, clock: Clock, upto: Timestamp, cx: &mut Cx<'_>) -> Result<Flow> {
        let state = self.state.as_mut().ok_or_else(not_open)?;
        let (rules, keys) = (&self.rules, &mut state.keys);
        let (timers, processing_timers) = (&mut state.timers, &mut state.processing_timers);
        let each = |key: &Key<K>, timer: Timer, out: &mut Out<C::Output>| {
            let of_key = keys.update(key);
            match clock {
                Clock::Event => of_key.wake = None,
                Clock::Processing => of_key.wake_processing = None,
            }
            rules.due(of_key, key, (clock, timer.time), out);
            set_timers(rules, timers, processing_timers, key, of_key);
            if of_key.panes.is_empty() {
                keys.clear(key);
            }
            Ok(())
        };
        match clock {
            Clock::Event => state.opened.fire(upto, cx, each),
            Clock::Processing => state.opened.fire_processing(cx, each),
        }
    }
}

/// Sets the timers of a key for what its windows wait for.
fn set_timers<K: KeyType, W, Tr, C>(
    rules: &Rules<K, W, Tr, C>,
    timers: &mut Timers<K>,
    processing_timers: &mut Timers<K>,
    key: &Key<K>,
    of_key: &mut PanesOf<K, C, Tr>,
) where
    W: WindowAssigner<C::Input>,
    Tr: Trigger<C::Input>,
    C: Contents<K>,
{
    let next = rules.next(of_key, Clock::Event);
    wake_at(timers, key, &mut of_key.wake, next);
    let next = rules.next(of_key, Clock::Processing);
    wake_at(processing_timers, key, &mut of_key.wake_processing, next);
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
        let (mut timers, mut processing_timers) = (Timers::default(), Timers::default());
        let opened = Opened::new(cx, |user| {
            timers = user.timers()?;
            processing_timers = user.processing_timers()?;
            Ok(())
        })?;
        self.state = Some(State {
            opened,
            keys,
            timers,
            processing_timers,
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
            keys,
            timers,
            processing_timers,
        } = self.state.as_mut().ok_or_else(not_open)?;
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
            let at = match W::PROCESSING_TIME {
                true => out.processing_time(),
                false => time.unwrap_or(Timestamp::MIN),
            };
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
            set_timers(rules, timers, processing_timers, key, of_key);
            if of_key.panes.is_empty() && of_key.wake.is_none() && of_key.wake_processing.is_none() {
                keys.clear(key);
            }
            let is_late = !is_taken && !W::PROCESSING_TIME && rules.lateness.of(at) <= watermark;
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
        self.fire_by(Clock::Event, watermark, cx)
    }

    fn wake_at(&self) -> Option<Timestamp> {
        self.state.as_ref().and_then(|state| state.opened.wake_at())
    }

    fn wake(&mut self, cx: &mut Cx<'_>) -> Result<Flow> {
        self.fire_by(Clock::Processing, cx.processing_time(), cx)
    }
}
