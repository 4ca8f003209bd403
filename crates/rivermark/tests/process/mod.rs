//! A job as a process, in a directory of its own.

#![allow(dead_code, reason = "every test program uses a part of it")]

use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Restarts at once, so that three failures take no time.
pub const RESTARTING: [&str; 4] = [
    "--set",
    "restart-strategy.type=exponential-delay",
    "--set",
    "restart-strategy.exponential-delay.initial-backoff=5 ms",
];

/// An example, which cargo builds before it runs a test of this package.
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test.parent().and_then(Path::parent).unwrap();
    target.join("examples").join(name)
}

/// A command without what the surroundings may want of it.
pub fn clean(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for variable in ["RUST_LOG", "RUST_BACKTRACE", "NO_COLOR"] {
        command.env_remove(variable);
    }
    command
}

pub fn job(name: &str) -> Command {
    clean(example(name))
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs a job that must fail and write nothing else: its exit code and the only line.
#[track_caller]
pub fn error_line(command: &mut Command) -> (i32, String) {
    let output = command.output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("error: "), "{said}");
    assert_eq!(text(&output.stdout), "");
    (output.status.code().unwrap(), said.trim_end().to_owned())
}

/// Sends a signal by its name.
pub fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// A directory for a job: its input, state and output.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    pub fn dir(&self) -> &Path {
        self.0.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).unwrap();
    }

    pub fn write_gzip(&self, name: &str, content: &str) {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(content.as_bytes()).unwrap();
        self.write(name, &packed.finish().unwrap());
    }

    /// The job with state and output here.
    pub fn job(&self) -> Command {
        let mut command = job("troubled");
        command.current_dir(self.dir()).args(self.options());
        command
    }

    /// The options of that job.
    pub fn options(&self) -> [&'static str; 11] {
        [
            "readings.csv",
            "--out",
            "out",
            "--set",
            "pipeline.name=sums",
            "--set",
            "execution.checkpointing.dir=state",
            "--set",
            "execution.checkpointing.interval=20 ms",
            "--set",
            "execution.checkpointing.num-retained=3",
        ]
    }

    /// With `readings.csv`, a reading of each of so many sensors.
    pub fn with_readings(sensors: usize) -> Place {
        let place = Place::new();
        let lines: String = (0..sensors).map(|n| format!("s{n},{n}\n")).collect();
        place.write("readings.csv", format!("sensor,value\n{lines}").as_bytes());
        place
    }

    /// Where a job was stopped half-way, behind its third checkpoint.
    pub fn with_checkpoints() -> Place {
        let place = Place::with_readings(600);
        let mut child = place
            .job()
            .args(["--rate", "300", "-q", "--announce", "/dev/stdout"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut decided = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            decided += u32::from(line.unwrap().starts_with("decided"));
            if decided == 3 {
                decided += 1;
                signal(&child, "INT");
            }
        }
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        place
    }

    pub fn resuming(&self) -> Command {
        self.job()
    }

    /// Resumes the job, which must be refused.
    #[track_caller]
    pub fn resume(&self, options: &[&str]) -> (i32, String) {
        error_line(self.resuming().args(["-q", "--from", "latest"]).args(options))
    }

    /// The number of the newest checkpoint.
    pub fn newest_checkpoint(&self) -> u64 {
        let names = names(&self.path("state/sums/objects/g1/a1"));
        let numbers = names
            .iter()
            .filter_map(|name| name.strip_prefix("chk-")?.parse().ok());
        numbers.max().unwrap()
    }

    pub fn object(&self, checkpoint: u64, name: &str) -> PathBuf {
        self.path(&format!("state/sums/objects/g1/a1/chk-{checkpoint}/{name}"))
    }

    pub fn newest_decision(&self) -> PathBuf {
        let dir = self.path("state/sums");
        let names = names(&dir);
        let newest = names.iter().filter(|name| name.starts_with("decision-")).max();
        dir.join(newest.unwrap())
    }

    /// The sensors in the finished files, sorted: each as often as it is there.
    pub fn sensors(&self) -> Vec<String> {
        let mut sensors = Vec::new();
        for name in names(&self.path("out")) {
            assert!(!name.starts_with('.'), "{name} is left over");
            let rows = fs::read_to_string(self.path("out").join(&name)).unwrap();
            let sensor = |row: &str| row.split(',').next().map(str::to_owned);
            sensors.extend(rows.lines().skip(1).filter_map(sensor));
        }
        sensors.sort();
        sensors
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}
