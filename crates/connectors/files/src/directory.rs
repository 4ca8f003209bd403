//! The directory of a sink: hidden files in it become finished or are removed, and it survives a loss of power.

use crate::file_failure;
use crate::part::{Found, PartOwner, classify};
use crate::sink::PartFile;
use rivermark_env::{FileWriter, Files, create_dir_durably};
use rivermark_types::{ErrorKind, Failure, Result};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// A directory that belongs to one sink.
pub(crate) struct PartDirectory {
    files: Arc<dyn Files>,
    path: PathBuf,
}

impl PartDirectory {
    pub(crate) fn new(files: Arc<dyn Files>, path: PathBuf) -> PartDirectory {
        PartDirectory { files, path }
    }

    /// Creates a file.
    pub(crate) async fn create(&self, name: &str) -> Result<Box<dyn FileWriter>> {
        self.files
            .create_new(&self.path.join(name))
            .await
            .map_err(file_failure)
    }

    /// Makes the names in it durable.
    pub(crate) async fn sync(&self) -> Result<()> {
        self.files.sync_dir(&self.path).await.map_err(file_failure)
    }

    /// Makes hidden files finished ones, durably; those that are already stay so.
    pub(crate) async fn finish(&self, parts: &[PartFile]) -> Result<()> {
        for part in parts {
            match self
                .files
                .rename(&self.path.join(&part.hidden), &self.path.join(&part.name))
                .await
            {
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.check_finished(part).await?,
                renamed => renamed.map_err(file_failure)?,
            }
        }
        // Also for those found finished: whoever renamed them may not have come to this.
        if !parts.is_empty() {
            self.sync().await?;
        }
        Ok(())
    }

    async fn check_finished(&self, part: &PartFile) -> Result<()> {
        let finished = self.path.join(&part.name);
        match self.files.metadata(&finished).await.map_err(file_failure)? {
            Some(meta) if meta.len == part.len => Ok(()),
            Some(meta) => Err(Failure::invalid(format!(
                "{} has {} bytes, but the checkpoint finished it with {}: somebody has changed it",
                finished.display(),
                meta.len,
                part.len
            ))),
            None => Err(Failure::invalid(format!(
                "the checkpoint lists {} to become {}, but neither is there: somebody has removed it",
                self.path.join(&part.hidden).display(),
                finished.display()
            ))),
        }
    }

    /// Creates the directory where it is missing, so that it is there after a loss of power too.
    pub(crate) async fn ensure(&self) -> Result<()> {
        let created = create_dir_durably(&*self.files, &self.path).await;
        created.map_err(|error| match error.kind() {
            io::ErrorKind::NotADirectory => {
                Failure::invalid(format!("{error}: give the file sink another one"))
            }
            _ => file_failure(error),
        })
    }

    /// Removes the hidden files of earlier writers. Fails if finished files show that the directory is not this run's.
    pub(crate) async fn remove_older(&self, than: PartOwner) -> Result<()> {
        let entries = self.files.list(&self.path).await.map_err(file_failure)?;
        let mut removed = false;
        for entry in entries.iter().filter(|entry| !entry.is_dir) {
            match classify(&entry.name) {
                Some(Found::Hidden(owner)) if owner < than => {
                    match self.files.remove_file(&self.path.join(&entry.name)).await {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => {
                            return Err(file_failure(error));
                        }
                        _ => removed = true,
                    }
                }
                Some(Found::Finished(owner)) if owner >= than => {
                    return Err(self.not_ours(&entry.name, owner, than));
                }
                _ => {}
            }
        }
        if removed {
            self.sync().await?;
        }
        Ok(())
    }

    fn not_ours(&self, name: &str, owner: PartOwner, than: PartOwner) -> Failure {
        let file = self.path.join(name);
        if owner.generation > than.generation {
            let (newer, own) = (owner.generation, than.generation);
            let message = format!(
                "{} was written by generation {newer}, this is generation {own}: a newer start owns the job, or the \
                 directory belongs to another job: give each job a directory of its own",
                file.display()
            );
            return Failure::new(ErrorKind::Fenced, message);
        }
        Failure::invalid(format!(
            "{} was written by another run: give the file sink a new or emptied directory",
            file.display()
        ))
    }
}
