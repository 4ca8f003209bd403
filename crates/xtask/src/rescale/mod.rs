//! `cargo xtask rescale-test`: jobs that fail with full queues and go on at another parallelism, one a draw.
//!
//! Also the search for bugs that are there on purpose: `--planted`. There a run is good if a draw fails.

pub(crate) mod burners;

use crate::Outcome;
use crate::search::{Draws, first_failure, now, search, tell_hunt};
use crate::sim::{planted, run_one};
use burners::Burners;
use rivermark_env::RealEnv;
use rivermark_sim::scenario::{Alignment, Counts, Options, SeedReport, run_on_threads};
use serde_json::json;
use std::collections::BTreeMap;
use std::num::{NonZeroU64, NonZeroUsize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Draws jobs (sources, keyed and other exchanges, unions, windows, fan-outs, sinks), fills their queues, lets them fail at
/// a drawn moment, and goes on at another parallelism until the input is read.
///
/// No row may be lost; under exactly-once none may come twice, and those of a key and split must keep their order. Modes
/// drawn: aligned, at-least-once, unaligned, aligned with a time-out.
///
/// On simulated threads a draw is its seed's alone and always comes out the same; processes are killed, lose power, are
/// stopped. On real threads it is a job in this process, with its state in memory, that fails or is cancelled and is
/// started again; what happens is then also the machine's, and --burn makes that rougher. A job in which nothing moves for
/// a minute and a half has failed.
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
    /// What the jobs run on
    #[arg(long, value_enum, default_value_t = Threads::Simulated)]
    threads: Threads,
    /// Burn all cores meanwhile, in other processes
    #[arg(long)]
    burn: bool,
    /// Run each draw so many times: for one that fails on real threads now and then
    #[arg(long, value_name = "TIMES", default_value = "1")]
    again: NonZeroU64,
    /// Print what happens in each draw, a line each; on simulated threads only
    #[arg(long)]
    trace: bool,
    /// Plant a bug and search for a draw that finds it; "all" for each in turn
    #[arg(long, value_name = "NAME")]
    planted: Option<String>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// How many draws at a time; if not given as many as there are cores, on real threads (where they mostly wait) three
    /// times as many
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
}

/// What a job runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Threads {
    /// One thread, time and processes from the seed
    Simulated,
    /// Those of this process
    Real,
}

const THREE: NonZeroUsize = match NonZeroUsize::new(3) {
    Some(three) => three,
    None => NonZeroUsize::MIN,
};

/// So many failures are shown in full; the others are only counted.
const SHOWN: u64 = 10;
/// Fewer draws say nothing about shares.
const ENOUGH: u64 = 200;
/// What each share must come to, in percent.
const SHARE: f64 = 30.0;

impl Args {
    fn draws(&self) -> Draws {
        Draws {
            first: 0,
            count: self.draws.saturating_mul(self.again.get()),
            threads: self.jobs.or_else(|| match self.threads {
                Threads::Simulated => None,
                Threads::Real => std::thread::available_parallelism()
                    .ok()
                    .and_then(|cores| cores.checked_mul(THREE)),
            }),
        }
    }

    /// What a draw is run with: a panic is a failure of it.
    fn runner(&self, options: Options) -> Result<Box<dyn Fn(u64) -> SeedReport + Sync>, String> {
        let (first, again) = (self.seed, self.again);
        let seed = move |number: u64| first + number / again;
        if self.threads == Threads::Simulated {
            let run = run_one(options);
            return Ok(Box::new(move |number| run(seed(number))));
        }
        let world =
            RealEnv::start().map_err(|error| format!("the I/O threads cannot be started: {error}"))?;
        let env = world.env();
        let run = move |seed| world.block_on(run_on_threads(&env, seed, options.planted));
        Ok(Box::new(move |number| {
            let seed = seed(number);
            catch_unwind(AssertUnwindSafe(|| run(seed))).unwrap_or_else(|_| SeedReport::panicked(seed))
        }))
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
    let _burners = args.burn.then(Burners::start).transpose()?;
    match &args.planted {
        Some(name) => hunt(args, name),
        None => all_well(args),
    }
}

/// Runs all draws; tells whether none failed and the shares are large enough.
fn all_well(args: &Args) -> Outcome {
    let started = now();
    let mut total = Counts::default();
    let mut by_alignment: BTreeMap<Option<Alignment>, Counts> = BTreeMap::new();
    let mut told = Duration::ZERO;
    search(args.draws(), args.runner(args.options())?, |report| {
        total += &report.counts;
        *by_alignment.entry(report.alignment).or_default() += &report.counts;
        show(args, &report, total.failures, "");
        let elapsed = now() - started;
        if elapsed > told + Duration::from_secs(10) {
            told = elapsed;
            eprintln!(
                "{} of {} draws, {} failed",
                total.seeds,
                args.draws().count,
                total.failures
            );
        }
        true
    });
    print(args, &total, &by_alignment, now() - started);
    Ok(total.failures == 0 && total.seeds > 0 && too_small(&total).is_empty())
}

/// Searches a failing draw for each bug; tells whether all were found.
fn hunt(args: &Args, name: &str) -> Outcome {
    let mut all_found = true;
    for (name, options) in planted(name)? {
        let options = Options {
            planted: options.planted,
            ..args.options()
        };
        let hunted = first_failure(args.draws(), args.runner(options)?);
        tell_hunt(("rescale-test", "draws"), &name, &hunted, args.json);
        all_found &= hunted.1.is_some();
        if let (Some(report), false) = (&hunted.1, args.json) {
            show(args, report, 1, &name);
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
        let again = match args.threads {
            Threads::Simulated if args.trace => return,
            Threads::Simulated => "--trace",
            Threads::Real if args.burn => "--threads real --again 200 --burn",
            Threads::Real => "--threads real --again 200",
        };
        println!("    repeat: cargo xtask rescale-test --draws 1 --seed {seed} {again} {bug}");
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
