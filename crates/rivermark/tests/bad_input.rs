//! What is wrong becomes one line on standard error that says where, what was expected and what to do, and an exit code.
//! Each case is a process of its own: mostly the `troubled` example. Disks and signals: `bad_surroundings`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod process;

use process::{Place, RESTARTING, error_line, job, text};
use std::fs;

const BROKEN: &str = "sensor,value\na,1\nb,many\nc,3\n";
const SHORT: &str = "sensor,value\na,1\nb\nc,3\n";

/// Readings of seven sensors; the fourteenth has the value 13.
fn readings() -> String {
    let line = |n: u32| format!("s{},{}\n", n % 7, n);
    "sensor,value\n".to_owned() + &(0..400).map(line).collect::<String>()
}

/// Runs the job on its input with these options, without progress: its exit code and its only line.
fn line_of(place: &Place, input: &str, options: &[&str]) -> (i32, String) {
    error_line(
        job("troubled")
            .current_dir(place.dir())
            .args([input, "-q"])
            .args(options),
    )
}

#[track_caller]
fn assert_says(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "no {part:?} in {line:?}");
    }
}

#[test]
fn a_broken_line_is_named_by_file_line_and_column_and_ends_the_job_at_the_third_failure() {
    let place = Place::new();
    for (name, content, what) in [
        (
            "type.csv",
            BROKEN,
            &["column value: expected an integer", "found \"many\""][..],
        ),
        ("short.csv", SHORT, &["found 1 column where the header has 2"]),
    ] {
        place.write(name, content.as_bytes());
        let packed = format!("{name}.gz");
        place.write_gzip(&packed, content);
        for file in [name, &packed] {
            let (code, line) = line_of(&place, file, &RESTARTING);
            assert_eq!(code, 1, "{line}");
            assert_says(&line, what);
            assert_says(
                &line,
                &[
                    &format!("error: files {file}/0: {file}:3: "),
                    "correct the line, or the row type that reads it",
                    "failed 3 times without a checkpoint in between",
                ],
            );
        }
    }
}

#[test]
fn behind_a_splits_beginning_a_broken_line_is_named_by_its_byte() {
    let place = Place::new();
    // Long enough for a second split, which does not know its line numbers.
    let good = "sensor,value\n".to_owned() + &format!("{},1\n", "a".repeat(10_000)).repeat(1_700);
    place.write("long.csv", format!("{good}b,many\n").as_bytes());
    let (code, line) = line_of(&place, "long.csv", &RESTARTING);
    assert_eq!(code, 1, "{line}");
    assert_says(
        &line,
        &[&format!("long.csv at byte {}: column value", good.len())],
    );
}

#[test]
fn files_that_are_missing_or_damaged_are_named() {
    let place = Place::new();
    let (code, line) = line_of(&place, "nowhere", &RESTARTING);
    assert_eq!(
        (code, line.as_str()),
        (
            2,
            "error: there is no file or directory nowhere: check the path given to the source"
        )
    );
    place.write("no.csv.gz", b"this is no gzip");
    let (code, line) = line_of(&place, "no.csv.gz", &RESTARTING);
    assert_eq!(code, 1, "{line}");
    assert_says(
        &line,
        &["no.csv.gz: damaged gzip", "replace the file by an undamaged copy"],
    );
    place.write("other.csv", b"sensor\na\n");
    let (code, line) = line_of(&place, "other.csv", &RESTARTING);
    assert_eq!(code, 1, "{line}");
    assert_says(
        &line,
        &["other.csv:2: missing field `value`; the file has the columns sensor"],
    );
}

#[test]
fn a_wrong_configuration_is_named_by_origin_key_and_what_to_write() {
    let place = Place::new();
    place.write("readings.csv", readings().as_bytes());
    place.write(
        "unknown.yaml",
        b"parallelism.default: 2\nexecution:\n  checkpointing:\n    intervall: 1 s\n",
    );
    place.write("value.yaml", b"\nparallelism.default: two\n");
    place.write("broken.yaml", b"parallelism.default: 2\n  - : x\n");
    for (options, expected) in [
        (
            ["--set", "paralelism.default=2"],
            "error: --set: unknown key `paralelism.default`; did you mean `parallelism.default`?",
        ),
        (
            ["--set", "parallelism.default=two"],
            "error: --set: `parallelism.default` is `two`, expected a whole number from 1",
        ),
        (
            ["--set", "parallelism.default"],
            "error: --set parallelism.default: expected key=value, for example --set parallelism.default=2",
        ),
        (
            ["--config", "unknown.yaml"],
            "error: unknown.yaml:4: unknown key `execution.checkpointing.intervall`; did you mean \
             `execution.checkpointing.interval`?",
        ),
        (
            ["--config", "value.yaml"],
            "error: value.yaml:2: `parallelism.default` is `two`, expected a whole number from 1",
        ),
        (
            ["--config", "broken.yaml"],
            "error: broken.yaml:2: this is not YAML: ",
        ),
        (["--config", "nowhere.yaml"], "error: --config nowhere.yaml: "),
    ] {
        let (code, line) = line_of(&place, "readings.csv", &options);
        assert_eq!(code, 2, "{line}");
        assert!(line.starts_with(expected), "{line}");
    }
}

#[test]
fn user_code_that_fails_is_named_by_operator_stage_and_record() {
    let place = Place::new();
    place.write("readings.csv", readings().as_bytes());
    let position = readings().find("s6,13\n").unwrap();
    let row = "row {\"sensor\":\"s6\",\"value\":13}: ";
    let at = format!("error: check readings (stage 2)/0 at readings.csv, position {position}, {row}");
    let thrice = "failed 3 times at this row";
    for (fault, parts) in [
        (
            "panic",
            [&*at, "panicked: 13 is right out (", "troubled.rs:", thrice],
        ),
        ("error", [&*at, ": 13 is no reading", "stage 2", thrice]),
        (
            "keyed-error",
            [
                "error: process/0 at channel 0 from files readings.csv -> check readings/0",
                "row 14 of this attempt",
                &format!("{row}sensor s6 counts backwards"),
                thrice,
            ],
        ),
    ] {
        let mut options = vec!["--fault", fault];
        options.extend(RESTARTING);
        let (code, line) = line_of(&place, "readings.csv", &options);
        assert_eq!(code, 1, "{line}");
        assert_says(&line, &parts);
    }
}

#[test]
fn every_fault_of_a_graph_is_a_line_with_what_to_write() {
    let place = Place::new();
    let lines = |options: &[&str]| {
        let output = job("troubled")
            .current_dir(place.dir())
            .args(["readings.csv", "-q"])
            .args(options)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        text(&output.stderr)
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let no_uids = [
        "error: source \"files readings.csv\" keeps positions but has no uid: add .uid(\"files-readings-csv-1\") after it",
        "error: operator \"process\" keeps state but has no uid: add .uid(\"process-1\") after it",
        "error: sink \"files out\" is exactly-once but has no uid: add .uid(\"files-out-1\") after it",
    ];
    assert_eq!(lines(&["--fault", "no-uids"]), no_uids);
    let float = lines(&["--fault", "float-key"]);
    assert_eq!(float.len(), 3, "{float:?}");
    assert!(
        float[0].ends_with("a float cannot be part of a key: round it to an integer first"),
        "{float:?}"
    );
    assert_eq!(
        lines(&["--fault", "no-sink"]),
        ["error: the job has no sink: end it with one, for example .sink_to(..)"]
    );
    let weak = lines(&[
        "--out",
        "out",
        "--set",
        "execution.checkpointing.mode=AT_LEAST_ONCE",
    ]);
    assert_eq!(weak.len(), 1, "{weak:?}");
    assert_says(
        &weak[0],
        &[
            "sink \"files out\" is exactly-once, but the job runs at-least-once",
            "set execution.checkpointing.mode to EXACTLY_ONCE",
        ],
    );
    let panicked = lines_of_a_panic_while_building(&place);
    assert_says(
        &panicked,
        &[
            "the code that builds the graph panicked: no graph today (",
            "troubled.rs:",
        ],
    );
}

fn lines_of_a_panic_while_building(place: &Place) -> String {
    let (code, line) = line_of(place, "readings.csv", &["--fault", "panic-while-building"]);
    assert_eq!(code, 1);
    line
}

#[test]
fn a_checkpoint_that_does_not_fit_the_job_is_refused_with_what_to_do() {
    let place = Place::with_checkpoints();
    let (code, line) = place.resume(&["--uid", "totals"]);
    assert_eq!(code, 2, "{line}");
    assert_says(
        &line,
        &[
            "there is no operator for the state of sums in checkpoint",
            "--set execution.state-recovery.ignore-unclaimed-state=true",
        ],
    );
    let (code, line) = place.resume(&["--groups", "64"]);
    assert_eq!(code, 2, "{line}");
    assert_says(
        &line,
        &[
            "has 128 key groups",
            "maximum parallelism of 64: set 128, or leave it unset",
        ],
    );
    fs::rename(place.path("state/sums"), place.path("state/others")).unwrap();
    let (code, line) = place.resume(&["--set", "pipeline.name=others"]);
    assert_eq!(code, 2, "{line}");
    assert_says(
        &line,
        &[
            "this storage belongs to job \"sums\", not to \"others\"",
            "choose another execution.checkpointing.dir",
        ],
    );
}

#[test]
fn a_damaged_object_or_manifest_stops_the_start_with_the_choices() {
    let place = Place::with_checkpoints();
    let newest = place.newest_checkpoint();
    let choices = format!("--from {} --accept-duplicates or --from none", newest - 1);
    for object in ["part-0.rows", "manifest.json"] {
        let path = place.object(newest, object);
        let whole = fs::read(&path).unwrap();
        let mut damaged = whole.clone();
        damaged[60] ^= 1;
        fs::write(&path, damaged).unwrap();
        let (code, line) = place.resume(&[]);
        assert_eq!(code, 2, "{line}");
        assert_says(
            &line,
            &[
                &format!("checkpoint {newest} is damaged, and going back would write again"),
                "restore the object",
                &choices,
                &format!("chk-{newest}/{object}"),
                "checksum",
            ],
        );
        fs::write(&path, whole).unwrap();
    }
    fs::remove_file(place.object(newest, "manifest.json")).unwrap();
    let output = place
        .resuming()
        .args(["--from", &(newest - 1).to_string(), "--accept-duplicates", "-q"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn a_damaged_decision_stops_the_start_with_the_choices() {
    let place = Place::with_checkpoints();
    let head = place.newest_decision();
    let mut damaged = fs::read(&head).unwrap();
    damaged.truncate(100);
    fs::write(&head, damaged).unwrap();
    let (code, line) = place.resume(&[]);
    assert_eq!(code, 2, "{line}");
    let name = head.file_name().unwrap().to_string_lossy().into_owned();
    assert_says(
        &line,
        &[
            &name,
            "is damaged",
            "put an undamaged copy back",
            "or start anew in another directory",
        ],
    );
}
