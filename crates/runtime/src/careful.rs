//! Care: an operator that failed before is handed its rows one at a time, and the engine keeps the row it is on, so that
//! the next error shows it. A row that failed too often is given up: it goes to the dead letters and never to the operator.
//!
//! The care is chosen when an attempt is built, and ends in it once enough checkpoints are decided. Without it nothing of
//! this runs. Non-goal: whether and which rows are given up (`protocol::restart` decides).

use crate::cursor::TypedRows;
use crate::operator::SubtaskInfo;
use rivermark_data::{Batch, Data, DeadLetter, Typed};
use rivermark_protocol::restart::careful::CHECKPOINTS_UNTIL_NORMAL;
use rivermark_types::hash_key;
use std::collections::BTreeMap;

/// The seed of the digests that rows are known again by.
const DIGEST_SEED: u64 = 0x6361_7265_6675_6c01;
/// So much of a row is shown in an error.
const SHOWN: usize = 1 << 10;
/// So much of a row is kept in a dead letter.
const KEPT: usize = 1 << 20;

/// How an attempt treats the rows of an operator that fail.
#[derive(Clone, Debug, Default)]
pub struct Care {
    /// The port that records given up leave by.
    pub dead_letters: Option<u8>,
    /// Set if it runs carefully: the rows that it is to give up, by digest, each with why.
    pub careful: Option<BTreeMap<u64, String>>,
}

/// A row that an operator failed at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedRow {
    /// A digest of its content.
    pub digest: u64,
    /// The row as JSON; the beginning of it, if it is long.
    pub text: String,
    /// Whether it may go to the dead letters.
    pub may_be_given_up: bool,
}

/// What the engine keeps beside an operator that runs carefully.
pub(crate) struct Careful {
    operator: String,
    give_up: BTreeMap<u64, String>,
    may_give_up: bool,
    checkpoints: u32,
    /// Digest and JSON of the row at hand.
    at: Option<(u64, String)>,
    dead: Vec<DeadLetter>,
}

impl Careful {
    /// The care for an operator, if there is to be any.
    pub(crate) fn new(care: &Care, info: &SubtaskInfo) -> Option<Box<Careful>> {
        let give_up = care.careful.clone()?;
        let operator = info
            .uid
            .as_ref()
            .map_or(info.name.clone(), |uid| uid.as_str().to_owned());
        Some(Box::new(Careful {
            operator,
            give_up,
            may_give_up: care.dead_letters.is_some(),
            checkpoints: 0,
            at: None,
            dead: Vec::new(),
        }))
    }

    /// Takes out the rows in front that are to be given up, and keeps the one that the operator gets now, alone.
    pub(crate) fn look<T: Data>(&mut self, rows: &mut TypedRows<T>) {
        self.at = None;
        while let Some(row) = rows.peek().first() {
            // A row that cannot be shown cannot be told from others either.
            let Ok(json) = serde_json::to_string(row) else {
                break;
            };
            let digest = hash_key(DIGEST_SEED, &json).0;
            let Some(why) = self.give_up.get(&digest) else {
                self.at = Some((digest, json));
                break;
            };
            self.dead.push(DeadLetter {
                operator: self.operator.clone(),
                split: None,
                position: None,
                error: why.clone(),
                record: shortened(json, KEPT),
                hex: None,
            });
            rows.leave_out();
        }
        rows.limit(1);
    }

    /// No row is at hand.
    pub(crate) fn look_away(&mut self) {
        self.at = None;
    }

    /// The row that the operator was at work on.
    pub(crate) fn failed_row(&self) -> Option<FailedRow> {
        self.at.as_ref().map(|(digest, json)| FailedRow {
            digest: *digest,
            text: shortened(json.clone(), SHOWN),
            may_be_given_up: self.may_give_up,
        })
    }

    /// What was given up since the last call.
    pub(crate) fn take_dead(&mut self) -> Option<Batch> {
        (!self.dead.is_empty()).then(|| Batch::new(Typed::untimed(std::mem::take(&mut self.dead))))
    }

    /// A checkpoint is decided; tells whether the care is still needed.
    pub(crate) fn checkpoint_decided(&mut self) -> bool {
        self.checkpoints += 1;
        self.checkpoints < CHECKPOINTS_UNTIL_NORMAL
    }
}

fn shortened(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_row_is_cut_between_two_characters() {
        assert_eq!(shortened("abc".into(), 3), "abc");
        assert_eq!(shortened("a\u{e9}b".into(), 2), "a...");
    }
}
