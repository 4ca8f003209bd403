//! The critical path in one sentence. Pure.

use super::path::{Piece, Stage, critical_path};
use super::reason::{Reason, Skew};
use super::record::CheckpointRecord;
use crate::wording::{count, counted, size, span};
use serde::Serialize;
use std::time::Duration;

/// Pieces of less than one in so many of the whole are added up as the rest.
const WORTH_TELLING: u64 = 50;

/// Of subtasks that are told together, those with less than one in so many of the largest part are not named.
const NAMED: u64 = 10;

/// Why a checkpoint took as long as it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// From its trigger to its end.
    pub total_ms: u64,
    /// In one sentence.
    pub sentence: String,
    /// The pieces of the critical path, the first first.
    pub path: Vec<Piece>,
}

/// Explains a checkpoint by its record.
pub fn explain(record: &CheckpointRecord) -> Explanation {
    let mut path = critical_path(record);
    path.reverse();
    Explanation {
        total_ms: record.ended,
        sentence: sentence(record, &path),
        path,
    }
}

/// Pieces that are told together: they went into the same, for the same reason.
struct Told {
    ms: u64,
    /// Each with its part.
    subtasks: Vec<(u64, String)>,
    stage: Stage,
    reason: Reason,
}

fn sentence(record: &CheckpointRecord, path: &[Piece]) -> String {
    let mut told: Vec<Told> = vec![];
    let mut rest = 0;
    for piece in path {
        let same = |told: &&mut Told| {
            told.stage == piece.stage && told.reason == piece.reason && piece.reason != Reason::Unknown
        };
        if let Some(told) = told.iter_mut().find(same) {
            told.ms += piece.ms;
            told.subtasks.push((piece.ms, piece.subtask.clone()));
        } else {
            told.push(Told {
                ms: piece.ms,
                subtasks: vec![(piece.ms, piece.subtask.clone())],
                stage: piece.stage,
                reason: piece.reason.clone(),
            });
        }
    }
    told.sort_by_key(|told| std::cmp::Reverse(told.ms));
    let mut parts = vec![];
    for (at, told) in told.iter().enumerate() {
        if at > 0 && told.ms * WORTH_TELLING < record.ended {
            rest += told.ms;
        } else {
            parts.push(format!("{} {}", ms(told.ms), told.text(record)));
        }
    }
    if rest > 0 {
        parts.push(format!("{} for the rest", ms(rest)));
    }
    let what = match (&record.given_up, parts.is_empty()) {
        (_, true) => return format!("{}: too short to tell", ms(record.ended)),
        (None, false) => ms(record.ended),
        (Some(why), false) => format!("given up after {} ({why})", ms(record.ended)),
    };
    format!("{what} = {}", parts.join(" + "))
}

impl Told {
    /// Those with a part worth telling, the largest first.
    fn names(&self) -> String {
        let mut named: Vec<&(u64, String)> = self.subtasks.iter().collect();
        named.sort_by_key(|(ms, _)| std::cmp::Reverse(*ms));
        let most = named.first().map_or(0, |(ms, _)| *ms);
        named.retain(|(ms, _)| ms * NAMED >= most);
        let names: Vec<&str> = named.iter().map(|(_, name)| name.as_str()).collect();
        names.join(" and ")
    }

    fn text(&self, record: &CheckpointRecord) -> String {
        let of = self.names();
        let what = match self.stage {
            Stage::Enumerators => "asking the sources' enumerators".to_owned(),
            Stage::Barrier if of.is_empty() => "before the barriers were sent".to_owned(),
            Stage::Barrier => format!("the barrier waited before {of}"),
            Stage::Timeout => format!("{of} aligned until its barriers might overtake"),
            Stage::Freeze => format!("the barrier passed through {of}"),
            Stage::Capture => {
                let subtask = record.subtasks.iter().find(|subtask| subtask.name == of);
                let state = subtask.map_or_else(String::new, |subtask| {
                    let rows = counted(subtask.rows, "row");
                    format!(" ({rows}, {})", size(subtask.bytes))
                });
                format!("the state of {of}{state} was copied")
            }
            Stage::Encode => "rows were encoded".to_owned(),
            Stage::Upload => {
                let objects = counted(record.store.objects.into(), "object");
                let in_flight = match record
                    .subtasks
                    .iter()
                    .map(|subtask| subtask.in_flight_bytes)
                    .sum()
                {
                    0 => String::new(),
                    bytes => format!(" (about {} were in flight)", size(bytes)),
                };
                format!("the store took {} in {objects}{in_flight}", size(record.bytes))
            }
            Stage::Acknowledge => "the report was on its way".to_owned(),
            Stage::Decision => "the decision was written".to_owned(),
        };
        let why = self.reason.text();
        match why.is_empty() {
            true => what,
            false => format!("{what}, {why}"),
        }
    }
}

impl Reason {
    /// As the end of a sentence about the subtask; empty if there is nothing to say.
    pub fn text(&self) -> String {
        let and = |text: String, why: &Reason| match why.text() {
            why if why.is_empty() => text,
            why => format!("{text}, {why}"),
        };
        match self {
            Reason::Unknown => String::new(),
            Reason::Backpressure { by, why } => and(format!("held back by {by} (backpressure)"), why),
            Reason::OneCall {
                operator,
                ms: took,
                rows,
            } => {
                let rows = match rows {
                    None => ", and still is".to_owned(),
                    Some(0) => String::new(),
                    Some(rows) => format!(", for {}", counted(*rows, "row")),
                };
                format!(
                    "which was inside one call of {operator} for {}{rows}: nothing passes inside a call",
                    ms(*took)
                )
            }
            Reason::Busy { operator, skew: None } => format!("which was busy in {operator}"),
            Reason::Busy {
                operator,
                skew: Some(skew),
            } => format!("which was busy in {operator} with {}", skew.text()),
            Reason::Waits { operator } => format!("where {operator} waited for what is outside"),
            Reason::Slot { by, why } => and(format!("whose slot was held by {by}"), why),
            Reason::Writer { retries: 0, .. } => "as fast as the store is".to_owned(),
            Reason::Writer { retries, error } => {
                let error = error
                    .as_ref()
                    .map_or_else(String::new, |error| format!(", the last time because {error}"));
                format!("which had to be asked {} again{error}", counted_times(*retries))
            }
            Reason::Skew(skew) => format!("which has {}", skew.text()),
            Reason::KeepsOrder { from, why } => {
                let order = format!("no barrier may overtake in the channel from {from}");
                match why.text() {
                    why if why.is_empty() => order,
                    why => format!("{why}, and {order}"),
                }
            }
        }
    }
}

impl Skew {
    fn text(&self) -> String {
        format!(
            "{} {}, the subtask in the middle {} (skew)",
            count(self.has),
            self.of,
            count(self.median)
        )
    }
}

fn counted_times(n: u32) -> String {
    counted(n.into(), "time")
}

pub(super) fn ms(ms: u64) -> String {
    span(Duration::from_millis(ms))
}
