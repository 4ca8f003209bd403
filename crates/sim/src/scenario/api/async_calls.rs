//! Async calls that finish in any order, fail, and take too long, and windows behind them: a result that came out behind a
//! watermark it was before would be missing there. Rows are numbered before the calls: in ordered mode they keep their order.

use super::processing_timers::same_sums;
use super::{Part, all_rows};
use crate::Draw;
use crate::scenario::job::Builder;
use crate::scenario::plan::Scenario;
use crate::scenario::rows::{Input, Output};
use rivermark_env::Env;
use rivermark_stream::{
    AsyncMode, AsyncRetry, DataStream, Failure, Out, ProcessOp, ProcessOpenCx, Result, Timed, Tumbling,
    Window,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Between a failed call and the next.
const PAUSE: Duration = Duration::from_millis(2);

/// Doubles values by calls, and sums them per key and window.
#[derive(Debug)]
struct Doubled {
    is_ordered: bool,
    capacity: usize,
    slowest: Duration,
    /// Of so many first calls for a row at most one fails, and of so many calls one hangs.
    bad_one_in: u64,
    size_ms: i64,
}

pub(super) fn draw(draw: &mut Draw) -> Box<dyn Part> {
    Box::new(Doubled {
        is_ordered: draw.coin(),
        capacity: draw.between(1, 16) as usize,
        slowest: draw.time(Duration::from_millis(1), Duration::from_millis(40)),
        bad_one_in: draw.between(4, 40),
        size_ms: draw.between(1, 500) as i64,
    })
}

/// Numbers its rows, in place of their ids: above, which attempt's subtask it is; below, the how manieth row of it.
struct Number {
    world: Env,
    next: u64,
}

impl ProcessOp<Input, Input> for Number {
    fn open(&mut self, _: &mut ProcessOpenCx<'_>) -> Result<()> {
        // Not counted: rows of processes before are still under way after a restore.
        self.next = self.world.random_u64() << 32;
        Ok(())
    }
    fn row(&mut self, row: Timed<Input>, out: &mut Out<Input>) -> Result<()> {
        self.next += 1;
        out.emit(Input {
            id: self.next,
            ..row.value
        });
        Ok(())
    }
}

/// Fails at a row that comes before one with a lower number, if there is an order to be kept.
struct Ordered {
    is_asked: bool,
    last: BTreeMap<u64, u64>,
}

impl ProcessOp<Input, Input> for Ordered {
    fn row(&mut self, row: Timed<Input>, out: &mut Out<Input>) -> Result<()> {
        let id = row.value.id;
        let last = self.last.insert(id >> 32, id).unwrap_or(0);
        if self.is_asked && last >= id {
            return Err(Failure::bug(format!("result {id:x} came out behind {last:x}")));
        }
        out.emit(row.value);
        Ok(())
    }
}

/// What the calls are up to.
#[derive(Clone)]
struct Odds {
    slowest: Duration,
    waits_one_in: u64,
    fails_one_in: u64,
    hangs_one_in: u64,
    /// Rows whose first call has failed.
    failed: Arc<Mutex<BTreeSet<u64>>>,
}

impl Odds {
    async fn call(self, world: Env, row: Input) -> Result<Input> {
        let chance = |one_in: u64| world.random_u64().is_multiple_of(one_in);
        if chance(self.waits_one_in) {
            let most = self.slowest.as_millis() as u64;
            let wait = Duration::from_millis(world.random_u64() % (most + 1));
            world.sleep(wait).await;
        }
        let is_first = |id| {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.insert(id)
        };
        if chance(self.fails_one_in) && is_first(row.id) {
            return Err(Failure::external("the first call for a row may fail"));
        }
        if chance(self.hangs_one_in) {
            world.sleep(Duration::from_secs(3_600)).await;
        }
        Ok(double(&row))
    }
}

fn double(row: &Input) -> Input {
    Input {
        value: row.value * 2,
        ..row.clone()
    }
}

impl Doubled {
    fn timeout(&self) -> Duration {
        self.slowest * 4 + Duration::from_millis(20)
    }

    /// However few calls may be under way, no checkpoint's barrier waits for them until it is given up.
    fn odds(&self, job: &Scenario) -> Odds {
        let (rows, patience) = (job.row_count(), job.checkpoints.timeout);
        let seldom =
            |cost: Duration| 8 * rows * cost.as_millis() as u64 / (patience.as_millis() as u64).max(1);
        Odds {
            slowest: self.slowest,
            waits_one_in: seldom(self.slowest).max(1),
            fails_one_in: seldom(PAUSE).max(self.bad_one_in),
            hangs_one_in: seldom(self.timeout()).max(self.bad_one_in),
            failed: Arc::default(),
        }
    }
}

impl Part for Doubled {
    fn build(&self, builder: &Builder<'_>) -> DataStream<Output> {
        let (world, odds) = (builder.world.clone(), self.odds(builder.job));
        let (places, is_asked, numbering) = (builder.parallelism(2), self.is_ordered, world.clone());
        let number = move || Number {
            world: numbering.clone(),
            next: 0,
        };
        let mode = match self.is_ordered {
            true => AsyncMode::ordered(),
            false => AsyncMode::unordered(),
        };
        let numbered = builder.source(0).process(number).uid("numbered");
        let doubled = numbered
            .set_parallelism(places)
            .async_map(mode, move |row| odds.clone().call(world.clone(), row))
            .capacity(self.capacity)
            .timeout(self.timeout())
            .on_timeout(double)
            .retry(AsyncRetry::fixed_delay(2, PAUSE))
            .uid("calls")
            .set_parallelism(places);
        let ordered = move || Ordered {
            is_asked,
            last: BTreeMap::new(),
        };
        doubled
            .process(ordered)
            .uid("ordered")
            .set_parallelism(places)
            .key_by(|row| row.key)
            .window(Tumbling::of(Duration::from_millis(self.size_ms as u64)))
            .fold(
                |acc: &mut (i64, u64), row: Input| *acc = (acc.0 + row.value, acc.1 + 1),
                |key: &u32, window: Window, (sum, count)| Output {
                    key: *key,
                    time: window.start.0,
                    sum,
                    count,
                },
            )
            .uid("windows")
            .set_parallelism(builder.parallelism(3))
    }

    fn check(&self, scenario: &Scenario, found: &[Output]) -> Result<(), String> {
        let rows = all_rows(scenario).map(|row| {
            let start = row.time - row.time.rem_euclid(self.size_ms);
            (row.key, start, 2 * row.value)
        });
        same_sums(rows, found.iter().cloned())
    }
}
