//! What a person sees while a job runs: in a terminal one line that changes, elsewhere a plain line now and then; at the
//! end one line that sums up.
//!
//! Layout: [`Progress`] (an I/O task that watches the job's statistics), `Snapshot` and its sentences (pure).
//! Non-goals: logging, and anything a program would read (see [`crate::announce`]).

use crate::console::Console;
use crate::pressure::pressure;
use crate::wording::{count, counted, date, size, span};
use rivermark_env::Env;
use rivermark_job::{CheckpointSummary, JobControl, JobStats};
use rivermark_runtime::metrics::JobSnapshot;
use rivermark_types::{CheckpointId, Millis, Timestamp};
use std::collections::VecDeque;
use std::time::Duration;

/// How often the line changes.
const REFRESH: Duration = Duration::from_millis(200);
/// How often a plain line comes.
const PLAIN_EVERY: Duration = Duration::from_secs(5);
/// Rates are those of about the last second.
const RATE_OVER: Duration = Duration::from_secs(1);

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manner {
    /// One line that changes, instead of plain ones.
    pub(crate) live: bool,
    /// Colours.
    pub(crate) colours: bool,
    /// Decided checkpoints get a line each.
    pub(crate) checkpoints: bool,
}

/// What rates are taken from.
#[derive(Default)]
struct Reading {
    at: Millis,
    read: u64,
    written: u64,
    counters: JobSnapshot,
}

/// Watches a job.
pub(crate) struct Progress {
    env: Env,
    console: Console,
    manner: Manner,
    started: Millis,
    /// Readings of the last second, oldest first.
    readings: VecDeque<Reading>,
    told_at: Millis,
    restarts: u32,
    checkpoint: Option<(CheckpointId, Millis)>,
}

impl Progress {
    pub(crate) fn new(env: &Env, console: Console, manner: Manner) -> Progress {
        let now = env.now();
        Progress {
            env: env.clone(),
            console,
            manner,
            started: now,
            readings: VecDeque::from([Reading {
                at: now,
                ..Reading::default()
            }]),
            told_at: now,
            restarts: 0,
            checkpoint: None,
        }
    }

    /// Tells until it is aborted.
    pub(crate) async fn run(mut self, control: JobControl) {
        loop {
            self.tell(&control.stats());
            self.env.sleep(REFRESH).await;
        }
    }

    fn tell(&mut self, stats: &JobStats) {
        let now = self.env.now();
        self.tell_events(stats, now);
        let snapshot = self.snapshot(stats, now);
        if self.manner.live {
            self.console.live(&snapshot.live(self.manner.colours));
        } else if now.since(self.told_at) >= PLAIN_EVERY {
            self.told_at = now;
            self.console.line(&snapshot.plain());
        }
    }

    fn tell_events(&mut self, stats: &JobStats, now: Millis) {
        if stats.restarts > self.restarts {
            self.restarts = stats.restarts;
            self.console.line(&restart_line(stats));
        }
        let told = self.checkpoint.map(|(id, _)| id);
        for summary in stats
            .checkpoints
            .iter()
            .filter(|summary| told.is_none_or(|told| summary.id > told))
        {
            if self.manner.checkpoints {
                self.console.line(&checkpoint_line(summary));
            }
            self.checkpoint = Some((summary.id, now));
        }
    }

    fn snapshot<'a>(&mut self, stats: &'a JobStats, now: Millis) -> Snapshot<'a> {
        let reading = Reading {
            at: now,
            read: stats.records_in(),
            written: stats.records_out(),
            counters: stats.counters.snapshot(now),
        };
        // One reading from before the span is kept: the difference to it is the rate.
        while self
            .readings
            .get(1)
            .is_some_and(|later| now.since(later.at) >= RATE_OVER)
        {
            self.readings.pop_front();
        }
        let then = self.readings.front().unwrap_or(&reading);
        let over = now.since(then.at);
        let snapshot = Snapshot {
            stats,
            elapsed: now.since(self.started),
            read_rate: rate(reading.read.saturating_sub(then.read), over),
            written_rate: rate(reading.written.saturating_sub(then.written), over),
            pressure: pressure(&then.counters, &reading.counters),
            checkpoint: stats
                .checkpoints
                .last()
                .zip(self.checkpoint.map(|(_, at)| now.since(at))),
        };
        self.readings.push_back(reading);
        snapshot
    }
}

/// A job at one moment, ready to be told.
struct Snapshot<'a> {
    stats: &'a JobStats,
    elapsed: Duration,
    read_rate: u64,
    written_rate: u64,
    /// Who is busy, and who waits for them.
    pressure: Vec<String>,
    /// The newest decided one, and how long ago it was.
    checkpoint: Option<(&'a CheckpointSummary, Duration)>,
}

impl Snapshot<'_> {
    fn live(&self, colours: bool) -> String {
        let (bold, dim, end) = if colours {
            ("\x1b[1m", "\x1b[2m", "\x1b[0m")
        } else {
            ("", "", "")
        };
        let sep = format!(" {dim}|{end} ");
        [format!("{bold}{}{end} {}", self.stats.state, span(self.elapsed))]
            .into_iter()
            .chain(self.parts())
            .collect::<Vec<_>>()
            .join(&sep)
    }

    fn plain(&self) -> String {
        let first = format!("{} for {}", self.stats.state, span(self.elapsed));
        [first]
            .into_iter()
            .chain(self.parts())
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn parts(&self) -> Vec<String> {
        let mut parts = vec![
            format!("in {}/s", count(self.read_rate)),
            format!("out {}/s", count(self.written_rate)),
        ];
        parts.extend(self.pressure.iter().cloned());
        if let Some(watermark) = self
            .stats
            .watermark()
            .filter(|watermark| *watermark > Timestamp::MIN)
        {
            parts.push(format!("watermark {}", date(watermark)));
        }
        if let Some((summary, age)) = &self.checkpoint {
            parts.push(format!(
                "checkpoint {} {} {} ago",
                summary.id,
                size(summary.bytes),
                span(*age)
            ));
        }
        parts.extend(bad_records(self.stats));
        if self.stats.restarts > 0 {
            parts.push(format!("restarts {}", self.stats.restarts));
        }
        parts
    }
}

/// The job's last line.
pub(crate) fn summary(stats: &JobStats, elapsed: Duration) -> String {
    let read = stats.records_in();
    let mut text = format!(
        "{} in {} ({}/s), {} out, {} late",
        counted(read, "record"),
        span(elapsed),
        count(rate(read, elapsed)),
        count(stats.records_out()),
        count(stats.late())
    );
    for bad in bad_records(stats) {
        text += &format!(", {bad}");
    }
    if stats.decided > 0 {
        text += &format!(", {}", counted(stats.decided, "checkpoint"));
    }
    if stats.restarts > 0 {
        text += &format!(", {}", counted(stats.restarts.into(), "restart"));
    }
    text
}

/// Records that could not be processed, if there are any.
fn bad_records(stats: &JobStats) -> Vec<String> {
    let counts = [
        (stats.undecodable(), "undecodable"),
        (stats.dead_letters(), "dead letters"),
    ];
    let some = counts.into_iter().filter(|(records, _)| *records > 0);
    some.map(|(records, what)| format!("{} {what}", count(records)))
        .collect()
}

fn restart_line(stats: &JobStats) -> String {
    let why = stats.last_failure.as_deref().unwrap_or("an attempt ended");
    format!("restart {}: {}", stats.restarts, why.replace('\n', "; "))
}

fn checkpoint_line(summary: &CheckpointSummary) -> String {
    let CheckpointSummary {
        id,
        bytes,
        rows,
        duration,
        in_flight_bytes,
        ..
    } = summary;
    let in_flight = match in_flight_bytes {
        0 => String::new(),
        bytes => format!(", {} in flight", size(*bytes)),
    };
    format!(
        "checkpoint {id}: {} rows{in_flight}, {} in {}",
        count(*rows),
        size(*bytes),
        span(*duration)
    )
}

fn rate(records: u64, over: Duration) -> u64 {
    match over.as_millis() as u64 {
        0 => 0,
        ms => records.saturating_mul(1000) / ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::tests::Kept;
    use rivermark_env::RealEnv;
    use rivermark_types::SnapshotKind;

    const PLAIN: Manner = Manner {
        live: false,
        colours: false,
        checkpoints: true,
    };

    fn decided(id: u64) -> CheckpointSummary {
        let duration = Duration::from_millis(12);
        CheckpointSummary {
            id: CheckpointId(id),
            kind: SnapshotKind::Checkpoint,
            duration,
            bytes: 41_000,
            rows: 1234,
            in_flight_bytes: 0,
            completed_at: Timestamp(0),
        }
    }

    #[test]
    fn the_live_line_has_the_newest_checkpoint_and_restarts() {
        let stats = JobStats {
            state: "running",
            restarts: 2,
            ..JobStats::default()
        };
        let newest = decided(17);
        let snapshot = Snapshot {
            stats: &stats,
            elapsed: Duration::from_millis(3200),
            read_rate: 84_000,
            written_rate: 12,
            pressure: vec!["busiest windows 97%".into(), "held back source 84%".into()],
            checkpoint: Some((&newest, Duration::from_millis(150))),
        };
        let expected = "running 3.2 s | in 84,000/s | out 12/s | busiest windows 97% | held back source 84% | \
                        checkpoint 17 41 KB 150 ms ago | restarts 2";
        assert_eq!(snapshot.live(false), expected);
        assert!(snapshot.live(true).starts_with("\x1b[1mrunning\x1b[0m"));
        assert!(
            snapshot
                .plain()
                .starts_with("running for 3.2 s, in 84,000/s, out 12/s, busiest windows 97%, held back source 84%, checkpoint 17")
        );
    }

    #[test]
    fn every_checkpoint_and_restart_is_told_once() {
        let env = RealEnv::start().unwrap().env();
        let (kept, console) = Kept::console();
        let mut progress = Progress::new(&env, console, PLAIN);
        let mut stats = JobStats {
            state: "running",
            ..JobStats::default()
        };
        progress.tell(&stats);
        stats.checkpoints.push(decided(1));
        progress.tell(&stats);
        progress.tell(&stats);
        stats.restarts = 1;
        stats.last_failure = Some("map/1: no\nnumber".into());
        stats.checkpoints.push(decided(2));
        progress.tell(&stats);
        let lines = "checkpoint 1: 1,234 rows, 41 KB in 12 ms\nrestart 1: map/1: no; number\n\
                     checkpoint 2: 1,234 rows, 41 KB in 12 ms\n";
        assert_eq!(kept.text(), lines);
    }

    #[test]
    fn the_summary_counts() {
        let stats = JobStats {
            decided: 3,
            ..JobStats::default()
        };
        let text = summary(&stats, Duration::from_secs(4));
        assert_eq!(text, "0 records in 4.0 s (0/s), 0 out, 0 late, 3 checkpoints");
    }
}
