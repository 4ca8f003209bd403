//! Files in, files out, through kills and losses of power, against what the rows come to when they are simply added up: an
//! oracle that shares nothing with the engine. (The scenarios compare with a run without faults.)
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may")]

use rivermark_env::Env;
use rivermark_files::{FileSink, FileSource};
use rivermark_format::Csv;
use rivermark_job::{JobEnd, JobSpec, JobStorage, StartFrom, StartOptions, start};
use rivermark_protocol::coordinator::CoordinatorConfig;
use rivermark_protocol::restart::RestartStrategy;
use rivermark_runtime::deploy::Limits as EngineLimits;
use rivermark_runtime::operators::{Tumbling, Window};
use rivermark_runtime::{Program, seams::NoSeams};
use rivermark_sim::{Draw, Limits, Machine, RunEnd, SimWorld};
use rivermark_stream::{SourceNode, StreamEnv, WatermarkStrategy};
use rivermark_types::{ErrorKind, JobName, Result, Timestamp};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Reading {
    sensor: String,
    time: i64,
    value: i64,
}

type Sum = (String, i64, i64, u64);

/// What a seed draws.
struct Plan {
    files: Vec<Vec<Reading>>,
    split_bytes: u64,
    roll_bytes: u64,
    batch_rows: usize,
}

fn plan(draw: &mut Draw) -> Plan {
    let rows = draw.between(80, 400);
    let count = draw.between(1, 4);
    let mut files = vec![vec![]; count as usize];
    for i in 0..rows {
        // In the order of the files, out of order by less than the bound.
        let reading = Reading {
            sensor: format!("sensor {}", draw.below(7)),
            time: (i * 20 + draw.below(150)) as i64,
            value: draw.below(100) as i64,
        };
        files[(i * count / rows) as usize].push(reading);
    }
    Plan {
        files,
        split_bytes: *[64, 900, 1 << 20].get(draw.index(3)).unwrap(),
        roll_bytes: *[60, 400, 1 << 20].get(draw.index(3)).unwrap(),
        batch_rows: *[1, 7, 4096].get(draw.index(3)).unwrap(),
    }
}

fn program(plan: &Plan, parallelism: u32) -> Program {
    let strategy = WatermarkStrategy::bounded_out_of_orderness(Duration::from_millis(200))
        .with_timestamp(|row: &Reading| Timestamp(row.time));
    let source: FileSource<Csv<Reading>> = FileSource::csv("/in").with_split_bytes(plan.split_bytes);
    let env = StreamEnv::new();
    env.set_parallelism(parallelism);
    env.from_source_node(SourceNode::new(source, strategy).rate(600))
        .uid("readings")
        .key_by(|row: &Reading| row.sensor.clone())
        .window(Tumbling::of(Duration::from_millis(500)))
        .fold(
            |sum: &mut (i64, u64), row: Reading| {
                sum.0 += row.value;
                sum.1 += 1;
            },
            |sensor: &String, window: Window, sum: (i64, u64)| (sensor.clone(), window.start.0, sum.0, sum.1),
        )
        .uid("sums")
        .sink_to(FileSink::json("/out").with_roll_bytes(plan.roll_bytes))
        .uid("files");
    env.build().unwrap()
}

fn expected(plan: &Plan) -> Vec<String> {
    let mut sums: BTreeMap<(String, i64), (i64, u64)> = BTreeMap::new();
    for row in plan.files.iter().flatten() {
        let sum = sums
            .entry((row.sensor.clone(), row.time - row.time.rem_euclid(500)))
            .or_default();
        sum.0 += row.value;
        sum.1 += 1;
    }
    let line = |((sensor, start), (value, count)): ((String, i64), (i64, u64))| -> String {
        serde_json::to_string::<Sum>(&(sensor, start, value, count)).unwrap()
    };
    let mut lines: Vec<String> = sums.into_iter().map(line).collect();
    lines.sort();
    lines
}

async fn run(env: Env, program: Program, batch_rows: usize) -> Result<JobEnd> {
    let name = JobName::from("files");
    let spec = JobSpec {
        storage: JobStorage::in_dir(&env, Path::new("/state"), &name).await?,
        name,
        program,
        chaining: true,
        options: StartOptions {
            from: StartFrom::Latest,
            ..StartOptions::default()
        },
        checkpoints: CoordinatorConfig {
            interval: Some(Duration::from_millis(60)),
            ..CoordinatorConfig::default()
        },
        restarts: RestartStrategy::FixedDelay {
            attempts: 50,
            delay: Duration::from_millis(5),
        },
        limits: EngineLimits {
            batch_rows,
            ..EngineLimits::default()
        },
        writer: Default::default(),
        seams: Arc::new(NoSeams),
    };
    start(&env, spec).await?.wait().await
}

fn put_input(machine: &Machine, plan: &Plan) {
    for (at, file) in plan.files.iter().enumerate() {
        let rows = file
            .iter()
            .map(|row| format!("{},{},{}\n", row.sensor, row.time, row.value));
        let text = std::iter::once("sensor,time,value\n".to_owned())
            .chain(rows)
            .collect::<String>();
        machine.put_file(format!("/in/{at}.csv"), text).unwrap();
    }
}

/// Runs a seed to the job's end, through crashes; tells what is wrong with the files it leaves.
fn run_seed(seed: u64) -> Result<(), String> {
    let mut draw = Draw::stream(seed, "files plan");
    let plan = Rc::new(plan(&mut draw));
    let mut world = SimWorld::new(seed);
    let machine = world.machine("disk");
    put_input(&machine, &plan);
    let crashes = draw.between(1, 4);
    let end: Rc<RefCell<Option<Result<JobEnd>>>> = Rc::default();
    for life in 0..40 {
        let (told, plan_here, parallelism) = (end.clone(), plan.clone(), 1 + draw.below(3) as u32);
        let process = world.start(&machine, &format!("p{life}"), move |env| async move {
            let program = program(&plan_here, parallelism);
            *told.borrow_mut() = Some(run(env, program, plan_here.batch_rows).await);
        });
        let steps = if life < crashes {
            draw.between(50, 6_000)
        } else {
            3_000_000
        };
        let limits = Limits {
            steps,
            ..Limits::default()
        };
        match world.run_process(process, limits) {
            RunEnd::StepLimit(_) if life < crashes => match draw.coin() {
                true => world.power_loss(&machine),
                false => world.kill(process),
            },
            RunEnd::Stopped | RunEnd::Finished => {}
            stuck => return Err(format!("seed {seed}: {stuck:?}")),
        }
        match end.borrow_mut().take() {
            Some(Ok(JobEnd::Finished)) => return check(seed, &machine, &expected(&plan)),
            Some(Err(failure)) if !matches!(failure.kind, ErrorKind::Retry | ErrorKind::External) => {
                return Err(format!("seed {seed}: {failure}"));
            }
            _ => {}
        }
    }
    Err(format!("seed {seed}: the job never finished"))
}

/// The finished files, as a loss of power right after the job's end would leave them.
fn check(seed: u64, machine: &Machine, expected: &[String]) -> Result<(), String> {
    let mut lines = vec![];
    for (path, bytes) in machine.tree().iter().filter(|(path, _)| path.starts_with("/out")) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') {
            return Err(format!("seed {seed}: {name} is left over"));
        }
        let text = String::from_utf8_lossy(bytes);
        if !text.ends_with('\n') {
            return Err(format!("seed {seed}: {name} ends in the middle of a row"));
        }
        lines.extend(text.lines().map(str::to_owned));
    }
    lines.sort();
    match lines == expected {
        true => Ok(()),
        false => Err(format!(
            "seed {seed}: {} rows instead of {}",
            lines.len(),
            expected.len()
        )),
    }
}

#[test]
fn rows_come_out_exactly_once_through_kills_and_losses_of_power() {
    let seeds = std::env::var("RIVERMARK_FILE_SEEDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(60);
    let failed: Vec<String> = (0..seeds).filter_map(|seed| run_seed(seed).err()).collect();
    assert!(
        failed.is_empty(),
        "{} of {seeds} failed, e.g. {}",
        failed.len(),
        failed[0]
    );
}
