//! Windows of processing time, and triggers that go by the machine's clock, against plain computations.

mod plain;

use plain::{Fold, Row, Told, ms, noise, tell};
use rivermark_runtime::operators::window::{
    AtEnd, ContinuousProcessingTime, EvictCount, Evicting, Firing, Gathered, InProcessingTime, Lateness, On,
    ProcessingTime, Purging, Session, SessionProcessingTime, SlidingProcessingTime, TumblingProcessingTime,
    WindowsOf,
};
use rivermark_runtime::operators::{LateRows, Out, Tumbling, Window};
use rivermark_testkit::{Event, Order, Subject, Verification, verify_operator};
use rivermark_types::Timestamp;
use std::collections::BTreeMap;

/// Windows that hold rows, fire as `firing` says and are late for none.
fn windows<W, P>(windows: W, firing: P) -> Verification
where
    W: WindowsOf<u64, Fold>,
    P: Firing<u64, W, Fold>,
{
    plain::windows(windows, firing, 0).expect_late(0)
}

/// Rows without event times, each with the processing time at which it comes.
fn arrivals() -> Vec<(Row, i64)> {
    (0..24u64)
        .map(|n| {
            let row = (noise(n) % 3, noise(n + 9) as i64 % 100);
            (row, n as i64 * 3 + noise(n + 33) as i64 % 3)
        })
        .collect()
}

/// When all windows are over.
const END: i64 = 1_000;

fn input(arrivals: &[(Row, i64)]) -> Vec<Event> {
    let come = arrivals
        .iter()
        .flat_map(|(row, at)| [Event::processing_time(*at), Event::row(*row)]);
    come.chain([Event::processing_time(END)]).collect()
}

/// What windows that fire once, at their end, tell.
fn told_at_end(arrivals: &[(Row, i64)], assign: impl Fn(i64) -> Vec<(i64, i64)>) -> Vec<Told> {
    let mut rows: BTreeMap<(u64, i64, i64), Vec<i64>> = BTreeMap::new();
    for ((key, n), at) in arrivals {
        for (start, end) in assign(*at) {
            rows.entry((*key, start, end)).or_default().push(*n);
        }
    }
    let tell_one = |((key, start, end), rows)| tell(&key, span(start, end), rows);
    rows.into_iter().map(tell_one).collect()
}

fn span(start: i64, end: i64) -> Window {
    Window {
        start: Timestamp(start),
        end: Timestamp(end),
    }
}

fn tumbling(size: i64) -> impl Fn(i64) -> Vec<(i64, i64)> {
    move |at| {
        let start = at.div_euclid(size) * size;
        vec![(start, start + size)]
    }
}

#[test]
fn tumbling_windows_of_when_rows_come() {
    let arrivals = arrivals();
    let expected = told_at_end(&arrivals, tumbling(20));
    let of_twenty = TumblingProcessingTime::of(ms(20));
    windows(of_twenty, AtEnd)
        .input(input(&arrivals))
        .expect(Order::Multiset, expected.clone())
        .expect_state_rows(0)
        .verify();
    windows(of_twenty, On(ProcessingTime))
        .input(input(&arrivals))
        .expect(Order::Multiset, expected)
        .expect_state_rows(0)
        .verify();
}

#[test]
fn sliding_windows_of_when_rows_come() {
    let arrivals = arrivals();
    let assign = |at: i64| {
        let start = (at - 5).div_euclid(10) * 10 + 5;
        vec![
            (start, start + 30),
            (start - 10, start + 20),
            (start - 20, start + 10),
        ]
    };
    windows(
        SlidingProcessingTime::of(ms(30), ms(10)).with_offset(ms(5)),
        AtEnd,
    )
    .input(input(&arrivals))
    .expect(Order::Multiset, told_at_end(&arrivals, assign))
    .expect_state_rows(0)
    .verify();
}

/// Sessions of each key: rows nearer than their gaps.
fn sessions(arrivals: &[(Row, i64)], gap: impl Fn(&Row) -> i64) -> Vec<Told> {
    let mut by_key: BTreeMap<u64, Vec<(i64, i64, Vec<i64>)>> = BTreeMap::new();
    for (row, at) in arrivals {
        let of_key = by_key.entry(row.0).or_default();
        let end = at + gap(row);
        match of_key.last_mut().filter(|last| last.1 > *at) {
            Some(last) => {
                last.1 = last.1.max(end);
                last.2.push(row.1);
            }
            None => of_key.push((*at, end, vec![row.1])),
        }
    }
    let of_key = |(key, sessions): (u64, Vec<(i64, i64, Vec<i64>)>)| {
        let told = move |(start, end, rows)| tell(&key, span(start, end), rows);
        sessions.into_iter().map(told)
    };
    by_key.into_iter().flat_map(of_key).collect()
}

#[test]
fn sessions_of_when_rows_come() {
    let arrivals = arrivals();
    let expected = sessions(&arrivals, |_| 9);
    assert!(expected.iter().any(|told| told.3.len() > 2) && expected.len() > 3);
    windows(SessionProcessingTime::gap(ms(9)), AtEnd)
        .input(input(&arrivals))
        .expect(Order::Multiset, expected)
        .expect_state_rows(0)
        .verify();
    let gap = |row: &Row| 5 + row.1.rem_euclid(8);
    let own = Session::dynamic_gap(move |row: &Row| ms(gap(row) as u64));
    windows(InProcessingTime::of_windows(own), AtEnd)
        .input(input(&arrivals))
        .expect(Order::Multiset, sessions(&arrivals, gap))
        .expect_state_rows(0)
        .verify();
}

/// Windows of twenty that tell what has come since they told last: every seven, and at their end.
fn every_seven(arrivals: &[(Row, i64)]) -> Vec<Told> {
    let next = |at: i64| (at.div_euclid(7) * 7 + 7).min(at.div_euclid(20) * 20 + 20);
    let mut parts: BTreeMap<(u64, i64, i64), Vec<i64>> = BTreeMap::new();
    for ((key, n), at) in arrivals {
        let start = at.div_euclid(20) * 20;
        parts.entry((*key, start, next(*at))).or_default().push(*n);
    }
    let part = |((key, start, _), rows)| tell(&key, span(start, start + 20), rows);
    parts.into_iter().map(part).collect()
}

#[test]
fn every_so_often_in_processing_time() {
    let arrivals = arrivals();
    let expected = every_seven(&arrivals);
    assert!(expected.len() > told_at_end(&arrivals, tumbling(20)).len());
    windows(
        TumblingProcessingTime::of(ms(20)),
        On(Purging::of(ContinuousProcessingTime::of(ms(7)))),
    )
    .input(input(&arrivals))
    .expect(Order::Multiset, expected)
    .expect_state_rows(0)
    .verify();
}

/// Two windows of event time: one is told early, twice, and then whole at its end; the other only at its end.
#[test]
fn windows_of_event_time_are_told_early_and_at_their_end() {
    let row = |n: i64, time: i64| Event::row((1u64, n)).at(time);
    let told = |start: i64, rows: &[i64]| tell(&1, span(start, start + 100), rows.to_vec());
    let input = vec![
        row(1, 10),
        Event::processing_time(12),
        row(2, 20),
        Event::processing_time(25),
        row(3, 90),
        Event::processing_time(26),
        Event::watermark(99),
        row(4, 150),
        Event::watermark(i64::MAX),
        Event::processing_time(END),
    ];
    windows(Tumbling::of(ms(100)), On(ContinuousProcessingTime::of(ms(10))))
        .input(input)
        .expect(
            Order::Multiset,
            [
                told(0, &[1]),
                told(0, &[1, 2]),
                told(0, &[1, 2, 3]),
                told(100, &[4]),
            ],
        )
        .expect_state_rows(0)
        .verify();
}

/// An evictor without a trigger: windows fire at the end of their own time.
#[test]
fn an_evictor_keeps_the_last_rows_of_each_window() {
    let arrivals = arrivals();
    let expected = told_at_end(&arrivals, tumbling(20))
        .into_iter()
        .map(|told| told.3.len().min(2));
    let subject = || {
        Subject::made_by("windows", || {
            let process = |_: &u64, _: Window, rows: &[Row], out: &mut Out<usize>| out.emit(rows.len());
            let lateness = Lateness::new(ms(0), LateRows::Drop);
            let of_twenty = TumblingProcessingTime::of(ms(20));
            Ok(Evicting(AtEnd, EvictCount::keep(2)).operator(
                |row: &Row| row.0,
                of_twenty,
                Gathered::new(process),
                lateness,
            ))
        })
    };
    verify_operator(subject)
        .keyed_by(0, |row: &Row| row.0)
        .input(input(&arrivals))
        .expect(Order::Multiset, expected.collect::<Vec<_>>())
        .expect_state_rows(0)
        .verify();
}
