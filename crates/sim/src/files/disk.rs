//! The disk: what processes see, and what is left of it after a loss of power.
//!
//! A table of inodes; a directory has the names that processes see and those that are durable; between the two lies the
//! list of changes since. A sync of a directory makes its changes durable. A loss of power keeps or undoes each change
//! by itself, whatever came before or after, with one exception: a file under rename never loses both names at once
//! while neither directory was synced. Of a file's unsynced bytes any first part survives, its end possibly garbage.

use crate::draw::Draw;
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

pub(super) type Inode = u64;
type Outcome<T> = Result<T, ErrorKind>;

const ROOT: Inode = 0;

#[derive(Debug)]
enum Node {
    File {
        bytes: Vec<u8>,
        synced: usize,
    },
    Dir {
        names: BTreeMap<String, Inode>,
        durable: BTreeMap<String, Inode>,
    },
}

/// A name set to an inode or removed, not durable yet.
#[derive(Debug)]
struct Change {
    dir: Inode,
    name: String,
    to: Option<Inode>,
    /// The two changes of one rename share a number; the new name comes first.
    rename: Option<u64>,
}

/// An in-memory disk.
#[derive(Debug)]
pub(super) struct Disk {
    nodes: BTreeMap<Inode, Node>,
    changes: Vec<Change>,
    last_inode: Inode,
    last_rename: u64,
    limit: Option<u64>,
}

fn empty_dir() -> Node {
    Node::Dir {
        names: BTreeMap::new(),
        durable: BTreeMap::new(),
    }
}

impl Disk {
    pub(super) fn new() -> Disk {
        let nodes = BTreeMap::from([(ROOT, empty_dir())]);
        Disk {
            nodes,
            changes: Vec::new(),
            last_inode: ROOT,
            last_rename: 0,
            limit: None,
        }
    }

    pub(super) fn limit_bytes(&mut self, limit: Option<u64>) {
        self.limit = limit;
    }

    pub(super) fn open(&self, path: &Path) -> Outcome<Inode> {
        let inode = self.find(path)?;
        if self.is_dir(inode) {
            Err(ErrorKind::IsADirectory)
        } else {
            Ok(inode)
        }
    }

    pub(super) fn read(&self, inode: Inode, offset: u64, max: usize) -> Vec<u8> {
        let bytes = self.bytes(inode);
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let end = start.saturating_add(max).min(bytes.len());
        bytes[start..end].to_vec()
    }

    pub(super) fn create_file(&mut self, path: &Path) -> Outcome<Inode> {
        self.create(
            path,
            Node::File {
                bytes: Vec::new(),
                synced: 0,
            },
        )
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> Outcome<()> {
        self.create(path, empty_dir()).map(drop)
    }

    /// Appends as much as there is room for; `StorageFull` if that is not all.
    pub(super) fn append(&mut self, inode: Inode, bytes: &[u8]) -> Outcome<()> {
        let room = self.limit.map_or(bytes.len(), |limit| {
            let left = limit.saturating_sub(self.used_bytes());
            usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len())
        });
        if let Some(Node::File { bytes: file, .. }) = self.nodes.get_mut(&inode) {
            file.extend_from_slice(&bytes[..room]);
        }
        if room == bytes.len() {
            Ok(())
        } else {
            Err(ErrorKind::StorageFull)
        }
    }

    pub(super) fn sync_file(&mut self, inode: Inode) {
        if let Some(Node::File { bytes, synced }) = self.nodes.get_mut(&inode) {
            *synced = bytes.len();
        }
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> Outcome<()> {
        let inode = self.find(from)?;
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        let moved_into_itself = self.is_dir(inode) && normal_parts(to).starts_with(&normal_parts(from));
        if let Ok(replaced) = self.find(to) {
            if replaced == inode {
                return Ok(());
            }
            match (self.is_dir(inode), self.is_dir(replaced)) {
                (false, true) => return Err(ErrorKind::IsADirectory),
                (true, false) => return Err(ErrorKind::NotADirectory),
                (true, true) if !self.names(replaced)?.is_empty() => {
                    return Err(ErrorKind::DirectoryNotEmpty);
                }
                _ => {}
            }
        }
        if moved_into_itself {
            return Err(ErrorKind::InvalidInput);
        }
        self.last_rename += 1;
        let rename = Some(self.last_rename);
        self.change(Change {
            dir: to_dir,
            name: to_name,
            to: Some(inode),
            rename,
        });
        self.change(Change {
            dir: from_dir,
            name: from_name,
            to: None,
            rename,
        });
        Ok(())
    }

    pub(super) fn hard_link(&mut self, from: &Path, to: &Path) -> Outcome<()> {
        let inode = self.find(from)?;
        if self.is_dir(inode) {
            return Err(ErrorKind::PermissionDenied);
        }
        let (dir, name) = self.vacant(to)?;
        self.change(Change {
            dir,
            name,
            to: Some(inode),
            rename: None,
        });
        Ok(())
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> Outcome<()> {
        if self.is_dir(self.find(path)?) {
            return Err(ErrorKind::IsADirectory);
        }
        let (dir, name) = self.parent(path)?;
        self.change(Change {
            dir,
            name,
            to: None,
            rename: None,
        });
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, path: &Path) -> Outcome<()> {
        if !self.names(self.find(path)?)?.is_empty() {
            return Err(ErrorKind::DirectoryNotEmpty);
        }
        let (dir, name) = self.parent(path)?;
        self.change(Change {
            dir,
            name,
            to: None,
            rename: None,
        });
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> Outcome<()> {
        let synced = self.find(path)?;
        self.names(synced)?;
        for change in std::mem::take(&mut self.changes) {
            if change.dir == synced {
                self.make_durable(change)
            } else {
                self.changes.push(change)
            }
        }
        Ok(())
    }

    /// Name, is a directory, length; sorted by name.
    pub(super) fn list(&self, path: &Path) -> Outcome<Vec<(String, bool, u64)>> {
        let names = self.names(self.find(path)?)?;
        Ok(names
            .iter()
            .map(|(name, &inode)| (name.clone(), self.is_dir(inode), self.len(inode)))
            .collect())
    }

    /// Is a directory, length.
    pub(super) fn metadata(&self, path: &Path) -> Outcome<(bool, u64)> {
        let inode = self.find(path)?;
        Ok((self.is_dir(inode), self.len(inode)))
    }

    pub(super) fn tree(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut open = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, inode)) = open.pop() {
            match self.nodes.get(&inode) {
                Some(Node::File { bytes, .. }) => drop(files.insert(path, bytes.clone())),
                Some(Node::Dir { names, .. }) => {
                    open.extend(names.iter().map(|(name, &inode)| (path.join(name), inode)));
                }
                None => {}
            }
        }
        files
    }

    /// A file as if it had always been there.
    pub(super) fn put(&mut self, path: &Path, bytes: Vec<u8>) -> Outcome<()> {
        let mut dir = PathBuf::from("/");
        for part in normal_parts(path)
            .iter()
            .take(normal_parts(path).len().saturating_sub(1))
        {
            let parent = dir.clone();
            dir.push(part);
            match self.create_dir(&dir) {
                Ok(()) => self.sync_dir(&parent)?,
                Err(ErrorKind::AlreadyExists) => {}
                Err(error) => return Err(error),
            }
        }
        if self.find(path).is_ok() {
            self.remove_file(path)?;
        }
        let inode = self.create_file(path)?;
        self.append(inode, &bytes)?;
        self.sync_file(inode);
        self.sync_dir(&dir)
    }

    /// Keeps what is durable and, of the rest, what the seed says.
    pub(super) fn lose_power(&mut self, draw: &mut Draw) {
        let mut new_name_kept = BTreeMap::new();
        for change in std::mem::take(&mut self.changes) {
            let kept = match change.rename {
                Some(rename) if change.to.is_none() => match new_name_kept.get(&rename) {
                    Some(false) => false,
                    Some(true) => !draw.one_in(3),
                    None => draw.coin(),
                },
                _ => draw.coin(),
            };
            if let (Some(rename), Some(_)) = (change.rename, change.to) {
                new_name_kept.insert(rename, kept);
            }
            if kept {
                self.make_durable(change);
            }
        }
        for node in self.nodes.values_mut() {
            match node {
                Node::Dir { names, durable } => names.clone_from(durable),
                Node::File { bytes, synced } => tear(bytes, synced, draw),
            }
        }
        let reachable = self.reachable();
        self.nodes.retain(|inode, _| reachable.contains(inode));
    }

    fn find(&self, path: &Path) -> Outcome<Inode> {
        let mut at = ROOT;
        for part in normal_parts(path) {
            at = *self.names(at)?.get(&part).ok_or(ErrorKind::NotFound)?;
        }
        Ok(at)
    }

    /// The directory that holds, or would hold, the name, and the name.
    fn parent(&self, path: &Path) -> Outcome<(Inode, String)> {
        let mut parts = normal_parts(path);
        let name = parts.pop().ok_or(ErrorKind::InvalidInput)?;
        let dir = self.find(&parts.iter().collect::<PathBuf>())?;
        self.names(dir)?;
        Ok((dir, name))
    }

    fn vacant(&self, path: &Path) -> Outcome<(Inode, String)> {
        if self.find(path).is_ok() {
            return Err(ErrorKind::AlreadyExists);
        }
        self.parent(path)
    }

    fn create(&mut self, path: &Path, node: Node) -> Outcome<Inode> {
        let (dir, name) = self.vacant(path)?;
        self.last_inode += 1;
        let inode = self.last_inode;
        self.nodes.insert(inode, node);
        self.change(Change {
            dir,
            name,
            to: Some(inode),
            rename: None,
        });
        Ok(inode)
    }

    /// Seen at once, durable later.
    fn change(&mut self, change: Change) {
        if let Some(Node::Dir { names, .. }) = self.nodes.get_mut(&change.dir) {
            set_name(names, change.name.clone(), change.to);
        }
        self.changes.push(change);
    }

    fn make_durable(&mut self, change: Change) {
        if let Some(Node::Dir { durable, .. }) = self.nodes.get_mut(&change.dir) {
            set_name(durable, change.name, change.to);
        }
    }

    fn names(&self, inode: Inode) -> Outcome<&BTreeMap<String, Inode>> {
        match self.nodes.get(&inode) {
            Some(Node::Dir { names, .. }) => Ok(names),
            Some(Node::File { .. }) => Err(ErrorKind::NotADirectory),
            None => Err(ErrorKind::NotFound),
        }
    }

    fn is_dir(&self, inode: Inode) -> bool {
        matches!(self.nodes.get(&inode), Some(Node::Dir { .. }))
    }

    fn bytes(&self, inode: Inode) -> &[u8] {
        match self.nodes.get(&inode) {
            Some(Node::File { bytes, .. }) => bytes,
            _ => &[],
        }
    }

    fn len(&self, inode: Inode) -> u64 {
        self.bytes(inode).len() as u64
    }

    fn used_bytes(&self) -> u64 {
        self.reachable().into_iter().map(|inode| self.len(inode)).sum()
    }

    fn reachable(&self) -> BTreeSet<Inode> {
        let mut seen = BTreeSet::new();
        let mut open = vec![ROOT];
        while let Some(inode) = open.pop() {
            if seen.insert(inode)
                && let Some(Node::Dir { names, .. }) = self.nodes.get(&inode)
            {
                open.extend(names.values());
            }
        }
        seen
    }
}

fn set_name(names: &mut BTreeMap<String, Inode>, name: String, to: Option<Inode>) {
    match to {
        Some(inode) => drop(names.insert(name, inode)),
        None => drop(names.remove(&name)),
    }
}

/// Of the unsynced end of a file, any first part survives; its bytes may be anything.
fn tear(bytes: &mut Vec<u8>, synced: &mut usize, draw: &mut Draw) {
    let unsynced = bytes.len() - *synced;
    if unsynced > 0 {
        // Often all or nothing, as one block is written or not.
        let kept = match draw.below(4) {
            0 => 0,
            1 => unsynced,
            _ => draw.index(unsynced + 1),
        };
        bytes.truncate(*synced + kept);
        if draw.one_in(4) {
            let from = *synced + draw.index(kept + 1);
            let zeros = draw.coin();
            bytes[from..]
                .iter_mut()
                .for_each(|byte| *byte = if zeros { 0 } else { draw.bits() as u8 });
        }
    }
    *synced = bytes.len();
}

/// The names from the root; every path is taken from there.
fn normal_parts(path: &Path) -> Vec<String> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => parts.push(name.to_string_lossy().into_owned()),
            Component::ParentDir => drop(parts.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    parts
}
