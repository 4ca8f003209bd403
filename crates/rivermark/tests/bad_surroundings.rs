//! Jobs whose surroundings go wrong: a disk is full, somebody presses Ctrl-C, the reader of the output goes away.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod process;

use process::{Place, clean, error_line, example, job, signal, text};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

/// A shell that runs `then` with files limited to a few blocks: what a full disk is without a disk of one's own.
fn with_small_files(then: &str) -> Command {
    let mut shell = clean("sh");
    // Ignored, the signal becomes an error of the write.
    shell.args(["-c", &format!("trap '' XFSZ; ulimit -f 64; exec {then}"), "sh"]);
    shell
}

/// A shell that runs `then` with a small disk at `dir`, which vanishes with it; `None` where nothing may be mounted.
fn with_small_disk(dir: &Path, kb: u32, prepare: &str, then: &str) -> Option<Command> {
    fs::create_dir_all(dir).unwrap();
    let mount = format!("mount -t tmpfs -o size={kb}k none '{}'", dir.display());
    let may_mount = Command::new("unshare")
        .args(["-rm", "sh", "-c", &mount])
        .stderr(Stdio::null())
        .status();
    if !may_mount.is_ok_and(|status| status.success()) {
        return None;
    }
    let mut shell = clean("unshare");
    shell.args([
        "-rm",
        "sh",
        "-c",
        &format!("{mount} && {prepare} && exec {then}"),
        "sh",
    ]);
    Some(shell)
}

/// `"$@"`, with the job in front.
const JOB: &str = "\"$@\"";

fn read_stderr(child: &mut Child) -> std::io::Lines<BufReader<ChildStderr>> {
    BufReader::new(child.stderr.take().unwrap()).lines()
}

fn every_sensor_once(sensors: usize) -> Vec<String> {
    let mut all: Vec<String> = (0..sensors).map(|n| format!("s{n}")).collect();
    all.sort();
    all
}

const HEAVY: [&str; 4] = ["--ballast", "1000", "--rate", "800"];

#[test]
fn a_full_disk_makes_checkpoints_late_and_the_job_goes_on() {
    let place = Place::with_readings(400);
    let dir = place.path("state");
    let filler = dir.join("filler");
    // Nothing but the decisions of the start fits beside the filler.
    let fill = format!("head -c 8000K /dev/zero > '{}'", filler.display());
    let Some(mut command) = with_small_disk(&dir, 8096, &fill, JOB) else {
        return goes_on_after_an_abort(&place);
    };
    let mut child = command
        .arg(example("troubled"))
        .args(place.options())
        .args(HEAVY)
        .current_dir(place.dir())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut freed = false;
    let mut said = String::new();
    for line in read_stderr(&mut child) {
        let line = line.unwrap();
        if line.contains("was given up, the job goes on") && !freed {
            assert!(
                line.contains("No space left on device") && line.contains(": free space there"),
                "{line}"
            );
            freed = true;
            // The disk as the job sees it.
            let there = format!("/proc/{}/root{}", child.id(), filler.display());
            fs::remove_file(there).unwrap();
        }
        said += &line;
        said.push('\n');
    }
    assert!(child.wait().unwrap().success(), "{said}");
    assert!(freed, "{said}");
    assert_eq!(place.sensors(), every_sensor_once(400), "{said}");
}

#[test]
fn a_job_that_cannot_take_its_last_checkpoint_can_be_aborted_and_resumed() {
    goes_on_after_an_abort(&Place::with_readings(400));
}

/// Two requests to end, the second because the first cannot be obeyed; then the job goes on where there is room.
fn goes_on_after_an_abort(place: &Place) {
    let mut child = with_small_files(JOB)
        .arg(example("troubled"))
        .args(place.options())
        .args(HEAVY)
        .current_dir(place.dir())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut asked, mut aborted) = (false, false);
    let mut said = String::new();
    for line in read_stderr(&mut child) {
        let line = line.unwrap();
        if line.contains("was given up, the job goes on") && !asked {
            assert!(
                line.contains("File too large") && line.contains(": free space there"),
                "{line}"
            );
            asked = true;
            signal(&child, "INT");
        }
        if line.contains("the last checkpoint is tried again") && !aborted {
            assert!(line.contains("a second Ctrl-C ends the job without it"), "{line}");
            aborted = true;
            signal(&child, "INT");
        }
        said += &line;
        said.push('\n');
    }
    assert_eq!(child.wait().unwrap().code(), Some(130), "{said}");
    assert!(
        said.contains("\nstopping: a last checkpoint; once more aborts\n"),
        "{said}"
    );
    assert!(said.contains("\naborting\n"), "{said}");
    let output = place.job().args(["-q", "--from", "latest"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(place.sensors(), every_sensor_once(400));
}

#[test]
fn a_full_disk_under_a_sink_is_named_and_ends_the_job_when_its_restarts_are_used_up() {
    let place = Place::with_readings(100_000);
    let restarts = [
        "-q",
        "--set",
        "restart-strategy.type=fixed-delay",
        "--set",
        "restart-strategy.fixed-delay.attempts=2",
        "--set",
        "restart-strategy.fixed-delay.delay=5 ms",
    ];
    let disk = with_small_disk(&place.path("out"), 512, "true", JOB);
    for mut command in [Some(with_small_files(JOB)), disk].into_iter().flatten() {
        let (code, line) = error_line(
            command
                .arg(example("troubled"))
                .args(["readings.csv", "--out", "out"])
                .args(restarts)
                .current_dir(place.dir()),
        );
        assert_eq!(code, 1, "{line}");
        for part in [
            "error: files out/0: write out/.",
            "the disk is full: free space there, or write to another directory",
            "(all 2 restarts are used up)",
        ] {
            assert!(line.contains(part), "no {part:?} in {line}");
        }
    }
}

#[test]
fn ctrl_c_and_sigterm_take_a_last_checkpoint_and_say_how_to_go_on() {
    for name in ["INT", "TERM"] {
        let place = Place::with_readings(300);
        let mut child = place
            .job()
            .args(["--rate", "150", "-q", "--announce", "/dev/stdout"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut asked = false;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            if line.unwrap().starts_with("decided") && !asked {
                asked = true;
                signal(&child, name);
            }
        }
        let output = child.wait_with_output().unwrap();
        let said = text(&output.stderr);
        assert!(output.status.success(), "{said}");
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[0], "stopping: a last checkpoint; once more aborts");
        assert!(
            lines[1].starts_with("stopped at checkpoint ") && lines[1].contains("; resume with: "),
            "{said}"
        );
        assert_eq!(lines.len(), 2, "{said}");
        let (_, resume) = lines[1].split_once("; resume with: ").unwrap();
        // As printed, but for the announcements and the rate of this test.
        let resume = resume.replace(" --rate 150", "");
        let output = clean("sh")
            .args(["-c", &resume])
            .current_dir(place.dir())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(place.sensors(), every_sensor_once(300));
    }
}

#[test]
fn an_output_that_nobody_reads_ends_the_job_in_one_line() {
    let place = Place::with_readings(50_000);
    let mut child = job("word_count")
        .args(["readings.csv", "-q"])
        .args(process::RESTARTING)
        .current_dir(place.dir())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut String::new()).unwrap();
    drop(output);
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        text(&output.stderr),
        "error: print/0: nobody reads standard output any more: let the reader run on, or write to files with \
         FileSink\n"
    );
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_progress_that_nobody_reads_does_not_matter() {
    let place = Place::with_readings(100);
    let mut child = place.job().arg("-v").stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(place.sensors(), every_sensor_once(100));
}

#[test]
fn only_a_terminal_gets_a_line_that_changes_and_colours_only_if_welcome() {
    let place = Place::with_readings(100);
    let job = format!("{} readings.csv --rate 200", example("troubled").display());
    let mut terminal = clean("script");
    terminal
        .args(["-qec", &job, "/dev/null"])
        .env("TERM", "xterm")
        .current_dir(place.dir());
    let said = |command: &mut Command| {
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success());
        text(&output.stdout) + &text(&output.stderr)
    };
    let bold = "\x1b[1m";
    let watched = said(&mut terminal);
    assert!(
        watched.contains(bold) && watched.contains("\r\x1b[2K"),
        "{watched:?}"
    );
    let plain = said(terminal.env("NO_COLOR", "1"));
    assert!(!plain.contains(bold) && plain.contains("\r\x1b[2K"), "{plain:?}");
    let piped = said(clean("sh").args(["-c", &job]).current_dir(place.dir()));
    assert!(!piped.contains('\x1b') && !piped.contains('\r'), "{piped:?}");
    assert!(piped.contains("finished: 100 records"), "{piped:?}");
}
