//! One attempt of a program, started: channels between all subtasks, a thread for each slot.

use crate::build::{NodePlan, OutputPlan, TaskPlan};
use crate::careful::Care;
use crate::chain::{Slice, Target};
use crate::channel::{Announcements, Credit, Receiver, Sender, watched_channel};
use crate::gate::InputChannel;
use crate::in_flight::{ChannelOrigin, RestoredChannel};
use crate::messages::{TaskCommand, TaskEvent};
use crate::metrics::{JobCounters, SubtaskCounters};
use crate::operator::{Lists, SubtaskInfo};
use crate::program::Program;
use crate::seams::Seams;
use crate::side::{TakenOutput, TakenOutputs};
use crate::slot::{Slot, SlotCommand};
use crate::task::{Overtaking, Pace};
use crate::waker::SlotWaker;
use rivermark_data::{EdgeType, Route, Router};
use rivermark_env::{Env, TaskHandle};
use rivermark_protocol::graph::{Node, Partitioning};
use rivermark_protocol::plan::{Exchange, Plan, Vertex};
use rivermark_state::{InFlightChannel, SnapshotHandle, SnapshotReader};
use rivermark_types::{
    Attempt, EdgeId, Failure, Generation, JobName, NodeId, Result, SlotId, SubtaskId, Timestamp, VertexId,
    subtask_name,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Limits and pace of a running job.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// What may lie in one channel.
    pub credit: Credit,
    /// Rows after which a batch leaves.
    pub batch_rows: usize,
    /// Limits of one slice of work.
    pub slice: Slice,
    /// How tasks share a slot.
    pub pace: Pace,
    /// The most bytes that may be in flight to one subtask at a checkpoint.
    pub in_flight_bytes: u64,
}

impl Default for Limits {
    /// What suits a job on one machine: batches large enough to be cheap, slices short enough that barriers pass soon.
    fn default() -> Self {
        Limits {
            credit: Credit {
                rows: 4 * 4096,
                bytes: 4 << 20,
            },
            batch_rows: 4096,
            slice: Slice {
                budget_ns: 2_000_000,
                max_rows: 4096,
            },
            pace: Pace {
                step_ns: 2_000_000,
                walk_rows: 8192,
                linger: Duration::from_millis(100),
            },
            in_flight_bytes: 256 << 20,
        }
    }
}

/// What operators get back from a checkpoint: lists and watermarks here, keyed rows by the reader.
#[derive(Clone)]
pub struct Restore {
    /// By operator and subtask of the *new* parallelism.
    pub shares: BTreeMap<NodeId, Vec<Share>>,
    /// Where keyed rows are fetched from.
    pub reader: Arc<SnapshotReader>,
}

/// One subtask's share of an operator's restored state.
#[derive(Clone, Debug)]
pub struct Share {
    /// Its lists.
    pub lists: Lists,
    /// Its watermark.
    pub watermark: Timestamp,
    /// What it gets of what was in flight to the operator.
    pub in_flight: Vec<InFlightShare>,
}

/// A channel of the checkpoint whose records in flight a subtask gets, or some of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlightShare {
    /// The channel.
    pub channel: InFlightChannel,
    /// The subtask that it led to.
    pub to: u32,
    /// The edge of the graph that its records are of now.
    pub edge: usize,
    /// Only those records that the edge leads to this subtask.
    pub only_own: bool,
}

/// Everything an attempt needs.
pub struct Deployment {
    /// The world.
    pub env: Env,
    /// The job.
    pub job: JobName,
    /// This process's generation.
    pub generation: Generation,
    /// The attempt.
    pub attempt: Attempt,
    /// What runs.
    pub program: Arc<Program>,
    /// Where it runs.
    pub plan: Arc<Plan>,
    /// The seed of the key hash.
    pub seed: u64,
    /// Limits and pace.
    pub limits: Limits,
    /// The checkpoint it starts from, if any.
    pub restore: Option<Restore>,
    /// Where snapshots go.
    pub snapshots: SnapshotHandle,
    /// Where reports go.
    pub events: mpsc::UnboundedSender<TaskEvent>,
    /// The job's counters, which outlive the attempt.
    pub counters: Arc<JobCounters>,
    /// The operators that run carefully, each with the rows that it is to give up, by digest, and why.
    pub careful: BTreeMap<NodeId, BTreeMap<u64, String>>,
    /// Wrappers, in tests.
    pub seams: Arc<dyn Seams>,
}

/// An attempt at work.
pub struct Deployed {
    slots: Vec<RunningSlot>,
    slot_of: BTreeMap<SubtaskId, usize>,
}

struct RunningSlot {
    commands: mpsc::UnboundedSender<SlotCommand>,
    waker: SlotWaker,
    thread: TaskHandle,
}

impl Deployed {
    /// Sends a command to a subtask; after its slot has ended it goes nowhere.
    pub fn send(&self, subtask: SubtaskId, command: TaskCommand) {
        if let Some(slot) = self.slot_of.get(&subtask).map(|&at| &self.slots[at]) {
            let _ = slot.commands.send(SlotCommand::Task(subtask, command));
            slot.waker.wake();
        }
    }

    /// Sends a command to every subtask.
    pub fn send_all(&self, command: &TaskCommand) {
        self.slot_of
            .keys()
            .for_each(|subtask| self.send(*subtask, command.clone()));
    }

    /// Drops every task and waits until all slots have ended: nothing of the attempt runs in a slot after this.
    pub async fn cancel(self) {
        for slot in &self.slots {
            let _ = slot.commands.send(SlotCommand::Cancel);
            slot.waker.wake();
        }
        for slot in self.slots {
            slot.thread.join().await;
        }
    }
}

/// The two ends of every channel of the attempt, until their tasks take them.
#[derive(Default)]
struct Wiring {
    senders: BTreeMap<(EdgeId, u32), Vec<Sender>>,
    receivers: BTreeMap<(EdgeId, u32), Vec<(u32, Receiver)>>,
    announcements: BTreeMap<SubtaskId, Announcements>,
}

impl Deployment {
    /// Wires the channels and starts the slots.
    pub fn start(self) -> Result<Deployed> {
        let wakers: BTreeMap<SlotId, SlotWaker> = self
            .plan
            .slots
            .iter()
            .map(|slot| (slot.id, SlotWaker::default()))
            .collect();
        let waker_of: BTreeMap<SubtaskId, SlotWaker> = self
            .plan
            .slots
            .iter()
            .flat_map(|slot| {
                slot.subtasks
                    .iter()
                    .map(|subtask| (*subtask, wakers[&slot.id].clone()))
            })
            .collect();
        let mut wiring = self.wire(&waker_of);
        let mut deployed = Deployed {
            slots: vec![],
            slot_of: BTreeMap::new(),
        };
        for slot in &self.plan.slots {
            let tasks = slot
                .subtasks
                .iter()
                .map(|subtask| self.task(*subtask, &mut wiring));
            let tasks = tasks.collect::<Result<Vec<_>>>()?;
            deployed.slot_of.extend(
                slot.subtasks
                    .iter()
                    .map(|subtask| (*subtask, deployed.slots.len())),
            );
            let (commands, receiver) = mpsc::unbounded_channel();
            let waker = wakers[&slot.id].clone();
            let body = Slot {
                env: self.env.clone(),
                tasks,
                commands: receiver,
                events: self.events.clone(),
                waker: waker.clone(),
            };
            let thread = self
                .env
                .spawn_slot(&format!("slot-{}", slot.id.0), move || Box::pin(body.run()));
            deployed.slots.push(RunningSlot {
                commands,
                waker,
                thread,
            });
        }
        Ok(deployed)
    }

    fn vertex(&self, id: VertexId) -> Result<&Vertex> {
        self.plan
            .vertex(id)
            .ok_or_else(|| Failure::bug(format!("the plan has no vertex {id}")))
    }

    fn wire(&self, waker_of: &BTreeMap<SubtaskId, SlotWaker>) -> Wiring {
        let mut wiring = Wiring::default();
        let waker = |subtask: SubtaskId| waker_of.get(&subtask).cloned().unwrap_or_default();
        for exchange in &self.plan.exchanges {
            let subtasks = |vertex| {
                self.plan
                    .vertex(vertex)
                    .into_iter()
                    .flat_map(|vertex| vertex.subtasks())
            };
            for from in subtasks(exchange.from) {
                for to in
                    subtasks(exchange.to).filter(|to| self.plan.has_channel(exchange, from.index, to.index))
                {
                    let (sender, receiver) = watched_channel(
                        self.limits.credit,
                        waker(from),
                        waker(to),
                        self.counters.channels.clone(),
                        wiring.announcements.entry(to).or_default().clone(),
                    );
                    wiring
                        .senders
                        .entry((exchange.id, from.index))
                        .or_default()
                        .push(sender);
                    wiring
                        .receivers
                        .entry((exchange.id, to.index))
                        .or_default()
                        .push((from.index, receiver));
                }
            }
        }
        wiring
    }

    fn task(&self, subtask: SubtaskId, wiring: &mut Wiring) -> Result<TaskPlan> {
        let vertex = self.vertex(subtask.vertex)?;
        let outgoing: Vec<&Exchange> = self
            .plan
            .exchanges
            .iter()
            .filter(|e| e.from == subtask.vertex)
            .collect();
        let nodes = vertex
            .nodes
            .iter()
            .map(|node| self.node(vertex, *node, subtask, &outgoing));
        let outputs = outgoing
            .iter()
            .map(|exchange| self.output(exchange, subtask.index, wiring));
        let outputs = outputs.collect::<Result<_>>()?;
        let counters = self.counters.subtasks.get(&subtask).cloned();
        Ok(TaskPlan {
            info: self.info(vertex, vertex.head, subtask, vertex.name.clone()),
            nodes: nodes.collect::<Result<_>>()?,
            inputs: self.inputs(subtask, wiring)?,
            announcements: wiring.announcements.remove(&subtask).unwrap_or_default(),
            in_flight: self.in_flight(vertex, subtask)?,
            outputs,
            seed: self.seed,
            overtaking: Overtaking {
                name: self.program.graph.stable_name(vertex.head),
                mode: self.program.graph.align_mode(),
                max_bytes: self.limits.in_flight_bytes,
            },
            restore: self.restore.as_ref().map(|restore| restore.reader.clone()),
            snapshots: self.snapshots.clone(),
            events: self.events.clone(),
            counters: counters.unwrap_or_else(|| Arc::new(SubtaskCounters::default())),
            pace: self.limits.pace,
            slice: self.limits.slice,
            seams: self.seams.clone(),
        })
    }

    fn info(&self, vertex: &Vertex, node: NodeId, subtask: SubtaskId, name: String) -> SubtaskInfo {
        SubtaskInfo {
            job: self.job.clone(),
            generation: self.generation,
            attempt: self.attempt,
            subtask,
            parallelism: vertex.parallelism,
            max_parallelism: vertex.max_parallelism,
            node,
            uid: self
                .program
                .graph
                .nodes
                .get(node.0 as usize)
                .and_then(|node| node.uid.clone()),
            name,
        }
    }

    fn node(
        &self,
        vertex: &Vertex,
        id: NodeId,
        subtask: SubtaskId,
        outgoing: &[&Exchange],
    ) -> Result<NodePlan> {
        let missing = || Failure::bug(format!("the program has no node {id}"));
        let node = self.program.graph.nodes.get(id.0 as usize).ok_or_else(missing)?;
        let body = self.program.nodes.get(id.0 as usize).ok_or_else(missing)?;
        let shares = self.restore.as_ref().and_then(|restore| restore.shares.get(&id));
        let share = shares.and_then(|shares| shares.get(subtask.index as usize));
        Ok(NodePlan {
            info: self.info(vertex, id, subtask, node.name.clone()),
            body: body.clone(),
            keyed: node.keyed,
            targets: self.targets(vertex, id, outgoing),
            side_outputs: taken_outputs(node),
            care: Care {
                dead_letters: node.dead_letters,
                careful: self.careful.get(&id).cloned(),
            },
            lists: share.map(|share| share.lists.clone()).unwrap_or_default(),
            watermark: share.map_or(Timestamp::MIN, |share| share.watermark),
        })
    }

    /// Where each port of a node leads: to nodes of its own chain, or out.
    fn targets(&self, vertex: &Vertex, id: NodeId, outgoing: &[&Exchange]) -> Vec<Vec<Target>> {
        let mut targets: Vec<Vec<Target>> = vec![];
        let mut lead = |port: u8, target| {
            let port = usize::from(port);
            targets.resize_with(targets.len().max(port + 1), Vec::new);
            targets[port].push(target);
        };
        for link in vertex.links.iter().filter(|link| link.from == id) {
            if let Some(at) = vertex.nodes.iter().position(|node| *node == link.to) {
                lead(link.port, Target::Node(at, link.to_input));
            }
        }
        for (at, exchange) in outgoing
            .iter()
            .enumerate()
            .filter(|(_, exchange)| exchange.from_node == id)
        {
            lead(exchange.port, Target::Outbox(at));
        }
        targets
    }

    fn output(&self, exchange: &Exchange, from: u32, wiring: &mut Wiring) -> Result<OutputPlan> {
        let edge = self.edge(exchange.edge as usize)?;
        let senders = wiring.senders.remove(&(exchange.id, from)).unwrap_or_default();
        let max_parallelism = self.vertex(exchange.to)?.max_parallelism;
        let consumers = self.vertex(exchange.to)?.subtasks();
        let consumers = consumers.filter(|to| self.plan.has_channel(exchange, from, to.index));
        let route = match exchange.partitioning {
            Partitioning::Forward => Route::Forward,
            Partitioning::Key => Route::Key {
                seed: self.seed,
                max_parallelism,
            },
            // Which channels there are makes the difference between the two.
            Partitioning::Rebalance | Partitioning::Rescale => Route::Rebalance,
            Partitioning::Shuffle => Route::Shuffle {
                seed: self.env.random_u64(),
            },
            Partitioning::Global => Route::Global,
            Partitioning::Custom => Route::Custom,
            Partitioning::Broadcast => Route::Broadcast,
        };
        let router = Router::new(route, senders.len(), self.limits.batch_rows);
        Ok(OutputPlan {
            edge: edge.clone(),
            router,
            senders,
            consumers: consumers.collect(),
            forced: self.seams.codec(edge),
        })
    }

    fn edge(&self, index: usize) -> Result<&Arc<dyn EdgeType>> {
        let edge = self.program.edges.get(index);
        edge.ok_or_else(|| Failure::bug(format!("the program has no type for edge {index}")))
    }

    /// What was in flight to the operators of a task, with the place of each.
    fn in_flight(&self, vertex: &Vertex, subtask: SubtaskId) -> Result<Vec<(usize, RestoredChannel)>> {
        let Some(restore) = &self.restore else {
            return Ok(vec![]);
        };
        let mut channels = vec![];
        for (at, node) in vertex.nodes.iter().enumerate() {
            let shares = restore.shares.get(node);
            let share = shares.and_then(|shares| shares.get(subtask.index as usize));
            for share in share.into_iter().flat_map(|share| &share.in_flight) {
                let partitioning = self
                    .program
                    .graph
                    .edges
                    .get(share.edge)
                    .map(|edge| edge.partitioning);
                let route = match partitioning {
                    Some(Partitioning::Custom) => Route::Custom,
                    Some(Partitioning::Rebalance | Partitioning::Shuffle) => Route::Rebalance,
                    _ => Route::Key {
                        seed: self.seed,
                        max_parallelism: vertex.max_parallelism,
                    },
                };
                let part = (route, vertex.parallelism as usize, subtask.index as usize);
                let channel = RestoredChannel {
                    channel: share.channel.clone(),
                    operator: self.program.graph.stable_name(*node),
                    to: share.to,
                    edge: self.edge(share.edge)?.clone(),
                    part: share.only_own.then_some(part),
                };
                channels.push((at, channel));
            }
        }
        Ok(channels)
    }

    fn inputs(&self, subtask: SubtaskId, wiring: &mut Wiring) -> Result<Vec<InputChannel>> {
        let mut inputs = vec![];
        for exchange in self
            .plan
            .exchanges
            .iter()
            .filter(|exchange| exchange.to == subtask.vertex)
        {
            let from = &self.vertex(exchange.from)?.name;
            let origin = ChannelOrigin {
                operator: self.program.graph.stable_name(exchange.from_node),
                port: exchange.port,
                index: 0,
                edge: self.edge(exchange.edge as usize)?.clone(),
                by_key: exchange.partitioning == Partitioning::Key,
                keeps_order: self.program.graph.keeps_order(exchange.partitioning),
            };
            for (index, receiver) in wiring
                .receivers
                .remove(&(exchange.id, subtask.index))
                .unwrap_or_default()
            {
                inputs.push(InputChannel {
                    input: exchange.to_input,
                    from: subtask_name(from, index),
                    producer: Some(SubtaskId {
                        vertex: exchange.from,
                        index,
                    }),
                    receiver,
                    origin: ChannelOrigin {
                        index,
                        ..origin.clone()
                    },
                });
            }
        }
        Ok(inputs)
    }
}

fn taken_outputs(node: &Node) -> TakenOutputs {
    let taken = node.side_outputs.iter().map(|(tag, port)| {
        let type_name = node.output_types.get(usize::from(*port)).cloned();
        let type_name = type_name.unwrap_or_default();
        (
            tag.clone(),
            TakenOutput {
                port: *port,
                type_name,
            },
        )
    });
    taken.collect()
}
