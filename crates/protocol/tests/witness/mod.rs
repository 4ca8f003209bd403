//! A witness of the coordinator: it sees every event and every action, keeps its own books, and says what was wrong.
//!
//! It is written from the rules, not from the code: it never predicts a list of actions, it judges each action when it
//! comes (was that allowed?) and the books after each event (was something owed?).

use rivermark_protocol::coordinator::{
    AbortReason, AckVerdict, CkAction, CkEvent, CoordinatorConfig, DecisionOutcome, FailReason, RequestError,
};
use rivermark_types::{Attempt, CheckpointId, SnapshotKind, SubtaskId};
use std::collections::{BTreeMap, BTreeSet};

pub type Judged = Result<(), String>;

macro_rules! require {
    ($condition:expr, $($text:tt)*) => { if !$condition { return Err(format!($($text)*)); } };
}

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

    fn judge_action(&mut self, event: &CkEvent, action: &CkAction, rest: &[CkAction]) -> Judged {
        require!(
            !self.fenced || matches!(action, CkAction::RequestAnswered { .. }),
            "acts after it was fenced"
        );
        match action {
            CkAction::SnapshotEnumerators { checkpoint, kind } => self.judge_begin(*checkpoint, *kind),
            CkAction::TriggerSources(barrier) => {
                let reported = CkEvent::EnumeratorsSnapshotted {
                    checkpoint: barrier.checkpoint,
                };
                require!(
                    *event == reported,
                    "barriers before the enumerators were snapshotted"
                );
                let book = self.open_book(barrier.checkpoint)?;
                require!(
                    !book.injected && book.kind == barrier.kind,
                    "a second or a wrong barrier"
                );
                book.injected = true;
                Ok(())
            }
            CkAction::KeepAck { checkpoint, subtask } => {
                require!(self.is_genuine_ack(event), "kept an acknowledgement that is none");
                require!(self.open_book(*checkpoint)?.kept.insert(*subtask), "kept twice");
                Ok(())
            }
            CkAction::DiscardAck { verdict, .. } => self.judge_discarded_ack(event, *verdict),
            CkAction::Decide { checkpoint, retained } => self.judge_decide(*checkpoint, retained),
            CkAction::DecideAgain { checkpoint } => {
                self.tally.count("asked again");
                let asked = self.asked.as_mut().ok_or("asked again about nothing")?;
                require!(
                    asked.checkpoint == *checkpoint && asked.was_unknown,
                    "asked again without need"
                );
                require!(!asked.in_flight, "asked again while the store still works on it");
                asked.in_flight = true;
                Ok(())
            }
            CkAction::NotifyComplete(committed) => self.judge_notify(committed.checkpoint()),
            CkAction::NotifyAborted { checkpoint, reason } => {
                require!(
                    rest.first()
                        == Some(&CkAction::Discard {
                            checkpoint: *checkpoint
                        }),
                    "aborted, not discarded"
                );
                self.judge_reason(event, *checkpoint, reason)
            }
            CkAction::Discard { checkpoint } => self.judge_discard(event, *checkpoint),
            CkAction::Subsume { checkpoints } => self.judge_subsume(checkpoints),
            CkAction::FailJob { reason } => self.judge_failure(event, reason),
            CkAction::Fenced { .. } => {
                let was_told = matches!(
                    event,
                    CkEvent::Decision {
                        outcome: DecisionOutcome::Fenced(_),
                        ..
                    }
                );
                require!(was_told, "fenced by nobody");
                self.tally.count("fenced");
                self.fenced = true;
                self.asked = None;
                self.books
                    .values_mut()
                    .filter(|b| b.end.is_none())
                    .for_each(|b| b.end = Some(End::LeftAlone));
                Ok(())
            }
            CkAction::RequestAnswered { request, result } => self.judge_answer(event, request.0, result),
        }
    }

    fn judge_begin(&mut self, checkpoint: CheckpointId, kind: SnapshotKind) -> Judged {
        require!(self.may_begin(), "begun when nothing may be begun");
        require!(
            checkpoint.0 == self.next_id,
            "id {checkpoint}, but {} comes next",
            self.next_id
        );
        self.next_id += 1;
        let rank = |kind: SnapshotKind| match kind {
            SnapshotKind::Savepoint => 0,
            SnapshotKind::Final => 1,
            SnapshotKind::Checkpoint => 2,
        };
        let first = self
            .waiting
            .iter()
            .copied()
            .min_by_key(|(request, kind)| (rank(*kind), *request));
        match first {
            Some((request, wanted)) => {
                require!(kind == wanted, "{kind:?} out of turn");
                self.waiting.retain(|(waiting, _)| *waiting != request);
            }
            None => {
                require!(kind == SnapshotKind::Checkpoint, "nobody asked for a {kind:?}");
                require!(
                    self.periodic_due().is_some_and(|due| due <= self.now),
                    "too early"
                );
                self.tally.count("periodic");
                self.next_periodic = self.interval().map(|interval| self.now + interval);
            }
        }
        let (attempt, subtasks) = self.run.clone().ok_or("no attempt runs")?;
        let book = Book {
            kind,
            attempt,
            request: first.map(|(request, _)| request),
            triggered: self.now,
            injected: false,
            subtasks,
            kept: BTreeSet::new(),
            end: None,
            told: false,
        };
        self.books.insert(checkpoint, book);
        Ok(())
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

    fn judge_discarded_ack(&mut self, event: &CkEvent, verdict: AckVerdict) -> Judged {
        let CkEvent::Ack {
            attempt, checkpoint, ..
        } = event
        else {
            return Err("discarded no acknowledgement".into());
        };
        let end = self.books.get(checkpoint).and_then(|book| book.end);
        require!(
            end != Some(End::Committed),
            "deletes objects of a committed checkpoint"
        );
        match verdict {
            AckVerdict::Late => {
                self.tally.count("late");
                require!(
                    end == Some(End::Aborted) && self.attempt() == Some(*attempt),
                    "not late"
                );
            }
            AckVerdict::Zombie => {
                self.tally.count("zombie");
                require!(
                    end.is_some() || !self.is_genuine_ack(event),
                    "a living subtask called a zombie"
                );
            }
            other => return Err(format!("discarded as {other:?}")),
        }
        Ok(())
    }

    fn judge_decide(&mut self, checkpoint: CheckpointId, retained: &[CheckpointId]) -> Judged {
        require!(self.asked.is_none(), "two decisions in flight");
        let (attempt, subtasks) = self.run.clone().ok_or("decides for a dead attempt")?;
        let expected = self.list_with(checkpoint)?;
        let book = self.open_book(checkpoint)?;
        require!(book.attempt == attempt && book.injected, "decides too early");
        require!(book.kept == subtasks, "decides before everybody acknowledged");
        require!(retained == expected, "the head should list {expected:?}");
        self.asked = Some(Asked {
            checkpoint,
            in_flight: true,
            was_unknown: false,
        });
        Ok(())
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

    fn judge_notify(&mut self, checkpoint: CheckpointId) -> Judged {
        require!(
            self.owed.notification.take() == Some(checkpoint),
            "notified without need, or before it was decided"
        );
        self.tally.count("notified");
        Ok(())
    }

    /// Whether this reason to give the checkpoint up is true.
    fn judge_reason(&mut self, event: &CkEvent, checkpoint: CheckpointId, reason: &AbortReason) -> Judged {
        let (now, attempt) = (self.now, self.attempt());
        let timeout = millis(self.config.timeout);
        let book = self.open_book(checkpoint)?;
        require!(Some(book.attempt) == attempt, "tells a dead attempt");
        book.told = true;
        let book = book.clone();
        let holds = match (reason, event) {
            (AbortReason::Expired, _) => book.triggered + timeout <= now,
            (
                AbortReason::Declined { .. },
                CkEvent::Declined {
                    checkpoint: declined, ..
                },
            ) => *declined == checkpoint,
            (
                AbortReason::EnumeratorFailed(_),
                CkEvent::EnumeratorFailed {
                    checkpoint: failed, ..
                },
            ) => *failed == checkpoint && !book.injected,
            (
                AbortReason::NotWritten(_),
                CkEvent::Decision {
                    outcome: DecisionOutcome::NotWritten(_),
                    ..
                },
            ) => true,
            (
                AbortReason::Subsumed,
                CkEvent::Decision {
                    checkpoint: newer,
                    outcome: DecisionOutcome::Committed,
                },
            ) => *newer > checkpoint && book.kind != SnapshotKind::Savepoint,
            _ => false,
        };
        require!(holds, "not the reason");
        let counts = !matches!(reason, AbortReason::Subsumed) && book.kind != SnapshotKind::Savepoint;
        if counts {
            self.failures += 1;
            self.owed.failure = self
                .config
                .tolerable_failures
                .is_some_and(|limit| self.failures > limit);
        }
        if matches!(reason, AbortReason::Expired) {
            self.tally.count("expired");
        }
        Ok(())
    }

    fn judge_discard(&mut self, event: &CkEvent, checkpoint: CheckpointId) -> Judged {
        let surely_not_written = matches!(event,
            CkEvent::Decision { checkpoint: id, outcome: DecisionOutcome::NotWritten(_) } if *id == checkpoint);
        if let Some(asked) = self.asked.filter(|asked| asked.checkpoint == checkpoint) {
            require!(
                surely_not_written && !asked.was_unknown,
                "discards what may have been committed"
            );
            self.asked = None;
        }
        let attempt = self.attempt();
        let book = self.open_book(checkpoint)?;
        require!(
            book.told == (Some(book.attempt) == attempt),
            "discarded without a word to its subtasks"
        );
        book.end = Some(End::Aborted);
        self.tally.count("discarded");
        Ok(())
    }

    fn judge_subsume(&mut self, checkpoints: &[CheckpointId]) -> Judged {
        self.tally.count("subsumed");
        let owed = std::mem::take(&mut self.owed.subsumed);
        require!(
            !checkpoints.is_empty() && checkpoints == owed,
            "{owed:?} should go"
        );
        Ok(())
    }

    fn judge_failure(&mut self, event: &CkEvent, reason: &FailReason) -> Judged {
        self.tally.count("job failed");
        match (reason, event) {
            (FailReason::ToleranceExceeded { failures, .. }, _) => {
                require!(
                    std::mem::take(&mut self.owed.failure) && *failures == self.failures,
                    "tolerable"
                );
                self.failures = 0;
                self.run = None;
                Ok(())
            }
            (FailReason::StartedDuringDecision(id), CkEvent::AttemptStarted { .. }) => {
                require!(
                    self.asked.is_some_and(|asked| asked.checkpoint == *id),
                    "no decision was pending"
                );
                Ok(())
            }
            (FailReason::AttemptReused(reused), CkEvent::AttemptStarted { attempt, .. }) => {
                require!(
                    reused == attempt && attempt.0 <= self.last_attempt,
                    "a new attempt"
                );
                Ok(())
            }
            _ => Err("no reason to fail".into()),
        }
    }

    fn judge_answer(
        &mut self,
        event: &CkEvent,
        request: u64,
        result: &Result<CheckpointId, RequestError>,
    ) -> Judged {
        require!(self.answered.insert(request), "answered twice");
        let waited = self.waiting.iter().any(|(waiting, _)| *waiting == request);
        self.waiting.retain(|(waiting, _)| *waiting != request);
        let holds = match result {
            Ok(id) => self.owed.committed == Some(*id) && self.book(*id)?.request == Some(request),
            Err(RequestError::Aborted(id, _)) => {
                let book = self.book(*id)?;
                book.end == Some(End::Aborted) && book.request == Some(request)
            }
            Err(RequestError::NotRunning) => {
                waited && (self.run.is_none() || matches!(event, CkEvent::AttemptStarted { .. }))
            }
            Err(RequestError::TooMany) => waited && self.waiting.len() >= self.config.max_requests,
            Err(RequestError::Ending) => waited && self.ending,
            Err(RequestError::Fenced) => self.fenced,
        };
        require!(holds, "a wrong answer");
        Ok(())
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
