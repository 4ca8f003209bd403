//! The kinds of keyed state in operators under every condition of the engine.

use rivermark_runtime::operators::{KeyedOp, KeyedOpenCx, KeyedOperator, Out, Timed};
use rivermark_state::{AggregateFunction, AggregatingState, Key, ReducingState};
use rivermark_testkit::{Event, Order, Subject, verify_operator};
use rivermark_types::Result;
use std::collections::BTreeMap;

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
        self.largest = cx.reducing("largest", |largest: &mut u64, row| *largest = row.max(*largest))?;
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
