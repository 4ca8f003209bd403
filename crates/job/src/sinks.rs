//! The gate in front of every sink: no row is written before what the checkpoint lists is committed, and what it does not
//! list is aborted, by every committer of that sink (DESIGN: the restore gate). Pure: reports in, orders out.

use rivermark_runtime::{OperatorEvent, SinkPhase};
use rivermark_types::{CheckpointId, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// What to send, and to whom.
#[derive(Debug)]
pub enum SinkOrder {
    /// To one subtask of a sink.
    One(NodeId, u32, OperatorEvent),
    /// To every subtask of a sink.
    All(NodeId, OperatorEvent),
}

#[derive(Debug)]
enum Phase {
    /// Subtasks that have not recommitted yet.
    Recommitting(BTreeSet<u32>),
    /// Subtask 0 aborts what is not listed.
    Aborting,
    Open,
}

/// The two-phase sinks of one attempt.
#[derive(Debug, Default)]
pub struct SinkGate {
    phases: BTreeMap<NodeId, Phase>,
    parallelism: BTreeMap<NodeId, u32>,
    committed: BTreeMap<(NodeId, u32), CheckpointId>,
}

impl SinkGate {
    /// The gate over these sinks (node, parallelism), all shut.
    pub fn new(sinks: impl IntoIterator<Item = (NodeId, u32)>) -> SinkGate {
        let parallelism: BTreeMap<NodeId, u32> = sinks.into_iter().collect();
        let phases = parallelism
            .iter()
            .map(|(node, n)| (*node, Phase::Recommitting((0..*n).collect())))
            .collect();
        SinkGate {
            phases,
            parallelism,
            committed: BTreeMap::new(),
        }
    }

    /// A sink subtask has finished a phase.
    pub fn on_report(&mut self, node: NodeId, subtask: u32, report: SinkPhase) -> Option<SinkOrder> {
        if let SinkPhase::Committed(checkpoint) = report {
            let known = self.committed.entry((node, subtask)).or_insert(checkpoint);
            *known = (*known).max(checkpoint);
            return None;
        }
        let phase = self.phases.get_mut(&node)?;
        match (phase, report) {
            (phase @ Phase::Recommitting(_), SinkPhase::Recommitted) => {
                let Phase::Recommitting(missing) = phase else {
                    return None;
                };
                missing.remove(&subtask);
                if !missing.is_empty() {
                    return None;
                }
                *phase = Phase::Aborting;
                Some(SinkOrder::One(node, 0, OperatorEvent::AbortUnlisted))
            }
            (phase @ Phase::Aborting, SinkPhase::UnlistedAborted) => {
                *phase = Phase::Open;
                Some(SinkOrder::All(node, OperatorEvent::OpenGate))
            }
            _ => None,
        }
    }

    /// Whether rows may flow into every sink.
    pub fn is_open(&self) -> bool {
        self.phases.values().all(|phase| matches!(phase, Phase::Open))
    }

    /// Whether every subtask of every sink has committed this checkpoint.
    pub fn all_committed(&self, checkpoint: CheckpointId) -> bool {
        let subtasks = self
            .parallelism
            .iter()
            .flat_map(|(node, n)| (0..*n).map(move |subtask| (*node, subtask)));
        subtasks
            .into_iter()
            .all(|key| self.committed.get(&key).is_some_and(|done| *done >= checkpoint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_flow_only_after_all_have_recommitted_and_the_rest_is_aborted() {
        let sink = NodeId(4);
        let mut gate = SinkGate::new([(sink, 2)]);
        assert!(!gate.is_open());
        assert!(gate.on_report(sink, 1, SinkPhase::Recommitted).is_none());
        assert!(
            gate.on_report(sink, 1, SinkPhase::UnlistedAborted).is_none(),
            "out of order"
        );
        let order = gate.on_report(sink, 0, SinkPhase::Recommitted);
        assert!(
            matches!(order, Some(SinkOrder::One(_, 0, OperatorEvent::AbortUnlisted))),
            "{order:?}"
        );
        assert!(!gate.is_open());
        let order = gate.on_report(sink, 0, SinkPhase::UnlistedAborted);
        assert!(
            matches!(order, Some(SinkOrder::All(_, OperatorEvent::OpenGate))),
            "{order:?}"
        );
        assert!(gate.is_open());
    }

    #[test]
    fn a_checkpoint_is_committed_when_every_subtask_says_so() {
        let sink = NodeId(0);
        let mut gate = SinkGate::new([(sink, 2)]);
        gate.on_report(sink, 0, SinkPhase::Committed(CheckpointId(5)));
        gate.on_report(sink, 1, SinkPhase::Committed(CheckpointId(4)));
        assert!(gate.all_committed(CheckpointId(4)) && !gate.all_committed(CheckpointId(5)));
    }
}
