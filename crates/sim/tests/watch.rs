//! A watched directory whose files arrive while the job runs, some written in place, some renamed in, through kills and losses
//! of power: every line counts once.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may")]

use rivermark_env::Env;
use rivermark_files::{FileSink, FileSource};
use rivermark_job::{JobEnd, JobSpec, JobStorage, StartFrom, StartOptions, start};
use rivermark_protocol::coordinator::CoordinatorConfig;
use rivermark_protocol::restart::RestartStrategy;
use rivermark_runtime::{Program, seams::NoSeams};
use rivermark_sim::{Draw, Limits, Machine, RunEnd, SimWorld};
use rivermark_stream::{SourceNode, StreamEnv, WatermarkStrategy};
use rivermark_types::{ErrorKind, JobName, Result};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// A file: when it arrives, its lines, and whether it is written in place.
#[derive(Clone)]
struct Arrival {
    at: Duration,
    name: String,
    lines: Vec<String>,
    in_place: bool,
}

fn arrivals(draw: &mut Draw) -> Vec<Arrival> {
    (0..draw.between(1, 12))
        .map(|file| Arrival {
            at: draw.time(Duration::ZERO, Duration::from_millis(2_000)),
            name: format!("{:02}-{file}.txt", draw.below(100)),
            lines: (0..draw.between(1, 60))
                .map(|line| format!("{file}:{line}"))
                .collect(),
            in_place: draw.coin(),
        })
        .collect()
}

/// Brings the files, beside the job and through all of its crashes.
async fn bring(env: Env, mut arrivals: Vec<Arrival>, brought: Rc<RefCell<usize>>) {
    arrivals.sort_by_key(|arrival| arrival.at);
    let began = env.now();
    for arrival in arrivals {
        env.sleep(began.after(arrival.at).since(env.now())).await;
        let name = match arrival.in_place {
            true => format!("/in/{}", arrival.name),
            false => format!("/in/{}.tmp", arrival.name),
        };
        let mut file = env.files().create_new(Path::new(&name)).await.unwrap();
        for line in &arrival.lines {
            file.write(format!("{line}\n").into_bytes()).await.unwrap();
        }
        file.sync().await.unwrap();
        if !arrival.in_place {
            let to = format!("/in/{}", arrival.name);
            env.files()
                .rename(Path::new(&name), Path::new(&to))
                .await
                .unwrap();
        }
        env.files().sync_dir(Path::new("/in")).await.unwrap();
        *brought.borrow_mut() += 1;
    }
}

fn program(parallelism: u32, split_bytes: u64, rate: u64) -> Program {
    // Longer than the slowest write.
    let source = FileSource::lines("/in")
        .with_split_bytes(split_bytes)
        .continuously(Duration::from_millis(120));
    let env = StreamEnv::new();
    env.set_parallelism(parallelism);
    env.from_source_node(SourceNode::new(source, WatermarkStrategy::none()).rate(rate))
        .uid("lines")
        .sink_to(FileSink::text("/out"))
        .uid("files");
    env.build().unwrap()
}

/// The lines in finished files.
fn written(machine: &Machine) -> Vec<String> {
    let tree = machine.tree();
    let finished = tree.iter().filter(|(path, _)| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.starts_with("/out") && !name.starts_with('.')
    });
    finished
        .flat_map(|(_, bytes)| {
            String::from_utf8_lossy(bytes)
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect()
}

async fn run(env: Env, program: Program) -> Result<JobEnd> {
    let name = JobName::from("watch");
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
            interval: Some(Duration::from_millis(70)),
            ..CoordinatorConfig::default()
        },
        restarts: RestartStrategy::FixedDelay {
            attempts: 50,
            delay: Duration::from_millis(5),
        },
        limits: Default::default(),
        writer: Default::default(),
        seams: Arc::new(NoSeams),
    };
    start(&env, spec).await?.wait().await
}

fn run_seed(seed: u64) -> std::result::Result<(), String> {
    let mut draw = Draw::stream(seed, "watch plan");
    let arrivals = arrivals(&mut draw);
    let expected: BTreeSet<String> = arrivals.iter().flat_map(|a| a.lines.clone()).collect();
    let mut world = SimWorld::new(seed);
    let disk = world.machine("disk");
    disk.put_file("/in/.keep", "").unwrap();
    // The files are brought by a process that no crash reaches, onto the job's disk.
    let (brought, here, count) = (Rc::new(RefCell::new(0)), arrivals.clone(), arrivals.len());
    let told = brought.clone();
    world.start(&disk, "bringer", move |env| bring(env, here, told));
    let crashes = draw.between(0, 4);
    let failure: Rc<RefCell<Option<String>>> = Rc::default();
    for life in 0..=crashes {
        let (parallelism, split_bytes) = (1 + draw.below(3) as u32, [8, 100, 1 << 20][draw.index(3)]);
        let rate = [50, 500, 100_000][draw.index(3)];
        let told = failure.clone();
        let process = world.start(&disk, &format!("p{life}"), move |env| async move {
            match run(env, program(parallelism, split_bytes, rate)).await {
                Err(failure) if !matches!(failure.kind, ErrorKind::Retry | ErrorKind::External) => {
                    *told.borrow_mut() = Some(failure.to_string());
                }
                _ => {}
            }
        });
        let last = life == crashes;
        let crash_at = world.now() + draw.time(Duration::from_millis(50), Duration::from_millis(900));
        let (disk, brought, failed) = (disk.clone(), brought.clone(), failure.clone());
        let wanted = expected.len();
        let end = world.run(Limits::default(), |world| {
            let through = match last {
                true => {
                    world.steps() % 64 == 0 && *brought.borrow() == count && written(&disk).len() >= wanted
                }
                false => world.now() >= crash_at,
            };
            if through || failed.borrow().is_some() || !world.is_running(process) {
                return std::ops::ControlFlow::Break(());
            }
            std::ops::ControlFlow::Continue(())
        });
        if let Some(failure) = failure.borrow_mut().take() {
            return Err(format!("seed {seed}: {failure}"));
        }
        if end != RunEnd::Stopped {
            return Err(format!(
                "seed {seed}: {end:?}, {} of {wanted} lines",
                written(&disk).len()
            ));
        }
        world.kill(process);
    }
    let found = written(&disk);
    let distinct: BTreeSet<String> = found.iter().cloned().collect();
    match distinct == expected && found.len() == expected.len() {
        true => Ok(()),
        false => Err(format!(
            "seed {seed}: {} lines instead of {}",
            found.len(),
            expected.len()
        )),
    }
}

#[test]
fn every_line_of_every_file_that_arrives_counts_once() {
    let seeds = std::env::var("RIVERMARK_FILE_SEEDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(25);
    let failed: Vec<String> = (0..seeds).filter_map(|seed| run_seed(seed).err()).collect();
    assert!(
        failed.is_empty(),
        "{} of {seeds} failed, e.g. {}",
        failed.len(),
        failed[0]
    );
}
