//! A task as data, and how it is built on its slot's thread: state fetched, operators made and opened, chain wired.

use crate::careful::Care;
use crate::chain::{Body, Chain, ChainNode, Slice, Target};
use crate::channel::{Announcements, Sender};
use crate::gate::{Gate, InputChannel};
use crate::in_flight::{RestoredChannel, RestoredInput};
use crate::messages::TaskEvent;
use crate::metrics::{MetricGroup, RestoredTrace, SubtaskCounters};
use crate::operator::{Lists, OpenCx, Reporter, SubtaskInfo};
use crate::outbox::Outbox;
use crate::program::NodeBody;
use crate::seams::{ForcedCodec, Seams};
use crate::side::{SideOutputs, TakenOutputs};
use crate::task::{Overtaking, Pace, Task};
use crate::waker::SlotWaker;
use rivermark_data::{EdgeType, Router};
use rivermark_env::{Env, catch_panic};
use rivermark_state::{BackendConfig, KeyedBackend, RestoredState, SnapshotHandle, SnapshotReader};
use rivermark_types::{Failure, Result, SubtaskId, Timestamp};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;

/// One exchange of a task's output, as it is wired.
pub struct OutputPlan {
    /// The type of its records.
    pub edge: Arc<dyn EdgeType>,
    /// How they are dealt out.
    pub router: Router,
    /// The channels, in the order of the consumers.
    pub senders: Vec<Sender>,
    /// The consumers, in the same order.
    pub consumers: Vec<SubtaskId>,
    /// A codec forced on it, in tests.
    pub forced: Option<Arc<dyn ForcedCodec>>,
}

/// One operator of a task.
pub struct NodePlan {
    /// Who it is.
    pub info: SubtaskInfo,
    /// What it is made of.
    pub body: NodeBody,
    /// Whether it stands behind a `key_by`.
    pub keyed: bool,
    /// Where each output port leads.
    pub targets: Vec<Vec<Target>>,
    /// The side outputs that the graph takes from it.
    pub side_outputs: TakenOutputs,
    /// How rows that it fails at are treated.
    pub care: Care,
    /// Its share of the restored lists.
    pub lists: Lists,
    /// Its watermark at the checkpoint.
    pub watermark: Timestamp,
}

/// A task as data: everything its slot needs to build it.
pub struct TaskPlan {
    /// Who it is; its name is the vertex's.
    pub info: SubtaskInfo,
    /// Its operators, in topological order.
    pub nodes: Vec<NodePlan>,
    /// Its input channels; empty for a source.
    pub inputs: Vec<InputChannel>,
    /// Where their barriers are announced.
    pub announcements: Announcements,
    /// What was in flight at the checkpoint that the attempt starts from, by the place of the operator that it led to.
    pub in_flight: Vec<(usize, RestoredChannel)>,
    /// Its outputs, by the index that [`Target::Outbox`] names.
    pub outputs: Vec<OutputPlan>,
    /// The seed of the key hash.
    pub seed: u64,
    /// How barriers are aligned, and whether they overtake.
    pub overtaking: Overtaking,
    /// Where keyed state is fetched from, if the attempt starts from a checkpoint.
    pub restore: Option<Arc<SnapshotReader>>,
    /// Where snapshots go.
    pub snapshots: SnapshotHandle,
    /// Where reports go.
    pub events: mpsc::UnboundedSender<TaskEvent>,
    /// Its counters.
    pub counters: Arc<SubtaskCounters>,
    /// How it shares its slot.
    pub pace: Pace,
    /// Limits of a slice.
    pub slice: Slice,
    /// Wrappers, in tests.
    pub seams: Arc<dyn Seams>,
}

impl TaskPlan {
    /// Fetches state, makes and opens the operators, wires them. On the slot's thread.
    pub async fn build(mut self, env: &Env, waker: &SlotWaker) -> Result<Task> {
        let began = env.now();
        // One that holds marks may be behind those before it, and what it had not passed on must come again.
        let watermark = self.nodes.iter().map(|node| node.watermark).min();
        let watermark = watermark.unwrap_or(Timestamp::MIN);
        let mut trace = RestoredTrace::default();
        let nodes = self.operators(env, waker, &mut trace).await?;
        let outboxes = self.outputs.drain(..).map(|out| {
            Outbox::new(out.edge.scatter(out.router), out.senders, out.forced).leading_to(out.consumers)
        });
        let mut chain = Chain::new(
            env.clone(),
            nodes,
            outboxes.collect(),
            self.counters.clone(),
            self.slice,
        );
        let mut resumed = self.resume(env, &mut chain, &mut trace).await?;
        self.counters.note_restored(|restored| *restored = trace);
        self.seams.resume(&mut resumed, &mut self.inputs);
        let gate = (!chain.is_source()).then(|| {
            let mut gate = Gate::new(
                self.overtaking.mode,
                self.inputs,
                watermark,
                self.info.subtask,
                self.seams.clone(),
            );
            gate.listen_to(self.announcements);
            gate.resume(resumed);
            gate
        });
        self.counters
            .initialization_ms
            .store(env.now().since(began).as_millis() as u64, Ordering::Relaxed);
        let task = Task::new(
            self.info,
            env.clone(),
            chain,
            gate,
            self.snapshots,
            self.counters,
            self.pace,
        );
        Ok(task.with_overtaking(self.overtaking))
    }

    /// The operators, open on the state that is theirs.
    async fn operators(
        &mut self,
        env: &Env,
        waker: &SlotWaker,
        trace: &mut RestoredTrace,
    ) -> Result<Vec<ChainNode>> {
        let mut nodes = Vec::with_capacity(self.nodes.len());
        for mut plan in self.nodes.drain(..) {
            let fetching = env.now();
            let mut keyed = match (&self.restore, &plan.info.uid) {
                (Some(reader), Some(uid)) if plan.keyed => {
                    let range = plan
                        .info
                        .max_parallelism
                        .range_of(plan.info.subtask.index, plan.info.parallelism);
                    reader.load(uid, range).await?
                }
                _ => RestoredState::default(),
            };
            if let (Some(uid), true) = (&plan.info.uid, self.restore.is_some()) {
                self.seams.restore(uid, &mut plan.lists, &mut keyed);
            }
            let fetched = env.now();
            trace.download += fetched.since(fetching);
            trace.bytes += keyed.bytes();
            trace.local_bytes += keyed.local_bytes();
            let restored = self.restore.is_some().then_some(keyed);
            let counters = self.counters.operator(plan.info.node);
            let node = plan.build(env, waker, self.seed, restored, &self.events)?;
            trace.decode += env.now().since(fetched);
            nodes.push(node.counted(counters));
        }
        Ok(nodes)
    }

    /// What was in flight: put before the operator that it led to, or given back where that is the gate's.
    async fn resume(
        &mut self,
        env: &Env,
        chain: &mut Chain,
        trace: &mut RestoredTrace,
    ) -> Result<Vec<RestoredInput>> {
        let mut resumed = vec![];
        let fetching = env.now();
        for (at, mut channel) in self.in_flight.drain(..) {
            let Some(reader) = &self.restore else { break };
            self.seams.fetch(&mut channel);
            trace.in_flight_rows += channel.channel.rows;
            let input = channel.load(reader).await?;
            match at {
                0 => resumed.push(input),
                // It was the first of a task then, and is behind others now.
                _ => chain.put_before(at, input),
            }
        }
        trace.in_flight = env.now().since(fetching);
        Ok(resumed)
    }
}

impl NodePlan {
    /// Makes the operator and opens it on what a snapshot has for it; `None` on a fresh start. Public for tests of a single
    /// operator: no operator comes to life in any other way.
    pub fn build(
        mut self,
        env: &Env,
        waker: &SlotWaker,
        seed: u64,
        restored: Option<RestoredState>,
        events: &mpsc::UnboundedSender<TaskEvent>,
    ) -> Result<ChainNode> {
        let is_restored = restored.is_some();
        let mut backend = self.backend(seed, restored.unwrap_or_default());
        if let Some(backend) = &backend {
            backend.set_time(env.processing_time());
        }
        // A user's `open` may panic; that fails the attempt, not the slot.
        let waker = match &self.body {
            NodeBody::Source(_) => waker.clone(),
            NodeBody::Operator(_) => waker.for_operator(),
        };
        let opened = catch_panic(|| self.open(env, &waker, is_restored, &mut backend, events));
        let (body, sides, metrics) = opened.unwrap_or_else(|panic| {
            Err(Failure::bug(format!(
                "{} panicked while opening: {panic}",
                self.info.name
            )))
        })?;
        Ok(ChainNode::new(
            self.info,
            body,
            backend,
            self.targets,
            self.watermark,
            sides,
            waker,
        )
        .with_care(&self.care)
        .with_metrics(metrics))
    }

    fn backend(&self, seed: u64, restored: RestoredState) -> Option<KeyedBackend> {
        let operator = self.info.uid.clone().filter(|_| self.keyed)?;
        let range = self
            .info
            .max_parallelism
            .range_of(self.info.subtask.index, self.info.parallelism);
        let config = BackendConfig {
            operator,
            seed,
            max_parallelism: self.info.max_parallelism,
            range,
        };
        Some(KeyedBackend::new(config, restored))
    }

    fn open(
        &mut self,
        env: &Env,
        waker: &SlotWaker,
        restored: bool,
        backend: &mut Option<KeyedBackend>,
        events: &mpsc::UnboundedSender<TaskEvent>,
    ) -> Result<(Body, SideOutputs, MetricGroup)> {
        let reporter = Reporter {
            subtask: self.info.subtask,
            node: self.info.node,
            events: events.clone(),
        };
        let mut cx = OpenCx {
            env,
            info: &self.info,
            backend: backend.as_mut(),
            lists: std::mem::take(&mut self.lists),
            restored,
            watermark: self.watermark,
            waker,
            reporter,
            metrics: MetricGroup::default(),
            sides: SideOutputs::new(std::mem::take(&mut self.side_outputs)),
        };
        let body = match &self.body {
            NodeBody::Source(factory) => {
                let mut driver = factory.driver()?;
                driver.open(&mut cx)?;
                Body::Source(driver)
            }
            NodeBody::Operator(factory) => {
                let mut operator = factory.create()?;
                operator.open(&mut cx)?;
                Body::Operator(operator)
            }
        };
        if let Some(name) = cx.lists.keys().next() {
            return Err(Failure::invalid(format!(
                "the checkpoint has a list {name:?} for operator {} that the operator does not declare: start the job \
                 that wrote it, or give the operator a new uid",
                self.info.name
            )));
        }
        cx.sides.finish_open(&self.info.name)?;
        let (sides, metrics) = (cx.sides, cx.metrics);
        if let Some(backend) = backend {
            backend.finish_open()?;
        }
        Ok((body, sides, metrics))
    }
}
