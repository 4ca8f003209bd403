//! The typed view, through the public interface.

use super::*;

fn resolve(arguments: &[&str]) -> Result<Settings, Vec<ConfigError>> {
    let mut config = Config::default();
    for argument in arguments {
        config.add_argument(argument).unwrap();
    }
    config.resolve()
}

fn problem(arguments: &[&str]) -> String {
    let errors = resolve(arguments).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors[0].to_string()
}

#[test]
fn every_key_of_the_table_that_claims_to_be_read_is_read_and_has_a_good_default() {
    let config = Config::default();
    let mut reader = Reader {
        config: &config,
        errors: Vec::new(),
        read: BTreeSet::new(),
    };
    read_all(&mut reader);
    assert_eq!(reader.errors, vec![]);
    let claimed: BTreeSet<_> = keys::keys().filter(|key| key.used).map(|key| key.name).collect();
    assert_eq!(reader.read, claimed);
    for key in keys::keys().filter(|key| !key.default.is_empty()) {
        assert!(
            config.typed(key).unwrap().is_some(),
            "the default of {} has not its own form",
            key.name
        );
    }
}

#[test]
fn defaults_are_flinks_except_where_we_differ_on_purpose() {
    let settings = resolve(&[]).unwrap();
    assert_eq!(
        settings.checkpoint.interval, None,
        "memory only: no periodic checkpoints"
    );
    assert_eq!(settings.checkpoint.mode, Mode::ExactlyOnce);
    assert_eq!(settings.checkpoint.timeout, Duration::from_secs(600));
    assert_eq!(settings.checkpoint.tolerable_failures, None);
    assert_eq!(settings.checkpoint.retained, 3);
    assert_eq!(settings.checkpoint.retention, Retention::Retain);
    assert_eq!(settings.checkpoint.commit_retries, 10);
    assert_eq!(settings.restart, RestartConfig::None);
    assert_eq!(settings.pipeline.parallelism, 1);
    assert_eq!(settings.pipeline.max_parallelism, None);
    assert!(settings.pipeline.chaining);
    assert_eq!(
        settings.pipeline.watermark_interval,
        Some(Duration::from_millis(200))
    );
    assert_eq!(settings.pipeline.buffer_timeout, Duration::from_millis(100));
    assert_eq!(settings.pipeline.scratch_dirs, ["/tmp"]);
    assert!(!settings.recovery.ignore_unclaimed_state);
    assert_eq!(settings.recovery.local_copies, None);
    assert_eq!(settings.engine.batch_rows, 4096);
    assert_eq!(settings.engine.channel_bytes, 4 << 20);
    assert_eq!(settings.engine.slice, Duration::from_millis(2));
    assert_eq!(settings.ignored, vec![]);
}

#[test]
fn local_copies_are_made_where_they_are_read() {
    let copies = |assignments: &[&str]| resolve(assignments).unwrap().recovery.local_copies;
    let of = |dir: &str, limit| {
        let dir = dir.to_owned();
        Some(LocalCopiesConfig { dir, limit })
    };
    let read = "execution.state-recovery.from-local=true";
    assert_eq!(copies(&[read]), of("/tmp", 16 << 30));
    assert_eq!(copies(&[read, "io.tmp.dirs=/a;/b"]), of("/a", 16 << 30));
    let dirs = "execution.checkpointing.local-backup.dirs=/fast;/b";
    let limit = "rivermark.checkpoint.max-local-backup-bytes=1 mb";
    assert_eq!(copies(&[read, dirs, limit]), of("/fast", 1 << 20));
    assert_eq!(
        copies(&["taskmanager.state.local.root-dirs=/old", read]),
        of("/old", 16 << 30)
    );
    // Flink's old key means both.
    assert_eq!(
        copies(&["state.backend.local-recovery=true"]),
        of("/tmp", 16 << 30)
    );
    assert_eq!(
        copies(&["execution.checkpointing.local-backup.enabled=true"]),
        None
    );
    assert_eq!(
        copies(&[read, "execution.checkpointing.local-backup.enabled=false"]),
        None
    );
    assert!(problem(&["execution.checkpointing.local-backup.dirs="]).contains("at least one folder"));
}

#[test]
fn a_directory_brings_checkpoints_every_ten_seconds_and_restarts() {
    let settings = resolve(&["execution.checkpointing.dir=/c", "pipeline.name=job"]).unwrap();
    assert_eq!(settings.checkpoint.interval, Some(Duration::from_secs(10)));
    assert!(matches!(
        settings.restart,
        RestartConfig::ExponentialDelay { attempts: None, .. }
    ));
    let off = [
        "execution.checkpointing.dir=/c",
        "pipeline.name=job",
        "execution.checkpointing.interval=0",
    ];
    let settings = resolve(&off).unwrap();
    assert_eq!(settings.checkpoint.interval, None);
    assert_eq!(settings.restart, RestartConfig::None);
}

#[test]
fn code_beats_the_command_line_and_that_the_file_in_any_order_of_calls() {
    let mut config = Config::default();
    config.set("parallelism.default", 4_u32);
    config.add_argument("parallelism.default=3").unwrap();
    config.add_argument("pipeline.name=by-set").unwrap();
    config
        .add_yaml(
            "c.yaml",
            "parallelism.default: 2\npipeline.name: by-file\nsink.committer.retries: 1",
        )
        .unwrap();
    assert_eq!(
        config.get("parallelism.default"),
        Some(("4".into(), Origin::Code))
    );
    assert_eq!(config.get("pipeline.name"), Some(("by-set".into(), Origin::Set)));
    let line = Origin::File {
        name: "c.yaml".into(),
        line: Some(3),
    };
    assert_eq!(config.get("sink.committer.retries"), Some(("1".into(), line)));
    assert_eq!(
        config.get("rivermark.slice"),
        Some(("2 ms".into(), Origin::Default))
    );
    let settings = config.resolve().unwrap();
    assert_eq!(settings.pipeline.parallelism, 4);
    assert_eq!(settings.checkpoint.commit_retries, 1);
}

#[test]
fn an_old_spelling_is_read_and_the_new_one_beats_it() {
    assert_eq!(
        resolve(&["state.checkpoints.num-retained=5"])
            .unwrap()
            .checkpoint
            .retained,
        5
    );
    let both = [
        "execution.checkpointing.num-retained=7",
        "state.checkpoints.num-retained=5",
    ];
    assert_eq!(resolve(&both).unwrap().checkpoint.retained, 7);
    let bad = problem(&["state.checkpoints.num-retained=0"]);
    assert_eq!(
        bad,
        "--set: `state.checkpoints.num-retained` is `0`, expected a whole number from 1"
    );
}

#[test]
fn restart_strategies_in_every_spelling() {
    let fixed = [
        "restart-strategy=FixedDelay",
        "restart-strategy.fixed-delay.attempts=3",
    ];
    let delay = Duration::from_secs(1);
    assert_eq!(
        resolve(&fixed).unwrap().restart,
        RestartConfig::FixedDelay { attempts: 3, delay }
    );
    let rate = resolve(&["restart-strategy.type=failure-rate"]).unwrap().restart;
    let interval = Duration::from_secs(60);
    assert_eq!(
        rate,
        RestartConfig::FailureRate {
            max_failures: 1,
            interval,
            delay
        }
    );
    for off in ["none", "off", "Disable"] {
        let type_ = format!("restart-strategy.type={off}");
        let settings = resolve(&[&type_, "execution.checkpointing.interval=1s"]).unwrap();
        assert_eq!(settings.restart, RestartConfig::None);
    }
    let exponential = [
        "restart-strategy.type=exponential-delay",
        "restart-strategy.exponential-delay.jitter-factor=0.2",
    ];
    let RestartConfig::ExponentialDelay {
        jitter, multiplier, ..
    } = resolve(&exponential).unwrap().restart
    else {
        panic!("not exponential");
    };
    assert_eq!((jitter, multiplier), (0.2, 1.5));
}

#[test]
fn a_limit_may_be_unlimited() {
    let key = "execution.checkpointing.tolerable-failed-checkpoints";
    for (text, limit) in [
        ("0", Some(0)),
        ("2", Some(2)),
        ("unlimited", None),
        ("2147483647", None),
    ] {
        let settings = resolve(&[&format!("{key}={text}")]).unwrap();
        assert_eq!(settings.checkpoint.tolerable_failures, limit, "{text}");
    }
}

#[test]
fn an_interval_below_the_pause_is_raised() {
    let arguments = [
        "execution.checkpointing.interval=1s",
        "execution.checkpointing.min-pause=3s",
    ];
    assert_eq!(
        resolve(&arguments).unwrap().checkpoint.interval,
        Some(Duration::from_secs(3))
    );
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    assert_eq!(
        problem(&["execution.checkpointing.intervall=1s"]),
        "--set: unknown key `execution.checkpointing.intervall`; did you mean `execution.checkpointing.interval`?"
    );
    assert_eq!(
        problem(&["colour=red"]),
        "--set: unknown key `colour`; no known key is like it"
    );
}

#[test]
fn keys_without_meaning_here_are_listed_with_their_origin() {
    let mut config = Config::default();
    config
        .add_yaml("c.yaml", "rest.port: 8081\nenv.java.opts.all: -X\nweb.port: 1")
        .unwrap();
    let ignored: Vec<String> = config
        .resolve()
        .unwrap()
        .ignored
        .iter()
        .map(|(key, origin)| format!("{origin} {key}"))
        .collect();
    assert_eq!(
        ignored,
        [
            "c.yaml:2 env.java.opts.all",
            "c.yaml:1 rest.port",
            "c.yaml:3 web.port"
        ]
    );
    assert_eq!(
        problem(&["rest.port=http"]),
        "--set: `rest.port` is `http`, expected a whole number"
    );
}

#[test]
fn all_errors_are_reported_at_once() {
    let mut config = Config::default();
    config
        .add_yaml("c.yaml", "parallelism.default: many\nrivermark.slice: soon")
        .unwrap();
    config.set("pipeline.nam", "x");
    let errors: Vec<String> = config
        .resolve()
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        errors,
        [
            "job code: unknown key `pipeline.nam`; did you mean `pipeline.name`?",
            "c.yaml:1: `parallelism.default` is `many`, expected a whole number from 1",
            "c.yaml:2: `rivermark.slice` is `soon`, expected a duration such as `500 ms`, `10 s` or `5 min`",
        ]
    );
}

#[test]
fn what_bounds_the_store_is_read_and_a_bad_value_is_named() {
    let engine = |arguments: &[&str]| resolve(arguments).unwrap().engine;
    let default = engine(&[]);
    assert_eq!(
        (default.call_timeout, default.scratch_bytes),
        (Duration::from_secs(60), 16 << 30)
    );
    let set = engine(&[
        "rivermark.storage.call-timeout=1500 ms",
        "rivermark.checkpoint.max-scratch-bytes=3 mb",
    ]);
    assert_eq!(
        (set.call_timeout, set.scratch_bytes),
        (Duration::from_millis(1500), 3 << 20)
    );
    for (bad, problem) in [
        (
            "rivermark.storage.call-timeout=soon",
            "--set: `rivermark.storage.call-timeout` is `soon`, expected a duration such as `500 ms`, `10 s` or `5 min`",
        ),
        (
            "rivermark.storage.call-timeout=0 s",
            "--set: `rivermark.storage.call-timeout` is `0 s`, expected a time in which a store can answer, e.g. `1 min`",
        ),
        (
            "rivermark.checkpoint.max-scratch-bytes=much",
            "--set: `rivermark.checkpoint.max-scratch-bytes` is `much`, expected a size such as `64 mb` or `1 gb`",
        ),
    ] {
        assert_eq!(self::problem(&[bad]), problem);
    }
}

#[test]
fn rules_between_keys() {
    assert!(problem(&["execution.checkpointing.dir=/c"]).contains("set `pipeline.name`"));
    assert!(problem(&["pipeline.name=a/b"]).contains("folder's name"));
    assert!(problem(&["pipeline.name=.."]).contains("folder's name"));
    assert!(problem(&["pipeline.max-parallelism=0"]).contains("from 1, or -1"));
    assert!(
        problem(&["pipeline.max-parallelism=2", "parallelism.default=3"]).contains("is 3, more than the 2")
    );
    assert!(problem(&["io.tmp.dirs="]).contains("at least one folder"));
    assert!(problem(&["execution.checkpointing.timeout=1 ms"]).contains("at least 10 ms"));
}

#[test]
fn an_argument_without_its_value_is_refused() {
    let error = Config::default().add_argument("parallelism.default").unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("--set parallelism.default: expected key=value")
    );
}

#[test]
fn secrets_are_not_printed() {
    let mut config = Config::default();
    config.set("s3.secret-key", "hunter2");
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn reporters_are_those_named_or_else_those_with_a_key() {
    let reporters = |arguments: &[&str]| resolve(arguments).unwrap().reporters;
    assert_eq!(reporters(&[]), []);
    let one = reporters(&["metrics.reporters=prom"]);
    assert_eq!(
        (one[0].name.as_str(), one[0].host.as_str()),
        ("prom", "127.0.0.1")
    );
    assert_eq!(
        (one[0].ports.clone(), one[0].filter_label_values),
        (9249..=9249, true)
    );
    let keyed = reporters(&[
        "metrics.reporter.a.port=9300-9310",
        "metrics.reporter.a.filterLabelValueCharacters=false",
    ]);
    assert_eq!(
        (keyed.len(), keyed[0].ports.clone(), keyed[0].filter_label_values),
        (1, 9300..=9310, false)
    );
    let named = reporters(&["metrics.reporters=b", "metrics.reporter.a.port=1"]);
    assert_eq!((named.len(), named[0].name.as_str()), (1, "b"));
    let port = problem(&["metrics.reporter.a.port=10-9"]);
    assert!(port.contains("a range such as 9249-9260"), "{port}");
    let class =
        problem(&["metrics.reporter.a.factory.class=org.apache.flink.metrics.jmx.JMXReporterFactory"]);
    assert!(class.contains("Prometheus only"), "{class}");
}

#[test]
fn bad_records_fail_the_job_unless_it_is_said_otherwise() {
    let fail = resolve(&[]).unwrap().bad_records;
    assert_eq!(
        (fail.undecodable, fail.failing_row),
        (OnBadRecord::Fail, OnBadRecord::Fail)
    );
    let set = resolve(&[
        "rivermark.source.on-undecodable=skip",
        "rivermark.operator.on-failing-row=dead-letter",
    ]);
    let set = set.unwrap().bad_records;
    assert_eq!(
        (set.undecodable, set.failing_row),
        (OnBadRecord::Skip, OnBadRecord::DeadLetter)
    );
    assert!(problem(&["rivermark.operator.on-failing-row=skip"]).contains("`fail`, `dead-letter`"));
}
