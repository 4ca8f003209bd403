//! Flink's keys that have no meaning here yet: accepted, checked for their form, and listed once when a job starts.
//!
//! A key moves from here to `used` together with the code that reads it.

use super::Key;
use super::Kind::{self, *};

const INT: Kind = Int {
    min: i32::MIN as i64,
    max: i32::MAX as i64,
};
const LONG: Kind = Int {
    min: i64::MIN,
    max: i64::MAX,
};
const FLOAT: Kind = Float {
    min: 0.0,
    max: f64::MAX,
};

const fn accepted(name: &'static str, kind: Kind, default: &'static str) -> Key {
    Key::new(name, kind, default, "")
}

/// Families of Flink's keys that are too many to list one by one; their members are accepted unread.
pub(super) const FAMILIES: &[&str] = &[
    "blob.",
    "classloader.",
    "env.",
    "fs.",
    "jobmanager.memory.",
    "kubernetes.",
    "pekko.",
    "python.",
    "s3.",
    "security.",
    "state.backend.forst.",
    "state.backend.rocksdb.",
    "table.",
    "taskmanager.memory.",
    "yarn.",
    "zookeeper.",
];

/// The table, in the order of Flink's own documentation.
pub(super) const KEYS: &[Key] = &[
    // Checkpointing
    accepted("execution.checkpointing.interval-during-backlog", Duration, ""),
    accepted(
        "execution.checkpointing.unaligned.max-subtasks-per-channel-state-file",
        INT,
        "5",
    ),
    accepted(
        "execution.checkpointing.checkpoints-after-tasks-finish",
        Bool,
        "true",
    )
    .was(&["execution.checkpointing.checkpoints-after-tasks-finish.enabled"]),
    accepted("execution.checkpointing.incremental", Bool, "false").was(&["state.backend.incremental"]),
    accepted("execution.checkpointing.snapshot-compression", Bool, "false"),
    accepted("execution.checkpointing.storage", Text, "").was(&["state.checkpoint-storage"]),
    accepted("execution.checkpointing.create-subdir", Bool, "true").was(&["state.checkpoints.create-subdir"]),
    accepted("execution.checkpointing.data-inline-threshold", Memory, "20 kb").was(&[
        "state.storage.fs.memory-threshold",
        "state.backend.fs.memory-threshold",
    ]),
    accepted("execution.checkpointing.write-buffer-size", INT, "4096").was(&[
        "state.storage.fs.write-buffer-size",
        "state.backend.fs.write-buffer-size",
    ]),
    accepted("execution.checkpointing.cleaner.parallel-mode", Bool, "true")
        .was(&["state.checkpoint.cleaner.parallel-mode"]),
    accepted("execution.checkpointing.file-merging.enabled", Bool, "false"),
    accepted(
        "execution.checkpointing.file-merging.max-file-size",
        Memory,
        "32 mb",
    ),
    accepted("execution.checkpointing.during-recovery.enabled", Bool, "false"),
    // Restore and savepoints
    accepted(
        "execution.state-recovery.claim-mode",
        Choice(&["CLAIM", "NO_CLAIM", "LEGACY"]),
        "NO_CLAIM",
    )
    .was(&["execution.savepoint-restore-mode"]),
    accepted(
        "execution.state-recovery.without-channel-state.checkpoint-id",
        LONG,
        "-1",
    )
    .was(&["execution.checkpointing.recover-without-channel-state.checkpoint-id"]),
    // Restart strategy and failover
    accepted("jobmanager.execution.failover-strategy", Text, "region"),
    // State backend
    accepted("state.backend.type", Text, "hashmap").was(&["state.backend"]),
    accepted("state.backend.rocksdb.localdir", Text, ""),
    accepted("state.backend.rocksdb.memory.managed", Bool, "true"),
    accepted("state.backend.rocksdb.memory.fixed-per-slot", Memory, ""),
    accepted("state.backend.rocksdb.checkpoint.transfer.thread.num", INT, "4"),
    accepted(
        "state.backend.rocksdb.timer-service.factory",
        Choice(&["HEAP", "ROCKSDB"]),
        "ROCKSDB",
    ),
    accepted("state.backend.rocksdb.predefined-options", Text, "DEFAULT"),
    accepted("state.changelog.enabled", Bool, "false").was(&["state.backend.changelog.enabled"]),
    accepted(
        "state.changelog.periodic-materialize.interval",
        Duration,
        "10 min",
    )
    .was(&["state.backend.changelog.periodic-materialize.interval"]),
    // Parallelism, pipeline, slots
    accepted("pipeline.object-reuse", Bool, "false"),
    accepted(
        "execution.runtime-mode",
        Choice(&["STREAMING", "BATCH", "AUTOMATIC"]),
        "STREAMING",
    ),
    accepted("taskmanager.host", Text, ""),
    accepted("taskmanager.bind-host", Text, ""),
    accepted("taskmanager.rpc.port", Text, "0"),
    accepted("taskmanager.data.port", INT, "0"),
    accepted("taskmanager.resource-id", Text, ""),
    accepted("taskmanager.memory.process.size", Memory, ""),
    accepted("taskmanager.memory.managed.fraction", FLOAT, "0.4"),
    accepted("taskmanager.memory.network.fraction", FLOAT, "0.1")
        .was(&["taskmanager.network.memory.fraction"]),
    accepted("taskmanager.memory.segment-size", Memory, "32 kb"),
    accepted("taskmanager.network.memory.buffer-debloat.enabled", Bool, "false"),
    accepted(
        "jobmanager.scheduler",
        Choice(&["Default", "Adaptive", "AdaptiveBatch"]),
        "Default",
    ),
    accepted("slot.request.timeout", Duration, "5 min"),
    accepted("slot.idle.timeout", Duration, "50 s"),
    accepted("heartbeat.interval", Duration, "10 s"),
    accepted("heartbeat.timeout", Duration, "50 s"),
    // REST endpoint, dashboard, client
    accepted("rest.address", Text, ""),
    accepted("rest.port", INT, "8081").was(&["web.port"]),
    accepted("rest.bind-address", Text, "").was(&["jobmanager.web.address"]),
    accepted("rest.bind-port", Text, "8081").was(&["web.port", "jobmanager.web.port"]),
    accepted("rest.url-prefix", Text, "/"),
    accepted("rest.retry.max-attempts", INT, "20"),
    accepted("rest.retry.delay", Duration, "3 s"),
    accepted("rest.connection-timeout", Duration, "15 s"),
    accepted("rest.idleness-timeout", Duration, "5 min"),
    accepted("rest.async.store-duration", Duration, "5 min"),
    accepted("rest.server.max-content-length", INT, "104857600"),
    accepted("rest.client.max-content-length", INT, "104857600"),
    accepted("rest.cache.execution-graph.timeout", Duration, ""),
    accepted("rest.cache.checkpoint-statistics.timeout", Duration, "3 s"),
    accepted("rest.cache.checkpoint-statistics.size", INT, "1000"),
    accepted("rest.flamegraph.enabled", Bool, "false"),
    accepted("rest.profiling.enabled", Bool, "false"),
    accepted("web.refresh-interval", Duration, "3 s").was(&["jobmanager.web.refresh-interval"]),
    accepted("web.history", INT, "5").was(&["jobmanager.web.history"]),
    accepted("web.checkpoints.history", INT, "10").was(&["jobmanager.web.checkpoints.history"]),
    accepted("web.exception-history-size", INT, "16"),
    accepted("web.submit.enable", Bool, "true").was(&["jobmanager.web.submit.enable"]),
    accepted("web.cancel.enable", Bool, "true"),
    accepted("web.rescale.enable", Bool, "true"),
    accepted("web.access-control-allow-origin", Text, "*")
        .was(&["jobmanager.web.access-control-allow-origin"]),
    accepted("web.upload.dir", Text, "").was(&["jobmanager.web.upload.dir"]),
    accepted("web.tmpdir", Text, "/tmp").was(&["jobmanager.web.tmpdir"]),
    accepted("web.log.path", Text, "").was(&["jobmanager.web.log.path"]),
    accepted("client.timeout", Duration, "1 min").was(&["akka.client.timeout"]),
    accepted("client.retry-period", Duration, "2 s"),
    accepted("client.heartbeat.interval", Duration, "30 s"),
    accepted("client.heartbeat.timeout", Duration, "3 min"),
    accepted("execution.attached", Bool, "false"),
    accepted("execution.shutdown-on-attached-exit", Bool, "false"),
    accepted("execution.target", Text, ""),
    accepted("historyserver.web.port", INT, "8082"),
    accepted("jobmanager.archive.fs.dir", Text, ""),
    accepted("jobstore.expiration-time", LONG, "3600"),
    accepted("jobstore.max-capacity", INT, "2147483647"),
    // JobManager address
    accepted("jobmanager.rpc.address", Text, ""),
    accepted("jobmanager.rpc.port", INT, "6123"),
    accepted("jobmanager.bind-host", Text, ""),
    accepted("jobmanager.memory.process.size", Memory, ""),
    // Metrics
    accepted("metrics.reporter.<name>.interval", Duration, "10 s"),
    accepted("metrics.reporter.<name>.scope.variables.excludes", Text, ""),
    accepted("metrics.reporter.<name>.scope.variables.additional", Map, ""),
    accepted("metrics.reporter.<name>.filter.includes", List, "*:*:*"),
    accepted("metrics.reporter.<name>.filter.excludes", List, ""),
    accepted("metrics.scope.delimiter", Text, "."),
    accepted("metrics.scope.jm", Text, "<host>.jobmanager"),
    accepted("metrics.scope.jm-job", Text, "<host>.jobmanager.<job_name>").was(&["metrics.scope.jm.job"]),
    accepted(
        "metrics.scope.jm-operator",
        Text,
        "<host>.jobmanager.<job_name>.<operator_name>",
    ),
    accepted("metrics.scope.tm", Text, "<host>.taskmanager.<tm_id>"),
    accepted(
        "metrics.scope.tm-job",
        Text,
        "<host>.taskmanager.<tm_id>.<job_name>",
    )
    .was(&["metrics.scope.tm.job"]),
    accepted(
        "metrics.scope.task",
        Text,
        "<host>.taskmanager.<tm_id>.<job_name>.<task_name>.<subtask_index>",
    ),
    accepted(
        "metrics.scope.operator",
        Text,
        "<host>.taskmanager.<tm_id>.<job_name>.<operator_name>.<subtask_index>",
    ),
    accepted("metrics.fetcher.update-interval", Duration, "10 s"),
    accepted("metrics.latency.interval", Duration, "0"),
    accepted("metrics.latency.granularity", Text, "operator"),
    accepted("metrics.job.status.enable", List, "CURRENT_TIME"),
    accepted("metrics.system-resource", Bool, "false"),
    // High availability
    accepted("high-availability.type", Text, "NONE").was(&["recovery.mode", "high-availability"]),
    accepted("high-availability.storageDir", Text, "").was(&[
        "high-availability.zookeeper.storageDir",
        "recovery.zookeeper.storageDir",
    ]),
    accepted("high-availability.cluster-id", Text, "/default").was(&[
        "high-availability.zookeeper.path.namespace",
        "recovery.zookeeper.path.namespace",
    ]),
    accepted("high-availability.zookeeper.quorum", Text, "").was(&["recovery.zookeeper.quorum"]),
    accepted("high-availability.zookeeper.path.root", Text, "/flink").was(&["recovery.zookeeper.path.root"]),
    accepted("high-availability.jobmanager.port", Text, "0").was(&["recovery.jobmanager.port"]),
    accepted("job-result-store.storage-path", Text, ""),
];
