//! All numbers of a job at one moment, and the rates between two moments.

use super::{JobCounters, MetricValue, OperatorCounters, SubtaskCounters};
use crate::metrics::time::Spent;
use rivermark_protocol::graph::NodeRole;
use rivermark_types::{Millis, NodeId, SubtaskId, Timestamp, Uid, VertexId};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

/// A job at one moment.
#[derive(Clone, Debug, Default)]
pub struct JobSnapshot {
    /// When.
    pub at: Millis,
    /// The names of the vertices.
    pub vertices: BTreeMap<VertexId, String>,
    /// Its subtasks.
    pub subtasks: BTreeMap<SubtaskId, SubtaskSnapshot>,
}

/// A subtask at one moment.
#[derive(Clone, Debug, Default)]
pub struct SubtaskSnapshot {
    /// Whether its root is a source.
    pub is_source: bool,
    /// The attempt that runs.
    pub attempt: u32,
    /// Records taken from channels or read.
    pub records_in: u64,
    /// Batches taken from channels.
    pub batches_in: u64,
    /// Records sent to channels.
    pub records_out: u64,
    /// Bytes taken from channels.
    pub bytes_in: u64,
    /// Bytes sent to channels.
    pub bytes_out: u64,
    /// Records of a source that could not be decoded.
    pub undecodable: u64,
    /// Records that went to the dead letters.
    pub dead_letters: u64,
    /// The watermark over all inputs, in milliseconds.
    pub watermark: i64,
    /// What its time went into.
    pub time: Spent,
    /// The last alignment of barriers.
    pub alignment_ns: u64,
    /// From the last trigger to the first barrier.
    pub start_delay_ns: u64,
    /// How long its start took.
    pub initialization_ms: u64,
    /// Its operators.
    pub operators: Vec<OperatorSnapshot>,
}

/// An operator of a subtask at one moment.
#[derive(Clone, Debug)]
pub struct OperatorSnapshot {
    /// The operator in the graph.
    pub node: NodeId,
    /// Its uid.
    pub uid: Option<Uid>,
    /// Its name.
    pub name: String,
    /// Source, operator or sink.
    pub role: NodeRole,
    /// Records handed to it.
    pub records_in: u64,
    /// Records it emitted.
    pub records_out: u64,
    /// The highest watermark it has seen.
    pub watermark_in: Timestamp,
    /// The highest watermark it has passed on.
    pub watermark_out: Timestamp,
    /// Records that it dropped as late.
    pub late: u64,
    /// The user's own.
    pub user: BTreeMap<String, MetricValue>,
}

impl JobCounters {
    /// Everything at this moment.
    pub fn snapshot(&self, now: Millis) -> JobSnapshot {
        let subtasks = self.subtasks.iter().map(|(id, counters)| {
            let is_source = self.sources.contains(id);
            (*id, subtask(counters, is_source, now))
        });
        JobSnapshot {
            at: now,
            vertices: self.vertices.clone(),
            subtasks: subtasks.collect(),
        }
    }
}

fn subtask(counters: &SubtaskCounters, is_source: bool, now: Millis) -> SubtaskSnapshot {
    SubtaskSnapshot {
        is_source,
        attempt: counters.attempt.load(Relaxed),
        records_in: counters.records_in.load(Relaxed),
        batches_in: counters.batches_in.load(Relaxed),
        records_out: counters.records_out.load(Relaxed),
        bytes_in: counters.bytes_in.load(Relaxed),
        bytes_out: counters.bytes_out.load(Relaxed),
        undecodable: counters.undecodable.load(Relaxed),
        dead_letters: counters.dead_letters.load(Relaxed),
        watermark: counters.watermark.load(Relaxed),
        time: counters.time.until(now),
        alignment_ns: counters.alignment_ns.load(Relaxed),
        start_delay_ns: counters.start_delay_ns.load(Relaxed),
        initialization_ms: counters.initialization_ms.load(Relaxed),
        operators: counters
            .operators
            .iter()
            .map(|counters| operator(counters))
            .collect(),
    }
}

fn operator(counters: &OperatorCounters) -> OperatorSnapshot {
    OperatorSnapshot {
        node: counters.node,
        uid: counters.uid.clone(),
        name: counters.name.clone(),
        role: counters.role,
        records_in: counters.records_in.load(Relaxed),
        records_out: counters.records_out.load(Relaxed),
        watermark_in: Timestamp(counters.watermark_in.load(Relaxed)),
        watermark_out: Timestamp(counters.watermark_out.load(Relaxed)),
        late: counters.late.load(Relaxed),
        user: counters.user.values(),
    }
}

/// How fast the numbers of a job rise, from one moment to a later one.
#[derive(Clone, Debug)]
pub struct Rates<'a> {
    earlier: &'a JobSnapshot,
    later: &'a JobSnapshot,
}

/// Shares of a second, in milliseconds; they add up to 1000.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MsPerSecond {
    /// At work.
    pub busy: f64,
    /// Without room downstream.
    pub backpressured: f64,
    /// The rest.
    pub idle: f64,
}

impl<'a> Rates<'a> {
    /// The rates between two moments.
    pub fn between(earlier: &'a JobSnapshot, later: &'a JobSnapshot) -> Rates<'a> {
        Rates { earlier, later }
    }

    fn millis(&self) -> f64 {
        (self.later.at.0.saturating_sub(self.earlier.at.0)) as f64
    }

    fn rise(&self, earlier: u64, later: u64) -> f64 {
        match self.millis() {
            0.0 => 0.0,
            millis => later.saturating_sub(earlier) as f64 * 1000.0 / millis,
        }
    }

    fn ends(&self, subtask: SubtaskId) -> Option<(&SubtaskSnapshot, &SubtaskSnapshot)> {
        Some((
            self.earlier.subtasks.get(&subtask)?,
            self.later.subtasks.get(&subtask)?,
        ))
    }

    /// The rise a second of one of a subtask's numbers.
    pub fn subtask(&self, id: SubtaskId, number: impl Fn(&SubtaskSnapshot) -> u64) -> f64 {
        self.ends(id)
            .map_or(0.0, |(earlier, later)| self.rise(number(earlier), number(later)))
    }

    /// The rise a second of one of an operator's numbers.
    pub fn operator(&self, id: SubtaskId, at: usize, number: impl Fn(&OperatorSnapshot) -> u64) -> f64 {
        self.subtask(id, |subtask| subtask.operators.get(at).map_or(0, &number))
    }

    /// What a subtask's time goes into.
    pub fn time(&self, id: SubtaskId) -> MsPerSecond {
        let busy = self.subtask(id, |subtask| subtask.time.busy_ms).min(1000.0);
        let backpressured = self.subtask(id, |subtask| subtask.time.backpressured_ms);
        let backpressured = backpressured.min(1000.0 - busy);
        MsPerSecond {
            busy,
            backpressured,
            idle: 1000.0 - busy - backpressured,
        }
    }

    /// What the busiest subtask of a vertex spends its time on, and the one that waits most for room.
    pub fn vertex(&self, vertex: VertexId) -> (f64, f64) {
        let subtasks = self.later.subtasks.keys().filter(|id| id.vertex == vertex);
        subtasks
            .map(|id| self.time(*id))
            .fold((0.0, 0.0), |(busy, backpressured), time| {
                (time.busy.max(busy), time.backpressured.max(backpressured))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_rises_a_second_and_time_adds_up() {
        let id = SubtaskId {
            vertex: VertexId(0),
            index: 1,
        };
        let snapshot = |at, records_in, busy_ms, backpressured_ms| {
            let subtask = SubtaskSnapshot {
                records_in,
                time: Spent {
                    busy_ms,
                    backpressured_ms,
                    is_backpressured: false,
                },
                ..SubtaskSnapshot::default()
            };
            JobSnapshot {
                at: Millis(at),
                subtasks: BTreeMap::from([(id, subtask)]),
                ..JobSnapshot::default()
            }
        };
        let (earlier, later) = (snapshot(1000, 10, 0, 100), snapshot(3000, 510, 1800, 400));
        let rates = Rates::between(&earlier, &later);
        assert_eq!(rates.subtask(id, |subtask| subtask.records_in), 250.0);
        let expected = MsPerSecond {
            busy: 900.0,
            backpressured: 100.0,
            idle: 0.0,
        };
        assert_eq!(rates.time(id), expected, "what is measured twice is told once");
        assert_eq!(rates.vertex(VertexId(0)), (900.0, 100.0));
        let none = Rates::between(&later, &later);
        assert_eq!(none.subtask(id, |subtask| subtask.records_in), 0.0);
    }
}
