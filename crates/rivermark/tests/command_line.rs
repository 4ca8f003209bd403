//! A job as a process: what it prints, how it ends, and that it goes on where it was. The job is the `word_count` example.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use rivermark::announce::Announcement;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The example, which cargo builds before it runs a test of this package.
fn word_count() -> Command {
    let test = std::env::current_exe().unwrap();
    let target = test.parent().and_then(Path::parent).unwrap();
    let mut command = Command::new(target.join("examples/word_count"));
    command.env_remove("RUST_LOG");
    command
}

fn run(arguments: &[&str]) -> Output {
    word_count().args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A job that must be refused: the lines it prints, and its exit code.
fn refused(arguments: &[&str]) -> (Vec<String>, i32) {
    let output = run(arguments);
    assert_eq!(text(&output.stdout), "", "{arguments:?} wrote results");
    (
        text(&output.stderr).lines().map(str::to_owned).collect(),
        output.status.code().unwrap(),
    )
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
    fn with_lines(lines: &[&str]) -> Place {
        let place = Place::new();
        fs::write(place.path("input"), lines.join("\n") + "\n").unwrap();
        place
    }
    /// The options of a job that keeps its state here.
    fn keeping(&self) -> Vec<String> {
        let set = |assignment: String| ["--set".to_owned(), assignment];
        [
            vec![self.text("input"), "--out".to_owned(), self.text("out")],
            set("pipeline.name=words".to_owned()).to_vec(),
            set(format!("execution.checkpointing.dir={}", self.text("state"))).to_vec(),
            set("execution.checkpointing.interval=20 ms".to_owned()).to_vec(),
        ]
        .concat()
    }
    /// The finished rows, each with how often it is there.
    fn rows(&self) -> BTreeMap<String, usize> {
        let mut rows = BTreeMap::new();
        for entry in fs::read_dir(self.path("out")).unwrap() {
            let entry = entry.unwrap();
            assert!(
                !entry.file_name().to_string_lossy().starts_with('.'),
                "{entry:?} is left over"
            );
            let text = fs::read_to_string(entry.path()).unwrap();
            text.lines()
                .skip(1)
                .for_each(|row| *rows.entry(row.to_owned()).or_default() += 1);
        }
        rows
    }
}

#[test]
fn a_job_runs_to_its_end_and_sums_up() {
    let place = Place::with_lines(&["to be or", "not to be"]);
    let output = run(&[&place.text("input")]);
    let mut rows: Vec<String> = text(&output.stdout)
        .lines()
        .map(|line| line.trim().to_owned())
        .collect();
    rows.sort();
    assert_eq!(rows, ["1 be", "1 not", "1 or", "1 to", "2 be", "2 to"]);
    let said = text(&output.stderr);
    assert!(said.contains("note: state is kept in memory"), "{said}");
    assert!(
        said.lines()
            .last()
            .unwrap()
            .starts_with("finished: 2 records in "),
        "{said}"
    );
    assert!(
        !said.contains('\x1b'),
        "escapes although nobody watches: {said:?}"
    );
    assert!(output.status.success());
}

#[test]
fn quiet_says_nothing() {
    let place = Place::with_lines(&["one"]);
    let output = run(&[&place.text("input"), "-q"]);
    assert_eq!(
        (text(&output.stderr).as_str(), output.status.code()),
        ("", Some(0))
    );
}

#[test]
fn explaining_the_graph_runs_nothing() {
    let output = run(&["/nowhere", "--explain-graph", "--parallelism", "3"]);
    let plan = text(&output.stdout);
    assert!(plan.starts_with("job: 2 tasks, 6 subtasks, 3 slots\n"), "{plan}");
    assert!(output.status.success());
    let output = run(&["/nowhere", "--explain-graph", "dot", "--parallelism", "3"]);
    let picture = text(&output.stdout);
    assert!(
        picture.starts_with("digraph \"job\" {\n") && picture.ends_with("}\n"),
        "{picture}"
    );
    assert!(output.status.success());
}

#[test]
fn what_is_wrong_is_one_line_that_says_what_to_do() {
    let place = Place::with_lines(&["one"]);
    let input = place.text("input");
    let dir = format!("execution.checkpointing.dir={}", place.text("state"));
    for (arguments, expected) in [
        (
            vec![&*input, "-q", "--set", "execution.checkpointing.intervall=1 s"],
            "did you mean `execution.checkpointing.interval`?",
        ),
        (
            vec![&*input, "-q", "--set", "execution.checkpointing.interval=soon"],
            "expected a duration such as",
        ),
        (vec![&*input, "-q", "--set", &*dir], "set `pipeline.name`"),
        (
            vec![&*input, "-q", "--config", "/nowhere/job.yaml"],
            "--config /nowhere/job.yaml: ",
        ),
        (
            vec!["/nowhere/words", "-q"],
            "there is no file or directory /nowhere/words: check the path",
        ),
        (
            vec![
                &*input,
                "-q",
                "--from",
                "17",
                "--set",
                &*dir,
                "--set",
                "pipeline.name=words",
            ],
            "start it without --from",
        ),
        (
            vec![
                &*input,
                "-q",
                "--set",
                "execution.checkpointing.dir=s3://x",
                "--set",
                "pipeline.name=words",
            ],
            "give a directory",
        ),
    ] {
        let (lines, code) = refused(&arguments);
        assert_eq!((lines.len(), code), (1, 2), "{arguments:?}: {lines:?}");
        assert!(
            lines[0].starts_with("error: ") && lines[0].contains(expected),
            "{arguments:?}: {lines:?}"
        );
    }
}

#[test]
fn an_unknown_option_is_refused_with_the_usage() {
    let (lines, code) = refused(&["--inptu", "x"]);
    assert!(
        lines[0].starts_with("error: unexpected argument '--inptu'"),
        "{lines:?}"
    );
    assert_eq!(code, 2);
}

#[test]
fn a_stopped_job_says_how_to_go_on_and_goes_on_there() {
    let lines: Vec<String> = (0..300).map(|n| format!("word{} again", n % 7)).collect();
    let place = Place::with_lines(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    // Slow enough to be stopped half-way.
    let mut job = word_count()
        .args(place.keeping())
        .args(["--rate", "50", "--parallelism", "2", "--announce", "/dev/stdout"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let announced = BufReader::new(job.stdout.take().unwrap()).lines();
    let mut read = 0;
    let mut asked = false;
    for line in announced {
        match line.unwrap().parse().unwrap() {
            Announcement::Decided { .. } if read > 0 && !asked => {
                asked = true;
                assert!(
                    Command::new("kill")
                        .args(["-TERM", &job.id().to_string()])
                        .status()
                        .unwrap()
                        .success()
                );
            }
            Announcement::Read(records) | Announcement::Ended { read: records, .. } => read = records,
            _ => {}
        }
    }
    let output = job.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    let resume = said
        .lines()
        .find(|line| line.starts_with("stopped at checkpoint "))
        .unwrap_or_else(|| panic!("{said}"));
    assert!(
        resume.contains("; resume with: ") && resume.ends_with(" --from latest"),
        "{resume}"
    );
    assert!(read > 0 && read < 300, "stopped half-way: {read}");

    let (lines, code) = refused(
        &place
            .keeping()
            .iter()
            .map(String::as_str)
            .chain(["-q"])
            .collect::<Vec<_>>(),
    );
    assert!(
        lines[0].contains("--from latest") && lines[0].contains("--from none"),
        "{lines:?}"
    );
    assert_eq!((lines.len(), code), (1, 2));

    // At another parallelism.
    let output = word_count()
        .args(place.keeping())
        .args(["--from", "latest", "--parallelism", "3"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let counts = |word: &str, most: usize| (1..=most).map(|n| (format!("{word},{n}"), 1)).collect::<Vec<_>>();
    let mut expected = counts("again", 300);
    (0..7).for_each(|n| {
        expected.extend(counts(
            &format!("word{n}"),
            (0..300).filter(|line| line % 7 == n).count(),
        ))
    });
    assert_eq!(place.rows(), expected.into_iter().collect::<BTreeMap<_, _>>());
}
