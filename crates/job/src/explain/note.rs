//! Makes the record of a checkpoint from what tasks, the writer and the master have noted of it.

use super::record::{CallRecord, CheckpointRecord, RECORD_FORMAT, StoreRecord, SubtaskRecord, TimeUse};
use crate::checkpoints::PendingCheckpoint;
use crate::master::Master;
use rivermark_protocol::aligner::AlignMode;
use rivermark_runtime::metrics::SubtaskCounters;
use rivermark_runtime::metrics::trace::{self, Left};
use rivermark_state::PartTrace;
use rivermark_types::{CheckpointId, Millis, SubtaskId, subtask_name};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

impl Master {
    /// Keeps the record of a checkpoint that is given up, once.
    pub(crate) fn keep_record_of_abort(&mut self, checkpoint: CheckpointId, why: &str) {
        let Some(mut pending) = self.pending.remove(&checkpoint) else {
            return;
        };
        if !std::mem::replace(&mut pending.is_kept, true) {
            self.keep_record(checkpoint, &pending, Some(why.to_owned()));
        }
        self.pending.insert(checkpoint, pending);
    }

    /// Keeps the record of a checkpoint that was decided, or was given up for this reason.
    pub(crate) fn keep_record(
        &self,
        checkpoint: CheckpointId,
        pending: &PendingCheckpoint,
        given_up: Option<String>,
    ) {
        let now = self.env.now();
        let Some(began) = pending.barriers_sent else {
            return;
        };
        let names = Names::new(self);
        let written = self.snapshots.trace(checkpoint).unwrap_or_default();
        let since = Since(pending.triggered);
        let subtasks = names.order.iter().map(|id| {
            let counters = self.counters.subtasks.get(id);
            let mut record = counters.map_or_else(SubtaskRecord::default, |counters| {
                let mut record = names.traced(counters, checkpoint, began, since);
                names.unfinished(counters, since.ms(now), &mut record);
                record
            });
            record.is_source = self.counters.sources.contains(id);
            names.named(*id, &mut record);
            stored(&written, *id, since, &mut record);
            record.acked = pending.acked.get(id).map(|at| since.ms(*at));
            record
        });
        let took = now.since(pending.triggered).as_millis() as i64;
        let sum = pending.written();
        self.history.checkpoint(&CheckpointRecord {
            format: RECORD_FORMAT,
            job: self.spec.name.to_string(),
            checkpoint,
            kind: pending.kind,
            generation: self.generation(),
            attempt: pending.attempt,
            alignment: alignment(self.program.graph.align_mode()),
            triggered_at: self.env.wall_clock().plus_ms(-took),
            given_up,
            barriers_sent: Some(since.ms(began)),
            deciding: pending.deciding.map(|at| since.ms(at)),
            ended: since.ms(now),
            bytes: sum.bytes,
            rows: sum.rows,
            store: StoreRecord {
                objects: written.objects,
                retries: written.retries,
                last_error: written.last_error.clone(),
            },
            subtasks: subtasks.collect(),
        });
    }
}

fn alignment(mode: AlignMode) -> String {
    match mode {
        AlignMode::ExactlyOnce => "aligned".to_owned(),
        AlignMode::AtLeastOnce => "at least once".to_owned(),
        AlignMode::Unaligned { after } if after.is_zero() => "unaligned".to_owned(),
        AlignMode::Unaligned { after } => format!("unaligned after {} ms", after.as_millis()),
    }
}

fn stored(written: &PartTrace, id: SubtaskId, since: Since, record: &mut SubtaskRecord) {
    if let Some(rows) = written.subtasks.get(&id) {
        record.encoded = Some(since.ms(rows.encoded));
        record.stored = rows.stored.map(|at| since.ms(at));
    }
}

/// Moments as milliseconds after the trigger.
#[derive(Clone, Copy)]
struct Since(Millis);

impl Since {
    fn ms(self, at: Millis) -> u64 {
        at.since(self.0).as_millis() as u64
    }
}

/// What subtasks are called.
pub(super) struct Names {
    of: BTreeMap<SubtaskId, (String, String)>,
    slots: BTreeMap<SubtaskId, u32>,
    pub(super) order: Vec<SubtaskId>,
}

impl Names {
    pub(super) fn new(master: &Master) -> Names {
        let plan = &master.plan;
        let mut of = BTreeMap::new();
        let mut order = vec![];
        for vertex in &plan.vertices {
            let twins = plan.vertices.iter().filter(|other| other.name == vertex.name);
            let name = match twins.count() {
                1 => vertex.name.clone(),
                _ => format!("{} ({})", vertex.name, vertex.id),
            };
            for id in vertex.subtasks() {
                of.insert(id, (name.clone(), subtask_name(&name, id.index)));
                order.push(id);
            }
        }
        let slots = plan.slots.iter();
        let slots = slots.flat_map(|slot| slot.subtasks.iter().map(|id| (*id, slot.id.0)));
        let slots = slots.collect();
        Names { of, slots, order }
    }

    pub(super) fn subtask(&self, id: SubtaskId) -> String {
        self.of
            .get(&id)
            .map_or_else(|| id.to_string(), |(_, name)| name.clone())
    }

    pub(super) fn slot(&self, id: SubtaskId) -> u32 {
        self.slots.get(&id).copied().unwrap_or_default()
    }

    fn named(&self, id: SubtaskId, record: &mut SubtaskRecord) {
        if let Some((vertex, name)) = self.of.get(&id) {
            (record.vertex, record.name) = (vertex.clone(), name.clone());
        }
        record.slot = self.slot(id);
    }

    fn traced(
        &self,
        counters: &SubtaskCounters,
        checkpoint: CheckpointId,
        began: Millis,
        since: Since,
    ) -> SubtaskRecord {
        let trace = counters.traces.of(checkpoint).unwrap_or_default();
        let at = |moment: Option<Millis>| moment.map(|at| since.ms(at));
        let operator = |place: usize| {
            let operator = counters.operators.get(place);
            operator.map_or_else(|| place.to_string(), |operator| operator.name.clone())
        };
        let phase = |phase: trace::Phase| self.time_use(&trace.phases[phase as usize], &operator);
        SubtaskRecord {
            first_barrier: at(trace.first_barrier),
            last_barrier: at(trace.last_barrier),
            last_from: trace.last_from.map(|id| self.subtask(id)),
            overtook: trace.overtook,
            in_order: trace.in_order.map(|(id, at)| (self.subtask(id), since.ms(at))),
            missing: trace.missing.iter().map(|id| self.subtask(*id)).collect(),
            cut: at(trace.cut),
            captured: at(trace.captured),
            rows: trace.rows,
            bytes: trace.bytes,
            in_flight_bytes: trace.in_flight_bytes,
            records_in: counters.records_in.load(Relaxed),
            before: phase(trace::Phase::Before),
            freeze: phase(trace::Phase::Freeze),
            capture: phase(trace::Phase::Capture),
            after: phase(trace::Phase::After),
            known_until: since.ms(trace.until.max(began)),
            at_work: counters.traces.at_work().map(operator),
            ..SubtaskRecord::default()
        }
    }

    /// What a subtask has been left with since its last step, if it is not done: no step may have come to tell.
    fn unfinished(&self, counters: &SubtaskCounters, now: u64, record: &mut SubtaskRecord) {
        if record.captured.is_some() || record.at_work.is_some() {
            return;
        }
        let ms = now.saturating_sub(record.known_until);
        record.known_until = now;
        let phase = match (record.last_barrier, record.cut) {
            (None, _) => &mut record.before,
            (Some(_), None) => &mut record.freeze,
            (Some(_), Some(_)) => &mut record.capture,
        };
        match counters.traces.left() {
            Left::NoRoom(Some(to)) => *phase.no_room.entry(self.subtask(to)).or_default() += ms,
            Left::Waiting(at) => {
                let operator = counters.operators.get(at);
                let name = operator.map_or_else(|| at.to_string(), |operator| operator.name.clone());
                *phase.waits.entry(name).or_default() += ms;
            }
            Left::Ready => phase.others += ms,
            Left::Idle | Left::NoRoom(None) => phase.idle += ms,
        }
    }

    fn time_use(&self, time: &trace::TimeUse, operator: &impl Fn(usize) -> String) -> TimeUse {
        let busy = (0..)
            .zip(&time.busy)
            .map(|(at, ns)| (operator(at), ns / 1_000_000));
        let no_room = time.no_room_ms.iter().map(|(id, ms)| (self.subtask(*id), *ms));
        let waits = time.waits_ms.iter().map(|(at, ms)| (operator(*at), *ms));
        let longest = time.longest.map(|call| CallRecord {
            operator: operator(call.operator),
            ms: call.ns / 1_000_000,
            rows: call.rows as u64,
        });
        TimeUse {
            busy: busy.filter(|(_, ms)| *ms > 0).collect(),
            longest: longest.filter(|call| call.ms > 0),
            no_room: no_room.collect(),
            waits: waits.collect(),
            others: time.others_ms,
            idle: time.idle_ms,
            writer: time.writer_ms,
        }
    }
}
