//! What goes wrong around the processes: kills, losses of power, pauses, stops; a store and a disk with faults.

use super::book::Book;
use super::outage::{Outage, WorldClock};
use super::planted::Planted;
use crate::{Draw, Fault as FileFault, Machine};
use bytes::Bytes;
use rivermark_env::{BoxFuture, Env};
use rivermark_job::JobStorage;
use rivermark_storage::faulty::{Fault, Faults, Faulty, Operation};
use rivermark_storage::{Blob, Cas, CasOutcome, Head, StorageError};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What happens to the running process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strike {
    /// It is killed.
    Kill,
    /// Its machine loses power.
    PowerLoss,
    /// It is stopped where it is for so long; meanwhile another one is started.
    Pause(Duration),
    /// It is asked to stop after a last checkpoint.
    Stop,
    /// An operator of it fails, and the attempt with it.
    Fail,
}

/// The moment of a strike: when this has happened, and so many polls later.
#[derive(Clone, Copy, Debug)]
enum Moment {
    Time(Duration),
    FileCall(u64),
    Order(u64),
    /// So many checkpoints are decided; only those count where barriers have overtaken records, or all.
    Decided {
        in_flight: bool,
        count: u64,
    },
    /// So many processes were started.
    Started(u64),
}

/// The strikes of a run.
pub(crate) struct Strikes {
    planned: Vec<(Moment, u64, Strike)>,
    /// Those whose moment has come, and the polls that are left.
    due: VecDeque<(u64, Strike)>,
}

impl Strikes {
    /// Draws the strikes of a run that lasts about so long.
    pub(crate) fn draw(draw: &mut Draw, duration: Duration, power_losses_only: bool) -> Strikes {
        let mut strikes = Vec::new();
        let kills = if power_losses_only { 0 } else { draw.below(4) };
        let losses = if power_losses_only {
            draw.between(1, 4)
        } else {
            draw.below(3)
        };
        strikes.extend((0..kills).map(|_| Strike::Kill));
        strikes.extend((0..losses).map(|_| Strike::PowerLoss));
        if draw.one_in(8) {
            strikes.push(Strike::Stop);
        }
        if draw.one_in(8) {
            strikes.push(Strike::Pause(Duration::from_millis(draw.between(1, 600))));
        }
        let planned = strikes.into_iter().map(|strike| {
            let moment = match draw.below(3) {
                0 => Moment::Time(draw.time(Duration::ZERO, duration + duration / 3)),
                1 => Moment::FileCall(draw.between(1, 500)),
                _ => Moment::Order(draw.between(1, 40)),
            };
            let polls = if draw.coin() { 4 } else { 60 };
            (moment, draw.below(polls), strike)
        });
        Strikes {
            planned: planned.collect(),
            due: VecDeque::new(),
        }
    }

    /// Draws the strikes of a run whose queues are full: the first right after a checkpoint, if barriers overtake then one
    /// that has records in flight; then perhaps some while the job comes back, or after another such checkpoint.
    pub(crate) fn under_pressure(draw: &mut Draw, overtakes: bool) -> Strikes {
        let decided = |draw: &mut Draw, most| Moment::Decided {
            in_flight: overtakes && !draw.one_in(8),
            count: draw.between(1, most),
        };
        let polls = |draw: &mut Draw| {
            let most = [3, 60, 300][draw.index(3)];
            draw.below(most)
        };
        let strike = |draw: &mut Draw| match draw.below(16) {
            0..=10 => Strike::Kill,
            11 | 12 => Strike::PowerLoss,
            13 => Strike::Stop,
            _ => Strike::Fail,
        };
        let mut planned = vec![(decided(draw, 2), polls(draw), strike(draw))];
        for number in 0..draw.below(3) {
            let moment = match draw.coin() {
                true => Moment::Started(2 + number),
                false => decided(draw, 8),
            };
            planned.push((moment, polls(draw), strike(draw)));
        }
        Strikes {
            planned,
            due: VecDeque::new(),
        }
    }

    /// The same, and operators that fail after a checkpoint: the restarts inside a process that local copies are for.
    pub(crate) fn with_failures(mut self, draw: &mut Draw) -> Strikes {
        for _ in 0..draw.between(1, 3) {
            let count = draw.between(1, 6);
            let moment = Moment::Decided {
                in_flight: false,
                count,
            };
            let polls = [3, 60, 1_000][draw.index(3)];
            self.planned.push((moment, draw.below(polls), Strike::Fail));
        }
        self
    }

    /// One strike at a time, or none.
    pub(crate) fn at(strike: Option<(Duration, Strike)>) -> Strikes {
        let planned = strike.map(|(at, strike)| (Moment::Time(at), 0, strike));
        Strikes {
            planned: planned.into_iter().collect(),
            due: VecDeque::new(),
        }
    }

    /// Whether nothing strikes any more.
    pub(crate) fn are_over(&self) -> bool {
        self.planned.is_empty() && self.due.is_empty()
    }

    /// No strikes at all.
    pub(crate) fn none() -> Strikes {
        Strikes {
            planned: Vec::new(),
            due: VecDeque::new(),
        }
    }

    /// What strikes now. To be asked before every poll.
    pub(crate) fn next(&mut self, book: &Book, now: impl Fn() -> Duration) -> Option<Strike> {
        if !self.planned.is_empty() {
            let now = now();
            let (file_calls, orders) = (
                book.file_calls.load(Ordering::Relaxed),
                book.orders.load(Ordering::Relaxed),
            );
            let due = &mut self.due;
            self.planned.retain(|(moment, polls, strike)| {
                let come = match moment {
                    Moment::Time(at) => *at <= now,
                    Moment::FileCall(at) => *at <= file_calls,
                    Moment::Order(at) => *at <= orders,
                    Moment::Started(count) => *count <= book.processes.load(Ordering::Relaxed),
                    Moment::Decided {
                        in_flight: true,
                        count,
                    } => *count <= book.entries().decided_in_flight,
                    Moment::Decided { count, .. } => *count <= book.entries().decided,
                };
                if come {
                    due.push_back((*polls, *strike));
                }
                !come
            });
        }
        for (polls, _) in &mut self.due {
            *polls = polls.saturating_sub(1);
        }
        let at = self.due.iter().position(|(polls, _)| *polls == 0)?;
        self.due.remove(at).map(|(_, strike)| strike)
    }
}

/// How unreliable the store is: one call in so many, and how often in all.
#[derive(Clone, Copy, Debug)]
struct Odds {
    one_in: u64,
    left: u64,
}

impl Odds {
    fn draw(draw: &mut Draw, most: u64) -> Odds {
        Odds {
            one_in: [4, 12, 40][draw.index(3)],
            left: if draw.one_in(3) { 0 } else { draw.between(1, most) },
        }
    }

    fn hit(&mut self, draw: &mut Draw) -> bool {
        let hit = self.left > 0 && draw.one_in(self.one_in);
        self.left -= u64::from(hit);
        hit
    }
}

/// The faults of the store, the same odds for all processes of a run.
#[derive(Clone)]
pub(crate) struct StoreTrouble {
    inside: Arc<Mutex<(Odds, Draw)>>,
    /// What is wrong with it instead.
    outage: Option<Outage>,
    /// It says that decisions were not made when it does not know: a planted bug.
    refuses_unknown: bool,
    book: Arc<Book>,
}

/// A store whose decisions are never in doubt, so it says.
struct Overconfident(Arc<dyn Cas>);

impl Cas for Overconfident {
    fn head(&self) -> BoxFuture<'_, Result<Option<Head>, StorageError>> {
        self.0.head()
    }

    fn compare_and_set(&self, expected: Option<u64>, bytes: Bytes) -> BoxFuture<'_, CasOutcome> {
        Box::pin(async move {
            match self.0.compare_and_set(expected, bytes).await {
                CasOutcome::Unknown(error) => CasOutcome::NotWritten(error),
                known => known,
            }
        })
    }
}

impl StoreTrouble {
    /// Draws how bad it is.
    pub(crate) fn draw(mut draw: Draw, book: &Arc<Book>) -> StoreTrouble {
        let odds = Odds::draw(&mut draw, 10);
        StoreTrouble {
            inside: Arc::new(Mutex::new((odds, draw))),
            outage: None,
            refuses_unknown: false,
            book: book.clone(),
        }
    }

    /// A store that is away for a while.
    pub(crate) fn outage(outage: Outage, draw: Draw, book: &Arc<Book>) -> StoreTrouble {
        StoreTrouble {
            inside: Arc::new(Mutex::new((Odds { one_in: 1, left: 0 }, draw))),
            outage: Some(outage),
            refuses_unknown: false,
            book: book.clone(),
        }
    }

    /// A store without faults.
    pub(crate) fn none(book: &Arc<Book>) -> StoreTrouble {
        let odds = Odds { one_in: 1, left: 0 };
        StoreTrouble {
            inside: Arc::new(Mutex::new((odds, Draw::stream(0, "no trouble")))),
            outage: None,
            refuses_unknown: false,
            book: book.clone(),
        }
    }

    /// The same with a bug of the store, if that one is planted.
    pub(crate) fn with_plant(self, planted: Option<Planted>) -> StoreTrouble {
        StoreTrouble {
            refuses_unknown: planted == Some(Planted::UnknownRefused),
            ..self
        }
    }

    /// From now on the store is well.
    pub(crate) fn end(&self) {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner).0.left = 0;
    }

    fn next(&self, operation: Operation, now: impl Fn() -> Duration) -> Option<Fault> {
        let (odds, draw) = &mut *self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outage) = &self.outage {
            let (fault, name) = outage.fault(operation, now(), draw)?;
            self.book.store_fault(name);
            return Some(fault);
        }
        if !odds.hit(draw) {
            return None;
        }
        let millis = |low, high, draw: &mut Draw| Duration::from_millis(draw.between(low, high));
        let (fault, name) = match draw.below(6) {
            0 => (Fault::Slow(millis(1, 300, draw)), "store slow"),
            1 => (Fault::Failed, "store failed"),
            2 => {
                let after_polls = draw.below(40) as u32;
                (Fault::Torn { after_polls }, "store torn")
            }
            3 => (Fault::ReplyLost, "store reply lost"),
            4 => (Fault::Duplicated, "store duplicated"),
            _ => {
                let most = [100, 600, 3_000][draw.index(3)];
                (Fault::Away(millis(10, most, draw)), "store away")
            }
        };
        self.book.store_fault(name);
        Some(fault)
    }

    /// The storage of a process, behind these faults.
    pub(crate) fn wrap(&self, env: &Env, clock: &WorldClock, storage: JobStorage) -> JobStorage {
        let (plan, of_world) = (self.clone(), clock.clone());
        let next = move |operation: Operation| plan.next(operation, || of_world.now());
        let faults = Faults::new(env.clone(), next);
        let of_blob = faults.clone();
        let storage = match &self.outage {
            None => storage,
            Some(outage) => {
                let draw = Draw::stream(env.random_u64(), "late decisions");
                let storage = storage.wrapped(|blob| blob, |cas| outage.delays(clock, cas, draw));
                storage.with_call_timeout(outage.call_timeout)
            }
        };
        let storage = storage.wrapped(
            |blob: Arc<dyn Blob>| Arc::new(Faulty::new(blob, of_blob)),
            |cas: Arc<dyn Cas>| Arc::new(Faulty::new(cas, faults)),
        );
        match self.refuses_unknown {
            true => storage.wrapped(|blob| blob, |cas| Arc::new(Overconfident(cas))),
            false => storage,
        }
    }
}

/// Counts the calls of a machine's files, and lets a few of them go wrong.
pub(crate) fn plant_file_trouble(machine: &Machine, mut draw: Draw, book: &Arc<Book>) {
    let mut odds = Odds::draw(&mut draw, 4);
    odds.one_in *= 6;
    let book = book.clone();
    machine.plant(move |_, _| {
        Book::count(&book.file_calls);
        if !odds.hit(&mut draw) {
            return None;
        }
        let kind = [ErrorKind::Other, ErrorKind::StorageFull, ErrorKind::Interrupted][draw.index(3)];
        let fault = match draw.below(3) {
            0 => FileFault::Delay(Duration::from_millis(draw.between(1, 200))),
            1 => FileFault::Fail(kind),
            _ => FileFault::LoseReply(kind),
        };
        book.store_fault(fault.name());
        Some(fault)
    });
}
