//! Rows that an operator fails at, given up to the dead letters.

use super::{Part, same};
use crate::Draw;
use crate::scenario::job::Builder;
use crate::scenario::plan::Scenario;
use crate::scenario::rows::{Input, Output};
use rivermark_stream::{
    DataStream, DeadLetter, FailingRow, Failure, Key, KeyedOp, KeyedOpenCx, Out, Result, Timed, ValueState,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What operators say of a bad row.
pub(crate) const BAD_ROW: &str = "a bad row";

/// A row that was given up, in place of an event time.
const GIVEN_UP: i64 = -1;

/// Which rows an operator fails at, and which operator.
#[derive(Clone, Debug)]
struct BadRows {
    /// The numbers of the rows.
    bad: Arc<BTreeSet<u64>>,
    /// By a panic, not an error.
    panics: bool,
    /// An operator that numbers the rows of its key; else one without state.
    keyed: bool,
}

pub(super) fn draw(draw: &mut Draw) -> Box<dyn Part> {
    // Every scenario has a hundred rows.
    let bad = (0..draw.between(1, 4)).map(|_| draw.below(100)).collect();
    Box::new(BadRows {
        bad: Arc::new(bad),
        panics: draw.one_in(3),
        keyed: draw.coin(),
    })
}

impl BadRows {
    fn look(&self, id: u64) -> Result<()> {
        match self.bad.contains(&id) {
            true if self.panics => std::panic::panic_any(BAD_ROW),
            true => Err(Failure::data(BAD_ROW)),
            false => Ok(()),
        }
    }
}

fn row(key: u32, number: u64) -> Output {
    Output {
        key,
        time: 0,
        sum: number as i64,
        count: 1,
    }
}

fn given_up(key: u32, id: u64) -> Output {
    Output {
        time: GIVEN_UP,
        ..row(key, id)
    }
}

/// Numbers the rows of each key, from 1; a bad one too, before it fails at it.
struct Numbered {
    bad: BadRows,
    rows: ValueState<u32, u64>,
}

impl KeyedOp<u32, Input, Output> for Numbered {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u32>) -> Result<()> {
        self.rows = cx.value("rows")?;
        Ok(())
    }

    fn row(&mut self, key: &Key<u32>, timed: Timed<Input>, out: &mut Out<Output>) -> Result<()> {
        let number = self.rows.update(key);
        *number += 1;
        out.emit(row(key.value, *number));
        self.bad.look(timed.value.id)
    }
}

impl Part for BadRows {
    fn build(&self, builder: &Builder<'_>) -> DataStream<Output> {
        let bad = self.clone();
        let rows = builder.source(0);
        let kept = match self.keyed {
            true => rows
                .key_by(|row| row.key)
                .process(move || Numbered {
                    bad: bad.clone(),
                    rows: ValueState::default(),
                })
                .on_failing_row(FailingRow::DeadLetter),
            false => rows
                .try_map(move |input| bad.look(input.id).map(|()| row(input.key, input.id)))
                .on_failing_row(FailingRow::DeadLetter),
        };
        let kept = kept.uid("failing").set_parallelism(builder.parallelism(3));
        let (kept, letters) = kept.with_dead_letters();
        let letters = letters.try_map(|letter: DeadLetter| {
            let input: Input = serde_json::from_str(&letter.record)?;
            Ok::<_, serde_json::Error>(given_up(input.key, input.id))
        });
        kept.union(letters)
    }

    fn check(&self, scenario: &Scenario, found: &[Output]) -> std::result::Result<(), String> {
        let mut numbers: BTreeMap<u32, u64> = BTreeMap::new();
        let computed = scenario.rows[0].iter().map(|input| {
            if self.bad.contains(&input.id) {
                return given_up(input.key, input.id);
            }
            let number = numbers.entry(input.key).or_default();
            *number += 1;
            row(input.key, if self.keyed { *number } else { input.id })
        });
        same(computed.collect(), found)
    }
}
