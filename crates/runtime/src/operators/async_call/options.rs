//! How async calls are made: order, how many at once, how long, how often.

use rivermark_types::{Failure, Result};
use std::sync::Arc;
use std::time::Duration;

/// In which order results come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsyncMode {
    /// In the order of the rows that they are for.
    Ordered,
    /// As they come. Only watermarks keep their place: results of rows before one come out before it, those of rows behind it
    /// behind it.
    Unordered,
}

impl AsyncMode {
    /// Results in the order of the rows: one slow call holds the results behind it back.
    pub fn ordered() -> AsyncMode {
        AsyncMode::Ordered
    }

    /// Results as they come, but not across watermarks.
    pub fn unordered() -> AsyncMode {
        AsyncMode::Unordered
    }
}

/// How often a failed call is made again, and after which wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AsyncRetry {
    attempts: u32,
    first: Duration,
    longest: Duration,
    factor: f64,
}

impl AsyncRetry {
    /// At most `attempts` calls a row, the first included, with the same wait between any two.
    pub fn fixed_delay(attempts: u32, delay: Duration) -> AsyncRetry {
        AsyncRetry {
            attempts,
            first: delay,
            longest: delay,
            factor: 1.0,
        }
    }

    /// At most `attempts` calls a row, the first included; each wait is the one before times `factor`, at most `longest`.
    pub fn exponential(attempts: u32, first: Duration, longest: Duration, factor: f64) -> AsyncRetry {
        AsyncRetry {
            attempts,
            first,
            longest,
            factor: if factor.is_finite() { factor.max(1.0) } else { 1.0 },
        }
    }

    /// The wait behind so many failed calls (from 1), or `None` if there is to be no other.
    pub(super) fn wait(&self, failed: u32) -> Option<Duration> {
        if failed >= self.attempts {
            return None;
        }
        let exponent = i32::try_from(failed.saturating_sub(1)).unwrap_or(i32::MAX);
        let wait = self.first.as_secs_f64() * self.factor.powi(exponent);
        Some(Duration::try_from_secs_f64(wait).map_or(self.longest, |wait| wait.min(self.longest)))
    }
}

/// Makes the value of a row whose call took too long.
pub type OnTimeout<I, O> = Arc<dyn Fn(&I) -> O + Send + Sync>;
/// Whether a call that failed with this error is made again.
pub type RetryIf<E> = Arc<dyn Fn(&E) -> bool + Send + Sync>;

/// How the calls of an operator are made.
pub struct AsyncOptions<I, O, E> {
    /// In which order results come out.
    pub mode: AsyncMode,
    /// How many rows may be in the operator at once, at least 1: under way, or finished and waiting for their turn.
    pub capacity: usize,
    /// How long all calls for a row may take together, waits included.
    pub timeout: Option<Duration>,
    /// What a row comes to whose calls took longer; without it that fails the attempt.
    pub on_timeout: Option<OnTimeout<I, O>>,
    /// Which failed calls are made again.
    pub retry: Option<(AsyncRetry, RetryIf<E>)>,
}

impl<I, O, E> AsyncOptions<I, O, E> {
    /// At most 100 rows at once, no time-out, no second call.
    pub fn new(mode: AsyncMode) -> AsyncOptions<I, O, E> {
        AsyncOptions {
            mode,
            capacity: 100,
            timeout: None,
            on_timeout: None,
            retry: None,
        }
    }

    /// What a row comes to whose calls took too long.
    pub(super) fn timed_out(&self, row: Option<&I>) -> Result<O> {
        match (&self.on_timeout, row) {
            (Some(value), Some(row)) => Ok(value(row)),
            _ => Err(Failure::external(format!(
                "no answer within {:?}: allow more with .timeout(..), or give a value for it with .on_timeout(|row| ..)",
                self.timeout.unwrap_or_default()
            ))),
        }
    }
}

impl<I, O, E> Clone for AsyncOptions<I, O, E> {
    fn clone(&self) -> Self {
        AsyncOptions {
            mode: self.mode,
            capacity: self.capacity,
            timeout: self.timeout,
            on_timeout: self.on_timeout.clone(),
            retry: self.retry.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_longest_and_end_with_the_attempts() {
        let ms = Duration::from_millis;
        let fixed = AsyncRetry::fixed_delay(3, ms(7));
        assert_eq!([1, 2, 3].map(|n| fixed.wait(n)), [Some(ms(7)), Some(ms(7)), None]);
        let growing = AsyncRetry::exponential(1_000, ms(10), ms(50), 2.0);
        let waits = [1, 2, 3, 4, 999].map(|n| growing.wait(n));
        assert_eq!(
            waits,
            [
                Some(ms(10)),
                Some(ms(20)),
                Some(ms(40)),
                Some(ms(50)),
                Some(ms(50))
            ]
        );
        assert_eq!(growing.wait(1_000), None);
        assert_eq!(AsyncRetry::fixed_delay(0, ms(1)).wait(1), None);
        assert_eq!(
            AsyncRetry::exponential(9, ms(5), ms(9), f64::NAN).wait(3),
            Some(ms(5))
        );
    }
}
