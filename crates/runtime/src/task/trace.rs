//! What a task notes of itself for the checkpoints under way, where it happens.

use super::{Task, Walking};
use crate::gate::Gate;
use crate::metrics::trace::Phase;
use rivermark_types::{Barrier, CheckpointId, Millis};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

impl Task {
    pub(super) fn trace_step(&mut self) {
        let env = &self.env;
        let (calls, traces) = self.chain.calls();
        self.tracer
            .begin(|| env.now(), (calls, traces), &self.counters.trigger);
    }

    pub(super) fn trace_end_of_step(&mut self, now: Millis) {
        let writer_is_behind = self.walking.is_some() && !self.snapshots.has_room();
        let trigger = &self.counters.trigger;
        self.tracer
            .end(now, self.left, writer_is_behind, self.chain.calls(), trigger);
    }

    fn trace_phase(&mut self, checkpoint: CheckpointId, phase: Phase, now: Millis) {
        let trigger = &self.counters.trigger;
        self.tracer
            .enter(checkpoint, phase, now, self.chain.calls(), trigger);
    }

    /// How long the barriers were on their way, and how long the first waited for the last.
    pub(super) fn note_barriers(&mut self, barrier: Barrier) {
        let checkpoint = barrier.checkpoint;
        let now = self.env.now();
        self.trace_phase(checkpoint, Phase::Freeze, now);
        // No barrier passes before that: the first one is early enough to tell.
        if let Some(at) = self.gate.as_ref().and_then(Gate::worked_off) {
            self.counters
                .note_restored(|restored| restored.worked_off = Some(at));
        }
        let aligned = self.gate.as_ref().and_then(Gate::last_alignment);
        let aligned = aligned.filter(|stats| stats.checkpoint == checkpoint);
        self.counters.traces.note(checkpoint, |trace| {
            (trace.first_barrier, trace.last_barrier) = (Some(now), Some(now));
            if let (Some(gate), Some(stats)) = (&self.gate, aligned) {
                gate.note_cut(stats, trace);
            }
        });
        let (first, took) = aligned.map_or((now, Duration::ZERO), |stats| (stats.started, stats.duration));
        let store = |to: &AtomicU64, time: Duration| to.store(time.as_nanos() as u64, Ordering::Relaxed);
        store(&self.counters.alignment_ns, took);
        if let Some(triggered) = self.counters.trigger.of(checkpoint) {
            store(&self.counters.start_delay_ns, first.since(triggered));
        }
    }

    pub(super) fn trace_cut(&mut self, checkpoint: CheckpointId) {
        let now = self.env.now();
        self.trace_phase(checkpoint, Phase::Capture, now);
        self.counters
            .traces
            .note(checkpoint, |trace| trace.cut = Some(now));
    }

    pub(super) fn trace_captured(&mut self, walking: &Walking) {
        let now = self.env.now();
        self.trace_phase(walking.checkpoint, Phase::After, now);
        let in_flight_bytes = self.counters.in_flight_bytes.load(Ordering::Relaxed);
        self.counters.traces.note(walking.checkpoint, |trace| {
            trace.captured = Some(now);
            trace.missing.clear();
            if let Some(gate) = self.gate.as_ref().filter(|_| trace.overtook) {
                trace.last_from = gate.captured_from();
            }
            (trace.rows, trace.bytes) = (walking.rows, walking.bytes);
            trace.in_flight_bytes = in_flight_bytes;
        });
    }
}
