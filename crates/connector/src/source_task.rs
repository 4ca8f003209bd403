//! The head of every source's chain: the only place that decides when a source is snapshotted and at which position.
//!
//! It is snapshotted between two polls, and a poll emits everything that it read; so the position behind the last row read
//! is the position behind the last row emitted. Watermarks are kept per split; the source's own is the lowest of its
//! splits' and of the master's hold (what splits that nobody reads yet may still bring), and never goes back.
//! Non-goals: it does not know how rows are read, nor who reads which split.

use crate::idleness::{Idleness, Moment, Spent};
use crate::pace::Pace;
use crate::source::{BadRead, ReadPoll, ReadRows, ReaderCx, Source, SplitIndex, SplitReader, Undecodable};
use crate::watermark::WatermarkStrategy;
use rivermark_data::{Activity, DeadLetter, Typed};
use rivermark_runtime::source::SPLITS;
use rivermark_runtime::{
    Cx, Lists, OpenCx, OperatorEvent, OperatorReport, Reporter, SourceAssignment, SourceDriver, SourcePoll,
};
use rivermark_types::{CheckpointId, Failure, Millis, Result, Timestamp};
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// A rise of the watermark is told at the latest after so many rows, unless the source says otherwise.
pub(crate) const ROWS_PER_WATERMARK: usize = 4096;

/// How a source runs, beyond what it reads.
pub(crate) struct SourceOptions<T> {
    pub(crate) strategy: WatermarkStrategy<T>,
    /// Of all subtasks together.
    pub(crate) rows_per_second: Option<u64>,
    pub(crate) watermark_interval: Duration,
    pub(crate) watermark_rows: usize,
    pub(crate) undecodable: Undecodable,
}

impl<T> Clone for SourceOptions<T> {
    fn clone(&self) -> Self {
        SourceOptions {
            strategy: self.strategy.clone(),
            rows_per_second: self.rows_per_second,
            watermark_interval: self.watermark_interval,
            watermark_rows: self.watermark_rows,
            undecodable: self.undecodable,
        }
    }
}

/// One subtask of a source.
pub struct SourceTask<S: Source> {
    source: Arc<S>,
    options: SourceOptions<S::Row>,
    reader: Option<S::Reader>,
    reporter: Option<Reporter>,
    pace: Option<Pace>,
    held: Vec<HeldSplit>,
    next_index: u32,
    /// Splits that were read to their end, with their last positions, until a decided checkpoint has them.
    done: Vec<(SplitIndex, u64)>,
    /// What snapshots of undecided checkpoints hold, in their order.
    snapshots: VecDeque<(CheckpointId, Vec<(SplitIndex, u64)>)>,
    /// Asked the master for a split and got none yet.
    asked: bool,
    no_more: bool,
    dry: bool,
    watermark: SourceWatermark,
    idleness: Idleness,
    /// Since when it holds no split.
    empty_since: Moment,
    rows: ReadRows<S::Row>,
    /// How many rows the last poll emitted.
    emitted: usize,
    /// Which split the rows in `rows` are of.
    read_from: Option<String>,
    /// What dead letters say they come from.
    operator: String,
    /// A record that fails the job, once the rows before it are emitted.
    bad_record: Option<Failure>,
}

/// A split that is being read.
struct HeldSplit {
    index: SplitIndex,
    /// As its enumerator wrote it: a snapshot gives back what was assigned, whatever this version reads of it.
    split: Value,
    name: String,
    position: u64,
    watermark: Timestamp,
    /// When it had rows last, or was assigned.
    active_at: Moment,
}

/// What the source has promised downstream. It starts from nothing after a restore too, where another reader may hold what
/// this one had promised for: the splits bring their watermarks along, and downstream nothing goes back.
struct SourceWatermark {
    /// What unassigned splits may still bring; nothing may be promised before it is known.
    hold: Timestamp,
    emitted: Timestamp,
    told_at: Millis,
    rows_since: usize,
}

impl<S: Source> SourceTask<S> {
    pub(crate) fn new(source: Arc<S>, options: SourceOptions<S::Row>) -> SourceTask<S> {
        let idleness = Idleness::new(options.strategy.idle_after(), Millis(0));
        SourceTask {
            idleness,
            empty_since: Moment::default(),
            source,
            options,
            reader: None,
            reporter: None,
            pace: None,
            held: Vec::new(),
            next_index: 0,
            done: Vec::new(),
            snapshots: VecDeque::new(),
            asked: false,
            no_more: false,
            dry: false,
            watermark: SourceWatermark {
                hold: Timestamp::MIN,
                emitted: Timestamp::MIN,
                told_at: Millis(0),
                rows_since: 0,
            },
            rows: ReadRows::default(),
            emitted: 0,
            read_from: None,
            operator: String::new(),
            bad_record: None,
        }
    }

    fn reader(&mut self) -> Result<&mut S::Reader> {
        self.reader
            .as_mut()
            .ok_or_else(|| Failure::bug("a source was used before it was opened"))
    }

    fn report(&self, report: OperatorReport) {
        if let Some(reporter) = &self.reporter {
            reporter.report(report);
        }
    }

    fn assign(&mut self, assignment: SourceAssignment) -> Result<()> {
        let split: S::Split = serde_json::from_value(assignment.split.clone()).map_err(|error| {
            Failure::invalid(format!(
                "{}: the split {} is not one of this source: the checkpoint is of another source under the same uid",
                self.source.name(),
                assignment.split
            ))
            .caused_by(error)
        })?;
        let index = SplitIndex(self.next_index);
        self.next_index += 1;
        let name = split.to_string();
        self.reader()?.assign(index, split, assignment.position)?;
        self.held.push(HeldSplit {
            index,
            split: assignment.split,
            name,
            position: assignment.position,
            watermark: assignment.watermark,
            active_at: self.idleness.now(),
        });
        self.asked = false;
        Ok(())
    }

    /// A split has been read to its end.
    fn finish(&mut self, index: SplitIndex) {
        if let Some(at) = self.held.iter().position(|split| split.index == index) {
            let held = self.held.remove(at);
            self.empty_since = self.idleness.now();
            self.done.push((index, held.position));
            self.report(OperatorReport::FinishedSplit(held.split));
        }
    }

    /// A checkpoint is decided: tells the reader how far it has each split.
    fn committed(&mut self, checkpoint: CheckpointId) -> Result<()> {
        let mut decided = None;
        while self.snapshots.front().is_some_and(|(id, _)| *id <= checkpoint) {
            decided = self.snapshots.pop_front();
        }
        for (index, position) in decided.into_iter().flat_map(|(_, splits)| splits) {
            self.done.retain(|(done, _)| *done != index);
            self.reader()?.committed(index, position)?;
        }
        Ok(())
    }

    /// Asks for a split if there is a reason to.
    fn ask(&mut self) {
        let wants = self.held.is_empty() || self.source.reads_many_splits();
        if wants && !self.asked && !self.no_more {
            self.asked = true;
            self.report(OperatorReport::WantsSplits);
        }
    }

    /// Reads and emits, with at most this many rows.
    fn read(&mut self, max_rows: usize, cx: &mut Cx<'_>) -> Result<ReadPoll> {
        if let Some(failure) = self.bad_record.take() {
            return Err(failure);
        }
        let mut rows = std::mem::take(&mut self.rows);
        rows.clear();
        let poll = self.reader()?.next(max_rows.max(1), &mut rows)?;
        match poll {
            ReadPoll::Pending => {}
            ReadPoll::Done(index) => self.finish(index),
            ReadPoll::Rows(index) => {
                let bad = rows.take_undecodable();
                if !bad.is_empty() {
                    self.on_undecodable(index, &mut rows, bad, cx)?;
                }
                let held = self.held.iter_mut().find(|split| split.index == index);
                let held =
                    held.ok_or_else(|| Failure::bug("a reader gave rows of a split that it does not hold"))?;
                held.position = rows.resume();
                held.active_at = self.idleness.now();
                self.read_from = Some(held.name.clone());
                let values = rows.take_values();
                let times = self.options.strategy.times(&values);
                if let Some(times) = &times {
                    held.watermark = held.watermark.max(self.options.strategy.watermark_after(times));
                }
                self.watermark.rows_since += values.len();
                self.emitted = values.len();
                if let Some(pace) = &mut self.pace {
                    pace.spend(values.len());
                }
                if std::mem::take(&mut self.idleness.is_told) {
                    cx.emit_status(Activity::Active);
                }
                cx.emit(0, Typed { values, times });
            }
        }
        self.rows = rows;
        Ok(poll)
    }

    /// Does with records that cannot be decoded what the user wants.
    #[cold]
    fn on_undecodable(
        &mut self,
        index: SplitIndex,
        rows: &mut ReadRows<S::Row>,
        bad: Vec<BadRead>,
        cx: &mut Cx<'_>,
    ) -> Result<()> {
        match (self.options.undecodable, bad.first()) {
            (_, None) => {}
            (Undecodable::Fail, Some(first)) => {
                let failure = Failure::data(first.record.error.clone());
                if first.rows_before == 0 {
                    return Err(failure);
                }
                rows.cut_before(first);
                self.bad_record = Some(failure);
            }
            (Undecodable::Skip, _) => cx.count_undecodable(bad.len()),
            (Undecodable::DeadLetter, _) => {
                cx.count_undecodable(bad.len());
                let held = self.held.iter().find(|split| split.index == index);
                let split = held.map(|held| held.name.clone());
                let letter = |bad: BadRead| {
                    let (record, hex) = DeadLetter::texts(&bad.record.bytes);
                    DeadLetter {
                        operator: self.operator.clone(),
                        split: split.clone(),
                        position: Some(bad.position),
                        error: bad.record.error,
                        record,
                        hex,
                    }
                };
                cx.emit_dead_letters(bad.into_iter().map(letter).collect());
            }
        }
        Ok(())
    }

    /// Tells downstream how far event time has come, if it is time to. Tells whether it did.
    fn tell_watermark(&mut self, now: Millis, at_once: bool, cx: &mut Cx<'_>) -> bool {
        let ended = self.no_more && self.held.is_empty();
        let active = self
            .held
            .iter()
            .filter(|split| !self.idleness.is_idle(split.active_at));
        let lowest = active.map(|split| split.watermark).min();
        if lowest.is_none() && !self.held.is_empty() {
            // All are idle: the watermark stays.
            return false;
        }
        let current = match lowest {
            _ if ended => Timestamp::MAX,
            _ if !self.options.strategy.has_times() => Timestamp::MIN,
            lowest => lowest.unwrap_or(Timestamp::MAX).min(self.watermark.hold),
        };
        // Nothing to read, nothing left to assign, and not told yet that it is the end: the next word of the master is
        // either a split or the end, so nothing is promised. (Calling this idle would let the others' watermark pass, and
        // operators that still hold windows of this stream would fire them late: that is only done for users who ask for it.)
        let undecided = current == Timestamp::MAX && !ended;
        let due = at_once
            || self.watermark.rows_since >= self.options.watermark_rows
            || now.since(self.watermark.told_at) >= self.options.watermark_interval;
        !undecided && !self.idleness.is_told && due && self.watermark.rise_to(current, now, cx)
    }

    /// Tells downstream whether it has to wait for this source, if that has changed. Tells whether it did.
    fn tell_idle(&mut self, cx: &mut Cx<'_>) -> bool {
        let is_idle = match self.held.is_empty() {
            // The end is near: the watermark that says so must be heard.
            true if self.no_more => false,
            true => self.idleness.is_idle(self.empty_since),
            false => self
                .held
                .iter()
                .all(|split| self.idleness.is_idle(split.active_at)),
        };
        if is_idle == self.idleness.is_told {
            return false;
        }
        self.idleness.is_told = is_idle;
        cx.emit_status(match is_idle {
            true => Activity::Idle,
            false => Activity::Active,
        });
        true
    }

    /// When the next split, or the source, will be idle if nothing comes.
    fn idle_at(&self, now: Millis) -> Option<Millis> {
        let left = |since| self.idleness.left(since).filter(|left| !left.is_zero());
        let of_splits = self.held.iter().filter_map(|split| left(split.active_at));
        let next = match self.held.is_empty() {
            true => left(self.empty_since),
            false => of_splits.min(),
        };
        next.map(|left| now.after(left))
    }

    fn say_dry(&mut self) {
        if !self.dry && self.no_more && self.held.is_empty() {
            self.dry = true;
            self.report(OperatorReport::Dry);
        }
    }
}

impl SourceWatermark {
    fn rise_to(&mut self, watermark: Timestamp, now: Millis, cx: &mut Cx<'_>) -> bool {
        if watermark <= self.emitted {
            return false;
        }
        self.emitted = watermark;
        self.told_at = now;
        self.rows_since = 0;
        cx.emit_watermark(watermark);
        true
    }
}

impl<S: Source> SourceDriver for SourceTask<S> {
    fn open(&mut self, cx: &mut OpenCx<'_>) -> Result<()> {
        self.options.strategy.check()?;
        let now = cx.env().now();
        if let Some(rate) = self.options.rows_per_second {
            let (subtasks, index) = (
                u64::from(cx.info().parallelism.max(1)),
                u64::from(cx.info().subtask.index),
            );
            self.pace = Some(Pace::new(
                rate / subtasks + u64::from(index < rate % subtasks),
                now,
            ));
        }
        self.watermark.told_at = now;
        self.idleness = Idleness::new(self.options.strategy.idle_after(), now);
        self.reporter = Some(cx.reporter());
        let info = cx.info();
        self.operator = info
            .uid
            .as_ref()
            .map_or(info.name.clone(), |uid| uid.as_str().to_owned());
        let (env, info, waker) = (cx.env().clone(), cx.info().clone(), cx.waker());
        self.reader = Some(self.source.reader(ReaderCx { env, info, waker })?);
        Ok(())
    }

    fn poll(&mut self, max_rows: usize, cx: &mut Cx<'_>) -> Result<SourcePoll> {
        let now = cx.env().now();
        self.idleness.begin(now);
        self.ask();
        let mut wait_until = None;
        let mut emitted = false;
        let mut spent = Spent::Waiting;
        let mut at_once = self.held.is_empty();
        if !self.held.is_empty() {
            match self.pace.as_mut().map_or(Ok(max_rows), |pace| pace.allowed(now)) {
                Err(later) => {
                    wait_until = Some(later);
                    spent = Spent::Paced;
                    at_once = true;
                }
                Ok(allowed) => {
                    let read = self.read(max_rows.min(allowed), cx)?;
                    emitted = read != ReadPoll::Pending;
                    at_once = !matches!(read, ReadPoll::Rows(_));
                }
            }
        }
        // Active before the watermark, since nobody heeds that of an idle source; idle behind it.
        let is_back = self.idleness.is_told && self.tell_idle(cx);
        emitted |= self.tell_watermark(now, at_once, cx);
        emitted |= is_back || self.tell_idle(cx);
        self.idleness.end(if emitted { Spent::Busy } else { spent });
        if spent == Spent::Waiting {
            wait_until = [wait_until, self.idle_at(now)].into_iter().flatten().min();
        }
        self.say_dry();
        Ok(if emitted {
            SourcePoll::Emitted
        } else {
            SourcePoll::Idle(wait_until)
        })
    }

    fn on_event(&mut self, event: &OperatorEvent, cx: &mut Cx<'_>) -> Result<()> {
        // The wait before a split came is not the split's.
        self.idleness.begin(cx.env().now());
        match event {
            OperatorEvent::Assign(assignments) => {
                assignments.iter().try_for_each(|each| self.assign(each.clone()))
            }
            OperatorEvent::NoMoreSplits => {
                self.no_more = true;
                // What is unassigned will not come by this reader.
                self.watermark.hold = Timestamp::MAX;
                Ok(())
            }
            OperatorEvent::WatermarkHold(hold) if !self.no_more => {
                self.watermark.hold = *hold;
                Ok(())
            }
            OperatorEvent::Committed(checkpoint) => self.committed(*checkpoint),
            OperatorEvent::Aborted(checkpoint) => {
                self.snapshots.retain(|(id, _)| id != checkpoint);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn snapshot_lists(&mut self, checkpoint: CheckpointId) -> Result<Lists> {
        let held = self.held.iter().map(|held| (held.index, held.position));
        let positions = held.chain(self.done.iter().copied()).collect();
        self.snapshots.push_back((checkpoint, positions));
        let entries = self.held.iter().map(|held| {
            let (split, position, watermark) = (held.split.clone(), held.position, held.watermark);
            serde_json::to_value(SourceAssignment {
                split,
                position,
                watermark,
            })
            .map_err(|error| Failure::bug("a split cannot be written to the checkpoint").caused_by(error))
        });
        Ok(Lists::from([(
            SPLITS.to_owned(),
            entries.collect::<Result<_>>()?,
        )]))
    }

    fn place(&self, left: Option<usize>) -> String {
        let Some(split) = &self.read_from else {
            return self.source.name();
        };
        let row = left.and_then(|left| self.emitted.checked_sub(left + 1));
        match row.or(Some(0)).and_then(|row| self.rows.position(row)) {
            Some(position) if row.is_some() => format!("{split}, position {position}"),
            Some(first) => format!("{split}, positions {first} to {}", self.rows.resume()),
            None => split.clone(),
        }
    }
}
