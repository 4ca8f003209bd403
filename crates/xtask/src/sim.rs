//! `cargo xtask sim`: jobs in a simulated world with crashes and faults, one a seed, on all cores.
//!
//! Also the search for bugs that are there on purpose: `--planted` and `--lie`. There a run is good if a seed fails.

use crate::Outcome;
use crate::search::{Draws, first_failure, now, search, tell_hunt};
use rivermark_sim::scenario::{
    Counts, Options, Planted, SeedReport, SyncSite, part_of_name, parts, run_seed,
};
use serde_json::json;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Runs scenarios and prints what they came to. Exit code 1 if a seed failed, or if a bug that is there on purpose was not found.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many seeds to run
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print what happened, a line each
    #[arg(long)]
    trace: bool,
    /// Plant a bug and search for a seed that finds it; "all" for each in turn
    #[arg(long, value_name = "NAME")]
    planted: Option<String>,
    /// Leave out a sync and search for a seed that fails; "all" for each in turn
    #[arg(long, value_name = "SITE", conflicts_with = "planted")]
    lie: Option<String>,
    /// Run only jobs of this part of the DataStream API; "list" names them all
    #[arg(long, value_name = "NAME")]
    part: Option<String>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// How many threads; as many as there are cores if not given
    #[arg(long)]
    threads: Option<NonZeroUsize>,
}

impl Args {
    fn draws(&self) -> Draws {
        Draws {
            first: self.seed,
            count: self.seeds,
            threads: self.threads,
        }
    }
}

/// So many failures are shown in full; the others are only counted.
const SHOWN: u64 = 10;

pub(crate) fn run(args: &Args) -> Outcome {
    if args.part.as_deref() == Some("list") {
        parts().for_each(|name| println!("{name}"));
        return Ok(true);
    }
    match (&args.planted, &args.lie) {
        (Some(name), _) => hunt(args, &planted(name)?),
        (_, Some(name)) => hunt(args, &lies(name)?),
        (None, None) => Ok(all_well(args, part(args)?)),
    }
}

/// A bug that is there on purpose: its option on the command line, and what it does.
pub(crate) type Quarry = (String, Options);

pub(crate) fn planted(name: &str) -> Result<Vec<Quarry>, String> {
    let bugs = match name {
        "all" => Planted::ALL.to_vec(),
        name => vec![Planted::of_name(name).ok_or_else(|| {
            let known = Planted::ALL.map(Planted::name).join(", ");
            format!("--planted {name}: there is no such bug (known: {known}, all)")
        })?],
    };
    let quarry = |bug: Planted| {
        let options = Options {
            planted: Some(bug),
            ..Options::default()
        };
        (format!("--planted {bug}"), options)
    };
    Ok(bugs.into_iter().map(quarry).collect())
}

fn lies(name: &str) -> Result<Vec<Quarry>, String> {
    let sites = match name {
        "all" => SyncSite::NEEDED.to_vec(),
        name => vec![SyncSite::of_name(name).ok_or_else(|| {
            let known = SyncSite::NEEDED.map(SyncSite::name).join(", ");
            format!("--lie {name}: there is no such sync (known: {known}, all)")
        })?],
    };
    let quarry = |site: SyncSite| {
        let options = Options {
            lie: Some(site),
            ..Options::default()
        };
        (format!("--lie {site}"), options)
    };
    Ok(sites.into_iter().map(quarry).collect())
}

/// The part of the API that was asked for.
fn part(args: &Args) -> Result<Option<&'static str>, String> {
    let Some(name) = &args.part else { return Ok(None) };
    let known = || parts().collect::<Vec<_>>().join(", ");
    match part_of_name(name) {
        Some(name) => Ok(Some(name)),
        None => Err(format!(
            "--part {name}: there is no such part (known: {})",
            known()
        )),
    }
}

/// Runs all seeds; tells whether none failed.
fn all_well(args: &Args, part: Option<&'static str>) -> bool {
    let options = Options {
        part,
        trace: args.trace,
        ..Options::default()
    };
    let started = now();
    let mut total = Counts::default();
    let mut told = Duration::ZERO;
    search(args.draws(), run_one(options), |report| {
        total += &report.counts;
        show(args, &report, total.failures, "");
        let elapsed = now() - started;
        if elapsed > told + Duration::from_secs(10) {
            told = elapsed;
            eprintln!(
                "{} of {} seeds, {} failed, {:.0} seeds/s",
                total.seeds,
                args.seeds,
                total.failures,
                total.seeds as f64 / elapsed.as_secs_f64()
            );
        }
        true
    });
    sum_up(args, &total, now() - started);
    total.failures == 0 && total.seeds > 0
}

/// Searches a failing seed for each bug; tells whether all were found.
fn hunt(args: &Args, bugs: &[Quarry]) -> Outcome {
    let mut all_found = true;
    for (name, options) in bugs {
        let options = Options {
            trace: args.trace,
            part: part(args)?,
            ..*options
        };
        let hunted = first_failure(args.draws(), run_one(options));
        tell_hunt(("sim", "seeds"), name, &hunted, args.json);
        all_found &= hunted.1.is_some();
        if let (Some(report), false) = (&hunted.1, args.json) {
            show(args, report, 1, name);
        }
    }
    Ok(all_found)
}

/// A panic that reaches us is a failure of the seed.
pub(crate) fn run_one(options: Options) -> impl Fn(u64) -> SeedReport + Sync {
    move |seed| {
        catch_unwind(AssertUnwindSafe(|| run_seed(seed, &options)))
            .unwrap_or_else(|_| SeedReport::panicked(seed))
    }
}

fn show(args: &Args, report: &SeedReport, failures: u64, bug: &str) {
    let SeedReport {
        seed,
        topology,
        failure,
        ..
    } = report;
    if args.trace && !args.json {
        for line in &report.trace {
            println!("{line}");
        }
    }
    let Some(failure) = failure else { return };
    if args.json {
        println!(
            "{}",
            json!({ "command": "sim", "seed": seed, "topology": topology.to_string(), "failure": failure,
                    "trace": report.trace })
        );
    } else if failures <= SHOWN {
        println!("seed {seed} ({topology}): {failure}");
        if !args.trace {
            let part = args.part.as_ref().map(|part| format!(" --part {part}"));
            let part = part.unwrap_or_default();
            println!("    replay: cargo xtask sim --seeds 1 --seed {seed} --trace{part} {bug}");
        }
    }
}

fn sum_up(args: &Args, total: &Counts, elapsed: Duration) {
    let rate = total.seeds as f64 / elapsed.as_secs_f64().max(1e-9);
    let share = 100.0 * total.mean(total.restored_both);
    let in_flight = [
        total.overtaken,
        total.restored_in_flight,
        total.rescaled_in_flight,
    ];
    let in_flight = in_flight.map(|seeds| 100.0 * total.mean(seeds));
    if args.json {
        println!(
            "{}",
            json!({ "command": "sim", "seeds": total.seeds, "failures": total.failures, "seeds_per_second": rate,
                    "rows": total.rows, "checkpoints": total.checkpoints, "faults": total.faults,
                    "process_restarts": total.process_restarts, "attempt_restarts": total.attempt_restarts,
                    "restored_keyed_and_committables_percent": share,
                    "restored_from_local_copies_percent": 100.0 * total.mean(total.restored_local),
                    "overtaken_restored_dealt_anew_percent": in_flight, "polls": total.steps,
                    "virtual_seconds": total.virtual_time.as_secs_f64() })
        );
        return;
    }
    let line = |what: &str, sum: u64| println!("  {what:<24} {sum:>12} {:>10.2} a seed", total.mean(sum));
    println!(
        "{} seeds in {:.1} s: {rate:.1} seeds/s",
        total.seeds,
        elapsed.as_secs_f64()
    );
    line("rows", total.rows);
    line("checkpoints decided", total.checkpoints);
    line("seeds with local copies read", total.restored_local);
    line("restarts", total.restarts());
    line("  of the process", total.process_restarts);
    line("  inside the process", total.attempt_restarts);
    line("faults", total.all_faults());
    for (kind, count) in &total.faults {
        line(&format!("  {kind}"), *count);
    }
    line("polls", total.steps);
    println!("  restored keyed state and pending committables: {share:.0} % of the seeds");
    let [overtaken, restored, rescaled] = in_flight;
    println!(
        "  records in flight: overtaken in {overtaken:.0} %, restored in {restored:.0} %, dealt out anew in {rescaled:.0} % of the seeds"
    );
    println!("{} failures", total.failures);
}
