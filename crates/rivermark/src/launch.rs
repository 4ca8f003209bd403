//! From configuration and graph to a job that can be started: the one place where settings meet the engine.
//!
//! Non-goals: reading files or command lines, printing.

use rivermark_config::{Config, ConfigError, Mode, RestartConfig, Retention, Settings};
use rivermark_env::Env;
use rivermark_job::{JobSpec, JobStorage, StartFrom, StartOptions};
use rivermark_protocol::coordinator::CoordinatorConfig;
use rivermark_protocol::restart::RestartStrategy;
use rivermark_runtime::Program;
use rivermark_runtime::chain::Slice;
use rivermark_runtime::channel::Credit;
use rivermark_runtime::deploy::Limits;
use rivermark_runtime::seams::Seams;
use rivermark_runtime::task::Pace;
use rivermark_state::WriterConfig;
use rivermark_stream::{GuaranteeMode, StreamEnv};
use rivermark_types::{CheckpointId, Failure, JobName, Result};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const NAME: &str = "pipeline.name";

/// What a job is called that keeps nothing and was given no name.
pub(crate) const UNNAMED: &str = "job";

/// The interval that sources have unless their own says otherwise.
const WATERMARK_INTERVAL: Duration = Duration::from_millis(200);

/// Rows of frozen tables copied between two slices of work: about a fifth of what a slice costs.
const WALK_ROWS: usize = 1024;

/// An environment for a job's code to build on: what is configured is its default, what the code says counts.
pub(crate) fn stream_env(config: &Config) -> Result<StreamEnv, Vec<ConfigError>> {
    let Settings { pipeline, .. } = provisional(config)?;
    let env = StreamEnv::new();
    env.set_parallelism(pipeline.parallelism);
    if let Some((name, _)) = config.get(NAME) {
        env.set_name(&name);
    }
    complete(&env, config)?;
    Ok(env)
}

/// Gives a graph what is configured about it as a whole and what its code has not settled. Operators need not be there yet.
pub(crate) fn complete(env: &StreamEnv, config: &Config) -> Result<(), Vec<ConfigError>> {
    let Settings {
        pipeline, checkpoint, ..
    } = provisional(config)?;
    crate::dead_letters::configure(env, config)?;
    if let (None, Some(groups)) = (env.max_parallelism(), pipeline.max_parallelism) {
        env.set_max_parallelism(groups);
    }
    if checkpoint.mode == Mode::AtLeastOnce {
        env.set_mode(GuaranteeMode::AtLeastOnce);
    }
    if let (None, Some(after)) = (env.unaligned_checkpoints(), checkpoint.unaligned_after) {
        env.set_unaligned_checkpoints(after);
        if checkpoint.unaligned_forced {
            env.force_unaligned_checkpoints();
        }
    }
    Ok(())
}

/// The settings of a job that may still give itself a name.
pub(crate) fn provisional(config: &Config) -> Result<Settings, Vec<ConfigError>> {
    let mut provisional = config.clone();
    if config.get(NAME).is_none() {
        provisional.set(NAME, UNNAMED);
    }
    provisional.resolve()
}

/// The settings of a job whose graph is built: the name that it gave itself counts.
pub(crate) fn program_settings(mut config: Config, program: &Program) -> Result<Settings, Vec<ConfigError>> {
    if let Some(name) = &program.graph.name {
        config.set(NAME, name.as_str());
    }
    config.resolve()
}

/// A job as its settings want it. `from` is the command line's word; without one, the configuration's counts.
pub(crate) async fn job_spec(
    env: &Env,
    settings: &Settings,
    program: Program,
    from: StartOptions,
    seams: Arc<dyn Seams>,
) -> Result<JobSpec> {
    let restarts = restarts(&settings.restart);
    let options = start_options(settings, from)?;
    let name = JobName::from(settings.pipeline.name.as_deref().unwrap_or(UNNAMED));
    let storage = match &settings.checkpoint.dir {
        Some(dir) => JobStorage::in_dir(env, Path::new(local_path(dir)?), &name).await?,
        None => JobStorage::in_memory(),
    };
    let storage = storage.with_call_timeout(settings.engine.call_timeout);
    // Without a directory the store is in this process already.
    let copies = settings.recovery.local_copies.as_ref();
    let copies = copies.filter(|_| settings.checkpoint.dir.is_some());
    Ok(JobSpec {
        name,
        program,
        chaining: settings.pipeline.chaining,
        storage,
        options,
        checkpoints: checkpoints(settings),
        restarts,
        limits: limits(settings),
        writer: WriterConfig {
            scratch_dir: settings.pipeline.scratch_dirs.first().map(Into::into),
            scratch_limit: settings.engine.scratch_bytes,
            copy_dir: copies.map(|copies| copies.dir.clone().into()),
            copy_limit: copies.map_or(0, |copies| copies.limit),
            ..WriterConfig::default()
        },
        seams,
    })
}

/// What was set and does nothing, as one line for people; `None` if there is nothing of the kind.
pub(crate) fn without_effect(settings: &Settings) -> Option<String> {
    let mut keys: Vec<String> = settings
        .ignored
        .iter()
        .map(|(key, origin)| format!("{key} ({origin})"))
        .collect();
    if settings.checkpoint.retention != Retention::Retain {
        keys.push(
            "execution.checkpointing.externalized-checkpoint-retention (kept on cancel and failure)"
                .to_owned(),
        );
    }
    if settings.pipeline.watermark_interval != Some(WATERMARK_INTERVAL) {
        keys.push(
            "pipeline.auto-watermark-interval (200 ms; a source's own with SourceNode::watermark_interval)"
                .to_owned(),
        );
    }
    if settings.checkpoint.savepoint_dir.is_some() {
        keys.push("execution.checkpointing.savepoint-dir (savepoints cannot be asked for yet)".to_owned());
    }
    (!keys.is_empty()).then(|| format!("known keys without effect here: {}", keys.join(", ")))
}

fn start_options(settings: &Settings, mut options: StartOptions) -> Result<StartOptions> {
    if let (StartFrom::Unsaid, Some(path)) = (&options.from, &settings.recovery.path) {
        options.from = match path.as_str() {
            "latest" => StartFrom::Latest,
            "none" => StartFrom::Beginning,
            number => StartFrom::Checkpoint(CheckpointId(number.parse().map_err(|_| {
                Failure::invalid(format!(
                    "execution.state-recovery.path is {number:?}: expected `latest`, `none` or the number of a checkpoint"
                ))
            })?)),
        };
    }
    options.ignore_unclaimed |= settings.recovery.ignore_unclaimed_state;
    Ok(options)
}

fn local_path(dir: &str) -> Result<&str> {
    match dir.split_once("://") {
        None => Ok(dir),
        Some(("file", path)) => Ok(path),
        Some((scheme, _)) => Err(Failure::invalid(format!(
            "execution.checkpointing.dir is {dir:?}: there is no storage for {scheme}:// yet; give a directory, or file:///..."
        ))),
    }
}

fn checkpoints(settings: &Settings) -> CoordinatorConfig {
    let wanted = &settings.checkpoint;
    CoordinatorConfig {
        interval: wanted.interval,
        min_pause: wanted.min_pause,
        timeout: wanted.timeout,
        max_concurrent: wanted.max_concurrent as usize,
        tolerable_failures: wanted.tolerable_failures,
        num_retained: wanted.retained as usize,
        ..CoordinatorConfig::default()
    }
}

fn restarts(wanted: &RestartConfig) -> RestartStrategy {
    match *wanted {
        RestartConfig::None => RestartStrategy::None,
        RestartConfig::FixedDelay { attempts, delay } => RestartStrategy::FixedDelay { attempts, delay },
        RestartConfig::ExponentialDelay {
            initial,
            max,
            multiplier,
            reset_after,
            jitter,
            attempts,
        } => RestartStrategy::ExponentialDelay {
            initial,
            max,
            multiplier,
            reset_threshold: reset_after,
            jitter,
            attempts,
        },
        RestartConfig::FailureRate {
            max_failures,
            interval,
            delay,
        } => RestartStrategy::FailureRate {
            max_failures,
            interval,
            delay,
        },
    }
}

fn limits(settings: &Settings) -> Limits {
    let engine = &settings.engine;
    let slice_ns = u64::try_from(engine.slice.as_nanos()).unwrap_or(u64::MAX);
    Limits {
        credit: Credit {
            rows: engine.channel_rows,
            bytes: usize::try_from(engine.channel_bytes).unwrap_or(usize::MAX),
        },
        batch_rows: engine.batch_rows,
        slice: Slice {
            budget_ns: slice_ns,
            max_rows: engine.batch_rows,
        },
        pace: Pace {
            step_ns: slice_ns,
            walk_rows: WALK_ROWS,
            linger: settings.pipeline.buffer_timeout,
        },
        in_flight_bytes: engine.in_flight_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(assignments: &[&str]) -> Settings {
        let mut config = Config::default();
        assignments
            .iter()
            .for_each(|assignment| config.add_argument(assignment).unwrap());
        config.resolve().unwrap()
    }

    #[test]
    fn what_the_code_says_counts_and_the_rest_is_configured() {
        let mut config = Config::default();
        for assignment in ["execution.checkpointing.dir=/tmp/x", "parallelism.default=3"] {
            config.add_argument(assignment).unwrap();
        }
        let env = stream_env(&config).unwrap();
        assert_eq!(env.parallelism(), 3);
        env.sequence(1).uid("numbers").discard();
        let unnamed = program_settings(config.clone(), &env.build().unwrap()).unwrap_err();
        assert!(
            unnamed[0].to_string().contains("set `pipeline.name`"),
            "{unnamed:?}"
        );
        env.set_name("mine");
        let settings = program_settings(config, &env.build().unwrap()).unwrap();
        assert_eq!(settings.pipeline.name.as_deref(), Some("mine"));
    }

    #[test]
    fn barriers_overtake_as_configured() {
        let unaligned = |assignments: &[&str]| {
            let mut config = Config::default();
            assignments
                .iter()
                .for_each(|assignment| config.add_argument(assignment).unwrap());
            let env = stream_env(&config).unwrap();
            env.sequence(1).uid("numbers").discard();
            env.build().map(|program| program.graph.unaligned)
        };
        let [enabled, after, forced, weak] = [
            "execution.checkpointing.unaligned.enabled=true",
            "execution.checkpointing.aligned-checkpoint-timeout=300 ms",
            "execution.checkpointing.unaligned.forced=true",
            "execution.checkpointing.mode=AT_LEAST_ONCE",
        ];
        assert_eq!(
            unaligned(&[after, forced]).unwrap(),
            None,
            "a time-out alone does nothing"
        );
        assert_eq!(
            unaligned(&[enabled]).unwrap().map(|set| set.after),
            Some(Duration::ZERO)
        );
        let set = unaligned(&[enabled, after, forced]).unwrap().unwrap();
        assert_eq!((set.after, set.forced), (Duration::from_millis(300), true));
        let refused = unaligned(&[enabled, weak]).unwrap_err();
        assert!(
            refused
                .message
                .contains("unaligned checkpoints are for exactly-once"),
            "{refused}"
        );
    }

    #[test]
    fn checkpoints_are_as_configured() {
        let with_dir = ["execution.checkpointing.dir=/tmp/x", "pipeline.name=x"];
        assert_eq!(
            checkpoints(&settings(&with_dir)).interval,
            Some(Duration::from_secs(10))
        );
        assert_eq!(checkpoints(&settings(&[])).interval, None);
        let set = settings(&[
            "execution.checkpointing.interval=200 ms",
            "execution.checkpointing.num-retained=7",
        ]);
        let (checkpoints, restarts) = (checkpoints(&set), restarts(&set.restart));
        assert_eq!(
            (checkpoints.interval, checkpoints.num_retained),
            (Some(Duration::from_millis(200)), 7)
        );
        assert_eq!(
            restarts,
            RestartStrategy::default(),
            "with checkpoints a job restarts"
        );
    }

    #[test]
    fn without_checkpoints_nothing_restarts_unless_asked_for() {
        assert_eq!(restarts(&settings(&[]).restart), RestartStrategy::None);
        let fixed = restarts(&settings(&["restart-strategy.type=fixed-delay"]).restart);
        assert_eq!(
            fixed,
            RestartStrategy::FixedDelay {
                attempts: 1,
                delay: Duration::from_secs(1)
            }
        );
        let rate = restarts(
            &settings(&[
                "restart-strategy.type=failure-rate",
                "restart-strategy.failure-rate.max-failures-per-interval=3",
                "restart-strategy.failure-rate.delay=20 ms",
            ])
            .restart,
        );
        assert_eq!(
            rate,
            RestartStrategy::FailureRate {
                max_failures: 3,
                interval: Duration::from_secs(60),
                delay: Duration::from_millis(20)
            }
        );
    }

    #[test]
    fn the_command_line_says_where_to_start_else_the_configuration() {
        let path = settings(&["execution.state-recovery.path=17"]);
        let unsaid = start_options(&path, StartOptions::default()).unwrap();
        assert_eq!(unsaid.from, StartFrom::Checkpoint(CheckpointId(17)));
        let said = StartOptions {
            from: StartFrom::Latest,
            ..StartOptions::default()
        };
        assert_eq!(start_options(&path, said).unwrap().from, StartFrom::Latest);
        let broken = start_options(
            &settings(&["execution.state-recovery.path=/x/chk-1"]),
            StartOptions::default(),
        );
        assert!(broken.unwrap_err().message.contains("expected `latest`"));
    }

    #[test]
    fn only_directories_can_be_storage() {
        assert_eq!(local_path("state").unwrap(), "state");
        assert_eq!(local_path("file:///var/state").unwrap(), "/var/state");
        assert!(local_path("s3://bucket").unwrap_err().message.contains("s3://"));
    }

    #[test]
    fn what_has_no_effect_is_named_with_who_set_it() {
        assert_eq!(without_effect(&settings(&[])), None);
        let line = without_effect(&settings(&["rest.port=1234"])).unwrap();
        assert!(line.contains("rest.port (--set)"), "{line}");
    }

    #[test]
    fn what_bounds_the_store_reaches_it() {
        let world = rivermark_env::RealEnv::start().unwrap();
        let env = StreamEnv::new();
        env.sequence(1).uid("numbers").discard();
        let settings = settings(&[
            "rivermark.storage.call-timeout=1500 ms",
            "rivermark.checkpoint.max-scratch-bytes=3 mb",
            "io.tmp.dirs=/scratch",
        ]);
        let seams = Arc::new(rivermark_runtime::seams::NoSeams);
        let program = env.build().unwrap();
        let (door, options) = (world.env(), StartOptions::default());
        let spec = world.block_on(job_spec(&door, &settings, program, options, seams));
        let spec = spec.unwrap();
        assert_eq!(spec.storage.call_timeout(), Duration::from_millis(1500));
        assert_eq!(spec.writer.scratch_limit, 3 << 20);
        assert_eq!(spec.writer.scratch_dir.as_deref(), Some(Path::new("/scratch")));
    }

    #[test]
    fn limits_follow_the_engines_keys() {
        let limits = limits(&settings(&["rivermark.batch.max-rows=7", "rivermark.slice=5 ms"]));
        assert_eq!((limits.batch_rows, limits.slice.max_rows), (7, 7));
        assert_eq!(limits.slice.budget_ns, 5_000_000);
    }
}
