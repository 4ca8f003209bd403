//! Sentences of hand-made records.

use super::*;
use rivermark_types::{Attempt, CheckpointId, Generation, SnapshotKind, Timestamp};

fn subtask(name: &str, slot: u32, moments: [u64; 7]) -> SubtaskRecord {
    let [first, last, cut, captured, encoded, stored, acked] = moments.map(Some);
    SubtaskRecord {
        name: name.to_owned(),
        vertex: name.split('/').next().unwrap().to_owned(),
        slot,
        is_source: name.starts_with("source"),
        first_barrier: first,
        last_barrier: last,
        cut,
        captured,
        encoded,
        stored,
        acked,
        known_until: last.unwrap(),
        ..SubtaskRecord::default()
    }
}

fn record(ended: u64, subtasks: Vec<SubtaskRecord>) -> CheckpointRecord {
    CheckpointRecord {
        format: 1,
        job: "job".to_owned(),
        checkpoint: CheckpointId(7),
        kind: SnapshotKind::Checkpoint,
        generation: Generation(1),
        attempt: Attempt(1),
        alignment: "aligned".to_owned(),
        triggered_at: Timestamp(0),
        given_up: None,
        barriers_sent: Some(0),
        deciding: Some(ended),
        ended,
        bytes: 1_200_000,
        rows: 10,
        store: StoreRecord {
            objects: 1,
            ..StoreRecord::default()
        },
        subtasks,
    }
}

fn from(name: &str, subtask: SubtaskRecord) -> SubtaskRecord {
    SubtaskRecord {
        last_from: Some(name.to_owned()),
        ..subtask
    }
}

fn ms(name: &str, ms: u64) -> std::collections::BTreeMap<String, u64> {
    [(name.to_owned(), ms)].into()
}

/// A source whose output a map takes, and a sink behind it that takes nearly nothing.
fn slow_sink() -> CheckpointRecord {
    let mut source = subtask("source/0", 0, [100, 100, 100, 100, 42_000, 43_000, 43_000]);
    source.before.busy = ms("source", 90);
    let mut map = from(
        "source/0",
        subtask(
            "map/3",
            1,
            [20_100, 38_300, 38_300, 38_300, 42_000, 43_000, 43_000],
        ),
    );
    map.before.no_room = ms("sink file/0", 38_000);
    map.before.busy = ms("map", 200);
    let mut sink = from(
        "map/3",
        subtask(
            "sink file/0",
            2,
            [39_300, 39_300, 39_400, 39_500, 42_000, 43_000, 43_000],
        ),
    );
    sink.before.waits = ms("sink file", 39_000);
    record(43_100, vec![source, map, sink])
}

#[test]
fn a_slow_sink_is_named_through_what_waits_before_it() {
    let explained = explain(&slow_sink());
    assert_eq!(
        explained.sentence,
        "43.1 s = 38.2 s the barrier waited before map/3, held back by sink file/0 (backpressure), where sink file waited for \
         what is outside + 2.5 s rows were encoded + 1.0 s the barrier waited before sink file/0, where sink file waited for what \
         is outside + 1.0 s the store took 1.2 MB in 1 object, as fast as the store is + 400 ms for the rest"
    );
    let sum: u64 = explained.path.iter().map(|piece| piece.ms).sum();
    assert_eq!(sum, explained.total_ms, "the pieces are all of it");
}

#[test]
fn a_checkpoint_that_expired_is_explained_by_what_it_still_waited_for() {
    let mut expired = slow_sink();
    (expired.ended, expired.deciding) = (60_000, None);
    expired.given_up = Some("it took longer than the time-out".to_owned());
    let [source, map, sink] = &mut expired.subtasks[..] else {
        unreachable!()
    };
    for subtask in [&mut *map, &mut *sink] {
        (subtask.first_barrier, subtask.last_barrier, subtask.last_from) = (None, None, None);
        (subtask.cut, subtask.captured, subtask.encoded) = (None, None, None);
    }
    for subtask in [source, map, sink] {
        (subtask.stored, subtask.acked, subtask.known_until) = (None, None, 60_000);
    }
    let sentence = explain(&expired).sentence;
    assert_eq!(
        sentence,
        "given up after 1 min 0 s (it took longer than the time-out) = 59.9 s the barrier waited before map/3, held back by sink \
         file/0 (backpressure), where sink file waited for what is outside + 100 ms for the rest"
    );
    let table = checkpoint_table(&expired);
    assert!(table.contains("> 1 min 0 s"), "{table}");
}

#[test]
fn one_call_is_told_also_where_it_held_the_slot_of_another_subtask() {
    let call = |rows| {
        Some(CallRecord {
            operator: "lookup".to_owned(),
            ms: 9_000,
            rows,
        })
    };
    let source = subtask("source/0", 0, [9_000, 9_000, 9_000, 9_001, 9_001, 9_001, 9_001]);
    let mut map = from(
        "source/0",
        subtask("lookup/0", 0, [9_000, 9_000, 9_002, 9_002, 9_002, 9_002, 9_003]),
    );
    map.before.longest = call(1);
    let sentence = explain(&record(9_004, vec![source.clone(), map.clone()])).sentence;
    assert!(
        sentence.contains(
            "9.0 s the barrier waited before source/0, whose slot was held by lookup/0, which was inside one call of lookup for \
             9.0 s, for 1 row: nothing passes inside a call"
        ),
        "{sentence}"
    );
    // In a slot of its own.
    let source = subtask("source/0", 1, [1, 1, 1, 9_001, 9_001, 9_001, 9_001]);
    let sentence = explain(&record(9_004, vec![source, map])).sentence;
    assert!(
        sentence.contains("the barrier waited before lookup/0, which was inside one call of lookup"),
        "{sentence}"
    );
}

#[test]
fn skew_of_state_and_of_records_is_told() {
    let subtasks = |index: u64, rows, captured| {
        let mut of = from(
            "source/0",
            subtask(
                &format!("count/{index}"),
                1,
                [2, 2, 3, captured, captured, captured, captured],
            ),
        );
        of.rows = rows;
        of
    };
    let source = subtask("source/0", 0, [1; 7]);
    let skewed = record(
        5_003,
        vec![
            source,
            subtasks(0, 9, 10),
            subtasks(1, 5_000, 5_002),
            subtasks(2, 11, 10),
        ],
    );
    let sentence = explain(&skewed).sentence;
    assert!(
        sentence.starts_with("5.0 s = 4.9 s the state of count/1 (5,000 rows, 0 B) was copied, which has 5,000 rows of state, the subtask in the \
                              middle 11 (skew)"),
        "{sentence}"
    );
    let mut busy = skewed;
    (busy.subtasks[2].last_barrier, busy.subtasks[2].cut) = (Some(5_000), Some(5_000));
    busy.subtasks[2].before.busy = ms("count", 4_900);
    busy.subtasks[2].records_in = 70_000;
    busy.subtasks[1].records_in = 1_000;
    busy.subtasks[3].records_in = 1_010;
    let sentence = explain(&busy).sentence;
    assert!(
        sentence.contains("the barrier waited before count/1, which was busy in count with 70,000 records"),
        "{sentence}"
    );
}

#[test]
fn a_store_that_had_to_be_asked_again_and_a_long_freeze_are_told() {
    let mut slow = record(8_000, vec![subtask("source/0", 0, [1, 1, 1, 1, 2, 7_990, 7_990])]);
    slow.store.retries = 3;
    slow.store.last_error = Some("it is away".to_owned());
    let sentence = explain(&slow).sentence;
    assert!(
        sentence.starts_with(
            "8.0 s = 7.9 s the store took 1.2 MB in 1 object, which had to be asked 3 times again, the last time because it is away"
        ),
        "{sentence}"
    );
    let mut sink = from(
        "source/0",
        subtask("sink/0", 0, [2, 2, 6_000, 6_000, 6_001, 6_002, 6_002]),
    );
    sink.freeze.waits = ms("sink", 5_990);
    let frozen = record(6_003, vec![subtask("source/0", 0, [1; 7]), sink]);
    let sentence = explain(&frozen).sentence;
    assert!(
        sentence.starts_with(
            "6.0 s = 5.9 s the barrier passed through sink/0, where sink waited for what is outside"
        ),
        "{sentence}"
    );
}

#[test]
fn a_channel_that_keeps_its_order_is_named_where_barriers_were_to_overtake() {
    let source = subtask("source/0", 0, [1; 7]);
    let mut map = subtask("map/0", 1, [1, 3_000, 3_000, 3_001, 3_002, 3_003, 3_003]);
    map.overtook = true;
    map.in_order = Some(("source/0".to_owned(), 2_990));
    map.before.busy = ms("map", 2_900);
    let sentence = explain(&record(3_004, vec![source, map])).sentence;
    assert!(
        sentence.contains(
            "2.9 s the barrier waited before map/0, which was busy in map, and no barrier may overtake in the channel from \
             source/0"
        ),
        "{sentence}"
    );
}

#[test]
fn any_record_is_explained_and_its_pieces_never_exceed_the_whole() {
    let whole = slow_sink();
    // Every way to know less.
    for which in 0..whole.subtasks.len() {
        for kept in 0..7 {
            let mut less = whole.clone();
            let of = &mut less.subtasks[which];
            for (at, moment) in [
                &mut of.first_barrier,
                &mut of.last_barrier,
                &mut of.cut,
                &mut of.captured,
                &mut of.encoded,
                &mut of.stored,
                &mut of.acked,
            ]
            .into_iter()
            .enumerate()
            {
                if at >= kept {
                    *moment = None;
                }
            }
            of.last_from = None;
            let explained = explain(&less);
            let sum: u64 = explained.path.iter().map(|piece| piece.ms).sum();
            assert!(sum <= explained.total_ms, "{explained:?}");
            assert!(!explained.sentence.is_empty());
        }
    }
    let json = serde_json::to_string(&whole).unwrap();
    assert_eq!(serde_json::from_str::<CheckpointRecord>(&json).unwrap(), whole);
}

#[test]
fn a_recovery_is_told_from_the_failure_until_everything_is_worked_off() {
    let mut recovery = RecoveryRecord::begun(
        "job".into(),
        Generation(1),
        Timestamp(0),
        Some("map/1: it broke".into()),
    );
    recovery.from = Some(CheckpointId(12));
    (recovery.taken_down, recovery.restarted) = (Some(40), 1_040);
    (recovery.deployed, recovery.opened, recovery.running) = (Some(1_100), Some(4_100), Some(4_150));
    recovery.subtasks = vec![
        RestoredSubtask {
            name: "count/0".into(),
            download_ms: 2_000,
            bytes: 3_000_000,
            local_bytes: 2_000_000,
            decode_ms: 900,
            in_flight_ms: 50,
            in_flight_rows: 700,
            opened: Some(4_100),
            worked_off: Some(4_350),
            ..RestoredSubtask::default()
        },
        RestoredSubtask {
            name: "sink/0".into(),
            slot: 1,
            opened: Some(1_110),
            ..RestoredSubtask::default()
        },
    ];
    assert_eq!(
        explain_recovery(&recovery),
        "recovery from checkpoint 12 after \"map/1: it broke\": 4.3 s = 40 ms the old tasks ended and the last decision was known + 1.0 s \
         the restart strategy paused + 60 ms the checkpoint's manifest and indexes were read + 3.0 s until count/0 was open, whose \
         slot read 3.0 MB (2.0 MB of it from local copies) in 2.0 s, decoded and opened in 900 ms and read what was in flight in 50 ms, most of it for count/0 + 50 ms \
         sinks committed and aborted what was restored, sources found their splits + 200 ms count/0 worked off what was in flight \
         at the checkpoint (700 records)"
    );
    assert!(recovery_table(&recovery).contains("count/0"));
}
