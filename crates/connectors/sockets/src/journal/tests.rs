#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use proptest::prelude::*;
use rivermark_connector::conformance::subtask_info;
use rivermark_env::{Env, RealEnv};
use std::fs;
use tempfile::TempDir;

struct Bench {
    world: RealEnv,
    dir: TempDir,
}

impl Bench {
    fn new() -> Bench {
        Bench {
            world: RealEnv::start().unwrap(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn env(&self) -> Env {
        self.world.env()
    }

    fn dir(&self) -> PathBuf {
        self.dir.path().join("new").join("journal")
    }

    async fn open(&self, who: (u64, u32), position: u64, roll_bytes: u64) -> Result<Journal> {
        let name = JournalName::new(&self.dir(), &subtask_info(who.0, who.1, 0, 1));
        Journal::open(self.env().files().clone(), name, roll_bytes, position).await
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// Everything that is replayed, with where it begins.
async fn replayed(journal: &mut Journal) -> (Option<u64>, Vec<u8>) {
    let mut replay = journal.replay().await.unwrap();
    let (mut begin, mut all) = (None, Vec::new());
    while let Some((offset, records)) = replay.next().await.unwrap() {
        assert_eq!(begin.unwrap_or(offset) + all.len() as u64, offset);
        begin = begin.or(Some(offset));
        all.extend(records);
    }
    (begin, all)
}

#[test]
fn what_was_appended_is_there_from_any_position_on() {
    let bench = Bench::new();
    bench.world.block_on(async {
        for roll_bytes in [1, 10, 1 << 20] {
            let mut journal = bench.open((roll_bytes, 1), 0, roll_bytes).await.unwrap();
            for records in ["a\nbb\n", "ccc\n", "d\n", "eeeeeeeeeeeee\n"] {
                journal.append(records.as_bytes()).await.unwrap();
            }
            assert_eq!(journal.end(), 25);
            drop(journal);
            for (attempt, position) in [(2, 0), (3, 2), (4, 5), (5, 11), (6, 25)] {
                let mut journal = bench
                    .open((roll_bytes, attempt), position, roll_bytes)
                    .await
                    .unwrap();
                let whole = b"a\nbb\nccc\nd\neeeeeeeeeeeee\n";
                assert_eq!(journal.end(), 25);
                assert_eq!(
                    replayed(&mut journal).await.1,
                    whole[position as usize..],
                    "{roll_bytes} {position}"
                );
                assert_eq!(bench.names().len(), 1, "the older files are gone");
            }
            fs::remove_dir_all(bench.dir()).unwrap();
        }
    });
}

#[test]
fn a_cut_off_last_frame_is_as_if_it_had_never_come() {
    let bench = Bench::new();
    bench.world.block_on(async {
        let mut journal = bench.open((1, 1), 0, 1 << 20).await.unwrap();
        journal.append(b"one\ntwo\n").await.unwrap();
        let kept = fs::metadata(&journal.path).unwrap().len();
        journal.append(b"three\n").await.unwrap();
        let (path, bytes) = (journal.path.clone(), fs::read(&journal.path).unwrap());
        drop(journal);
        for len in kept as usize..=bytes.len() {
            for garbage in [0, 50] {
                fs::remove_dir_all(bench.dir()).unwrap();
                fs::create_dir_all(bench.dir()).unwrap();
                let mut cut = bytes[..len].to_vec();
                cut.extend(vec![0; garbage]);
                fs::write(&path, cut).unwrap();
                let mut journal = bench.open((1, 2), 0, 1 << 20).await.unwrap();
                let expected: &[u8] = if len == bytes.len() {
                    b"one\ntwo\nthree\n"
                } else {
                    b"one\ntwo\n"
                };
                assert_eq!(replayed(&mut journal).await.1, expected, "{len} {garbage}");
            }
        }
    });
}

#[test]
fn trimming_removes_whole_files_behind_the_position() {
    let bench = Bench::new();
    bench.world.block_on(async {
        let mut journal = bench.open((1, 1), 0, 1).await.unwrap();
        for _ in 0..5 {
            journal.append(b"12345\n").await.unwrap();
        }
        assert_eq!(bench.names().len(), 5);
        journal.trim(5).await.unwrap();
        assert_eq!(bench.names().len(), 5);
        journal.trim(13).await.unwrap();
        assert_eq!(bench.names().len(), 3);
        drop(journal);
        let failure = bench.open((2, 1), 6, 1).await.err().unwrap();
        assert!(failure.message.contains("begins at byte 12"), "{failure}");
        let failure = bench.open((2, 1), 0, 1).await.err().unwrap();
        assert!(failure.message.contains("earlier run"), "{failure}");
        let failure = bench.open((2, 1), 31, 1).await.err().unwrap();
        assert!(failure.message.contains("ends at byte 30"), "{failure}");
        assert_eq!(
            replayed(&mut bench.open((2, 1), 18, 1).await.unwrap()).await,
            (Some(18), b"12345\n12345\n".to_vec())
        );
    });
}

#[test]
fn older_writers_change_nothing_and_newer_ones_are_left_alone() {
    let bench = Bench::new();
    bench.world.block_on(async {
        let mut zombie = bench.open((1, 1), 0, 1).await.unwrap();
        zombie.append(b"one\n").await.unwrap();
        let mut next = bench.open((2, 1), 0, 1).await.unwrap();
        // It goes on, into a file of its own.
        zombie.append(b"zombie\n").await.unwrap();
        next.append(b"two\n").await.unwrap();
        zombie.append(b"zombie\n").await.unwrap();
        drop((zombie, next));
        let mut third = bench.open((2, 2), 4, 1).await.unwrap();
        assert_eq!(replayed(&mut third).await, (Some(4), b"two\n".to_vec()));
        third.append(b"three\n").await.unwrap();

        let failure = bench.open((1, 9), 0, 1).await.err().unwrap();
        assert_eq!(failure.kind, ErrorKind::Fenced);
        let failure = bench.open((2, 2), 4, 1).await.err().unwrap();
        assert!(
            failure.kind == ErrorKind::Invalid && failure.message.contains("another run"),
            "{failure}"
        );

        // Another source in the same directory.
        let mut info = subtask_info(1, 1, 0, 1);
        info.uid = Some("other".into());
        let name = JournalName::new(&bench.dir(), &info);
        let files = bench.env().files().clone();
        let other = Journal::open(files, name, 1, 0).await.unwrap();
        assert_eq!(other.end(), 0);
        assert_eq!(bench.names().len(), 3);
    });
}

#[test]
fn a_lost_journal_and_a_damaged_one_are_named() {
    let bench = Bench::new();
    bench.world.block_on(async {
        let failure = bench.open((1, 2), 7, 1).await.err().unwrap();
        assert!(
            failure.kind == ErrorKind::Invalid && failure.message.contains("there is none"),
            "{failure}"
        );
        fs::remove_dir_all(bench.dir()).unwrap();

        let mut journal = bench.open((1, 1), 0, 1).await.unwrap();
        journal.append(b"one\n").await.unwrap();
        let first = journal.path.clone();
        journal.append(b"two\n").await.unwrap();
        drop(journal);
        let mut bytes = fs::read(&first).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&first, bytes).unwrap();
        let failure = bench.open((1, 2), 0, 1).await.err().unwrap();
        assert_eq!(failure.kind, ErrorKind::Damaged);
        for part in [first.to_str().unwrap(), "byte 0 of the stream", "instead of 4"] {
            assert!(failure.message.contains(part), "{part} in {failure}");
        }
    });
}

#[test]
fn an_opening_that_is_cut_off_loses_nothing() {
    let bench = Bench::new();
    bench.world.block_on(async {
        let mut journal = bench.open((1, 1), 0, 4).await.unwrap();
        for records in ["one\n", "two\n", "three\n"] {
            journal.append(records.as_bytes()).await.unwrap();
        }
        drop(journal);
        for attempt in 2..80 {
            let mut waits = 0;
            let mut opening = std::pin::pin!(bench.open((1, attempt), 4, 4));
            let opened = std::future::poll_fn(|cx| match opening.as_mut().poll(cx) {
                std::task::Poll::Ready(opened) => std::task::Poll::Ready(Some(opened)),
                std::task::Poll::Pending if waits + 2 == attempt => std::task::Poll::Ready(None),
                std::task::Poll::Pending => {
                    waits += 1;
                    std::task::Poll::Pending
                }
            });
            if let Some(journal) = opened.await {
                assert!(attempt > 5, "it was cut off before");
                assert_eq!(
                    replayed(&mut journal.unwrap()).await,
                    (Some(4), b"two\nthree\n".to_vec())
                );
                return;
            }
        }
        panic!("never opened");
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever the last file holds, opening gives a beginning of what was appended or an error, and never panics.
    #[test]
    fn damage_never_panics(at in 0..60usize, bits in 1..=255u8, cut in 0..60usize) {
        let bench = Bench::new();
        bench.world.block_on(async {
            let mut journal = bench.open((1, 1), 0, 1 << 20).await.unwrap();
            for records in ["one\n", "two\n", "three\n"] {
                journal.append(records.as_bytes()).await.unwrap();
            }
            let path = journal.path.clone();
            drop(journal);
            let mut bytes = fs::read(&path).unwrap();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= bits;
            }
            bytes.truncate(bytes.len().saturating_sub(cut));
            fs::write(&path, bytes).unwrap();
            let mut journal = bench.open((1, 2), 0, 1 << 20).await.unwrap();
            assert!(b"one\ntwo\nthree\n".starts_with(&replayed(&mut journal).await.1));
        });
    }
}
