//! Sums by key and tumbling window.

use super::records::{EVENTS_PER_WATERMARK, Reading, WINDOW_MS};
use rivermark::prelude::*;

/// Sum and count of each sensor and ten seconds of event time.
pub fn window(env: &StreamEnv, sensors: u64) {
    let readings = GeneratorSource::endless(move |number| Reading::number(number, sensors));
    let time = WatermarkStrategy::monotonous().with_timestamp(|reading: &Reading| Timestamp(reading.at));
    let rows = EVENTS_PER_WATERMARK as usize / env.parallelism() as usize;
    env.from_source_node(SourceNode::new(readings, time).watermark_rows(rows))
        .uid("readings")
        .key_by(|reading| reading.sensor)
        .window(Tumbling::of(Duration::from_millis(WINDOW_MS as u64)))
        .fold(
            |(sum, count): &mut (u64, u64), reading| {
                *sum += u64::from(reading.value);
                *count += 1;
            },
            |sensor, window, (sum, count)| (*sensor, window.start, sum, count),
        )
        .uid("sums")
        .discard();
}
