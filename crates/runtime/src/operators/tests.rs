//! Each operator by itself: rows in, rows out, in slices of every size.

use super::*;
use crate::cursor::{AnyRows, HeldRows, RowCursor};
use crate::metrics::{OperatorCounters, SubtaskCounters};
use crate::operator::{Cx, Flow, Lists, OpenCx, Operator, Output, Reporter, SubtaskInfo};
use crate::waker::SlotWaker;
use rivermark_data::{Batch, Data, Typed};
use rivermark_env::{Env, ManualClock, RealEnv};
use rivermark_state::{BackendConfig, Key, KeyedBackend, RestoredState, Timers, ValueState};
use rivermark_types::{
    Attempt, ErrorKind, Generation, InputId, JobName, MaxParallelism, NodeId, Result, SubtaskId, Timestamp,
    Uid, VertexId,
};
use std::cell::Cell;
use std::time::Duration;
use tokio::sync::mpsc;

/// An operator with all that the engine gives it, in miniature.
struct Stand<Op> {
    op: Op,
    env: Env,
    /// Its processing time.
    clock: ManualClock,
    _real: RealEnv,
    /// Outlives the calls, as in a task: handles refuse to work without it.
    _backend: KeyedBackend,
    counters: SubtaskCounters,
    operator: OperatorCounters,
    stage: Cell<u32>,
    watermark: Timestamp,
    room: usize,
    slice: usize,
    out: Vec<Output>,
}

fn info() -> SubtaskInfo {
    SubtaskInfo {
        job: JobName::from("job"),
        generation: Generation(1),
        attempt: Attempt(1),
        subtask: SubtaskId {
            vertex: VertexId(0),
            index: 0,
        },
        parallelism: 1,
        max_parallelism: MaxParallelism::default_for(1),
        node: NodeId(0),
        uid: Some(Uid::from("op")),
        name: "op".to_owned(),
    }
}

impl<Op: Operator> Stand<Op> {
    fn new(mut op: Op, room: usize, slice: usize) -> Stand<Op> {
        let real = RealEnv::start().unwrap();
        let clock = ManualClock::at(Timestamp(0));
        let env = real.env().with_manual_clock(clock.clone());
        let info = info();
        let range = info.max_parallelism.range_of(0, 1);
        let config = BackendConfig {
            operator: Uid::from("op"),
            seed: 7,
            max_parallelism: info.max_parallelism,
            range,
        };
        let mut backend = KeyedBackend::new(config, RestoredState::default());
        let reporter = Reporter {
            subtask: info.subtask,
            node: info.node,
            events: mpsc::unbounded_channel().0,
        };
        let mut cx = OpenCx {
            env: &env,
            info: &info,
            backend: Some(&mut backend),
            lists: Lists::new(),
            restored: false,
            watermark: Timestamp::MIN,
            waker: &SlotWaker::default(),
            reporter,
            sides: Default::default(),
            metrics: Default::default(),
        };
        op.open(&mut cx).unwrap();
        backend.finish_open().unwrap();
        Stand {
            op,
            env,
            clock,
            _real: real,
            _backend: backend,
            counters: SubtaskCounters::default(),
            operator: OperatorCounters::of(&info),
            stage: Cell::new(0),
            watermark: Timestamp::MIN,
            room,
            slice,
            out: vec![],
        }
    }

    fn call(&mut self, mut call: impl FnMut(&mut Op, &mut Cx<'_>) -> Result<Flow>) -> Result<()> {
        loop {
            let mut cx = Cx {
                env: &self.env,
                out: &mut self.out,
                room: self.room,
                watermark: self.watermark,
                stage: &self.stage,
                counters: &self.counters,
                operator: &self.operator,
            };
            match call(&mut self.op, &mut cx)? {
                Flow::Done => return Ok(()),
                Flow::More => {}
                Flow::Wait => panic!("no operator here waits"),
            }
        }
    }

    fn rows<T: Data>(&mut self, input: u8, rows: Typed<T>) -> Result<()> {
        let mut held = HeldRows::Erased(Batch::new(rows));
        let slice = self.slice;
        self.call(|op, cx| op.on_batch(InputId(input), &mut RowCursor::new(&mut held, slice, None), cx))?;
        assert_eq!(held.remaining(), 0);
        Ok(())
    }

    fn watermark(&mut self, time: i64) {
        self.watermark = Timestamp(time);
        self.call(|op, cx| op.on_watermark(Timestamp(time), cx)).unwrap();
    }

    /// What came out of a port since the last look, and the size of the largest batch.
    fn taken<T: Data>(&mut self, port: u8) -> Typed<T> {
        let (ours, others) = std::mem::take(&mut self.out)
            .into_iter()
            .partition(|output| matches!(output, Output::Rows(p, _) if *p == port));
        self.out = others;
        let ours: Vec<Output> = ours;
        let mut all = Typed::default();
        for output in ours {
            let Output::Rows(_, batch) = output else { continue };
            // One input row may overshoot by its own output: two at most, here.
            assert!(batch.len() <= self.room + 1, "a batch of {} rows", batch.len());
            all.append(batch.take::<T>().unwrap());
        }
        all
    }
}

fn timed<T>(rows: impl IntoIterator<Item = (T, i64)>) -> Typed<T> {
    let (values, times): (Vec<T>, Vec<i64>) = rows.into_iter().unzip();
    Typed {
        values,
        times: Some(times.into_iter().map(Timestamp).collect()),
    }
}

fn times<T>(rows: &Typed<T>) -> Vec<i64> {
    rows.times.as_ref().unwrap().iter().map(|time| time.0).collect()
}

const SLICES: [(usize, usize); 4] = [(1, 1), (2, 3), (4096, 1), (4096, 4096)];

fn pipe() -> impl Pipe<u64, Out = u64> {
    let map = Map(Identity, |n: u64| n + 1);
    let filter = Filter(map, |n: &u64| !n.is_multiple_of(3));
    let flat = FlatMap(filter, |n: u64| vec![n; (n % 3) as usize]);
    TryMap(
        flat,
        |n: u64| if n == 100 { Err("a hundred") } else { Ok(n * 10) },
    )
}

#[test]
fn a_fused_run_does_what_its_closures_do_one_after_the_other() {
    for (room, slice) in SLICES {
        let mut stand = Stand::new(FusedOperator::<u64, _>::new(pipe()), room, slice);
        stand.rows(0, timed((0..50u64).map(|n| (n, n as i64)))).unwrap();
        let expected: Vec<(u64, i64)> = (0..50u64)
            .filter(|n| (n + 1) % 3 != 0)
            .flat_map(|n| vec![((n + 1) * 10, n as i64); ((n + 1) % 3) as usize])
            .collect();
        let rows = stand.taken::<u64>(0);
        assert_eq!(
            rows.values.iter().copied().zip(times(&rows)).collect::<Vec<_>>(),
            expected
        );
    }
}

#[test]
fn a_fused_run_without_times_gives_rows_without_times() {
    let mut stand = Stand::new(FusedOperator::<u64, _>::new(pipe()), 10, 10);
    stand.rows(0, Typed::untimed(vec![0u64, 1])).unwrap();
    assert_eq!(stand.taken::<u64>(0), Typed::untimed(vec![10, 20, 20]));
}

#[test]
fn the_closure_that_failed_or_panicked_is_known() {
    let mut stand = Stand::new(FusedOperator::<u64, _>::new(pipe()), 100, 100);
    let failure = stand.rows(0, Typed::untimed(vec![0u64, 99, 0])).unwrap_err();
    assert_eq!(
        (failure.kind, failure.message.as_str(), stand.stage.get()),
        (ErrorKind::Data, "a hundred", 4)
    );

    let broken = Map(Filter(Identity, |_: &u64| true), |n: u64| 10 / n);
    let mut stand = Stand::new(FusedOperator::<u64, _>::new(broken), 100, 100);
    let rows = Typed::untimed(vec![1u64, 0]);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stand.rows(0, rows)));
    assert!(panicked.is_err());
    assert_eq!(stand.stage.get(), 2);
}

#[test]
fn reduce_emits_the_running_value_of_each_key() {
    for (room, slice) in SLICES {
        let reduce = Reduce::new(|sum: &(u8, u64), row: (u8, u64)| (row.0, sum.1 + row.1));
        let mut stand = Stand::new(KeyedOperator::new(|row: &(u8, u64)| row.0, reduce), room, slice);
        stand
            .rows(
                0,
                Typed::untimed(vec![(1u8, 5u64), (2, 7), (1, 1), (1, 2), (2, 1)]),
            )
            .unwrap();
        assert_eq!(
            stand.taken::<(u8, u64)>(0).values,
            [(1, 5), (2, 7), (1, 6), (1, 8), (2, 8)]
        );
    }
}

#[test]
fn a_key_that_cannot_be_hashed_is_refused_at_the_first_row() {
    #[derive(Clone, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Ratio(f64);
    impl Eq for Ratio {}
    let reduce = Reduce::new(|_: &u64, row: u64| row);
    let mut stand = Stand::new(KeyedOperator::new(|row: &u64| Ratio(*row as f64), reduce), 1, 1);
    let failure = stand.rows(0, Typed::untimed(vec![1u64])).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Invalid);
    assert!(failure.message.contains("Ratio is no key: a float"), "{failure}");
}

/// Counts rows of a key, and emits the count 10 ms after the first of them.
#[derive(Default)]
struct CountThenEmit {
    count: ValueState<u8, u64>,
    timers: Timers<u8>,
}

impl KeyedOp<u8, u8, (u8, u64)> for CountThenEmit {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u8>) -> Result<()> {
        self.count = cx.value("count")?;
        self.timers = cx.timers()?;
        Ok(())
    }
    fn row(&mut self, key: &Key<u8>, row: Timed<u8>, _: &mut Out<(u8, u64)>) -> Result<()> {
        let count = self.count.update(key);
        if *count == 0 {
            self.timers.register(key, row.event_time()?.plus_ms(10));
        }
        *count += 1;
        Ok(())
    }
    fn timer(&mut self, key: &Key<u8>, at: Timer, out: &mut Out<(u8, u64)>) -> Result<()> {
        assert!(at.time <= out.watermark());
        let count = self.count.clear(key);
        out.emit((key.value, count.unwrap_or_default()));
        Ok(())
    }
}

#[test]
fn timers_fire_when_the_watermark_passes_them_in_order_of_time() {
    for (room, slice) in SLICES {
        let mut stand = Stand::new(
            KeyedOperator::new(|row: &u8| *row, CountThenEmit::default()),
            room,
            slice,
        );
        stand
            .rows(0, timed([(3u8, 5), (1, 0), (2, 2), (1, 1), (1, 9)]))
            .unwrap();
        stand.watermark(9);
        assert!(stand.taken::<(u8, u64)>(0).is_empty());
        stand.watermark(12);
        let fired = stand.taken::<(u8, u64)>(0);
        assert_eq!(
            (times(&fired), fired.values),
            (vec![10, 12], vec![(1, 3), (2, 1)]),
            "room {room}, slice {slice}"
        );
        stand.rows(0, timed([(1u8, 13)])).unwrap();
        stand.watermark(i64::MAX);
        let fired = stand.taken::<(u8, u64)>(0);
        assert_eq!(
            (times(&fired), fired.values),
            (vec![15, 23], vec![(3, 1), (1, 1)])
        );
    }
}

#[test]
fn a_row_without_a_time_says_what_to_add() {
    let mut stand = Stand::new(
        KeyedOperator::new(|row: &u8| *row, CountThenEmit::default()),
        1,
        1,
    );
    let failure = stand.rows(0, Typed::untimed(vec![1u8])).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Invalid);
    assert!(failure.message.contains("WatermarkStrategy"), "{failure}");
}

fn sums(
    late: LateRows,
) -> WindowOperator<
    u8,
    impl Fn(&(u8, u64)) -> u8,
    impl Aggregate<u8, Input = (u8, u64), Output = (u8, i64, u64)>,
> {
    let fold = Fold::new(
        |sum: &mut u64, row: (u8, u64)| *sum += row.1,
        |key: &u8, window: Window, sum| (*key, window.start.0, sum),
    );
    WindowOperator::new(
        |row: &(u8, u64)| row.0,
        Tumbling::of(Duration::from_millis(10)),
        fold,
        late,
    )
}

#[test]
fn windows_fire_as_a_whole_at_their_last_millisecond() {
    for (room, slice) in SLICES {
        let mut stand = Stand::new(sums(LateRows::Drop), room, slice);
        stand
            .rows(
                0,
                timed([
                    ((1u8, 1u64), 0),
                    ((1, 2), 9),
                    ((2, 4), 5),
                    ((1, 8), 10),
                    ((1, 16), -1),
                ]),
            )
            .unwrap();
        stand.watermark(8);
        assert_eq!(stand.taken::<(u8, i64, u64)>(0).values, [(1, -10, 16)]);
        stand.watermark(9);
        let mut fired = stand.taken::<(u8, i64, u64)>(0);
        assert_eq!(times(&fired), [9, 9]);
        fired.values.sort_unstable();
        assert_eq!(fired.values, [(1, 0, 3), (2, 0, 4)]);
        stand.watermark(i64::MAX);
        assert_eq!(stand.taken::<(u8, i64, u64)>(0).values, [(1, 10, 8)]);
    }
}

#[test]
fn late_rows_are_dropped_and_counted_or_come_out_beside() {
    let rows = || timed([((1u8, 1u64), 8), ((1, 2), 10), ((1, 4), -3)]);
    for (room, slice) in SLICES {
        let mut stand = Stand::new(sums(LateRows::Drop), room, slice);
        stand.watermark(9);
        stand.rows(0, rows()).unwrap();
        assert_eq!(stand.counters.late.load(std::sync::atomic::Ordering::Relaxed), 2);

        let mut stand = Stand::new(sums(LateRows::Emit), room, slice);
        stand.watermark(9);
        stand.rows(0, rows()).unwrap();
        let late = stand.taken::<(u8, u64)>(LATE);
        assert_eq!((times(&late), late.values), (vec![8, -3], vec![(1, 1), (1, 4)]));
        assert_eq!(stand.counters.late.load(std::sync::atomic::Ordering::Relaxed), 0);
        stand.watermark(19);
        assert_eq!(stand.taken::<(u8, i64, u64)>(0).values, [(1, 10, 2)]);
    }
}
const LATE: u8 = window::LATE_PORT;

#[test]
fn tumbling_windows_leave_no_gap_and_do_not_overlap() {
    let windows = Tumbling::of(Duration::from_millis(7)).with_offset(Duration::from_millis(3));
    for time in -50..50 {
        let window = windows.window_of(Timestamp(time));
        assert!(
            window.start.0 <= time && time < window.end.0,
            "{time} in {window:?}"
        );
        assert_eq!((window.start.0 - 3).rem_euclid(7), 0);
        assert_eq!(window.end.0 - window.start.0, 7);
    }
    for time in [i64::MIN + 1, i64::MAX - 1, i64::MAX] {
        let window = windows.window_of(Timestamp(time));
        assert!(window.start.0 <= time && time <= window.end.0);
    }
}

/// Remembers the last text of a key on the right and joins it to what comes on the left.
#[derive(Default)]
struct Join {
    last: ValueState<u8, String>,
}

impl KeyedOp2<u8, u8, (u8, String), (u8, Option<String>)> for Join {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u8>) -> Result<()> {
        self.last = cx.value("last")?;
        Ok(())
    }
    fn left(&mut self, key: &Key<u8>, row: Timed<u8>, out: &mut Out<(u8, Option<String>)>) -> Result<()> {
        out.emit((row.value, self.last.get(key).cloned()));
        Ok(())
    }
    fn right(
        &mut self,
        key: &Key<u8>,
        row: Timed<(u8, String)>,
        _: &mut Out<(u8, Option<String>)>,
    ) -> Result<()> {
        self.last.set(key, row.value.1);
        Ok(())
    }
}

/// Forgets to declare its state.
#[derive(Default)]
struct Forgetful {
    count: ValueState<u8, u64>,
}

impl KeyedOp<u8, u8, u8> for Forgetful {
    fn open(&mut self, _: &mut KeyedOpenCx<'_, u8>) -> Result<()> {
        Ok(())
    }
    fn row(&mut self, key: &Key<u8>, _: Timed<u8>, _: &mut Out<u8>) -> Result<()> {
        *self.count.update(key) += 1;
        Ok(())
    }
}

#[test]
#[should_panic(expected = "`open` did not declare")]
fn state_that_was_not_declared_says_so() {
    let mut stand = Stand::new(KeyedOperator::new(|row: &u8| *row, Forgetful::default()), 1, 1);
    let _ = stand.rows(0, Typed::untimed(vec![1u8]));
}

#[test]
fn connected_inputs_share_the_state_of_a_key() {
    for (room, slice) in SLICES {
        let join = ConnectOperator::new(|row: &u8| *row, |row: &(u8, String)| row.0, Join::default());
        let mut stand = Stand::new(join, room, slice);
        stand
            .rows(
                1,
                Typed::untimed(vec![
                    (1u8, "a".to_owned()),
                    (2, "b".to_owned()),
                    (1, "c".to_owned()),
                ]),
            )
            .unwrap();
        stand.rows(0, Typed::untimed(vec![1u8, 2, 3])).unwrap();
        let joined = stand.taken::<(u8, Option<String>)>(0).values;
        assert_eq!(
            joined,
            [(1, Some("c".to_owned())), (2, Some("b".to_owned())), (3, None)]
        );
        assert_eq!(
            stand.rows(2, Typed::untimed(vec![1u8])).unwrap_err().kind,
            ErrorKind::Bug
        );
    }
}

/// Tells of each timer that its rows ask for.
#[derive(Default)]
struct Alarms(Timers<u64>);

impl KeyedOp<u64, i64, i64> for Alarms {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u64>) -> Result<()> {
        self.0 = cx.processing_timers()?;
        Ok(())
    }
    fn row(&mut self, key: &Key<u64>, row: Timed<i64>, _: &mut Out<i64>) -> Result<()> {
        self.0.register(key, Timestamp(row.value));
        Ok(())
    }
    fn processing_timer(&mut self, _: &Key<u64>, at: Timer, out: &mut Out<i64>) -> Result<()> {
        out.emit(at.time.0);
        Ok(())
    }
}

#[test]
fn overdue_timers_fire_slice_by_slice_in_the_order_of_their_times() {
    let alarms = KeyedOperator::new(|row: &i64| row.unsigned_abs() % 3, Alarms::default());
    let mut stand = Stand::new(alarms, 2, 100);
    assert_eq!(stand.op.wake_at(), None);
    stand
        .rows(0, Typed::untimed(vec![700i64, 300, -5, 200, 500, 900]))
        .unwrap();
    assert_eq!(stand.op.wake_at(), Some(Timestamp(-5)));
    stand.clock.set(Timestamp(600));
    let mut fired = vec![];
    while stand.op.wake_at().is_some_and(|at| at <= Timestamp(600)) {
        stand.call(|op, cx| op.on_wake(cx)).unwrap();
        let slice = stand.taken::<i64>(0);
        assert!(slice.times.is_none(), "they have no event time");
        assert!(slice.values.len() <= 2);
        fired.extend(slice.values);
    }
    assert_eq!(fired, [-5, 200, 300, 500]);
    assert_eq!(stand.op.wake_at(), Some(Timestamp(700)));
}
