//! The numbers of a job under Flink's names: what a Prometheus server scrapes and dashboards select on.
//!
//! Only metrics that mean here what they mean there, and of local copies, which have none there, our own. Pure: from statistics and two snapshots to series.

use crate::stats::JobStats;
use rivermark_protocol::graph::NodeRole;
use rivermark_runtime::metrics::{JobSnapshot, MetricValue, OperatorSnapshot, Rates, SubtaskSnapshot};
use rivermark_state::LocalCopies;
use rivermark_types::{JobName, Millis, SubtaskId, Timestamp, Uid, hash_key};

/// One number with its name, scope and labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What it is of, as Flink writes it: `jobmanager_job`, `taskmanager_job_task`, ...
    pub scope: &'static str,
    /// Its name inside the scope.
    pub name: String,
    /// Labels, unfiltered.
    pub labels: Vec<(&'static str, String)>,
    /// The number.
    pub value: SeriesValue,
}

/// What a series shows.
#[derive(Clone, Debug, PartialEq)]
pub enum SeriesValue {
    /// A number.
    Number(f64),
    /// How values are distributed: quantiles, and how many values there are.
    Summary(Vec<(&'static str, f64)>, u64),
}

/// What a job is labelled with.
#[derive(Clone, Debug)]
pub struct JobLabels {
    /// The job.
    pub name: JobName,
    /// The machine.
    pub host: String,
    /// This process.
    pub worker: String,
}

/// A moment at which everything was read.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Processing time.
    pub now: Millis,
    /// The date.
    pub wall: Timestamp,
}

/// The quantiles of a histogram.
const QUANTILES: [(&str, f64); 6] = [
    ("0.5", 0.5),
    ("0.75", 0.75),
    ("0.95", 0.95),
    ("0.98", 0.98),
    ("0.99", 0.99),
    ("0.999", 0.999),
];
/// Longer names of operators are cut, as Flink does.
const LONGEST_NAME: usize = 80;

/// Everything a job has to tell. `earlier` and `later` are what rates are taken from.
pub fn series(
    labels: &JobLabels,
    stats: &JobStats,
    earlier: &JobSnapshot,
    later: &JobSnapshot,
    moment: Moment,
) -> Vec<Series> {
    let mut all = Collected::default();
    let host = vec![("host", labels.host.clone())];
    all.scope("jobmanager", &host);
    let slots = later.subtasks.keys().map(|id| id.index + 1).max().unwrap_or(0);
    all.number("numRunningJobs", f64::from(u8::from(stats.is_running())));
    all.number("numRegisteredTaskManagers", 1.0);
    all.number("taskSlotsTotal", f64::from(slots));
    all.number("taskSlotsAvailable", 0.0);
    let mut job = host;
    job.push(("job_id", id_of(labels.name.as_str())));
    job.push(("job_name", labels.name.as_str().to_owned()));
    all.scope("jobmanager_job", &job);
    of_job(stats, moment, &mut all);
    job.insert(1, ("tm_id", labels.worker.clone()));
    let rates = Rates::between(earlier, later);
    for (id, subtask) in &later.subtasks {
        let name = later.vertices.get(&id.vertex).map_or("", String::as_str);
        let task = task_labels(&job, *id, name, subtask);
        all.scope("taskmanager_job_task", &task);
        of_task(*id, subtask, &rates, &mut all);
        for (at, operator) in subtask.operators.iter().enumerate() {
            let mut operator_labels = task.clone();
            operator_labels.push(("operator_id", operator_id(operator)));
            operator_labels.push(("operator_name", cut(&operator.name)));
            all.scope("taskmanager_job_task_operator", &operator_labels);
            of_operator(*id, at, operator, &rates, &mut all);
            if operator.role == NodeRole::Source {
                of_source(subtask, operator, moment, &mut all);
            }
        }
    }
    all.series
}

#[derive(Default)]
struct Collected {
    series: Vec<Series>,
    scope: &'static str,
    labels: Vec<(&'static str, String)>,
}

impl Collected {
    fn scope(&mut self, scope: &'static str, labels: &[(&'static str, String)]) {
        self.scope = scope;
        self.labels = labels.to_vec();
    }

    fn number(&mut self, name: &str, value: f64) {
        self.add(name, SeriesValue::Number(value));
    }

    fn count(&mut self, name: &str, value: u64) {
        self.number(name, value as f64);
    }

    /// A counter with the rate that Flink shows beside it.
    fn counter(&mut self, name: &str, value: u64, rate: f64) {
        self.count(name, value);
        self.number(&format!("{name}PerSecond"), rate);
    }

    fn add(&mut self, name: &str, value: SeriesValue) {
        self.series.push(Series {
            scope: self.scope,
            name: name.to_owned(),
            labels: self.labels.clone(),
            value,
        });
    }
}

fn of_job(stats: &JobStats, moment: Moment, all: &mut Collected) {
    let failed = stats.aborted;
    all.count("numberOfCompletedCheckpoints", stats.decided);
    all.count("numberOfFailedCheckpoints", failed);
    all.count("numberOfInProgressCheckpoints", stats.in_progress);
    let total = stats.decided + failed + stats.in_progress;
    all.count("totalNumberOfCheckpoints", total);
    let last = stats.checkpoints.last();
    let of_last = |number: fn(&crate::CheckpointSummary) -> f64| last.map_or(0.0, number);
    all.number(
        "lastCheckpointDuration",
        of_last(|c| c.duration.as_millis() as f64),
    );
    all.number("lastCheckpointSize", of_last(|c| c.bytes as f64));
    all.number("lastCheckpointFullSize", of_last(|c| c.bytes as f64));
    all.number(
        "lastCheckpointPersistedData",
        of_last(|c| c.in_flight_bytes as f64),
    );
    all.number("lastCompletedCheckpointId", of_last(|c| c.id.0 as f64));
    let completed = last.map_or(-1.0, |c| c.completed_at.0 as f64);
    all.number("lastCheckpointCompletedTimestamp", completed);
    let restored = stats.restored_at.map_or(-1.0, |at| at.0 as f64);
    all.number("lastCheckpointRestoreTimestamp", restored);
    // A text: its value is on REST only.
    all.number("lastCheckpointExternalPath", 0.0);
    all.count("numRestarts", stats.restarts.into());
    if let Some(copies) = stats.local_copies.as_ref().map(LocalCopies::counts) {
        all.count("localCopyBytes", copies.bytes);
        all.count("localCopyBytesRead", copies.read);
        all.count("numLocalCopiesNotMade", copies.not_copied);
        all.count("numLocalCopiesLost", copies.lost);
    }
    let ended = stats.has_ended();
    let since = moment.now.since(stats.state_since).as_millis() as f64;
    let up = match stats.running_since {
        _ if ended => -1.0,
        Some(at) => moment.now.since(at).as_millis() as f64,
        None => 0.0,
    };
    let down = match stats.down_since {
        _ if ended => -1.0,
        Some(at) => moment.now.since(at).as_millis() as f64,
        None => 0.0,
    };
    all.number("uptime", up);
    all.number("downtime", down);
    let states = [
        ("createdTime", false),
        ("initializingTime", stats.state == "starting"),
        ("deployingTime", stats.state == "restoring"),
        ("runningTime", stats.is_running()),
        ("failingTime", false),
        ("cancellingTime", false),
        ("restartingTime", stats.state == "restarting"),
    ];
    for (name, is_now) in states {
        all.number(name, if is_now { since } else { 0.0 });
    }
}

fn of_task(id: SubtaskId, subtask: &SubtaskSnapshot, rates: &Rates<'_>, all: &mut Collected) {
    type Number = fn(&SubtaskSnapshot) -> u64;
    let counters: [(&str, Number); 8] = [
        ("numRecordsIn", |s| if s.is_source { 0 } else { s.records_in }),
        ("numRecordsOut", |s| s.records_out),
        ("numBytesIn", |s| s.bytes_in),
        ("numBytesOut", |s| s.bytes_out),
        ("numBytesInLocal", |s| s.bytes_in),
        ("numBytesInRemote", |_| 0),
        ("numBuffersInLocal", |s| s.batches_in),
        ("numBuffersInRemote", |_| 0),
    ];
    for (name, number) in counters {
        all.counter(name, number(subtask), rates.subtask(id, number));
    }
    let time = rates.time(id);
    all.number("busyTimeMsPerSecond", time.busy);
    all.number("idleTimeMsPerSecond", time.idle);
    all.number("backPressuredTimeMsPerSecond", time.backpressured);
    // Barriers pass whatever the room: never is a task so blocked that it cannot take a checkpoint.
    all.number("softBackPressuredTimeMsPerSecond", time.backpressured);
    all.number("hardBackPressuredTimeMsPerSecond", 0.0);
    all.count("accumulateBusyTimeMs", subtask.time.busy_ms);
    all.count("accumulateBackPressuredTimeMs", subtask.time.backpressured_ms);
    all.count("isBackPressured", u64::from(subtask.time.is_backpressured));
    all.count("checkpointAlignmentTime", subtask.alignment_ns);
    all.count("checkpointStartDelayNanos", subtask.start_delay_ns);
    all.number("currentInputWatermark", subtask.watermark as f64);
    all.count("initializationTime", subtask.initialization_ms);
}

fn of_operator(
    id: SubtaskId,
    at: usize,
    operator: &OperatorSnapshot,
    rates: &Rates<'_>,
    all: &mut Collected,
) {
    type Number = fn(&OperatorSnapshot) -> u64;
    let mut counters: Vec<(&str, Number)> = vec![
        ("numRecordsIn", |o| o.records_in),
        ("numRecordsOut", |o| o.records_out),
    ];
    if operator.role == NodeRole::Sink {
        counters.push(("numRecordsSend", |o| o.records_in));
    }
    for (name, number) in counters {
        all.counter(name, number(operator), rates.operator(id, at, number));
    }
    if operator.role != NodeRole::Source {
        all.number("currentInputWatermark", operator.watermark_in.0 as f64);
    }
    if operator.role != NodeRole::Sink {
        all.number("currentOutputWatermark", operator.watermark_out.0 as f64);
    }
    if operator.role == NodeRole::Operator {
        all.count("numLateRecordsDropped", operator.late);
    }
    for (name, value) in &operator.user {
        let value = match value {
            MetricValue::Counter(count) => SeriesValue::Number(*count as f64),
            MetricValue::Gauge(value) => SeriesValue::Number(*value),
            MetricValue::Meter(_) => SeriesValue::Number(rates.operator(id, at, |o| events(o, name))),
            MetricValue::Histogram(values) => {
                let quantiles = QUANTILES.map(|(label, share)| (label, values.quantile(share)));
                SeriesValue::Summary(quantiles.to_vec(), values.count())
            }
        };
        all.add(name, value);
    }
}

fn events(operator: &OperatorSnapshot, meter: &str) -> u64 {
    match operator.user.get(meter) {
        Some(MetricValue::Meter(events)) => *events,
        _ => 0,
    }
}

fn of_source(subtask: &SubtaskSnapshot, operator: &OperatorSnapshot, moment: Moment, all: &mut Collected) {
    all.count("numRecordsInErrors", subtask.undecodable);
    let watermark = operator.watermark_out;
    // Before the first and behind the last record there is nothing to lag behind.
    if watermark != Timestamp::MIN && watermark != Timestamp::MAX {
        all.number("watermarkLag", moment.wall.0.saturating_sub(watermark.0) as f64);
    }
}

fn task_labels(
    job: &[(&'static str, String)],
    id: SubtaskId,
    name: &str,
    subtask: &SubtaskSnapshot,
) -> Vec<(&'static str, String)> {
    let task_id = subtask.operators.first().map(operator_id).unwrap_or_default();
    let attempt = subtask.attempt.saturating_sub(1);
    let job_id = job.iter().find(|(label, _)| *label == "job_id");
    let job_id = job_id.map_or("", |(_, id)| id.as_str());
    let mut labels = job.to_vec();
    let attempt_id = format!("{job_id}_{task_id}_{}_{attempt}", id.index);
    labels.push(("task_id", task_id));
    labels.push(("task_name", cut(name)));
    labels.push(("task_attempt_id", attempt_id));
    labels.push(("task_attempt_num", attempt.to_string()));
    labels.push(("subtask_index", id.index.to_string()));
    labels
}

/// Stable over restarts and runs, as long as the uid is.
fn operator_id(operator: &OperatorSnapshot) -> String {
    let node = operator.node.to_string();
    id_of(operator.uid.as_ref().map_or(node.as_str(), Uid::as_str))
}

/// 32 hexadecimal digits, as Flink's ids have. (Not Flink's digits: its hash has no meaning here.)
fn id_of(name: &str) -> String {
    let halves = [1, 2].map(|seed| hash_key(seed, name).0);
    format!("{:016x}{:016x}", halves[0], halves[1])
}

fn cut(name: &str) -> String {
    name.chars().take(LONGEST_NAME).collect()
}
