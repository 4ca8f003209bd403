//! How long checkpoints take under backpressure and under skew, in each alignment mode, beside jobs without either.

use super::{Series, row, temporary};
use crate::picture;
use crate::rows::Row;
use crate::trial::steady::Rate;
use crate::trial::times::{Measured, Mode, Times};
use crate::trial::{Trial, measure};

const WORKERS: u32 = 2;
/// What a slow sink is left with, of what it could take.
const SLOW_SHARE: f64 = 0.01;
/// More events a second than anybody can take.
const MORE_THAN_ENOUGH: u64 = 1_000_000_000;
/// When barriers of timed-out checkpoints begin to overtake.
const TIME_OUT_MS: u64 = 10;
const MODES: [Mode; 3] = [Mode::Aligned, Mode::Unaligned, Mode::TimedOut(TIME_OUT_MS)];

/// Partitions, and subtasks of every operator, of the skewed job.
const PARTITIONS: u32 = 8;
/// Events a second of it.
const SKEWED_RATE: u64 = 500_000;

/// Sinks at a hundredth of their speed, beside a job that is offered only what they take.
pub(super) fn backpressure(series: &mut Series<'_>) -> Result<(), String> {
    let sizes = series.sizes;
    let one = |mode: Mode, rate: u64, sink_ns: u64, checkpoints: usize| {
        let dir = temporary()?;
        measure::<Measured>(&Trial::Times(Times {
            mode,
            parallelism: WORKERS,
            rate,
            keys: sizes.keys,
            partitions: u64::from(WORKERS),
            is_skewed: false,
            sink_ns,
            warm_ms: sizes.pressure_ms,
            checkpoints,
            millis: sizes.timed_ms,
            dir: dir.path().to_owned(),
        }))
    };
    (series.progress)("backpressure: how fast sinks could be");
    let fast = one(Mode::Aligned, MORE_THAN_ENOUGH, 0, 0)?.rate.events_per_s();
    let slow = fast * SLOW_SHARE;
    (series.progress)("backpressure: without any");
    let unloaded = one(Mode::Aligned, slow as u64, 0, sizes.timed_checkpoints)?;
    let sink_ns = 1e9 * f64::from(WORKERS) / slow;
    let mut times = vec![("no pressure", unloaded.times_ms.clone())];
    for mode in MODES {
        (series.progress)(&format!("backpressure: {}", mode.name()));
        let pressed = one(mode, MORE_THAN_ENOUGH, sink_ns as u64, sizes.timed_checkpoints)?;
        (series.result)(&Row {
            own: vec![
                ("p50_ms", pressed.quantile_ms(0.5)),
                ("p99_ms", pressed.quantile_ms(0.99)),
                ("unloaded_p50_ms", unloaded.quantile_ms(0.5)),
                ("unloaded_p99_ms", unloaded.quantile_ms(0.99)),
                ("measured", pressed.times_ms.len() as f64),
                ("in_flight_mb", pressed.in_flight_bytes as f64 / 1e6),
                ("rows_a_batch", pressed.rows_a_batch),
                ("sink_ms_a_row", sink_ns / 1e6),
            ],
            ..beside("backpressure", WORKERS, mode, unloaded.rate, pressed.rate)
        });
        times.push((mode.name(), pressed.times_ms));
    }
    match &series.pictures {
        Some(dir) => picture::durations(&times).write(&dir.join("backpressure.svg")),
        None => Ok(()),
    }
}

/// Half of the events in one of eight partitions and a fifth with one key, beside the same without skew.
pub(super) fn skew(series: &mut Series<'_>) -> Result<(), String> {
    let sizes = series.sizes;
    let one = |mode: Mode, is_skewed: bool| {
        let dir = temporary()?;
        measure::<Measured>(&Trial::Times(Times {
            mode,
            parallelism: PARTITIONS,
            rate: SKEWED_RATE,
            keys: sizes.keys,
            partitions: u64::from(PARTITIONS),
            is_skewed,
            sink_ns: 0,
            warm_ms: sizes.pressure_ms,
            checkpoints: sizes.timed_checkpoints,
            millis: sizes.timed_ms,
            dir: dir.path().to_owned(),
        }))
    };
    for mode in [Mode::Aligned, Mode::Unaligned] {
        (series.progress)(&format!("skew: {}", mode.name()));
        let (even, skewed) = (one(mode, false)?, one(mode, true)?);
        (series.result)(&Row {
            own: vec![
                ("p50_ms", skewed.quantile_ms(0.5)),
                ("p99_ms", skewed.quantile_ms(0.99)),
                ("even_p50_ms", even.quantile_ms(0.5)),
                ("even_p99_ms", even.quantile_ms(0.99)),
                ("p50_over_even", skewed.quantile_ms(0.5) / even.quantile_ms(0.5)),
            ],
            ..beside("skew", PARTITIONS, mode, even.rate, skewed.rate)
        });
    }
    Ok(())
}

/// A row whose limit is the same job without the load.
fn beside(name: &'static str, parallelism: u32, mode: Mode, without: Rate, with: Rate) -> Row {
    row(
        name,
        parallelism,
        mode.name().to_owned(),
        [(without, with)].into_iter(),
    )
}
