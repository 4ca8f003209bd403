//! A witness of the coordinator: it sees every event and every action, keeps its own books, and says what was wrong.
//!
//! It is written from the rules, not from the code: it never predicts a list of actions, it judges each action when it
//! comes (was that allowed?) and the books after each event (was something owed?).

mod actions;

use rivermark_protocol::coordinator::{CkAction, CkEvent, CoordinatorConfig, DecisionOutcome, RequestError};
use rivermark_types::{Attempt, CheckpointId, SnapshotKind, SubtaskId};
use std::collections::{BTreeMap, BTreeSet};

pub type Judged = Result<(), String>;

macro_rules! require {
    ($condition:expr, $($text:tt)*) => { if !$condition { return Err(format!($($text)*)); } };
}
use require;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Committed,
    Aborted,
    /// Another process was found: nobody here may say what became of it.
    LeftAlone,
}

#[derive(Clone, Debug)]
struct Book {
    kind: SnapshotKind,
    attempt: Attempt,
    request: Option<u64>,
    triggered: u64,
    injected: bool,
    subtasks: BTreeSet<SubtaskId>,
    kept: BTreeSet<SubtaskId>,
    end: Option<End>,
    /// Its subtasks were told that it is given up.
    told: bool,
}

/// A decision that the store was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub checkpoint: CheckpointId,
    pub in_flight: bool,
    pub was_unknown: bool,
}

/// What the event at hand makes due: each must come, once, among its actions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Owed {
    committed: Option<CheckpointId>,
    notification: Option<CheckpointId>,
    subsumed: Vec<CheckpointId>,
    failure: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub seen: BTreeMap<&'static str, usize>,
}

impl Tally {
    fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }
}

pub struct Witness {
    config: CoordinatorConfig,
    now: u64,
    run: Option<(Attempt, BTreeSet<SubtaskId>)>,
    last_attempt: u32,
    ending: bool,
    books: BTreeMap<CheckpointId, Book>,
    retained: Vec<CheckpointId>,
    pub asked: Option<Asked>,
    waiting: Vec<(u64, SnapshotKind)>,
    answered: BTreeSet<u64>,
    next_periodic: Option<u64>,
    last_completion: Option<u64>,
    failures: u32,
    newest_success: u64,
    owed: Owed,
    next_id: u64,
    fenced: bool,
    pub tally: Tally,
}

fn millis(duration: std::time::Duration) -> u64 {
    duration.as_millis() as u64
}

impl Witness {
    pub fn new(config: CoordinatorConfig) -> Witness {
        Witness {
            config,
            now: 0,
            run: None,
            last_attempt: 0,
            ending: false,
            books: BTreeMap::new(),
            retained: Vec::new(),
            asked: None,
            waiting: Vec::new(),
            answered: BTreeSet::new(),
            next_periodic: None,
            last_completion: None,
            failures: 0,
            newest_success: 0,
            owed: Owed::default(),
            next_id: 1,
            fenced: false,
            tally: Tally::default(),
        }
    }

    pub fn open(&self) -> impl DoubleEndedIterator<Item = CheckpointId> {
        self.books
            .iter()
            .filter(|(_, book)| book.end.is_none())
            .map(|(id, _)| *id)
    }

    pub fn next_id(&self) -> u64 {
        self.next_id
    }

    pub fn attempt(&self) -> Option<Attempt> {
        self.run.as_ref().map(|(attempt, _)| *attempt)
    }

    /// The whole judgement on one event and its actions.
    pub fn judge(&mut self, now: u64, event: &CkEvent, actions: &[CkAction]) -> Judged {
        self.now = now;
        if self.fenced {
            return judge_fenced(event, actions);
        }
        self.owed = Owed::default();
        self.note(event)?;
        for (position, action) in actions.iter().enumerate() {
            self.judge_action(event, action, &actions[position + 1..])
                .map_err(|why| format!("{why}\n    event {event:?}\n    action {action:?}"))?;
        }
        self.judge_books(event)
            .map_err(|why| format!("{why}\n    event {event:?}\n    actions {actions:?}"))
    }

    /// What the event alone changes.
    fn note(&mut self, event: &CkEvent) -> Judged {
        match event {
            CkEvent::AttemptStarted {
                attempt,
                subtasks,
                restored,
                next_id,
                random,
            } => {
                self.run = None;
                self.ending = false;
                self.next_id = self.next_id.max(next_id.0).max(restored.map_or(0, |id| id.0 + 1));
                if self.asked.is_none() && attempt.0 > self.last_attempt {
                    self.last_attempt = attempt.0;
                    self.run = Some((*attempt, subtasks.iter().copied().collect()));
                    let pause = millis(self.config.min_pause);
                    self.next_periodic = self
                        .interval()
                        .map(|interval| self.now + pause + random % (interval - pause + 1));
                }
            }
            CkEvent::AttemptEnded => self.run = None,
            CkEvent::Requested { kind, request } => self.waiting.push((request.0, *kind)),
            CkEvent::Decision { checkpoint, outcome } => return self.note_decision(*checkpoint, outcome),
            _ => {}
        }
        Ok(())
    }

    fn note_decision(&mut self, checkpoint: CheckpointId, outcome: &DecisionOutcome) -> Judged {
        let Some(asked) = self.asked.as_mut().filter(|asked| asked.checkpoint == checkpoint) else {
            return Ok(());
        };
        match outcome {
            DecisionOutcome::Committed => self.note_committed(checkpoint),
            DecisionOutcome::NotWritten(_) if !asked.was_unknown => Ok(()),
            DecisionOutcome::NotWritten(_) | DecisionOutcome::Unknown => {
                (asked.in_flight, asked.was_unknown) = (false, true);
                self.tally.count("unknown");
                Ok(())
            }
            DecisionOutcome::Fenced(_) => Ok(()),
        }
    }

    fn note_committed(&mut self, checkpoint: CheckpointId) -> Judged {
        self.asked = None;
        self.last_completion = Some(self.now);
        if checkpoint.0 > self.newest_success {
            self.newest_success = checkpoint.0;
            self.failures = 0;
        }
        let list = self.list_with(checkpoint)?;
        let subsumed = self
            .retained
            .iter()
            .copied()
            .filter(|id| !list.contains(id))
            .collect();
        self.retained = list;
        let book = self.open_book(checkpoint)?;
        book.end = Some(End::Committed);
        let (kind, attempt) = (book.kind, book.attempt);
        let notify = kind != SnapshotKind::Savepoint && self.attempt() == Some(attempt);
        self.ending |= notify && kind == SnapshotKind::Final;
        let notification = notify.then_some(checkpoint);
        self.owed = Owed {
            committed: Some(checkpoint),
            notification,
            subsumed,
            failure: false,
        };
        Ok(())
    }

    fn interval(&self) -> Option<u64> {
        self.config
            .interval
            .map(|interval| millis(interval.max(self.config.min_pause)))
    }

    fn is_of_run(&self, book: &Book) -> bool {
        self.attempt() == Some(book.attempt)
    }

    fn book(&mut self, checkpoint: CheckpointId) -> Result<&mut Book, String> {
        self.books
            .get_mut(&checkpoint)
            .ok_or_else(|| format!("checkpoint {checkpoint} was never begun"))
    }

    fn open_book(&mut self, checkpoint: CheckpointId) -> Result<&mut Book, String> {
        let book = self.book(checkpoint)?;
        require!(
            book.end.is_none(),
            "checkpoint {checkpoint} is over: {:?}",
            book.end
        );
        Ok(book)
    }

    fn may_begin(&self) -> bool {
        let mut open = self.books.values().filter(|book| book.end.is_none());
        self.run.is_some()
            && !self.ending
            && open.clone().count() < self.config.max_concurrent
            && open.all(|book| book.injected && book.kind != SnapshotKind::Final)
    }

    fn periodic_due(&self) -> Option<u64> {
        let pause_ends = self
            .last_completion
            .map_or(0, |at| at + millis(self.config.min_pause));
        self.run.as_ref()?;
        self.next_periodic.map(|next| next.max(pause_ends))
    }

    /// An acknowledgement or a decline that comes from where it should, about a checkpoint whose barriers are out.
    fn is_genuine(&self, attempt: Attempt, checkpoint: CheckpointId, subtask: SubtaskId) -> bool {
        let injected = self
            .books
            .get(&checkpoint)
            .is_some_and(|book| book.injected && book.attempt == attempt);
        injected
            && self
                .books
                .get(&checkpoint)
                .is_some_and(|book| book.subtasks.contains(&subtask))
    }

    fn is_genuine_ack(&self, event: &CkEvent) -> bool {
        matches!(event, CkEvent::Ack { attempt, checkpoint, subtask } if self.is_genuine(*attempt, *checkpoint, *subtask))
    }

    fn kind_of(&self, checkpoint: CheckpointId) -> Result<SnapshotKind, String> {
        self.books
            .get(&checkpoint)
            .map(|book| book.kind)
            .ok_or_else(|| format!("{checkpoint} was never begun"))
    }

    /// The retained list once this checkpoint is committed: all savepoints, and the newest others.
    fn list_with(&self, checkpoint: CheckpointId) -> Result<Vec<CheckpointId>, String> {
        let mut list = self.retained.clone();
        list.push(checkpoint);
        let is_savepoint = |id: &CheckpointId| self.kind_of(*id).map(|kind| kind == SnapshotKind::Savepoint);
        let mut others = Vec::new();
        for id in &list {
            if !is_savepoint(id)? {
                others.push(*id);
            }
        }
        others.sort();
        let gone: BTreeSet<_> = others
            .iter()
            .rev()
            .skip(self.config.num_retained)
            .copied()
            .collect();
        list.retain(|id| !gone.contains(id));
        Ok(list)
    }

    /// What must be true after every event, whatever the actions were.
    fn judge_books(&mut self, event: &CkEvent) -> Judged {
        if self.fenced {
            return Ok(());
        }
        let committed = self.owed.committed.take();
        require!(self.owed == Owed::default(), "still owed: {:?}", self.owed);
        if let CkEvent::Decision { checkpoint, outcome } = event
            && self
                .asked
                .is_some_and(|asked| asked.checkpoint == *checkpoint && !asked.was_unknown)
        {
            return Err(format!("goes on as if {outcome:?} had not been said"));
        }
        if self.is_genuine_ack(event)
            && let CkEvent::Ack {
                checkpoint, subtask, ..
            } = event
        {
            let book = self.book(*checkpoint)?;
            require!(
                book.end.is_some() || book.kept.contains(subtask),
                "a genuine acknowledgement is lost"
            );
        }
        if let CkEvent::Declined {
            attempt,
            checkpoint,
            subtask,
            ..
        } = event
            && self.is_genuine(*attempt, *checkpoint, *subtask)
        {
            let deciding = self.asked.is_some_and(|asked| asked.checkpoint == *checkpoint);
            require!(
                deciding || self.book(*checkpoint)?.end.is_some(),
                "declined, but still open"
            );
        }
        for (id, book) in self.books.iter().filter(|(_, book)| book.end.is_none()) {
            let deciding = self.asked.is_some_and(|asked| asked.checkpoint == *id);
            let expired = book.triggered + millis(self.config.timeout) <= self.now;
            require!(deciding || !expired, "{id} should have expired");
            require!(deciding || self.is_of_run(book), "{id} outlives its attempt");
            let all_in = self
                .run
                .as_ref()
                .is_some_and(|(_, subtasks)| *subtasks == book.kept);
            require!(
                self.asked.is_some() || !(book.injected && all_in),
                "{id} should be decided"
            );
            let is_subsumable = book.kind != SnapshotKind::Savepoint;
            let newer =
                committed.filter(|newer| newer > id && self.kind_of(*newer) != Ok(SnapshotKind::Savepoint));
            require!(
                !is_subsumable || newer.is_none(),
                "{id} is older than {newer:?}, which is complete"
            );
        }
        let wanted = !self.waiting.is_empty() || self.periodic_due().is_some_and(|due| due <= self.now);
        require!(!(wanted && self.may_begin()), "something should have begun");
        require!(self.waiting.len() <= self.config.max_requests, "too many wait");
        Ok(())
    }

    /// The next wake-up must be in the future, and not after anything that falls due.
    pub fn judge_deadline(&self, deadline: Option<u64>) -> Judged {
        let timeout = millis(self.config.timeout);
        let asked = self.asked.map(|asked| asked.checkpoint);
        let undecided = self
            .books
            .iter()
            .filter(|(id, book)| book.end.is_none() && Some(**id) != asked);
        let expiries = undecided.map(|(_, book)| book.triggered + timeout);
        let begin = self.periodic_due().filter(|_| self.may_begin());
        let retry_max = millis(self.config.decision_retry_max);
        let retry = self
            .asked
            .filter(|asked| !asked.in_flight)
            .map(|_| self.now + retry_max);
        let due = expiries.chain(begin).chain(retry).min().filter(|_| !self.fenced);
        require!(
            deadline.is_none_or(|at| at > self.now),
            "a deadline in the past would spin"
        );
        require!(
            due.is_none_or(|due| deadline.is_some_and(|at| at <= due)),
            "sleeps until {deadline:?}, but {due:?} is due"
        );
        require!(due.is_some() || deadline.is_none(), "wakes up for nothing");
        Ok(())
    }

    /// Everything was ended and every decision answered: nothing may be left over.
    pub fn judge_end(&self) -> Judged {
        for (id, book) in &self.books {
            require!(
                book.end.is_some(),
                "checkpoint {id} is neither completed nor discarded"
            );
        }
        require!(
            self.waiting.is_empty(),
            "requests {:?} were never answered",
            self.waiting
        );
        require!(self.asked.is_none(), "a decision is still pending");
        Ok(())
    }
}

/// Nothing may happen any more but the refusal of requests.
fn judge_fenced(event: &CkEvent, actions: &[CkAction]) -> Judged {
    match (event, actions) {
        (
            CkEvent::Requested { request, .. },
            [
                CkAction::RequestAnswered {
                    request: answered,
                    result,
                },
            ],
        ) => {
            require!(
                request == answered && *result == Err(RequestError::Fenced),
                "a wrong answer: {actions:?}"
            );
            Ok(())
        }
        (CkEvent::Requested { .. }, _) => Err("a request without an answer".into()),
        (_, []) => Ok(()),
        _ => Err(format!("acts after it was fenced: {actions:?}")),
    }
}
