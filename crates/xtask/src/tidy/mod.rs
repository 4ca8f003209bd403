//! `cargo xtask tidy`: the rules about the tree that no compiler checks.
//!
//! - [`edges`]: which crate may depend on which
//! - [`operators`]: every operator is verified
//! - [`paths`]: the walks name files that exist
//! - [`sizes`]: no file is too long

mod edges;
mod operators;
mod paths;
mod sizes;
mod tree;

use crate::Outcome;
use cargo_metadata::MetadataCommand;
use serde::Serialize;
use std::fmt;

/// Fails on a crate edge outside the table of layers, on a file over 1,000 lines (warns at 600), on an operator
/// without a test that verifies it, and on a path in ARCHITECTURE.md or docs/walks that does not exist.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Note,
    Warning,
    Error,
}

/// One thing a check has to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    level: Level,
    check: &'static str,
    place: String,
    problem: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        write!(f, "{level}: {}: {} [{}]", self.place, self.problem, self.check)
    }
}

pub(crate) fn run(args: &Args) -> Outcome {
    let metadata = MetadataCommand::new()
        .no_deps()
        .exec()
        .map_err(|error| format!("cargo metadata failed: {}", error.to_string().trim()))?;
    let tree = tree::read(metadata.workspace_root.as_std_path())?;
    let mut findings = edges::check(&metadata);
    findings.extend(sizes::check(&tree));
    findings.extend(operators::check(&tree));
    findings.extend(paths::check(&tree));
    report(args, &findings);
    Ok(findings.iter().all(|finding| finding.level != Level::Error))
}

fn report(args: &Args, findings: &[Finding]) {
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (errors, warnings) = (count(Level::Error), count(Level::Warning));
    for finding in findings {
        if args.json {
            println!("{}", serde_json::json!({ "command": "tidy", "finding": finding }));
        } else {
            println!("{finding}");
        }
    }
    if args.json {
        println!(
            "{}",
            serde_json::json!({ "command": "tidy", "errors": errors, "warnings": warnings })
        );
    } else {
        println!("tidy: {errors} errors, {warnings} warnings");
    }
}
