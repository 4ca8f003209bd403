//! The typed view: what the engine reads, after all keys are checked one by one and against each other.

use crate::config::Config;
use crate::error::ConfigError;
use crate::keys;
use crate::origin::Origin;
use crate::value::Typed;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

pub use recovery::{LocalCopiesConfig, RecoveryConfig};

/// With a directory, the promise holds without a further setting: a checkpoint every ten seconds.
const INTERVAL_WITH_DIRECTORY: Duration = Duration::from_secs(10);
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(10);
const LONGEST_NAME: usize = 128;

/// Everything a job is configured with.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The shape of the pipeline.
    pub pipeline: PipelineConfig,
    /// When checkpoints are taken, and where they go.
    pub checkpoint: CheckpointConfig,
    /// What follows a failure.
    pub restart: RestartConfig,
    /// What the job starts from.
    pub recovery: RecoveryConfig,
    /// What becomes of records that cannot be processed.
    pub bad_records: BadRecordsConfig,
    /// Who is told the job's metrics.
    pub reporters: Vec<ReporterConfig>,
    /// Sizes inside the engine.
    pub engine: EngineConfig,
    /// Keys of Flink's that were set and have no meaning here yet, with their origins; to be listed once.
    pub ignored: Vec<(String, Origin)>,
}

/// The shape of the pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipelineConfig {
    /// Name of the job; always there when a checkpoint directory is.
    pub name: Option<String>,
    /// Parallelism of operators that set none.
    pub parallelism: u32,
    /// Number of key groups; `None` = derived from the parallelism.
    pub max_parallelism: Option<u32>,
    /// Whether neighbouring operators may share a task.
    pub chaining: bool,
    /// Time between two watermarks; `None` = no periodic ones.
    pub watermark_interval: Option<Duration>,
    /// Longest time that a batch waits to be full; zero = every record leaves at once.
    pub buffer_timeout: Duration,
    /// Slots of a process.
    pub slots: u32,
    /// Folders for scratch files; at least one.
    pub scratch_dirs: Vec<String>,
}

/// Whether a gate waits for the barriers of all its channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It waits: each record counts once in the state.
    ExactlyOnce,
    /// It does not: after a restore some records count twice.
    AtLeastOnce,
}

/// What becomes of the checkpoints of a job that did not finish by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Kept on cancel and on failure.
    Retain,
    /// Deleted on cancel, kept on failure.
    DeleteOnCancel,
    /// Deleted on cancel and on failure.
    Delete,
}

/// When checkpoints are taken, and where they go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointConfig {
    /// Time between two, never below `min_pause`; `None` = only on request.
    pub interval: Option<Duration>,
    /// Exactly-once or at-least-once.
    pub mode: Mode,
    /// How long a checkpoint is aligned before its barriers overtake; `None` = they never do.
    pub unaligned_after: Option<Duration>,
    /// Whether they overtake behind custom partitioners too.
    pub unaligned_forced: bool,
    /// A checkpoint pending for longer has failed.
    pub timeout: Duration,
    /// Rest between the end of one and the start of the next.
    pub min_pause: Duration,
    /// How many may be pending at once; at least one.
    pub max_concurrent: u32,
    /// How many may fail in a row before the job restarts; `None` = any number.
    pub tolerable_failures: Option<u32>,
    /// How many completed ones are kept; at least one.
    pub retained: u32,
    /// What a job leaves behind that did not finish.
    pub retention: Retention,
    /// Where they go (a path or a `file://` address); `None` = memory.
    pub dir: Option<String>,
    /// Where savepoints go that name no target.
    pub savepoint_dir: Option<String>,
    /// How often a failed commit is tried again before the job restarts.
    pub commit_retries: u32,
}

/// What follows a failure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RestartConfig {
    /// The job fails.
    None,
    /// A number of restarts, each after the same wait.
    FixedDelay {
        /// Restarts before the job fails.
        attempts: u32,
        /// Wait before each.
        delay: Duration,
    },
    /// As many restarts as a rate of failures allows.
    FailureRate {
        /// Failures that one interval may see.
        max_failures: u32,
        /// Length of the interval.
        interval: Duration,
        /// Wait before each restart.
        delay: Duration,
    },
    /// Waits that grow with each failure.
    ExponentialDelay {
        /// The first wait.
        initial: Duration,
        /// The longest wait.
        max: Duration,
        /// Growth from one wait to the next, at least 1.
        multiplier: f64,
        /// Time without failure after which wait and attempts start anew.
        reset_after: Duration,
        /// Random share of the wait that is added or taken off, 0 to 1.
        jitter: f64,
        /// Restarts before the job fails; `None` = any number.
        attempts: Option<u32>,
    },
}

/// What becomes of a record that cannot be processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBadRecord {
    /// The job fails.
    Fail,
    /// It is counted and passed over.
    Skip,
    /// It goes to the dead letters.
    DeadLetter,
}

/// What becomes of records that cannot be processed, where the job's code says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRecordsConfig {
    /// Of those that a source cannot decode.
    pub undecodable: OnBadRecord,
    /// Of rows that an operator fails at three times; never skipped.
    pub failing_row: OnBadRecord,
    /// The directory of the dead letters that no stream takes.
    pub dead_letters_dir: String,
}

/// A Prometheus endpoint (`metrics.reporter.<name>.*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReporterConfig {
    /// The reporter's name in the keys.
    pub name: String,
    /// The address it listens at.
    pub host: String,
    /// The ports of which it takes the first free one.
    pub ports: RangeInclusive<u16>,
    /// Whether unusual characters in label values are replaced.
    pub filter_label_values: bool,
}

/// Sizes inside the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Rows after which a batch is full.
    pub batch_rows: usize,
    /// Credit of a channel, in rows.
    pub channel_rows: usize,
    /// Credit of a channel, in bytes.
    pub channel_bytes: u64,
    /// Bytes that may be in flight to one subtask at a checkpoint.
    pub in_flight_bytes: u64,
    /// Bytes of checkpoints that may wait for the store in scratch files.
    pub scratch_bytes: u64,
    /// How long a call to the store may take; more than nothing.
    pub call_timeout: Duration,
    /// Time that a task works before it looks for barriers.
    pub slice: Duration,
}

impl Settings {
    pub(crate) fn resolve(config: &Config) -> Result<Settings, Vec<ConfigError>> {
        let mut reader = Reader {
            config,
            errors: Vec::new(),
            read: BTreeSet::new(),
        };
        let settings = read_all(&mut reader);
        if reader.errors.is_empty() {
            Ok(settings)
        } else {
            Err(reader.errors)
        }
    }
}

fn read_all(r: &mut Reader<'_>) -> Settings {
    let (ignored, errors) = r.config.unread();
    r.errors.extend(errors);
    let checkpoint = checkpoint(r);
    let pipeline = pipeline(r);
    let recovery = recovery::read(r, &pipeline.scratch_dirs);
    let settings = Settings {
        pipeline,
        restart: restart(r, checkpoint.interval.is_some()),
        checkpoint,
        recovery,
        bad_records: BadRecordsConfig {
            undecodable: on_bad_record(r.choice("rivermark.source.on-undecodable")),
            failing_row: on_bad_record(r.choice("rivermark.operator.on-failing-row")),
            dead_letters_dir: r.text("rivermark.dead-letters.dir").unwrap_or_default(),
        },
        reporters: reporters(r),
        engine: EngineConfig {
            batch_rows: r.count("rivermark.batch.max-rows") as usize,
            channel_rows: r.count("rivermark.channel.max-rows") as usize,
            channel_bytes: r.memory("rivermark.channel.max-bytes"),
            in_flight_bytes: r.memory("rivermark.checkpoint.max-in-flight-bytes"),
            scratch_bytes: r.memory("rivermark.checkpoint.max-scratch-bytes"),
            call_timeout: call_timeout(r),
            slice: r.duration("rivermark.slice"),
        },
        ignored,
    };
    if r.errors.is_empty() {
        check_together(r, &settings);
    }
    settings
}

fn call_timeout(r: &mut Reader<'_>) -> Duration {
    const KEY: &str = "rivermark.storage.call-timeout";
    let timeout = r.duration(KEY);
    if timeout.is_zero() {
        let expected = "a time in which a store can answer, e.g. `1 min`";
        r.errors.extend(r.config.unfit(KEY, expected));
    }
    timeout
}

fn pipeline(r: &mut Reader<'_>) -> PipelineConfig {
    let max_parallelism = r.int("pipeline.max-parallelism");
    if max_parallelism == 0 {
        r.refuse(
            "pipeline.max-parallelism",
            "0 key groups can hold nothing: set a number from 1, or -1",
        );
    }
    let scratch_dirs = r.list("io.tmp.dirs");
    if scratch_dirs.is_empty() {
        r.refuse("io.tmp.dirs", "the list is empty: name at least one folder");
    }
    PipelineConfig {
        name: r.text("pipeline.name"),
        parallelism: r.count("parallelism.default"),
        max_parallelism: u32::try_from(max_parallelism).ok(),
        chaining: r.bool("pipeline.operator-chaining.enabled"),
        watermark_interval: Some(r.duration("pipeline.auto-watermark-interval")).filter(|t| !t.is_zero()),
        buffer_timeout: r.duration("execution.buffer-timeout.interval"),
        slots: r.count("taskmanager.numberOfTaskSlots"),
        scratch_dirs,
    }
}

fn checkpoint(r: &mut Reader<'_>) -> CheckpointConfig {
    let dir = r.text("execution.checkpointing.dir");
    let min_pause = r.duration("execution.checkpointing.min-pause");
    let interval = match r.optional_duration("execution.checkpointing.interval") {
        None if dir.is_some() => Some(INTERVAL_WITH_DIRECTORY),
        None | Some(Duration::ZERO) => None,
        set => set,
    };
    let timeout = r.duration("execution.checkpointing.timeout");
    if timeout < SHORTEST_TIMEOUT {
        r.refuse(
            "execution.checkpointing.timeout",
            "no checkpoint is that fast: set at least 10 ms",
        );
    }
    CheckpointConfig {
        interval: interval.map(|interval| interval.max(min_pause)),
        mode: match r.choice("execution.checkpointing.mode") {
            Some("AT_LEAST_ONCE") => Mode::AtLeastOnce,
            _ => Mode::ExactlyOnce,
        },
        unaligned_after: {
            let after = r.duration("execution.checkpointing.aligned-checkpoint-timeout");
            r.bool("execution.checkpointing.unaligned.enabled")
                .then_some(after)
        },
        unaligned_forced: r.bool("execution.checkpointing.unaligned.forced"),
        timeout,
        min_pause,
        max_concurrent: r.count("execution.checkpointing.max-concurrent-checkpoints"),
        tolerable_failures: r.limit("execution.checkpointing.tolerable-failed-checkpoints"),
        retained: r.count("execution.checkpointing.num-retained"),
        retention: match r.choice("execution.checkpointing.externalized-checkpoint-retention") {
            Some("NO_EXTERNALIZED_CHECKPOINTS") => Retention::Delete,
            Some("DELETE_ON_CANCELLATION") => Retention::DeleteOnCancel,
            _ => Retention::Retain,
        },
        dir,
        savepoint_dir: r.text("execution.checkpointing.savepoint-dir"),
        commit_retries: r.count("sink.committer.retries"),
    }
}

fn restart(r: &mut Reader<'_>, checkpointing: bool) -> RestartConfig {
    // All three are read whichever is chosen: a bad value is an error even where it has no effect.
    let fixed = RestartConfig::FixedDelay {
        attempts: r.count("restart-strategy.fixed-delay.attempts"),
        delay: r.duration("restart-strategy.fixed-delay.delay"),
    };
    let rate = RestartConfig::FailureRate {
        max_failures: r.count("restart-strategy.failure-rate.max-failures-per-interval"),
        interval: r.duration("restart-strategy.failure-rate.failure-rate-interval"),
        delay: r.duration("restart-strategy.failure-rate.delay"),
    };
    let exponential = RestartConfig::ExponentialDelay {
        initial: r.duration("restart-strategy.exponential-delay.initial-backoff"),
        max: r.duration("restart-strategy.exponential-delay.max-backoff"),
        multiplier: r.float("restart-strategy.exponential-delay.backoff-multiplier"),
        reset_after: r.duration("restart-strategy.exponential-delay.reset-backoff-threshold"),
        jitter: r.float("restart-strategy.exponential-delay.jitter-factor"),
        attempts: r.limit("restart-strategy.exponential-delay.attempts-before-reset-backoff"),
    };
    match r.choice("restart-strategy.type") {
        Some("fixed-delay" | "fixeddelay") => fixed,
        Some("failure-rate" | "failurerate") => rate,
        Some("exponential-delay" | "exponentialdelay") => exponential,
        None if checkpointing => exponential,
        _ => RestartConfig::None,
    }
}

/// The reporters named, or else all that have a key.
fn reporters(r: &mut Reader<'_>) -> Vec<ReporterConfig> {
    let listed = r.text("metrics.reporters").unwrap_or_default();
    let listed = listed.split([',', ';']).map(|name| name.trim().to_owned());
    let mut names: Vec<String> = listed.filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        names = r.config.names_behind("metrics.reporter.");
    }
    // Read also without any reporter, so that the table of keys can be checked.
    for name in &REPORTER_KEYS {
        r.read.insert(name);
    }
    names.into_iter().map(|name| reporter(r, name)).collect()
}

const REPORTER_KEYS: [&str; 4] = [
    "metrics.reporter.<name>.factory.class",
    "metrics.reporter.<name>.host",
    "metrics.reporter.<name>.port",
    "metrics.reporter.<name>.filterLabelValueCharacters",
];

fn reporter(r: &mut Reader<'_>, name: String) -> ReporterConfig {
    let [class, host, port, filter] = REPORTER_KEYS.map(|key| match r.named(key, &name) {
        Some(Typed::Text(text)) => text,
        Some(Typed::Bool(set)) => set.to_string(),
        _ => String::new(),
    });
    if !class.is_empty() && !class.ends_with("PrometheusReporterFactory") {
        let key = format!("metrics.reporter.{name}.factory.class");
        r.refuse(
            &key,
            &format!(
                "`{key}` is `{class}`, but metrics are told to Prometheus only: leave it unset, or name \
                 org.apache.flink.metrics.prometheus.PrometheusReporterFactory"
            ),
        );
    }
    let ports = ports(&port).unwrap_or_else(|| {
        let key = format!("metrics.reporter.{name}.port");
        r.refuse(
            &key,
            &format!("`{key}` is `{port}`, expected a port such as 9249 or a range such as 9249-9260"),
        );
        0..=0
    });
    ReporterConfig {
        name,
        host,
        ports,
        filter_label_values: filter == "true",
    }
}

fn ports(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = first.trim().parse().ok()?..=last.trim().parse().ok()?;
    (!range.is_empty()).then_some(range)
}

fn on_bad_record(choice: Option<&str>) -> OnBadRecord {
    match choice {
        Some("skip") => OnBadRecord::Skip,
        Some("dead-letter") => OnBadRecord::DeadLetter,
        _ => OnBadRecord::Fail,
    }
}

/// The rules between keys.
fn check_together(r: &mut Reader<'_>, settings: &Settings) {
    let pipeline = &settings.pipeline;
    match &pipeline.name {
        None if settings.checkpoint.dir.is_some() => {
            let problem = "a job that keeps checkpoints needs a name to find them again: set `pipeline.name`";
            r.refuse("execution.checkpointing.dir", problem);
        }
        Some(name) if !is_file_name(name) => {
            let problem = format!(
                "`pipeline.name` is also a folder's name: use 1 to {LONGEST_NAME} bytes without `/`, `\\`, control \
                 characters or a dot in front"
            );
            r.refuse("pipeline.name", &problem);
        }
        _ => {}
    }
    if let Some(most) = pipeline
        .max_parallelism
        .filter(|most| *most < pipeline.parallelism)
    {
        let problem = format!(
            "`parallelism.default` is {}, more than the {most} of `pipeline.max-parallelism`: lower the one or raise \
             the other",
            pipeline.parallelism
        );
        r.refuse("parallelism.default", &problem);
    }
}

fn is_file_name(name: &str) -> bool {
    (1..=LONGEST_NAME).contains(&name.len())
        && !name.starts_with('.')
        && !name.contains(|c: char| c == '/' || c == '\\' || c.is_control())
}

/// Reads keys one after the other and collects the errors. A key in error reads as something harmless: the settings
/// are thrown away when there is any error.
struct Reader<'a> {
    config: &'a Config,
    errors: Vec<ConfigError>,
    read: BTreeSet<&'static str>,
}

impl Reader<'_> {
    fn typed(&mut self, name: &str) -> Option<Typed> {
        let key = keys::keys().find(|key| key.name == name)?;
        self.read.insert(key.name);
        match self.config.typed(key) {
            Ok(found) => found.map(|(typed, _)| typed),
            Err(error) => {
                self.errors.push(error);
                None
            }
        }
    }

    /// The value of a key of a family, `<name>` being this.
    fn named(&mut self, pattern: &'static str, name: &str) -> Option<Typed> {
        let key = keys::keys().find(|key| key.name == pattern)?;
        match self.config.typed_as(key, &pattern.replace("<name>", name)) {
            Ok(found) => found,
            Err(error) => {
                self.errors.push(error);
                None
            }
        }
    }

    fn optional_duration(&mut self, name: &str) -> Option<Duration> {
        match self.typed(name) {
            Some(Typed::Duration(duration)) => Some(duration),
            _ => None,
        }
    }

    fn duration(&mut self, name: &str) -> Duration {
        self.optional_duration(name).unwrap_or(Duration::MAX)
    }

    fn memory(&mut self, name: &str) -> u64 {
        match self.typed(name) {
            Some(Typed::Memory(bytes)) => bytes,
            _ => 0,
        }
    }

    fn int(&mut self, name: &str) -> i64 {
        match self.typed(name) {
            Some(Typed::Int(number)) => number,
            _ => 1,
        }
    }

    fn count(&mut self, name: &str) -> u32 {
        u32::try_from(self.int(name)).unwrap_or(1)
    }

    /// A count, or `None` for "unlimited".
    fn limit(&mut self, name: &str) -> Option<u32> {
        match self.typed(name) {
            Some(Typed::Int(number)) => u32::try_from(number).ok(),
            _ => None,
        }
    }

    fn float(&mut self, name: &str) -> f64 {
        match self.typed(name) {
            Some(Typed::Float(number)) => number,
            _ => 1.0,
        }
    }

    fn bool(&mut self, name: &str) -> bool {
        matches!(self.typed(name), Some(Typed::Bool(true)))
    }

    fn text(&mut self, name: &str) -> Option<String> {
        match self.typed(name) {
            Some(Typed::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn list(&mut self, name: &str) -> Vec<String> {
        match self.typed(name) {
            Some(Typed::List(items)) => items,
            _ => vec![String::new()],
        }
    }

    fn choice(&mut self, name: &str) -> Option<&'static str> {
        match self.typed(name) {
            Some(Typed::Choice(word)) => Some(word),
            _ => None,
        }
    }

    fn refuse(&mut self, name: &str, problem: &str) {
        let origin = self
            .config
            .get(name)
            .map_or(Origin::Default, |(_, origin)| origin);
        self.errors.push(ConfigError::Contradiction {
            origin,
            problem: problem.into(),
        });
    }
}

mod recovery;
#[cfg(test)]
mod tests;
