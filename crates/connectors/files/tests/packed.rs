//! Files packed with zstd: as the reference program writes them, in several frames, cut off, and damaged.

#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use rivermark_connector::conformance::{check_source, source::read_split, subtask_info};
use rivermark_connector::{ReaderCx, Source, SplitEnumerator};
use rivermark_env::RealEnv;
use rivermark_files::FileSource;
use rivermark_types::{ErrorKind, Failure};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use std::fs;

/// 60,000 lines: number n is `n % 1000`, a colon, and `n % 7` times an x; by `zstd -19`, with its checksum.
const PACKED: &[u8] = include_bytes!("fixtures/lines.txt.zst");

fn lines() -> Vec<String> {
    (0..60_000)
        .map(|n| format!("{}:{}", n % 1000, "x".repeat(n % 7)))
        .collect()
}

fn zstd(text: &[u8]) -> Vec<u8> {
    compress_to_vec(text, CompressionLevel::Fastest)
}

/// All lines of a file with these bytes.
fn read(packed: &[u8]) -> Result<Vec<String>, Failure> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.txt.zst"), packed).unwrap();
    let world = RealEnv::start().unwrap();
    let env = world.env();
    let source = FileSource::lines(dir.path());
    world.block_on(async {
        let split = source.enumerator(&env)?.discover(1).await?.splits.remove(0);
        let cx = |waker| ReaderCx {
            env: env.clone(),
            info: subtask_info(1, 1, 0, 1),
            waker,
        };
        let rows = read_split(&source, cx, &split, 0, 4096).await?;
        Ok(rows.into_iter().map(|(row, _)| row).collect())
    })
}

#[test]
fn a_zstd_file_conforms() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.txt.zst"), zstd(b"one\ntwo\n\nfour")).unwrap();
    fs::write(dir.path().join("b.txt.ZST"), zstd(b"five\n")).unwrap();
    fs::write(dir.path().join("c.txt.zst"), zstd(b"")).unwrap();
    let world = RealEnv::start().unwrap();
    let expected = ["one", "two", "", "four", "five"].map(str::to_owned);
    let source = FileSource::lines(dir.path()).with_split_bytes(3);
    world
        .block_on(check_source(&world.env(), &source, &expected))
        .unwrap();
}

#[test]
fn what_the_reference_program_packed_is_read_frame_by_frame() {
    assert_eq!(read(PACKED).unwrap(), lines());
    // Another frame behind it, and between them one that says nothing (as parallel packers write).
    let skipped = [0x50, 0x2a, 0x4d, 0x18, 5, 0, 0, 0, 1, 2, 3, 4, 5];
    let several = [PACKED, &skipped, PACKED, &skipped].concat();
    assert_eq!(read(&several).unwrap(), [lines(), lines()].concat());
}

fn assert_damaged(failure: &Failure) {
    assert_eq!(failure.kind, ErrorKind::Data);
    for part in ["a.txt.zst", "damaged zstd", "byte", "undamaged copy"] {
        assert!(failure.message.contains(part), "{part} in {failure}");
    }
}

#[test]
fn a_file_that_is_cut_off_or_is_none_is_named() {
    for len in [1, 4, 9, 100, PACKED.len() / 2, PACKED.len() - 4, PACKED.len() - 1] {
        assert_damaged(&read(&PACKED[..len]).unwrap_err());
    }
    assert_damaged(&read(b"plain text under a wrong name\n").unwrap_err());
    assert_damaged(&read(&[PACKED, b"more"].concat()).unwrap_err());
    // A header that asks for a window of 3 TB.
    let huge = [
        0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_damaged(&read(&huge).unwrap_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    /// The checksum finds what the format itself does not.
    #[test]
    fn damage_is_found(at in 0..PACKED.len(), bits in 1..=255u8) {
        let mut bytes = PACKED.to_vec();
        bytes[at] ^= bits;
        match read(&bytes) {
            Err(failure) => prop_assert_eq!(failure.kind, ErrorKind::Data),
            Ok(rows) => prop_assert!(rows == lines() || at == 4, "byte {}", at),
        }
    }
}
