//! The speed limit of a source: so many rows a second, decided by the `Env`'s clock alone.

use rivermark_types::Millis;
use std::time::Duration;

/// How much may be caught up with after a stall.
const CATCH_UP: Duration = Duration::from_millis(100);
/// How long to wait at least once the allowance is used up: at high rates a wake-up then brings a batch, not a row.
const REST: Duration = Duration::from_millis(5);

/// The allowance of one subtask. A row costs 1,000 units; a millisecond brings as many units as rows a second are allowed.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    rows_per_second: u64,
    units: u64,
    filled: Millis,
}

impl Pace {
    /// An allowance that starts empty.
    pub(crate) fn new(rows_per_second: u64, now: Millis) -> Pace {
        Pace {
            rows_per_second: rows_per_second.max(1),
            units: 0,
            filled: now,
        }
    }

    /// How many rows may be emitted now, or when to ask again.
    pub(crate) fn allowed(&mut self, now: Millis) -> Result<usize, Millis> {
        let elapsed = now.since(self.filled).as_millis() as u64;
        let most = self
            .rows_per_second
            .saturating_mul(CATCH_UP.as_millis() as u64)
            .max(1000);
        self.units = self
            .units
            .saturating_add(elapsed.saturating_mul(self.rows_per_second))
            .min(most);
        self.filled = now;
        if self.units < 1000 {
            let until_next = (1000 - self.units).div_ceil(self.rows_per_second);
            return Err(now.after(Duration::from_millis(until_next).max(REST)));
        }
        Ok(usize::try_from(self.units / 1000).unwrap_or(usize::MAX))
    }

    /// Rows were emitted.
    pub(crate) fn spend(&mut self, rows: usize) {
        self.units = self.units.saturating_sub(1000 * rows as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Emits as fast as it may for `seconds`, asking as it is told to.
    fn rows_in(seconds: u64, rate: u64) -> u64 {
        let (mut pace, mut now, mut rows) = (Pace::new(rate, Millis(7)), Millis(7), 0);
        while now.0 <= 7 + seconds * 1000 {
            match pace.allowed(now) {
                Ok(allowed) => {
                    pace.spend(allowed);
                    rows += allowed as u64;
                }
                Err(later) => {
                    assert!(later > now);
                    now = later;
                }
            }
        }
        rows
    }

    #[test]
    fn the_rate_is_met_and_never_exceeded() {
        for rate in [1, 3, 100, 999, 84_000, 10_000_000] {
            let rows = rows_in(10, rate);
            assert!(rows <= rate * 10, "{rate}: {rows}");
            assert!(rows as f64 >= rate as f64 * 9.8 - 1.0, "{rate}: {rows}");
        }
    }

    #[test]
    fn a_stall_is_not_caught_up_with_entirely() {
        let mut pace = Pace::new(1000, Millis(0));
        assert_eq!(pace.allowed(Millis(60_000)), Ok(100));
    }
}
