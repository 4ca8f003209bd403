//! Each small example runs and prints what its first lines promise.

#![allow(clippy::unwrap_used, reason = "tests")]

mod process;

use process::{Place, job, text};
use std::collections::BTreeSet;
use std::fs;

/// What an example prints in a directory of its own.
fn lines(name: &str, place: &Place) -> Vec<String> {
    let output = job(name)
        .arg("--quiet")
        .current_dir(place.path("."))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

#[test]
fn a_custom_source() {
    let found = lines("custom_source", &Place::new());
    let found: Vec<u64> = found.iter().map(|line| line.parse().unwrap()).collect();
    assert_eq!(found.len(), 1_000);
    let cubes: BTreeSet<u64> = (1..=1_000).map(|n: u64| n.pow(3)).collect();
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), cubes);
}

#[test]
fn a_custom_sink() {
    let place = Place::new();
    assert!(lines("custom_sink", &place).is_empty());
    let mut squares = Vec::new();
    for entry in fs::read_dir(place.path("pages")).unwrap() {
        let page = fs::read_to_string(entry.unwrap().path()).unwrap();
        squares.extend(page.lines().map(|line| line.parse::<u64>().unwrap()));
    }
    squares.sort_unstable();
    assert_eq!(squares, (0..1_000).map(|n| n * n).collect::<Vec<_>>());
}

#[test]
fn a_join() {
    let found = sorted(lines("join", &Place::new()));
    assert_eq!(
        found,
        [
            "order 1: tea, paid 4.50",
            "order 3: salt, paid 1.20",
            "order 4: soap, paid 0.99"
        ]
    );
}
