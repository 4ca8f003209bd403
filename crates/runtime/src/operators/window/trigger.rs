//! When a window fires: on rows, and at times of the watermark or of the machine's clock ([`super::clocked`] has triggers of
//! the latter).

use super::{AtEnd, Window};
use rivermark_data::Data;
use rivermark_types::Timestamp;
use std::time::Duration;

/// What a trigger says should become of its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TriggerResult {
    /// Nothing.
    Continue,
    /// It emits what it comes to, and goes on with what it has.
    Fire,
    /// It forgets its rows.
    Purge,
    /// It emits what it comes to, and forgets its rows.
    FireAndPurge,
}

impl TriggerResult {
    /// Whether it emits.
    pub fn is_fire(self) -> bool {
        matches!(self, TriggerResult::Fire | TriggerResult::FireAndPurge)
    }
    /// Whether it forgets.
    pub fn is_purge(self) -> bool {
        matches!(self, TriggerResult::Purge | TriggerResult::FireAndPurge)
    }
}

/// What a trigger sees of one window: the times, and timers of its own.
#[derive(Debug)]
pub struct TriggerCx<'a> {
    pub(super) watermark: Timestamp,
    pub(super) processing_time: Timestamp,
    pub(super) timers: &'a mut Vec<Timestamp>,
    pub(super) processing_timers: &'a mut Vec<Timestamp>,
    /// Whether the window is one of processing time.
    pub(super) in_processing: bool,
}

impl TriggerCx<'_> {
    /// The operator's watermark.
    pub fn watermark(&self) -> Timestamp {
        self.watermark
    }
    /// Asks for a call of `on_event_time` when the watermark reaches a time; twice is once. One at or below the watermark
    /// comes with the next watermark.
    pub fn register_event_time(&mut self, time: Timestamp) {
        register(self.timers, time);
    }
    /// Takes that back.
    pub fn delete_event_time(&mut self, time: Timestamp) {
        self.timers.retain(|other| *other != time);
    }
    /// The processing time, as [`Out::processing_time`](crate::operators::Out::processing_time) tells it.
    pub fn processing_time(&self) -> Timestamp {
        self.processing_time
    }
    /// Asks for a call of `on_processing_time` when the machine's clock reaches a time; twice is once.
    pub fn register_processing_time(&mut self, time: Timestamp) {
        register(self.processing_timers, time);
    }
    /// Takes that back.
    pub fn delete_processing_time(&mut self, time: Timestamp) {
        self.processing_timers.retain(|other| *other != time);
    }
    /// Asks for the call at which a window is over: [`Window::last`] in event time, the window's end in processing time. False
    /// if that is past.
    pub(super) fn register_end(&mut self, window: Window) -> bool {
        match self.in_processing {
            true => self.register_processing_time(window.end),
            false if window.last() <= self.watermark => return false,
            false => self.register_event_time(window.last()),
        }
        true
    }
    /// Whether this is the end of a window of processing time.
    pub(super) fn ends_at(&self, window: Window, time: Timestamp) -> bool {
        self.in_processing && time == window.end
    }
}

fn register(timers: &mut Vec<Timestamp>, time: Timestamp) {
    if !timers.contains(&time) {
        timers.push(time);
    }
}

/// Decides when a window fires. State is kept for each key and window, and goes with it, as its timers do: there is
/// nothing to clear up.
///
/// ```
/// use rivermark_runtime::operators::window::{Trigger, TriggerCx, TriggerResult, Window};
/// use rivermark_types::Timestamp;
///
/// /// Fires at a row that is marked as the last one.
/// #[derive(Clone)]
/// struct AtLast;
/// impl Trigger<(u64, bool)> for AtLast {
///     type State = ();
///     fn on_row(&self, row: &(u64, bool), _: Option<Timestamp>, _: Window, _: &mut Option<()>, _: &mut TriggerCx<'_>) -> TriggerResult {
///         match row.1 {
///             true => TriggerResult::FireAndPurge,
///             false => TriggerResult::Continue,
///         }
///     }
///     fn on_merge(&self, _: Window, _: Vec<()>, _: &mut TriggerCx<'_>) -> Option<()> {
///         None
///     }
/// }
/// ```
pub trait Trigger<T>: Clone + Send + Sync + 'static {
    /// What is kept for a window; `None` before it is set, and to be set back to it when it means nothing any more.
    type State: Data;

    /// A row has come into the window.
    fn on_row(
        &self,
        row: &T,
        time: Option<Timestamp>,
        window: Window,
        state: &mut Option<Self::State>,
        cx: &mut TriggerCx<'_>,
    ) -> TriggerResult;

    /// The watermark has reached a time that this window asked for.
    fn on_event_time(
        &self,
        _time: Timestamp,
        _window: Window,
        _state: &mut Option<Self::State>,
        _cx: &mut TriggerCx<'_>,
    ) -> TriggerResult {
        TriggerResult::Continue
    }

    /// The machine's clock has reached a time that this window asked for.
    fn on_processing_time(
        &self,
        _time: Timestamp,
        _window: Window,
        _state: &mut Option<Self::State>,
        _cx: &mut TriggerCx<'_>,
    ) -> TriggerResult {
        TriggerResult::Continue
    }

    /// A session has grown, or several have become one, before `on_row` sees the row that did it. Gets the states that there
    /// were and returns the new one. The timers are gone: what is still wanted is to be asked for again.
    fn on_merge(
        &self,
        window: Window,
        states: Vec<Self::State>,
        cx: &mut TriggerCx<'_>,
    ) -> Option<Self::State>;
}

/// Fires when the watermark reaches the window's last millisecond, and again for each late row that is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventTime;

impl<T> Trigger<T> for EventTime {
    type State = ();
    fn on_row(
        &self,
        _: &T,
        _: Option<Timestamp>,
        window: Window,
        _: &mut Option<()>,
        cx: &mut TriggerCx<'_>,
    ) -> TriggerResult {
        if window.last() <= cx.watermark() {
            return TriggerResult::Fire;
        }
        cx.register_event_time(window.last());
        TriggerResult::Continue
    }
    fn on_event_time(
        &self,
        time: Timestamp,
        window: Window,
        _: &mut Option<()>,
        _: &mut TriggerCx<'_>,
    ) -> TriggerResult {
        match time == window.last() {
            true => TriggerResult::Fire,
            false => TriggerResult::Continue,
        }
    }
    fn on_merge(&self, window: Window, _: Vec<()>, cx: &mut TriggerCx<'_>) -> Option<()> {
        if window.last() > cx.watermark() {
            cx.register_event_time(window.last());
        }
        None
    }
}

/// As [`EventTime`] or [`ProcessingTime`](super::ProcessingTime), whichever the windows are of.
impl<T> Trigger<T> for AtEnd {
    type State = ();
    fn on_row(
        &self,
        _: &T,
        _: Option<Timestamp>,
        window: Window,
        _: &mut Option<()>,
        cx: &mut TriggerCx<'_>,
    ) -> TriggerResult {
        match cx.register_end(window) {
            true => TriggerResult::Continue,
            false => TriggerResult::Fire,
        }
    }
    fn on_event_time(
        &self,
        _: Timestamp,
        _: Window,
        _: &mut Option<()>,
        _: &mut TriggerCx<'_>,
    ) -> TriggerResult {
        TriggerResult::Fire
    }
    fn on_processing_time(
        &self,
        _: Timestamp,
        _: Window,
        _: &mut Option<()>,
        _: &mut TriggerCx<'_>,
    ) -> TriggerResult {
        TriggerResult::Fire
    }
    fn on_merge(&self, window: Window, _: Vec<()>, cx: &mut TriggerCx<'_>) -> Option<()> {
        cx.register_end(window);
        None
    }
}

/// Fires each time so many rows have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(u64);

impl Count {
    /// Fires at every `rows`th row of a window; at least 1.
    pub fn of(rows: u64) -> Count {
        Count(rows.max(1))
    }
}

impl<T> Trigger<T> for Count {
    type State = u64;
    fn on_row(
        &self,
        _: &T,
        _: Option<Timestamp>,
        _: Window,
        state: &mut Option<u64>,
        _: &mut TriggerCx<'_>,
    ) -> TriggerResult {
        let rows = state.unwrap_or(0) + 1;
        if rows >= self.0 {
            *state = None;
            return TriggerResult::Fire;
        }
        *state = Some(rows);
        TriggerResult::Continue
    }
    fn on_merge(&self, _: Window, states: Vec<u64>, _: &mut TriggerCx<'_>) -> Option<u64> {
        (!states.is_empty()).then(|| states.iter().sum())
    }
}

/// Fires at multiples of an interval of event time that lie in the window behind a row, and at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContinuousEventTime {
    interval_ms: i64,
}

impl ContinuousEventTime {
    /// Fires every `interval`, in whole milliseconds and at least one.
    pub fn of(interval: Duration) -> ContinuousEventTime {
        ContinuousEventTime {
            interval_ms: super::assign::millis(interval).max(1),
        }
    }

    /// Asks for the firing behind a time, at the latest that of the window's end.
    fn next(&self, time: Timestamp, window: Window, cx: &mut TriggerCx<'_>) -> Timestamp {
        let begin = time.0.saturating_sub(time.0.rem_euclid(self.interval_ms));
        let next = Timestamp(begin.saturating_add(self.interval_ms)).min(window.last());
        cx.register_event_time(next);
        next
    }
}

impl<T> Trigger<T> for ContinuousEventTime {
    /// The next firing.
    type State = Timestamp;
    fn on_row(
        &self,
        _: &T,
        time: Option<Timestamp>,
        window: Window,
        state: &mut Option<Timestamp>,
        cx: &mut TriggerCx<'_>,
    ) -> TriggerResult {
        if window.last() <= cx.watermark() {
            return TriggerResult::Fire;
        }
        cx.register_event_time(window.last());
        if let (None, Some(time)) = (&state, time) {
            *state = Some(self.next(time, window, cx));
        }
        TriggerResult::Continue
    }
    fn on_event_time(
        &self,
        time: Timestamp,
        window: Window,
        state: &mut Option<Timestamp>,
        cx: &mut TriggerCx<'_>,
    ) -> TriggerResult {
        if time == window.last() {
            *state = None;
            return TriggerResult::Fire;
        }
        if *state == Some(time) {
            *state = Some(self.next(time, window, cx));
            return TriggerResult::Fire;
        }
        TriggerResult::Continue
    }
    fn on_merge(&self, window: Window, states: Vec<Timestamp>, cx: &mut TriggerCx<'_>) -> Option<Timestamp> {
        if window.last() > cx.watermark() {
            cx.register_event_time(window.last());
        }
        let next = states.into_iter().min()?;
        cx.register_event_time(next);
        Some(next)
    }
}

/// Lets another trigger's windows forget their rows whenever they fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purging<Tr>(Tr);

impl<Tr> Purging<Tr> {
    /// `trigger`, purging.
    pub fn of(trigger: Tr) -> Purging<Tr> {
        Purging(trigger)
    }

    fn purge(result: TriggerResult) -> TriggerResult {
        match result {
            TriggerResult::Fire => TriggerResult::FireAndPurge,
            other => other,
        }
    }
}

impl<T, Tr: Trigger<T>> Trigger<T> for Purging<Tr> {
    type State = Tr::State;
    fn on_row(
        &self,
        row: &T,
        time: Option<Timestamp>,
        window: Window,
        state: &mut Option<Tr::State>,
        cx: &mut TriggerCx<'_>,
    ) -> TriggerResult {
        Self::purge(self.0.on_row(row, time, window, state, cx))
    }
    fn on_event_time(
        &self,
        time: Timestamp,
        window: Window,
        state: &mut Option<Tr::State>,
        cx: &mut TriggerCx<'_>,
    ) -> TriggerResult {
        Self::purge(self.0.on_event_time(time, window, state, cx))
    }
    fn on_processing_time(
        &self,
        time: Timestamp,
        window: Window,
        state: &mut Option<Tr::State>,
        cx: &mut TriggerCx<'_>,
    ) -> TriggerResult {
        Self::purge(self.0.on_processing_time(time, window, state, cx))
    }
    fn on_merge(&self, window: Window, states: Vec<Tr::State>, cx: &mut TriggerCx<'_>) -> Option<Tr::State> {
        self.0.on_merge(window, states, cx)
    }
}

/// Fires when a row differs from the one at the last firing (at first: from the window's first row) by more than a threshold.
#[derive(Clone, Copy, Debug)]
pub struct Delta<D> {
    threshold: f64,
    distance: D,
}

impl<D> Delta<D> {
    /// Fires when `distance(last, row) > threshold`.
    pub fn of<T>(threshold: f64, distance: D) -> Delta<D>
    where
        D: Fn(&T, &T) -> f64,
    {
        Delta { threshold, distance }
    }
}

impl<T: Data, D: Fn(&T, &T) -> f64 + Clone + Send + Sync + 'static> Trigger<T> for Delta<D> {
    /// The row at the last firing.
    type State = T;
    fn on_row(
        &self,
        row: &T,
        _: Option<Timestamp>,
        _: Window,
        state: &mut Option<T>,
        _: &mut TriggerCx<'_>,
    ) -> TriggerResult {
        let is_far = match state {
            Some(last) => (self.distance)(last, row) > self.threshold,
            None => {
                *state = Some(row.clone());
                false
            }
        };
        if !is_far {
            return TriggerResult::Continue;
        }
        *state = Some(row.clone());
        TriggerResult::Fire
    }
    /// Of several last rows, that of the latest window stays.
    fn on_merge(&self, _: Window, states: Vec<T>, _: &mut TriggerCx<'_>) -> Option<T> {
        states.into_iter().next_back()
    }
}
