//! All 336,776 flights that left New York in 2013, as a stream: and a crash that leaves no trace in the results.
//!
//! ```text
//! cargo run --release --example flights                 # about ten seconds
//! cargo run --release --example flights -- --seed 7     # the crash at another moment
//! cargo run --release --example flights -- --no-crash   # just the job
//! ```
//!
//! The program is two programs in one. As a **job** (`job.rs`) it reads twelve months of flights at a pace that makes them
//! last about four seconds, takes a checkpoint every 200 ms and writes three results:
//!
//! ```text
//! flights ──┬─ by airport ──────── windows of an hour ─────────────────────── hours/*.csv
//!           ├─ by carrier ──────── a timer a day ──────────────────────────── carriers/*.csv
//!           └─ by airport, hour ─┬─ connected ─ by sky ─ windows of a day ─── skies/*.csv
//! weather ──── by airport, hour ─┘
//! ```
//!
//! As a **parent** (`parent.rs`) it starts itself as that job twice. The first run is left in peace. The second is killed, hard
//! (`SIGKILL`), at a random moment after its third checkpoint, and started again with `--from latest`. In the end the
//! finished files of both must hold the same rows, each as often. `report.rs` prints what came of it.
//!
//! Things to look at in `job.rs`: rows come up to 23 hours out of order, so the watermark waits 24; flights that never left
//! and hours without weather are values (`Option`), not errors; all sums are integers, so that no order of adding shows.
//! The data, their source and their licence (CC0) are in `examples/data`.

mod job;
mod model;
mod parent;
mod report;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == job::FLAG) {
        return rivermark::run_with(job::build);
    }
    parent::main(parent::Options::parse())
}
