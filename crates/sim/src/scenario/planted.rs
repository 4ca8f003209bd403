//! Bugs that the simulator must find, planted at the seams it hands in: production code has no branch for them.

use super::copies::Stale;
use rivermark_connector::commit::COMMITTABLES;
use rivermark_data::Element;
use rivermark_protocol::aligner::AlignEvent;
use rivermark_protocol::coordinator::CkAction;
use rivermark_runtime::gate::InputChannel;
use rivermark_runtime::in_flight::{RestoredChannel, RestoredInput};
use rivermark_runtime::{Lists, OperatorEvent, TaskCommand};
use rivermark_state::image::{ImageRow, ImageRows, RowEncoder, StateKind};
use rivermark_state::{RestoredState, row_codec};
use rivermark_types::{Attempt, ChannelIndex, SubtaskId, Timestamp, Uid};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The bugs there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Planted {
    /// Sinks are told to commit before the checkpoint is decided.
    NotifyBeforeDecision,
    /// A gate cuts without having waited for its first channel's barrier.
    ForgottenChannel,
    /// A restore commits prepared work of checkpoints that it does not start from.
    StaleCommittable,
    /// Timers come back from a checkpoint later than they were registered for.
    LateTimers,
    /// Every attempt of a process has the same number.
    ReusedAttempt,
    /// What barriers overtake is captured twice.
    CapturedTwice,
    /// The first batch that barriers overtake in a queue is not captured.
    CaptureMissed,
    /// What was in flight is read beside new records, not before them.
    ResumedLate,
    /// At another parallelism a subtask gets the records in flight that another has the key groups of.
    WrongKeyGroup,
    /// A channel whose records were in flight does not hold the watermark back.
    WatermarkLost,
    /// A restart believes local copies that are of an older checkpoint.
    StaleLocalCopy,
    /// The store says that a decision was not made when it does not know.
    UnknownRefused,
}

impl Planted {
    /// All of them.
    pub const ALL: [Planted; 12] = [
        Planted::NotifyBeforeDecision,
        Planted::ForgottenChannel,
        Planted::StaleCommittable,
        Planted::LateTimers,
        Planted::ReusedAttempt,
        Planted::CapturedTwice,
        Planted::CaptureMissed,
        Planted::ResumedLate,
        Planted::WrongKeyGroup,
        Planted::WatermarkLost,
        Planted::StaleLocalCopy,
        Planted::UnknownRefused,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Planted::NotifyBeforeDecision => "notify-before-decision",
            Planted::ForgottenChannel => "forgotten-channel",
            Planted::StaleCommittable => "stale-committable",
            Planted::LateTimers => "late-timers",
            Planted::ReusedAttempt => "reused-attempt",
            Planted::CapturedTwice => "captured-twice",
            Planted::CaptureMissed => "capture-missed",
            Planted::ResumedLate => "resumed-late",
            Planted::WrongKeyGroup => "wrong-key-group",
            Planted::WatermarkLost => "watermark-lost",
            Planted::StaleLocalCopy => "stale-local-copy",
            Planted::UnknownRefused => "unknown-refused",
        }
    }

    /// The bug of this name.
    pub fn of_name(name: &str) -> Option<Planted> {
        Planted::ALL.into_iter().find(|bug| bug.name() == name)
    }
}

impl fmt::Display for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A planted bug at work, over all processes of a run.
pub(crate) struct Plant {
    bug: Planted,
    /// The work that each operator had prepared, in any snapshot.
    prepared: Mutex<BTreeMap<Uid, Vec<Value>>>,
    /// What attempts got back.
    stale: Mutex<Stale>,
}

impl Plant {
    pub(crate) fn new(bug: Planted) -> Plant {
        Plant {
            bug,
            prepared: Mutex::default(),
            stale: Mutex::default(),
        }
    }

    fn prepared(&self) -> MutexGuard<'_, BTreeMap<Uid, Vec<Value>>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stale(&self) -> MutexGuard<'_, Stale> {
        self.stale.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn coordinate(&self, action: &CkAction) -> Option<TaskCommand> {
        match (self.bug, action) {
            (Planted::NotifyBeforeDecision, CkAction::Decide { checkpoint, .. }) => {
                Some(TaskCommand::EventAll(OperatorEvent::Committed(*checkpoint)))
            }
            _ => None,
        }
    }

    pub(crate) fn align(&self, _subtask: SubtaskId, event: AlignEvent, deliver: &mut dyn FnMut(AlignEvent)) {
        if let (Planted::ForgottenChannel, AlignEvent::Barrier { channel, barrier }) = (self.bug, event)
            && channel != ChannelIndex(0)
        {
            deliver(AlignEvent::Barrier {
                channel: ChannelIndex(0),
                barrier,
            });
        }
        deliver(event);
    }

    pub(crate) fn overtaken(&self, elements: &mut Vec<Element>) {
        match self.bug {
            Planted::CapturedTwice => elements.extend(elements.clone()),
            Planted::CaptureMissed => {
                let is_batch = |element: &Element| matches!(element, Element::Batch(_));
                if let Some(at) = elements.iter().position(is_batch) {
                    elements.remove(at);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn fetch(&self, channel: &mut RestoredChannel) {
        if self.bug == Planted::WrongKeyGroup
            && let Some((_, parts, own)) = &mut channel.part
        {
            *own = (*own + 1) % *parts;
        }
    }

    pub(crate) fn resume(&self, in_flight: &mut Vec<RestoredInput>, channels: &mut Vec<InputChannel>) {
        match self.bug {
            Planted::ResumedLate => channels.extend(in_flight.drain(..).map(|input| input.wired)),
            Planted::WatermarkLost => in_flight
                .iter_mut()
                .for_each(|input| input.watermark = Timestamp::MAX),
            _ => {}
        }
    }

    pub(crate) fn attempt(&self, next: Attempt) -> Attempt {
        match self.bug {
            Planted::ReusedAttempt => Attempt(1),
            Planted::StaleLocalCopy => {
                self.stale().attempt(next == Attempt(1));
                next
            }
            _ => next,
        }
    }

    pub(crate) fn snapshot(&self, operator: &Uid, lists: &Lists) {
        if self.bug == Planted::StaleCommittable
            && let Some(list) = lists.get(COMMITTABLES)
        {
            let mut prepared = self.prepared();
            let known = prepared.entry(operator.clone()).or_default();
            known.extend(list.iter().cloned());
        }
    }

    pub(crate) fn restore(&self, operator: &Uid, lists: &mut Lists, keyed: &mut RestoredState) {
        match self.bug {
            Planted::StaleCommittable => {
                let Some(newest) = self.prepared().remove(operator).and_then(|mut list| list.pop()) else {
                    return;
                };
                let list = lists.entry(COMMITTABLES.to_owned()).or_default();
                if !list.contains(&newest) {
                    list.push(newest);
                }
            }
            Planted::LateTimers => delay_timers(keyed),
            Planted::StaleLocalCopy => self.stale().restore(keyed),
            _ => {}
        }
    }
}

/// By how much timers are late.
const LATE_MS: i64 = 1_000;

/// Moves the timers of operators with numeric keys.
fn delay_timers(keyed: &mut RestoredState) {
    let timers: Vec<_> = keyed
        .states()
        .filter(|state| state.kind == StateKind::Timers)
        .cloned()
        .collect();
    let codec = row_codec::<u32, Vec<i64>>();
    for state in timers {
        for page in keyed.take(&state).unwrap_or_default() {
            let Ok(rows) = codec.decode(&page) else {
                // Keys of another type: these timers stay as they are.
                keyed.add(state.clone(), page);
                continue;
            };
            let late = rows.into_iter().map(|row| ImageRow {
                value: row
                    .value
                    .into_iter()
                    .map(|time| time + LATE_MS)
                    .collect::<Vec<i64>>(),
                ..row
            });
            let pages = codec.encode(vec![Box::new(ImageRows::from(late.collect::<Vec<_>>()))]);
            for page in pages.unwrap_or_default() {
                keyed.add(state.clone(), page.bytes);
            }
        }
    }
}
