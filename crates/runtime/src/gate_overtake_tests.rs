//! Barriers that overtake at a gate: what is captured, and what comes first after a restore.

use super::*;
use crate::channel::{Announcements, Credit, Sender, watched_channel};
use crate::in_flight::RestoredInput;
use crate::seams::NoSeams;
use crate::waker::SlotWaker;
use rivermark_data::{Typed, TypedEdge};
use rivermark_state::in_flight::{InFlightMark, Mark};
use rivermark_state::{InFlightChannel, batch_rows};
use rivermark_types::{SnapshotKind, Uid, VertexId};
use std::time::Duration;

const CREDIT: Credit = Credit {
    rows: 1_000,
    bytes: 1 << 20,
};

fn wired(at: u32, keeps_order: bool, announcements: &Announcements) -> (Sender, InputChannel) {
    let (sender, receiver) = watched_channel(
        CREDIT,
        SlotWaker::default(),
        SlotWaker::default(),
        Arc::default(),
        announcements.clone(),
    );
    let wired = InputChannel {
        input: InputId(0),
        from: format!("source/{at}"),
        producer: None,
        receiver,
        origin: ChannelOrigin {
            operator: Uid::from("source"),
            port: 0,
            index: at,
            edge: Arc::new(TypedEdge::<u64>::new(batch_rows::<u64>())),
            by_key: false,
            keeps_order,
        },
    };
    (sender, wired)
}

fn gate(in_order: &[bool]) -> (Gate, Vec<Sender>) {
    let announcements = Announcements::default();
    let channels = (0..).zip(in_order);
    let channels = channels.map(|(at, keeps_order)| wired(at, *keeps_order, &announcements));
    let (senders, inputs) = channels.unzip();
    let subtask = SubtaskId {
        vertex: VertexId(1),
        index: 0,
    };
    let mode = AlignMode::Unaligned {
        after: Duration::ZERO,
    };
    let mut gate = Gate::new(mode, inputs, Timestamp::MIN, subtask, Arc::new(NoSeams));
    gate.listen_to(announcements);
    (gate, senders)
}

fn rows(range: std::ops::Range<u64>) -> Element {
    Element::Batch(Batch::new(Typed::untimed(range.collect())))
}

fn barrier(id: u64) -> Element {
    Element::Barrier(Barrier {
        checkpoint: CheckpointId(id),
        kind: SnapshotKind::Checkpoint,
    })
}

fn now() -> Millis {
    Millis(7)
}

/// What the gate delivers until it has nothing more.
fn deliveries(gate: &mut Gate) -> Vec<String> {
    let mut seen = vec![];
    while let Some(delivery) = gate.poll(now()) {
        seen.push(match delivery {
            Delivery::Rows(_, batch) => format!("{:?}", batch.take::<u64>().unwrap().values),
            Delivery::Watermark(watermark) => format!("watermark {}", watermark.0),
            Delivery::Status(activity) => format!("{activity:?}"),
            Delivery::Cut(barrier) => format!("cut {}", barrier.checkpoint),
            Delivery::Nothing => continue,
        });
    }
    seen
}

fn captured(gate: &mut Gate) -> Option<Vec<InFlightChannel>> {
    gate.take_captured()
        .map(|captured| captured.entries().cloned().collect())
}

fn shown(channel: &InFlightChannel) -> (u32, i64, u64, Vec<InFlightMark>) {
    let InFlightChannel {
        index,
        watermark,
        rows,
        marks,
        ..
    } = channel;
    (*index, watermark.0, *rows, marks.clone())
}

#[test]
fn what_lies_in_front_of_the_barriers_is_captured_and_still_delivered() {
    let (mut gate, senders) = gate(&[false, false]);
    senders[0].send(Element::Watermark(Timestamp(5)));
    senders[1].send(Element::Watermark(Timestamp(4)));
    assert_eq!(deliveries(&mut gate), ["watermark 4"]);
    senders[0].send(rows(0..2));
    senders[0].send(Element::Watermark(Timestamp(6)));
    senders[0].send(rows(2..3));
    gate.hear(now);
    assert_eq!(gate.overtake_at(), None, "no barrier is there");
    senders[0].send(barrier(1));
    senders[0].send(rows(3..4));
    gate.hear(now);
    assert_eq!(gate.overtake_at(), Some(now()));
    // One batch was delivered, and one row of it was taken.
    assert!(matches!(gate.poll(now()), Some(Delivery::Rows(..))));
    let cut = gate.overtake(now(), vec![rows(1..2)]);
    assert!(matches!(cut, Delivery::Cut(barrier) if barrier.checkpoint == CheckpointId(1)));
    assert!(
        captured(&mut gate).is_none(),
        "the other channel's barrier is not sent yet"
    );
    assert!(gate.captures(CheckpointId(1)));
    senders[1].send(rows(10..12));
    assert_eq!(deliveries(&mut gate), ["[10, 11]", "[2]", "[3]"]);
    senders[1].send(rows(12..13));
    senders[1].send(barrier(1));
    senders[1].send(rows(13..14));
    gate.hear(now);
    let channels = captured(&mut gate).unwrap();
    let risen = InFlightMark {
        after: 1,
        mark: Mark::Watermark(Timestamp(6)),
    };
    assert_eq!(shown(&channels[0]), (0, 5, 2, vec![risen]));
    assert_eq!(shown(&channels[1]), (1, 4, 3, vec![]));
    assert!(!gate.captures(CheckpointId(1)));
    assert_eq!(deliveries(&mut gate), ["[12]", "[13]"], "the barriers are gone");
}

#[test]
fn a_channel_that_keeps_its_order_is_waited_for() {
    let (mut gate, senders) = gate(&[false, true]);
    senders[0].send(rows(0..1));
    senders[0].send(barrier(1));
    senders[1].send(rows(1..2));
    senders[1].send(barrier(1));
    gate.hear(now);
    assert_eq!(gate.overtake_at(), None);
    assert!(matches!(gate.poll(now()), Some(Delivery::Rows(..))));
    assert!(matches!(gate.poll(now()), Some(Delivery::Rows(..))));
    senders[0].send(rows(2..3));
    assert!(
        matches!(gate.poll(now()), Some(Delivery::Nothing)),
        "the barrier of channel 0"
    );
    assert_eq!(
        deliveries(&mut gate),
        ["cut 1", "[2]"],
        "nothing was in front of the barriers: aligned"
    );
}

#[test]
fn an_abort_gives_up_what_is_captured() {
    let (mut gate, senders) = gate(&[false, false]);
    senders[0].send(rows(0..1));
    senders[0].send(barrier(1));
    gate.hear(now);
    gate.overtake(now(), vec![]);
    gate.abort(now(), CheckpointId(1));
    assert!(gate.gave_up(CheckpointId(1)) && !gate.captures(CheckpointId(1)));
    senders[1].send(barrier(1));
    gate.hear(now);
    assert!(captured(&mut gate).is_none());
    assert_eq!(deliveries(&mut gate), ["[0]"]);
}

/// What was in flight in a channel.
fn restored(at: u32, watermark: i64, elements: Vec<Element>) -> RestoredInput {
    let (sender, wired) = wired(at, true, &Announcements::default());
    elements.into_iter().for_each(|element| sender.send(element));
    sender.send(Element::End);
    RestoredInput {
        wired,
        watermark: Timestamp(watermark),
        idle: false,
    }
}

#[test]
fn what_was_in_flight_comes_before_everything_with_its_own_watermarks() {
    let (mut gate, senders) = gate(&[false, false]);
    senders[0].send(rows(100..101));
    senders[0].send(Element::Watermark(Timestamp(90)));
    senders[0].send(barrier(2));
    senders[1].send(Element::Watermark(Timestamp(90)));
    gate.resume(vec![
        restored(
            0,
            7,
            vec![rows(0..1), Element::Watermark(Timestamp(9)), rows(1..2)],
        ),
        restored(1, 5, vec![Element::Watermark(Timestamp(8))]),
    ]);
    gate.hear(now);
    assert_eq!(gate.overtake_at(), None, "no barrier before what was in flight");
    let first: Vec<_> = (0..7).filter_map(|_| gate.poll(now())).collect();
    assert_eq!(first.len(), 7);
    gate.hear(now);
    assert_eq!(gate.overtake_at(), Some(now()), "now it is heard of");
    let (mut again, senders) = self::gate(&[false]);
    senders[0].send(rows(100..101));
    senders[0].send(Element::Watermark(Timestamp(90)));
    let longer = vec![
        rows(0..1),
        Element::Watermark(Timestamp(9)),
        rows(1..2),
        Element::Watermark(Timestamp(20)),
        rows(2..3),
    ];
    again.resume(vec![
        restored(0, 7, longer),
        restored(1, 5, vec![Element::Watermark(Timestamp(8))]),
    ]);
    let expected = [
        "watermark 5",
        "[0]",
        "watermark 7",
        "watermark 8",
        "[1]",
        "[2]",
        "[100]",
        "watermark 90",
    ];
    assert_eq!(
        deliveries(&mut again),
        expected,
        "a channel at its end holds the watermark back at 8"
    );
}

#[test]
fn what_was_in_flight_is_never_idle_since_nobody_knows_who_comes_behind_it() {
    let (mut gate, senders) = gate(&[false]);
    let idle = Element::Status(Activity::Idle);
    let elements = vec![rows(0..1), Element::Watermark(Timestamp(9)), idle.clone()];
    gate.resume(vec![
        RestoredInput {
            idle: true,
            ..restored(0, 50, vec![rows(1..2)])
        },
        restored(1, 7, elements),
    ]);
    let expected = ["watermark 7", "[1]", "[0]", "watermark 9"];
    assert_eq!(deliveries(&mut gate), expected, "neither idle, nor risen to 50");
    senders[0].send(rows(2..3));
    senders[0].send(idle);
    assert_eq!(
        deliveries(&mut gate),
        ["[2]", "Idle"],
        "of the real ones it is told"
    );
}
