//! The file source against real files: the promises of every source, and what is peculiar to files.

#![allow(clippy::unwrap_used, reason = "tests")]

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use rivermark_connector::conformance::{check_source, source::read_split, subtask_info};
use rivermark_connector::{Peek, ReaderCx, Source, SplitEnumerator};
use rivermark_env::{Env, RealEnv};
use rivermark_files::{FileSource, FileSplit};
use rivermark_format::Decode;
use rivermark_types::{ErrorKind, Failure};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write;
use std::path::Path;
use tempfile::TempDir;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Row {
    id: u32,
    name: String,
}

fn row(id: u32, name: &str) -> Row {
    Row {
        id,
        name: name.to_owned(),
    }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn dir_of(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

async fn splits<F: Decode>(env: &Env, source: &FileSource<F>) -> Result<Vec<FileSplit>, Failure> {
    Ok(source.enumerator(env)?.discover(2).await?.splits)
}

/// All rows in the order of the splits.
async fn rows<F: Decode>(env: &Env, source: &FileSource<F>) -> Result<Vec<F::Row>, Failure> {
    let mut rows = Vec::new();
    for split in splits(env, source).await? {
        let cx = |waker| ReaderCx {
            env: env.clone(),
            info: subtask_info(1, 1, 0, 1),
            waker,
        };
        rows.extend(
            read_split(source, cx, &split, 0, 100)
                .await?
                .into_iter()
                .map(|(row, _)| row),
        );
    }
    Ok(rows)
}

#[test]
fn text_and_csv_conform_at_every_split_size() {
    let text = "id,name\r\n1,one\n\n2,\"two, too\"\n3,\n40,forty\r\n5,last";
    let expected = [
        row(1, "one"),
        row(2, "two, too"),
        row(3, ""),
        row(40, "forty"),
        row(5, "last"),
    ];
    let dir = dir_of(&[
        ("a.csv", text.as_bytes()),
        ("b.csv.gz", &gzip(b"name,id\nsix,6\n")),
        ("c.csv", b"id,name\n"),
    ]);
    let expected: Vec<Row> = expected.into_iter().chain([row(6, "six")]).collect();
    let lines: Vec<String> = text
        .lines()
        .map(str::to_owned)
        .chain(["name,id".into(), "six,6".into(), "id,name".into()])
        .collect();
    let world = RealEnv::start().unwrap();
    for size in 1..=text.len() as u64 + 1 {
        let csv = FileSource::csv(dir.path()).with_split_bytes(size);
        world
            .block_on(check_source::<FileSource<_>>(&world.env(), &csv, &expected))
            .unwrap();
        let text = FileSource::lines(dir.path()).with_split_bytes(size);
        world.block_on(check_source(&world.env(), &text, &lines)).unwrap();
    }
}

#[test]
fn files_larger_than_the_pieces_they_are_read_in_conform() {
    let lines: Vec<String> = (0..30_000)
        .map(|n| format!("{n}:{}", "x".repeat(n % 97)))
        .collect();
    let text = lines.join("\n");
    let dir = dir_of(&[("a.txt", text.as_bytes()), ("b.txt.gz", &gzip(text.as_bytes()))]);
    let world = RealEnv::start().unwrap();
    let twice: Vec<String> = lines.iter().chain(&lines).cloned().collect();
    for size in [100_000, 1 << 30] {
        let source = FileSource::lines(dir.path()).with_split_bytes(size);
        assert_eq!(world.block_on(rows(&world.env(), &source)).unwrap(), twice);
    }
    // Resumed in the middle of the packed file.
    let source = FileSource::lines(dir.path().join("b.txt.gz"));
    let env = world.env();
    let rest = world.block_on(async {
        let split = splits(&env, &source).await?.remove(0);
        let cx = |waker| ReaderCx {
            env: env.clone(),
            info: subtask_info(1, 1, 0, 1),
            waker,
        };
        let at: usize = lines[..20_000].iter().map(|line| line.len() + 1).sum();
        read_split(&source, cx, &split, at as u64, 4096).await
    });
    let rest: Vec<String> = rest.unwrap().into_iter().map(|(row, _)| row).collect();
    assert_eq!(rest, lines[20_000..]);
}

#[test]
fn directories_are_read_in_the_order_of_names_without_hidden_files() {
    let dir = dir_of(&[
        ("b.txt", b"b"),
        ("a.txt", b"a\n"),
        (".c.txt", b"no"),
        ("_d.txt", b"no"),
        ("e.txt", b""),
    ]);
    fs::create_dir(dir.path().join("sub")).unwrap();
    let world = RealEnv::start().unwrap();
    let source = FileSource::lines(dir.path());
    assert_eq!(world.block_on(rows(&world.env(), &source)).unwrap(), ["a", "b"]);
    let chosen = FileSource::new(
        ["b.txt", "a.txt"].map(|name| dir.path().join(name)),
        rivermark_format::Lines,
    );
    assert_eq!(world.block_on(rows(&world.env(), &chosen)).unwrap(), ["b", "a"]);
}

#[test]
fn quoted_line_breaks_are_read_when_asked_for() {
    let dir = dir_of(&[("a.csv", b"id,name\n1,\"two\nlines\"\n2,x\n")]);
    let world = RealEnv::start().unwrap();
    let source = FileSource::csv(dir.path()).with_split_bytes(3);
    let failure = world
        .block_on(rows::<rivermark_format::Csv<Row>>(&world.env(), &source))
        .unwrap_err();
    assert!(failure.message.contains("with_quoted_newlines"), "{failure}");
    let source = source.with_quoted_newlines();
    let expected = [row(1, "two\nlines"), row(2, "x")];
    world
        .block_on(check_source(&world.env(), &source, &expected))
        .unwrap();
}

fn failure_of(path: &Path) -> Failure {
    let world = RealEnv::start().unwrap();
    let source = FileSource::csv(path);
    world
        .block_on(rows::<rivermark_format::Csv<Row>>(&world.env(), &source))
        .unwrap_err()
}

#[test]
fn bad_input_is_named_with_its_place() {
    let text = b"id,name\n1,one\n\nx,two\n3,three\n";
    let mut cut = gzip(&text.repeat(50));
    cut.truncate(cut.len() / 2);
    let dir = dir_of(&[
        ("a.csv", text),
        ("b.csv.gz", &gzip(text)),
        ("c.csv.gz", &cut),
        ("d.csv.gz", b"no gzip at all"),
    ]);
    for name in ["a.csv", "b.csv.gz"] {
        let failure = failure_of(&dir.path().join(name));
        assert_eq!(failure.kind, ErrorKind::Data);
        for part in [
            &format!("{name}:4: "),
            "column id",
            "integer",
            "\"x\"",
            "correct the line",
        ] {
            assert!(failure.message.contains(part), "{part} in {failure}");
        }
    }
    for name in ["c.csv.gz", "d.csv.gz"] {
        let failure = failure_of(&dir.path().join(name));
        assert_eq!(failure.kind, ErrorKind::Data);
        assert!(
            failure.message.contains(name) && failure.message.contains("damaged gzip"),
            "{failure}"
        );
    }
    let failure = failure_of(&dir.path().join("none.csv"));
    assert_eq!(failure.kind, ErrorKind::Invalid);
    assert!(failure.message.contains("none.csv"), "{failure}");
}

#[test]
fn a_broken_line_is_handed_out_as_it_is_and_reading_goes_on_behind_it() {
    let dir = dir_of(&[("a.csv", b"id,name\n1,one\nx,two\n3,three\n")]);
    let world = RealEnv::start().unwrap();
    let env = world.env();
    world.block_on(async {
        let source = FileSource::<rivermark_format::Csv<Row>>::csv(dir.path());
        let split = splits(&env, &source).await.unwrap().remove(0);
        assert_eq!(
            source.peek(&env, &split).await.unwrap(),
            Peek::First(row(1, "one"))
        );
        let waker = rivermark_runtime::SlotWaker::default();
        let cx = ReaderCx {
            env: env.clone(),
            info: subtask_info(1, 1, 0, 1),
            waker: waker.clone(),
        };
        let mut reader = source.reader(cx).unwrap();
        use rivermark_connector::{ReadPoll, ReadRows, SplitIndex, SplitReader};
        reader.assign(SplitIndex(0), split, 0).unwrap();
        let mut out = ReadRows::default();
        while reader.next(10, &mut out).unwrap() == ReadPoll::Pending {
            waker.woken().await;
        }
        assert_eq!(
            (out.values(), out.resume()),
            (&[row(1, "one"), row(3, "three")][..], 28)
        );
        let bad: Vec<_> = out.undecodable().collect();
        assert_eq!((bad.len(), &*bad[0].bytes), (1, &b"x,two"[..]));
        assert!(bad[0].error.contains("a.csv:3: "), "{}", bad[0].error);
    });
}

#[test]
fn a_file_that_became_shorter_is_an_error_and_one_that_grew_is_not_read_further() {
    let dir = dir_of(&[("a.txt", b"one\ntwo\n")]);
    let path = dir.path().join("a.txt");
    let world = RealEnv::start().unwrap();
    let env = world.env();
    world.block_on(async {
        let source = FileSource::lines(&path);
        let split = splits(&env, &source).await.unwrap().remove(0);
        let cx = |waker| ReaderCx {
            env: env.clone(),
            info: subtask_info(1, 1, 0, 1),
            waker,
        };
        fs::write(&path, "one\ntwo\nthree\n").unwrap();
        assert_eq!(
            read_split(&source, cx, &split, 4, 9).await.unwrap(),
            [("two".to_owned(), 8)]
        );
        fs::write(&path, "one\n").unwrap();
        let failure = read_split(&source, cx, &split, 0, 9).await.unwrap_err();
        assert!(
            failure.kind == ErrorKind::Invalid && failure.message.contains("shorter"),
            "{failure}"
        );
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_line_is_read_once(lines in prop::collection::vec("[a-c]{0,9}", 0..30), size in 1..40u64, crlf: bool, end: bool) {
        let separator = if crlf { "\r\n" } else { "\n" };
        let mut text = lines.join(separator);
        // A last empty line without a line end cannot be told from no line.
        if end || lines.last().is_some_and(String::is_empty) {
            text.push_str(separator);
        }
        let expected: Vec<String> = if lines.is_empty() && text.is_empty() { Vec::new() } else { text.lines().map(str::to_owned).collect() };
        let dir = dir_of(&[("a.txt", text.as_bytes())]);
        let world = RealEnv::start().unwrap();
        let source = FileSource::lines(dir.path()).with_split_bytes(size);
        prop_assert_eq!(world.block_on(rows(&world.env(), &source)).unwrap(), expected);
    }
}
