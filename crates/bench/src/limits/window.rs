//! One fixed array a window.

use super::exchange::{self, BATCH, Outlet, WORKERS, Worker};
use super::threads::Threads;
use crate::jobs::records::{EVENTS_PER_WATERMARK, Reading, WINDOW_MS};
use std::hint::black_box;

/// Windows that may be open at once, and one to spare.
const OPEN: usize = 4;

struct Sums {
    windows: [Box<[(u64, u64)]>; OPEN],
    /// The number of the first window that has not fired.
    first: i64,
}

impl Worker<Reading> for Sums {
    fn batch(&mut self, readings: &[Reading]) {
        for reading in readings {
            let window = reading.at / WINDOW_MS;
            let (sum, count) = &mut self.windows[window as usize % OPEN][reading.sensor as usize];
            *sum += u64::from(reading.value);
            *count += 1;
        }
    }

    fn watermark(&mut self, time: i64) {
        while (self.first + 1) * WINDOW_MS - 1 <= time {
            let sums = &mut self.windows[self.first as usize % OPEN];
            for (sensor, (sum, count)) in sums.iter_mut().enumerate() {
                if *count > 0 {
                    black_box((sensor, self.first * WINDOW_MS, *sum, *count));
                }
                (*sum, *count) = (0, 0);
            }
            self.first += 1;
        }
    }
}

/// Sums by sensor and window.
pub fn start(sensors: u64) -> Result<Threads, String> {
    exchange::start(
        move |producer, outlet: &mut Outlet<Reading>| {
            let (mut number, mut told) = (producer as u64, 0);
            while !outlet.is_over() {
                for _ in 0..BATCH {
                    let reading = Reading::number(number, sensors);
                    number += WORKERS as u64;
                    outlet.push(reading.sensor as usize % WORKERS, reading);
                }
                if number / EVENTS_PER_WATERMARK > told {
                    told = number / EVENTS_PER_WATERMARK;
                    outlet.watermark((number / 100) as i64 - 1);
                }
            }
        },
        || Sums {
            windows: std::array::from_fn(|_| vec![(0, 0); sensors as usize].into_boxed_slice()),
            first: 0,
        },
    )
}
