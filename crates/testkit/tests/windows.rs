//! Windows of every kind against a plain computation: out of order, with late rows, under every condition of the engine.

mod plain;

use plain::{END, Plain, Row, Told, noise, sales, tell};
use proptest::prelude::*;
use rivermark_runtime::operators::window::{
    Aggregated, AlignedWindows, AtEnd, Contents, Count, EvictCount, Evicting, Firing, Gathered, Global,
    LATE_PORT, Lateness, MergingFold, On, Purging, Reduced, Session, SizedWindows, Sliding, TriggeredWindows,
    WindowAssigner, WindowsOperator,
};
use rivermark_runtime::operators::{Fold, LateRows, Tumbling, Window};
use rivermark_testkit::{Event, Order, Subject, verify_operator};
use rivermark_types::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// An operator of windows that fire as `firing` says.
fn subject<W, P, C>(windows: W, firing: P, contents: C, lateness: Lateness) -> impl Fn() -> Subject + 'static
where
    W: WindowAssigner<Row>,
    P: Firing<u64, W, C>,
    C: Contents<u64, Input = Row>,
{
    move || {
        let (windows, firing, contents) = (windows.clone(), firing.clone(), contents.clone());
        Subject::made_by("windows", move || {
            Ok(firing.operator(|row: &Row| row.0, windows.clone(), contents.clone(), lateness))
        })
    }
}

/// Runs an operator on the sales and compares with the plain computation.
fn verify<W, C>(windows: W, contents: C, late: LateRows, plain: Plain)
where
    W: WindowAssigner<Row>,
    AtEnd: Firing<u64, W, C>,
    C: Contents<u64, Input = Row, Output = Told>,
{
    let (input, plain) = plain.of(sales());
    assert!(!plain.late.is_empty(), "no row is late");
    assert!(plain.out.len() > 4, "{}", plain.out.len());
    let lateness = Lateness::new(ms(plain.allowed as u64), late);
    let (rows, dropped) = match late {
        LateRows::Emit => (plain.late, 0),
        LateRows::Drop => (vec![], plain.late.len() as u64),
    };
    verify_operator(subject(windows, AtEnd, contents, lateness))
        .keyed_by(0, |row: &Row| row.0)
        .input(input)
        .expect(Order::Multiset, plain.out)
        .expect_on(LATE_PORT, Order::Exact, rows)
        .expect_late(dropped)
        .expect_state_rows(0)
        .verify();
}

/// The rows of a window as an aggregate.
fn fold() -> Aggregated<impl rivermark_runtime::operators::Aggregate<u64, Input = Row, Output = Told>> {
    Aggregated(Fold::new(
        |rows: &mut Vec<i64>, row: Row| rows.push(row.1),
        |key: &u64, window, rows| tell(key, window, rows),
    ))
}

fn fold_merging()
-> Aggregated<impl rivermark_runtime::operators::window::MergeAggregate<u64, Input = Row, Output = Told>> {
    Aggregated(MergingFold::new(
        |rows: &mut Vec<i64>, row: Row| rows.push(row.1),
        |rows: &mut Vec<i64>, others: Vec<i64>| rows.extend(others),
        |key: &u64, window, rows| tell(key, window, rows),
    ))
}

/// The rows of a window as they are, each told by itself, so that a firing emits several.
fn gather_each() -> impl Contents<u64, Input = Row, Output = Told> {
    Gathered::new(
        |key: &u64, window: Window, rows: &[Row], out: &mut rivermark_runtime::operators::Out<Told>| {
            for row in rows {
                out.emit(tell(key, window, vec![row.1]));
            }
        },
    )
}

fn each(told: Vec<Told>) -> Vec<Told> {
    let one = |(key, start, end, rows): Told| rows.into_iter().map(move |row| (key, start, end, vec![row]));
    told.into_iter().flat_map(one).collect()
}

fn sized(windows: impl SizedWindows) -> impl Fn(&Row, i64) -> Vec<(i64, i64)> + 'static {
    move |_, time| {
        let mut all = vec![];
        windows.windows_of(Timestamp(time), |window| all.push((window.start.0, window.end.0)));
        all
    }
}

#[test]
fn sliding_windows() {
    let by_hand = |_: &Row, time: i64| {
        let starts = (-100..200).map(|n| n * 4 + 1);
        let around = starts.filter(|start| *start <= time && time < start + 10);
        around.map(|start| (start, start + 10)).collect()
    };
    let windows = Sliding::of(ms(10), ms(4)).with_offset(ms(1));
    verify(windows, fold(), LateRows::Drop, Plain::new(0, by_hand));
    verify(windows, fold(), LateRows::Emit, Plain::new(7, by_hand));
}

#[test]
fn sliding_windows_with_gaps_between_them() {
    let by_hand = |_: &Row, time: i64| {
        let start = time.div_euclid(12) * 12;
        (time < start + 5)
            .then_some((start, start + 5))
            .into_iter()
            .collect()
    };
    verify(
        Sliding::of(ms(5), ms(12)),
        fold(),
        LateRows::Drop,
        Plain::new(0, by_hand),
    );
}

#[test]
fn tumbling_windows_with_allowed_lateness() {
    let by_hand = |_: &Row, time: i64| {
        let start = time.div_euclid(10) * 10;
        vec![(start, start + 10)]
    };
    let windows = Tumbling::of(ms(10));
    verify(windows, fold(), LateRows::Emit, Plain::new(6, by_hand));
    let (input, plain) = Plain::new(0, by_hand).of(sales());
    let lateness = Lateness::new(Duration::ZERO, LateRows::Drop);
    verify_operator(subject(windows, AtEnd, gather_each(), lateness))
        .keyed_by(0, |row: &Row| row.0)
        .input(input)
        .expect(Order::Multiset, each(plain.out))
        .expect_state_rows(0)
        .verify();
}

#[test]
fn windows_that_reduce() {
    let (input, plain) = Plain::new(6, sized(Tumbling::of(ms(10)))).of(sales());
    let max = Reduced::new(|max: &Row, row: Row| if row.1 > max.1 { row } else { *max });
    let expected = plain
        .out
        .iter()
        .map(|told| (told.0, told.3.iter().copied().max().unwrap()));
    let core = move || {
        let lateness = Lateness::new(ms(6), LateRows::Drop);
        let windows = AlignedWindows::new(Tumbling::of(ms(10)), max.clone(), lateness);
        WindowsOperator::new(|row: &Row| row.0, windows)
    };
    verify_operator(move || Subject::operator(core.clone()))
        .keyed_by(0, |row: &Row| row.0)
        .input(input)
        .expect(Order::Multiset, expected)
        .expect_state_rows(0)
        .verify();
}

fn gap(_: &Row, time: i64) -> Vec<(i64, i64)> {
    vec![(time, time + 6)]
}

#[test]
fn sessions() {
    let windows = Session::gap(ms(6));
    verify(
        windows,
        fold_merging(),
        LateRows::Drop,
        Plain::new(0, gap).merging(),
    );
    verify(
        windows,
        fold_merging(),
        LateRows::Emit,
        Plain::new(8, gap).merging(),
    );
}

#[test]
fn sessions_whose_gap_is_the_rows_own() {
    let by_row = |row: &Row, time: i64| vec![(time, time + row.1.abs() % 9 + 1)];
    let windows = Session::dynamic_gap(|row: &Row| ms(row.1.unsigned_abs() % 9 + 1));
    verify(
        windows,
        fold_merging(),
        LateRows::Emit,
        Plain::new(3, by_row).merging(),
    );
}

#[test]
fn sessions_of_rows_in_time_are_the_rows_sorted_and_cut_at_gaps() {
    let rows: Vec<(Row, i64)> = sales().into_iter().filter_map(|event| event.ok()).collect();
    let mut by_key: BTreeMap<u64, Vec<(i64, i64)>> = BTreeMap::new();
    for (row, time) in &rows {
        by_key.entry(row.0).or_default().push((*time, row.1));
    }
    let mut expected: Vec<Told> = vec![];
    for (key, mut of_key) in by_key {
        of_key.sort_unstable();
        let mut last = i64::MIN;
        for (time, n) in of_key {
            match expected
                .last_mut()
                .filter(|_| last != i64::MIN && time < last + 6)
            {
                Some((_, _, end, rows)) => {
                    *end = time + 6;
                    rows.push(n);
                }
                None => expected.push((key, time, time + 6, vec![n])),
            }
            last = time;
        }
    }
    expected.iter_mut().for_each(|told| told.3.sort_unstable());
    let input = rows.iter().map(|(row, time)| Event::row(*row).at(*time));
    let lateness = Lateness::new(Duration::ZERO, LateRows::Drop);
    let operator = move || {
        let windows = Session::gap(ms(6));
        let firing = rivermark_runtime::operators::window::EventTime;
        let windows = TriggeredWindows::new(windows, firing, fold_merging(), lateness);
        WindowsOperator::new(|row: &Row| row.0, windows)
    };
    verify_operator(move || Subject::operator(operator))
        .keyed_by(0, |row: &Row| row.0)
        .input(input)
        .input([Event::watermark(END)])
        .expect(Order::Multiset, expected)
        .expect_late(0)
        .expect_state_rows(0)
        .verify();
}

#[test]
fn a_global_window_fires_when_its_input_has_ended() {
    let mut all: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
    let mut input = vec![];
    for event in sales() {
        match event {
            Ok((row, time)) => {
                all.entry(row.0).or_default().push(row.1);
                input.push(Event::row(row).at(time));
            }
            Err(watermark) => input.push(Event::watermark(watermark)),
        }
    }
    let expected = all.into_iter().map(|(key, rows)| tell(&key, Window::ALL, rows));
    let lateness = Lateness::new(Duration::ZERO, LateRows::Drop);
    verify_operator(subject(Global, AtEnd, fold(), lateness))
        .keyed_by(0, |row: &Row| row.0)
        .input(input)
        .expect(Order::Multiset, expected)
        .expect_state_rows(0)
        .verify();
}

/// Rows without times, and for each key its rows in order.
fn untimed() -> (Vec<Event>, BTreeMap<u64, Vec<i64>>) {
    let mut by_key: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
    let row = |n: u64| (noise(n) % 5, noise(n + 9) as i64 % 100);
    let rows: Vec<Row> = (0..50).map(row).collect();
    rows.iter()
        .for_each(|row| by_key.entry(row.0).or_default().push(row.1));
    (rows.into_iter().map(Event::row).collect(), by_key)
}

#[test]
fn windows_of_so_many_rows() {
    let (input, by_key) = untimed();
    let full = |(key, rows): (&u64, &Vec<i64>)| {
        let chunks = rows.chunks_exact(4);
        chunks
            .map(|rows| tell(key, Window::ALL, rows.to_vec()))
            .collect::<Vec<_>>()
    };
    let expected: Vec<Told> = by_key.iter().flat_map(full).collect();
    let unfinished = by_key.values().filter(|rows| rows.len() % 4 != 0).count();
    assert!(expected.len() > 6 && unfinished > 1);
    let lateness = Lateness::new(Duration::ZERO, LateRows::Drop);
    let firing = On(Purging::of(Count::of(4)));
    verify_operator(subject(Global, firing, fold(), lateness))
        .keyed_by(0, |row: &Row| row.0)
        .input(input)
        .expect(Order::Multiset, expected)
        .expect_late(0)
        .expect_state_rows(unfinished)
        .verify();
}

#[test]
fn sliding_windows_of_so_many_rows() {
    let (input, by_key) = untimed();
    let of_key = |(key, rows): (&u64, &Vec<i64>)| {
        let ends = (1..=rows.len()).filter(|end| end % 2 == 0);
        let told = ends.map(|end| tell(key, Window::ALL, rows[end.saturating_sub(5)..end].to_vec()));
        told.collect::<Vec<_>>()
    };
    let expected: Vec<Told> = by_key.iter().flat_map(of_key).collect();
    let lateness = Lateness::new(Duration::ZERO, LateRows::Drop);
    let firing = Evicting(Count::of(2), EvictCount::keep(5));
    verify_operator(subject(Global, firing, fold(), lateness))
        .keyed_by(0, |row: &Row| row.0)
        .input(input)
        .expect(Order::Multiset, expected)
        .expect_late(0)
        .expect_state_rows(by_key.len())
        .verify();
}

fn windows_at(windows: &impl WindowAssigner<()>, time: i64) -> Vec<Window> {
    let mut of_time = vec![];
    windows.assign(&(), Timestamp(time), &mut of_time);
    of_time
}

proptest! {
    /// A time is in exactly the windows that contain it: those of a row say so of all windows around.
    #[test]
    fn a_row_is_in_the_windows_that_contain_its_time(
        size in 1i64..200, slide in 1i64..200, offset in 0i64..500, time in -5_000i64..5_000,
    ) {
        let by_hand = |slide: i64| {
            let first = (time - size - offset).div_euclid(slide) - 1;
            let last = (time - offset).div_euclid(slide) + 1;
            let starts = (first..=last).map(|n| n * slide + offset % slide + (offset / slide) * slide);
            let inside = starts.filter(|start| *start <= time && time < start + size);
            let mut windows: Vec<Window> = inside
                .map(|start| Window { start: Timestamp(start), end: Timestamp(start + size) })
                .collect();
            windows.sort_unstable();
            windows
        };
        let (size_of, slide_of, offset_of) = (ms(size as u64), ms(slide as u64), ms(offset as u64));
        let mut sliding = windows_at(&Sliding::of(size_of, slide_of).with_offset(offset_of), time);
        sliding.sort_unstable();
        prop_assert_eq!(&sliding, &by_hand(slide));
        let tumbling = windows_at(&Tumbling::of(size_of).with_offset(offset_of), time);
        prop_assert_eq!(&tumbling, &by_hand(size));
    }

    /// At the ends of all time no window comes twice, and each contains the time or is cut short at it.
    #[test]
    fn windows_at_the_ends_of_time(size in 1i64..50, slide in 1i64..50, from_end in 0i64..200, is_end: bool) {
        let time = if is_end { i64::MAX - from_end } else { i64::MIN + 1 + from_end };
        let mut windows = windows_at(&Sliding::of(ms(size as u64), ms(slide as u64)), time);
        prop_assert!(windows.iter().all(|window| window.start.0 <= time && time <= window.end.0));
        let all = windows.len();
        windows.sort_unstable_by_key(|window| window.end);
        windows.dedup_by_key(|window| window.end);
        prop_assert_eq!(windows.len(), all);
    }
}
