//! Event time of a source: which time a record has, and how much disorder is expected.

use rivermark_data::spare;
use rivermark_types::{Failure, Result, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// Reads the times of a batch of records into a column: one dynamic call a batch, none a record.
type ReadTimes<T> = Arc<dyn Fn(&[T], &mut Vec<Timestamp>) + Send + Sync>;

/// How a source gets event time. The watermark of a split is the highest time read from it, less the bound, less one
/// millisecond: all records up to and including the watermark have come.
pub struct WatermarkStrategy<T> {
    disorder_ms: Option<i64>,
    times: Option<ReadTimes<T>>,
    idle_after: Option<Duration>,
}

impl<T> Clone for WatermarkStrategy<T> {
    fn clone(&self) -> Self {
        WatermarkStrategy {
            disorder_ms: self.disorder_ms,
            times: self.times.clone(),
            idle_after: self.idle_after,
        }
    }
}

impl<T> WatermarkStrategy<T> {
    /// No event time: records have no times, and the only watermark is the one at the end.
    pub fn none() -> WatermarkStrategy<T> {
        WatermarkStrategy {
            disorder_ms: None,
            times: None,
            idle_after: None,
        }
    }

    /// Records may be this much older than the newest record of their split; older ones are late.
    pub fn bounded_out_of_orderness(bound: Duration) -> WatermarkStrategy<T> {
        let bound = i64::try_from(bound.as_millis()).unwrap_or(i64::MAX);
        WatermarkStrategy {
            disorder_ms: Some(bound),
            times: None,
            idle_after: None,
        }
    }

    /// The times of a split's records never fall.
    pub fn monotonous() -> WatermarkStrategy<T> {
        WatermarkStrategy {
            disorder_ms: Some(0),
            times: None,
            idle_after: None,
        }
    }

    /// Where a record's time is. [`Timestamp::MIN`] means that this record has none.
    pub fn with_timestamp(
        mut self,
        time: impl Fn(&T) -> Timestamp + Send + Sync + 'static,
    ) -> WatermarkStrategy<T> {
        self.times = Some(Arc::new(move |rows, times| times.extend(rows.iter().map(&time))));
        self
    }

    /// No watermark waits for a split that has been without rows for so long, until its next row. So one silent split does
    /// not hold up the windows of all others; the price is that its rows, should they come after all, may be late.
    ///
    /// A source all of whose splits are idle, or which has been without a split for so long, says that it is idle, and active
    /// again with its next row. Behind it, the watermark is the lowest of those that are not idle. Where all are idle, it
    /// rises to the highest that any of them has reached and stays there. One that comes back behind the watermark is left
    /// out until it has caught up. Time in which the source could not have read (backpressure, its rate) hardly counts.
    ///
    /// ```
    /// # use rivermark_connector::WatermarkStrategy;
    /// # use rivermark_types::Timestamp;
    /// # use std::time::Duration;
    /// let strategy = WatermarkStrategy::bounded_out_of_orderness(Duration::from_secs(5))
    ///     .with_timestamp(|row: &(u64, i64)| Timestamp(row.1))
    ///     .with_idleness(Duration::from_secs(30));
    /// # strategy.check().unwrap();
    /// ```
    pub fn with_idleness(mut self, timeout: Duration) -> WatermarkStrategy<T> {
        self.idle_after = Some(timeout);
        self
    }

    /// After how long without rows a split is idle.
    pub(crate) fn idle_after(&self) -> Option<Duration> {
        self.idle_after
    }

    /// Whether records get times.
    pub fn has_times(&self) -> bool {
        self.times.is_some()
    }

    /// Fails if the strategy is incomplete; for the moment when the graph is built.
    pub fn check(&self) -> Result<()> {
        match (&self.disorder_ms, &self.times) {
            (Some(_), None) => Err(Failure::invalid(
                "the watermark strategy has no times: add .with_timestamp(|row| ...) to it",
            )),
            _ => Ok(()),
        }
    }

    /// The times of records; `None` without event time.
    pub(crate) fn times(&self, rows: &[T]) -> Option<Vec<Timestamp>> {
        let read = self.times.as_ref()?;
        let mut times = spare::vector(rows.len());
        read(rows, &mut times);
        Some(times)
    }

    /// The watermark that follows from records with these times.
    pub(crate) fn watermark_after(&self, times: &[Timestamp]) -> Timestamp {
        match (self.disorder_ms, times.iter().max()) {
            (Some(disorder), Some(&max)) if max != Timestamp::MIN => {
                // One record "after all events" must not end the stream.
                Timestamp(max.0.min(i64::MAX - 1))
                    .plus_ms(disorder.saturating_neg())
                    .plus_ms(-1)
            }
            _ => Timestamp::MIN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watermark_is_the_highest_time_less_bound_less_one() {
        let strategy = WatermarkStrategy::<i64>::bounded_out_of_orderness(Duration::from_millis(10))
            .with_timestamp(|t| Timestamp(*t));
        let times = strategy.times(&[100, 300, 200]).unwrap();
        assert_eq!(times, [Timestamp(100), Timestamp(300), Timestamp(200)]);
        assert_eq!(strategy.watermark_after(&times), Timestamp(289));
        assert_eq!(strategy.watermark_after(&[]), Timestamp::MIN);
        assert_eq!(strategy.watermark_after(&[Timestamp::MIN]), Timestamp::MIN);
        assert!(strategy.watermark_after(&[Timestamp::MAX]) < Timestamp(i64::MAX - 10));
    }

    #[test]
    fn a_strategy_without_times_is_refused_unless_it_wants_none() {
        assert!(WatermarkStrategy::<i64>::none().check().is_ok());
        assert!(WatermarkStrategy::<i64>::none().times(&[1]).is_none());
        let failure = WatermarkStrategy::<i64>::monotonous().check().unwrap_err();
        assert!(failure.message.contains(".with_timestamp"), "{failure}");
    }
}
