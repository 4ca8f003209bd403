//! What goes wrong in a job becomes one line that names the place, and the kind that its exit code follows from.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use rivermark::prelude::*;
use rivermark_config::Config;
use rivermark_types::ErrorKind;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Reading {
    sensor: String,
    value: u32,
}

fn failure(run: Result<impl Sized>) -> Failure {
    let failure = run.err().expect("the job should have failed");
    assert_eq!(failure.to_string().lines().count(), 1, "{failure}");
    failure
}

#[test]
fn a_panicking_map_fails_the_job_by_name_and_not_the_process() {
    let env = StreamEnv::new();
    let numbers = env.sequence(10).uid("numbers");
    numbers
        .map(|n| if n == 7 { panic!("seven is right out") } else { n })
        .name("count to ten")
        .discard();
    let failure = failure(env.execute());
    assert_eq!(failure.kind, ErrorKind::Bug);
    for part in ["count to ten", "seven is right out"] {
        assert!(failure.to_string().contains(part), "{failure}");
    }
}

#[test]
fn a_broken_line_of_csv_is_named_with_file_and_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("readings.csv");
    fs::write(&file, "sensor,value\na,1\nb,many\n").unwrap();
    let env = StreamEnv::new();
    env.from_source(
        FileSource::<rivermark_format::Csv<Reading>>::csv(&file),
        WatermarkStrategy::none(),
    )
    .uid("readings")
    .discard();
    let failure = failure(env.execute());
    assert_eq!(failure.kind, ErrorKind::Data);
    for part in ["readings.csv", "value", "many"] {
        assert!(failure.to_string().contains(part), "{failure}");
    }
}

/// A job that keeps its state below `dir`, with the uid of its counts.
fn counting(dir: &Path, name: &str, uid: &str, from: &str) -> Result<rivermark::local::LocalJob> {
    let mut config = Config::default();
    config.set("execution.checkpointing.dir", dir.display().to_string());
    config.set("execution.state-recovery.path", from);
    let env = StreamEnv::new();
    env.set_name(name);
    let numbers = env.generate(1_000, |n| n).uid("numbers");
    numbers
        .key_by(|n| n % 5)
        .reduce(|sum, n| sum + n)
        .uid(uid)
        .discard();
    env.start_with(config)
}

/// Runs it to a checkpoint with rows in it, and stops it there.
fn run_and_stop(dir: &Path) {
    let job = counting(dir, "sums", "sums", "none").unwrap();
    let control = job.control();
    job.block_on(async {
        while control.stats().records_in() == 0 {
            control.checkpoint_now().await.unwrap();
        }
    });
    control.stop();
    job.wait().unwrap();
}

#[test]
fn state_that_no_operator_claims_is_refused_by_its_uid() {
    let dir = tempfile::tempdir().unwrap();
    run_and_stop(dir.path());
    let job = counting(dir.path(), "sums", "totals", "latest");
    let failure = failure(job.and_then(|job| job.wait()));
    assert_eq!(failure.kind, ErrorKind::Invalid);
    assert!(
        failure
            .to_string()
            .contains("there is no operator for the state of sums"),
        "{failure}"
    );
}

#[test]
fn a_checkpoint_of_another_job_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    run_and_stop(dir.path());
    fs::rename(dir.path().join("sums"), dir.path().join("others")).unwrap();
    let failure = failure(counting(dir.path(), "others", "sums", "latest"));
    assert_eq!(failure.kind, ErrorKind::Invalid);
    assert!(
        failure
            .to_string()
            .contains("belongs to job \"sums\", not to \"others\""),
        "{failure}"
    );
}

#[test]
fn a_damaged_object_is_refused_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    run_and_stop(dir.path());
    let damaged = damage_all_objects(&dir.path().join("sums/objects"));
    assert!(damaged > 0);
    let job = counting(dir.path(), "sums", "sums", "latest");
    let failure = failure(job.and_then(|job| job.wait()));
    assert!(failure.to_string().contains("chk-"), "{failure}");
}

/// Flips a bit in the middle of every object.
fn damage_all_objects(dir: &Path) -> usize {
    let mut damaged = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            damaged += damage_all_objects(&path);
        } else {
            let mut bytes = fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(&path, bytes).unwrap();
            damaged += 1;
        }
    }
    damaged
}
