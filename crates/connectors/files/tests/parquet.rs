//! Parquet files: the promises of every sink, and that readers of Parquet find the rows.

#![allow(clippy::unwrap_used, reason = "tests")]

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rivermark_connector::conformance::sink::RowOf;
use rivermark_connector::conformance::{SinkBench, check_sink, subtask_info};
use rivermark_connector::{Sink, TwoPhaseSink};
use rivermark_env::RealEnv;
use rivermark_files::FileSink;
use rivermark_files::parquet::Parquet;
use rivermark_types::{CheckpointId, ErrorKind};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Warm,
    Cold,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Place {
    x: f32,
    y: f32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Row {
    number: u64,
    text: String,
    kind: Kind,
    maybe: Option<i32>,
    places: Vec<Place>,
}

fn row(number: u64) -> Row {
    Row {
        number,
        text: format!("row {number}"),
        kind: if number.is_multiple_of(2) {
            Kind::Warm
        } else {
            Kind::Cold
        },
        maybe: number.is_multiple_of(3).then_some(number as i32),
        places: (0..number % 4).map(|n| Place { x: n as f32, y: 0.5 }).collect(),
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
        self.dir.path().join("out")
    }

    fn names(&self, hidden: bool) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.out()) else {
            return Vec::new();
        };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with('.') == hidden).collect()
    }

    /// What any reader of Parquet finds in the finished files.
    fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for name in self.names(false) {
            let bytes = bytes::Bytes::from(fs::read(self.out().join(name)).unwrap());
            for batch in ParquetRecordBatchReaderBuilder::try_new(bytes)
                .unwrap()
                .build()
                .unwrap()
            {
                rows.extend(serde_arrow::from_record_batch::<Vec<Row>>(&batch.unwrap()).unwrap());
            }
        }
        rows
    }
}

impl SinkBench for Bench {
    type Sink = FileSink<Parquet<Row>>;
    fn sink(&self) -> FileSink<Parquet<Row>> {
        FileSink::parquet(self.out()).with_roll_bytes(self.roll_bytes)
    }
    fn row(&self, number: u64) -> Row {
        row(number)
    }
    async fn visible(&self) -> Vec<String> {
        self.rows().iter().map(|row| format!("{row:?}")).collect()
    }
    fn text(&self, row: &RowOf<Self>) -> String {
        format!("{row:?}")
    }
    async fn leftovers(&self) -> Vec<String> {
        self.names(true)
    }
}

#[test]
fn the_parquet_sink_conforms() {
    let world = RealEnv::start().unwrap();
    for roll_bytes in [1, 1 << 20] {
        world
            .block_on(check_sink(&world.env(), || Bench::new(roll_bytes)))
            .unwrap();
    }
}

#[test]
fn large_files_roll_and_keep_every_row_in_its_order() {
    let (world, bench) = (RealEnv::start().unwrap(), Bench::new(200_000));
    let env = world.env();
    world.block_on(async {
        let mut writer = bench.sink().writer(&env, &subtask_info(1, 1, 0, 1)).unwrap();
        writer.abort_unlisted().await.unwrap();
        for start in 0..10 {
            writer
                .write((start * 3000..start * 3000 + 3000).map(row).collect())
                .await
                .unwrap();
        }
        let parts = writer.prepare(CheckpointId(1)).await.unwrap();
        assert!(
            parts.len() > 1 && parts.iter().all(|part| part.name.ends_with(".parquet")),
            "{parts:?}"
        );
        writer.commit(parts).await.unwrap();
        let mut rows = bench.rows();
        rows.sort_by_key(|row| row.number);
        assert_eq!(rows, (0..30_000).map(row).collect::<Vec<_>>());
    });
}

#[test]
fn a_row_without_columns_is_refused_in_one_line() {
    let (world, dir) = (RealEnv::start().unwrap(), tempfile::tempdir().unwrap());
    let env = world.env();
    world.block_on(async {
        let sink: FileSink<Parquet<u64>> = FileSink::parquet(dir.path());
        let mut writer = sink.writer(&env, &subtask_info(1, 1, 0, 1)).unwrap();
        writer.abort_unlisted().await.unwrap();
        let failure = writer.write(vec![1]).await.unwrap_err();
        assert_eq!(failure.kind, ErrorKind::Invalid);
        assert!(
            failure.message.contains("u64 cannot be written as Parquet"),
            "{failure}"
        );
        assert_eq!(failure.to_string().lines().count(), 1, "{failure}");
    });
}
