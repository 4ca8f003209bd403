//! Why a subtask took its time over something: from what it spent that time on, and, where that was waiting for room, from
//! what those did that it waited for. Pure.

use super::record::{CheckpointRecord, SubtaskRecord, TimeUse};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// So many times what the subtask in the middle of a vertex has is skew.
const SKEW: u64 = 3;
/// Calls shorter than this hold nobody up.
const LONG_CALL_MS: u64 = 20;

/// Why something took its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Reason {
    /// There is nothing to say.
    Unknown,
    /// The subtask had no room downstream; the one at the end of that line is named.
    Backpressure {
        /// The subtask that did not take more.
        by: String,
        /// Why it did not.
        why: Box<Reason>,
    },
    /// Inside one call of an operator: no barrier can pass there.
    OneCall {
        /// The operator.
        operator: String,
        /// How long.
        ms: u64,
        /// How many rows it was about; none while it is still under way.
        rows: Option<u64>,
    },
    /// At work in an operator.
    Busy {
        /// The operator.
        operator: String,
        /// It got far more records than the others of its vertex.
        skew: Option<Skew>,
    },
    /// An operator waited for something outside.
    Waits {
        /// The operator.
        operator: String,
    },
    /// Another subtask held the slot that both share.
    Slot {
        /// The other one.
        by: String,
        /// Why.
        why: Box<Reason>,
    },
    /// Encoding or the store was behind.
    Writer {
        /// Calls to the store that had to be repeated.
        retries: u32,
        /// Why, the last time.
        error: Option<String>,
    },
    /// It has far more state than the others of its vertex.
    Skew(Skew),
    /// The barrier came by a channel in which none may overtake.
    KeepsOrder {
        /// Who sent it.
        from: String,
        /// Why it took its time.
        why: Box<Reason>,
    },
}

/// One subtask of a vertex has far more than the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skew {
    /// Of what.
    pub of: &'static str,
    /// How many it has.
    pub has: u64,
    /// How many the one in the middle has.
    pub median: u64,
}

/// Looks for reasons in a record.
pub(super) struct Reasons<'r> {
    record: &'r CheckpointRecord,
    by_name: BTreeMap<&'r str, &'r SubtaskRecord>,
}

impl<'r> Reasons<'r> {
    pub(super) fn new(record: &'r CheckpointRecord) -> Reasons<'r> {
        let by_name = record
            .subtasks
            .iter()
            .map(|subtask| (subtask.name.as_str(), subtask));
        Reasons {
            record,
            by_name: by_name.collect(),
        }
    }

    pub(super) fn subtask(&self, name: &str) -> Option<&'r SubtaskRecord> {
        self.by_name.get(name).copied()
    }

    /// Why a subtask took so long in a phase.
    pub(super) fn of(&self, subtask: &'r SubtaskRecord, phase: &TimeUse, ms: u64) -> Reason {
        self.follow(subtask, phase, ms, &mut BTreeSet::new())
    }

    /// Why its state took so long to be copied.
    pub(super) fn of_capture(&self, subtask: &'r SubtaskRecord, ms: u64) -> Reason {
        if subtask.capture.writer * 2 >= ms {
            return self.store();
        }
        let slot = || self.slot(subtask, ms, &mut BTreeSet::new());
        let call = one_call(subtask, &subtask.capture, ms, self.record.ended);
        let skew = || {
            self.skew(subtask, "rows of state", |of| of.rows)
                .map(Reason::Skew)
        };
        call.or_else(slot).or_else(skew).unwrap_or(Reason::Unknown)
    }

    /// How the store did.
    pub(super) fn store(&self) -> Reason {
        let store = &self.record.store;
        Reason::Writer {
            retries: store.retries,
            error: store.last_error.clone(),
        }
    }

    fn follow(
        &self,
        subtask: &'r SubtaskRecord,
        phase: &TimeUse,
        ms: u64,
        seen: &mut BTreeSet<&'r str>,
    ) -> Reason {
        seen.insert(&subtask.name);
        if let Some(call) = one_call(subtask, phase, ms, self.record.ended) {
            return call;
        }
        let most = |of: &BTreeMap<String, u64>| {
            let most = of.iter().max_by_key(|(_, ms)| **ms);
            most.map(|(name, ms)| (name.clone(), *ms))
        };
        let (no_room, waits, busy) = (most(&phase.no_room), most(&phase.waits), most(&phase.busy));
        let total = |of: &BTreeMap<String, u64>| of.values().sum::<u64>();
        let shares = [
            total(&phase.no_room),
            total(&phase.waits),
            total(&phase.busy),
            phase.others.max(phase.idle),
        ];
        let largest = shares.iter().copied().max().unwrap_or(0);
        match (no_room, waits, busy) {
            (Some((by, _)), ..) if shares[0] == largest => self.backpressure(by, ms, seen),
            (_, Some((operator, _)), _) if shares[1] == largest => Reason::Waits { operator },
            (.., Some((operator, _))) if shares[2] == largest => Reason::Busy {
                operator,
                skew: self.skew(subtask, "records", |of| of.records_in),
            },
            _ => self.slot(subtask, ms, seen).unwrap_or(Reason::Unknown),
        }
    }

    /// The end of the line of those that wait for room.
    fn backpressure(&self, by: String, ms: u64, seen: &mut BTreeSet<&'r str>) -> Reason {
        let held_up = |why| Reason::Backpressure {
            by: by.clone(),
            why: Box::new(why),
        };
        let Some(next) = self
            .subtask(&by)
            .filter(|next| !seen.contains(next.name.as_str()))
        else {
            return held_up(Reason::Unknown);
        };
        let all = whole(next);
        match self.follow(next, &all, ms, seen) {
            Reason::Backpressure { by, why } => Reason::Backpressure { by, why },
            why => held_up(why),
        }
    }

    /// Another subtask of its slot that had the slot for most of that time.
    fn slot(&self, subtask: &SubtaskRecord, ms: u64, seen: &mut BTreeSet<&'r str>) -> Option<Reason> {
        let mates = self.record.subtasks.iter().filter(|mate| {
            mate.slot == subtask.slot && mate.name != subtask.name && !seen.contains(mate.name.as_str())
        });
        let held = mates.filter_map(|mate| {
            let all = whole(mate);
            let busy: u64 = all.busy.values().sum();
            let call = one_call(mate, &all, ms, self.record.ended);
            let at_work = call.is_some() || busy * 2 >= ms;
            at_work.then_some((call.is_some(), busy, mate, call))
        });
        let (.., mate, call) = held.max_by_key(|(is_call, busy, ..)| (*is_call, *busy))?;
        let busiest = || {
            let busy = whole(mate).busy;
            let most = busy.into_iter().max_by_key(|(_, ms)| *ms)?;
            Some(Reason::Busy {
                operator: most.0,
                skew: self.skew(mate, "records", |of| of.records_in),
            })
        };
        let why = call.or_else(busiest)?;
        Some(Reason::Slot {
            by: mate.name.clone(),
            why: Box::new(why),
        })
    }

    /// Whether a subtask has far more of something than the others of its vertex.
    fn skew(
        &self,
        subtask: &SubtaskRecord,
        of: &'static str,
        number: impl Fn(&SubtaskRecord) -> u64,
    ) -> Option<Skew> {
        let others = self
            .record
            .subtasks
            .iter()
            .filter(|other| other.vertex == subtask.vertex);
        let mut numbers: Vec<u64> = others.map(&number).collect();
        numbers.sort_unstable();
        let median = numbers[numbers.len().checked_sub(1)? / 2];
        let has = number(subtask);
        (numbers.len() > 1 && has > median.saturating_mul(SKEW)).then_some(Skew { of, has, median })
    }
}

/// One call that took most of a time, or has been under way for most of it.
fn one_call(subtask: &SubtaskRecord, phase: &TimeUse, ms: u64, ended: u64) -> Option<Reason> {
    let is_long = |call_ms: u64| call_ms >= LONG_CALL_MS && call_ms * 2 >= ms;
    let under_way = ended.saturating_sub(subtask.known_until);
    if let Some(operator) = subtask.at_work.clone().filter(|_| is_long(under_way)) {
        return Some(Reason::OneCall {
            operator,
            ms: under_way,
            rows: None,
        });
    }
    let longest = phase.longest.as_ref().filter(|call| is_long(call.ms))?;
    Some(Reason::OneCall {
        operator: longest.operator.clone(),
        ms: longest.ms,
        rows: Some(longest.rows),
    })
}

/// All that a subtask did from the trigger on.
fn whole(subtask: &SubtaskRecord) -> TimeUse {
    let mut all = TimeUse::default();
    for phase in [&subtask.before, &subtask.freeze, &subtask.capture, &subtask.after] {
        for (sums, more) in [
            (&mut all.busy, &phase.busy),
            (&mut all.no_room, &phase.no_room),
            (&mut all.waits, &phase.waits),
        ] {
            more.iter()
                .for_each(|(name, ms)| *sums.entry(name.clone()).or_default() += ms);
        }
        all.others += phase.others;
        all.idle += phase.idle;
        all.writer += phase.writer;
        let longest = phase
            .longest
            .iter()
            .chain(&all.longest)
            .max_by_key(|call| call.ms);
        all.longest = longest.cloned();
    }
    all
}
