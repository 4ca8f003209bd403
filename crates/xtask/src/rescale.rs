//! `cargo xtask rescale-test`: jobs that fail with full queues and go on at another parallelism, one a draw.
//!
//! Also the search for bugs that are there on purpose: `--planted`. There a run is good if a draw fails.

use crate::Outcome;
use crate::search::{Draws, now, search};
use crate::sim::{planted, run_one};
use rivermark_sim::scenario::{Alignment, Counts, Options, SeedReport};
use serde_json::json;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

/// Draws jobs (sources, keyed and other exchanges, unions, windows, fan-outs, sinks), fills their queues, lets them fail at
/// a drawn moment, and goes on at another parallelism until the input is read.
///
/// No row may be lost; under exactly-once none may come twice, and those of a key and split must keep their order. Modes
/// drawn: aligned, at-least-once, unaligned, aligned with a time-out.
///
/// Exit code 1 if a draw fails, or if, of 200 draws or more, less than 30 % go on from a checkpoint with records in flight, at
/// another parallelism, or with work of sinks to commit. A failing draw is named with how to repeat it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many jobs to draw
    #[arg(long, default_value_t = 1_000)]
    draws: u64,
    /// The seed of the first; the next has the next number
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print what happens in each draw, a line each
    #[arg(long)]
    trace: bool,
    /// Plant a bug and search for a draw that finds it; "all" for each in turn
    #[arg(long, value_name = "NAME")]
    planted: Option<String>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// How many draws at a time; as many as there are cores if not given
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
}

/// So many failures are shown in full; the others are only counted.
const SHOWN: u64 = 10;
/// Fewer draws say nothing about shares.
const ENOUGH: u64 = 200;
/// What each share must come to, in percent.
const SHARE: f64 = 30.0;

impl Args {
    fn draws(&self) -> Draws {
        Draws {
            first: self.seed,
            count: self.draws,
            threads: self.jobs,
        }
    }

    fn options(&self) -> Options {
        Options {
            rescale: true,
            trace: self.trace,
            ..Options::default()
        }
    }
}

pub(crate) fn run(args: &Args) -> Outcome {
    match &args.planted {
        Some(name) => hunt(args, name),
        None => Ok(all_well(args)),
    }
}

/// Runs all draws; tells whether none failed and the shares are large enough.
fn all_well(args: &Args) -> bool {
    let started = now();
    let mut total = Counts::default();
    let mut by_alignment: BTreeMap<Option<Alignment>, Counts> = BTreeMap::new();
    let mut told = Duration::ZERO;
    search(args.draws(), run_one(args.options()), |report| {
        total += &report.counts;
        *by_alignment.entry(report.alignment).or_default() += &report.counts;
        show(args, &report, total.failures, "");
        let elapsed = now() - started;
        if elapsed > told + Duration::from_secs(10) {
            told = elapsed;
            eprintln!(
                "{} of {} draws, {} failed",
                total.seeds, args.draws, total.failures
            );
        }
        true
    });
    print(args, &total, &by_alignment, now() - started);
    total.failures == 0 && total.seeds > 0 && too_small(&total).is_empty()
}

/// Searches a failing draw for each bug; tells whether all were found.
fn hunt(args: &Args, name: &str) -> Outcome {
    let mut all_found = true;
    for (name, options) in planted(name)? {
        let options = Options {
            planted: options.planted,
            ..args.options()
        };
        let mut found: Option<SeedReport> = None;
        let mut draws = 0;
        search(args.draws(), run_one(options), |report| {
            draws += 1;
            if report.failure.is_some() && found.as_ref().is_none_or(|found| report.seed < found.seed) {
                found = Some(report);
            }
            found.is_none()
        });
        all_found &= found.is_some();
        match found {
            _ if args.json => println!(
                "{}",
                json!({ "command": "rescale-test", "bug": name, "draws": draws,
                        "found_by": found.as_ref().map(|report| report.seed),
                        "failure": found.as_ref().and_then(|report| report.failure.clone()) })
            ),
            Some(report) => {
                println!("{name}: found after {draws} draws");
                show(args, &report, 1, &name);
            }
            None => println!("{name}: NOT found in {draws} draws"),
        }
    }
    Ok(all_found)
}

fn show(args: &Args, report: &SeedReport, failures: u64, bug: &str) {
    if args.trace && !args.json {
        report.trace.iter().for_each(|line| println!("{line}"));
    }
    let Some(failure) = &report.failure else { return };
    let about = report.about.as_deref().unwrap_or("unknown job");
    let seed = report.seed;
    if args.json {
        println!(
            "{}",
            json!({ "command": "rescale-test", "seed": seed, "job": about, "failure": failure, "trace": report.trace })
        );
    } else if failures <= SHOWN {
        println!("draw {seed}: {failure}\n    {about}");
        if !args.trace {
            println!("    repeat: cargo xtask rescale-test --draws 1 --seed {seed} --trace {bug}");
        }
    }
}

/// What is counted of draws, with what part of them it must be.
const SHARES: [(&str, fn(&Counts) -> u64, f64); 4] = [
    ("records_in_flight", |counts| counts.restored_in_flight, SHARE),
    ("dealt_out_anew", |counts| counts.rescaled_in_flight, 0.0),
    ("another_parallelism", |counts| counts.rescaled, SHARE),
    ("work_to_commit", |counts| counts.restored_committables, SHARE),
];

fn percent(of: &Counts, count: fn(&Counts) -> u64) -> f64 {
    100.0 * of.mean(count(of))
}

/// The names of the shares that are.
fn too_small(total: &Counts) -> Vec<&'static str> {
    let small = SHARES
        .into_iter()
        .filter(|(_, count, least)| total.seeds >= ENOUGH && percent(total, *count) < *least);
    small.map(|(name, ..)| name).collect()
}

fn print(args: &Args, total: &Counts, by_alignment: &BTreeMap<Option<Alignment>, Counts>, elapsed: Duration) {
    if args.json {
        let percents: BTreeMap<_, _> = SHARES
            .iter()
            .map(|(name, count, _)| (name, percent(total, *count)))
            .collect();
        println!(
            "{}",
            json!({ "command": "rescale-test", "draws": total.seeds, "failures": total.failures, "rows": total.rows,
                    "checkpoints": total.checkpoints, "restarts": total.restarts(), "seconds": elapsed.as_secs_f64(),
                    "went_on_with_percent": percents, "too_small": too_small(total) })
        );
        return;
    }
    println!(
        "{} draws in {:.1} s: {} rows, {} checkpoints, {} restarts",
        total.seeds,
        elapsed.as_secs_f64(),
        total.rows,
        total.checkpoints,
        total.restarts()
    );
    println!("Went on from a checkpoint, in percent of the draws,");
    println!(
        "  {:<14} {:>8} {:>11} {:>11} {:>12} {:>11}",
        "", "draws", "in flight", "dealt anew", "other paral.", "to commit"
    );
    let line = |name: &str, counts: &Counts| {
        let [in_flight, anew, rescaled, work] = SHARES.map(|(_, count, _)| percent(counts, count));
        println!(
            "  {name:<14} {:>8} {in_flight:>11.1} {anew:>11.1} {rescaled:>12.1} {work:>11.1}",
            counts.seeds
        );
    };
    for (alignment, counts) in by_alignment {
        let name = alignment.map_or_else(|| "unknown".to_owned(), |alignment| alignment.to_string());
        line(&name, counts);
    }
    line("all", total);
    for name in too_small(total) {
        println!("TOO FEW draws went on with {name}: at least {SHARE} % are needed");
    }
    println!("{} failures", total.failures);
}
