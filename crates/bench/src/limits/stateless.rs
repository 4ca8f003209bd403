//! One fused loop a thread.

use super::threads::Threads;
use std::hint::black_box;

const EVENTS_PER_LOOK: u64 = 4096;

/// As many loops as asked for.
pub fn start(threads: u64) -> Result<Threads, String> {
    let mut running = Threads::default();
    for thread in 0..threads {
        running.start(move |control| {
            let mut number = thread;
            while !control.is_over() {
                for _ in 0..EVENTS_PER_LOOK {
                    let x = number.wrapping_mul(3).wrapping_add(1);
                    if !x.is_multiple_of(7) {
                        black_box(x);
                    }
                    number += threads;
                }
                control.done(EVENTS_PER_LOOK as usize);
            }
        })?;
    }
    Ok(running)
}
