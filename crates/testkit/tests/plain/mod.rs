//! Event-time windows computed in the plainest way there is: lists of rows by key and window.
#![allow(dead_code, reason = "each test takes what it needs")]

use rivermark_runtime::operators::window::{Aggregated, Firing, Lateness, MergingFold, WindowsOf};
use rivermark_runtime::operators::{LateRows, Window};
use rivermark_testkit::{Event, Subject, Verification, verify_operator};
use std::collections::BTreeMap;
use std::time::Duration;

/// The watermark behind all rows.
pub const END: i64 = i64::MAX;

/// Key and number.
pub type Row = (u64, i64);
/// Key, start and end of a window, and its numbers, sorted.
pub type Told = (u64, i64, i64, Vec<i64>);

/// Numbers that look like noise and are the same every time.
pub fn noise(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) >> 33
}

/// What a window comes to.
pub fn tell(key: &u64, window: Window, mut rows: Vec<i64>) -> Told {
    rows.sort_unstable();
    (*key, window.start.0, window.end.0, rows)
}

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Windows that hold all their rows.
pub type Fold = Aggregated<
    MergingFold<u64, Row, Vec<i64>, Told, fn(&mut Vec<i64>, Row), fn(&mut Vec<i64>, Vec<i64>), Tell>,
>;
type Tell = fn(&u64, Window, Vec<i64>) -> Told;

pub fn fold() -> Fold {
    Aggregated(MergingFold::new(
        |rows, row| rows.push(row.1),
        |rows, others| rows.extend(others),
        tell,
    ))
}

/// Windows that hold rows and fire as `firing` says.
pub fn windows<W, P>(windows: W, firing: P, allowed_ms: u64) -> Verification
where
    W: WindowsOf<u64, Fold>,
    P: Firing<u64, W, Fold>,
{
    let lateness = Lateness::new(ms(allowed_ms), LateRows::Drop);
    let subject = move || {
        let (windows, firing) = (windows.clone(), firing.clone());
        let make = move || Ok(firing.operator(|row: &Row| row.0, windows.clone(), fold(), lateness));
        Subject::made_by("windows", make)
    };
    verify_operator(subject).keyed_by(0, |row: &Row| row.0)
}

/// Sales out of order: rows with their times, and a watermark behind each fifth, beyond some rows to come.
pub fn sales() -> Vec<Result<(Row, i64), i64>> {
    let mut events = vec![];
    for n in 0..40u64 {
        let row = (noise(n) % 4, noise(n + 9) as i64 % 100 - 20);
        events.push(Ok((row, n as i64 * 2 - noise(n + 33) as i64 % 30)));
        if n % 5 == 4 {
            events.push(Err(n as i64 * 2 - 3));
        }
    }
    events.push(Err(END));
    events
}

type Assign = Box<dyn Fn(&Row, i64) -> Vec<(i64, i64)>>;

/// The windows of each key, and what has come out of them.
pub struct Plain {
    assign: Assign,
    merges: bool,
    purges: fn(&Row) -> bool,
    /// How long windows stay behind their end, in milliseconds.
    pub allowed: i64,
    watermark: i64,
    windows: BTreeMap<(u64, (i64, i64)), Vec<i64>>,
    /// What the windows told, firing by firing.
    pub out: Vec<Told>,
    /// Rows that no window took.
    pub late: Vec<Row>,
}

impl Plain {
    /// Windows that fire at their end and once more for each late row, until `allowed` behind it.
    pub fn new(allowed: i64, assign: impl Fn(&Row, i64) -> Vec<(i64, i64)> + 'static) -> Plain {
        Plain {
            assign: Box::new(assign),
            merges: false,
            purges: |_| false,
            allowed,
            watermark: i64::MIN,
            windows: BTreeMap::new(),
            out: vec![],
            late: vec![],
        }
    }

    /// The same windows; those of a key that overlap become one.
    pub fn merging(mut self) -> Plain {
        self.merges = true;
        self
    }

    /// The same windows; at such rows they tell what they have, and forget it.
    pub fn purging(mut self, purges: fn(&Row) -> bool) -> Plain {
        self.purges = purges;
        self
    }

    /// The events as input, and what comes of them.
    pub fn of(mut self, events: Vec<Result<(Row, i64), i64>>) -> (Vec<Event>, Plain) {
        let mut input = vec![];
        for event in events {
            match event {
                Ok((row, time)) => {
                    input.push(Event::row(row).at(time));
                    self.row(row, time);
                }
                Err(watermark) => {
                    input.push(Event::watermark(watermark));
                    self.watermark(watermark);
                }
            }
        }
        (input, self)
    }

    fn row(&mut self, row: Row, time: i64) {
        let mut is_taken = false;
        for window in (self.assign)(&row, time) {
            let (window, mut rows) = self.merged(row.0, window);
            if window.1 - 1 + self.allowed <= self.watermark {
                continue;
            }
            is_taken = true;
            rows.push(row.1);
            if (self.purges)(&row) {
                self.tell(row.0, window, std::mem::take(&mut rows));
            } else if window.1 - 1 <= self.watermark {
                self.tell(row.0, window, rows.clone());
            }
            self.windows.insert((row.0, window), rows);
        }
        if !is_taken && time + self.allowed <= self.watermark {
            self.late.push(row);
        }
    }

    /// Takes out the windows that this one becomes one with.
    fn merged(&mut self, key: u64, (start, end): (i64, i64)) -> ((i64, i64), Vec<i64>) {
        let is_one = |other: &(u64, (i64, i64))| match self.merges {
            true => other.0 == key && other.1.0 < end && other.1.1 > start,
            false => *other == (key, (start, end)),
        };
        let others: Vec<_> = self.windows.keys().copied().filter(is_one).collect();
        let mut merged = ((start, end), vec![]);
        for other in others {
            merged.0 = (merged.0.0.min(other.1.0), merged.0.1.max(other.1.1));
            merged.1.extend(self.windows.remove(&other).unwrap_or_default());
        }
        merged
    }

    fn watermark(&mut self, watermark: i64) {
        let before = std::mem::replace(&mut self.watermark, watermark);
        for ((key, window), rows) in self.windows.clone() {
            if (before + 1..=watermark).contains(&(window.1 - 1)) {
                self.tell(key, window, rows);
            }
        }
        let allowed = self.allowed;
        self.windows
            .retain(|(_, window), _| (window.1 - 1).saturating_add(allowed) > watermark);
    }

    fn tell(&mut self, key: u64, (start, end): (i64, i64), mut rows: Vec<i64>) {
        rows.sort_unstable();
        if !rows.is_empty() {
            self.out.push((key, start, end, rows));
        }
    }
}
