//! `cargo xtask soak`: a job watched for a long time, restarted every minute: nothing grows, nothing is lost or doubled.
//!
//! Layout: [`job`] (the job; this executable is started again under its name), `sink` (its slow sink, and the tallies that it
//! publishes), `watch` (memory, threads and open files, minute by minute, and how they grew); here, the run and its verdict.
//!
//! Every minute ends with a restart. In the first half of the run an attempt fails and a process is killed, in turns; in the
//! second half only attempts fail, so that one process grows old. Memory is compared where it can be: between processes of
//! the same age, and inside the old one. Non-goals: speed (`bench`), kills at every moment (`crash-test`).

pub(crate) mod job;
mod sink;
mod watch;

use crate::Outcome;
use crate::crash::process::{Heard, Process};
use rivermark::announce::Announcement;
use rivermark_env::{Env, RealEnv};
use rivermark_sim::Draw;
use rivermark_state::WriterConfig;
use rivermark_types::Millis;
use serde_json::json;
use sink::{SPLITS, SplitTally, Tally};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use watch::{Growth, Look, Minute, growths};

/// The credit of a channel. Its batches have 1,024 rows, so that they are less than half of it, and 65,536 rows would be
/// allowed, so that the bytes are what bounds it.
const CHANNEL_BYTES: u64 = 128 << 10;
const ROWS: [&str; 2] = [
    "rivermark.batch.max-rows=1024",
    "rivermark.channel.max-rows=65536",
];
/// What memory may grow by after the warm-up, in per cent.
const MAY_GROW: f64 = 5.0;
/// How many more threads or open files at the end are no growth yet: both come and go by themselves.
const MAY_FLUCTUATE: i64 = 3;
const WARM_UP_MINUTES: u64 = 5;
const LOOKS_A_MINUTE: u32 = 60;

/// Watches a job with a state that expires, a slow sink, checkpoints every second and a restart every minute. Exit code 1 if
/// memory, threads or open files grow, buffers pass their bounds, or a row is lost or doubled.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// Where the moments of the restarts are drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Rows a second
    #[arg(long, default_value_t = 50_000)]
    rate: u64,
    /// Milliseconds that are called a minute
    #[arg(long, default_value_t = 60_000, hide = true)]
    minute_ms: u64,
    /// Print each minute and the verdict as a JSON object a line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let world = RealEnv::start().map_err(|error| format!("the I/O threads cannot be started: {error}"))?;
    let root = tempfile::Builder::new().prefix("rivermark-soak-").tempdir();
    let root = root.map_err(|error| format!("there is no temporary directory: {error}"))?;
    let mut soak = Soak {
        env: world.env(),
        args,
        root: root.path().to_owned(),
        starts: 0,
        minutes: Vec::new(),
        peaks: Peaks::default(),
        restarts: (0, 0),
    };
    let complaints = match soak.run() {
        Ok(tally) => soak.verdict(&tally),
        Err(problem) => vec![problem],
    };
    for complaint in &complaints {
        eprintln!("error: {complaint}");
    }
    if !complaints.is_empty() {
        eprintln!("kept for a look: {}", root.keep().display());
    }
    Ok(complaints.is_empty())
}

/// The most that processes told of.
#[derive(Clone, Copy, Debug, Default)]
struct Peaks {
    channel: u64,
    batch: u64,
    captured: u64,
}

struct Soak<'a> {
    env: Env,
    args: &'a Args,
    root: PathBuf,
    starts: usize,
    minutes: Vec<Minute>,
    peaks: Peaks,
    /// Attempts that were failed, processes that were killed.
    restarts: (u64, u64),
}

impl Soak<'_> {
    /// The whole run; what the job has published in the end.
    fn run(&mut self) -> Result<Tally, String> {
        let mut draw = Draw::stream(self.args.seed, "soak");
        let mut process = self.start()?;
        let mut age = 0;
        for number in 1..=self.args.minutes {
            age += 1;
            let looks = self.watch(&mut process)?;
            let minute = Minute::of(number, age, &looks).ok_or("the job's process cannot be looked at")?;
            self.tell(&minute);
            self.minutes.push(minute);
            if number == self.args.minutes {
                break;
            }
            // Not at the same moment of a checkpoint each time.
            self.listen(&mut process, Duration::from_millis(draw.below(1_000)))?;
            if number * 2 <= self.args.minutes && number.is_multiple_of(2) {
                process.kill()?;
                process = self.start()?;
                age = 0;
                self.restarts.1 += 1;
            } else {
                self.fail_attempt(&mut process)?;
            }
        }
        process.terminate()?;
        while let Some(announcement) = process.hear()? {
            self.note(announcement);
        }
        process.wait()?.expect_success()?;
        self.published()
    }

    fn start(&mut self) -> Result<Process, String> {
        self.starts += 1;
        let errors = self.root.join(format!("start-{}.log", self.starts));
        let state = format!(
            "execution.checkpointing.dir={}",
            self.root.join("state").display()
        );
        let settings = [
            state,
            format!("rivermark.channel.max-bytes={CHANNEL_BYTES} bytes"),
            "execution.checkpointing.interval=1 s".to_owned(),
            "restart-strategy.type=fixed-delay".to_owned(),
            "restart-strategy.fixed-delay.attempts=1000000".to_owned(),
            "restart-strategy.fixed-delay.delay=100 ms".to_owned(),
        ];
        // Long enough for a key that comes again after a restart, and so that most keys of a run are dead.
        let ttl_ms = self.args.minute_ms / 2 + 10_000;
        let mut process = Process::launch(&self.env, job::NAME, errors, |command| {
            command
                .args(["--parallelism", &SPLITS.to_string()])
                .args(["--rate", &self.args.rate.to_string()])
                .args(["--ttl-ms", &ttl_ms.to_string()])
                .arg("--output")
                .arg(self.output())
                .arg("--failure")
                .arg(self.failure());
            for setting in settings.iter().map(String::as_str).chain(ROWS) {
                command.args(["--set", setting]);
            }
        })?;
        self.until_running(&mut process)?;
        Ok(process)
    }

    fn output(&self) -> PathBuf {
        self.root.join("output")
    }
    fn failure(&self) -> PathBuf {
        self.root.join("fail")
    }

    /// Fails an attempt, by way of the sink, and waits until the next one runs.
    fn fail_attempt(&mut self, process: &mut Process) -> Result<(), String> {
        fs::write(self.failure(), "").map_err(|error| format!("{}: {error}", self.failure().display()))?;
        self.until_running(process)?;
        self.restarts.0 += 1;
        Ok(())
    }

    fn until_running(&mut self, process: &mut Process) -> Result<(), String> {
        let patience = Duration::from_secs(60);
        let until = self.env.now().after(patience);
        loop {
            match self.hear(process, until)? {
                Some(Announcement::Running(_)) => return Ok(()),
                Some(_) => {}
                None => return Err(format!("the job does not run within {} s", patience.as_secs())),
            }
        }
    }

    /// Lets a minute pass; what was seen in its second half.
    fn watch(&mut self, process: &mut Process) -> Result<Vec<Look>, String> {
        let step = Duration::from_millis(self.args.minute_ms) / LOOKS_A_MINUTE;
        let mut looks = Vec::new();
        for look in 0..LOOKS_A_MINUTE {
            self.listen(process, step)?;
            if look >= LOOKS_A_MINUTE / 2 {
                looks.extend(Look::at(process.id()));
            }
        }
        Ok(looks)
    }

    fn listen(&mut self, process: &mut Process, time: Duration) -> Result<(), String> {
        let until = self.env.now().after(time);
        while self.hear(process, until)?.is_some() {}
        Ok(())
    }

    /// The next announcement, if it comes in time.
    fn hear(&mut self, process: &mut Process, until: Millis) -> Result<Option<Announcement>, String> {
        match process.listen(until)? {
            Heard::Said(announcement) => {
                self.note(announcement);
                Ok(Some(announcement))
            }
            Heard::Nothing => Ok(None),
            Heard::Closed => Err(format!(
                "the job has ended by itself: see start-{}.log",
                self.starts
            )),
        }
    }

    fn note(&mut self, announcement: Announcement) {
        if let Announcement::Peaks {
            channel,
            batch,
            captured,
        } = announcement
        {
            self.peaks.channel = self.peaks.channel.max(channel);
            self.peaks.batch = self.peaks.batch.max(batch);
            self.peaks.captured = self.peaks.captured.max(captured);
        }
    }

    /// All tallies of all finished files.
    fn published(&self) -> Result<Tally, String> {
        let mut sum = Tally::default();
        for file in files(&self.output())? {
            let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            for line in text.lines() {
                let tally: Tally =
                    serde_json::from_str(line).map_err(|error| format!("{}: {error}", file.display()))?;
                sum.add(&tally);
            }
        }
        Ok(sum)
    }

    fn tell(&self, minute: &Minute) {
        let Minute {
            number,
            age,
            rss_kb,
            threads,
            files,
        } = *minute;
        if self.args.json {
            let line =
                json!({ "minute": number, "age": age, "rss_kb": rss_kb, "threads": threads, "files": files });
            println!("{line}");
        } else {
            let mb = rss_kb as f64 / 1024.0;
            println!(
                "minute {number:3}: {mb:7.1} MB, {threads} threads, {files} open files (process of {age} min)"
            );
        }
    }

    /// What is wrong, after telling how it was.
    fn verdict(&self, tally: &Tally) -> Vec<String> {
        let growths = growths(&self.minutes, WARM_UP_MINUTES);
        let captured_limit = WriterConfig::default().memory_limit as u64;
        let rows: u64 = tally.splits.iter().map(|split| split.count).sum();
        let is_exact = (0..SPLITS)
            .zip(&tally.splits)
            .all(|(split, found)| SplitTally::of_first(found.count, split) == *found);
        let mut complaints: Vec<String> = growths.iter().flat_map(grown).collect();
        if self.peaks.channel > CHANNEL_BYTES || self.peaks.channel == 0 {
            complaints.push("a channel passed its credit, or none was seen".to_owned());
        }
        if self.peaks.captured > captured_limit {
            complaints.push("captured state passed its memory limit".to_owned());
        }
        if !is_exact {
            complaints.push("rows were lost or doubled".to_owned());
        }
        if tally.miscounted > 0 {
            complaints.push(format!(
                "{} visits were not counted as they should",
                tally.miscounted
            ));
        }
        if rows == 0 {
            complaints.push("nothing was published".to_owned());
        }
        self.tell_verdict(&growths, tally, rows, is_exact, captured_limit);
        complaints
    }

    fn tell_verdict(
        &self,
        growths: &[Growth],
        tally: &Tally,
        rows: u64,
        is_exact: bool,
        captured_limit: u64,
    ) {
        let Peaks {
            channel,
            batch,
            captured,
        } = self.peaks;
        let (failed, killed) = self.restarts;
        if self.args.json {
            let grown: Vec<_> = growths
                .iter()
                .map(|growth| {
                    json!({ "what": growth.what, "rss_percent": growth.rss, "threads": growth.threads, "files": growth.files })
                })
                .collect();
            let line = json!({
                "minutes": self.args.minutes, "warm_up": WARM_UP_MINUTES, "growth": grown, "attempts_failed": failed,
                "processes_killed": killed, "rows": rows, "exact": is_exact, "miscounted": tally.miscounted,
                "channel_bytes": channel, "channel_limit": CHANNEL_BYTES, "batch_bytes": batch,
                "captured_bytes": captured, "captured_limit": captured_limit,
            });
            println!("{line}");
            return;
        }
        println!("restarts: {failed} attempts failed, {killed} processes killed");
        if growths.is_empty() {
            println!("growth: too short a run to compare minutes after the first {WARM_UP_MINUTES}");
        }
        for growth in growths {
            println!(
                "growth after the first {WARM_UP_MINUTES} min, {}: {:+.1} % RSS (allowed: {MAY_GROW} %), {:+} threads, {:+} files",
                growth.what, growth.rss, growth.threads, growth.files
            );
        }
        println!("channels: at most {channel} bytes of {CHANNEL_BYTES}, in batches of at most {batch}");
        println!("captured state: at most {captured} bytes of {captured_limit}");
        let verdict = if is_exact {
            "each exactly once"
        } else {
            "LOST OR DOUBLED"
        };
        println!("{rows} rows: {verdict}, {} counted wrongly", tally.miscounted);
    }
}

/// What of a growth is too much.
fn grown(growth: &Growth) -> Vec<String> {
    let Growth {
        what,
        rss,
        threads,
        files,
    } = growth;
    let mut complaints = Vec::new();
    if *rss >= MAY_GROW {
        complaints.push(format!("memory grew by {rss:.1} % ({what})"));
    }
    if (*threads).max(*files) > MAY_FLUCTUATE {
        complaints.push(format!("{threads:+} threads, {files:+} open files ({what})"));
    }
    complaints
}

/// The finished files of a directory.
fn files(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", dir.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            files.push(entry.path());
        }
    }
    Ok(files)
}
