//! What a Prometheus server sees of a job: Flink's names, and numbers that are right.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the test is the world outside")]

use rivermark::prelude::*;
use rivermark_config::Config;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;

/// By scope: the names of Flink's metrics that have a meaning here.
const NAMES: [(&str, &[&str]); 4] = [
    (
        "jobmanager",
        &[
            "numRegisteredTaskManagers",
            "numRunningJobs",
            "taskSlotsAvailable",
            "taskSlotsTotal",
        ],
    ),
    (
        "jobmanager_job",
        &[
            "numberOfCompletedCheckpoints",
            "numberOfFailedCheckpoints",
            "numberOfInProgressCheckpoints",
            "totalNumberOfCheckpoints",
            "lastCheckpointDuration",
            "lastCheckpointSize",
            "lastCheckpointFullSize",
            "lastCheckpointPersistedData",
            "lastCheckpointCompletedTimestamp",
            "lastCompletedCheckpointId",
            "lastCheckpointRestoreTimestamp",
            "lastCheckpointExternalPath",
            "numRestarts",
            "uptime",
            "downtime",
            "createdTime",
            "initializingTime",
            "deployingTime",
            "runningTime",
            "failingTime",
            "cancellingTime",
            "restartingTime",
        ],
    ),
    (
        "taskmanager_job_task",
        &[
            "numRecordsIn",
            "numRecordsInPerSecond",
            "numRecordsOut",
            "numRecordsOutPerSecond",
            "numBuffersInLocal",
            "numBuffersInLocalPerSecond",
            "numBuffersInRemote",
            "numBuffersInRemotePerSecond",
            "numBytesIn",
            "numBytesInPerSecond",
            "numBytesOut",
            "numBytesOutPerSecond",
            "numBytesInLocal",
            "numBytesInLocalPerSecond",
            "numBytesInRemote",
            "numBytesInRemotePerSecond",
            "busyTimeMsPerSecond",
            "idleTimeMsPerSecond",
            "backPressuredTimeMsPerSecond",
            "softBackPressuredTimeMsPerSecond",
            "hardBackPressuredTimeMsPerSecond",
            "accumulateBusyTimeMs",
            "accumulateBackPressuredTimeMs",
            "isBackPressured",
            "checkpointAlignmentTime",
            "checkpointStartDelayNanos",
            "currentInputWatermark",
            "initializationTime",
        ],
    ),
    (
        "taskmanager_job_task_operator",
        &[
            "numRecordsIn",
            "numRecordsInPerSecond",
            "numRecordsOut",
            "numRecordsOutPerSecond",
            "numRecordsSend",
            "numRecordsSendPerSecond",
            "numRecordsInErrors",
            "numLateRecordsDropped",
            "currentInputWatermark",
            "currentOutputWatermark",
            "watermarkLag",
        ],
    ),
];

/// The user's own in [`Counting`].
const OWN: [&str; 4] = ["even", "oddRate", "lastValue", "values"];

#[derive(Default)]
struct Counting {
    even: Option<Counter>,
    odd: Option<Meter>,
    last: Option<Gauge>,
    values: Option<Histogram>,
}

impl KeyedOp<u64, u64, u64> for Counting {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u64>) -> Result<()> {
        self.even = Some(cx.counter("even")?);
        self.odd = Some(cx.meter("oddRate")?);
        self.last = Some(cx.gauge("lastValue")?);
        self.values = Some(cx.histogram("values")?);
        Ok(())
    }

    fn row(&mut self, _: &Key<u64>, row: Timed<u64>, out: &mut Out<u64>) -> Result<()> {
        let (Some(even), Some(odd), Some(last), Some(values)) =
            (&self.even, &self.odd, &self.last, &self.values)
        else {
            return Err(Failure::bug("not open"));
        };
        match row.value % 2 {
            0 => even.inc(),
            _ => odd.mark(),
        }
        last.set(row.value as f64);
        values.record(row.value);
        out.emit(row.value);
        Ok(())
    }
}

/// The status line and the body of an answer.
fn get(address: &str, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(format!("{request}\r\nHost: x\r\n\r\n").as_bytes())
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

/// Name with labels, and value, of every line that is no comment.
fn scrape(address: &str) -> BTreeMap<String, f64> {
    let (status, body) = get(address, "GET /metrics HTTP/1.1");
    assert_eq!(status, "HTTP/1.1 200 OK");
    let series = body.lines().filter(|line| !line.starts_with('#'));
    let series = series.map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    });
    series.collect()
}

/// The only series of this name whose labels have all of these.
fn value(series: &BTreeMap<String, f64>, name: &str, labels: &[&str]) -> f64 {
    let mut found = series.iter().filter(|(series, _)| {
        series.starts_with(&format!("{name}{{")) && labels.iter().all(|label| series.contains(label))
    });
    let (_, value) = found.next().unwrap_or_else(|| panic!("no {name} {labels:?}"));
    assert!(found.next().is_none(), "several {name} {labels:?}");
    *value
}

fn job(config: &[&str]) -> Result<rivermark::local::LocalJob> {
    let env = StreamEnv::new();
    env.set_name("my-job");
    env.generate(5_000, |n| n)
        .uid("numbers")
        .key_by(|n| n % 7)
        .process(Counting::default)
        .uid("counting")
        .discard();
    let mut all = Config::default();
    config
        .iter()
        .for_each(|assignment| all.add_argument(assignment).unwrap());
    env.start_with(all)
}

#[test]
fn a_scrape_has_flinks_names_and_the_right_numbers() {
    let job = job(&[
        "metrics.reporter.prom.port=0",
        "execution.checkpointing.interval=20 ms",
    ])
    .unwrap();
    let address = job.metrics_addresses()[0].to_owned();
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    let counting = ["operator_name=\"process\"", "job_name=\"my_job\""];
    let records = "flink_taskmanager_job_task_operator_numRecordsIn";
    let series = loop {
        let series = scrape(&address);
        let decided = value(&series, "flink_jobmanager_job_numberOfCompletedCheckpoints", &[]);
        let rate = value(&series, &format!("{records}PerSecond"), &counting);
        if decided >= 3.0 && rate > 0.0 {
            break series;
        }
    };
    let read = value(&series, records, &counting);
    let even = value(&series, "flink_taskmanager_job_task_operator_even", &counting);
    // What came in since the user's metrics were brought over is counted by the engine only.
    assert!(even > 0.0 && 2.0 * even <= read + 1.0, "{even} of {read}");
    let values = "flink_taskmanager_job_task_operator_values";
    assert!(value(&series, &format!("{values}_count"), &counting) > 0.0);
    let median = value(&series, values, &[counting[0], "quantile=\"0.5\""]);
    let most = value(&series, values, &[counting[0], "quantile=\"0.999\""]);
    assert!(0.0 < median && median <= most && most <= read, "{median} {most}");
    let errors = "flink_taskmanager_job_task_operator_numRecordsInErrors";
    assert_eq!(value(&series, errors, &[]), 0.0);
    for subtask in ["generator", "process"] {
        let label = format!("task_name=\"{subtask}");
        let time = |what: &str| {
            let name = format!("flink_taskmanager_job_task_{what}TimeMsPerSecond");
            value(&series, &name, &[&label])
        };
        let sum = time("busy") + time("idle") + time("backPressured");
        assert!((sum - 1000.0).abs() < 1e-6, "{sum}");
    }
    assert_eq!(value(&series, "flink_jobmanager_job_numRestarts", &[]), 0.0);
    assert!(value(&series, "flink_jobmanager_job_uptime", &[]) > 0.0);
    check_names(&series);
    let (status, _) = get(&address, "GET /other HTTP/1.1");
    assert_eq!(status, "HTTP/1.1 404 Not Found");
    let (status, _) = get(&address, "POST /metrics HTTP/1.1");
    assert_eq!(status, "HTTP/1.1 405 Method Not Allowed");
    job.control().stop();
    job.wait().unwrap();
    assert!(
        TcpStream::connect(&address).is_err(),
        "the endpoint ends with the job"
    );
}

/// Every name is one of the list or the user's, and every one of the list is there (but for those of other sources).
fn check_names(series: &BTreeMap<String, f64>) {
    let names = series
        .keys()
        .map(|series| series.split('{').next().unwrap_or_default());
    let found: BTreeSet<&str> = names.collect();
    let full = |scope: &str, name: &str| format!("flink_{scope}_{name}");
    let known: BTreeSet<String> = NAMES
        .iter()
        .flat_map(|(scope, names)| names.iter().map(|name| full(scope, name)))
        .collect();
    let own = OWN.map(|name| full("taskmanager_job_task_operator", name));
    for name in &found {
        let is_own = own
            .iter()
            .any(|own| *name == own || *name == format!("{own}_count"));
        assert!(
            known.contains(*name) || is_own,
            "{name} is not one of Flink's names"
        );
    }
    for name in known.iter().filter(|name| !name.ends_with("watermarkLag")) {
        assert!(found.contains(&**name), "{name} is missing");
    }
}

#[test]
fn metrics_are_off_unless_asked_for_and_for_this_machine_only() {
    let quiet = job(&[]).unwrap();
    assert!(quiet.metrics_addresses().is_empty());
    quiet.control().cancel();
    quiet.wait().unwrap();
    let open = ["metrics.reporters=prom", "metrics.reporter.prom.host=0.0.0.0"];
    let refused = job(&open).map(drop).unwrap_err();
    assert!(
        refused.message.contains("metrics.reporter.prom.host")
            && refused.message.contains("this machine only"),
        "{refused}"
    );
}

#[test]
fn the_first_free_port_of_a_range_is_taken() {
    let first = job(&["metrics.reporter.prom.port=0"]).unwrap();
    let taken = first.metrics_addresses()[0]
        .rsplit(':')
        .next()
        .unwrap()
        .to_owned();
    let only = format!("metrics.reporter.prom.port={taken}");
    let failure = job(&[&only]).map(drop).unwrap_err().to_string();
    assert!(
        failure.contains("no port of") && failure.contains(&taken),
        "{failure}"
    );
    first.control().cancel();
    first.wait().unwrap();
}

#[test]
fn a_job_whose_rows_are_collected_is_scraped_too_until_its_rows_are_dropped() {
    let env = StreamEnv::new();
    let mut config = Config::default();
    config.add_argument("metrics.reporter.prom.port=0").unwrap();
    let numbers = env.generate(5_000, |n| n).uid("numbers");
    let mut rows = env.execute_and_collect_with(config, numbers).unwrap();
    assert!(rows.next().unwrap().is_ok());
    let address = rows.metrics_addresses()[0].to_owned();
    let read = "flink_taskmanager_job_task_operator_numRecordsOut";
    assert!(value(&scrape(&address), read, &["operator_name=\"generator\""]) > 0.0);
    drop(rows);
    assert!(
        TcpStream::connect(&address).is_err(),
        "the endpoint ends with the job"
    );
}

#[test]
fn a_job_whose_handle_is_dropped_runs_on_without_an_endpoint() {
    let job = job(&["metrics.reporter.prom.port=0"]).unwrap();
    let (address, control) = (job.metrics_addresses()[0].to_owned(), job.control());
    scrape(&address);
    drop(job);
    while TcpStream::connect(&address).is_ok() {
        std::thread::yield_now();
    }
    let read = control.stats().records_in();
    while control.stats().records_in() <= read {
        std::thread::yield_now();
    }
    control.cancel();
}
