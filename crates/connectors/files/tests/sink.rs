//! The file sink against real files: the promises of every sink, its syncs, and what is peculiar to files.

#![allow(clippy::unwrap_used, reason = "tests")]

mod recording;

use recording::Recorder;
use rivermark_connector::conformance::sink::RowOf;
use rivermark_connector::conformance::{SinkBench, check_sink, subtask_info};
use rivermark_connector::{Sink, TwoPhaseSink};
use rivermark_env::RealEnv;
use rivermark_files::FileSink;
use rivermark_format::Csv;
use rivermark_types::{CheckpointId, ErrorKind};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Row {
    number: u64,
    text: String,
}

fn row(number: u64) -> Row {
    Row {
        number,
        text: format!("row, {number}"),
    }
}

struct Bench {
    dir: TempDir,
    roll_bytes: u64,
}

impl Bench {
    fn new(roll_bytes: u64) -> Bench {
        Bench {
            dir: tempfile::tempdir().unwrap(),
            roll_bytes,
        }
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("new").join("out")
    }

    fn names(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.out()) else {
            return Vec::new();
        };
        let mut names: Vec<_> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl SinkBench for Bench {
    type Sink = FileSink<Csv<Row>>;
    fn sink(&self) -> FileSink<Csv<Row>> {
        FileSink::csv(self.out()).with_roll_bytes(self.roll_bytes)
    }
    fn row(&self, number: u64) -> Row {
        row(number)
    }
    async fn visible(&self) -> Vec<String> {
        let mut rows = Vec::new();
        for name in self.names().iter().filter(|name| !name.starts_with('.')) {
            let text = fs::read_to_string(self.out().join(name)).unwrap();
            let mut lines = text.lines();
            assert_eq!(
                lines.next(),
                Some("number,text"),
                "{name} has a header, and no finished file is empty"
            );
            assert!(text.ends_with('\n'), "{name} ends with a whole row");
            rows.extend(lines.map(str::to_owned));
        }
        rows
    }
    fn text(&self, row: &RowOf<Self>) -> String {
        format!("{},\"{}\"", row.number, row.text)
    }
    async fn leftovers(&self) -> Vec<String> {
        self.names()
            .into_iter()
            .filter(|name| name.starts_with('.'))
            .collect()
    }
}

#[test]
fn the_file_sink_conforms() {
    let world = RealEnv::start().unwrap();
    for roll_bytes in [1, 30, 1 << 20] {
        world
            .block_on(check_sink(&world.env(), || Bench::new(roll_bytes)))
            .unwrap();
    }
}

#[test]
fn files_are_named_rolled_and_have_a_header_each() {
    let (world, bench) = (RealEnv::start().unwrap(), Bench::new(10_000));
    let env = world.env();
    world.block_on(async {
        let mut writer = bench.sink().writer(&env, &subtask_info(7, 3, 0, 1)).unwrap();
        writer.commit(Vec::new()).await.unwrap();
        writer.abort_unlisted().await.unwrap();
        writer.write((0..2000).map(row).collect()).await.unwrap();
        let parts = writer.prepare(CheckpointId(1)).await.unwrap();
        assert!(parts.len() > 1, "{parts:?}");
        assert!(
            bench
                .names()
                .iter()
                .all(|name| name.starts_with(".part-g7-a3-s0-")),
            "{:?}",
            bench.names()
        );
        writer.commit(parts.clone()).await.unwrap();
        let names: Vec<String> = (0..parts.len())
            .map(|n| format!("part-g7-a3-s0-{n}.csv"))
            .collect();
        assert_eq!(bench.names(), names);
        for (part, name) in parts.iter().zip(&names) {
            assert_eq!(fs::metadata(bench.out().join(name)).unwrap().len(), part.len);
        }
        assert_eq!(bench.visible().await.len(), 2000);
    });
}

/// What must be synced, in which order, and nothing more.
#[test]
fn every_sync_is_where_it_is_needed_and_nowhere_else() {
    let (world, bench) = (RealEnv::start().unwrap(), Bench::new(1 << 20));
    let recorder = Recorder::new(&world.env());
    let env = recorder.env();
    let root = bench.dir.path().to_owned();
    world.block_on(async {
        let mut writer = bench.sink().writer(&env, &subtask_info(1, 1, 0, 1)).unwrap();
        writer.commit(Vec::new()).await.unwrap();
        writer.abort_unlisted().await.unwrap();
        let above = root.parent().unwrap().display().to_string();
        let created = recorder.take(Path::new(&above));
        let top = root.file_name().unwrap().to_str().unwrap();
        let expected = [
            "sync_dir ".to_owned(),
            format!("create_dir {top}/new"),
            format!("sync_dir {top}"),
            format!("create_dir {top}/new/out"),
            format!("sync_dir {top}/new"),
        ];
        assert_eq!(created, expected);

        writer.write(vec![row(1)]).await.unwrap();
        writer.write(vec![row(2)]).await.unwrap();
        let parts = writer.prepare(CheckpointId(1)).await.unwrap();
        let hidden = ".part-g1-a1-s0-0.csv.inprogress";
        let prepared = [
            format!("create {hidden}"),
            format!("write {hidden}"),
            format!("sync {hidden}"),
            "sync_dir ".into(),
        ];
        assert_eq!(recorder.take(&bench.out()), prepared);

        writer.commit(parts.clone()).await.unwrap();
        assert_eq!(
            recorder.take(&bench.out()),
            [&format!("rename {hidden} part-g1-a1-s0-0.csv"), "sync_dir "]
        );
        writer.commit(parts).await.unwrap();
        assert_eq!(
            recorder.take(&bench.out()),
            [&format!("rename {hidden} part-g1-a1-s0-0.csv"), "sync_dir "]
        );

        // Nothing written: nothing to do.
        let parts = writer.prepare(CheckpointId(2)).await.unwrap();
        writer.commit(parts).await.unwrap();
        assert!(recorder.take(&bench.out()).is_empty());

        // The next attempt removes what is hidden, and makes that durable.
        writer.write(vec![row(3)]).await.unwrap();
        drop(writer);
        recorder.take(&bench.out());
        let mut next = bench.sink().writer(&env, &subtask_info(1, 2, 0, 1)).unwrap();
        next.abort_unlisted().await.unwrap();
        let removed = recorder.take(&bench.out());
        assert!(
            removed.ends_with(&[
                "remove .part-g1-a1-s0-1.csv.inprogress".into(),
                "sync_dir ".into()
            ]),
            "{removed:?}"
        );
    });
}

#[test]
fn a_full_disk_is_one_clear_line() {
    let (world, bench) = (RealEnv::start().unwrap(), Bench::new(1 << 20));
    let recorder = Recorder::new(&world.env());
    let env = recorder.env();
    world.block_on(async {
        let mut writer = bench.sink().writer(&env, &subtask_info(1, 1, 0, 1)).unwrap();
        writer.abort_unlisted().await.unwrap();
        recorder.fill_disk();
        writer.write(vec![row(1)]).await.unwrap();
        let failure = writer.prepare(CheckpointId(1)).await.unwrap_err();
        assert_eq!(failure.kind, ErrorKind::External);
        for part in [".part-g1-a1-s0-0.csv", "the disk is full", "free space"] {
            assert!(failure.to_string().contains(part), "{part} in {failure}");
        }
        assert_eq!(failure.to_string().lines().count(), 1);
    });
}

#[test]
fn what_somebody_else_did_to_the_directory_is_told() {
    let (world, bench) = (RealEnv::start().unwrap(), Bench::new(1 << 20));
    let env = world.env();
    world.block_on(async {
        let mut writer = bench.sink().writer(&env, &subtask_info(1, 1, 0, 1)).unwrap();
        writer.abort_unlisted().await.unwrap();
        fs::write(bench.out().join("notes.txt"), "mine").unwrap();
        writer.write(vec![row(1)]).await.unwrap();
        let parts = writer.prepare(CheckpointId(1)).await.unwrap();
        writer.commit(parts.clone()).await.unwrap();

        // A second run that knows nothing of the first.
        let mut second = bench.sink().writer(&env, &subtask_info(1, 1, 0, 1)).unwrap();
        let failure = second.abort_unlisted().await.unwrap_err();
        assert!(
            failure.kind == ErrorKind::Invalid && failure.message.contains("emptied directory"),
            "{failure}"
        );

        fs::remove_file(bench.out().join("part-g1-a1-s0-0.csv")).unwrap();
        let failure = writer.commit(parts).await.unwrap_err();
        assert_eq!(failure.kind, ErrorKind::Invalid);
        assert!(
            failure.message.contains("/.part-g1-a1-s0-0.csv.inprogress"),
            "{failure}"
        );
        assert!(failure.message.contains("/part-g1-a1-s0-0.csv,"), "{failure}");
        assert_eq!(bench.names(), ["notes.txt"]);

        fs::write(bench.dir.path().join("file"), "").unwrap();
        let sink = FileSink::<Csv<Row>>::csv(bench.dir.path().join("file"));
        let failure = sink
            .writer(&env, &subtask_info(1, 1, 0, 1))
            .unwrap()
            .abort_unlisted()
            .await
            .unwrap_err();
        assert!(
            failure.kind == ErrorKind::Invalid && failure.message.contains("no directory"),
            "{failure}"
        );
    });
}
