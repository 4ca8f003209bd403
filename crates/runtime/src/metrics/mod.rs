//! Numbers that slots raise a batch at a time and anybody may read: what the progress line and the metrics endpoint show.
//!
//! Nothing here costs a record anything: the engine counts batches, and a user's own metrics are plain cells of the slot's
//! thread that are brought over after every call of their operator. All counters go on over restarts.
//! Layout: this file holds the counters, [`time`] what a task spends its time on, [`trace`] what it did for a checkpoint,
//! [`restored`] what its start went into, [`user`] the users' own metrics, [`snapshot`] all of it at one moment, and rates
//! between two moments.
//! Non-goals: names for other systems, and who asks.

pub mod restored;
pub mod snapshot;
pub mod time;
pub mod trace;
pub mod user;

pub use restored::RestoredTrace;
pub use snapshot::{JobSnapshot, OperatorSnapshot, Rates, SubtaskSnapshot};
pub use time::TimeSpent;
pub use trace::{SubtaskTrace, Traces};
pub use user::{Counter, Gauge, Histogram, Meter, MetricGroup, MetricValue, UserMetrics};

use crate::channel::ChannelPeaks;
use crate::operator::SubtaskInfo;
use rivermark_protocol::graph::{Graph, NodeRole};
use rivermark_protocol::plan::Plan;
use rivermark_types::{CheckpointId, Millis, NodeId, SubtaskId, Uid, VertexId};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

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
    /// Batches in which records were taken from channels.
    pub batches_in: AtomicU64,
    /// Records sent to channels or written by a sink.
    pub records_out: AtomicU64,
    /// About the bytes of memory of the records taken from channels.
    pub bytes_in: AtomicU64,
    /// About the bytes of memory of the records sent to channels.
    pub bytes_out: AtomicU64,
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
    /// What its time goes into.
    pub time: TimeSpent,
    /// How long the last alignment of barriers took, in nanoseconds.
    pub alignment_ns: AtomicU64,
    /// From the trigger of the last checkpoint to its first barrier here, in nanoseconds.
    pub start_delay_ns: AtomicU64,
    /// About how many bytes were in flight to it at the last checkpoint.
    pub in_flight_bytes: AtomicU64,
    /// The attempt that runs.
    pub attempt: AtomicU32,
    /// From its deployment until it was open, in milliseconds.
    pub initialization_ms: AtomicU64,
    /// The last trigger of the job.
    pub trigger: Arc<LastTrigger>,
    /// What it did for the checkpoints under way.
    pub traces: Traces,
    restored: Mutex<RestoredTrace>,
    /// Its operators, in the order of the chain.
    pub operators: Vec<Arc<OperatorCounters>>,
}

impl Default for SubtaskCounters {
    fn default() -> Self {
        SubtaskCounters {
            records_in: AtomicU64::new(0),
            batches_in: AtomicU64::new(0),
            records_out: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            late: AtomicU64::new(0),
            undecodable: AtomicU64::new(0),
            dead_letters: AtomicU64::new(0),
            watermark: AtomicI64::new(i64::MIN),
            backpressured: AtomicU64::new(0),
            longest_freeze_ns: AtomicU64::new(0),
            time: TimeSpent::default(),
            alignment_ns: AtomicU64::new(0),
            start_delay_ns: AtomicU64::new(0),
            in_flight_bytes: AtomicU64::new(0),
            attempt: AtomicU32::new(0),
            initialization_ms: AtomicU64::new(0),
            trigger: Arc::default(),
            traces: Traces::default(),
            restored: Mutex::default(),
            operators: vec![],
        }
    }
}

impl SubtaskCounters {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, n: usize) {
        counter.fetch_add(n as u64, Ordering::Relaxed);
    }

    /// The counters of one of its operators.
    pub fn operator(&self, node: NodeId) -> Option<Arc<OperatorCounters>> {
        self.operators
            .iter()
            .find(|operator| operator.node == node)
            .cloned()
    }
}

/// The counters of one operator in one subtask. Only its slot's thread writes them.
#[derive(Debug)]
pub struct OperatorCounters {
    /// The operator in the graph.
    pub node: NodeId,
    /// Its uid, if it has one.
    pub uid: Option<Uid>,
    /// Its name.
    pub name: String,
    /// Source, operator or sink.
    pub role: NodeRole,
    /// Records handed to it, or read by it.
    pub records_in: AtomicU64,
    /// Records it emitted.
    pub records_out: AtomicU64,
    /// The highest watermark it has seen.
    pub watermark_in: AtomicI64,
    /// The highest watermark it has passed on.
    pub watermark_out: AtomicI64,
    /// Records that it dropped as late.
    pub late: AtomicU64,
    /// What the user counts in it.
    pub user: UserMetrics,
}

impl OperatorCounters {
    /// Counters at zero.
    pub fn new(node: NodeId, uid: Option<Uid>, name: &str, role: NodeRole) -> OperatorCounters {
        OperatorCounters {
            node,
            uid,
            name: name.to_owned(),
            role,
            records_in: AtomicU64::new(0),
            records_out: AtomicU64::new(0),
            watermark_in: AtomicI64::new(i64::MIN),
            watermark_out: AtomicI64::new(i64::MIN),
            late: AtomicU64::new(0),
            user: UserMetrics::default(),
        }
    }

    /// Counters that nobody reads, for an operator outside of a job.
    pub(crate) fn of(info: &SubtaskInfo) -> OperatorCounters {
        OperatorCounters::new(info.node, info.uid.clone(), &info.name, NodeRole::Operator)
    }

    /// Adds to one of its counters: no more than a load and a store, as there is one writer.
    pub(crate) fn bump(counter: &AtomicU64, n: usize) {
        let sum = counter.load(Ordering::Relaxed).wrapping_add(n as u64);
        counter.store(sum, Ordering::Relaxed);
    }
}

/// When the last checkpoint was triggered, for the delay of its barriers.
#[derive(Debug, Default)]
pub struct LastTrigger {
    checkpoint: AtomicU64,
    at: AtomicU64,
}

impl LastTrigger {
    /// A checkpoint is triggered.
    pub fn set(&self, checkpoint: CheckpointId, at: Millis) {
        self.at.store(at.0, Ordering::Relaxed);
        self.checkpoint.store(checkpoint.0, Ordering::Release);
    }

    /// The last one, and when it was triggered.
    pub fn newest(&self) -> (CheckpointId, Millis) {
        let checkpoint = CheckpointId(self.checkpoint.load(Ordering::Acquire));
        (checkpoint, Millis(self.at.load(Ordering::Relaxed)))
    }

    /// When this checkpoint was triggered, if it is the last one.
    pub fn of(&self, checkpoint: CheckpointId) -> Option<Millis> {
        (self.checkpoint.load(Ordering::Acquire) == checkpoint.0)
            .then(|| Millis(self.at.load(Ordering::Relaxed)))
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
    /// The names of the vertices.
    pub vertices: BTreeMap<VertexId, String>,
    /// The last trigger.
    pub trigger: Arc<LastTrigger>,
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
        let role = |id: &NodeId| graph.node(*id).map(|node| node.role);
        for vertex in &plan.vertices {
            counters.vertices.insert(vertex.id, vertex.name.clone());
            for subtask in vertex.subtasks() {
                let nodes = vertex.nodes.iter().filter_map(|id| graph.node(*id));
                let operators = nodes.map(|node| {
                    Arc::new(OperatorCounters::new(
                        node.id,
                        node.uid.clone(),
                        &node.name,
                        node.role,
                    ))
                });
                let of_subtask = SubtaskCounters {
                    operators: operators.collect(),
                    trigger: counters.trigger.clone(),
                    ..SubtaskCounters::default()
                };
                counters.subtasks.insert(subtask, Arc::new(of_subtask));
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
