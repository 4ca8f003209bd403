//! The soak test's form, in seconds: what it prints, and that a short run with restarts of both kinds is exact.

#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::Value;
use std::process::Command;

#[test]
fn a_short_run_is_exact_and_says_so() {
    let run = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args([
            "soak",
            "--minutes",
            "4",
            "--minute-ms",
            "1000",
            "--rate",
            "20000",
            "--json",
        ])
        .output()
        .unwrap();
    let (text, errors) = (
        String::from_utf8(run.stdout).unwrap(),
        String::from_utf8(run.stderr).unwrap(),
    );
    assert!(run.status.success(), "{text}{errors}");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (verdict, minutes) = lines.split_last().unwrap();
    let numbers: Vec<_> = minutes.iter().map(|line| line["minute"].clone()).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    assert!(minutes.iter().all(|line| line["rss_kb"].as_u64().unwrap() > 0));
    assert_eq!(
        (&verdict["attempts_failed"], &verdict["processes_killed"]),
        (&2.into(), &1.into())
    );
    assert_eq!(
        (&verdict["exact"], &verdict["miscounted"]),
        (&true.into(), &0.into())
    );
    assert!(verdict["rows"].as_u64().unwrap() > 0);
    let bytes = |name: &str| verdict[name].as_u64().unwrap();
    assert!(0 < bytes("channel_bytes") && bytes("channel_bytes") <= bytes("channel_limit"));
    assert!(0 < bytes("captured_bytes") && bytes("captured_bytes") <= bytes("captured_limit"));
}
