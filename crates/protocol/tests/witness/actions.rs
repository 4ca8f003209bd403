//! Each action when it comes: was it allowed?

use super::{Asked, Book, End, Judged, Witness, millis, require};
use rivermark_protocol::coordinator::{
    AbortReason, AckVerdict, CkAction, CkEvent, DecisionOutcome, FailReason, RequestError,
};
use rivermark_types::{Barrier, CheckpointId, SnapshotKind};
use std::collections::BTreeSet;

impl Witness {
    pub(super) fn judge_action(&mut self, event: &CkEvent, action: &CkAction, rest: &[CkAction]) -> Judged {
        require!(
            !self.fenced || matches!(action, CkAction::RequestAnswered { .. }),
            "acts after it was fenced"
        );
        match action {
            CkAction::SnapshotEnumerators { checkpoint, kind } => self.judge_begin(*checkpoint, *kind),
            CkAction::TriggerSources(barrier) => self.judge_barrier(event, *barrier),
            CkAction::KeepAck { checkpoint, subtask } => {
                require!(self.is_genuine_ack(event), "kept an acknowledgement that is none");
                require!(self.open_book(*checkpoint)?.kept.insert(*subtask), "kept twice");
                Ok(())
            }
            CkAction::DiscardAck { verdict, .. } => self.judge_discarded_ack(event, *verdict),
            CkAction::Decide { checkpoint, retained } => self.judge_decide(*checkpoint, retained),
            CkAction::DecideAgain { checkpoint } => self.judge_repetition(*checkpoint),
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

    fn judge_barrier(&mut self, event: &CkEvent, barrier: Barrier) -> Judged {
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

    fn judge_repetition(&mut self, checkpoint: CheckpointId) -> Judged {
        self.tally.count("asked again");
        let asked = self.asked.as_mut().ok_or("asked again about nothing")?;
        require!(
            asked.checkpoint == checkpoint && asked.was_unknown,
            "asked again without need"
        );
        require!(!asked.in_flight, "asked again while the store still works on it");
        asked.in_flight = true;
        Ok(())
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
                    attempt,
                    checkpoint: declined,
                    subtask,
                    ..
                },
            ) => *declined == checkpoint && self.is_genuine(*attempt, checkpoint, *subtask),
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
}
