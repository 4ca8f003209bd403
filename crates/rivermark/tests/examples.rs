//! Each small example runs and prints what its first lines promise.

#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "one test is the server of a job")]

mod process;

use process::{Place, job, text};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::process::Stdio;

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

#[test]
fn sessions() {
    let found = sorted(lines("sessions", &Place::new()));
    assert_eq!(
        found,
        [
            "Ann came at minute 0, clicked last at 35: 3 clicks",
            "Ann came at minute 90, clicked last at 90: 1 clicks",
            "Bob came at minute 3, clicked last at 3: 1 clicks",
            "Bob came at minute 40, clicked last at 40: 1 clicks"
        ]
    );
}

#[test]
fn async_enrichment() {
    let found = lines("async_enrichment", &Place::new());
    assert_eq!(
        found,
        [
            "order 1 is Cid's",
            "order 2 is Ann's",
            "order 3: there is no customer 3",
            "order 4 is Cid's"
        ]
    );
}

#[test]
fn a_word_count_from_a_socket() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap().to_string();
    let job = job("socket_word_count")
        .args([&address, "--quiet"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut connection, _) = server.accept().unwrap();
    connection.write_all(b"to be or\nnot to be\n").unwrap();
    drop(connection);
    let output = job.wait_with_output().unwrap();
    assert!(output.status.success());
    let found = sorted(
        text(&output.stdout)
            .lines()
            .map(|line| line.trim().to_owned())
            .collect(),
    );
    assert_eq!(found, ["1 be", "1 not", "1 or", "1 to", "2 be", "2 to"]);
}
