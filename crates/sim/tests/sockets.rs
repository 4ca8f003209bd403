//! Sockets in and out through broken connections, kills and losses of power: with the journal every row that was emitted counts
//! once; a confirmed sink's server has every line.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may")]

use rivermark_env::{Env, NetReader};
use rivermark_files::FileSink;
use rivermark_job::{JobEnd, JobSpec, JobStorage, StartFrom, StartOptions, start};
use rivermark_protocol::coordinator::CoordinatorConfig;
use rivermark_protocol::restart::RestartStrategy;
use rivermark_runtime::{Program, seams::NoSeams};
use rivermark_sim::{Draw, Limits, Machine, RunEnd, SimWorld};
use rivermark_sockets::{SocketSink, SocketSource};
use rivermark_stream::{SourceNode, StreamEnv, WatermarkStrategy, sequence};
use rivermark_types::{ErrorKind, JobName, Result};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const ADDRESS: &str = "outside:9000";

fn seeds(usual: u64) -> u64 {
    let asked = std::env::var("RIVERMARK_SOCKET_SEEDS").ok();
    asked.and_then(|n| n.parse().ok()).unwrap_or(usual)
}

async fn run(env: Env, program: Program) -> Result<JobEnd> {
    let name = JobName::from("sockets");
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
            attempts: 200,
            delay: Duration::from_millis(5),
        },
        limits: Default::default(),
        writer: Default::default(),
        seams: Arc::new(NoSeams),
    };
    start(&env, spec).await?.wait().await
}

/// Starts the job again and again, with crashes between, until `through` says so.
fn through_crashes(
    seed: u64,
    world: &mut SimWorld,
    draw: &mut Draw,
    disk: &Machine,
    program: impl Fn(u32) -> Program + 'static,
    through: impl Fn(&SimWorld) -> bool,
) -> std::result::Result<(), String> {
    let crashes = draw.between(0, 5);
    let program = Rc::new(program);
    let ended: Rc<RefCell<Option<Result<JobEnd>>>> = Rc::default();
    for life in 0..=crashes {
        let (told, program, parallelism) = (ended.clone(), program.clone(), 1 + draw.below(3) as u32);
        let process = world.start(disk, &format!("p{life}"), move |env| async move {
            *told.borrow_mut() = Some(run(env, program(parallelism)).await);
        });
        let crash_at = world.now() + draw.time(Duration::from_millis(20), Duration::from_millis(700));
        let last = life == crashes;
        let end = world.run(Limits::default(), |world| {
            let crash = !last && world.now() >= crash_at;
            let done =
                crash || !world.is_running(process) || (last && world.steps() % 64 == 0 && through(world));
            if done {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        match ended.borrow_mut().take() {
            Some(Err(failure)) if !matches!(failure.kind, ErrorKind::Retry | ErrorKind::External) => {
                return Err(format!("seed {seed}: {failure}"));
            }
            Some(Ok(JobEnd::Finished)) => return Ok(()),
            Some(end) if last && !through(world) => {
                return Err(format!("seed {seed}: the job ended too early: {end:?}"));
            }
            _ if end != RunEnd::Stopped => return Err(format!("seed {seed}: {end:?}")),
            // What was just seen may not be synced yet, and nobody would commit it again after the last life.
            _ if !last && draw.coin() => world.power_loss(disk),
            _ => world.kill(process),
        }
    }
    Ok(())
}

/// A server of lines "connection:number". It breaks connections off; when enough lines are out, it only ever sends "last".
async fn serve(env: Env, mut draw: Draw, lines: u64) {
    let mut listener = env.net().listen(ADDRESS).await.unwrap();
    let mut left = lines;
    for connection in 0.. {
        let mut client = listener.accept().await.unwrap();
        let here = draw.between(1, 40).min(left);
        for number in 0..here {
            let text = format!("{connection}:{number}\n");
            // In pieces that end anywhere.
            let (begin, end) = text.as_bytes().split_at(draw.index(text.len()));
            for part in [begin, end] {
                if client.writer.write(part.to_vec()).await.is_err() {
                    break;
                }
            }
            if draw.one_in(8) {
                env.sleep(draw.time(Duration::ZERO, Duration::from_millis(30)))
                    .await;
            }
        }
        left -= here;
        if left == 0 {
            while client.writer.write(b"last\n".to_vec()).await.is_ok() {
                env.sleep(Duration::from_millis(40)).await;
            }
        }
        if draw.coin() {
            let _ = client.writer.finish().await;
        }
    }
}

type Emitted = Arc<Mutex<BTreeSet<String>>>;

fn journaled(parallelism: u32, emitted: Emitted, roll_bytes: u64) -> Program {
    let source = SocketSource::lines(ADDRESS)
        .reconnecting()
        .with_journal("/journal")
        .with_journal_roll_bytes(roll_bytes);
    let env = StreamEnv::new();
    env.set_parallelism(parallelism);
    env.from_source_node(SourceNode::new(source, WatermarkStrategy::none()))
        .uid("lines")
        .map(move |line| {
            if line != "last" {
                emitted.lock().unwrap().insert(line.clone());
            }
            line
        })
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
    let text: Vec<u8> = finished.flat_map(|(_, bytes)| bytes.clone()).collect();
    String::from_utf8_lossy(&text)
        .lines()
        .map(str::to_owned)
        .collect()
}

/// What was emitted, in whatever attempt, is in the output, once; of each connection it is a beginning.
fn check_journaled(
    seed: u64,
    emitted: &BTreeSet<String>,
    found: &[String],
) -> std::result::Result<(), String> {
    let lines: Vec<&String> = found.iter().filter(|line| *line != "last").collect();
    let distinct: BTreeSet<String> = lines.iter().map(|line| (*line).clone()).collect();
    if distinct.len() != lines.len() {
        return Err(format!(
            "seed {seed}: {} lines are doubled",
            lines.len() - distinct.len()
        ));
    }
    if let Some(lost) = emitted.difference(&distinct).next() {
        return Err(format!("seed {seed}: {lost} was emitted and is lost"));
    }
    let mut numbers: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for line in &distinct {
        let (connection, number) = line
            .split_once(':')
            .ok_or(format!("seed {seed}: {line:?} is no line"))?;
        numbers
            .entry(connection)
            .or_default()
            .insert(number.parse().unwrap());
    }
    match numbers
        .values()
        .all(|numbers| numbers.iter().copied().eq(0..numbers.len() as u64))
    {
        true => Ok(()),
        false => Err(format!(
            "seed {seed}: a connection's lines have a gap: {numbers:?}"
        )),
    }
}

fn journal_seed(seed: u64, lie: bool) -> std::result::Result<usize, String> {
    let mut draw = Draw::stream(seed, "journal plan");
    let mut world = SimWorld::new(seed);
    let (disk, outside) = (world.machine("disk"), world.machine("outside"));
    if lie {
        disk.lie_about_sync(|call| call.path.starts_with("/journal"));
    }
    let (lines, server_draw) = (draw.between(1, 300), Draw::stream(seed, "server"));
    world.start(&outside, "server", move |env| serve(env, server_draw, lines));
    let emitted = Emitted::default();
    let roll_bytes = [1, 50, 1 << 20][draw.index(3)];
    let (here, look) = (emitted.clone(), disk.clone());
    through_crashes(
        seed,
        &mut world,
        &mut draw,
        &disk,
        move |parallelism| journaled(parallelism, here.clone(), roll_bytes),
        move |_| written(&look).iter().any(|line| line == "last"),
    )?;
    let emitted = emitted.lock().unwrap().clone();
    check_journaled(seed, &emitted, &written(&disk)).map(|()| emitted.len())
}

#[test]
fn with_a_journal_every_row_that_was_emitted_counts_once() {
    let seeds = seeds(25);
    let first = std::env::var("RIVERMARK_SOCKET_FIRST_SEED").ok();
    let first: u64 = first.and_then(|n| n.parse().ok()).unwrap_or(0);
    let ran: Vec<_> = (first..first + seeds)
        .map(|seed| journal_seed(seed, false))
        .collect();
    let failed: Vec<&String> = ran.iter().filter_map(|seed| seed.as_ref().err()).collect();
    assert!(
        failed.is_empty(),
        "{} of {seeds} failed, e.g. {}",
        failed.len(),
        failed[0]
    );
    let emitted: usize = ran.iter().flatten().sum();
    assert!(
        emitted as u64 > seeds * 20,
        "only {emitted} lines in {seeds} seeds"
    );
}

#[test]
fn without_the_journals_syncs_rows_are_lost() {
    let found = (0..300).find(|seed| journal_seed(*seed, true).is_err());
    assert!(found.is_some());
}

/// Receives lines, breaking connections off; notes whole lines in the order in which they came.
async fn receive(env: Env, mut draw: Draw, heard: Rc<RefCell<Vec<String>>>) {
    let mut listener = env.net().listen(ADDRESS).await.unwrap();
    loop {
        let connection = listener.accept().await.unwrap();
        let breaks_after = draw.one_in(3).then(|| draw.below(300));
        let heard = heard.clone();
        receive_one(connection.reader, breaks_after, &heard).await;
        // The writer goes with the connection: its end is in order, or a reset, as the world draws it.
        drop(connection.writer);
    }
}

async fn receive_one(mut reader: Box<dyn NetReader>, mut left: Option<u64>, heard: &RefCell<Vec<String>>) {
    let mut rest = Vec::new();
    while let Ok(bytes) = reader.read(100).await {
        if bytes.is_empty() {
            return;
        }
        rest.extend(&bytes);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            heard
                .borrow_mut()
                .push(String::from_utf8_lossy(&line[..end]).into_owned());
        }
        if let Some(left) = &mut left {
            *left = left.saturating_sub(bytes.len() as u64);
            if *left == 0 {
                return;
            }
        }
    }
}

fn sending(parallelism: u32, rows: u64, rate: u64, kept: usize) -> Program {
    let env = StreamEnv::new();
    env.set_parallelism(parallelism);
    env.from_source_node(SourceNode::new(sequence(rows), WatermarkStrategy::none()).rate(rate))
        .uid("numbers")
        .map(|number| format!("{number}"))
        .sink_to(SocketSink::text(ADDRESS).confirmed().with_kept_bytes(kept))
        .uid("server");
    env.build().unwrap()
}

fn sink_seed(seed: u64) -> std::result::Result<usize, String> {
    let mut draw = Draw::stream(seed, "sink plan");
    let mut world = SimWorld::new(seed);
    let (disk, outside) = (world.machine("disk"), world.machine("outside"));
    let heard: Rc<RefCell<Vec<String>>> = Rc::default();
    let (told, server_draw) = (heard.clone(), Draw::stream(seed, "server"));
    world.start(&outside, "server", move |env| receive(env, server_draw, told));
    let (rows, rate) = (draw.between(1, 400), [300, 2_000, 1_000_000][draw.index(3)]);
    let (kept, parallelism) = ([10, 300, 1 << 20][draw.index(3)], 1 + draw.below(3) as u32);
    through_crashes(
        seed,
        &mut world,
        &mut draw,
        &disk,
        move |_| sending(parallelism, rows, rate, kept),
        |_| false,
    )?;
    // One server handles one connection at a time, so what came first was heard first.
    let heard = heard.borrow();
    let mut first: BTreeMap<u64, usize> = BTreeMap::new();
    for (at, line) in heard.iter().enumerate() {
        let number = line
            .parse()
            .map_err(|_| format!("seed {seed}: {line:?} is no line"))?;
        first.entry(number).or_insert(at);
    }
    if let Some(lost) = (0..rows).find(|number| !first.contains_key(number)) {
        return Err(format!("seed {seed}: {lost} of {rows} never came"));
    }
    // Numbers of one subtask: a key.
    for subtask in 0..u64::from(parallelism) {
        let stride = parallelism as usize;
        let places: Vec<usize> = (subtask..rows)
            .step_by(stride)
            .map(|number| first[&number])
            .collect();
        if !places.is_sorted() {
            return Err(format!(
                "seed {seed}: the lines of subtask {subtask} came out of order"
            ));
        }
    }
    Ok(heard.len() - first.len())
}

#[test]
fn a_confirmed_server_has_every_line_and_those_of_a_subtask_in_order() {
    let seeds = seeds(25);
    let ran: Vec<_> = (0..seeds).map(sink_seed).collect();
    let failed: Vec<&String> = ran.iter().filter_map(|seed| seed.as_ref().err()).collect();
    assert!(
        failed.is_empty(),
        "{} of {seeds} failed, e.g. {}",
        failed.len(),
        failed[0]
    );
    let again: usize = ran.iter().flatten().sum();
    assert!(again > 0, "nothing was ever sent again");
}
