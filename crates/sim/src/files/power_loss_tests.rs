//! Random operations on a disk, a loss of power, and what a model says must and may be left.

use super::disk::Disk;
use crate::draw::Draw;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

const DIRS: [&str; 2] = ["/a", "/b"];

#[derive(Clone, Debug)]
enum Op {
    Create(Name),
    Append(Name, u8),
    SyncFile(Name),
    Rename(Name, Name),
    Link(Name, Name),
    Remove(Name),
    SyncDir(usize),
}

type Name = (usize, u8);

fn name() -> impl Strategy<Value = Name> {
    (0..DIRS.len(), 0u8..3)
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        3 => name().prop_map(Op::Create),
        4 => (name(), 1u8..9).prop_map(|(name, len)| Op::Append(name, len)),
        3 => name().prop_map(Op::SyncFile),
        2 => (name(), name()).prop_map(|(from, to)| Op::Rename(from, to)),
        2 => (name(), name()).prop_map(|(from, to)| Op::Link(from, to)),
        1 => name().prop_map(Op::Remove),
        2 => (0..DIRS.len()).prop_map(Op::SyncDir),
    ];
    prop::collection::vec(op, 0..40)
}

fn path((dir, file): Name) -> PathBuf {
    PathBuf::from(format!("{}/{file}", DIRS[dir]))
}

/// The model: every name with what it may be after a loss of power, the last being what it is now; every file's bytes.
#[derive(Default)]
struct Model {
    names: BTreeMap<Name, Vec<Option<usize>>>,
    files: Vec<(Vec<u8>, usize)>,
}

impl Model {
    fn now(&self, name: Name) -> Option<usize> {
        self.names
            .get(&name)
            .and_then(|history| history.last().copied().flatten())
    }

    fn set(&mut self, name: Name, file: Option<usize>) {
        self.names.entry(name).or_insert_with(|| vec![None]).push(file);
    }

    /// Does the operation here and, if it must succeed, there; it must fail there otherwise.
    fn apply(&mut self, disk: &mut Disk, op: &Op) {
        match *op {
            Op::Create(name) => {
                let vacant = self.now(name).is_none();
                assert_eq!(disk.create_file(&path(name)).is_ok(), vacant);
                if vacant {
                    self.files.push((Vec::new(), 0));
                    self.set(name, Some(self.files.len() - 1));
                }
            }
            Op::Append(name, len) => {
                if let Some(file) = self.now(name) {
                    let bytes: Vec<u8> = (1..=len).collect();
                    disk.append(disk.open(&path(name)).unwrap(), &bytes).unwrap();
                    self.files[file].0.extend(bytes);
                }
            }
            Op::SyncFile(name) => {
                if let Some(file) = self.now(name) {
                    disk.sync_file(disk.open(&path(name)).unwrap());
                    self.files[file].1 = self.files[file].0.len();
                }
            }
            Op::Rename(from, to) => {
                let file = self.now(from);
                assert_eq!(disk.rename(&path(from), &path(to)).is_ok(), file.is_some());
                if file.is_some() && file != self.now(to) {
                    self.set(to, file);
                    self.set(from, None);
                }
            }
            Op::Link(from, to) => {
                let possible = self.now(from).is_some() && self.now(to).is_none();
                assert_eq!(disk.hard_link(&path(from), &path(to)).is_ok(), possible);
                if possible {
                    self.set(to, self.now(from));
                }
            }
            Op::Remove(name) => {
                assert_eq!(disk.remove_file(&path(name)).is_ok(), self.now(name).is_some());
                if self.now(name).is_some() {
                    self.set(name, None);
                }
            }
            Op::SyncDir(dir) => {
                disk.sync_dir(DIRS[dir].as_ref()).unwrap();
                for (_, history) in self.names.iter_mut().filter(|(name, _)| name.0 == dir) {
                    history.drain(..history.len() - 1);
                }
            }
        }
    }

    fn check_live(&self, disk: &Disk) {
        let now: BTreeMap<PathBuf, Vec<u8>> = self
            .names
            .keys()
            .filter_map(|&name| Some((path(name), self.files[self.now(name)?].0.clone())))
            .collect();
        assert_eq!(disk.tree(), now);
    }

    fn check_after_power_loss(&self, disk: &Disk) {
        let tree = disk.tree();
        for (&name, history) in &self.names {
            let left = tree.get(&path(name));
            let explained = history.iter().any(|file| match (file, left) {
                (None, None) => true,
                (&Some(file), Some(left)) => {
                    let (written, synced) = &self.files[file];
                    left.len() <= written.len()
                        && left.len() >= *synced
                        && left.starts_with(&written[..*synced])
                }
                _ => false,
            });
            assert!(explained, "{name:?} is {left:?}, its history {history:?}");
        }
        let known: BTreeSet<_> = self.names.keys().map(|&name| path(name)).collect();
        assert!(tree.keys().all(|path| known.contains(path)), "{tree:?}");
    }
}

fn disk() -> Disk {
    let mut disk = Disk::new();
    for dir in DIRS {
        disk.create_dir(dir.as_ref()).unwrap();
    }
    disk.sync_dir("/".as_ref()).unwrap();
    disk
}

proptest! {
    #[test]
    fn what_was_synced_is_left_and_nothing_unheard_of(ops in ops(), seed: u64) {
        let (mut disk, mut model) = (disk(), Model::default());
        for op in &ops {
            model.apply(&mut disk, op);
            model.check_live(&disk);
        }
        disk.lose_power(&mut Draw::stream(seed, "loss"));
        model.check_after_power_loss(&disk);
        let left = disk.tree();
        disk.lose_power(&mut Draw::stream(seed, "second loss"));
        prop_assert_eq!(disk.tree(), left);
    }
}

/// What power losses under many seeds leave of a disk.
fn outcomes(prepare: impl Fn(&mut Disk)) -> BTreeSet<Vec<(String, Vec<u8>)>> {
    let outcome = |seed| {
        let mut disk = disk();
        prepare(&mut disk);
        disk.lose_power(&mut Draw::stream(seed, "loss"));
        disk.tree()
            .into_iter()
            .map(|(path, bytes)| (path.display().to_string(), bytes))
            .collect()
    };
    (0..200).map(outcome).collect()
}

fn durable(disk: &mut Disk, path: &str) {
    disk.put(path.as_ref(), vec![1]).unwrap();
}

fn named(names: &[&str]) -> Vec<(String, Vec<u8>)> {
    names.iter().map(|&name| (name.to_owned(), vec![1])).collect()
}

#[test]
fn an_unsynced_rename_is_undone_done_or_half_done_but_loses_no_file() {
    let left = outcomes(|disk| {
        durable(disk, "/a/x");
        disk.rename("/a/x".as_ref(), "/a/y".as_ref()).unwrap();
    });
    assert_eq!(
        left,
        BTreeSet::from([named(&["/a/x"]), named(&["/a/y"]), named(&["/a/x", "/a/y"])])
    );
}

#[test]
fn a_rename_between_directories_needs_the_sync_of_the_new_one() {
    let left = outcomes(|disk| {
        durable(disk, "/a/x");
        disk.rename("/a/x".as_ref(), "/b/x".as_ref()).unwrap();
        disk.sync_dir("/a".as_ref()).unwrap();
    });
    assert_eq!(left, BTreeSet::from([named(&[]), named(&["/b/x"])]));
    let left = outcomes(|disk| {
        durable(disk, "/a/x");
        disk.rename("/a/x".as_ref(), "/b/x".as_ref()).unwrap();
        disk.sync_dir("/b".as_ref()).unwrap();
    });
    assert_eq!(left, BTreeSet::from([named(&["/b/x"]), named(&["/a/x", "/b/x"])]));
}

#[test]
fn unsynced_bytes_may_be_gone_cut_or_garbage() {
    let left = outcomes(|disk| {
        let inode = disk.create_file("/a/x".as_ref()).unwrap();
        disk.append(inode, &[1, 2]).unwrap();
        disk.sync_file(inode);
        disk.append(inode, &[3, 4]).unwrap();
        disk.sync_dir("/a".as_ref()).unwrap();
    });
    let contents: BTreeSet<Vec<u8>> = left.into_iter().map(|tree| tree[0].1.clone()).collect();
    for expected in [&[1, 2][..], &[1, 2, 3], &[1, 2, 3, 4], &[1, 2, 0, 0]] {
        assert!(contents.contains(expected), "{expected:?} never happened");
    }
    assert!(
        contents
            .iter()
            .all(|bytes| bytes.starts_with(&[1, 2]) && bytes.len() <= 4)
    );
}

#[test]
fn an_unsynced_directory_takes_its_files_with_it() {
    let left = outcomes(|disk| {
        disk.create_dir("/a/new".as_ref()).unwrap();
        let inode = disk.create_file("/a/new/x".as_ref()).unwrap();
        disk.append(inode, &[1]).unwrap();
        disk.sync_file(inode);
        disk.sync_dir("/a/new".as_ref()).unwrap();
    });
    assert_eq!(left, BTreeSet::from([named(&[]), named(&["/a/new/x"])]));
}

#[test]
fn a_full_disk_takes_what_fits() {
    let mut disk = disk();
    disk.limit_bytes(Some(3));
    let inode = disk.create_file("/a/x".as_ref()).unwrap();
    assert_eq!(
        disk.append(inode, &[1, 2, 3, 4]),
        Err(std::io::ErrorKind::StorageFull)
    );
    assert_eq!(disk.read(inode, 0, 10), [1, 2, 3]);
    disk.remove_file("/a/x".as_ref()).unwrap();
    let inode = disk.create_file("/a/x".as_ref()).unwrap();
    assert_eq!(disk.append(inode, &[5]), Ok(()));
}
