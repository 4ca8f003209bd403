//! Idleness of splits and sources, on a clock that the test moves.

#![allow(clippy::unwrap_used, reason = "tests")]

mod bench;

use bench::{Bench, Out};
use rivermark_connector::source::{
    Found, ReadPoll, ReadRows, ReaderCx, Source, SplitEnumerator, SplitIndex, SplitReader,
};
use rivermark_connector::{SourceNode, WatermarkStrategy};
use rivermark_env::files::Files;
use rivermark_env::{BoxFuture, Env, LocalBoxFuture, Net, Platform, RealEnv, SlotStart, TaskHandle};
use rivermark_runtime::{NodeBody, OperatorEvent, SourceAssignment, SourcePoll};
use rivermark_types::{Millis, Result, Timestamp};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The real world but for its monotonic clock.
struct Clocked {
    env: Env,
    now: Arc<AtomicU64>,
}

impl Platform for Clocked {
    fn now(&self) -> Millis {
        Millis(self.now.load(Ordering::Relaxed))
    }
    fn wall_clock(&self) -> Timestamp {
        self.env.wall_clock()
    }
    fn cost_ns(&self) -> u64 {
        self.env.cost_ns()
    }
    fn random_u64(&self) -> u64 {
        self.env.random_u64()
    }
    fn spawn_io(&self, name: &str, future: BoxFuture<'static, ()>) -> TaskHandle {
        self.env.spawn_io(name, future)
    }
    fn spawn_slot(&self, name: &str, start: SlotStart) -> TaskHandle {
        self.env.spawn_slot(name, start)
    }
    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        self.env.sleep(wait)
    }
    fn step_point(&self) -> Option<LocalBoxFuture<'static, ()>> {
        self.env.step_point()
    }
    fn files(&self) -> &Arc<dyn Files> {
        self.env.files()
    }
    fn net(&self) -> &Arc<dyn Net> {
        self.env.net()
    }
}

/// What the test has put in front of each split.
#[derive(Clone, Default)]
struct Taps(Arc<Mutex<BTreeMap<String, VecDeque<i64>>>>);

impl Taps {
    fn pour(&self, split: &str, rows: impl IntoIterator<Item = i64>) {
        self.0
            .lock()
            .unwrap()
            .entry(split.to_owned())
            .or_default()
            .extend(rows);
    }
}

impl Source for Taps {
    type Row = i64;
    type Split = String;
    type Reader = TapReader;
    type Enumerator = NoTaps;
    fn name(&self) -> String {
        "taps".to_owned()
    }
    fn reader(&self, _: ReaderCx) -> Result<TapReader> {
        Ok(TapReader {
            taps: self.clone(),
            splits: vec![],
        })
    }
    fn enumerator(&self, _: &Env) -> Result<NoTaps> {
        Ok(NoTaps)
    }
    fn reads_many_splits(&self) -> bool {
        true
    }
}

struct NoTaps;

impl SplitEnumerator for NoTaps {
    type Split = String;
    async fn discover(&mut self, _: u32) -> Result<Found<String>> {
        Ok(Found {
            splits: vec![],
            exhausted: false,
        })
    }
    fn snapshot(&self) -> Result<serde_json::Value> {
        Ok(serde_json::Value::Null)
    }
    fn restore(&mut self, _: serde_json::Value) -> Result<()> {
        Ok(())
    }
}

struct TapReader {
    taps: Taps,
    splits: Vec<(SplitIndex, String, u64)>,
}

impl SplitReader for TapReader {
    type Split = String;
    type Row = i64;
    fn assign(&mut self, index: SplitIndex, split: String, position: u64) -> Result<()> {
        self.splits.push((index, split, position));
        Ok(())
    }
    fn next(&mut self, _: usize, out: &mut ReadRows<i64>) -> Result<ReadPoll> {
        let mut taps = self.taps.0.lock().unwrap();
        for (index, split, position) in &mut self.splits {
            if let Some(row) = taps.entry(split.clone()).or_default().pop_front() {
                out.push(row, *position, *position + 1);
                *position += 1;
                return Ok(ReadPoll::Rows(*index));
            }
        }
        Ok(ReadPoll::Pending)
    }
}

/// A source of two splits, `a` and `b`, whose splits are idle after 100 ms.
struct Stand {
    bench: Bench,
    taps: Taps,
    now: Arc<AtomicU64>,
    _world: RealEnv,
}

impl Stand {
    fn new(splits: &[&str]) -> Stand {
        let world = RealEnv::start().unwrap();
        let (taps, now) = (Taps::default(), Arc::new(AtomicU64::new(1_000)));
        let env = Env::new(Arc::new(Clocked {
            env: world.env(),
            now: now.clone(),
        }));
        let strategy = WatermarkStrategy::monotonous()
            .with_timestamp(|row: &i64| Timestamp(*row))
            .with_idleness(Duration::from_millis(100));
        let node = SourceNode::new(taps.clone(), strategy).watermark_interval(Duration::ZERO);
        let mut bench = Bench::new(&env, NodeBody::Source(Arc::new(node)), Bench::info(1), None).unwrap();
        let assigned = splits.iter().map(|split| SourceAssignment {
            split: (*split).into(),
            position: 0,
            watermark: Timestamp::MIN,
        });
        bench.event(OperatorEvent::Assign(assigned.collect())).unwrap();
        bench.event(OperatorEvent::WatermarkHold(Timestamp::MAX)).unwrap();
        Stand {
            bench,
            taps,
            now,
            _world: world,
        }
    }

    /// What comes out after so much more time.
    fn after(&mut self, ms: u64) -> Vec<Out<i64>> {
        self.now.fetch_add(ms, Ordering::Relaxed);
        self.bench.poll_all().unwrap()
    }

    /// When the source wants to be polled again, in milliseconds from now.
    fn wakes_in(&mut self) -> Option<u64> {
        match self.bench.poll::<i64>().unwrap() {
            (SourcePoll::Idle(at), _) => at.map(|at| at.0 - self.now.load(Ordering::Relaxed)),
            (SourcePoll::Emitted, _) => panic!("it had something"),
        }
    }
}

fn row(time: i64) -> Out<i64> {
    Out::Row(time, Some(time))
}

#[test]
fn a_split_without_rows_is_left_out_until_its_next_row() {
    let mut stand = Stand::new(&["a", "b"]);
    stand.taps.pour("a", [100]);
    stand.taps.pour("b", [500]);
    assert_eq!(stand.after(0), [row(100), row(500), Out::Watermark(99)]);
    stand.after(60);
    stand.taps.pour("b", [600]);
    assert_eq!(stand.after(0), [row(600)]);
    assert_eq!(stand.wakes_in(), Some(40), "then a is idle");
    assert_eq!(stand.after(39), []);
    assert_eq!(stand.after(1), [Out::Watermark(599)]);
    // A row behind the watermark is passed on: that it is late is for those to say whom it concerns.
    stand.taps.pour("a", [300]);
    assert_eq!(stand.after(10), [row(300)]);
    stand.taps.pour("b", [700]);
    assert_eq!(stand.after(10), [row(700)], "a holds the watermark again");
    stand.taps.pour("a", [650]);
    assert_eq!(stand.after(10), [row(650), Out::Watermark(649)]);
}

#[test]
fn a_source_all_of_whose_splits_are_idle_says_so_and_its_watermark_stays() {
    let mut stand = Stand::new(&["a", "b"]);
    stand.taps.pour("a", [100]);
    stand.taps.pour("b", [500]);
    assert_eq!(stand.after(0), [row(100), row(500), Out::Watermark(99)]);
    stand.after(0);
    assert_eq!(stand.after(100), [Out::Idle]);
    assert_eq!(stand.after(5_000), []);
    assert_eq!(stand.wakes_in(), None);
    stand.taps.pour("b", [700]);
    assert_eq!(
        stand.after(0),
        [Out::Active, row(700), Out::Watermark(699)],
        "a is idle still"
    );
}

#[test]
fn a_source_without_a_split_is_idle_too_and_is_heard_at_its_end() {
    let mut stand = Stand::new(&[]);
    assert_eq!(stand.after(0), []);
    assert_eq!(stand.after(99), [], "a split may come any moment");
    assert_eq!(stand.after(1), [Out::Idle]);
    stand.bench.event(OperatorEvent::NoMoreSplits).unwrap();
    assert_eq!(stand.after(0), [Out::Active, Out::Watermark(i64::MAX)]);
}

#[test]
fn a_split_that_comes_after_long_is_not_idle_from_the_start() {
    let mut stand = Stand::new(&[]);
    stand.after(0);
    assert_eq!(stand.after(1_000), [Out::Idle]);
    stand.now.fetch_add(1_000, Ordering::Relaxed);
    let assigned = SourceAssignment {
        split: "a".into(),
        position: 0,
        watermark: Timestamp::MIN,
    };
    stand.bench.event(OperatorEvent::Assign(vec![assigned])).unwrap();
    assert_eq!(stand.after(0), [Out::Active]);
    assert_eq!(stand.after(99), []);
    assert_eq!(stand.after(1), [Out::Idle]);
}

#[test]
fn time_in_which_nobody_read_does_not_make_a_split_idle() {
    let mut stand = Stand::new(&["a"]);
    stand.taps.pour("a", [100, 200]);
    // Polled once, then held up by what is behind it.
    stand.bench.poll::<i64>().unwrap();
    stand.now.fetch_add(60_000, Ordering::Relaxed);
    assert_eq!(
        stand.bench.poll::<i64>().unwrap().1,
        [row(200), Out::Watermark(199)]
    );
    assert_eq!(stand.after(0), []);
    assert_eq!(stand.after(99), []);
    assert_eq!(stand.after(1), [Out::Idle]);
}
