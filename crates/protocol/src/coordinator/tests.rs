//! What the checks between two events notice. (Behaviour: `tests/` of this crate.)

use super::*;

const SUBTASK: SubtaskId = SubtaskId {
    vertex: rivermark_types::VertexId(0),
    index: 0,
};

fn handle(coordinator: &mut CheckpointCoordinator, event: CkEvent) {
    coordinator.handle(Millis(1), event, &mut vec![]);
}

/// Checkpoint 1 of attempt 1 waits for its only subtask.
fn open() -> CheckpointCoordinator {
    let config = CoordinatorConfig {
        interval: None,
        ..CoordinatorConfig::default()
    };
    let mut coordinator = CheckpointCoordinator::new(config, vec![]);
    let started = CkEvent::AttemptStarted {
        attempt: Attempt(1),
        subtasks: [SUBTASK].into_iter().collect(),
        restored: None,
        next_id: CheckpointId(1),
        random: 0,
    };
    handle(&mut coordinator, started);
    let requested = CkEvent::Requested {
        kind: SnapshotKind::Checkpoint,
        request: RequestId(1),
    };
    handle(&mut coordinator, requested);
    let checkpoint = CheckpointId(1);
    handle(&mut coordinator, CkEvent::EnumeratorsSnapshotted { checkpoint });
    assert_eq!(coordinator.check(), Ok(()));
    coordinator
}

/// The same, and its decision was asked for.
fn deciding() -> CheckpointCoordinator {
    let mut coordinator = open();
    let ack = CkEvent::Ack {
        attempt: Attempt(1),
        checkpoint: CheckpointId(1),
        subtask: SUBTASK,
    };
    handle(&mut coordinator, ack);
    assert!(coordinator.is_decision_pending());
    assert_eq!(coordinator.check(), Ok(()));
    coordinator
}

fn pending(coordinator: &mut CheckpointCoordinator) -> &mut Pending {
    coordinator.pending.get_mut(&CheckpointId(1)).unwrap()
}

type Break = fn(&mut CheckpointCoordinator);

fn all_noticed(make: fn() -> CheckpointCoordinator, broken: &[(Break, &str)]) {
    for (spoil, says) in broken {
        let mut coordinator = make();
        spoil(&mut coordinator);
        let error = coordinator.check().expect_err(says);
        assert!(error.contains(says), "{error:?} instead of {says:?}");
    }
}

#[test]
fn each_broken_invariant_of_an_open_checkpoint_is_noticed() {
    let broken: [(Break, &str); 9] = [
        (
            |all| {
                all.fenced = true;
                all.pending.clear();
            },
            "fenced, but",
        ),
        (
            |all| {
                all.fenced = true;
                all.run = None;
            },
            "fenced, but",
        ),
        (|all| all.config.max_concurrent = 0, "1 checkpoints are open"),
        (
            |all| all.next_id = CheckpointId(1),
            "not given out, or is used up",
        ),
        (
            |all| {
                let stats = pending(all).stats(CheckpointId(1), Millis(2), CheckpointStatus::Completed);
                all.record.abort(CheckpointId(1), stats);
            },
            "not given out, or is used up",
        ),
        (|all| all.run = None, "its attempt does not run"),
        (
            |all| pending(all).attempt = Attempt(2),
            "its attempt does not run",
        ),
        (
            |all| {
                pending(all).ack(Attempt(1), SUBTASK);
            },
            "it is ready, but nobody decides it",
        ),
        (
            |all| {
                let config = CoordinatorConfig::default();
                let decision = Decision::begin(CheckpointId(9), SnapshotKind::Checkpoint, &config);
                all.decision = Some(decision);
            },
            "checkpoint 9 is being decided, but not open",
        ),
    ];
    all_noticed(open, &broken);
}

#[test]
fn each_broken_invariant_of_a_decision_is_noticed() {
    let broken: [(Break, &str); 3] = [
        (
            |all| all.decision = None,
            "its phase and the decision in flight disagree",
        ),
        (
            |all| pending(all).phase = Phase::Barriers,
            "its phase and the decision in flight disagree",
        ),
        // It may outlive its attempt, but no other may run beside it.
        (
            |all| pending(all).attempt = Attempt(2),
            "its attempt does not run",
        ),
    ];
    all_noticed(deciding, &broken);
    let mut outlives = deciding();
    outlives.run = None;
    assert_eq!(outlives.check(), Ok(()));
}

#[test]
fn more_requests_than_may_wait_are_noticed() {
    let mut coordinator = open();
    coordinator.config.max_requests = 1;
    coordinator.requests.push(SnapshotKind::Checkpoint, RequestId(7));
    assert_eq!(coordinator.check(), Ok(()));
    coordinator.requests.push(SnapshotKind::Checkpoint, RequestId(8));
    assert_eq!(coordinator.check(), Err("2 requests wait".to_owned()));
}

#[test]
fn two_checkpoints_in_their_enumerator_phase_are_noticed() {
    let mut coordinator = open();
    coordinator.config.max_concurrent = 3;
    for id in [2, 3] {
        coordinator.next_id = CheckpointId(id + 1);
        let subtasks = [SUBTASK].into_iter();
        let pending = Pending::new(SnapshotKind::Checkpoint, Attempt(1), subtasks, None, Millis(1));
        coordinator.pending.insert(CheckpointId(id), pending);
        assert_eq!(coordinator.check().is_ok(), id == 2);
    }
}
