//! Local copies of checkpoints: which jobs keep them, what happens to them between two attempts of a process, and the planted
//! bug that believes old ones.

use super::book::Book;
use crate::{Draw, Machine};
use bytes::Bytes;
use rivermark_state::image::StateId;
use rivermark_state::{RestoredState, WriterConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Where they are.
pub(crate) const COPIES_DIR: &str = "/copies";

/// Every other job keeps copies, some of them with little room.
pub(crate) fn draw_copies(seed: u64, writer: WriterConfig) -> WriterConfig {
    let draw = &mut Draw::stream(seed, "scenario copies");
    if draw.coin() {
        return writer;
    }
    WriterConfig {
        copy_dir: Some(PathBuf::from(COPIES_DIR)),
        copy_limit: match draw.one_in(4) {
            true => draw.between(1 << 10, 32 << 10),
            false => writer.copy_limit,
        },
        ..writer
    }
}

/// Spoils copies.
pub(crate) struct Spoiler {
    machine: Machine,
    book: Arc<Book>,
    inside: Mutex<(Draw, Vec<Vec<u8>>)>,
}

impl Spoiler {
    pub(crate) fn new(machine: &Machine, draw: Draw, book: &Arc<Book>) -> Spoiler {
        Spoiler {
            machine: machine.clone(),
            book: book.clone(),
            inside: Mutex::new((draw, vec![])),
        }
    }

    /// An attempt is over, the next one not begun: something happens to the copies, or nothing.
    pub(crate) fn between_attempts(&self) {
        let files = files(&self.machine);
        let (draw, older) = &mut *self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if files.is_empty() {
            return;
        }
        let known = std::mem::replace(older, files.values().cloned().collect());
        let paths: Vec<&PathBuf> = files.keys().collect();
        let path = paths[draw.index(paths.len())];
        let bytes = &files[path];
        let put = |bytes: Vec<u8>| {
            // The folder is there.
            let _ = self.machine.put_file(path, bytes);
        };
        let kind = match draw.below(12) {
            0 => {
                files.keys().for_each(|path| self.machine.remove_file(path));
                "local copies lost"
            }
            1 => {
                self.machine.remove_file(path);
                "local copy lost"
            }
            2 => {
                put(bytes[..draw.index(bytes.len().max(1))].to_vec());
                "local copy torn"
            }
            3 if !bytes.is_empty() => {
                let mut bytes = bytes.clone();
                let at = draw.index(bytes.len());
                bytes[at] ^= 1 << draw.below(8);
                put(bytes);
                "local copy damaged"
            }
            4 => {
                put(files[paths[draw.index(paths.len())]].clone());
                "local copy taken for another"
            }
            5 if !known.is_empty() => {
                put(known[draw.index(known.len())].clone());
                "local copy of an older checkpoint"
            }
            _ => return,
        };
        self.book.fault(kind);
    }
}

fn files(machine: &Machine) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut tree = machine.tree();
    tree.retain(|path, _| path.starts_with(COPIES_DIR));
    tree
}

/// Copies that are left when the job is done. Those of a process that was killed went with the start of the next one.
pub(crate) fn check_none_left(tree: &BTreeMap<PathBuf, Vec<u8>>) -> Result<(), String> {
    let left: Vec<&Path> = tree
        .keys()
        .map(PathBuf::as_path)
        .filter(|path| path.starts_with(COPIES_DIR))
        .collect();
    match left.is_empty() {
        true => Ok(()),
        false => Err(format!("local copies are left: {left:?}")),
    }
}

/// The planted bug: what a local copy gives back is taken from the attempt before, which started from an older checkpoint.
#[derive(Default)]
pub(crate) struct Stale {
    older: BTreeMap<StateId, BTreeSet<Bytes>>,
    now: BTreeMap<StateId, BTreeSet<Bytes>>,
}

impl Stale {
    pub(crate) fn attempt(&mut self, is_first: bool) {
        self.older = std::mem::take(&mut self.now);
        if is_first {
            self.older.clear();
        }
    }

    pub(crate) fn restore(&mut self, keyed: &mut RestoredState) {
        let is_local = keyed.local_bytes() > 0;
        let states: Vec<StateId> = keyed.states().cloned().collect();
        for state in states {
            let pages = keyed.take(&state).unwrap_or_default();
            self.now
                .entry(state.clone())
                .or_default()
                .extend(pages.iter().cloned());
            let older = self.older.get(&state).filter(|_| is_local);
            match older {
                Some(older) => older
                    .iter()
                    .for_each(|page| keyed.add(state.clone(), page.clone())),
                None => pages.into_iter().for_each(|page| keyed.add(state.clone(), page)),
            }
        }
    }
}
