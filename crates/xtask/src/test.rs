//! `cargo xtask test`: every test there is, with one line of totals at the end.

use crate::Outcome;
use serde::Serialize;
use std::io::{BufRead, BufReader, Write};
use std::ops::AddAssign;
use std::process::{Command, Stdio};

/// Runs the steps one after the other, all of them even if one fails, streams what they print, and ends with
/// "N passed, N failed, N skipped". Exit code 1 if a test failed or a crate does not compile.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave out the tests that need this server; may be given more than once
    #[arg(long, value_name = "NAME")]
    skip_server: Vec<String>,
    /// Print the totals of each step as a JSON object a line; what the tests print goes to standard error
    #[arg(long)]
    json: bool,
}

/// A step's name, and what runs it.
type Step = (&'static str, fn(&Args) -> Result<Counts, String>);

/// What runs, in order, cheapest first. A new kind of test is one more line here.
const STEPS: &[Step] = &[("cargo test", cargo_test), ("crash-test", crash_test)];

/// The servers that tests can ask for. None does so far; starting and stopping them belongs around the steps.
const SERVERS: &[&str] = &[];

pub(crate) fn run(args: &Args) -> Outcome {
    if let Some(name) = args
        .skip_server
        .iter()
        .find(|name| !SERVERS.contains(&name.as_str()))
    {
        return Err(format!(
            "--skip-server {name}: no test needs such a server (known: {})",
            known_servers()
        ));
    }
    let mut total = Counts::default();
    for (name, step) in STEPS {
        let counts = step(args)?;
        report(args, name, &counts);
        total += counts;
    }
    report(args, "all", &total);
    if !args.json {
        println!(
            "{} passed, {} failed, {} skipped",
            total.passed, total.failed, total.skipped
        );
    }
    Ok(total.failed == 0 && total.passed > 0)
}

fn known_servers() -> String {
    if SERVERS.is_empty() {
        "none".into()
    } else {
        SERVERS.join(", ")
    }
}

fn report(args: &Args, step: &str, counts: &Counts) {
    if args.json {
        println!(
            "{}",
            serde_json::json!({ "command": "test", "step": step, "counts": counts })
        );
    }
}

/// How many tests passed, failed, and were not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

fn cargo_test(args: &Args) -> Result<Counts, String> {
    // Cargo tells its children which cargo runs them.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut child = Command::new(cargo)
        .args(["test", "--workspace", "--no-fail-fast"])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cargo test cannot be started: {error}"))?;
    let mut counts = Counts::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).split(b'\n') {
            let line = line.map_err(|error| format!("the output of cargo test cannot be read: {error}"))?;
            let line = String::from_utf8_lossy(&line);
            show(args, &line);
            if let Some(more) = parse_result(&line) {
                counts += more;
            }
        }
    }
    let status = child
        .wait()
        .map_err(|error| format!("cargo test cannot be waited for: {error}"))?;
    if !status.success() && counts.failed == 0 {
        eprintln!(
            "error: a crate does not compile or a test process died ({status}): counted as one failure"
        );
        counts.failed = 1;
    }
    Ok(counts)
}

/// A few kills of a job's process.
fn crash_test(args: &Args) -> Result<Counts, String> {
    own_command(args, &["crash-test", "--kills", "6", "--fences", "1"])
}

/// Another of our commands, as one test.
fn own_command(args: &Args, words: &[&str]) -> Result<Counts, String> {
    let failed = |error: std::io::Error| format!("{} cannot be run: {error}", words.join(" "));
    let mut child = Command::new(std::env::current_exe().map_err(failed)?)
        .args(words)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).split(b'\n') {
            show(args, &String::from_utf8_lossy(&line.map_err(failed)?));
        }
    }
    let passed = child.wait().map_err(failed)?.success();
    Ok(Counts {
        passed: u64::from(passed),
        failed: u64::from(!passed),
        skipped: 0,
    })
}

/// Passes a line on at once. If nobody reads us any more the counting goes on: the exit code still matters.
fn show(args: &Args, line: &str) {
    let _ = if args.json {
        writeln!(std::io::stderr(), "{line}")
    } else {
        writeln!(std::io::stdout(), "{line}")
    };
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s`.
fn parse_result(line: &str) -> Option<Counts> {
    let (_, fields) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let field = |name: &str| {
        let number = fields.split("; ").find_map(|field| field.strip_suffix(name))?;
        number.trim().parse().ok()
    };
    Some(Counts {
        passed: field("passed")?,
        failed: field("failed")?,
        skipped: field("ignored")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_line_is_read_and_others_are_not() {
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 9 filtered out; finished in 0.1s";
        assert_eq!(
            parse_result(line),
            Some(Counts {
                passed: 3,
                failed: 2,
                skipped: 1
            })
        );
        assert_eq!(parse_result("test value::tests::x ... ok"), None);
        assert_eq!(parse_result("test result: "), None);
    }
}
