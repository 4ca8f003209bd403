//! Triggers that go by the machine's clock, for windows of either time.

use super::{Trigger, TriggerCx, TriggerResult, Window};
use rivermark_types::Timestamp;
use std::time::Duration;

/// Fires when the machine's clock reaches the window's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessingTime;

impl<T> Trigger<T> for ProcessingTime {
    type State = ();
    fn on_row(
        &self,
        _: &T,
        _: Option<Timestamp>,
        window: Window,
        _: &mut Option<()>,
        cx: &mut TriggerCx<'_>,
    ) -> TriggerResult {
        cx.register_processing_time(window.end);
        TriggerResult::Continue
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
        cx.register_processing_time(window.end);
        None
    }
}

/// Fires at multiples of an interval of processing time, from a window's first row on, and at the window's end, in whichever
/// time that is; then again for each late row that is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContinuousProcessingTime {
    interval_ms: i64,
}

impl ContinuousProcessingTime {
    /// Fires every `interval`, in whole milliseconds and at least one.
    pub fn of(interval: Duration) -> ContinuousProcessingTime {
        ContinuousProcessingTime {
            interval_ms: super::assign::millis(interval).max(1),
        }
    }

    /// Asks for the next firing. Those that were missed, while the job was down, are one.
    fn next(&self, cx: &mut TriggerCx<'_>) -> Timestamp {
        let now = cx.processing_time().0;
        let next = now.saturating_sub(now.rem_euclid(self.interval_ms));
        let next = Timestamp(next.saturating_add(self.interval_ms));
        cx.register_processing_time(next);
        next
    }
}

impl<T> Trigger<T> for ContinuousProcessingTime {
    /// The next firing.
    type State = Timestamp;
    fn on_row(
        &self,
        _: &T,
        _: Option<Timestamp>,
        window: Window,
        state: &mut Option<Timestamp>,
        cx: &mut TriggerCx<'_>,
    ) -> TriggerResult {
        if !cx.register_end(window) {
            return TriggerResult::Fire;
        }
        if state.is_none() {
            *state = Some(self.next(cx));
        }
        TriggerResult::Continue
    }
    /// The end of a window of event time.
    fn on_event_time(
        &self,
        _: Timestamp,
        _: Window,
        state: &mut Option<Timestamp>,
        cx: &mut TriggerCx<'_>,
    ) -> TriggerResult {
        if let Some(next) = state.take() {
            cx.delete_processing_time(next);
        }
        TriggerResult::Fire
    }
    fn on_processing_time(
        &self,
        time: Timestamp,
        window: Window,
        state: &mut Option<Timestamp>,
        cx: &mut TriggerCx<'_>,
    ) -> TriggerResult {
        if cx.ends_at(window, time) {
            if let Some(next) = state.take() {
                cx.delete_processing_time(next);
            }
            return TriggerResult::Fire;
        }
        *state = Some(self.next(cx));
        TriggerResult::Fire
    }
    fn on_merge(&self, window: Window, states: Vec<Timestamp>, cx: &mut TriggerCx<'_>) -> Option<Timestamp> {
        cx.register_end(window);
        let next = states.into_iter().min()?;
        cx.register_processing_time(next);
        Some(next)
    }
}
