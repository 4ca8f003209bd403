//! `cargo xtask bench` gives the rows it promises. Sizes are tiny, and no number is judged but for being one.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

const COMMON: [&str; 8] = [
    "name",
    "parallelism",
    "checkpoints",
    "events_per_s",
    "cpu_ns_per_event",
    "limit_events_per_s",
    "limit_cpu_ns_per_event",
    "ratio",
];

fn own(name: &str) -> &'static [&'static str] {
    match name {
        "checkpoint" => &[
            "shape",
            "sync_us",
            "gap_ms",
            "after_over_before",
            "worst50ms",
            "extra_mb",
            "complete_ms",
            "growth_gap_ms",
        ],
        "latency" => &[
            "p50_us",
            "p99_us",
            "p999_us",
            "p9999_us",
            "limit_p50_us",
            "limit_p99_us",
        ],
        "restore" => &["shape", "first_output_ms"],
        "backpressure" => &[
            "p50_ms",
            "p99_ms",
            "unloaded_p50_ms",
            "unloaded_p99_ms",
            "measured",
            "in_flight_mb",
            "rows_a_batch",
            "sink_ms_a_row",
        ],
        "skew" => &["p50_ms", "p99_ms", "even_p50_ms", "even_p99_ms", "p50_over_even"],
        _ => &[],
    }
}

#[test]
fn every_workload_gives_rows_of_the_promised_form_and_pictures() {
    let pictures = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["bench", "--tiny", "--json", "--pictures"])
        .arg(pictures.path())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let mut rows: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        rows.entry(row["name"].as_str().unwrap().to_owned())
            .or_default()
            .push(row);
    }
    let counts: Vec<(&str, usize)> = rows
        .iter()
        .map(|(name, rows)| (name.as_str(), rows.len()))
        .collect();
    let expected = [
        ("backpressure", 3),
        ("checkpoint", 2),
        ("keyed_string", 2),
        ("keyed_struct", 2),
        ("keyed_u64", 2),
        ("latency", 1),
        ("restore", 2),
        ("skew", 2),
        ("stateless", 4),
        ("window", 2),
    ];
    assert_eq!(counts, expected);
    for row in rows.values().flatten() {
        let name = row["name"].as_str().unwrap();
        let fields: BTreeSet<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
        let promised: BTreeSet<&str> = COMMON.iter().chain(own(name)).copied().collect();
        assert_eq!(fields, promised, "{row}");
        for (field, value) in row.as_object().unwrap() {
            match field.as_str() {
                "name" | "checkpoints" | "shape" => assert!(value.is_string(), "{row}"),
                _ => assert!(value.as_f64().unwrap() >= 0.0, "{field} of {row}"),
            }
        }
        for field in ["events_per_s", "cpu_ns_per_event", "ratio"] {
            assert!(row[field].as_f64().unwrap() > 0.0, "{field} of {row}");
        }
    }
    let mut drawn: Vec<String> = std::fs::read_dir(pictures.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    drawn.sort();
    assert_eq!(
        drawn,
        [
            "backpressure.svg",
            "latency.svg",
            "throughput-narrow.svg",
            "throughput-wide.svg"
        ]
    );
}

#[test]
fn a_workload_that_is_not_there_is_refused_with_those_that_are() {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["bench", "keyed"])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        errors.contains("keyed_u64") && errors.contains("latency"),
        "{errors}"
    );
}
