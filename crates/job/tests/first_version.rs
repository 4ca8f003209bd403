//! A checkpoint written by the first version restores at every later commit: with windows, values, lists, maps and timers,
//! text keys, enums and options, at another parallelism.
//!
//! The fixture was written once, by `RIVERMARK_WRITE_FIXTURE=1 cargo test -p rivermark-job --test first_version`, and is
//! never written again: it stands for the snapshots that users have.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may")]

use rivermark_connector::{CollectionSource, SourceNode, WatermarkStrategy};
use rivermark_env::RealEnv;
use rivermark_files::FileSink;
use rivermark_job::{JobEnd, JobSpec, JobStorage, StartFrom, StartOptions, start};
use rivermark_runtime::operators::{KeyedOp, KeyedOpenCx, Out, Timed, Timer, Tumbling, Window};
use rivermark_runtime::{Program, seams::NoSeams};
use rivermark_state::{Key, ListState, MapState, Timers, ValueState};
use rivermark_stream::StreamEnv;
use rivermark_types::{JobName, Result, Timestamp};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Kind {
    Plain,
    Marked,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Event {
    key: String,
    time: i64,
    kind: Kind,
    note: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Totals {
    windows: u64,
    last: Option<i64>,
}

type Counted = (String, i64, u64);
/// Key, second, the counts of the windows in it, windows so far, and the sums of all seconds so far.
type Told = (String, i64, Vec<u64>, Totals, Vec<u64>);

/// Keeps what windows of a key counted and tells it at every second of event time. What it tells depends only on which rows
/// there were, not on how they came.
#[derive(Default)]
struct Keeper {
    totals: ValueState<String, Totals>,
    sums: ListState<String, u64>,
    seconds: MapState<String, i64, Vec<u64>>,
    timers: Timers<String>,
}

impl KeyedOp<String, Counted, Told> for Keeper {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, String>) -> Result<()> {
        self.totals = cx.value("totals")?;
        self.sums = cx.list("sums")?;
        self.seconds = cx.map("seconds")?;
        self.timers = cx.timers()?;
        Ok(())
    }

    fn row(&mut self, key: &Key<String>, row: Timed<Counted>, _: &mut Out<Told>) -> Result<()> {
        let second = row.event_time()?.0 / 1000 + 1;
        self.seconds.update(key, second).push(row.value.2);
        self.timers.register(key, Timestamp(second * 1000));
        Ok(())
    }

    fn timer(&mut self, key: &Key<String>, at: Timer, out: &mut Out<Told>) -> Result<()> {
        let second = at.time.0 / 1000;
        let mut counts = self.seconds.remove(key, &second).unwrap_or_default();
        counts.sort();
        self.sums.push(key, counts.iter().sum());
        let totals = self.totals.update(key);
        totals.windows += counts.len() as u64;
        totals.last = Some(second);
        out.emit((
            key.value.clone(),
            second,
            counts,
            totals.clone(),
            self.sums.get(key).to_vec(),
        ));
        Ok(())
    }
}

const ROWS: u64 = 3_000;

fn events() -> Vec<Event> {
    let event = |i: u64| Event {
        key: format!("key-{}", (i * 7) % 23),
        time: i as i64 * 10 + (i as i64 * 7919) % 300,
        kind: if i.is_multiple_of(3) {
            Kind::Marked
        } else {
            Kind::Plain
        },
        note: i.is_multiple_of(5).then_some(i as u32),
    };
    (0..ROWS).map(event).collect()
}

fn program(dir: &Path, parallelism: u32, rate: u64) -> Program {
    let strategy = WatermarkStrategy::bounded_out_of_orderness(Duration::from_millis(400))
        .with_timestamp(|event: &Event| Timestamp(event.time));
    let source = SourceNode::new(CollectionSource::new(events()).with_splits(3), strategy).rate(rate);
    let env = StreamEnv::new();
    env.set_parallelism(parallelism);
    env.from_source_node(source)
        .uid("events")
        .key_by(|event: &Event| event.key.clone())
        .window(Tumbling::of(Duration::from_millis(250)))
        .fold(
            |acc: &mut (u64, Option<u32>), event: Event| {
                acc.0 += if event.kind == Kind::Marked { 2 } else { 1 };
                acc.1 = acc.1.max(event.note);
            },
            |key: &String, window: Window, acc: (u64, Option<u32>)| (key.clone(), window.start.0, acc.0),
        )
        .uid("windows")
        .key_by(|counted: &Counted| counted.0.clone())
        .process(Keeper::default)
        .uid("keeper")
        .sink_to(FileSink::json(dir.join("out")))
        .name("files")
        .uid("sink");
    env.build().unwrap()
}

async fn run(dir: &Path, from: StartFrom, parallelism: u32, stop: bool) -> Result<JobEnd> {
    let real = RealEnv::start().unwrap();
    let env = real.env();
    let program = program(dir, parallelism, if stop { 1_500 } else { 1_000_000 });
    let name = JobName::from("first-version");
    let spec = JobSpec {
        storage: JobStorage::in_dir(&env, dir, &name).await?,
        name,
        program,
        chaining: true,
        options: StartOptions {
            from,
            ..StartOptions::default()
        },
        checkpoints: Default::default(),
        restarts: Default::default(),
        limits: Default::default(),
        writer: Default::default(),
        seams: Arc::new(NoSeams),
    };
    let handle = start(&env, spec).await?;
    if stop {
        // About half of the input, by whatever clock: the fixture is what it is.
        env.sleep(Duration::from_millis(1_000)).await;
        handle.stop();
    }
    let control = handle.control();
    let end = handle.wait().await;
    let stats = control.stats();
    assert_eq!(stats.late(), 0, "the input is within its bound");
    end
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/first-version")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

/// The rows of all finished files, sorted.
fn finished(dir: &Path) -> Vec<String> {
    let mut lines = vec![];
    for entry in std::fs::read_dir(dir.join("out")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(!name.starts_with('.'), "{name} is left over");
        lines.extend(std::fs::read_to_string(path).unwrap().lines().map(str::to_owned));
    }
    lines.sort();
    lines
}

/// Writes the fixture: stops a run half-way and keeps its directory, checkpoint and finished files.
fn write_fixture() {
    let dir = fixture();
    assert!(
        !dir.exists(),
        "the fixture stands for what users have: it is never written again"
    );
    let real = RealEnv::start().unwrap();
    let end = real.block_on(run(&dir, StartFrom::Unsaid, 2, true)).unwrap();
    assert!(matches!(end, JobEnd::Stopped(_)), "{end:?}");
}

#[test]
fn a_checkpoint_of_the_first_version_restores_at_another_parallelism() {
    if std::env::var_os("RIVERMARK_WRITE_FIXTURE").is_some() {
        write_fixture();
    }
    let real = RealEnv::start().unwrap();
    let temp = tempfile::tempdir().unwrap();
    let whole = temp.path().join("whole");
    let end = real.block_on(run(&whole, StartFrom::Unsaid, 2, false));
    assert_eq!(end.unwrap(), JobEnd::Finished);
    let whole = finished(&whole);

    for parallelism in [1, 2, 3] {
        let dir = temp.path().join(format!("resumed-{parallelism}"));
        copy(&fixture(), &dir);
        let before = finished(&dir).len();
        assert!(
            before > 20 && before < whole.len(),
            "the fixture holds half a run"
        );
        let end = real.block_on(run(&dir, StartFrom::Latest, parallelism, false));
        assert_eq!(end.unwrap(), JobEnd::Finished);
        let same = finished(&dir) == whole;
        assert!(
            same,
            "parallelism {parallelism}: {} and {}",
            finished(&dir).len(),
            whole.len()
        );
    }
}

/// With three splits and two readers, readers find nothing left while others still read: their silence must not let time
/// pass. (Once it did, and the last windows fired late.)
#[test]
fn the_output_does_not_depend_on_how_channels_interleave() {
    let real = RealEnv::start().unwrap();
    let temp = tempfile::tempdir().unwrap();
    let mut outputs = (0..12).map(|run_number| {
        let dir = temp.path().join(run_number.to_string());
        let parallelism = 1 + run_number % 3;
        let end = real.block_on(run(&dir, StartFrom::Unsaid, parallelism, false));
        assert_eq!(end.unwrap(), JobEnd::Finished);
        finished(&dir)
    });
    let first = outputs.next().unwrap();
    assert!(outputs.all(|output| output == first));
}
