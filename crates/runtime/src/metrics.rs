//! Counters that slots raise a batch at a time and anybody may read.

use crate::channel::ChannelPeaks;
use rivermark_protocol::graph::{Graph, NodeRole};
use rivermark_protocol::plan::Plan;
use rivermark_types::{NodeId, SubtaskId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// The highest level that something has reached.
#[derive(Debug, Default)]
pub struct HighWater(AtomicU64);

impl HighWater {
    /// Something is at this level now.
    pub fn reach(&self, level: usize) {
        // Nearly always it is no record, and then nothing is written.
        if level as u64 > self.0.load(Ordering::Relaxed) {
            self.0.fetch_max(level as u64, Ordering::Relaxed);
        }
    }
    /// The highest level so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one subtask.
#[derive(Debug)]
pub struct SubtaskCounters {
    /// Records taken from channels or read by a source.
    pub records_in: AtomicU64,
    /// Records sent to channels or written by a sink.
    pub records_out: AtomicU64,
    /// Records behind the watermark that an operator dropped.
    pub late: AtomicU64,
    /// Records of a source that could not be decoded and were passed over. Those read again after a restart count again.
    pub undecodable: AtomicU64,
    /// Records that went to the dead letters. Those given up again after a restart count again.
    pub dead_letters: AtomicU64,
    /// The watermark, in milliseconds.
    pub watermark: AtomicI64,
    /// Steps in which the task had work but no room downstream.
    pub backpressured: AtomicU64,
    /// The longest synchronous part of a snapshot so far, in nanoseconds: what the barrier itself took of the slot.
    pub longest_freeze_ns: AtomicU64,
}

impl Default for SubtaskCounters {
    fn default() -> Self {
        SubtaskCounters {
            records_in: AtomicU64::new(0),
            records_out: AtomicU64::new(0),
            late: AtomicU64::new(0),
            undecodable: AtomicU64::new(0),
            dead_letters: AtomicU64::new(0),
            watermark: AtomicI64::new(i64::MIN),
            backpressured: AtomicU64::new(0),
            longest_freeze_ns: AtomicU64::new(0),
        }
    }
}

impl SubtaskCounters {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, n: usize) {
        counter.fetch_add(n as u64, Ordering::Relaxed);
    }
}

/// The counters of all subtasks of a job; they go on counting over restarts.
#[derive(Debug, Default)]
pub struct JobCounters {
    /// By subtask.
    pub subtasks: BTreeMap<SubtaskId, Arc<SubtaskCounters>>,
    /// The subtasks whose root is a source.
    pub sources: Vec<SubtaskId>,
    /// The subtasks that hold a sink.
    pub sinks: Vec<SubtaskId>,
    /// How full channels have been.
    pub channels: Arc<ChannelPeaks>,
}

impl JobCounters {
    /// The longest synchronous part of a snapshot of any subtask, in nanoseconds.
    pub fn longest_freeze_ns(&self) -> u64 {
        let freezes = self
            .subtasks
            .values()
            .map(|subtask| subtask.longest_freeze_ns.load(Ordering::Relaxed));
        freezes.max().unwrap_or(0)
    }

    /// Counters at zero for every subtask of a plan.
    pub fn new(graph: &Graph, plan: &Plan) -> JobCounters {
        let mut counters = JobCounters::default();
        for vertex in &plan.vertices {
            let role = |id: &NodeId| graph.node(*id).map(|node| node.role);
            for subtask in vertex.subtasks() {
                counters.subtasks.insert(subtask, Arc::default());
                if role(&vertex.head) == Some(NodeRole::Source) {
                    counters.sources.push(subtask);
                }
                if vertex.nodes.iter().any(|id| role(id) == Some(NodeRole::Sink)) {
                    counters.sinks.push(subtask);
                }
            }
        }
        counters
    }
}
