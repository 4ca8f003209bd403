//! `cargo xtask bench`: the workloads beside their limits. `rivermark-bench` measures; this is what people call.

use crate::Outcome;
use rivermark_bench::rows::HEAD;
use rivermark_bench::series::{NAMES, Series};
use rivermark_bench::sizes::Sizes;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;

/// Measures jobs beside loops written by hand without any engine, in turns, and prints a row for each.
///
/// Each limit and each job runs several times in a process of its own; a row has the medians. CPU time is that of the whole
/// process, checkpoints and their I/O included. `ratio` is the limit's CPU time of an event over the job's: 1 would be an
/// engine that costs nothing. Jobs run without checkpoints ("off") and with exactly-once checkpoints every second into a
/// temporary folder ("1s"). The numbers mean something only on a machine that does nothing else; two cores are enough.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Which workloads; all if none is named
    #[arg(value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(NAMES))]
    names: Vec<String>,
    /// Print a JSON object for each row, and nothing else, on standard output
    #[arg(long)]
    json: bool,
    /// Small and short, for a first look: less than a minute instead of less than ten
    #[arg(long)]
    quick: bool,
    /// Draw throughput and latency around checkpoints, and how long these take, as SVG files in this folder
    #[arg(long, value_name = "DIR")]
    pictures: Option<PathBuf>,
    /// So small that the numbers mean nothing: for the test of their form
    #[arg(long, hide = true)]
    tiny: bool,
}

const AFTER_HELP: &str = "\
Workloads:
  stateless     numbers through map and filter, parallelism 1 and 2; limit: one fused loop a thread
  keyed_u64     count by number, 1M keys, 2 workers; limit: channels and a fixed table with prefetching
  keyed_string  the same with text keys of 24 letters
  keyed_struct  records of 40 bytes update states of 64 bytes
  window        sum and count by key and tumbling window; limit: a fixed array for each window
  checkpoint    one checkpoint of 1 GB under load, two shapes of rows; limit: the time before it
  latency       50,000 events a second at their times; limit: a channel hop
  restore       from process start to the first output with 1 GB of state; limit: reading its bytes
  backpressure  checkpoints while sinks have a hundredth of their speed, aligned, unaligned, and timed-out after 10 ms;
                limit: the same job offered no more than that
  skew          checkpoints while one of eight partitions has half of the events and keys are Zipf-distributed (1.2);
                limit: the same without skew

Fields of JSON rows: name, parallelism, checkpoints, events_per_s, cpu_ns_per_event, limit_events_per_s,
limit_cpu_ns_per_event, ratio; of `checkpoint` also shape, sync_us (longest freeze of a subtask), gap_ms (longest
time without output), after_over_before (throughput), worst50ms (share of the usual throughput), extra_mb,
complete_ms, growth_gap_ms (gap_ms while the state grew); of `latency` also p50_us, p99_us, p999_us, p9999_us,
limit_p50_us, limit_p99_us; of `restore` also shape, first_output_ms, where events are rows restored; of
`backpressure` and `skew` (where `checkpoints` is the mode) also p50_ms and p99_ms from trigger to decision, of `backpressure`
unloaded_p50_ms and unloaded_p99_ms, measured (how many checkpoints), in_flight_mb (the most), rows_a_batch and sink_ms_a_row, of `skew` even_p50_ms,
even_p99_ms, p50_over_even.";

pub(crate) fn run(args: &Args) -> Outcome {
    let names = NAMES
        .into_iter()
        .filter(|name| args.names.is_empty() || args.names.iter().any(|wanted| wanted == name));
    let sizes = match (args.tiny, args.quick) {
        (true, _) => Sizes::TINY,
        (_, true) => Sizes::QUICK,
        _ => Sizes::FULL,
    };
    let (live, json) = (std::io::stderr().is_terminal(), args.json);
    let mut progress = |what: &str| {
        if live {
            // One line that is written over: back to its start, and the rest of it cleared.
            eprint!("\r{what:<72}\r");
            let _ = std::io::stderr().flush();
        } else {
            eprintln!("{what}");
        }
    };
    let mut has_head = json;
    let mut result = |row: &rivermark_bench::rows::Row| {
        if live {
            eprint!("\r{:<72}\r", "");
        }
        if !std::mem::replace(&mut has_head, true) {
            println!("{HEAD}");
        }
        if json {
            println!("{}", row.json());
        } else {
            println!("{}", row.text());
        }
    };
    let mut series = Series {
        sizes,
        pictures: args.pictures.clone(),
        progress: &mut progress,
        result: &mut result,
    };
    // One that fails says nothing of the others.
    let mut all_measured = true;
    for name in names {
        if let Err(problem) = series.run(name) {
            eprintln!("error: {name}: {problem}");
            all_measured = false;
        }
    }
    Ok(all_measured)
}
