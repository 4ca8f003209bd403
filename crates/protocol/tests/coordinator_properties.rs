//! The coordinator in random stories, before a witness that keeps its own books (`witness/mod.rs`).

mod witness;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use rivermark_protocol::coordinator::{
    CheckpointCoordinator, CkEvent, CoordinatorConfig, DecisionOutcome, RequestId,
};
use rivermark_types::{Attempt, CheckpointId, Millis, SnapshotKind, SubtaskId, VertexId};
use std::collections::BTreeMap;
use std::time::Duration;
use witness::Witness;

/// One thing that happens; it is made an event with what is open at that time.
#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    ToDeadline,
    Start {
        reused: bool,
        random: u64,
    },
    End,
    Request(SnapshotKind),
    Enumerators {
        pick: usize,
        fail: bool,
    },
    Ack {
        pick: usize,
        subtask: usize,
        sender: Sender,
    },
    /// Everybody does what they should, up to the decision.
    Go {
        pick: usize,
    },
    Decline {
        pick: usize,
        subtask: usize,
        sender: Sender,
    },
    Decision {
        noise: Option<u64>,
        outcome: DecisionOutcome,
    },
}

#[derive(Clone, Copy, Debug)]
enum Sender {
    Running,
    Earlier,
}

/// The last one is known to nobody.
const SUBTASKS: [SubtaskId; 4] = [subtask(0, 0), subtask(0, 1), subtask(1, 0), subtask(9, 0)];

const fn subtask(vertex: u32, index: u32) -> SubtaskId {
    SubtaskId {
        vertex: VertexId(vertex),
        index,
    }
}

fn kinds() -> impl Strategy<Value = SnapshotKind> {
    prop_oneof![
        4 => Just(SnapshotKind::Checkpoint),
        3 => Just(SnapshotKind::Savepoint),
        1 => Just(SnapshotKind::Final),
    ]
}

fn outcomes() -> impl Strategy<Value = DecisionOutcome> {
    prop_oneof![
        20 => Just(DecisionOutcome::Committed),
        6 => Just(DecisionOutcome::Unknown),
        4 => Just(DecisionOutcome::NotWritten("no space left".into())),
        1 => Just(DecisionOutcome::Fenced("generation 2".into())),
    ]
}

fn senders() -> impl Strategy<Value = Sender> {
    prop_oneof![5 => Just(Sender::Running), 1 => Just(Sender::Earlier)]
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u64..300).prop_map(Step::Wait),
        3 => Just(Step::ToDeadline),
        5 => (proptest::bool::weighted(0.1), any::<u64>()).prop_map(|(reused, random)| Step::Start { reused, random }),
        1 => Just(Step::End),
        10 => kinds().prop_map(Step::Request),
        6 => (0usize..4, proptest::bool::weighted(0.1)).prop_map(|(pick, fail)| Step::Enumerators { pick, fail }),
        6 => (0usize..5, 0usize..4, senders())
            .prop_map(|(pick, subtask, sender)| Step::Ack { pick, subtask, sender }),
        20 => (0usize..2).prop_map(|pick| Step::Go { pick }),
        2 => (0usize..6, 0usize..4, senders())
            .prop_map(|(pick, subtask, sender)| Step::Decline { pick, subtask, sender }),
        20 => (proptest::option::weighted(0.1, 0u64..20), outcomes())
            .prop_map(|(noise, outcome)| Step::Decision { noise, outcome }),
    ]
}

fn configs() -> impl Strategy<Value = CoordinatorConfig> {
    let times = (
        proptest::option::of(1u64..400),
        0u64..200,
        50u64..1000,
        1u64..100,
        100u64..400,
    );
    let limits = (1usize..4, proptest::option::of(0u32..3), 1usize..4, 1usize..5);
    (times, limits).prop_map(
        |((interval, pause, timeout, retry, retry_max), (open, tolerable, retained, waiting))| {
            CoordinatorConfig {
                interval: interval.map(Duration::from_millis),
                min_pause: Duration::from_millis(pause),
                timeout: Duration::from_millis(timeout),
                max_concurrent: open,
                tolerable_failures: tolerable,
                num_retained: retained,
                max_requests: waiting,
                decision_retry: Duration::from_millis(retry),
                decision_retry_max: Duration::from_millis(retry_max),
            }
        },
    )
}

struct Story {
    coordinator: CheckpointCoordinator,
    witness: Witness,
    now: u64,
    attempt: u32,
    requests: u64,
}

impl Story {
    fn new(config: CoordinatorConfig) -> Story {
        let coordinator = CheckpointCoordinator::new(config.clone(), Vec::new());
        Story {
            coordinator,
            witness: Witness::new(config),
            now: 0,
            attempt: 0,
            requests: 0,
        }
    }

    fn happen(&mut self, event: CkEvent) -> Result<(), String> {
        let mut actions = Vec::new();
        self.coordinator
            .handle(Millis(self.now), event.clone(), &mut actions);
        self.coordinator.check()?;
        self.witness.judge(self.now, &event, &actions)?;
        let pending = self.witness.asked.is_some();
        if self.coordinator.is_decision_pending() != pending {
            return Err(format!("a decision is pending: {pending}"));
        }
        self.witness
            .judge_deadline(self.coordinator.next_deadline().map(|at| at.0))
    }

    /// An open checkpoint, the newest first; beyond those any id, used or not.
    fn picked(&self, pick: usize) -> CheckpointId {
        let newest_first = self.witness.open().rev().nth(pick);
        newest_first.unwrap_or(CheckpointId(
            (self.witness.next_id() + 1).saturating_sub(pick as u64),
        ))
    }

    fn sender(&self, sender: Sender) -> Attempt {
        match sender {
            Sender::Running => self.witness.attempt().unwrap_or(Attempt(self.attempt)),
            Sender::Earlier => Attempt(self.attempt.saturating_sub(1)),
        }
    }

    fn step(&mut self, step: Step) -> Result<(), String> {
        let event = match step {
            Step::Wait(ms) => {
                self.now += ms;
                CkEvent::Tick
            }
            Step::ToDeadline => {
                self.now = self.coordinator.next_deadline().map_or(self.now, |at| at.0);
                CkEvent::Tick
            }
            // Mostly as in life, after the one before has ended.
            Step::Start { random, .. } if self.witness.attempt().is_some() && random % 8 != 0 => {
                CkEvent::Tick
            }
            Step::Start { reused, random } => self.start(reused, random),
            Step::End => CkEvent::AttemptEnded,
            Step::Request(kind) => {
                self.requests += 1;
                CkEvent::Requested {
                    kind,
                    request: RequestId(self.requests),
                }
            }
            Step::Enumerators { pick, fail: false } => CkEvent::EnumeratorsSnapshotted {
                checkpoint: self.picked(pick),
            },
            Step::Enumerators { pick, fail: true } => CkEvent::EnumeratorFailed {
                checkpoint: self.picked(pick),
                reason: "no folder".into(),
            },
            Step::Ack {
                pick,
                subtask,
                sender,
            } => CkEvent::Ack {
                attempt: self.sender(sender),
                checkpoint: self.picked(pick),
                subtask: SUBTASKS[subtask],
            },
            Step::Go { pick } => {
                let (attempt, checkpoint) = (self.sender(Sender::Running), self.picked(pick));
                self.happen(CkEvent::EnumeratorsSnapshotted { checkpoint })?;
                let ack = |subtask: &SubtaskId| CkEvent::Ack {
                    attempt,
                    checkpoint,
                    subtask: *subtask,
                };
                return SUBTASKS[..3]
                    .iter()
                    .try_for_each(|subtask| self.happen(ack(subtask)));
            }
            Step::Decline {
                pick,
                subtask,
                sender,
            } => CkEvent::Declined {
                attempt: self.sender(sender),
                checkpoint: self.picked(pick),
                subtask: SUBTASKS[subtask],
                reason: "disk full".into(),
            },
            Step::Decision { noise, outcome } => self.decision(noise, outcome),
        };
        self.happen(event)
    }

    fn decision(&self, noise: Option<u64>, outcome: DecisionOutcome) -> CkEvent {
        let asked = self.witness.asked.map(|asked| asked.checkpoint);
        let checkpoint = noise.map(CheckpointId).or(asked);
        CkEvent::Decision {
            checkpoint: checkpoint.unwrap_or(CheckpointId(self.witness.next_id())),
            outcome,
        }
    }

    fn start(&mut self, reused: bool, random: u64) -> CkEvent {
        self.attempt += u32::from(!reused);
        CkEvent::AttemptStarted {
            attempt: Attempt(self.attempt),
            subtasks: SUBTASKS[..3].to_vec(),
            restored: self.coordinator.latest(),
            next_id: CheckpointId(1),
            random,
        }
    }

    /// Everything ends: nothing may be left over.
    fn end(&mut self) -> Result<(), String> {
        self.happen(CkEvent::AttemptEnded)?;
        if let Some(asked) = self.witness.asked {
            self.happen(CkEvent::Decision {
                checkpoint: asked.checkpoint,
                outcome: DecisionOutcome::Committed,
            })?;
        }
        self.witness.judge_end()
    }
}

fn stories() -> impl Strategy<Value = (CoordinatorConfig, Vec<Step>)> {
    (configs(), proptest::collection::vec(steps(), 1..150))
}

fn tell(config: CoordinatorConfig, steps: Vec<Step>) -> Result<Story, String> {
    let mut story = Story::new(config);
    story.step(Step::Start {
        reused: false,
        random: 7,
    })?;
    steps.into_iter().try_for_each(|step| story.step(step))?;
    story.end()?;
    Ok(story)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_story_satisfies_the_witness((config, steps) in stories()) {
        tell(config, steps).map_err(TestCaseError::fail)?;
    }
}

/// The stories are only worth something if they reach every corner.
#[test]
fn random_stories_reach_every_corner() {
    let mut runner = TestRunner::deterministic();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for _ in 0..500 {
        let (config, steps) = stories().new_tree(&mut runner).unwrap().current();
        let story = tell(config, steps).unwrap();
        story
            .witness
            .tally
            .seen
            .into_iter()
            .for_each(|(what, times)| *seen.entry(what).or_default() += times);
    }
    let corners = [
        "notified",
        "subsumed",
        "unknown",
        "asked again",
        "expired",
        "late",
        "zombie",
        "fenced",
        "job failed",
        "periodic",
        "discarded",
    ];
    for corner in corners {
        assert!(
            seen.get(corner).copied().unwrap_or(0) >= 50,
            "{corner} is hardly reached: {seen:?}"
        );
    }
}
