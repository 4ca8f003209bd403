//! Joins of two streams against plain nested loops: by windows, as groups, by the distance of times.

mod plain;

use plain::{Plain, Row, Told, noise, sales};
use rivermark_runtime::operators::interval_join::{LEFT_LATE_PORT, RIGHT_LATE_PORT};
use rivermark_runtime::operators::window::{
    AtEnd, CoGrouped, Contents, Count, EventTime, Firing, JoinedPairs, Lateness, MergingContents, On,
    Session, Side, Sliding, WindowJoinOperator,
};
use rivermark_runtime::operators::{Interval, IntervalJoinOperator, LateRows, Out, Tumbling, Window};
use rivermark_testkit::{Event, Order, Subject, Verification, verify_operator};
use std::time::Duration;

/// A row of the right stream: number and key.
type Right = (i64, u64);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Sales of few keys, and watermarks that let more of them through.
fn events() -> Vec<Result<(Row, i64), i64>> {
    let event = |(n, event): (usize, Result<(Row, i64), i64>)| match event {
        Ok(((key, number), time)) => Ok(((key % 2, number), time)),
        Err(plain::END) => Err(plain::END),
        Err(watermark) => Err(watermark - 9 - noise(n as u64) as i64 % 4),
    };
    sales().into_iter().enumerate().map(event).collect()
}

fn is_left(n: i64) -> bool {
    n.rem_euclid(2) == 0
}

/// Rows with even numbers come on the left, those with odd ones on the right.
fn two_inputs(events: Vec<Result<(Row, i64), i64>>) -> Vec<Event> {
    let event = |event| match event {
        Ok(((key, n), time)) if is_left(n) => Event::row((key, n)).at(time),
        Ok(((key, n), time)) => Event::row((n, key)).at(time).on(1),
        Err(watermark) => Event::watermark(watermark),
    };
    events.into_iter().map(event).collect()
}

fn sides(rows: &[i64]) -> (Vec<i64>, Vec<i64>) {
    rows.iter().partition(|n| is_left(**n))
}

fn join<W, P, C>(windows: W, firing: P, contents: C, allowed_ms: u64) -> Verification
where
    W: Clone + Send + Sync + 'static,
    P: Firing<u64, W, C>,
    C: Contents<u64, Input = Side<Row, Right>>,
{
    join_with(
        windows,
        firing,
        contents,
        Lateness::new(ms(allowed_ms), LateRows::Drop),
    )
    .input(two_inputs(events()))
}

fn join_with<W, P, C>(windows: W, firing: P, contents: C, lateness: Lateness) -> Verification
where
    W: Clone + Send + Sync + 'static,
    P: Firing<u64, W, C>,
    C: Contents<u64, Input = Side<Row, Right>>,
{
    let subject = move || {
        let (windows, firing, contents) = (windows.clone(), firing.clone(), contents.clone());
        Subject::operator(move || {
            let windows = firing.windows(windows.clone(), contents.clone(), lateness);
            WindowJoinOperator::new(|row: &Row| row.0, |row: &Right| row.1, windows)
        })
    };
    verify_operator(subject)
        .keyed_by(0, |row: &Row| row.0)
        .keyed_by(1, |row: &Right| row.1)
}

fn pairs() -> JoinedPairs<Row, Right, (u64, i64, i64), impl Fn(&Row, &Right) -> (u64, i64, i64) + Clone> {
    JoinedPairs::new(|left: &Row, right: &Right| (left.0, left.1, right.0))
}

fn pairs_of(told: &[Told]) -> Vec<(u64, i64, i64)> {
    let mut out = vec![];
    for (key, _, _, rows) in told {
        let (left, right) = sides(rows);
        for l in left {
            out.extend(right.iter().map(|r| (*key, l, *r)));
        }
    }
    out
}

#[test]
fn pairs_in_the_same_tumbling_window() {
    for allowed in [0, 6] {
        let assign = |_: &Row, time: i64| {
            let start = time.div_euclid(20) * 20;
            vec![(start, start + 20)]
        };
        let (_, plain) = Plain::new(allowed, assign).of(events());
        let expected = pairs_of(&plain.out);
        assert!(expected.len() > 8 && !plain.late.is_empty(), "{}", expected.len());
        join(Tumbling::of(ms(20)), AtEnd, pairs(), allowed as u64)
            .expect(Order::Multiset, expected)
            .expect_late(plain.late.len() as u64)
            .expect_state_rows(0)
            .verify();
    }
}

#[test]
fn pairs_in_the_same_sliding_windows() {
    let assign = |_: &Row, time: i64| {
        let start = time.div_euclid(15) * 15;
        vec![(start, start + 30), (start - 15, start + 15)]
    };
    let (_, plain) = Plain::new(0, assign).of(events());
    join(Sliding::of(ms(30), ms(15)), AtEnd, pairs(), 0)
        .expect(Order::Multiset, pairs_of(&plain.out))
        .expect_late(plain.late.len() as u64)
        .expect_state_rows(0)
        .verify();
}

/// A join that emits its late rows: these leave apart, by side.
fn emits_late<P>(firing: P)
where
    P: Firing<u64, Tumbling, JoinedPairs<Row, Right, (u64, i64, i64), Join>>,
{
    let assign = |_: &Row, time: i64| {
        let start = time.div_euclid(10) * 10;
        vec![(start, start + 10)]
    };
    let fewer_keys = |event: Result<(Row, i64), i64>| event.map(|((key, n), time)| ((key % 2, n), time));
    let events: Vec<_> = sales().into_iter().map(fewer_keys).collect();
    let (_, plain) = Plain::new(0, assign).of(events.clone());
    let (left, right): (Vec<Row>, Vec<Row>) = plain.late.iter().partition(|row| is_left(row.1));
    assert!(!left.is_empty() && !right.is_empty(), "{left:?} {right:?}");
    let expected = pairs_of(&plain.out);
    assert!(!expected.is_empty());
    let right: Vec<Right> = right.into_iter().map(|(key, n)| (n, key)).collect();
    let join: Join = |left, right| (left.0, left.1, right.0);
    let lateness = Lateness::new(ms(0), LateRows::Emit);
    join_with(Tumbling::of(ms(10)), firing, JoinedPairs::new(join), lateness)
        .input(two_inputs(events))
        .expect(Order::Multiset, expected)
        .expect_on(LEFT_LATE_PORT, Order::Multiset, left)
        .expect_on(RIGHT_LATE_PORT, Order::Multiset, right)
        .expect_late(0)
        .expect_state_rows(0)
        .verify();
}

type Join = fn(&Row, &Right) -> (u64, i64, i64);

#[test]
fn late_rows_of_both_sides_leave_by_ports_of_their_own() {
    emits_late(AtEnd);
    emits_late(On(EventTime));
}

type Group = (u64, i64, i64, Vec<i64>, Vec<i64>);

fn groups() -> impl MergingContents<u64, Input = Side<Row, Right>, Output = Group> {
    CoGrouped::new(
        |key: &u64, window: Window, left: &[Row], right: &[Right], out: &mut Out<Group>| {
            let mut left: Vec<i64> = left.iter().map(|row| row.1).collect();
            let mut right: Vec<i64> = right.iter().map(|row| row.0).collect();
            left.sort_unstable();
            right.sort_unstable();
            out.emit((*key, window.start.0, window.end.0, left, right));
        },
    )
}

fn groups_of(told: Vec<Told>) -> Vec<Group> {
    let group = |(key, start, end, rows): Told| {
        let (left, right) = sides(&rows);
        (key, start, end, left, right)
    };
    told.into_iter().map(group).collect()
}

#[test]
fn groups_of_sessions_of_both_streams() {
    let (_, plain) = Plain::new(4, |_, time| vec![(time, time + 7)])
        .merging()
        .of(events());
    let expected = groups_of(plain.out);
    assert!(expected.iter().any(|group| group.3.is_empty()));
    assert!(expected.iter().any(|group| group.4.is_empty()));
    assert!(
        expected
            .iter()
            .any(|group| !group.3.is_empty() && !group.4.is_empty())
    );
    join(Session::gap(ms(7)), AtEnd, groups(), 4)
        .expect(Order::Multiset, expected)
        .expect_late(plain.late.len() as u64)
        .expect_state_rows(0)
        .verify();
}

#[test]
fn groups_under_a_trigger() {
    let (_, plain) = Plain::new(0, |_, time| {
        let start = time.div_euclid(20) * 20;
        vec![(start, start + 20)]
    })
    .purging(|_| true)
    .of(events());
    let firing = On(rivermark_runtime::operators::window::Purging::of(Count::of(1)));
    join(Tumbling::of(ms(20)), firing, groups(), 0)
        .expect(Order::Multiset, groups_of(plain.out))
        .expect_state_rows(0)
        .verify();
}

/// A row that waits: key, number, time.
type Waits = (u64, i64, i64);

/// Pairs by nested loops, and late rows: those of the left, those of the right.
fn near(
    events: &[Result<(Row, i64), i64>],
    lower: i64,
    upper: i64,
) -> (Vec<(u64, i64, i64)>, Vec<Row>, Vec<Right>) {
    let (mut left, mut right): (Vec<Waits>, Vec<Waits>) = (vec![], vec![]);
    let (mut out, mut late_left, mut late_right) = (vec![], vec![], vec![]);
    let mut now = i64::MIN;
    for event in events {
        match *event {
            Ok(((key, n), time)) if time < now => match is_left(n) {
                true => late_left.push((key, n)),
                false => late_right.push((n, key)),
            },
            Ok(((key, n), time)) => {
                let distance = |other: &Waits| {
                    if is_left(n) {
                        other.2 - time
                    } else {
                        time - other.2
                    }
                };
                let others = if is_left(n) { &right } else { &left };
                for other in others.iter().filter(|other| other.0 == key) {
                    if (lower..=upper).contains(&distance(other)) {
                        out.push(if is_left(n) {
                            (key, n, other.1)
                        } else {
                            (key, other.1, n)
                        });
                    }
                }
                if is_left(n) { &mut left } else { &mut right }.push((key, n, time));
            }
            Err(watermark) => {
                now = watermark;
                left.retain(|row| row.2 + upper.max(0) > now);
                right.retain(|row| row.2 + (-lower).max(0) > now);
            }
        }
    }
    (out, late_left, late_right)
}

#[test]
fn pairs_whose_times_are_near() {
    let events = events();
    for (lower, upper) in [(-5, 9), (3, 12), (-20, -2)] {
        let (expected, late_left, late_right) = near(&events, lower, upper);
        assert!(expected.len() > 4, "{}", expected.len());
        assert!(!late_left.is_empty() && !late_right.is_empty());
        let subject = move || {
            let interval = Interval {
                lower_ms: lower,
                upper_ms: upper,
            };
            let join = |left: &Row, right: &Right| (left.0, left.1, right.0);
            let (left, right) = (|row: &Row| row.0, |row: &Right| row.1);
            Subject::operator(move || IntervalJoinOperator::new(left, right, interval, join, LateRows::Emit))
        };
        verify_operator(subject)
            .keyed_by(0, |row: &Row| row.0)
            .keyed_by(1, |row: &Right| row.1)
            .input(two_inputs(events.clone()))
            .expect(Order::Multiset, expected)
            .expect_on(LEFT_LATE_PORT, Order::Exact, late_left)
            .expect_on(RIGHT_LATE_PORT, Order::Exact, late_right)
            .expect_late(0)
            .expect_state_rows(0)
            .verify();
    }
}
