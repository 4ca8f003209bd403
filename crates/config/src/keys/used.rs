//! The keys that this version reads: Flink's first, then our own under `rivermark.`.
//!
//! A default that differs from Flink's is set with `.here(..)`, next to Flink's.

use super::Key;
use super::Kind::{self, *};

const COUNT: Kind = Int {
    min: 0,
    max: i32::MAX as i64,
};
const AT_LEAST_ONE: Kind = Int {
    min: 1,
    max: i32::MAX as i64,
};
const FACTOR: Kind = Float { min: 1.0, max: 1e6 };
const SHARE: Kind = Float { min: 0.0, max: 1.0 };
const MODES: Kind = Choice(&["EXACTLY_ONCE", "AT_LEAST_ONCE"]);
const RETENTIONS: Kind = Choice(&[
    "RETAIN_ON_CANCELLATION",
    "DELETE_ON_CANCELLATION",
    "NO_EXTERNALIZED_CHECKPOINTS",
]);
const STRATEGIES: Kind = Choice(&[
    "none",
    "off",
    "disable",
    "fixed-delay",
    "fixeddelay",
    "failure-rate",
    "failurerate",
    "exponential-delay",
    "exponentialdelay",
]);

const fn key(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Key {
    Key::new(name, kind, default, about).used()
}

/// The table.
pub(super) const KEYS: &[Key] = &[
    // Checkpointing
    key(
        "execution.checkpointing.interval",
        Duration,
        "",
        "time between two checkpoints; 0 = none; unset = 10 s with a directory, none without",
    ),
    key(
        "execution.checkpointing.mode",
        MODES,
        "EXACTLY_ONCE",
        "wait for the barriers of all channels, or let records of the next checkpoint pass",
    ),
    key(
        "execution.checkpointing.timeout",
        Duration,
        "10 min",
        "a checkpoint that is still pending after this time has failed; at least 10 ms",
    ),
    key(
        "execution.checkpointing.min-pause",
        Duration,
        "0",
        "rest between the end of a checkpoint and the start of the next; raises a shorter interval",
    ),
    key(
        "execution.checkpointing.max-concurrent-checkpoints",
        AT_LEAST_ONE,
        "1",
        "checkpoints that may be pending at once",
    ),
    key(
        "execution.checkpointing.unaligned.enabled",
        Bool,
        "false",
        "whether barriers overtake the records in front of them, which become part of the checkpoint",
    )
    .was(&["execution.checkpointing.unaligned"]),
    key(
        "execution.checkpointing.aligned-checkpoint-timeout",
        Duration,
        "0",
        "with unaligned checkpoints: how long one is aligned before it overtakes; 0 = not at all",
    )
    .was(&["execution.checkpointing.alignment-timeout"]),
    key(
        "execution.checkpointing.unaligned.forced",
        Bool,
        "false",
        "whether barriers overtake behind custom partitioners too, which must then depend on the record alone",
    ),
    key(
        "execution.checkpointing.tolerable-failed-checkpoints",
        COUNT,
        "0",
        "checkpoints that may fail in a row before the job restarts",
    )
    .here("unlimited")
    .or_unlimited(),
    key(
        "execution.checkpointing.externalized-checkpoint-retention",
        RETENTIONS,
        "NO_EXTERNALIZED_CHECKPOINTS",
        "whether the checkpoints outlive a job that is cancelled",
    )
    .here("RETAIN_ON_CANCELLATION"),
    key(
        "execution.checkpointing.num-retained",
        AT_LEAST_ONE,
        "1",
        "newest completed checkpoints that are kept",
    )
    .here("3")
    .was(&["state.checkpoints.num-retained"]),
    key(
        "execution.checkpointing.dir",
        Text,
        "",
        "where checkpoints go; unset = memory, lost with the process",
    )
    .was(&["state.checkpoints.dir", "state.backend.fs.checkpointdir"]),
    key(
        "execution.checkpointing.savepoint-dir",
        Text,
        "",
        "where savepoints go that name no target",
    )
    .was(&["state.savepoints.dir", "savepoints.state.backend.fs.dir"]),
    key(
        "sink.committer.retries",
        COUNT,
        "10",
        "times a failed commit is tried again before the job restarts",
    ),
    // Restore
    key(
        "execution.state-recovery.path",
        Text,
        "",
        "checkpoint to start from, as with --from",
    )
    .was(&["execution.savepoint.path"]),
    key(
        "execution.state-recovery.ignore-unclaimed-state",
        Bool,
        "false",
        "start although the checkpoint holds state of operators that the job no longer has",
    )
    .was(&["execution.savepoint.ignore-unclaimed-state"]),
    key(
        "execution.state-recovery.from-local",
        Bool,
        "false",
        "a restart inside the process reads copies of the newest checkpoint on this machine's disk where there are any; worth it \
         where execution.checkpointing.dir is not on this machine",
    )
    .was(&["state.backend.local-recovery"]),
    key(
        "execution.checkpointing.local-backup.enabled",
        Bool,
        "false",
        "make the copies that execution.state-recovery.from-local reads; unset = if it reads them",
    )
    .here("")
    .was(&["state.backend.local-recovery"]),
    key(
        "execution.checkpointing.local-backup.dirs",
        List,
        "",
        "folders for these copies, the first of which is used; unset = as io.tmp.dirs",
    )
    .was(&["taskmanager.state.local.root-dirs"]),
    // Restart strategy
    key(
        "restart-strategy.type",
        STRATEGIES,
        "",
        "what follows a failure; unset = exponential-delay with checkpoints, none without",
    )
    .was(&["restart-strategy"]),
    key(
        "restart-strategy.fixed-delay.attempts",
        COUNT,
        "1",
        "restarts before the job fails",
    ),
    key(
        "restart-strategy.fixed-delay.delay",
        Duration,
        "1 s",
        "wait before each restart",
    ),
    key(
        "restart-strategy.failure-rate.max-failures-per-interval",
        COUNT,
        "1",
        "failures that one interval may see before the job fails",
    ),
    key(
        "restart-strategy.failure-rate.failure-rate-interval",
        Duration,
        "1 min",
        "length of that interval",
    ),
    key(
        "restart-strategy.failure-rate.delay",
        Duration,
        "1 s",
        "wait before each restart",
    ),
    key(
        "restart-strategy.exponential-delay.initial-backoff",
        Duration,
        "1 s",
        "wait before the first restart",
    ),
    key(
        "restart-strategy.exponential-delay.max-backoff",
        Duration,
        "1 min",
        "longest wait before a restart",
    ),
    key(
        "restart-strategy.exponential-delay.backoff-multiplier",
        FACTOR,
        "1.5",
        "growth of the wait from one restart to the next",
    ),
    key(
        "restart-strategy.exponential-delay.reset-backoff-threshold",
        Duration,
        "1 h",
        "time without failure after which wait and attempts start anew",
    ),
    key(
        "restart-strategy.exponential-delay.jitter-factor",
        SHARE,
        "0.1",
        "random share of the wait that is added or taken off",
    ),
    key(
        "restart-strategy.exponential-delay.attempts-before-reset-backoff",
        COUNT,
        "unlimited",
        "restarts before the job fails",
    )
    .or_unlimited(),
    // Parallelism, pipeline, slots
    key(
        "parallelism.default",
        AT_LEAST_ONE,
        "1",
        "parallelism of operators that set none",
    ),
    key(
        "pipeline.max-parallelism",
        Int { min: -1, max: 32_768 },
        "-1",
        "number of key groups, the limit of any later parallelism; -1 = derived",
    ),
    key(
        "pipeline.name",
        Text,
        "",
        "name of the job; required as soon as a checkpoint directory is set",
    ),
    key(
        "pipeline.operator-chaining.enabled",
        Bool,
        "true",
        "run neighbouring operators in one task",
    )
    .was(&["pipeline.operator-chaining"]),
    key(
        "pipeline.auto-watermark-interval",
        Duration,
        "200 ms",
        "time between two watermarks; 0 = none",
    ),
    key(
        "execution.buffer-timeout.interval",
        Duration,
        "100 ms",
        "longest time that a batch waits to be full; 0 = every record leaves at once",
    )
    .was(&["execution.buffer-timeout"]),
    key(
        "taskmanager.numberOfTaskSlots",
        AT_LEAST_ONE,
        "1",
        "slots of a process; embedded, as many as the job needs",
    ),
    key("io.tmp.dirs", List, "/tmp", "folders for scratch files").was(&["taskmanager.tmp.dirs"]),
    // Metrics
    key(
        "metrics.reporters",
        Text,
        "",
        "names of the reporters to start; unset = every one that has a key; none without any",
    ),
    key(
        "metrics.reporter.<name>.factory.class",
        Text,
        "",
        "only the Prometheus reporter is there",
    ),
    key(
        "metrics.reporter.<name>.host",
        Text,
        "127.0.0.1",
        "address that it listens at; only this machine's own",
    ),
    key(
        "metrics.reporter.<name>.port",
        Text,
        "9249",
        "port, or a range of which the first free one is taken",
    ),
    key(
        "metrics.reporter.<name>.filterLabelValueCharacters",
        Bool,
        "true",
        "replace what is no letter, digit, `:` or `_` in label values",
    ),
    // Our own
    key(
        "rivermark.source.on-undecodable",
        Choice(&["fail", "skip", "dead-letter"]),
        "fail",
        "what becomes of records that a source cannot decode and that says nothing itself",
    ),
    key(
        "rivermark.operator.on-failing-row",
        Choice(&["fail", "dead-letter"]),
        "fail",
        "what becomes of a row that an operator has failed at three times",
    ),
    key(
        "rivermark.dead-letters.dir",
        Text,
        "dead-letters",
        "directory of the dead letters that no stream of the job takes; the job has a folder of its name in it",
    ),
    key(
        "rivermark.batch.max-rows",
        Int { min: 1, max: 1 << 20 },
        "4096",
        "rows after which a batch is full",
    ),
    key(
        "rivermark.channel.max-rows",
        Int { min: 1, max: 1 << 30 },
        "8192",
        "credit of a channel, in rows",
    ),
    key(
        "rivermark.channel.max-bytes",
        Memory,
        "4 mb",
        "credit of a channel, in bytes",
    ),
    key(
        "rivermark.checkpoint.max-in-flight-bytes",
        Memory,
        "256 mb",
        "bytes that may be in flight to one subtask at an unaligned checkpoint, which is declined with more",
    ),
    key(
        "rivermark.checkpoint.max-scratch-bytes",
        Memory,
        "16 gb",
        "bytes of checkpoints that may wait for the store in io.tmp.dirs; beyond it their walks wait, and what cannot wait is declined",
    ),
    key(
        "rivermark.checkpoint.max-local-backup-bytes",
        Memory,
        "16 gb",
        "bytes of the copies that execution.state-recovery.from-local has made; about twice a checkpoint's are wanted, what does not fit \
         is not copied",
    ),
    key(
        "rivermark.storage.call-timeout",
        Duration,
        "1 min",
        "time after which a call to the store that is not answered has failed",
    ),
    key(
        "rivermark.slice",
        Duration,
        "2 ms",
        "time that a task works before it looks for barriers",
    ),
];
