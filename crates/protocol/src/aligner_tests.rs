//! What the checks between two events notice, and how far back aborts are remembered. (Behaviour: `tests/`.)

use super::*;

fn barrier(checkpoint: u64) -> Barrier {
    Barrier {
        checkpoint: CheckpointId(checkpoint),
        kind: SnapshotKind::Checkpoint,
    }
}

fn handle(aligner: &mut Aligner, event: AlignEvent) -> Vec<AlignAction> {
    let mut out = vec![];
    aligner.handle(Millis(1), event, &mut out);
    out
}

fn deliver(aligner: &mut Aligner, channel: u32, checkpoint: u64) -> Vec<AlignAction> {
    handle(
        aligner,
        AlignEvent::Barrier {
            channel: ChannelIndex(channel),
            barrier: barrier(checkpoint),
        },
    )
}

/// One of three channels has delivered barrier 5 and is blocked.
fn aligning() -> Aligner {
    let mut aligner = Aligner::new(AlignMode::ExactlyOnce, 3);
    deliver(&mut aligner, 0, 5);
    assert_eq!(aligner.check(), Ok(()));
    aligner
}

#[test]
fn each_broken_invariant_is_noticed() {
    type Break = fn(&mut Aligner);
    let broken: [(Break, &str); 7] = [
        (
            |aligner| aligner.current = None,
            "1 channels blocked without an alignment",
        ),
        (
            |aligner| aligner.settled = Some(CheckpointId(5)),
            "aligning 5, which is settled",
        ),
        (
            |aligner| aligner.current.as_mut().unwrap().missing = 1,
            "2 barriers of 5 are missing, 1 counted",
        ),
        (
            |aligner| {
                aligner.channels[1].ended = true;
                aligner.channels[2].ended = true;
                aligner.current.as_mut().unwrap().missing = 0;
            },
            "0 barriers of 5 are missing, 0 counted",
        ),
        (
            |aligner| aligner.channels[0].blocked = false,
            "0 channels blocked, 0 of them delivered 5, 1 expected",
        ),
        (
            |aligner| aligner.channels[1].blocked = true,
            "2 channels blocked, 1 of them delivered 5, 1 expected",
        ),
        (
            |aligner| {
                aligner.channels[2].in_order = true;
                aligner.current.as_mut().unwrap().overtook = true;
            },
            "5 overtook on a channel that keeps its order",
        ),
    ];
    for (spoil, says) in broken {
        let mut aligner = aligning();
        spoil(&mut aligner);
        assert_eq!(aligner.check(), Err(says.to_owned()));
    }
}

#[test]
fn so_many_aborts_are_remembered_and_then_the_oldest_is_forgotten() {
    let abort = |aligner: &mut Aligner, checkpoint| {
        let checkpoint = CheckpointId(checkpoint);
        handle(aligner, AlignEvent::CheckpointAborted { checkpoint })
    };
    let mut full = Aligner::new(AlignMode::ExactlyOnce, 2);
    for checkpoint in 1..=REMEMBERED_ABORTS as u64 {
        abort(&mut full, checkpoint);
    }
    assert_eq!(deliver(&mut full.clone(), 0, 1), [], "it is remembered");
    abort(&mut full, REMEMBERED_ABORTS as u64 + 1);
    assert_eq!(deliver(&mut full.clone(), 0, 2), [], "the next is remembered");
    assert_eq!(
        deliver(&mut full, 0, 1),
        [AlignAction::Block(ChannelIndex(0))],
        "it is forgotten"
    );
}
