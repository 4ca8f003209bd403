//! The kinds of keyed state in operators under every condition of the engine.

use rivermark_runtime::operators::{KeyedOp, KeyedOpenCx, KeyedOperator, Out, Timed};
use rivermark_state::{
    AggregateFunction, AggregatingState, Key, ReducingState, StateTtl, TtlAggregatingState, TtlListState,
    TtlMapState, TtlReducingState, TtlValueState, UpdateType,
};
use rivermark_testkit::{Event, Order, Subject, verify_operator};
use rivermark_types::Result;
use std::collections::BTreeMap;
use std::time::Duration;

type Row = (u64, u64);

fn select(row: &Row) -> u64 {
    row.0
}

/// Numbers that look like noise and are the same every time.
fn noise(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) >> 33
}

fn rows() -> Vec<Row> {
    (0..40).map(|n| (noise(n) % 7, noise(n + 100) % 50)).collect()
}

/// Rows and their sum.
struct Mean;

impl AggregateFunction for Mean {
    type Input = u64;
    type Acc = (u64, u64);
    type Output = f64;
    fn create(&self) -> (u64, u64) {
        (0, 0)
    }
    fn add(&self, acc: &mut (u64, u64), row: u64) {
        *acc = (acc.0 + row, acc.1 + 1);
    }
    fn result(&self, acc: &(u64, u64)) -> f64 {
        acc.0 as f64 / acc.1 as f64
    }
}

/// Tells the largest row of a key and the mean; one that is divisible by ten begins both anew.
#[derive(Default)]
struct Summary {
    largest: ReducingState<u64, u64>,
    mean: AggregatingState<u64, Mean>,
}

impl KeyedOp<u64, Row, (u64, u64, String)> for Summary {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u64>) -> Result<()> {
        self.largest = cx.reducing("largest", |largest: &mut u64, row: u64| {
            *largest = row.max(*largest)
        })?;
        self.mean = cx.aggregating("mean", Mean)?;
        Ok(())
    }
    fn row(&mut self, key: &Key<u64>, row: Timed<Row>, out: &mut Out<(u64, u64, String)>) -> Result<()> {
        let n = row.value.1;
        if n.is_multiple_of(10) {
            let had = self.largest.clear(key);
            assert_eq!(self.mean.clear(key), had.is_some());
        }
        self.largest.add(key, n);
        self.mean.add(key, n);
        if let (Some(largest), Some(mean)) = (self.largest.get(key), self.mean.get(key)) {
            out.emit((key.value, *largest, format!("{mean:.3}")));
        }
        Ok(())
    }
}

#[test]
fn reducing_and_aggregating_state() {
    let mut of_key = BTreeMap::<u64, Vec<u64>>::new();
    let expected: Vec<_> = rows()
        .into_iter()
        .filter_map(|(key, n)| {
            let rows = of_key.entry(key).or_default();
            if n % 10 == 0 {
                rows.clear();
            }
            rows.push(n);
            let mean = rows.iter().sum::<u64>() as f64 / rows.len() as f64;
            Some((key, *rows.iter().max()?, format!("{mean:.3}")))
        })
        .collect();
    let keys = of_key.len();
    verify_operator(|| Subject::operator(|| KeyedOperator::new(select, Summary::default())))
        .keyed_by(0, select)
        .input(rows().into_iter().map(Event::row))
        .expect(Order::Exact, expected)
        .expect_state_rows(2 * keys)
        .verify();
}

const TTL_MS: i64 = 100;

type Seen = (
    u64,
    Option<u64>,
    Vec<u64>,
    Vec<(u64, u64)>,
    Option<u64>,
    Option<String>,
);

/// Tells what is there of a key, then takes the row into all of it; a row of 0 is only a look.
struct Fading {
    ttl: StateTtl,
    last: TtlValueState<u64, u64>,
    all: TtlListState<u64, u64>,
    by_digit: TtlMapState<u64, u64, u64>,
    largest: TtlReducingState<u64, u64>,
    mean: TtlAggregatingState<u64, Mean>,
}

impl Fading {
    fn new(update_type: UpdateType) -> Fading {
        Fading {
            ttl: StateTtl::new(Duration::from_millis(TTL_MS as u64)).with_update_type(update_type),
            last: TtlValueState::default(),
            all: TtlListState::default(),
            by_digit: TtlMapState::default(),
            largest: TtlReducingState::default(),
            mean: TtlAggregatingState::default(),
        }
    }
}

impl KeyedOp<u64, Row, Seen> for Fading {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u64>) -> Result<()> {
        self.last = cx.with_ttl(self.ttl).value("last")?;
        self.all = cx.with_ttl(self.ttl).list("all")?;
        self.by_digit = cx.with_ttl(self.ttl).map("by digit")?;
        let larger = |largest: &mut u64, row: u64| *largest = row.max(*largest);
        self.largest = cx.with_ttl(self.ttl).reducing("largest", larger)?;
        self.mean = cx.with_ttl(self.ttl).aggregating("mean", Mean)?;
        Ok(())
    }
    fn row(&mut self, key: &Key<u64>, row: Timed<Row>, out: &mut Out<Seen>) -> Result<()> {
        let n = row.value.1;
        out.emit((
            key.value,
            self.last.get(key).copied(),
            self.all.get(key).to_vec(),
            self.by_digit.iter(key).map(|(digit, n)| (*digit, *n)).collect(),
            self.largest.get(key).copied(),
            self.mean.get(key).map(|mean| format!("{mean:.3}")),
        ));
        if n > 0 {
            self.last.set(key, n);
            self.all.push(key, n);
            self.by_digit.insert(key, n % 3, n);
            self.largest.add(key, n);
            self.mean.add(key, n);
        }
        Ok(())
    }
}

/// The same in plain collections. Each thing stands beside the time of its last access.
#[derive(Default)]
struct Plain {
    last: Vec<(u64, i64)>,
    all: Vec<(u64, i64)>,
    by_digit: BTreeMap<u64, (u64, i64)>,
    kept: Vec<u64>,
    kept_at: i64,
}

impl Plain {
    fn row(&mut self, key: u64, n: u64, now: i64, reading_counts: bool) -> Seen {
        let lives = |at: i64| now - at < TTL_MS;
        self.last.retain(|(_, at)| lives(*at));
        self.all.retain(|(_, at)| lives(*at));
        self.by_digit.retain(|_, (_, at)| lives(*at));
        if !lives(self.kept_at) {
            self.kept.clear();
        }
        let mean = self.kept.iter().sum::<u64>() as f64 / self.kept.len() as f64;
        let seen = (
            key,
            self.last.last().map(|(n, _)| *n),
            self.all.iter().map(|(n, _)| *n).collect(),
            self.by_digit.iter().map(|(digit, (n, _))| (*digit, *n)).collect(),
            self.kept.iter().max().copied(),
            (!self.kept.is_empty()).then(|| format!("{mean:.3}")),
        );
        if reading_counts {
            let listed = self.last.iter_mut().chain(&mut self.all);
            listed
                .chain(self.by_digit.values_mut())
                .for_each(|thing| thing.1 = now);
            self.kept_at = now;
        }
        if n > 0 {
            self.last = vec![(n, now)];
            self.all.push((n, now));
            self.by_digit.insert(n % 3, (n, now));
            self.kept.push(n);
            self.kept_at = now;
        }
        seen
    }
}

fn state_with_a_time_to_live(update_type: UpdateType) {
    let mut now = 1_000;
    let mut of_key = BTreeMap::<u64, Plain>::new();
    let (mut input, mut expected) = (vec![Event::processing_time(now)], vec![]);
    for n in 0..26 {
        let row = (noise(n) % 4, noise(n + 100) % 7);
        let reading_counts = update_type == UpdateType::OnReadAndWrite;
        expected.push(
            of_key
                .entry(row.0)
                .or_default()
                .row(row.0, row.1, now, reading_counts),
        );
        input.push(Event::row(row));
        if n % 3 == 0 {
            now += (noise(n + 200) % 90) as i64;
            input.push(Event::processing_time(now));
        }
    }
    let forgotten = expected.iter().filter(|seen| seen.1.is_none()).count();
    assert!(forgotten > of_key.len(), "nothing expires: nothing is tested");
    verify_operator(move || Subject::operator(move || KeyedOperator::new(select, Fading::new(update_type))))
        .keyed_by(0, select)
        .input(input)
        .expect(Order::Exact, expected)
        .verify();
}

#[test]
fn state_lives_from_the_last_change() {
    state_with_a_time_to_live(UpdateType::OnCreateAndWrite);
}

#[test]
fn state_lives_from_the_last_look() {
    state_with_a_time_to_live(UpdateType::OnReadAndWrite);
}
