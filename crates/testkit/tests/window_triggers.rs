//! Triggers and evictors, the given ones and some of one's own, against plain computations.

mod plain;

use plain::{Plain, Row, Told, ms, noise, sales, tell, windows};
use rivermark_runtime::operators::window::{
    ContinuousEventTime, Count, Delta, EventTime, EvictCount, EvictDelta, EvictTime, Evicting, Evictor,
    Global, On, Purging, Session, Sliding, Trigger, TriggerCx, TriggerResult,
};
use rivermark_runtime::operators::{Timed, Tumbling, Window};
use rivermark_testkit::{Event, Order};
use rivermark_types::Timestamp;
use std::collections::BTreeMap;

fn input(events: &[Result<(Row, i64), i64>]) -> Vec<Event> {
    let event = |event: &Result<(Row, i64), i64>| match event {
        Ok((row, time)) => Event::row(*row).at(*time),
        Err(watermark) => Event::watermark(*watermark),
    };
    events.iter().map(event).collect()
}

/// Rows without times, and for each key its numbers in order.
fn untimed() -> (Vec<Event>, BTreeMap<u64, Vec<i64>>) {
    let mut by_key: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
    let rows: Vec<Row> = (0..40)
        .map(|n| (noise(n) % 3, noise(n + 9) as i64 % 100))
        .collect();
    rows.iter()
        .for_each(|row| by_key.entry(row.0).or_default().push(row.1));
    (rows.into_iter().map(Event::row).collect(), by_key)
}

/// A tumbling window that fires early.
#[derive(Default)]
struct Early {
    rows: Vec<i64>,
    next: Option<i64>,
}

/// What windows of ten tell that fire every four, and stay for `allowed`.
fn every_four(events: &[Result<(Row, i64), i64>], allowed: i64) -> Vec<Told> {
    let mut windows: BTreeMap<(u64, i64), Early> = BTreeMap::new();
    let mut out = vec![];
    let mut now = i64::MIN;
    let told = |key, start, rows: &[i64]| {
        let window = Window {
            start: Timestamp(start),
            end: Timestamp(start + 10),
        };
        tell(&key, window, rows.to_vec())
    };
    for event in events {
        match *event {
            Ok(((key, n), time)) => {
                let start = time.div_euclid(10) * 10;
                if start + 9 + allowed <= now {
                    continue;
                }
                let window = windows.entry((key, start)).or_default();
                window.rows.push(n);
                if start + 9 <= now {
                    out.push(told(key, start, &window.rows));
                } else if window.next.is_none() {
                    window.next = Some((time.div_euclid(4) * 4 + 4).min(start + 9));
                }
            }
            Err(watermark) => {
                for ((key, start), window) in &mut windows {
                    while let Some(next) = window.next.filter(|next| *next <= watermark) {
                        out.push(told(*key, *start, &window.rows));
                        window.next = (next < start + 9).then_some((next + 4).min(start + 9));
                    }
                }
                windows.retain(|(_, start), _| (start + 9).saturating_add(allowed) > watermark);
                now = watermark;
            }
        }
    }
    out
}

#[test]
fn every_so_often_in_event_time() {
    let events = sales();
    for allowed in [0, 6] {
        let expected = every_four(&events, allowed as i64);
        assert!(expected.len() > 25, "{}", expected.len());
        windows(Tumbling::of(ms(10)), On(ContinuousEventTime::of(ms(4))), allowed)
            .input(input(&events))
            .expect(Order::Multiset, expected)
            .expect_state_rows(0)
            .verify();
    }
}

#[test]
fn every_few_rows_of_sliding_windows() {
    let events = sales();
    let mut windows_of: BTreeMap<(u64, i64), Vec<i64>> = BTreeMap::new();
    let (mut expected, mut late, mut now) = (vec![], 0, i64::MIN);
    for event in &events {
        match *event {
            Err(watermark) => now = watermark,
            Ok(((key, n), time)) => {
                let first = time.div_euclid(10) * 10;
                let live: Vec<i64> = [first, first - 10]
                    .into_iter()
                    .filter(|start| start + 19 > now)
                    .collect();
                late += u64::from(live.is_empty());
                for start in live {
                    let rows = windows_of.entry((key, start)).or_default();
                    rows.push(n);
                    if rows.len() == 3 {
                        let mut rows = std::mem::take(rows);
                        rows.sort_unstable();
                        expected.push((key, start, start + 20, rows));
                    }
                }
            }
        }
    }
    assert!(expected.len() > 5, "{}", expected.len());
    windows(Sliding::of(ms(20), ms(10)), On(Purging::of(Count::of(3))), 0)
        .input(input(&events))
        .expect(Order::Multiset, expected)
        .expect_late(late)
        .expect_state_rows(0)
        .verify();
}

#[test]
fn when_a_row_is_far_from_the_last_that_fired() {
    let (input, by_key) = untimed();
    let mut expected = vec![];
    for (key, rows) in &by_key {
        let mut last = rows[0];
        for end in 1..rows.len() {
            if (rows[end] - last).abs() > 30 {
                last = rows[end];
                expected.push(tell(key, Window::ALL, rows[..=end].to_vec()));
            }
        }
    }
    assert!(expected.len() > 8, "{}", expected.len());
    let distance = |last: &Row, row: &Row| (row.1 - last.1).abs() as f64;
    windows(Global, On(Delta::of(30.0, distance)), 0)
        .input(input)
        .expect(Order::Multiset, expected)
        .expect_late(0)
        .expect_state_rows(by_key.len())
        .verify();
}

/// Fires at the end like any other window, and fires and purges at each row below zero.
#[derive(Clone)]
struct BelowZero;

fn is_below_zero(row: &Row) -> bool {
    row.1 < 0
}

impl Trigger<Row> for BelowZero {
    type State = ();
    fn on_row(
        &self,
        row: &Row,
        time: Option<Timestamp>,
        window: Window,
        state: &mut Option<()>,
        cx: &mut TriggerCx<'_>,
    ) -> TriggerResult {
        let at_end = EventTime.on_row(row, time, window, state, cx);
        match is_below_zero(row) {
            true => TriggerResult::FireAndPurge,
            false => at_end,
        }
    }
    fn on_event_time(
        &self,
        time: Timestamp,
        window: Window,
        state: &mut Option<()>,
        cx: &mut TriggerCx<'_>,
    ) -> TriggerResult {
        Trigger::<Row>::on_event_time(&EventTime, time, window, state, cx)
    }
    fn on_merge(&self, window: Window, states: Vec<()>, cx: &mut TriggerCx<'_>) -> Option<()> {
        Trigger::<Row>::on_merge(&EventTime, window, states, cx)
    }
}

#[test]
fn sessions_with_a_trigger_of_ones_own() {
    let plain = Plain::new(5, |_, time| vec![(time, time + 8)]).merging();
    let (input, plain) = plain.purging(is_below_zero).of(sales());
    assert!(sales().iter().flatten().any(|(row, _)| is_below_zero(row)));
    windows(Session::gap(ms(8)), On(BelowZero), 5)
        .input(input)
        .expect(Order::Multiset, plain.out)
        .expect_late(plain.late.len() as u64)
        .expect_state_rows(0)
        .verify();
}

#[test]
fn counts_of_sessions_that_merge_add_up() {
    let row = |n: i64, time| Event::row((1u64, n)).at(time);
    windows(Session::gap(ms(5)), On(Purging::of(Count::of(4))), 0)
        .input([
            row(1, 0),
            row(2, 2),
            row(3, 8),
            row(4, 4),
            row(5, 6),
            Event::watermark(plain::END),
        ])
        .expect(Order::Exact, [(1u64, 0i64, 13i64, vec![1i64, 2, 3, 4])])
        .expect_state_rows(0)
        .verify();
}

/// Shows only even numbers, and forgets the first of them.
#[derive(Clone)]
struct EvenOnly;

impl Evictor<Row> for EvenOnly {
    fn before(&self, rows: &mut Vec<Timed<Row>>, _: Window) {
        rows.retain(|row| row.value.1 % 2 == 0);
    }
    fn after(&self, rows: &mut Vec<Timed<Row>>, _: Window) {
        rows.drain(..rows.len().min(1));
    }
}

#[test]
fn an_evictor_of_ones_own() {
    let (input, by_key) = untimed();
    let mut expected = vec![];
    for (key, rows) in &by_key {
        let mut kept: Vec<i64> = vec![];
        for rows in rows.chunks_exact(3) {
            kept.extend(rows);
            kept.retain(|n| n % 2 == 0);
            if !kept.is_empty() {
                expected.push(tell(key, Window::ALL, kept.clone()));
                kept.remove(0);
            }
        }
    }
    assert!(expected.len() > 8, "{}", expected.len());
    windows(Global, Evicting(Count::of(3), EvenOnly), 0)
        .input(input)
        .expect(Order::Multiset, expected)
        .expect_state_rows(by_key.len())
        .verify();
}

/// All rows in time: an evictor forgets, so a window that fires twice would not tell the same again.
#[test]
fn sessions_with_an_evictor() {
    let rows: Vec<(Row, i64)> = (0..40)
        .map(|n| ((noise(n) % 4, n as i64), n as i64 * 2 - noise(n + 33) as i64 % 30))
        .collect();
    let time_of = |n: &i64| rows[*n as usize].1;
    let events = rows.iter().copied().map(Ok).chain([Err(plain::END)]);
    let (input, plain) = Plain::new(0, |_, time| vec![(time, time + 8)])
        .merging()
        .of(events.collect());
    let expected = plain.out.iter().map(|(key, start, end, rows)| {
        let latest = rows.iter().map(time_of).max().unwrap();
        let near = rows.iter().copied().filter(|n| time_of(n) > latest - 5);
        (*key, *start, *end, near.collect::<Vec<_>>())
    });
    let expected: Vec<Told> = expected.collect();
    assert!(expected.iter().zip(&plain.out).any(|(kept, all)| kept != all));
    let firing = Evicting(EventTime, EvictTime::keep(ms(5)));
    windows(Session::gap(ms(8)), firing, 4)
        .input(input)
        .expect(Order::Multiset, expected)
        .expect_state_rows(0)
        .verify();
}

#[test]
fn what_the_given_evictors_keep() {
    let rows = |rows: &[(i64, i64)]| -> Vec<Timed<i64>> {
        let timed = rows.iter().map(|(value, time)| Timed {
            value: *value,
            time: Some(Timestamp(*time)),
        });
        timed.collect()
    };
    let all = rows(&[(1, 10), (9, 30), (3, 22), (4, 25)]);
    let kept = |evict: &dyn Fn(&mut Vec<Timed<i64>>)| {
        let mut rows = all.clone();
        evict(&mut rows);
        rows.iter().map(|row| row.value).collect::<Vec<_>>()
    };
    let w = Window::ALL;
    assert_eq!(kept(&|rows| EvictCount::keep(3).before(rows, w)), [9, 3, 4]);
    assert_eq!(
        kept(&|rows| EvictCount::keep(3).after().before(rows, w)),
        [1, 9, 3, 4]
    );
    assert_eq!(
        kept(&|rows| Evictor::after(&EvictCount::keep(9).after(), rows, w)),
        [1, 9, 3, 4]
    );
    assert_eq!(
        kept(&|rows| Evictor::after(&EvictCount::keep(1).after(), rows, w)),
        [4]
    );
    // Exactly as old as the span is too old.
    assert_eq!(kept(&|rows| EvictTime::keep(ms(8)).before(rows, w)), [9, 4]);
    let distance = |a: &i64, b: &i64| (a - b).abs() as f64;
    // Exactly as far as the threshold is too far.
    assert_eq!(
        kept(&|rows| EvictDelta::keep(3.0, distance).before(rows, w)),
        [3, 4]
    );
}
