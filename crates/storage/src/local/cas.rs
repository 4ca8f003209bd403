//! The decisions of a job as numbered files.
//!
//! A decision is made by the link to `decision-<version>`, which only one of several writers gets. The newest version is
//! the head. Only the newest few are kept, so a writer that slept through many decisions could create a version that was
//! pruned: therefore every writer looks again after its link, and takes it back if a newer version is there.

use super::place::{Place, write_error};
use crate::cas::version_after;
use crate::in_doubt::InDoubt;
use crate::{Cas, CasOutcome, Digest, Head, StorageError};
use bytes::Bytes;
use rivermark_env::{BoxFuture, Env};
use std::io;
use std::path::{Path, PathBuf};

const NAME: &str = "decision-";
const VERSION_DIGITS: usize = 20;
/// How many versions are kept. More than one, so that a listing of the directory that misses a version being made still
/// shows the one before, which nobody removes meanwhile.
const KEPT: usize = 8;
const MAGIC: &str = "rivermark-decision 1";
/// The longest header line.
const MAX_HEADER: usize = 128;
/// How often the head is read again that others replace and prune meanwhile.
const READ_ATTEMPTS: usize = 16;

/// One value in a directory. A handle is one writer: share it within a process, open one per process.
pub struct LocalCas {
    place: Place,
    in_doubt: InDoubt,
}

/// A decision as its file holds it.
struct Decision {
    header: String,
    head: Head,
}

impl LocalCas {
    /// The value in a directory, which is made if it is missing.
    pub async fn open(env: &Env, root: impl Into<PathBuf>) -> Result<LocalCas, StorageError> {
        Ok(LocalCas {
            place: Place::open(env, root.into()).await?,
            in_doubt: InDoubt::default(),
        })
    }

    /// The value in a directory as it is: for reading. Nothing is made; where nothing was decided there is no head.
    pub fn existing(env: &Env, root: impl Into<PathBuf>) -> LocalCas {
        LocalCas {
            place: Place::existing(env, root.into()),
            in_doubt: InDoubt::default(),
        }
    }

    /// Whether a directory holds decisions; `NotFound` if there is no directory.
    pub async fn is_in(env: &Env, dir: &Path) -> Result<bool, StorageError> {
        let entries = env.files().list(dir).await?;
        Ok(entries.iter().any(|entry| parse_name(&entry.name).is_some()))
    }

    /// The files that writers have not finished, or left behind when they crashed: names in the directory.
    pub async fn temporaries(&self) -> Result<Vec<String>, StorageError> {
        let entries = self.place.files.list(&self.place.root).await?;
        let names = entries
            .into_iter()
            .filter(|entry| !entry.is_dir)
            .map(|entry| entry.name);
        Ok(names.filter(|name| Place::is_temporary(name)).collect())
    }

    /// Removes what writers that crashed left unfinished, and says how many files that were. The temporaries of this
    /// handle are spared; those of another living writer are not (it gets a retryable error).
    pub async fn sweep_temporaries(&self) -> Result<usize, StorageError> {
        self.place.remove_dropped().await;
        let mut swept = 0;
        for entry in self.place.files.list(&self.place.root).await? {
            if !entry.is_dir && self.place.is_foreign_temporary(&entry.name) {
                self.place.discard(&self.place.root.join(&entry.name)).await;
                swept += 1;
            }
        }
        Ok(swept)
    }

    fn path(&self, version: u64) -> PathBuf {
        self.place.root.join(format!("{NAME}{version:0VERSION_DIGITS$}"))
    }

    /// The versions that are there, in ascending order.
    async fn versions(&self) -> Result<Vec<u64>, StorageError> {
        let entries = self.place.files.list(&self.place.root).await?;
        let mut versions: Vec<u64> = entries
            .iter()
            .filter_map(|entry| parse_name(&entry.name))
            .collect();
        versions.sort_unstable();
        Ok(versions)
    }

    async fn newest(&self) -> Result<Option<Decision>, StorageError> {
        for _ in 0..READ_ATTEMPTS {
            let Some(version) = self.versions().await?.pop() else {
                return Ok(None);
            };
            let path = self.path(version);
            match self.place.read(&path, 0, u64::MAX).await {
                Ok(file) => {
                    let parsed = parse_file(file.into());
                    let (header, bytes) = parsed.ok_or_else(|| {
                        StorageError::damaged(format!(
                            "{} is damaged: it is not what was written; put an undamaged copy back, or start anew in \
                             another directory",
                            path.display()
                        ))
                    })?;
                    return Ok(Some(Decision {
                        header,
                        head: Head { version, bytes },
                    }));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StorageError::retryable(format!(
            "{}: the decisions change too fast to be read",
            self.place.root.display()
        )))
    }

    /// Its writer may not have come to make it durable; nobody may build on it before.
    async fn sync(&self) -> Result<(), StorageError> {
        self.place
            .files
            .sync_dir(&self.place.root)
            .await
            .map_err(write_error)
    }

    async fn durable_head(&self) -> Result<Option<Head>, StorageError> {
        let newest = self.newest().await?;
        if newest.is_some() {
            self.sync().await?;
        }
        Ok(newest.map(|decision| decision.head))
    }

    /// One try; an error means that this try has not written.
    async fn decide(&self, expected: Option<u64>, bytes: &Bytes) -> Result<CasOutcome, StorageError> {
        let version = version_after(expected)?;
        let header = header(self.place.writer, bytes);
        if self.versions().await?.pop() != expected {
            return self.recognise(version, &header).await;
        }
        let file = [Bytes::from(header.clone().into_bytes()), bytes.clone()];
        let temporary = self.place.write_temporary(&self.place.root, &file).await?;
        match temporary.link(&self.path(version)).await {
            Ok(()) => Ok(self.conclude(version).await),
            // The name may be of this very try. From here on, what cannot be read is in doubt, not "not written".
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(self
                .recognise(version, &header)
                .await
                .unwrap_or_else(CasOutcome::Unknown)),
            Err(error) if surely_not_linked(&error) => Err(write_error(error)),
            Err(error) => Ok(CasOutcome::Unknown(error.into())),
        }
    }

    /// What follows when another version than the expected one is the newest: it may be this writer's own, from a try
    /// whose outcome it does not know.
    async fn recognise(&self, version: u64, header: &str) -> Result<CasOutcome, StorageError> {
        let newest = self.newest().await?;
        if newest
            .as_ref()
            .is_some_and(|decision| decision.head.version == version && decision.header == header)
        {
            return Ok(self.conclude(version).await);
        }
        if newest.is_some() {
            self.sync().await?;
        }
        Ok(CasOutcome::Conflict(newest.map(|decision| decision.head)))
    }

    /// What is left to do when this writer's file has its name.
    async fn conclude(&self, version: u64) -> CasOutcome {
        let versions = match self.versions().await {
            Ok(versions) => versions,
            Err(error) => return CasOutcome::Unknown(error),
        };
        match versions.last() {
            Some(&newest) if newest == version => {}
            Some(&newest) if newest > version => return self.take_back(version).await,
            _ => {
                return CasOutcome::Unknown(StorageError::retryable(format!(
                    "{} was made but is not there",
                    self.path(version).display()
                )));
            }
        }
        if let Err(error) = self.sync().await {
            return CasOutcome::Unknown(error);
        }
        // Not before the sync: until then the older ones may be all that a loss of power leaves.
        for &old in versions.iter().rev().skip(KEPT) {
            self.place.discard(&self.path(old)).await;
        }
        CasOutcome::Committed { version }
    }

    /// Removes this writer's file because a newer version is there: it was replaced already, or came too late.
    async fn take_back(&self, version: u64) -> CasOutcome {
        self.place.discard(&self.path(version)).await;
        self.durable_head()
            .await
            .map_or_else(CasOutcome::Unknown, CasOutcome::Conflict)
    }
}

impl Cas for LocalCas {
    fn head(&self) -> BoxFuture<'_, Result<Option<Head>, StorageError>> {
        Box::pin(self.durable_head())
    }

    fn compare_and_set(&self, expected: Option<u64>, bytes: Bytes) -> BoxFuture<'_, CasOutcome> {
        Box::pin(async move {
            let call = async {
                self.decide(expected, &bytes)
                    .await
                    .unwrap_or_else(CasOutcome::NotWritten)
            };
            self.in_doubt.settle(expected, &bytes, call).await
        })
    }
}

/// Errors that a file system gives only before it has done anything.
fn surely_not_linked(error: &io::Error) -> bool {
    // A full disk is not among them: the name may have been made before the reply was lost, and space may come back.
    use io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    matches!(
        error.kind(),
        NotFound | PermissionDenied | ReadOnlyFilesystem | Unsupported
    )
}

fn parse_name(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(NAME)?;
    let plain = digits.len() == VERSION_DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// The first line of a decision. It names the writer, so that equal values of two writers differ.
fn header(writer: u64, bytes: &Bytes) -> String {
    let digest = Digest::of_parts([&writer.to_le_bytes()[..], bytes]);
    format!("{MAGIC} {writer:016x} {} {digest}\n", bytes.len())
}

/// Header and value of a decision file; `None` if it is not what was written.
fn parse_file(file: Bytes) -> Option<(String, Bytes)> {
    let line_end = file.iter().take(MAX_HEADER).position(|&b| b == b'\n')?;
    let bytes = file.slice(line_end + 1..);
    let found = std::str::from_utf8(&file[..=line_end]).ok()?;
    let writer = u64::from_str_radix(found.strip_prefix(MAGIC)?.split(' ').nth(1)?, 16).ok()?;
    (found == header(writer, &bytes)).then(|| (found.to_owned(), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_changed_or_missing_byte_of_a_decision_is_noticed() {
        let value = Bytes::from_static(b"{\"generation\":3}");
        let file = [header(7, &value).as_bytes(), &value].concat();
        assert_eq!(parse_file(file.clone().into()).unwrap().1, value);
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 0x20;
            assert!(parse_file(changed.into()).is_none(), "byte {at} changed");
            assert!(parse_file(file[..at].to_vec().into()).is_none(), "cut at {at}");
        }
    }

    #[test]
    fn only_whole_names_are_versions() {
        assert_eq!(parse_name("decision-00000000000000000012"), Some(12));
        for other in [
            "decision-12",
            "decision-0000000000000000001x",
            ".tmp-0-1",
            "decision-99999999999999999999",
        ] {
            assert_eq!(parse_name(other), None);
        }
    }
}
