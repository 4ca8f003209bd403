//! The critical path of a checkpoint, found backwards: from its end to the subtask that was last, from there along the barrier
//! that it waited for to the subtask that sent it, and so on to a source. Every piece of the time has one owner and one reason. Pure.

use super::reason::{Reason, Reasons};
use super::record::{CheckpointRecord, SubtaskRecord};
use serde::Serialize;
use std::collections::BTreeSet;

/// What a piece of a checkpoint's time went into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Snapshots of the enumerators, before any barrier.
    Enumerators,
    /// The barrier was on its way to a subtask, or waited before it.
    Barrier,
    /// The barrier was to overtake, and had to wait for the time-out.
    Timeout,
    /// The barrier was inside a subtask's chain.
    Freeze,
    /// State was being copied.
    Capture,
    /// It was being encoded, beside the other subtasks' of the process.
    Encode,
    /// It was being stored.
    Upload,
    /// The report was on its way.
    Acknowledge,
    /// Manifest and head were being written.
    Decision,
}

/// A piece of a checkpoint's time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Piece {
    /// How long.
    pub ms: u64,
    /// Into what.
    pub stage: Stage,
    /// Of which subtask, e.g. `map/3`; empty for the whole job.
    pub subtask: String,
    /// Why, if that is known.
    pub reason: Reason,
}

/// The pieces of a checkpoint's time, the last first. They add up to all of it.
pub fn critical_path(record: &CheckpointRecord) -> Vec<Piece> {
    let mut walk = Walk {
        record,
        reasons: Reasons::new(record),
        seen: BTreeSet::new(),
        at: record.ended,
        pieces: vec![],
    };
    if let Some(last) = last(record) {
        walk.subtask(last);
    }
    let (sent, at) = (record.barriers_sent.unwrap_or(0), walk.at);
    walk.piece(Stage::Barrier, "", sent.min(at), Reason::Unknown);
    walk.piece(Stage::Enumerators, "", 0, Reason::Unknown);
    walk.pieces
}

/// Who was last; of a checkpoint that was given up, who is the furthest from being done.
fn last(record: &CheckpointRecord) -> Option<&SubtaskRecord> {
    let progress = |subtask: &SubtaskRecord| {
        let moments = [
            subtask.last_barrier,
            subtask.cut,
            subtask.captured,
            subtask.encoded,
            subtask.stored,
            subtask.acked,
        ];
        moments.iter().take_while(|moment| moment.is_some()).count()
    };
    let missing = record.subtasks.iter().filter(|subtask| subtask.acked.is_none());
    missing.min_by_key(|subtask| progress(subtask)).or_else(|| {
        let all = record.subtasks.iter();
        all.max_by_key(|subtask| (subtask.acked, subtask.captured, subtask.cut))
    })
}

struct Walk<'r> {
    record: &'r CheckpointRecord,
    reasons: Reasons<'r>,
    seen: BTreeSet<&'r str>,
    /// The moment up to which the time is still to be explained.
    at: u64,
    pieces: Vec<Piece>,
}

impl<'r> Walk<'r> {
    /// The time since a moment went into this.
    fn piece(&mut self, stage: Stage, subtask: &str, since: u64, reason: Reason) {
        let ms = self.at.saturating_sub(since);
        if ms > 0 {
            let subtask = subtask.to_owned();
            self.pieces.push(Piece {
                ms,
                stage,
                subtask,
                reason,
            });
            self.at = since;
        }
    }

    /// Everything from the moment that is reached back to when a subtask's last barrier was in, and on from there.
    fn subtask(&mut self, of: &'r SubtaskRecord) {
        let name = of.name.as_str();
        if !self.seen.insert(name) {
            return;
        }
        if let Some(acked) = of.acked {
            self.piece(Stage::Decision, "", acked, Reason::Unknown);
        }
        if let Some(stored) = of.stored {
            self.piece(Stage::Acknowledge, name, stored, Reason::Unknown);
        }
        if let Some(encoded) = of.encoded {
            let reason = self.reasons.store();
            self.piece(Stage::Upload, name, encoded, reason);
        }
        if let Some(captured) = of.captured {
            self.piece(Stage::Encode, name, captured, Reason::Unknown);
        }
        self.up_to_captured(of);
    }

    /// The same for a subtask whose barrier was waited for by another one: what it did after its cut does not matter.
    fn sender(&mut self, of: &'r SubtaskRecord) {
        if self.seen.insert(&of.name) {
            self.up_to_cut(of);
        }
    }

    fn up_to_captured(&mut self, of: &'r SubtaskRecord) {
        let Some(cut) = of.cut else {
            return self.up_to_cut(of);
        };
        // Where barriers overtook, it is done when the last of them has come.
        if of.overtook
            && let Some(from) = self.sender_of(of)
            && from.cut.is_none_or(|sent| sent > cut)
        {
            if let Some(sent) = from.cut {
                let reason = self.reasons.of_capture(of, self.at.saturating_sub(sent));
                self.piece(Stage::Capture, &of.name, sent, reason);
            }
            return self.sender(from);
        }
        let reason = self.reasons.of_capture(of, self.at.saturating_sub(cut));
        self.piece(Stage::Capture, &of.name, cut, reason);
        self.up_to_cut(of);
    }

    fn up_to_cut(&mut self, of: &'r SubtaskRecord) {
        if let Some(last_barrier) = of.last_barrier {
            let ms = self.at.saturating_sub(last_barrier);
            let reason = self.reasons.of(of, &of.freeze, ms);
            self.piece(Stage::Freeze, &of.name, last_barrier, reason);
        }
        self.barrier(of);
    }

    /// How the barrier came to a subtask.
    fn barrier(&mut self, of: &'r SubtaskRecord) {
        let sent = self.record.barriers_sent.unwrap_or(0);
        if of.is_source {
            let reason = self.reasons.of(of, &of.before, self.at.saturating_sub(sent));
            return self.piece(Stage::Barrier, &of.name, sent, reason);
        }
        if of.overtook {
            return self.overtaking_barrier(of);
        }
        let Some(from) = self.sender_of(of) else {
            let reason = self.reasons.of(of, &of.before, self.at.saturating_sub(sent));
            return self.piece(Stage::Barrier, &of.name, sent, reason);
        };
        if let Some(cut) = from.cut {
            let ms = self.at.saturating_sub(cut);
            let reason = self.reasons.of(of, &of.before, ms);
            self.piece(Stage::Barrier, &of.name, cut, reason);
        }
        self.sender(from);
    }

    /// Barriers overtake when the first has been heard of, the time-out is over, and those of channels that keep their order are in.
    fn overtaking_barrier(&mut self, of: &'r SubtaskRecord) {
        let ordered = of.in_order.as_ref();
        let since = ordered.map(|(_, at)| *at).max(of.first_barrier).unwrap_or(0);
        let ms = self.at.saturating_sub(since);
        let reason = self.reasons.of(of, &of.before, ms);
        self.piece(Stage::Timeout, &of.name, since, reason);
        let from = match ordered.filter(|(_, at)| *at >= since) {
            Some((from, _)) => self.reasons.subtask(from),
            // Whose barrier was the first is not kept: it was heard of when it was sent.
            None => {
                let subtasks = self.record.subtasks.iter();
                let before = subtasks.filter(|other| other.cut.is_some_and(|cut| cut <= since));
                before
                    .filter(|other| !self.seen.contains(other.name.as_str()))
                    .max_by_key(|other| other.cut)
            }
        };
        let Some(from) = from else { return };
        if let Some(cut) = from.cut {
            let keeps_order = ordered.is_some_and(|(name, _)| *name == from.name);
            let why = self.reasons.of(of, &of.before, self.at.saturating_sub(cut));
            let reason = match keeps_order {
                true => Reason::KeepsOrder {
                    from: from.name.clone(),
                    why: Box::new(why),
                },
                false => why,
            };
            self.piece(Stage::Barrier, &of.name, cut, reason);
        }
        self.sender(from);
    }

    /// Whose barrier came last, or is missing.
    fn sender_of(&self, of: &SubtaskRecord) -> Option<&'r SubtaskRecord> {
        let missing = of.missing.iter().filter_map(|name| self.reasons.subtask(name));
        let missing = missing.min_by_key(|subtask| (subtask.cut.is_some(), std::cmp::Reverse(subtask.cut)));
        if missing.is_some() {
            return missing;
        }
        if let Some(from) = &of.last_from {
            return self.reasons.subtask(from);
        }
        // No barrier has come, so none is known to be missing: it waits for the first that was not sent, or for what lies
        // before those that were.
        let place = self
            .record
            .subtasks
            .iter()
            .position(|other| other.name == of.name)?;
        let mut before = self.record.subtasks[..place]
            .iter()
            .filter(|other| other.vertex != of.vertex && !self.seen.contains(other.name.as_str()));
        let uncut = before.clone().find(|other| other.cut.is_none());
        uncut.or_else(|| before.by_ref().max_by_key(|other| other.cut))
    }
}
