//! One operator or source in a chain of its own, brought to life as a task does it, with what it says to the master.

#![allow(dead_code, reason = "each test file uses a part of it")]

use rivermark_connector::conformance::subtask_info;
use rivermark_data::{Activity, Batch, Data, Element, Emit, Scatter, Typed};
use rivermark_env::Env;
use rivermark_runtime::Care;
use rivermark_runtime::build::NodePlan;
use rivermark_runtime::chain::{Chain, ChainState, Slice, Target};
use rivermark_runtime::channel::{Credit, Receiver, channel};
use rivermark_runtime::metrics::SubtaskCounters;
use rivermark_runtime::outbox::Outbox;
use rivermark_runtime::{
    Lists, NodeBody, OperatorEvent, OperatorReport, SinkPhase, SlotWaker, SourcePoll, SubtaskInfo, TaskEvent,
};
use rivermark_types::{Barrier, CheckpointId, Failure, InputId, SnapshotKind, Timestamp};
use std::sync::Arc;
use tokio::sync::mpsc;

struct Straight;

impl Scatter for Straight {
    fn push(&mut self, batch: Batch, emit: &mut Emit<'_>) -> Result<(), Failure> {
        emit(0, batch);
        Ok(())
    }
    fn flush(&mut self, _: &mut Emit<'_>) {}
    fn pending(&self) -> usize {
        0
    }
}

/// What comes out of a source.
#[derive(Debug, PartialEq)]
pub enum Out<T> {
    Row(T, Option<i64>),
    Watermark(i64),
    Idle,
    Active,
    Barrier,
}

pub struct Bench {
    chain: Chain,
    outlet: Receiver,
    waker: SlotWaker,
    events: mpsc::UnboundedReceiver<TaskEvent>,
}

pub fn barrier(checkpoint: u64, kind: SnapshotKind) -> Barrier {
    Barrier {
        checkpoint: CheckpointId(checkpoint),
        kind,
    }
}

impl Bench {
    pub fn new(env: &Env, body: NodeBody, info: SubtaskInfo, lists: Option<Lists>) -> Result<Bench, Failure> {
        let waker = SlotWaker::default();
        let (sender, events) = mpsc::unbounded_channel();
        let restored = lists.is_some().then(Default::default);
        let plan = NodePlan {
            info,
            body,
            keyed: false,
            side_outputs: Default::default(),
            targets: vec![vec![Target::Outbox(0)]],
            care: Care::default(),
            lists: lists.unwrap_or_default(),
            watermark: Timestamp::MIN,
        };
        let node = plan.build(env, &waker, 0, restored, &sender)?;
        let credit = Credit {
            rows: 1 << 20,
            bytes: 1 << 30,
        };
        let (sender, outlet) = channel(credit, waker.clone(), SlotWaker::default());
        let outbox = Outbox::new(Box::new(Straight), vec![sender], None);
        let slice = Slice {
            budget_ns: u64::MAX,
            max_rows: 4096,
        };
        let chain = Chain::new(
            env.clone(),
            vec![node],
            vec![outbox],
            Arc::new(SubtaskCounters::default()),
            slice,
        );
        Ok(Bench {
            chain,
            outlet,
            waker,
            events,
        })
    }

    pub fn info(attempt: u32) -> SubtaskInfo {
        subtask_info(1, attempt, 0, 1)
    }

    pub fn event(&mut self, event: OperatorEvent) -> Result<(), Failure> {
        self.chain.on_event(None, &event)
    }

    pub fn push<T: Data>(&mut self, rows: Vec<T>) {
        self.chain.push_rows(InputId(0), Batch::new(Typed::untimed(rows)));
    }

    /// Runs until nothing is left in the chain.
    pub async fn drain(&mut self) -> Result<(), Failure> {
        loop {
            match self.chain.run()? {
                ChainState::Drained => return Ok(()),
                ChainState::Waiting => self.waker.woken().await,
                _ => {}
            }
        }
    }

    /// Runs until the chain is empty or waits; true if it waits.
    pub fn waits(&mut self) -> Result<bool, Failure> {
        loop {
            match self.chain.run()? {
                ChainState::Drained => return Ok(false),
                ChainState::Waiting => return Ok(true),
                _ => {}
            }
        }
    }

    /// Sends a barrier through and gives the lists of the snapshot.
    pub async fn snapshot(&mut self, barrier: Barrier) -> Result<Lists, Failure> {
        self.begin_snapshot(barrier)?;
        self.end_snapshot().await
    }

    pub fn begin_snapshot(&mut self, barrier: Barrier) -> Result<(), Failure> {
        self.chain.push_barrier(barrier)
    }

    pub async fn end_snapshot(&mut self) -> Result<Lists, Failure> {
        self.drain().await?;
        Ok(self.chain.take_snapshots().remove(0).lists)
    }

    /// The next that the master hears.
    pub async fn heard(&mut self) -> TaskEvent {
        self.events.recv().await.unwrap()
    }

    /// What the master hears next must be this phase.
    pub async fn expect_phase(&mut self, expected: SinkPhase) {
        match self.heard().await {
            TaskEvent::Report {
                report: OperatorReport::Sink(phase),
                ..
            } if phase == expected => {}
            other => panic!("expected {expected:?}, heard {other:?}"),
        }
    }

    pub fn reports(&mut self) -> Vec<String> {
        let mut reports = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            match event {
                TaskEvent::Report { report, .. } => reports.push(format!("{report:?}")),
                other => reports.push(format!("{other:?}")),
            }
        }
        reports
    }

    pub async fn woken(&self) {
        self.waker.woken().await;
    }

    /// Takes a sink through its start, so that rows may come.
    pub async fn open_gate(&mut self) -> Result<(), Failure> {
        self.expect_phase(SinkPhase::Recommitted).await;
        self.event(OperatorEvent::AbortUnlisted)?;
        self.expect_phase(SinkPhase::UnlistedAborted).await;
        self.event(OperatorEvent::OpenGate)
    }

    /// Lets the source emit once; what came out.
    pub fn poll<T: Data>(&mut self) -> Result<(SourcePoll, Vec<Out<T>>), Failure> {
        let poll = self.chain.poll_source()?.unwrap();
        Ok((poll, self.out()))
    }

    /// Polls until the source is idle.
    pub fn poll_all<T: Data>(&mut self) -> Result<Vec<Out<T>>, Failure> {
        let mut all = Vec::new();
        loop {
            let (poll, out) = self.poll()?;
            all.extend(out);
            if let SourcePoll::Idle(_) = poll {
                return Ok(all);
            }
        }
    }

    fn out<T: Data>(&mut self) -> Vec<Out<T>> {
        let mut out = Vec::new();
        while let Some(element) = self.outlet.pop() {
            match element {
                Element::Batch(batch) => {
                    let rows = batch.take::<T>().unwrap();
                    let times = rows
                        .times
                        .map(|times| times.into_iter().map(|time| Some(time.0)).collect::<Vec<_>>());
                    let times = times.unwrap_or_else(|| vec![None; rows.values.len()]);
                    out.extend(
                        rows.values
                            .into_iter()
                            .zip(times)
                            .map(|(row, time)| Out::Row(row, time)),
                    );
                }
                Element::Watermark(watermark) => out.push(Out::Watermark(watermark.0)),
                Element::Status(Activity::Idle) => out.push(Out::Idle),
                Element::Status(Activity::Active) => out.push(Out::Active),
                Element::Barrier(_) => out.push(Out::Barrier),
                Element::End => {}
            }
        }
        out
    }
}
