//! The aligner against a model that remembers everything, and in a small network whose rows show whether the cut is one.

use proptest::prelude::*;
use rivermark_protocol::aligner::{AlignAction, AlignEvent, AlignMode, Aligner};
use rivermark_types::{Barrier, ChannelIndex, CheckpointId, Millis, SnapshotKind};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

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
    let after = prop_oneof![Just(0), 0u64..20].prop_map(Duration::from_millis);
    prop_oneof![
        Just(AlignMode::ExactlyOnce),
        Just(AlignMode::AtLeastOnce),
        after.prop_map(|after| AlignMode::Unaligned { after })
    ]
}

/// Which channels keep their order; without effect in aligned modes.
fn in_order(channels: u32) -> impl Strategy<Value = Vec<bool>> {
    proptest::collection::vec(proptest::bool::weighted(0.2), channels as usize)
}

fn aligner_of(mode: AlignMode, in_order: &[bool]) -> Aligner {
    let mut aligner = Aligner::new(mode, in_order.len());
    let channels = (0..).zip(in_order).filter(|(_, keeps)| **keeps);
    channels.for_each(|(channel, _)| aligner.keep_order(ChannelIndex(channel)));
    aligner
}

/// All barriers ever seen, as sets; every question is answered from scratch.
struct Model {
    mode: AlignMode,
    in_order: Vec<bool>,
    /// When each checkpoint was first heard of; there from then on.
    heard: BTreeMap<u64, u64>,
    seen: Vec<BTreeSet<u64>>,
    ended: Vec<bool>,
    /// Cut, and not all of its barriers are in.
    overtook: Option<u64>,
    /// Snapshotted, abandoned, aborted, or older than one of those that were begun.
    dead: BTreeSet<u64>,
}

impl Model {
    fn new(mode: AlignMode, in_order: Vec<bool>) -> Model {
        Model {
            mode,
            heard: BTreeMap::new(),
            seen: vec![BTreeSet::new(); in_order.len()],
            ended: vec![false; in_order.len()],
            in_order,
            overtook: None,
            dead: BTreeSet::new(),
        }
    }

    fn in_progress(&self) -> Option<u64> {
        self.heard.keys().find(|id| !self.dead.contains(id)).copied()
    }

    fn missing(&self, id: u64) -> impl Iterator<Item = usize> + '_ {
        (0..self.seen.len()).filter(move |&channel| !self.ended[channel] && !self.seen[channel].contains(&id))
    }

    /// Hears of a barrier; what that ends. `None` if it says nothing.
    fn hear(&mut self, now: u64, channel: usize, id: u64) -> Option<Vec<AlignAction>> {
        let older_than_current = self.in_progress().is_some_and(|current| id < current);
        if self.dead.contains(&id) || self.ended[channel] || older_than_current {
            return None;
        }
        let older = self.in_progress().filter(|current| *current < id);
        if let Some(older) = older {
            self.kill_up_to(older);
        }
        self.heard.entry(id).or_insert(now);
        Some(
            older
                .map(|older| AlignAction::Abandoned(CheckpointId(older)))
                .into_iter()
                .collect(),
        )
    }

    fn kill_up_to(&mut self, id: u64) {
        self.dead.extend(1..=id);
    }

    /// What of the event ends: abandoned and snapshotted checkpoints, in order.
    fn take(&mut self, now: u64, event: AlignEvent) -> Vec<AlignAction> {
        let mut ends = Vec::new();
        match event {
            AlignEvent::Announced { channel, barrier } => {
                if !matches!(self.mode, AlignMode::Unaligned { .. }) {
                    return ends;
                }
                let (index, id) = (channel.0 as usize, barrier.checkpoint.0);
                let Some(heard) = self.hear(now, index, id) else {
                    return ends;
                };
                ends = heard;
                if self.overtook == Some(id) && self.missing(id).any(|missing| missing == index) {
                    ends.push(AlignAction::Capture(channel));
                }
            }
            AlignEvent::Ready => {
                if let Some(current) = self.overtakes(now) {
                    self.overtook = Some(current);
                    ends.push(AlignAction::Overtake(barrier(current)));
                    let missing = self.missing(current);
                    ends.extend(missing.map(|channel| AlignAction::Capture(ChannelIndex(channel as u32))));
                }
                return ends;
            }
            AlignEvent::Barrier { channel, barrier } => {
                let (channel, id) = (channel.0 as usize, barrier.checkpoint.0);
                let Some(heard) = self.hear(now, channel, id) else {
                    return ends;
                };
                ends = heard;
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
            && self.missing(current).next().is_none()
        {
            ends.push(match self.overtook == Some(current) {
                true => AlignAction::Captured(CheckpointId(current)),
                false => AlignAction::Snapshot(barrier(current)),
            });
            self.kill_up_to(current);
        }
        ends
    }

    fn overtakes(&self, now: u64) -> Option<u64> {
        let AlignMode::Unaligned { after } = self.mode else {
            return None;
        };
        let current = self.in_progress()?;
        let in_time = now >= self.heard[&current] + after.as_millis() as u64;
        let held_up = self.missing(current).any(|channel| self.in_order[channel]);
        (in_time && !held_up && self.overtook != Some(current)).then_some(current)
    }

    fn blocked(&self) -> BTreeSet<u32> {
        let holds = |current: &u64| self.mode != AlignMode::AtLeastOnce && self.overtook != Some(*current);
        let Some(current) = self.in_progress().filter(holds) else {
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
        3 => (0..channels, 1..=IDS).prop_map(|(channel, id)| {
            AlignEvent::Announced { channel: ChannelIndex(channel), barrier: barrier(id) }
        }),
        3 => Just(AlignEvent::Ready),
        1 => (0..channels).prop_map(|channel| AlignEvent::ChannelEnded { channel: ChannelIndex(channel) }),
        1 => (1..=IDS).prop_map(|id| AlignEvent::CheckpointAborted { checkpoint: CheckpointId(id) }),
    ]
}

fn any_run() -> impl Strategy<Value = (AlignMode, Vec<bool>, Vec<AlignEvent>)> {
    (modes(), 1u32..5).prop_flat_map(|(mode, channels)| {
        (
            Just(mode),
            in_order(channels),
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
            AlignAction::Snapshot(_) | AlignAction::Overtake(_) => {
                prop_assert!(!unblocked, "read again before the snapshot: {actions:?}")
            }
            AlignAction::Capture(_) | AlignAction::Captured(_) | AlignAction::Abandoned(_) => {}
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(4000))]

    #[test]
    fn agrees_with_a_model_that_remembers_everything((mode, in_order, events) in any_run()) {
        let channels = in_order.len() as u32;
        let mut aligner = aligner_of(mode, &in_order);
        let mut model = Model::new(mode, in_order);
        let mut blocked = BTreeSet::new();
        for (now, event) in (0..).zip(events) {
            let mut actions = Vec::new();
            aligner.handle(Millis(now), event, &mut actions);
            prop_assert_eq!(aligner.check(), Ok(()));
            obey(&mut blocked, &actions)?;
            let is_end = |a: &&AlignAction| !matches!(a, AlignAction::Block(_) | AlignAction::Unblock(_));
            let ends: Vec<_> = actions.iter().filter(is_end).copied().collect();
            prop_assert_eq!(ends, model.take(now, event), "after {:?}", event);
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
    keeps_order: bool,
    unread: VecDeque<Item>,
    read: Vec<Item>,
    /// Barriers up to this one were announced.
    announced: u64,
    /// Rows read at the last cut, and those that are in flight behind it.
    at_cut: usize,
    captured: usize,
    capturing: bool,
}

impl Gate {
    fn new(items: &[Item], keeps_order: bool) -> Gate {
        Gate {
            keeps_order,
            unread: items.iter().copied().collect(),
            read: vec![],
            announced: 0,
            at_cut: 0,
            captured: 0,
            capturing: false,
        }
    }

    fn rows_before(&self, id: u64) -> usize {
        let all = self.read.iter().chain(&self.unread);
        all.take_while(|item| **item != Item::Barrier(id))
            .filter(|item| **item == Item::Row)
            .count()
    }
    fn rows_read(&self) -> usize {
        self.read.iter().filter(|item| **item == Item::Row).count()
    }
    fn has_delivered(&self, id: u64) -> bool {
        self.read.contains(&Item::End) || self.read.contains(&Item::Barrier(id))
    }

    /// Reads the next item.
    fn pop(&mut self) -> Option<Item> {
        let item = self.unread.pop_front()?;
        self.captured += usize::from(self.capturing && item == Item::Row);
        self.read.push(item);
        Some(item)
    }

    /// Captures up to the barrier and delivers it in front of what was captured; false if it is not queued.
    fn capture(&mut self, id: u64) -> bool {
        self.capturing = true;
        let Some(at) = self.unread.iter().position(|item| *item == Item::Barrier(id)) else {
            return false;
        };
        self.captured += self
            .unread
            .iter()
            .take(at)
            .filter(|item| **item == Item::Row)
            .count();
        self.capturing = false;
        self.unread.remove(at);
        true
    }
}

/// A task with its channels, which obeys its aligner.
struct Network {
    mode: AlignMode,
    aligner: Aligner,
    gates: Vec<Gate>,
    blocked: BTreeSet<u32>,
    snapshots: BTreeSet<u64>,
    /// What each channel's snapshot held, until all of it is known.
    cut: Vec<usize>,
}

impl Network {
    fn tell(&mut self, now: u64, event: AlignEvent) -> Result<(), TestCaseError> {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut actions = Vec::new();
            self.aligner.handle(Millis(now), event, &mut actions);
            obey(&mut self.blocked, &actions)?;
            for action in actions {
                match action {
                    AlignAction::Snapshot(barrier) => {
                        self.cut(barrier.checkpoint.0)?;
                        self.check_cut(barrier.checkpoint.0)?;
                    }
                    AlignAction::Overtake(barrier) => {
                        let id = barrier.checkpoint.0;
                        self.cut(id)?;
                        for gate in &self.gates {
                            prop_assert!(!gate.keeps_order || gate.has_delivered(id));
                        }
                    }
                    AlignAction::Capture(channel) => {
                        let id = self.aligner.aligning().map_or(0, |(id, _)| id.0);
                        if self.gates[channel.0 as usize].capture(id) {
                            let barrier = barrier(id);
                            events.push_back(AlignEvent::Barrier { channel, barrier });
                        }
                    }
                    AlignAction::Captured(id) => self.check_cut(id.0)?,
                    AlignAction::Abandoned(_) => {
                        self.gates.iter_mut().for_each(|gate| gate.capturing = false);
                    }
                    AlignAction::Block(_) | AlignAction::Unblock(_) => {}
                }
            }
        }
        Ok(())
    }

    fn cut(&mut self, id: u64) -> Result<(), TestCaseError> {
        prop_assert!(
            self.snapshots.last().is_none_or(|last| *last < id),
            "snapshot {id} again"
        );
        self.snapshots.insert(id);
        prop_assert_eq!(self.aligner.stats().map(|stats| stats.checkpoint.0), Some(id));
        for gate in &mut self.gates {
            (gate.at_cut, gate.captured, gate.capturing) = (gate.rows_read(), 0, false);
        }
        self.cut = self.gates.iter().map(|gate| gate.rows_before(id)).collect();
        Ok(())
    }

    /// All that the snapshot holds is known: state and what is in flight.
    fn check_cut(&self, id: u64) -> Result<(), TestCaseError> {
        for (gate, before) in self.gates.iter().zip(&self.cut) {
            let held = gate.at_cut + gate.captured;
            match self.mode {
                AlignMode::AtLeastOnce => {
                    prop_assert!(
                        gate.has_delivered(id),
                        "snapshot {id} before every channel delivered"
                    );
                    prop_assert!(held >= *before, "rows missing in snapshot {id}");
                }
                _ => prop_assert_eq!(held, *before, "rows in snapshot {}", id),
            }
        }
        Ok(())
    }

    /// Announces the first barrier of a channel that was not announced yet.
    fn announce(&mut self, now: u64, index: usize) -> Result<(), TestCaseError> {
        let gate = &mut self.gates[index];
        let next = gate.unread.iter().find_map(|item| match item {
            Item::Barrier(id) if *id > gate.announced => Some(*id),
            _ => None,
        });
        let Some(id) = next else { return Ok(()) };
        gate.announced = id;
        let (channel, barrier) = (ChannelIndex(index as u32), barrier(id));
        self.tell(now, AlignEvent::Announced { channel, barrier })
    }
}

proptest! {
    #![proptest_config(config(3000))]

    #[test]
    fn every_snapshot_is_a_consistent_cut(
        mode in modes(),
        contents in proptest::collection::vec((channel_content(), proptest::bool::weighted(0.2)), 1..5),
        picks in proptest::collection::vec(0usize..1000, 200),
        aborts in proptest::collection::btree_map(0usize..60, 1..=IDS, 0..3),
    ) {
        let in_order: Vec<bool> = contents.iter().map(|(_, in_order)| *in_order).collect();
        let gates: Vec<_> = contents.iter().map(|(items, in_order)| Gate::new(items, *in_order)).collect();
        let mut network = Network {
            mode,
            aligner: aligner_of(mode, &in_order),
            gates,
            blocked: BTreeSet::new(),
            snapshots: BTreeSet::new(),
            cut: vec![],
        };
        for (step, pick) in picks.into_iter().enumerate() {
            let now = step as u64;
            if let Some(id) = aborts.get(&step) {
                network.tell(now, AlignEvent::CheckpointAborted { checkpoint: CheckpointId(*id) })?;
            }
            match pick / 250 {
                0 => network.announce(now, pick % network.gates.len())?,
                1 => network.tell(now, AlignEvent::Ready)?,
                _ => {}
            }
            let readable = |i: &usize| !network.gates[*i].unread.is_empty() && !network.blocked.contains(&(*i as u32));
            let readable: Vec<_> = (0..network.gates.len()).filter(readable).collect();
            let Some(index) = readable.get(pick % readable.len().max(1)).copied() else { break };
            let Some(item) = network.gates[index].pop() else { break };
            let channel = ChannelIndex(index as u32);
            match item {
                Item::Row => continue,
                Item::Barrier(id) => network.tell(now, AlignEvent::Barrier { channel, barrier: barrier(id) })?,
                Item::End => network.tell(now, AlignEvent::ChannelEnded { channel })?,
            }
            prop_assert!(network.blocked.len() < network.gates.len(), "nothing can be read any more");
        }
        let all_sent = contents.iter().all(|(items, _)| (1..=IDS).all(|id| items.contains(&Item::Barrier(id))));
        if aborts.is_empty() && all_sent && network.gates.iter().all(|gate| gate.unread.is_empty()) {
            // The others may give older ones up when a fast channel is a whole checkpoint ahead, or announced to be.
            prop_assert!(mode != AlignMode::ExactlyOnce || network.snapshots.len() as u64 == IDS);
        }
    }
}

/// The stories above are only worth something if they reach the interesting ends.
#[test]
fn random_runs_reach_every_end() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut reached = [0; 4];
    for _ in 0..2000 {
        let (mode, in_order, events) = any_run().new_tree(&mut runner).unwrap().current();
        let mut aligner = aligner_of(mode, &in_order);
        let mut actions = Vec::new();
        let events = (0..).zip(events);
        events.for_each(|(now, event)| aligner.handle(Millis(now), event, &mut actions));
        for action in actions {
            match action {
                AlignAction::Snapshot(_) => reached[0] += 1,
                AlignAction::Abandoned(_) => reached[1] += 1,
                AlignAction::Overtake(_) => reached[2] += 1,
                AlignAction::Captured(_) => reached[3] += 1,
                _ => {}
            }
        }
    }
    assert!(
        reached.iter().all(|times| *times > 60),
        "snapshots, abandoned, overtaking, captured: {reached:?}"
    );
}
