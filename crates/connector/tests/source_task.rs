//! The source task: positions in snapshots, watermarks under a hold, what it tells the master.

#![allow(clippy::unwrap_used, reason = "tests")]

mod bench;

use bench::{Bench, Out, barrier};
use rivermark_connector::memory::collection::RangeSplit;
use rivermark_connector::{CollectionSource, SourceNode, WatermarkStrategy, endless_sequence};
use rivermark_env::{Env, RealEnv};
use rivermark_runtime::source::SPLITS;
use rivermark_runtime::{Lists, NodeBody, OperatorEvent, SourceAssignment, SourceFactory, SourcePoll};
use rivermark_types::{CheckpointId, SnapshotKind, Timestamp};
use std::sync::Arc;
use std::time::Duration;

fn in_time() -> WatermarkStrategy<i64> {
    WatermarkStrategy::bounded_out_of_orderness(Duration::from_millis(10))
        .with_timestamp(|row| Timestamp(*row))
}

/// A source of these times; every rise of the watermark is told at once.
fn source(env: &Env, rows: &[i64]) -> Bench {
    let node =
        SourceNode::new(CollectionSource::new(rows.to_vec()), in_time()).watermark_interval(Duration::ZERO);
    Bench::new(env, NodeBody::Source(Arc::new(node)), Bench::info(1), None).unwrap()
}

fn assign(start: u64, end: u64, position: u64, watermark: i64) -> OperatorEvent {
    let split = serde_json::to_value(RangeSplit { start, end }).unwrap();
    OperatorEvent::Assign(vec![SourceAssignment {
        split,
        position,
        watermark: Timestamp(watermark),
    }])
}

fn held(lists: &Lists) -> Vec<SourceAssignment> {
    lists[SPLITS]
        .iter()
        .map(|entry| serde_json::from_value(entry.clone()).unwrap())
        .collect()
}

fn row(time: i64) -> Out<i64> {
    Out::Row(time, Some(time))
}

#[test]
fn it_asks_reads_and_ends() {
    let world = RealEnv::start().unwrap();
    let mut bench = source(&world.env(), &[100, 300, 200]);
    assert_eq!(bench.poll::<i64>().unwrap(), (SourcePoll::Idle(None), vec![]));
    assert_eq!(bench.poll::<i64>().unwrap(), (SourcePoll::Idle(None), vec![]));
    assert_eq!(bench.reports(), ["WantsSplits"], "asked once");
    bench.event(assign(0, 3, 0, i64::MIN)).unwrap();
    bench.event(OperatorEvent::WatermarkHold(Timestamp::MAX)).unwrap();
    let expected = vec![row(100), row(300), row(200), Out::Watermark(289)];
    assert_eq!(bench.poll_all::<i64>().unwrap(), expected);
    let reports = bench.reports();
    assert!(
        reports[0].starts_with("FinishedSplit(") && reports[0].contains("\"end\": Number(3)"),
        "{reports:?}"
    );
    assert_eq!(reports[1..], ["WantsSplits"]);
    bench.event(OperatorEvent::NoMoreSplits).unwrap();
    assert_eq!(bench.poll_all::<i64>().unwrap(), [Out::Watermark(i64::MAX)]);
    assert_eq!(bench.poll_all::<i64>().unwrap(), []);
    assert_eq!(bench.reports(), ["Dry"], "told once");
}

#[test]
fn unassigned_splits_hold_the_watermark_back_and_it_never_falls() {
    let world = RealEnv::start().unwrap();
    let mut bench = source(&world.env(), &[100, 200, 300, 150]);
    bench.event(assign(0, 1, 0, i64::MIN)).unwrap();
    // Nothing is promised before the hold is known.
    assert_eq!(bench.poll_all::<i64>().unwrap(), [row(100)]);
    bench.event(OperatorEvent::WatermarkHold(Timestamp(50))).unwrap();
    assert_eq!(bench.poll_all::<i64>().unwrap(), [Out::Watermark(50)]);
    bench.event(assign(1, 3, 0, i64::MIN)).unwrap();
    bench.event(OperatorEvent::WatermarkHold(Timestamp(139))).unwrap();
    assert_eq!(
        bench.poll_all::<i64>().unwrap(),
        [row(200), row(300), Out::Watermark(139)]
    );
    bench.event(assign(3, 4, 0, i64::MIN)).unwrap();
    bench.event(OperatorEvent::WatermarkHold(Timestamp(20))).unwrap();
    assert_eq!(bench.poll_all::<i64>().unwrap(), [row(150)]);
}

#[test]
fn a_snapshot_at_any_moment_resumes_exactly() {
    let world = RealEnv::start().unwrap();
    let env = world.env();
    let rows: Vec<i64> = (0..10_000).collect();
    for polls in 0..4 {
        let mut bench = source(&env, &rows);
        bench.event(assign(0, 5_000, 0, i64::MIN)).unwrap();
        bench.event(assign(5_000, 10_000, 0, i64::MIN)).unwrap();
        let mut seen: Vec<i64> = Vec::new();
        let take = |out: Vec<Out<i64>>, seen: &mut Vec<i64>| {
            seen.extend(out.into_iter().filter_map(|out| {
                if let Out::Row(row, _) = out {
                    Some(row)
                } else {
                    None
                }
            }));
        };
        for _ in 0..polls {
            take(bench.poll::<i64>().unwrap().1, &mut seen);
        }
        let lists = world
            .block_on(bench.snapshot(barrier(1, SnapshotKind::Checkpoint)))
            .unwrap();
        // What it emits after the barrier is not in the snapshot.
        bench.poll::<i64>().unwrap();
        let mut next = source(&env, &rows);
        for assignment in held(&lists) {
            assert!(assignment.watermark <= Timestamp(seen.last().copied().unwrap_or(i64::MIN)));
            next.event(OperatorEvent::Assign(vec![assignment])).unwrap();
        }
        take(next.poll_all::<i64>().unwrap(), &mut seen);
        assert_eq!(seen, rows, "after {polls} polls");
    }
}

#[test]
fn a_rate_is_kept_and_an_endless_source_reads_all_its_splits() {
    let world = RealEnv::start().unwrap();
    let node = SourceNode::new(endless_sequence(), WatermarkStrategy::none()).rate(1000);
    let mut enumerator = node.enumerator(&world.env()).unwrap();
    let found = world.block_on(enumerator.discover(3)).unwrap();
    let mut bench = Bench::new(
        &world.env(),
        NodeBody::Source(Arc::new(node)),
        Bench::info(1),
        None,
    )
    .unwrap();
    for split in found.splits {
        let split = SourceAssignment {
            split: split.split,
            position: 0,
            watermark: Timestamp::MIN,
        };
        bench.event(OperatorEvent::Assign(vec![split])).unwrap();
    }
    let (mut seen, mut rests) = (Vec::new(), 0);
    let all_splits = |seen: &[u64]| (0..3).all(|split| seen.iter().any(|row| row % 3 == split));
    // On a busy machine one poll may be allowed many rows, all of one split.
    while seen.len() < 30 || rests == 0 || !all_splits(&seen) {
        let (poll, out) = bench.poll::<u64>().unwrap();
        seen.extend(out.into_iter().map(|out| {
            if let Out::Row(row, None) = out {
                row
            } else {
                panic!("{out:?}")
            }
        }));
        if let SourcePoll::Idle(until) = poll {
            let until = until.unwrap();
            rests += 1;
            world.block_on(world.env().sleep(until.since(world.env().now())));
        }
    }
    assert!(rests > 0, "it rests when it has used up its allowance");
    assert_eq!(bench.reports(), ["WantsSplits"], "it goes on asking");
    let read = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), read, "no row comes twice");
}

#[test]
fn a_split_of_another_source_is_refused() {
    let world = RealEnv::start().unwrap();
    let mut bench = source(&world.env(), &[1]);
    let split = SourceAssignment {
        split: serde_json::json!({"topic": "x"}),
        position: 0,
        watermark: Timestamp::MIN,
    };
    let failure = bench.event(OperatorEvent::Assign(vec![split])).unwrap_err();
    assert!(
        failure.message.contains("collection") && failure.message.contains("topic"),
        "{failure}"
    );
    let failure = bench.event(assign(0, 9, 0, i64::MIN)).unwrap_err();
    assert!(failure.message.contains("has 1 rows"), "{failure}");
}

/// A reader of endless numbers that notes down what it is told of decided checkpoints; its last split ends at 10.
mod acknowledging {
    use rivermark_connector::{
        Found, ReadPoll, ReadRows, ReaderCx, Source, SplitEnumerator, SplitIndex, SplitReader,
    };
    use rivermark_env::Env;
    use rivermark_types::Result;
    use serde_json::Value;
    use std::sync::{Arc, Mutex};

    pub type Told = Arc<Mutex<Vec<(u32, u64)>>>;

    #[derive(Clone, Default)]
    pub struct Numbers(pub Told);

    pub struct Reader {
        told: Told,
        held: Vec<(SplitIndex, u64, u64)>,
    }

    pub struct Nothing;

    impl SplitEnumerator for Nothing {
        type Split = u64;
        async fn discover(&mut self, _: u32) -> Result<Found<u64>> {
            let splits = Vec::new();
            Ok(Found {
                splits,
                exhausted: true,
            })
        }
        fn snapshot(&self) -> Result<Value> {
            Ok(Value::Null)
        }
        fn restore(&mut self, _: Value) -> Result<()> {
            Ok(())
        }
    }

    impl Source for Numbers {
        type Row = u64;
        type Split = u64;
        type Reader = Reader;
        type Enumerator = Nothing;
        fn name(&self) -> String {
            "numbers".into()
        }
        fn reader(&self, _: ReaderCx) -> Result<Reader> {
            Ok(Reader {
                told: self.0.clone(),
                held: Vec::new(),
            })
        }
        fn enumerator(&self, _: &Env) -> Result<Nothing> {
            Ok(Nothing)
        }
    }

    impl SplitReader for Reader {
        type Split = u64;
        type Row = u64;
        fn assign(&mut self, index: SplitIndex, end: u64, position: u64) -> Result<()> {
            self.held.push((index, end, position));
            Ok(())
        }
        fn next(&mut self, _: usize, out: &mut ReadRows<u64>) -> Result<ReadPoll> {
            let (index, end, position) = self.held.remove(0);
            if position == end {
                return Ok(ReadPoll::Done(index));
            }
            out.fill_consecutive(position, std::iter::once(position));
            self.held.push((index, end, position + 1));
            Ok(ReadPoll::Rows(index))
        }
        fn committed(&mut self, index: SplitIndex, position: u64) -> Result<()> {
            self.told.lock().unwrap().push((index.0, position));
            Ok(())
        }
    }
}

#[test]
fn a_reader_hears_the_positions_of_decided_checkpoints_and_of_no_others() {
    let world = RealEnv::start().unwrap();
    let numbers = acknowledging::Numbers::default();
    let told = numbers.0.clone();
    let heard = || std::mem::take(&mut *told.lock().unwrap());
    let node = SourceNode::new(numbers, WatermarkStrategy::none());
    let mut bench = Bench::new(
        &world.env(),
        NodeBody::Source(Arc::new(node)),
        Bench::info(1),
        None,
    )
    .unwrap();
    let snapshot = |bench: &mut Bench, id| {
        world
            .block_on(bench.snapshot(barrier(id, SnapshotKind::Checkpoint)))
            .unwrap()
    };
    for end in [1_000_000, 2] {
        let split = serde_json::json!(end);
        bench
            .event(OperatorEvent::Assign(vec![SourceAssignment {
                split,
                position: 0,
                watermark: Timestamp::MIN,
            }]))
            .unwrap();
    }
    let poll = |bench: &mut Bench| drop(bench.poll::<u64>().unwrap());
    poll(&mut bench);
    snapshot(&mut bench, 1);
    poll(&mut bench);
    snapshot(&mut bench, 2);
    poll(&mut bench);
    bench.event(OperatorEvent::Aborted(CheckpointId(1))).unwrap();
    assert_eq!(heard(), []);
    bench.event(OperatorEvent::Committed(CheckpointId(2))).unwrap();
    assert_eq!(
        heard(),
        [(0, 1), (1, 1)],
        "as far as the snapshot had them, not further"
    );
    bench.event(OperatorEvent::Committed(CheckpointId(2))).unwrap();
    assert_eq!(heard(), []);
    // The second split is read to its end before the next snapshot: told of once.
    for _ in 0..4 {
        poll(&mut bench);
    }
    for id in [3, 4, 5] {
        snapshot(&mut bench, id);
    }
    bench.event(OperatorEvent::Committed(CheckpointId(4))).unwrap();
    let after = heard();
    assert!(after.contains(&(1, 2)) && after.len() == 2, "{after:?}");
    bench.event(OperatorEvent::Committed(CheckpointId(5))).unwrap();
    snapshot(&mut bench, 6);
    bench.event(OperatorEvent::Committed(CheckpointId(6))).unwrap();
    let after = heard();
    assert!(
        after.iter().filter(|(index, _)| *index == 1).count() <= 1,
        "{after:?}"
    );
    assert_eq!(after.last().map(|(index, _)| *index), Some(0));
}
