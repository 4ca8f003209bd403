//! The job that is killed: payments into windows, windows into ledgers, ledgers into files.
//!
//! Its output does not depend on how channels interleave: sums are of integers, and a ledger closes a window when the
//! watermark says that all of it is there. So every run of the same input must give the same rows, in any order.

use rivermark::prelude::*;
use rivermark_files::{FileSink, FileSource};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Under this name the command starts itself as the job.
pub(crate) const NAME: &str = "crash-job";

/// How far behind the newest payment of a file a payment may come.
pub(super) const DISORDER: Duration = Duration::from_millis(2_000);
const WINDOW: Duration = Duration::from_millis(250);
const WATERMARKS: Duration = Duration::from_millis(20);
/// A split is read in about a quarter of a second, so that splits change hands all the time.
const SPLIT_BYTES: u64 = 16 << 10;
const BRANCHES: u32 = 8;

/// Adds up payments, to be killed while it does.
#[derive(clap::Args)]
struct Options {
    /// A directory of CSV files
    #[arg(long)]
    input: PathBuf,
    /// The directory of the results
    #[arg(long)]
    output: PathBuf,
    /// Payments a second
    #[arg(long)]
    rate: u64,
}

/// A line of the input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Payment {
    pub(super) account: u32,
    pub(super) time: i64,
    pub(super) cents: i64,
}

/// What an account did in a window.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Movement {
    account: u32,
    payments: u64,
    cents: i64,
}

/// A line of the output: what a branch's accounts did in a window, and what the branch has then.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    branch: u32,
    at: i64,
    accounts: u64,
    pub(super) payments: u64,
    cents: i64,
    balance: i64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Page {
    accounts: u64,
    payments: u64,
    cents: i64,
}

/// Collects the movements of each branch and window, and closes a window by a timer.
#[derive(Default)]
struct Ledger {
    pages: MapState<u32, i64, Page>,
    balance: ValueState<u32, i64>,
    timers: Timers<u32>,
}

impl KeyedOp<u32, Movement, Entry> for Ledger {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u32>) -> Result<()> {
        self.pages = cx.map("pages")?;
        self.balance = cx.value("balance")?;
        self.timers = cx.timers()?;
        Ok(())
    }

    fn row(&mut self, branch: &Key<u32>, row: Timed<Movement>, _: &mut Out<Entry>) -> Result<()> {
        let at = row.event_time()?;
        let page = self.pages.update(branch, at.0);
        page.accounts += 1;
        page.payments += row.value.payments;
        page.cents += row.value.cents;
        self.timers.register(branch, at);
        Ok(())
    }

    fn timer(&mut self, branch: &Key<u32>, timer: Timer, out: &mut Out<Entry>) -> Result<()> {
        let at = timer.time.0;
        let page = self.pages.remove(branch, &at).unwrap_or_default();
        let balance = self.balance.update(branch);
        *balance += page.cents;
        out.emit(Entry {
            branch: branch.value,
            at,
            accounts: page.accounts,
            payments: page.payments,
            cents: page.cents,
            balance: *balance,
        });
        Ok(())
    }
}

/// The job's `main`.
pub(crate) fn main() -> ExitCode {
    rivermark::run_with(|env, options: Options| {
        build(env, options);
        Ok(())
    })
}

fn build(env: &StreamEnv, options: Options) {
    env.set_name(NAME);
    let files = FileSource::csv(options.input).with_split_bytes(SPLIT_BYTES);
    let times = WatermarkStrategy::bounded_out_of_orderness(DISORDER)
        .with_timestamp(|payment: &Payment| Timestamp(payment.time));
    let payments = SourceNode::new(files, times)
        .rate(options.rate)
        .watermark_interval(WATERMARKS);
    env.from_source_node(payments)
        .uid("payments")
        .map(after_fee)
        .key_by(|payment| payment.account)
        .window(Tumbling::of(WINDOW))
        .fold(
            |sum: &mut (u64, i64), payment: Payment| *sum = (sum.0 + 1, sum.1 + payment.cents),
            |account: &u32, _, (payments, cents)| Movement {
                account: *account,
                payments,
                cents,
            },
        )
        .uid("movements")
        .key_by(|movement| movement.account % BRANCHES)
        .process(Ledger::default)
        .uid("ledger")
        .sink_to(FileSink::json(options.output))
        .uid("entries");
}

/// One cent of every hundred is the bank's.
fn after_fee(payment: Payment) -> Payment {
    Payment {
        cents: payment.cents - payment.cents / 100,
        ..payment
    }
}
