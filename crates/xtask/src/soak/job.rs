//! The job that is watched: visits by text keys that come four times and never again, counted in state with a time to live,
//! into a slow sink.
//!
//! A key's four visits are equally far apart and all in the same split, so the state meets them in order: the nth must be
//! counted as the nth, whatever fails in between. Dead keys come without end; only their expiry bounds the state.

use super::sink::SlowSink;
use rivermark::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Under this name the command starts itself as the job.
pub(crate) const NAME: &str = "soak-job";

/// How often a key comes.
pub(super) const VISITS: u64 = 4;

/// Counts visits slowly, to be watched while it does.
#[derive(clap::Args)]
struct Options {
    /// The directory of the results
    #[arg(long)]
    output: PathBuf,
    /// A file that, when it is there, fails an attempt once
    #[arg(long)]
    failure: PathBuf,
    /// Rows a second that the sink takes, in all subtasks
    #[arg(long)]
    rate: u64,
    /// How long a key's count lives
    #[arg(long)]
    ttl_ms: u64,
}

#[derive(Clone, Serialize, Deserialize)]
struct Visit {
    key: String,
    number: u64,
}

/// What comes out for each visit.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct Counted {
    /// The visit's number.
    pub(super) number: u64,
    /// How many visits of its key there were, this one counted.
    pub(super) nth: u64,
}

/// How many numbers lie between two visits of a key, by the rate: about a second. Even, so that both are in one split.
fn distance(rate: u64) -> u64 {
    (rate & !1).max(2)
}

/// Which visit of its key a number is.
pub(super) fn nth(number: u64, rate: u64) -> u64 {
    number % (VISITS * distance(rate)) / distance(rate) + 1
}

fn visit(number: u64, rate: u64) -> Visit {
    let (distance, block) = (distance(rate), VISITS * distance(rate));
    let key = number / block * distance + number % distance;
    Visit {
        key: format!("{:024x}", mix(key)),
        number,
    }
}

/// Spreads numbers over all 64 bits, each to its own place.
pub(super) fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

struct Count {
    ttl: StateTtl,
    visits: TtlValueState<String, u64>,
}

impl KeyedOp<String, Visit, Counted> for Count {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, String>) -> Result<()> {
        self.visits = cx.with_ttl(self.ttl).value("visits")?;
        Ok(())
    }
    fn row(&mut self, key: &Key<String>, row: Timed<Visit>, out: &mut Out<Counted>) -> Result<()> {
        let visits = self.visits.update(key);
        *visits += 1;
        out.emit(Counted {
            number: row.value.number,
            nth: *visits,
        });
        Ok(())
    }
}

/// The job's `main`.
pub(crate) fn main() -> ExitCode {
    rivermark::run_with(|env, options: Options| {
        env.set_name(NAME);
        let (rate, ttl) = (options.rate, StateTtl::new(Duration::from_millis(options.ttl_ms)));
        let visits = GeneratorSource::endless(move |number| visit(number, rate));
        env.from_source(visits, WatermarkStrategy::none())
            .uid("visits")
            .key_by(|visit| visit.key.clone())
            .process(move || Count {
                ttl,
                visits: TtlValueState::default(),
            })
            .uid("count")
            .sink_to(SlowSink::new(options.output, options.failure, rate))
            .uid("tallies");
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn each_key_comes_four_times_in_one_split_and_never_again() {
        let mut visits = BTreeMap::<String, Vec<u64>>::new();
        for number in 0..280 {
            let key = visits.entry(visit(number, 15).key).or_default();
            key.push(number);
            assert_eq!(nth(number, 15), key.len() as u64);
        }
        for numbers in visits.values() {
            assert_eq!(numbers.len(), VISITS as usize);
            assert!(numbers.iter().all(|number| number % 2 == numbers[0] % 2));
        }
    }
}
