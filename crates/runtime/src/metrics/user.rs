//! A user's own metrics: handles that cost a cell each, brought over to what others read after every call of the operator.

use rivermark_types::{Failure, Result};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Counts something. Cheap to clone; every clone counts on.
#[derive(Clone, Debug, Default)]
pub struct Counter(Rc<Cell<u64>>);

impl Counter {
    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }
    /// Adds a number.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.set(self.0.get().wrapping_add(n));
    }
}

/// Marks events; shown as their rate a second.
#[derive(Clone, Debug, Default)]
pub struct Meter(Counter);

impl Meter {
    /// One event.
    #[inline]
    pub fn mark(&self) {
        self.0.inc();
    }
    /// Several events.
    #[inline]
    pub fn mark_n(&self, n: u64) {
        self.0.add(n);
    }
}

/// A number that goes up and down.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Rc<Cell<f64>>);

impl Gauge {
    /// Sets it.
    #[inline]
    pub fn set(&self, value: f64) {
        self.0.set(value);
    }
}

/// How values are distributed. Quantiles are right to about 6 %, and are those of all values since the job started.
#[derive(Clone, Debug, Default)]
pub struct Histogram(Rc<RefCell<Buckets>>);

impl Histogram {
    /// Takes in a value.
    #[inline]
    pub fn record(&self, value: u64) {
        self.0.borrow_mut().record(value);
    }
}

/// Values by size: sixteen buckets for each power of two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buckets {
    counts: Vec<u64>,
    count: u64,
}

const FINE: u32 = 4;

impl Buckets {
    fn record(&mut self, value: u64) {
        let at = bucket(value);
        if at >= self.counts.len() {
            self.counts.resize(at + 1, 0);
        }
        self.counts[at] += 1;
        self.count += 1;
    }

    fn take_in(&mut self, other: &mut Buckets) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (ours, theirs) in self.counts.iter_mut().zip(&mut other.counts) {
            *ours += std::mem::take(theirs);
        }
        self.count += std::mem::take(&mut other.count);
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The value that this share of all values does not exceed (but for the width of its bucket); 0 if there is none.
    pub fn quantile(&self, share: f64) -> f64 {
        let rank = (share * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return lowest(at) as f64;
            }
        }
        0.0
    }
}

fn bucket(value: u64) -> usize {
    let power = value.checked_ilog2().unwrap_or(0);
    if power < FINE {
        return value as usize;
    }
    let fine = (value >> (power - FINE)) as usize & ((1 << FINE) - 1);
    ((power - FINE + 1) as usize) << FINE | fine
}

/// The lowest value of a bucket.
fn lowest(at: usize) -> u64 {
    let (power, fine) = (at >> FINE, at & ((1 << FINE) - 1));
    match power {
        0 => fine as u64,
        power => ((1 << FINE) + fine as u64) << (power - 1),
    }
}

/// A metric as others read it.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricValue {
    /// A count.
    Counter(u64),
    /// Events so far; shown as a rate.
    Meter(u64),
    /// A number of now.
    Gauge(f64),
    /// A distribution.
    Histogram(Buckets),
}

/// An operator's own metrics by name. They go on over restarts.
#[derive(Default)]
pub struct UserMetrics(Mutex<BTreeMap<String, MetricValue>>);

impl fmt::Debug for UserMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.values()).finish()
    }
}

impl UserMetrics {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, MetricValue>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them at this moment.
    pub fn values(&self) -> BTreeMap<String, MetricValue> {
        self.lock().clone()
    }
}

/// What is still on the slot's thread.
enum Local {
    Counter(String, Counter),
    Meter(String, Counter),
    Gauge(String, Gauge),
    Histogram(String, Histogram),
}

/// Registers an operator's own metrics, in its `open`.
#[derive(Clone, Default)]
pub struct MetricGroup(Rc<RefCell<Vec<Local>>>);

impl MetricGroup {
    /// A counter. Two metrics of an operator cannot have one name.
    pub fn counter(&self, name: &str) -> Result<Counter> {
        let counter = Counter::default();
        self.add(Local::Counter(name.to_owned(), counter.clone()))?;
        Ok(counter)
    }
    /// A meter, shown under its name as a rate a second.
    pub fn meter(&self, name: &str) -> Result<Meter> {
        let meter = Meter::default();
        self.add(Local::Meter(name.to_owned(), meter.0.clone()))?;
        Ok(meter)
    }
    /// A gauge, 0 until it is set.
    pub fn gauge(&self, name: &str) -> Result<Gauge> {
        let gauge = Gauge::default();
        self.add(Local::Gauge(name.to_owned(), gauge.clone()))?;
        Ok(gauge)
    }
    /// A histogram.
    pub fn histogram(&self, name: &str) -> Result<Histogram> {
        let histogram = Histogram::default();
        self.add(Local::Histogram(name.to_owned(), histogram.clone()))?;
        Ok(histogram)
    }

    fn add(&self, metric: Local) -> Result<()> {
        let mut metrics = self.0.borrow_mut();
        if metrics.iter().any(|known| known.name() == metric.name()) {
            return Err(Failure::invalid(format!(
                "the operator has two metrics named {:?}: give each a name of its own",
                metric.name()
            )));
        }
        metrics.push(metric);
        Ok(())
    }

    /// Brings what was counted over to where it is read. Nearly free where an operator has no metrics of its own.
    #[inline]
    pub(crate) fn flush(&self, shared: &UserMetrics) {
        let metrics = self.0.borrow();
        if !metrics.is_empty() {
            flush(&metrics, shared);
        }
    }
}

fn flush(metrics: &[Local], shared: &UserMetrics) {
    let mut shared = shared.lock();
    for metric in metrics {
        let value = metric.since_last(shared.remove(metric.name()));
        shared.insert(metric.name().to_owned(), value);
    }
}

impl Local {
    fn name(&self) -> &str {
        match self {
            Local::Counter(name, _) | Local::Meter(name, _) => name,
            Local::Gauge(name, _) => name,
            Local::Histogram(name, _) => name,
        }
    }

    /// The value with what has come since the last call.
    fn since_last(&self, so_far: Option<MetricValue>) -> MetricValue {
        match (self, so_far) {
            (Local::Counter(_, cell), Some(MetricValue::Counter(sum))) => {
                MetricValue::Counter(sum.wrapping_add(cell.0.take()))
            }
            (Local::Counter(_, cell), _) => MetricValue::Counter(cell.0.take()),
            (Local::Meter(_, cell), Some(MetricValue::Meter(sum))) => {
                MetricValue::Meter(sum.wrapping_add(cell.0.take()))
            }
            (Local::Meter(_, cell), _) => MetricValue::Meter(cell.0.take()),
            (Local::Gauge(_, cell), _) => MetricValue::Gauge(cell.0.get()),
            (Local::Histogram(_, cell), so_far) => {
                let mut all = match so_far {
                    Some(MetricValue::Histogram(all)) => all,
                    _ => Buckets::default(),
                };
                all.take_in(&mut cell.0.borrow_mut());
                MetricValue::Histogram(all)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_counted_arrives_with_the_flush_and_goes_on_over_attempts() {
        let shared = UserMetrics::default();
        for attempt in 1..=2u64 {
            let group = MetricGroup::default();
            let (seen, rate) = (group.counter("seen").unwrap(), group.meter("rate").unwrap());
            let (level, size) = (group.gauge("level").unwrap(), group.histogram("size").unwrap());
            seen.inc();
            seen.add(4);
            rate.mark_n(3);
            rate.mark();
            level.set(attempt as f64 / 2.0);
            (1..=100).for_each(|value| size.record(value));
            group.flush(&shared);
            group.flush(&shared);
            let values = shared.values();
            assert_eq!(values["seen"], MetricValue::Counter(5 * attempt));
            assert_eq!(values["rate"], MetricValue::Meter(4 * attempt));
            assert_eq!(values["level"], MetricValue::Gauge(attempt as f64 / 2.0));
            let MetricValue::Histogram(sizes) = &values["size"] else {
                panic!("no histogram")
            };
            assert_eq!((sizes.count(), sizes.quantile(0.5)), (100 * attempt, 50.0));
        }
        let group = MetricGroup::default();
        group.counter("twice").unwrap();
        assert!(group.gauge("twice").is_err());
    }

    proptest! {
        #[test]
        fn quantiles_are_those_of_the_sorted_values_but_for_their_bucket(
            mut values in prop::collection::vec(0u64..1_000_000_000, 1..300), share in 0.01f64..1.0,
        ) {
            let mut buckets = Buckets::default();
            values.iter().for_each(|value| buckets.record(*value));
            values.sort_unstable();
            let rank = ((share * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let exact = values[rank - 1] as f64;
            let found = buckets.quantile(share);
            prop_assert!(found <= exact && found >= exact / 1.07 - 1.0, "{found} for {exact}");
        }

        #[test]
        fn every_value_is_in_the_bucket_that_begins_at_or_below_it(value: u64) {
            let at = bucket(value);
            prop_assert!(lowest(at) <= value);
            prop_assert!(bucket(lowest(at)) == at);
        }
    }
}
