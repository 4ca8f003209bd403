//! A restart inside the process reads its local copies, and the store where they are of no use.
#![allow(clippy::unwrap_used, reason = "a test may")]

use rivermark_connector::{CollectSink, Collected};
use rivermark_env::RealEnv;
use rivermark_job::explain::{RecoveryRecord, explain_recovery};
use rivermark_job::history::Records;
use rivermark_job::{JobControl, JobEnd, JobSpec, JobStorage, StartOptions, start};
use rivermark_protocol::coordinator::CoordinatorConfig;
use rivermark_protocol::restart::RestartStrategy;
use rivermark_runtime::Program;
use rivermark_runtime::seams::NoSeams;
use rivermark_state::{LocalCounts, WriterConfig};
use rivermark_storage::{Faults, Faulty, Operation};
use rivermark_stream::StreamEnv;
use rivermark_types::JobName;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

const KEYS: u64 = 9_000;
/// Not lit.
const NEVER: i64 = i64::MIN;

/// Counts rows by key, and gives each count out; fails when the fuse is at nought.
fn program(fuse: &Arc<AtomicI64>, out: &Collected<(u64, u64)>) -> Program {
    let env = StreamEnv::new();
    env.set_parallelism(2);
    let fuse = fuse.clone();
    env.generate(100_000, |number| (number % KEYS, 1))
        .uid("rows")
        .key_by(|row: &(u64, u64)| row.0)
        .reduce(move |so_far, row| {
            if fuse.load(Ordering::SeqCst) == 0 && fuse.swap(NEVER, Ordering::SeqCst) == 0 {
                panic!("a planned panic");
            }
            (row.0, so_far.1 + row.1)
        })
        .uid("count")
        .sink_to(CollectSink::new(out.clone()))
        .uid("sink");
    env.build().unwrap()
}

fn spec(program: Program, storage: JobStorage, copy_dir: Option<PathBuf>) -> JobSpec {
    JobSpec {
        name: JobName::from("local"),
        program,
        chaining: true,
        storage,
        options: StartOptions::default(),
        checkpoints: CoordinatorConfig {
            interval: None,
            ..CoordinatorConfig::default()
        },
        restarts: RestartStrategy::FixedDelay {
            attempts: 5,
            delay: Duration::from_millis(1),
        },
        limits: Default::default(),
        writer: WriterConfig {
            object_target: 1,
            copy_dir,
            ..WriterConfig::default()
        },
        seams: Arc::new(NoSeams),
    }
}

/// What a restart came to.
struct Restarted {
    /// Reads of the store.
    reads: u64,
    copies: Option<LocalCounts>,
    record: RecoveryRecord,
}

/// Has a job fail after a checkpoint, with its copies as `hurt` leaves them; whether its output is right.
fn restarted(with_copies: bool, hurt: impl Fn(&[PathBuf])) -> Restarted {
    let real = RealEnv::start().unwrap();
    let env = real.env();
    let dir = tempfile::tempdir().unwrap();
    let (fuse, out) = (Arc::new(AtomicI64::new(NEVER)), Collected::default());
    let reads = Arc::new(AtomicU64::new(0));
    let counted = reads.clone();
    let faults = Faults::new(env.clone(), move |operation| {
        counted.fetch_add(
            u64::from(matches!(operation, Operation::Get | Operation::GetRange)),
            Ordering::SeqCst,
        );
        None
    });
    let storage = JobStorage::in_memory().wrapped(|blob| Arc::new(Faulty::new(blob, faults)), |cas| cas);
    let records = Records::new(storage.history.clone());
    let copy_dir = with_copies.then(|| dir.path().to_owned());
    let result = real.block_on(async {
        let spec = spec(program(&fuse, &out), storage, copy_dir);
        let handle = start(&env, spec).await.unwrap();
        let mut job = handle.control();
        while handle
            .stats()
            .checkpoints
            .last()
            .is_none_or(|newest| newest.rows < KEYS)
        {
            handle.checkpoint_now().await.unwrap();
        }
        if with_copies {
            all_copied(&job, dir.path());
            hurt(&files(dir.path()));
        }
        reads.store(0, Ordering::SeqCst);
        fuse.store(0, Ordering::SeqCst);
        while job.stats().restarts == 0 || !job.stats().is_running() {
            assert!(job.changed().await, "the job has ended");
        }
        let reads = reads.load(Ordering::SeqCst);
        let copies = job.stats().local_copies.map(|copies| copies.counts());
        handle.stop();
        assert!(matches!(handle.wait().await.unwrap(), JobEnd::Stopped(_)));
        let record = records.recovery().await.unwrap();
        Restarted {
            reads,
            copies,
            record,
        }
    });
    check(out.rows());
    assert_eq!(files(dir.path()), Vec::<PathBuf>::new(), "copies are left");
    result
}

/// Waits until the newest checkpoint, and no other, is copied.
fn all_copied(job: &JobControl, dir: &Path) {
    loop {
        let stats = job.stats();
        let newest = stats.checkpoints.last().map_or(0, |newest| newest.bytes);
        let copied = stats.local_copies.map(|copies| copies.counts().bytes);
        if newest > 0 && copied == Some(newest) && bytes_in(dir) == newest {
            return;
        }
        std::thread::yield_now();
    }
}

/// Of files that may go meanwhile.
fn bytes_in(dir: &Path) -> u64 {
    let len = |path: &PathBuf| std::fs::metadata(path).map_or(0, |meta| meta.len());
    files(dir).iter().map(len).sum()
}

/// Each key was counted from one on, without a gap and without a repetition.
fn check(rows: Vec<(u64, u64)>) {
    let mut counts: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    rows.into_iter()
        .for_each(|(key, count)| counts.entry(key).or_default().push(count));
    assert_eq!(counts.len() as u64, KEYS);
    for (key, mut counts) in counts {
        counts.sort_unstable();
        assert!(
            counts.iter().copied().eq(1..=counts.len() as u64),
            "key {key}: {counts:?}"
        );
    }
}

/// The files below a folder.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

#[test]
fn a_restart_inside_the_process_reads_nothing_from_the_store() {
    let restarted = restarted(true, |_| ());
    assert_eq!(restarted.reads, 0);
    let copies = restarted.copies.unwrap();
    assert_eq!(copies.lost, 0);
    let sums = restarted.record.subtasks.iter();
    let (all, local) = sums.fold((0, 0), |(all, local), of| {
        (all + of.bytes, local + of.local_bytes)
    });
    assert!(
        all == local && local > 0 && local <= copies.read,
        "{:?}",
        restarted.record
    );
    let sentence = explain_recovery(&restarted.record);
    assert!(sentence.contains("of it from local copies"), "{sentence}");
}

#[test]
fn without_copies_the_store_is_read() {
    let restarted = restarted(false, |_| ());
    assert!(restarted.reads > 0 && restarted.copies.is_none());
    let sentence = explain_recovery(&restarted.record);
    assert!(!sentence.contains("local"), "{sentence}");
}

#[test]
fn whatever_happened_to_the_copies_the_restart_is_right() {
    let removed = |files: &[PathBuf]| files.iter().for_each(|file| std::fs::remove_file(file).unwrap());
    let torn = |files: &[PathBuf]| {
        let bytes = std::fs::read(&files[0]).unwrap();
        std::fs::write(&files[0], &bytes[..bytes.len() / 3]).unwrap();
    };
    let damaged = |files: &[PathBuf]| {
        for file in files {
            let mut bytes = std::fs::read(file).unwrap();
            bytes.iter_mut().step_by(1_000).for_each(|byte| *byte ^= 4);
            std::fs::write(file, bytes).unwrap();
        }
    };
    let swapped = |files: &[PathBuf]| {
        assert!(files.len() > 1);
        let (first, last) = (&files[0], &files[files.len() - 1]);
        let bytes = std::fs::read(first).unwrap();
        std::fs::copy(last, first).unwrap();
        std::fs::write(last, bytes).unwrap();
    };
    let hurts: [&dyn Fn(&[PathBuf]); 4] = [&removed, &torn, &damaged, &swapped];
    for (number, hurt) in hurts.into_iter().enumerate() {
        let restarted = restarted(true, hurt);
        let copies = restarted.copies.unwrap();
        assert!(
            restarted.reads > 0 && copies.lost > 0,
            "hurt {number}: {copies:?}"
        );
    }
}
