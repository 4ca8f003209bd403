//! A job whose sinks take rows at a pace of their own: for checkpoints under backpressure, and under skew.

use super::scheduled::{Count, Event, Scheduled};
use crate::clock::{now_ns, pause};
use rivermark::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Takes rows at its own pace.
struct Paced {
    row: Duration,
    /// How long it has still to rest for rows taken.
    owed: Duration,
    taken: Taken,
}

/// Rests shorter than this last longer than they should.
const LEAST_REST: Duration = Duration::from_micros(500);

impl ProcessOp<Event, u64> for Paced {
    fn row(&mut self, row: Timed<Event>, out: &mut Out<u64>) -> Result<()> {
        self.owed += self.row;
        if self.owed >= LEAST_REST {
            let start = now_ns();
            pause(self.owed);
            // A rest that lasted too long counts for the next ones.
            self.owed = self.owed.saturating_sub(Duration::from_nanos(now_ns() - start));
        }
        self.taken.0.fetch_add(1, Ordering::Relaxed);
        out.emit(row.value.0);
        Ok(())
    }
}

/// How many rows a sink has taken.
#[derive(Clone, Debug, Default)]
pub struct Taken(Arc<AtomicU64>);

impl Taken {
    /// So many.
    pub fn rows(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Updates a count for each event and deals the results out to sinks, of which each row takes so long.
pub fn paced(env: &StreamEnv, events: Scheduled, row: Duration, taken: Taken) {
    env.from_source(events, WatermarkStrategy::none())
        .uid("events")
        .key_by(|event| event.0)
        .process(Count::default)
        .uid("count")
        .rebalance()
        .process(move || Paced {
            row,
            owed: Duration::ZERO,
            taken: taken.clone(),
        })
        .uid("sink")
        .discard();
}
