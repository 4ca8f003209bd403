//! The world as one simulated process sees it: its clocks, its randomness, its tasks, its machine's files, the network.

use crate::draw::Draw;
use crate::executor::{Shared, Spawn, YieldOnce, locked};
use crate::files::{Machine, SimFiles};
use crate::net::SimNet;
use crate::world::ProcessId;
use rivermark_env::supervise::exit_cell;
use rivermark_env::{BoxFuture, Files, LocalBoxFuture, Net, Platform, SlotStart, TaskHandle};
use rivermark_types::{Millis, Timestamp};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Where every wall clock starts: 2024-01-01 in milliseconds since 1970.
const WALL_START_MS: i64 = 1_704_067_200_000;
/// One reading of the wall clock in so many finds that it has jumped.
const WALL_JUMP_ONE_IN: u64 = 50;
/// How far it jumps, either way.
const WALL_JUMP_MS: u64 = 2 * 3_600_000;
/// The arbitrary zero of a process's clock is drawn below this.
const ZERO_BELOW_MS: u64 = 1_000_000;
/// One measured cost in so many is large enough to end any time slice.
const HIGH_COST_ONE_IN: u64 = 16;

/// A process of the simulated world.
pub(crate) struct SimProcess {
    id: ProcessId,
    shared: Arc<Shared>,
    alive: AtomicBool,
    zero_ms: u64,
    readings: Mutex<Readings>,
    files: Arc<dyn Files>,
    net: Arc<dyn Net>,
}

/// What clocks and dice have shown so far.
struct Readings {
    random: Draw,
    cost: Draw,
    cost_ns: u64,
    wall: Draw,
    wall_offset_ms: i64,
}

impl SimProcess {
    pub(crate) fn new(seed: u64, id: ProcessId, shared: Arc<Shared>, machine: Machine) -> SimProcess {
        let stream = |what: &str| Draw::stream(seed, &format!("process {} {what}", id.0));
        let readings = Readings {
            random: stream("random"),
            cost: stream("cost"),
            cost_ns: 0,
            wall: stream("wall clock"),
            wall_offset_ms: 0,
        };
        SimProcess {
            id,
            zero_ms: stream("zero").below(ZERO_BELOW_MS),
            alive: AtomicBool::new(true),
            readings: Mutex::new(readings),
            files: Arc::new(SimFiles::new(machine, shared.clone())),
            net: Arc::new(SimNet::new(shared.clone(), stream("net"))),
            shared,
        }
    }

    /// From now on nothing more is spawned.
    pub(crate) fn die(&self) {
        self.alive.store(false, Ordering::Relaxed);
    }

    fn spawn(&self, name: &str, start: SlotStart, can_abort: bool) -> TaskHandle {
        let (sender, exit) = exit_cell();
        let signal = self.shared.new_signal();
        if self.alive.load(Ordering::Relaxed) {
            let (process, name, signal) = (self.id, name.to_owned(), signal.clone());
            self.shared.spawn(Spawn {
                process,
                name,
                start,
                exit: sender,
                signal,
            });
        }
        TaskHandle::new(exit, move || {
            if can_abort {
                signal.abort();
            }
        })
    }
}

impl Platform for SimProcess {
    fn now(&self) -> Millis {
        Millis(self.zero_ms + self.shared.now_ns() / 1_000_000)
    }

    fn wall_clock(&self) -> Timestamp {
        let mut readings = locked(&self.readings);
        if readings.wall.one_in(WALL_JUMP_ONE_IN) {
            readings.wall_offset_ms = readings.wall.below(2 * WALL_JUMP_MS) as i64 - WALL_JUMP_MS as i64;
        }
        Timestamp(WALL_START_MS + (self.shared.now_ns() / 1_000_000) as i64 + readings.wall_offset_ms)
    }

    fn cost_ns(&self) -> u64 {
        let mut readings = locked(&self.readings);
        let high = if readings.cost.one_in(HIGH_COST_ONE_IN) {
            4_000_000
        } else {
            20_000
        };
        readings.cost_ns += readings.cost.between(20, high);
        readings.cost_ns
    }

    fn random_u64(&self) -> u64 {
        locked(&self.readings).random.bits()
    }

    fn spawn_io(&self, name: &str, future: BoxFuture<'static, ()>) -> TaskHandle {
        self.spawn(name, Box::new(move || future), true)
    }

    fn spawn_slot(&self, name: &str, start: SlotStart) -> TaskHandle {
        self.spawn(name, start, false)
    }

    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        Box::pin(self.shared.sleep(wait))
    }

    fn step_point(&self) -> Option<LocalBoxFuture<'static, ()>> {
        Some(Box::pin(YieldOnce::default()))
    }

    fn files(&self) -> &Arc<dyn Files> {
        &self.files
    }

    fn net(&self) -> &Arc<dyn Net> {
        &self.net
    }
}
