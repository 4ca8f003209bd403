//! A machine: a disk that outlives its processes, and the faults planted in it.

use super::disk::Disk;
use super::faults::{Fault, FileCall, FileOp, Rule};
use crate::draw::Draw;
use crate::executor::locked;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// A machine of the simulated world; clones are the same machine.
#[derive(Clone)]
pub struct Machine {
    name: Arc<str>,
    inside: Arc<Mutex<Inside>>,
}

pub(super) struct Inside {
    pub(super) disk: Disk,
    pub(super) draw: Draw,
    rules: Vec<Rule>,
    faults: BTreeMap<&'static str, u64>,
}

impl Machine {
    pub(crate) fn new(name: &str, draw: Draw) -> Machine {
        let inside = Inside {
            disk: Disk::new(),
            draw,
            rules: Vec::new(),
            faults: BTreeMap::new(),
        };
        Machine {
            name: name.into(),
            inside: Arc::new(Mutex::new(inside)),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Every file with its contents as processes see it now, sorted by path.
    pub fn tree(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.with(|inside| inside.disk.tree())
    }

    /// Puts a durable file there, with its directories, replacing what was there.
    pub fn put_file(&self, path: impl AsRef<Path>, bytes: impl Into<Vec<u8>>) -> io::Result<()> {
        self.with(|inside| inside.disk.put(path.as_ref(), bytes.into()))
            .map_err(io::Error::from)
    }

    /// Takes a file away, if it is there.
    pub fn remove_file(&self, path: impl AsRef<Path>) {
        // What is not there is gone.
        let _ = self.with(|inside| inside.disk.remove_file(path.as_ref()));
    }

    /// Writes beyond so many bytes of files fail with `StorageFull`; `None` is no limit.
    pub fn limit_bytes(&self, limit: Option<u64>) {
        self.with(|inside| inside.disk.limit_bytes(limit));
    }

    /// Plants a fault: the rule is asked before every call. The first rule that names a fault decides.
    pub fn plant(&self, rule: impl FnMut(&FileCall<'_>, &mut Draw) -> Option<Fault> + Send + 'static) {
        self.with(|inside| inside.rules.push(Box::new(rule)));
    }

    /// Plants the fault that the syncs (of files and directories) which `which` names make nothing durable.
    pub fn lie_about_sync(&self, mut which: impl FnMut(&FileCall<'_>) -> bool + Send + 'static) {
        self.plant(move |call, _| {
            let is_sync = matches!(call.op, FileOp::Sync | FileOp::SyncDir);
            (is_sync && which(call)).then_some(Fault::LieAboutSync)
        });
    }

    /// Takes all planted faults out.
    pub fn heal(&self) {
        self.with(|inside| inside.rules.clear());
    }

    /// How many faults of each kind were met.
    pub fn fault_counts(&self) -> BTreeMap<&'static str, u64> {
        self.with(|inside| inside.faults.clone())
    }

    pub(crate) fn lose_power(&self) {
        self.with(|inside| inside.disk.lose_power(&mut inside.draw));
    }

    pub(crate) fn is_same(&self, other: &Machine) -> bool {
        Arc::ptr_eq(&self.inside, &other.inside)
    }

    pub(super) fn with<T>(&self, look: impl FnOnce(&mut Inside) -> T) -> T {
        look(&mut locked(&self.inside))
    }
}

impl Inside {
    /// What is to go wrong with a call.
    pub(super) fn fault(&mut self, call: &FileCall<'_>) -> Option<Fault> {
        let fault = self
            .rules
            .iter_mut()
            .find_map(|rule| rule(call, &mut self.draw))?;
        *self.faults.entry(fault.name()).or_default() += 1;
        Some(fault)
    }
}
