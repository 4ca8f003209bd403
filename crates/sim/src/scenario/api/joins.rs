//! Joins of two keyed streams: by windows, as groups, by the distance of times.

use super::{Part, same};
use crate::Draw;
use crate::scenario::job::Builder;
use crate::scenario::plan::Scenario;
use crate::scenario::rows::{Input, Output};
use rivermark_stream::{DataStream, Out, Session, Sliding, Window};
use std::collections::BTreeMap;
use std::time::Duration;

/// Joins the rows of both sources by key.
#[derive(Debug)]
enum Join {
    /// Pairs in the same sliding windows; tumbling ones, if both are the same.
    Windows { size_ms: i64, slide_ms: i64 },
    /// Both sides of each session.
    Groups { gap_ms: i64 },
    /// Pairs whose times are near.
    Interval { lower_ms: i64, upper_ms: i64 },
}

pub(super) fn draw(draw: &mut Draw) -> Box<dyn Part> {
    let slide_ms = draw.between(1, 300) as i64;
    let lower_ms = draw.between(0, 400) as i64 - 200;
    Box::new(match draw.below(3) {
        0 => Join::Windows {
            size_ms: slide_ms * draw.between(1, 3) as i64,
            slide_ms,
        },
        1 => Join::Groups {
            gap_ms: draw.between(1, 500) as i64,
        },
        _ => Join::Interval {
            lower_ms,
            upper_ms: lower_ms + draw.between(0, 200) as i64,
        },
    })
}

/// A pair, told by what both rows are.
fn pair(left: &Input, right: &Input) -> Output {
    Output {
        key: left.key,
        time: left.id as i64 * 1_000_000 + right.id as i64,
        sum: left.value + right.value,
        count: 2,
    }
}

fn group(key: u32, (start, end): (i64, i64), left: &[Input], right: &[Input]) -> Output {
    Output {
        key,
        time: start * 100_000 + end,
        sum: left.iter().chain(right).map(|row| row.value).sum(),
        count: left.len() as u64 * 1_000 + right.len() as u64,
    }
}

impl Part for Join {
    fn build(&self, builder: &Builder<'_>) -> DataStream<Output> {
        let left = builder.source(0).key_by(|row| row.key);
        let right = builder.source(1).key_by(|row| row.key);
        let ms = |ms: i64| Duration::from_millis(ms as u64);
        let joined = match *self {
            Join::Windows { size_ms, slide_ms } => {
                let windows = Sliding::of(ms(size_ms), ms(slide_ms));
                let (joined, (late_left, late_right)) =
                    left.join(right).window(windows).late_output().apply(pair);
                // None of the rows is late: these would be too many.
                let late = late_left.union(late_right).map(|row: Input| pair(&row, &row));
                let joined = joined.uid("join").set_parallelism(builder.parallelism(3));
                return joined.union(late);
            }
            Join::Groups { gap_ms } => left.co_group(right).window(Session::gap(ms(gap_ms))).apply(
                |key: &u32, window: Window, left: &[Input], right: &[Input], out: &mut Out<Output>| {
                    out.emit(group(*key, (window.start.0, window.end.0), left, right));
                },
            ),
            Join::Interval { lower_ms, upper_ms } => left
                .interval_join(right)
                .between(lower_ms, upper_ms)
                .process(pair),
        };
        joined.uid("join").set_parallelism(builder.parallelism(3))
    }

    fn has_two_sources(&self) -> bool {
        true
    }

    fn check(&self, scenario: &Scenario, found: &[Output]) -> Result<(), String> {
        let [left, right] = &scenario.rows;
        let mut computed = Vec::new();
        match *self {
            Join::Windows { size_ms, slide_ms } => {
                let last = |row: &Input| row.time.div_euclid(slide_ms);
                for_pairs(left, right, |l, r| {
                    // Windows begin at multiples: those that both are in.
                    let earliest = (last(l).max(last(r)) * slide_ms - size_ms).div_euclid(slide_ms);
                    let is_in = |start: i64, row: &Input| start <= row.time && row.time < start + size_ms;
                    let starts = (earliest..=last(l).min(last(r))).map(|n| n * slide_ms);
                    let both = starts.filter(|start| is_in(*start, l) && is_in(*start, r));
                    computed.extend(both.map(|_| pair(l, r)));
                });
            }
            Join::Interval { lower_ms, upper_ms } => for_pairs(left, right, |l, r| {
                if (lower_ms..=upper_ms).contains(&(r.time - l.time)) {
                    computed.push(pair(l, r));
                }
            }),
            Join::Groups { gap_ms } => computed = groups(left, right, gap_ms),
        }
        same(computed, found)
    }
}

fn for_pairs(left: &[Input], right: &[Input], mut see: impl FnMut(&Input, &Input)) {
    for l in left {
        right.iter().filter(|r| r.key == l.key).for_each(|r| see(l, r));
    }
}

fn groups(left: &[Input], right: &[Input], gap_ms: i64) -> Vec<Output> {
    let mut by_key: BTreeMap<u32, Vec<(i64, &Input, bool)>> = BTreeMap::new();
    for (rows, is_left) in [(left, true), (right, false)] {
        for row in rows {
            by_key.entry(row.key).or_default().push((row.time, row, is_left));
        }
    }
    let mut computed = Vec::new();
    for (key, mut rows) in by_key {
        rows.sort_by_key(|row| row.0);
        let sessions = rows.chunk_by(|before, next| next.0 < before.0 + gap_ms);
        for session in sessions {
            let side = |is_left: bool| -> Vec<Input> {
                let of_side = session.iter().filter(|row| row.2 == is_left);
                of_side.map(|row| row.1.clone()).collect()
            };
            let (first, last) = (session[0].0, session[session.len() - 1].0);
            computed.push(group(key, (first, last + gap_ms), &side(true), &side(false)));
        }
    }
    computed
}
