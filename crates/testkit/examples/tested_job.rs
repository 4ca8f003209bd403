//! A job with its tests: a reading goes on only if the sensor's last one was another. `cargo test -p
//! rivermark-testkit --example tested_job` runs its operator under every condition of the engine.

use rivermark::prelude::*;
use std::process::ExitCode;

type Reading = (String, i32);

/// Lets changes pass.
#[derive(Default)]
struct Changes {
    last: ValueState<String, i32>,
}

impl KeyedOp<String, Reading, Reading> for Changes {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, String>) -> Result<()> {
        self.last = cx.value("last")?;
        Ok(())
    }
    fn row(&mut self, sensor: &Key<String>, row: Timed<Reading>, out: &mut Out<Reading>) -> Result<()> {
        if self.last.set(sensor, row.value.1) != Some(row.value.1) {
            out.emit(row.value);
        }
        Ok(())
    }
}

fn sensor(reading: &Reading) -> String {
    reading.0.clone()
}

/// The job between its source and its sink: the same for the program and for tests.
fn changes(readings: DataStream<Reading>) -> DataStream<Reading> {
    readings.key_by(sensor).process(Changes::default).uid("changes")
}

fn readings() -> Vec<Reading> {
    let readings = [("a", 1), ("b", 1), ("a", 1), ("a", 2), ("b", 1), ("a", 1)];
    readings.map(|(sensor, value)| (sensor.to_owned(), value)).into()
}

fn main() -> ExitCode {
    rivermark::run(|env| {
        changes(env.from_collection(readings()).uid("readings")).sink_to(PrintSink::new(
            |(sensor, value): &Reading| format!("{sensor} is now {value}"),
        ));
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rivermark_runtime::operators::KeyedOperator;
    use rivermark_testkit::{Event, Order, Subject, verify_operator};

    /// The same in a loop.
    fn expected() -> Vec<Reading> {
        let mut last = std::collections::BTreeMap::new();
        let changed = |(sensor, value): &Reading| last.insert(sensor.clone(), *value) != Some(*value);
        readings().into_iter().filter(changed).collect()
    }

    #[test]
    fn the_operator_under_every_condition() {
        verify_operator(|| Subject::operator(|| KeyedOperator::new(sensor, Changes::default())))
            .keyed_by(0, sensor)
            .input(readings().into_iter().map(Event::row))
            .expect(Order::Exact, expected())
            .verify();
    }

    #[test]
    fn the_whole_job() {
        let env = StreamEnv::new();
        let changed = changes(env.from_collection(readings()).uid("readings"));
        let found = env.execute_and_collect(changed).unwrap().into_vec();
        let (mut found, mut expected) = (found.unwrap(), expected());
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
    }
}
