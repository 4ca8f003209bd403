//! The file seam on a simulated disk.
//!
//! Layout: [`Machine`] (a disk and the faults planted in it), `disk` (what is seen and what is durable), [`faults`],
//! and here `SimFiles`, what a process gets of it. Every operation waits before its effect and again after it, so
//! that a crash finds both moments; a write is done in several parts with a wait between them.

mod disk;
pub mod faults;
mod machine;
#[cfg(test)]
mod power_loss_tests;

pub use faults::{Fault, FileCall, FileOp};
pub use machine::Machine;

use crate::executor::{Shared, YieldOnce};
use bytes::Bytes;
use disk::{Disk, Inode};
use rivermark_env::{BoxFuture, DirEntry, FileMeta, FileReader, FileWriter, Files};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const USUAL_LATENCY: (Duration, Duration) = (Duration::from_micros(5), Duration::from_micros(500));
const SLOW_LATENCY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(40));
const SLOW_ONE_IN: u64 = 32;

/// The files of a machine as one process sees them.
#[derive(Clone)]
pub(crate) struct SimFiles {
    machine: Machine,
    shared: Arc<Shared>,
}

impl SimFiles {
    pub(crate) fn new(machine: Machine, shared: Arc<Shared>) -> SimFiles {
        SimFiles { machine, shared }
    }

    /// The wait before the effect, and what is to go wrong.
    async fn begin(&self, call: FileCall<'_>) -> Option<Fault> {
        let (latency, fault) = self.machine.with(|inside| {
            let (low, high) = if inside.draw.one_in(SLOW_ONE_IN) {
                SLOW_LATENCY
            } else {
                USUAL_LATENCY
            };
            (inside.draw.time(low, high), inside.fault(&call))
        });
        let delay = if let Some(Fault::Delay(delay)) = fault {
            delay
        } else {
            Duration::ZERO
        };
        self.shared.sleep(latency + delay).await;
        fault
    }

    /// The wait after the effect, and the error's text.
    async fn end<T>(&self, call: FileCall<'_>, result: Result<T, ErrorKind>) -> io::Result<T> {
        let (op, path, machine) = (call.op.name(), call.path.display(), self.machine.name());
        match &result {
            Ok(_) => self.shared.event(format_args!("{machine}: {op} {path}")),
            Err(error) => self
                .shared
                .event(format_args!("{machine}: {op} {path} failed: {error}")),
        }
        YieldOnce::default().await;
        result.map_err(|kind| io::Error::new(kind, format!("{op} {path}: {kind}")))
    }

    fn apply<T>(
        &self,
        fault: Option<Fault>,
        effect: impl FnOnce(&mut Disk) -> Result<T, ErrorKind>,
    ) -> Result<T, ErrorKind> {
        match fault {
            Some(Fault::Fail(kind)) => Err(kind),
            Some(Fault::LoseReply(kind)) => self
                .machine
                .with(|inside| effect(&mut inside.disk))
                .and(Err(kind)),
            _ => self.machine.with(|inside| effect(&mut inside.disk)),
        }
    }

    async fn call<T: Send>(
        &self,
        call: FileCall<'_>,
        effect: impl FnOnce(&mut Disk) -> Result<T, ErrorKind> + Send,
    ) -> io::Result<T> {
        let fault = self.begin(call).await;
        self.end(call, self.apply(fault, effect)).await
    }

    /// A call that can lie: it reports success without its effect.
    async fn sync(
        &self,
        call: FileCall<'_>,
        effect: impl FnOnce(&mut Disk) -> Result<(), ErrorKind> + Send,
    ) -> io::Result<()> {
        let result = match self.begin(call).await {
            Some(Fault::LieAboutSync) => Ok(()),
            fault => self.apply(fault, effect),
        };
        self.end(call, result).await
    }

    fn open_file(&self, inode: Inode, path: &Path) -> OpenFile {
        OpenFile {
            files: self.clone(),
            inode,
            path: path.to_owned(),
        }
    }

    async fn make_dirs(&self, path: &Path) -> io::Result<()> {
        let mut missing: Vec<&Path> = Vec::new();
        for dir in path.ancestors() {
            match self.machine.with(|inside| inside.disk.metadata(dir)) {
                Ok((true, _)) => break,
                Ok((false, _)) | Err(_) => missing.push(dir),
            }
        }
        while let Some(dir) = missing.pop() {
            let call = FileCall {
                op: FileOp::CreateDir,
                path: dir,
            };
            let create = |disk: &mut Disk| match disk.create_dir(dir) {
                // Made by someone else meanwhile.
                Err(ErrorKind::AlreadyExists) if disk.list(dir).is_ok() => Ok(()),
                result => result,
            };
            self.call(call, create).await?;
        }
        YieldOnce::default().await;
        Ok(())
    }
}

impl Files for SimFiles {
    fn open<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Box<dyn FileReader>>> {
        Box::pin(async move {
            let inode = self
                .call(
                    FileCall {
                        op: FileOp::Open,
                        path,
                    },
                    |disk| disk.open(path),
                )
                .await?;
            Ok(Box::new(self.open_file(inode, path)) as Box<dyn FileReader>)
        })
    }

    fn create_new<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Box<dyn FileWriter>>> {
        Box::pin(async move {
            let create = |disk: &mut Disk| disk.create_file(path);
            let inode = self
                .call(
                    FileCall {
                        op: FileOp::CreateNew,
                        path,
                    },
                    create,
                )
                .await?;
            Ok(Box::new(self.open_file(inode, path)) as Box<dyn FileWriter>)
        })
    }

    fn rename<'a>(&'a self, from: &'a Path, to: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        let call = FileCall {
            op: FileOp::Rename,
            path: to,
        };
        Box::pin(self.call(call, move |disk| disk.rename(from, to)))
    }

    fn hard_link<'a>(&'a self, from: &'a Path, to: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        let call = FileCall {
            op: FileOp::HardLink,
            path: to,
        };
        Box::pin(self.call(call, move |disk| disk.hard_link(from, to)))
    }

    fn remove_file<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(self.call(
            FileCall {
                op: FileOp::RemoveFile,
                path,
            },
            move |disk| disk.remove_file(path),
        ))
    }

    fn remove_dir<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(self.call(
            FileCall {
                op: FileOp::RemoveDir,
                path,
            },
            move |disk| disk.remove_dir(path),
        ))
    }

    fn create_dir_all<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(self.make_dirs(path))
    }

    fn sync_dir<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(self.sync(
            FileCall {
                op: FileOp::SyncDir,
                path,
            },
            move |disk| disk.sync_dir(path),
        ))
    }

    fn list<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Vec<DirEntry>>> {
        Box::pin(async move {
            let entries = self
                .call(
                    FileCall {
                        op: FileOp::List,
                        path,
                    },
                    |disk| disk.list(path),
                )
                .await?;
            Ok(entries
                .into_iter()
                .map(|(name, is_dir, len)| DirEntry { name, is_dir, len })
                .collect())
        })
    }

    fn metadata<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Option<FileMeta>>> {
        let look = move |disk: &mut Disk| match disk.metadata(path) {
            Ok((is_dir, len)) => Ok(Some(FileMeta { is_dir, len })),
            Err(ErrorKind::NotFound) => Ok(None),
            Err(error) => Err(error),
        };
        Box::pin(self.call(
            FileCall {
                op: FileOp::Metadata,
                path,
            },
            look,
        ))
    }
}

/// An open file, to read from or to append to. It reaches its bytes under whatever name they have by now.
struct OpenFile {
    files: SimFiles,
    inode: Inode,
    path: PathBuf,
}

impl OpenFile {
    fn call(&self, op: FileOp) -> FileCall<'_> {
        FileCall { op, path: &self.path }
    }

    /// Appends in parts, with a wait between them.
    async fn append(&self, mut bytes: &[u8]) -> Result<(), ErrorKind> {
        while !bytes.is_empty() {
            let result = self.files.machine.with(|inside| {
                let len = inside.draw.between(1, bytes.len() as u64) as usize;
                let (part, rest) = bytes.split_at(if inside.draw.coin() { bytes.len() } else { len });
                bytes = rest;
                inside.disk.append(self.inode, part)
            });
            result?;
            YieldOnce::default().await;
        }
        Ok(())
    }

    async fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        let call = self.call(FileOp::Write);
        let result = match self.files.begin(call).await {
            Some(Fault::Fail(kind)) => {
                let done = self
                    .files
                    .machine
                    .with(|inside| inside.draw.index(bytes.len() + 1));
                self.append(&bytes[..done]).await.and(Err(kind))
            }
            Some(Fault::LoseReply(kind)) => self.append(bytes).await.and(Err(kind)),
            _ => self.append(bytes).await,
        };
        self.files.end(call, result).await
    }
}

impl FileReader for OpenFile {
    fn read_at(&mut self, offset: u64, max: usize) -> BoxFuture<'_, io::Result<Vec<u8>>> {
        let inode = self.inode;
        Box::pin(self.files.call(self.call(FileOp::Read), move |disk| {
            Ok(disk.read(inode, offset, max))
        }))
    }
}

impl FileWriter for OpenFile {
    fn write_parts(&mut self, parts: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            for part in parts {
                self.write_all(&part).await?;
            }
            Ok(())
        })
    }

    fn sync(&mut self) -> BoxFuture<'_, io::Result<()>> {
        let inode = self.inode;
        let sync = move |disk: &mut Disk| {
            disk.sync_file(inode);
            Ok(())
        };
        Box::pin(self.files.sync(self.call(FileOp::Sync), sync))
    }
}
