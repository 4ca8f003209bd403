//! A world whose file operations are noted down, and whose disk can be full.

use bytes::Bytes;
use rivermark_env::{
    BoxFuture, DirEntry, Env, FileMeta, FileReader, FileWriter, Files, LocalBoxFuture, Net, Platform,
    SlotStart, TaskHandle,
};
use rivermark_types::{Millis, Timestamp};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Default)]
struct Notes {
    operations: Mutex<Vec<Vec<String>>>,
    full: AtomicBool,
}

impl Notes {
    fn note(&self, operation: &str, paths: &[&Path]) {
        let words = paths.iter().map(|path| path.display().to_string());
        self.operations
            .lock()
            .unwrap()
            .push([operation.to_owned()].into_iter().chain(words).collect());
    }
}

/// Wraps a world.
pub struct Recorder {
    notes: Arc<Notes>,
    world: Arc<Recorded>,
}

impl Recorder {
    pub fn new(env: &Env) -> Recorder {
        let notes = Arc::new(Notes::default());
        let files = Arc::new(RecordedFiles {
            notes: notes.clone(),
            files: env.files().clone(),
        });
        Recorder {
            notes,
            world: Arc::new(Recorded {
                env: env.clone(),
                files,
            }),
        }
    }

    pub fn env(&self) -> Env {
        Env::new(self.world.clone())
    }

    /// From now on every write fails.
    pub fn fill_disk(&self) {
        self.notes.full.store(true, Ordering::SeqCst);
    }

    /// What was done since the last call, with paths relative to `base`.
    pub fn take(&self, base: &Path) -> Vec<String> {
        let base = base.display().to_string();
        let relative = |word: &String| match word.strip_prefix(&base) {
            Some(rest) => rest.trim_start_matches('/').to_owned(),
            None => word.clone(),
        };
        let operations = std::mem::take(&mut *self.notes.operations.lock().unwrap());
        operations
            .iter()
            .map(|words| words.iter().map(relative).collect::<Vec<_>>().join(" "))
            .collect()
    }
}

struct Recorded {
    env: Env,
    files: Arc<dyn Files>,
}

impl Platform for Recorded {
    fn now(&self) -> Millis {
        self.env.now()
    }
    fn wall_clock(&self) -> Timestamp {
        self.env.wall_clock()
    }
    fn cost_ns(&self) -> u64 {
        self.env.cost_ns()
    }
    fn random_u64(&self) -> u64 {
        self.env.random_u64()
    }
    fn spawn_io(&self, name: &str, future: BoxFuture<'static, ()>) -> TaskHandle {
        self.env.spawn_io(name, future)
    }
    fn spawn_slot(&self, name: &str, start: SlotStart) -> TaskHandle {
        self.env.spawn_slot(name, start)
    }
    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        self.env.sleep(wait)
    }
    fn step_point(&self) -> Option<LocalBoxFuture<'static, ()>> {
        self.env.step_point()
    }
    fn files(&self) -> &Arc<dyn Files> {
        &self.files
    }
    fn net(&self) -> &Arc<dyn Net> {
        self.env.net()
    }
}

struct RecordedFiles {
    notes: Arc<Notes>,
    files: Arc<dyn Files>,
}

impl Files for RecordedFiles {
    fn open<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Box<dyn FileReader>>> {
        self.files.open(path)
    }
    fn create_new<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Box<dyn FileWriter>>> {
        self.notes.note("create", &[path]);
        Box::pin(async move {
            let (notes, path) = (self.notes.clone(), path.to_owned());
            let file = self.files.create_new(&path).await?;
            Ok(Box::new(RecordedFile { notes, path, file }) as Box<dyn FileWriter>)
        })
    }
    fn rename<'a>(&'a self, from: &'a Path, to: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        self.notes.note("rename", &[from, to]);
        self.files.rename(from, to)
    }
    fn hard_link<'a>(&'a self, from: &'a Path, to: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        self.notes.note("link", &[from, to]);
        self.files.hard_link(from, to)
    }
    fn remove_file<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        self.notes.note("remove", &[path]);
        self.files.remove_file(path)
    }
    fn remove_dir<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        self.notes.note("remove_dir", &[path]);
        self.files.remove_dir(path)
    }
    fn create_dir_all<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        self.notes.note("create_dir", &[path]);
        self.files.create_dir_all(path)
    }
    fn sync_dir<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        self.notes.note("sync_dir", &[path]);
        self.files.sync_dir(path)
    }
    fn list<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Vec<DirEntry>>> {
        self.files.list(path)
    }
    fn metadata<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Option<FileMeta>>> {
        self.files.metadata(path)
    }
}

struct RecordedFile {
    notes: Arc<Notes>,
    path: PathBuf,
    file: Box<dyn FileWriter>,
}

impl FileWriter for RecordedFile {
    fn write_parts(&mut self, parts: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>> {
        self.notes.note("write", &[&self.path]);
        if self.notes.full.load(Ordering::SeqCst) {
            let error = format!("write {}: no space left on device", self.path.display());
            return Box::pin(async { Err(io::Error::new(io::ErrorKind::StorageFull, error)) });
        }
        self.file.write_parts(parts)
    }
    fn sync(&mut self) -> BoxFuture<'_, io::Result<()>> {
        self.notes.note("sync", &[&self.path]);
        self.file.sync()
    }
}
