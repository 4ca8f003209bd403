//! The aligner against a model that remembers everything, and in a small network whose rows show whether the cut is one.

use proptest::prelude::*;
use rivermark_protocol::aligner::{AlignAction, AlignEvent, AlignMode, Aligner};
use rivermark_types::{Barrier, ChannelIndex, CheckpointId, Millis, SnapshotKind};
use std::collections::{BTreeSet, VecDeque};

const IDS: u64 = 6;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn barrier(id: u64) -> Barrier {
    Barrier {
        checkpoint: CheckpointId(id),
        kind: SnapshotKind::Checkpoint,
    }
}

fn modes() -> impl Strategy<Value = AlignMode> {
    prop_oneof![Just(AlignMode::ExactlyOnce), Just(AlignMode::AtLeastOnce)]
}

/// All barriers ever seen, as sets; every question is answered from scratch.
struct Model {
    mode: AlignMode,
    seen: Vec<BTreeSet<u64>>,
    ended: Vec<bool>,
    /// Snapshotted, abandoned, aborted, or older than one of those that were begun.
    dead: BTreeSet<u64>,
}

impl Model {
    fn new(mode: AlignMode, channels: usize) -> Model {
        Model {
            mode,
            seen: vec![BTreeSet::new(); channels],
            ended: vec![false; channels],
            dead: BTreeSet::new(),
        }
    }

    fn in_progress(&self) -> Option<u64> {
        (1..=IDS).find(|id| !self.dead.contains(id) && self.seen.iter().any(|seen| seen.contains(id)))
    }

    fn kill_up_to(&mut self, id: u64) {
        self.dead.extend(1..=id);
    }

    /// What of the event ends: abandoned and snapshotted checkpoints, in order.
    fn take(&mut self, event: AlignEvent) -> Vec<AlignAction> {
        let mut ends = Vec::new();
        match event {
            AlignEvent::Barrier { channel, barrier } => {
                let (channel, id) = (channel.0 as usize, barrier.checkpoint.0);
                let older_than_current = self.in_progress().is_some_and(|current| id < current);
                if self.dead.contains(&id) || self.ended[channel] || older_than_current {
                    return ends;
                }
                if let Some(older) = self.in_progress().filter(|current| *current < id) {
                    ends.push(AlignAction::Abandoned(CheckpointId(older)));
                    self.kill_up_to(older);
                }
                self.seen[channel].insert(id);
            }
            AlignEvent::ChannelEnded { channel } => self.ended[channel.0 as usize] = true,
            AlignEvent::CheckpointAborted { checkpoint } => {
                if self.in_progress() == Some(checkpoint.0) {
                    ends.push(AlignAction::Abandoned(checkpoint));
                    self.kill_up_to(checkpoint.0);
                } else if self.in_progress().is_none_or(|current| checkpoint.0 > current) {
                    self.dead.insert(checkpoint.0);
                }
            }
        }
        if let Some(current) = self.in_progress()
            && self
                .seen
                .iter()
                .zip(&self.ended)
                .all(|(seen, ended)| *ended || seen.contains(&current))
        {
            ends.push(AlignAction::Snapshot(barrier(current)));
            self.kill_up_to(current);
        }
        ends
    }

    fn blocked(&self) -> BTreeSet<u32> {
        let Some(current) = self.in_progress().filter(|_| self.mode == AlignMode::ExactlyOnce) else {
            return BTreeSet::new();
        };
        (0..)
            .zip(&self.seen)
            .filter(|(_, seen)| seen.contains(&current))
            .map(|(channel, _)| channel)
            .collect()
    }
}

fn events(channels: u32) -> impl Strategy<Value = AlignEvent> {
    prop_oneof![
        // Mostly small steps upwards would be too tame: any order of ids, on any channel.
        8 => (0..channels, 1..=IDS).prop_map(|(channel, id)| {
            AlignEvent::Barrier { channel: ChannelIndex(channel), barrier: barrier(id) }
        }),
        1 => (0..channels).prop_map(|channel| AlignEvent::ChannelEnded { channel: ChannelIndex(channel) }),
        1 => (1..=IDS).prop_map(|id| AlignEvent::CheckpointAborted { checkpoint: CheckpointId(id) }),
    ]
}

fn any_run() -> impl Strategy<Value = (AlignMode, u32, Vec<AlignEvent>)> {
    (modes(), 1u32..5).prop_flat_map(|(mode, channels)| {
        (
            Just(mode),
            Just(channels),
            proptest::collection::vec(events(channels), 0..40),
        )
    })
}

/// Obeys blocks and unblocks; complains about those that make no sense.
fn obey(blocked: &mut BTreeSet<u32>, actions: &[AlignAction]) -> Result<(), TestCaseError> {
    let mut unblocked = false;
    for action in actions {
        match action {
            AlignAction::Block(channel) => {
                prop_assert!(blocked.insert(channel.0), "blocked twice: {actions:?}")
            }
            AlignAction::Unblock(channel) => {
                unblocked = true;
                prop_assert!(blocked.remove(&channel.0), "was not blocked: {actions:?}");
            }
            AlignAction::Snapshot(_) => {
                prop_assert!(!unblocked, "read again before the snapshot: {actions:?}")
            }
            AlignAction::Abandoned(_) => {}
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(4000))]

    #[test]
    fn agrees_with_a_model_that_remembers_everything((mode, channels, events) in any_run()) {
        let mut aligner = Aligner::new(mode, channels as usize);
        let mut model = Model::new(mode, channels as usize);
        let mut blocked = BTreeSet::new();
        for (now, event) in (0..).zip(events) {
            let mut actions = Vec::new();
            aligner.handle(Millis(now), event, &mut actions);
            prop_assert_eq!(aligner.check(), Ok(()));
            obey(&mut blocked, &actions)?;
            let is_end = |a: &&AlignAction| matches!(a, AlignAction::Snapshot(_) | AlignAction::Abandoned(_));
            let ends: Vec<_> = actions.iter().filter(is_end).copied().collect();
            prop_assert_eq!(ends, model.take(event), "after {:?}", event);
            prop_assert_eq!(&blocked, &model.blocked(), "after {:?}", event);
            for channel in 0..channels {
                prop_assert_eq!(aligner.is_blocked(ChannelIndex(channel)), blocked.contains(&channel));
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Item {
    Row,
    Barrier(u64),
    End,
}

/// One channel's content: rows, and each barrier unless it was lost on the way; perhaps an end somewhere.
fn channel_content() -> impl Strategy<Value = Vec<Item>> {
    let epoch = (0usize..4, proptest::bool::weighted(0.9));
    (
        proptest::collection::vec(epoch, IDS as usize),
        0usize..4,
        proptest::option::weighted(0.3, 0usize..20),
    )
        .prop_map(|(epochs, tail, end)| {
            let mut items = Vec::new();
            for (id, (rows, sent)) in (1..).zip(epochs) {
                items.extend(std::iter::repeat_n(Item::Row, rows));
                items.extend(sent.then_some(Item::Barrier(id)));
            }
            items.extend(std::iter::repeat_n(Item::Row, tail));
            if let Some(end) = end {
                items.truncate(end);
                items.push(Item::End);
            }
            items
        })
}

struct Gate {
    unread: VecDeque<Item>,
    read: Vec<Item>,
}

impl Gate {
    fn rows_before(&self, id: u64) -> usize {
        let all = self.read.iter().chain(&self.unread);
        all.take_while(|item| **item != Item::Barrier(id))
            .filter(|item| **item == Item::Row)
            .count()
    }
    fn rows_read(&self) -> usize {
        self.read.iter().filter(|item| **item == Item::Row).count()
    }
}

fn check_cut(gates: &[Gate], mode: AlignMode, id: u64) -> Result<(), TestCaseError> {
    for gate in gates {
        let ended = gate.read.contains(&Item::End);
        prop_assert!(
            ended || gate.read.contains(&Item::Barrier(id)),
            "snapshot {id} before every channel delivered"
        );
        let (before, read) = (gate.rows_before(id), gate.rows_read());
        match mode {
            AlignMode::ExactlyOnce => prop_assert_eq!(read, before, "rows in snapshot {}", id),
            AlignMode::AtLeastOnce => prop_assert!(read >= before, "rows missing in snapshot {id}"),
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(3000))]

    #[test]
    fn every_snapshot_is_a_consistent_cut(
        mode in modes(),
        contents in proptest::collection::vec(channel_content(), 1..5),
        picks in proptest::collection::vec(0usize..1000, 200),
        aborts in proptest::collection::btree_map(0usize..60, 1..=IDS, 0..3),
    ) {
        let mut gates: Vec<_> = contents.iter().map(|items| Gate { unread: items.iter().copied().collect(), read: vec![] }).collect();
        let mut aligner = Aligner::new(mode, gates.len());
        let mut snapshots = BTreeSet::new();
        let mut blocked = BTreeSet::new();
        for (step, pick) in picks.into_iter().enumerate() {
            let mut actions = Vec::new();
            if let Some(id) = aborts.get(&step) {
                let event = AlignEvent::CheckpointAborted { checkpoint: CheckpointId(*id) };
                aligner.handle(Millis(step as u64), event, &mut actions);
            }
            obey(&mut blocked, &actions)?;
            actions.clear();
            let readable = |i: &usize| !gates[*i].unread.is_empty() && !blocked.contains(&(*i as u32));
            let readable: Vec<_> = (0..gates.len()).filter(readable).collect();
            let Some(index) = readable.get(pick % readable.len().max(1)).copied() else { break };
            let Some(item) = gates[index].unread.pop_front() else { break };
            gates[index].read.push(item);
            let channel = ChannelIndex(index as u32);
            let event = match item {
                Item::Row => continue,
                Item::Barrier(id) => AlignEvent::Barrier { channel, barrier: barrier(id) },
                Item::End => AlignEvent::ChannelEnded { channel },
            };
            aligner.handle(Millis(step as u64), event, &mut actions);
            obey(&mut blocked, &actions)?;
            for action in &actions {
                if let AlignAction::Snapshot(barrier) = action {
                    let id = barrier.checkpoint.0;
                    prop_assert!(snapshots.last().is_none_or(|last| *last < id), "snapshot {id} again");
                    snapshots.insert(id);
                    check_cut(&gates, mode, id)?;
                    prop_assert_eq!(aligner.stats().map(|stats| stats.checkpoint.0), Some(id));
                }
            }
            prop_assert!(blocked.len() < gates.len(), "nothing can be read any more");
        }
        if aborts.is_empty() && contents.iter().all(|items| (1..=IDS).all(|id| items.contains(&Item::Barrier(id))))
            && gates.iter().all(|gate| gate.unread.is_empty())
        {
            // At-least-once may give older ones up when a fast channel is a whole checkpoint ahead.
            prop_assert!(mode == AlignMode::AtLeastOnce || snapshots.len() as u64 == IDS);
        }
    }
}

/// The stories above are only worth something if they reach the interesting ends.
#[test]
fn random_runs_reach_snapshots_and_abandons() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut snapshots, mut abandons) = (0, 0);
    for _ in 0..500 {
        let (mode, channels, events) = any_run().new_tree(&mut runner).unwrap().current();
        let mut aligner = Aligner::new(mode, channels as usize);
        let mut actions = Vec::new();
        events
            .into_iter()
            .for_each(|event| aligner.handle(Millis(0), event, &mut actions));
        snapshots += actions
            .iter()
            .filter(|action| matches!(action, AlignAction::Snapshot(_)))
            .count();
        abandons += actions
            .iter()
            .filter(|action| matches!(action, AlignAction::Abandoned(_)))
            .count();
    }
    assert!(
        snapshots > 200 && abandons > 200,
        "{snapshots} snapshots, {abandons} abandons"
    );
}
