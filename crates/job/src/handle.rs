//! A running job, from outside.

use crate::stats::JobStats;
use rivermark_env::TaskHandle;
use rivermark_types::{CheckpointId, Failure, Result};
use tokio::sync::{mpsc, oneshot, watch};

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEnd {
    /// All input was read and everything committed; its checkpoints are deleted.
    Finished,
    /// It was stopped: everything up to this checkpoint is committed, and the next start resumes there.
    Stopped(CheckpointId),
    /// It was cancelled: the next start resumes from this checkpoint, if there is one.
    Cancelled(Option<CheckpointId>),
}

/// What a handle asks of the master.
pub(crate) enum Request {
    Stop,
    Cancel,
    Checkpoint(oneshot::Sender<Result<CheckpointId>>),
}

/// A started job. Dropping it lets the job run on.
pub struct JobHandle {
    pub(crate) requests: mpsc::UnboundedSender<Request>,
    pub(crate) stats: watch::Receiver<JobStats>,
    pub(crate) end: oneshot::Receiver<Result<JobEnd>>,
    pub(crate) master: TaskHandle,
}

/// Asks things of a job; cheap to clone, `Send`.
#[derive(Clone)]
pub struct JobControl {
    requests: mpsc::UnboundedSender<Request>,
    stats: watch::Receiver<JobStats>,
}

impl JobHandle {
    /// Completes when the job has ended, and everything of it in this process with it.
    pub async fn wait(self) -> Result<JobEnd> {
        let end = self.end.await;
        let exit = self.master.join().await;
        end.unwrap_or_else(|_| {
            Err(Failure::bug(format!(
                "the job's master ended without a word: {exit:?}"
            )))
        })
    }

    /// A second way in, for the time while `wait` has the handle.
    pub fn control(&self) -> JobControl {
        JobControl {
            requests: self.requests.clone(),
            stats: self.stats.clone(),
        }
    }

    /// See [`JobControl::stop`].
    pub fn stop(&self) {
        self.control().stop();
    }

    /// See [`JobControl::cancel`].
    pub fn cancel(&self) {
        self.control().cancel();
    }

    /// See [`JobControl::checkpoint_now`].
    pub async fn checkpoint_now(&self) -> Result<CheckpointId> {
        self.control().checkpoint_now().await
    }

    /// See [`JobControl::stats`].
    pub fn stats(&self) -> JobStats {
        self.stats.borrow().clone()
    }
}

impl JobControl {
    /// Takes a last checkpoint, commits, ends. The next start goes on from there. Idempotent.
    pub fn stop(&self) {
        let _ = self.requests.send(Request::Stop);
    }

    /// Ends at once; decided checkpoints are kept. Idempotent.
    pub fn cancel(&self) {
        let _ = self.requests.send(Request::Cancel);
    }

    /// Takes a checkpoint now and completes when it is decided.
    pub async fn checkpoint_now(&self) -> Result<CheckpointId> {
        let (answer, answered) = oneshot::channel();
        let gone = || Failure::invalid("the job has ended: no checkpoint can be taken");
        self.requests
            .send(Request::Checkpoint(answer))
            .map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// The job at this moment.
    pub fn stats(&self) -> JobStats {
        self.stats.borrow().clone()
    }

    /// Completes at the next change of the statistics (a checkpoint, a restart); false when the job has ended.
    pub async fn changed(&mut self) -> bool {
        self.stats.changed().await.is_ok()
    }
}
