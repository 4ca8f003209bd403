//! A store that keeps its callers waiting: what waits for it, where, and what becomes of it.

use super::*;
use rivermark_storage::{Door, Gated};

fn gated(config: WriterConfig) -> (World, Door) {
    let door = Door::default();
    let blob = |_: &Env, memory| Arc::new(Gated::new(Arc::new(memory), door.clone())) as Arc<dyn Blob>;
    (World::with_blob(config, blob), door)
}

#[test]
fn objects_are_stored_beside_each_other_and_reported_when_all_are() {
    let (mut world, door) = gated(WriterConfig {
        memory_limit: 4 << 20,
        object_target: 1,
        ..WriterConfig::default()
    });
    world.begin(1);
    for start in 0..5u64 {
        world.rows("count", start * 6_000..(start + 1) * 6_000);
    }
    world.done(0);
    // Three come although none of them ends.
    world.real.block_on(door.reached(3));
    assert_eq!(door.came(), 3);
    assert!(world.reports.try_recv().is_err(), "nothing is stored yet");
    door.open();
    let (_, objects) = world.sealed();
    assert_eq!(door.came(), objects.len());
    assert_eq!(world.read(objects, "count", ALL), (0..30_000).collect());
}

#[test]
fn a_store_that_is_away_fills_the_scratch_file_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let config = WriterConfig {
        memory_limit: 1 << 20,
        scratch_dir: Some(dir.path().to_owned()),
        ..WriterConfig::default()
    };
    let (mut world, door) = gated(config);
    world.begin(1);
    for start in 0..40u64 {
        while !world.handle.has_room() {
            std::thread::yield_now();
        }
        world.rows("count", start * 500..(start + 1) * 500);
    }
    let spilled = || {
        let mut files = std::fs::read_dir(dir.path()).unwrap();
        files
            .next()
            .map_or(0, |file| file.unwrap().metadata().unwrap().len())
    };
    while spilled() < 1 << 20 {
        std::thread::yield_now();
    }
    world.done(0);
    door.open();
    let (_, objects) = world.sealed();
    assert_eq!(world.read(objects, "count", ALL), (0..20_000).collect());
}

#[test]
fn pages_beyond_the_hard_limit_at_once_go_to_the_scratch_file() {
    let dir = tempfile::tempdir().unwrap();
    let (mut world, door) = gated(WriterConfig {
        memory_limit: 64 << 10,
        scratch_dir: Some(dir.path().to_owned()),
        ..WriterConfig::default()
    });
    world.begin(1);
    // They turn out larger than they were said to be.
    world.rows_to(&mut world.handle.sink(CHECKPOINT), "count", 0..3_000, 2);
    world.done(0);
    door.open();
    let (_, objects) = world.sealed();
    assert_eq!(world.read(objects, "count", ALL), (0..3_000).collect());
}

#[test]
fn without_any_room_the_checkpoint_is_declined_and_leaves_nothing() {
    let (mut world, door) = gated(WriterConfig {
        memory_limit: 1 << 20,
        ..WriterConfig::default()
    });
    world.begin(1);
    for start in 0..60u64 {
        world.rows("count", start * 500..(start + 1) * 500);
    }
    match world.report() {
        PartReport::Declined {
            checkpoint,
            attempt,
            reason,
        } => {
            assert_eq!((checkpoint, attempt), (CHECKPOINT, Attempt(1)));
            assert!(reason.contains("memory"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    world.done(0);
    door.open();
    world.settle_encoding();
    world.wait_until_empty();
    assert!(world.handle.has_room());
}

#[test]
fn a_full_scratch_file_keeps_walks_waiting_and_grows_no_more() {
    const LIMIT: u64 = 300 << 10;
    let dir = tempfile::tempdir().unwrap();
    let (mut world, door) = gated(WriterConfig {
        memory_limit: 1 << 20,
        scratch_dir: Some(dir.path().to_owned()),
        scratch_limit: LIMIT,
        ..WriterConfig::default()
    });
    let written = |world: &World| {
        // What the writer has taken in so far is in memory or in the file.
        let files = std::fs::read_dir(dir.path()).unwrap();
        let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes <= LIMIT, "{bytes} bytes of scratch files");
        (world.handle.has_room(), bytes)
    };
    world.begin(1);
    // The store is away: once both are full there is no room, however long one waits.
    let mut keys = 0;
    let mut waits = 0;
    while waits < 20_000 {
        match written(&world) {
            (true, _) => {
                world.rows("count", keys..keys + 100);
                keys += 100;
                waits = 0;
            }
            (false, spilled) => {
                waits += u64::from(spilled > 0);
                std::thread::yield_now();
            }
        }
    }
    world.done(0);
    door.open();
    let (_, objects) = world.sealed();
    assert_eq!(world.read(objects, "count", ALL), (0..keys).collect());
}

#[test]
fn a_scratch_file_that_cannot_be_written_declines() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let config = WriterConfig {
        memory_limit: 1 << 18,
        scratch_dir: Some(file.path().join("below a file")),
        ..WriterConfig::default()
    };
    let (mut world, _) = gated(config);
    world.begin(1);
    // An object each, and one more than are stored at once.
    for start in 0..4u64 {
        world.rows("count", start * 1_000..(start + 1) * 1_000);
    }
    world.done(0);
    match world.report() {
        PartReport::Declined { reason, .. } => assert!(reason.contains("scratch"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_abort_while_an_object_is_under_way_leaves_nothing() {
    let (mut world, door) = gated(WriterConfig::default());
    world.begin(1);
    world.rows("count", 0..100);
    world.done(0);
    world.handle.abort(CHECKPOINT);
    // Rows that come late, of a walk that runs to its end.
    world.rows("count", 100..200);
    world.done(1);
    door.open();
    world.settle_encoding();
    world.wait_until_empty();
    assert!(world.handle.has_room());
}
