//! The phases of a checkpoint as the job announces them, and what was under way when it died.

use rivermark::announce::Announcement;
use rivermark_types::CheckpointId;
use serde::Serialize;
use std::fmt;

/// What a kill is aimed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    /// From the trigger to the last acknowledgement.
    Snapshot,
    /// While the head is written.
    Decision,
    /// Until every sink has committed.
    Commit,
}

impl Phase {
    pub(super) const ALL: [Phase; 3] = [Phase::Snapshot, Phase::Decision, Phase::Commit];

    /// The phase that an announcement begins.
    pub(super) fn begun_by(announcement: &Announcement) -> Option<(Phase, CheckpointId)> {
        match *announcement {
            Announcement::Snapshot(checkpoint) => Some((Phase::Snapshot, checkpoint)),
            Announcement::Deciding(checkpoint) => Some((Phase::Decision, checkpoint)),
            Announcement::Committing(checkpoint) => Some((Phase::Commit, checkpoint)),
            _ => None,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Snapshot => "snapshot",
            Phase::Decision => "decision",
            Phase::Commit => "commit",
        })
    }
}

/// What a process has told of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Whether it came as far as running.
    pub(super) running: bool,
    /// The checkpoint that it started from.
    pub(super) restored: Option<CheckpointId>,
    /// Checkpoints known to be decided.
    pub(super) decided: u64,
    /// Records dropped as late, once it has ended.
    pub(super) late: Option<u64>,
    under_way: Option<(Phase, CheckpointId)>,
}

impl Progress {
    pub(super) fn note(&mut self, announcement: Announcement) {
        match announcement {
            Announcement::Running(from) => {
                self.running = true;
                self.restored = from;
            }
            Announcement::Committed(done) => {
                self.under_way = self.under_way.filter(|(_, checkpoint)| *checkpoint != done);
            }
            Announcement::Ended { late, .. } => self.late = Some(late),
            Announcement::Committing(_) => self.decided += 1,
            _ => {}
        }
        self.under_way = Phase::begun_by(&announcement).or(self.under_way);
    }

    /// The phase under way when it was heard of last.
    pub(super) fn phase(&self) -> Option<Phase> {
        self.under_way.map(|(phase, _)| phase)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_lasts_until_the_next_and_the_last_until_the_commit() {
        let mut progress = Progress::default();
        let id = CheckpointId(4);
        let mut phase_after = |announcement| {
            progress.note(announcement);
            progress.phase()
        };
        assert_eq!(phase_after(Announcement::Running(Some(id))), None);
        assert_eq!(phase_after(Announcement::Snapshot(id)), Some(Phase::Snapshot));
        assert_eq!(phase_after(Announcement::Read(3)), Some(Phase::Snapshot));
        assert_eq!(phase_after(Announcement::Deciding(id)), Some(Phase::Decision));
        assert_eq!(phase_after(Announcement::Committing(id)), Some(Phase::Commit));
        assert_eq!(
            phase_after(Announcement::Committed(CheckpointId(3))),
            Some(Phase::Commit)
        );
        assert_eq!(phase_after(Announcement::Committed(id)), None);
        assert_eq!((progress.restored, progress.decided), (Some(id), 1));
    }
}
