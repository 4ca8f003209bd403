//! A tool's own clocks, outside of every simulation: time, the process's CPU time and memory.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Nanoseconds of the machine's monotonic clock: comparable between processes.
pub fn now_ns() -> u64 {
    read(ClockId::Monotonic)
}

/// Nanoseconds of CPU time that all threads of this process have used.
pub fn cpu_ns() -> u64 {
    read(ClockId::ProcessCPUTime)
}

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Lets the calling thread rest.
#[expect(
    clippy::disallowed_methods,
    reason = "a tool's own wait, outside of every simulation"
)]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Bytes of memory that this process holds.
pub fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}
