//! Makes the record of a recovery, as the master goes through it.

use super::note::Names;
use super::recovery::{RecoveryRecord, RestoredSubtask};
use crate::master::Master;
use rivermark_types::{Millis, SubtaskId};
use std::collections::BTreeMap;

/// A recovery under way.
pub(crate) struct Recovering {
    began: Millis,
    record: RecoveryRecord,
    opened: BTreeMap<SubtaskId, Millis>,
}

impl Recovering {
    fn ms(&self, at: Millis) -> u64 {
        at.since(self.began).as_millis() as u64
    }
}

impl Master {
    /// An attempt failed, or the first one begins.
    pub(crate) fn recovery_begins(&mut self, failure: Option<String>) {
        self.recovery_ends(failure.clone());
        self.recovering = Some(Recovering {
            began: self.env.now(),
            record: RecoveryRecord::begun(
                self.spec.name.to_string(),
                self.generation(),
                self.env.wall_clock(),
                failure,
            ),
            opened: BTreeMap::new(),
        });
    }

    /// It has come further.
    pub(crate) fn recovery(&mut self, note: impl FnOnce(&mut RecoveryRecord, u64)) {
        let now = self.env.now();
        if let Some(recovering) = &mut self.recovering {
            let at = recovering.ms(now);
            note(&mut recovering.record, at);
        }
    }

    /// A subtask is open.
    pub(crate) fn recovery_opened(&mut self, subtask: SubtaskId) {
        let now = self.env.now();
        if let Some(recovering) = &mut self.recovering {
            recovering.opened.insert(subtask, now);
        }
    }

    /// All that it took is known, or another failure has ended it: the record is kept. A fresh start is none.
    pub(crate) fn recovery_ends(&mut self, failure: Option<String>) {
        let Some(mut recovering) = self.recovering.take() else {
            return;
        };
        if recovering.record.from.is_none() && recovering.record.failure.is_none() {
            return;
        }
        let names = Names::new(self);
        let subtasks = names.order.iter().map(|id| {
            let counters = self.counters.subtasks.get(id);
            let restored = counters.map(|counters| counters.restored()).unwrap_or_default();
            RestoredSubtask {
                name: names.subtask(*id),
                slot: names.slot(*id),
                download_ms: restored.download.as_millis() as u64,
                bytes: restored.bytes,
                local_bytes: restored.local_bytes,
                decode_ms: restored.decode.as_millis() as u64,
                in_flight_ms: restored.in_flight.as_millis() as u64,
                in_flight_rows: restored.in_flight_rows,
                opened: recovering.opened.get(id).map(|at| recovering.ms(*at)),
                worked_off: restored.worked_off.map(|at| recovering.ms(at)),
            }
        });
        let subtasks = subtasks.collect();
        recovering.record.subtasks = subtasks;
        if recovering.record.running.is_none() {
            recovering.record.failed_again = failure;
        }
        self.history.recovery(&recovering.record);
    }

    /// Rows flow: nothing more is to come, unless records that were in flight at the checkpoint are still under way. Tasks tell
    /// of these with their first barrier.
    pub(crate) fn recovery_may_end(&mut self) {
        if !self.works_off() {
            self.recovery_ends(None);
        }
    }

    fn works_off(&self) -> bool {
        let mut subtasks = self.counters.subtasks.values();
        subtasks.any(|counters| {
            let restored = counters.restored();
            restored.in_flight_rows > 0 && restored.worked_off.is_none()
        })
    }
}
