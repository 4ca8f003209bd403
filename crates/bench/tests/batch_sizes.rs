//! The size of batches changes how fast a job is and nothing else: the same outputs at 1, 7 and 4,096 rows.

#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

use rivermark::prelude::*;
use rivermark_bench::jobs::records::{Account, Payment, Reading, splitmix64};

const ROWS: u64 = 20_000;

/// Runs a job at a batch size; its outputs in order of their own.
fn outputs<T: Ord + Clone + Send + Sync + serde::Serialize + serde::de::DeserializeOwned + 'static>(
    batch: &str,
    slice: &str,
    build: impl FnOnce(&StreamEnv) -> DataStream<T>,
) -> Vec<T> {
    let env = StreamEnv::new();
    env.set_parallelism(2);
    let collected = Collected::default();
    build(&env)
        .sink_to(CollectSink::new(collected.clone()))
        .uid("outputs");
    let mut config = Config::default();
    config.set("rivermark.batch.max-rows", batch);
    config.set("rivermark.slice", slice);
    env.start_with(config).unwrap().wait().unwrap();
    let mut rows = collected.take();
    rows.sort();
    rows
}

fn same_at_every_size<T>(rows: usize, build: impl Fn(&StreamEnv) -> DataStream<T>)
where
    T: Ord + Clone + Send + Sync + serde::Serialize + serde::de::DeserializeOwned + std::fmt::Debug + 'static,
{
    let whole = outputs("4096", "2 ms", &build);
    assert_eq!(whole.len(), rows);
    for (batch, slice) in [("1", "2 ms"), ("7", "2 ms"), ("4096", "1 ms")] {
        assert!(
            outputs(batch, slice, &build) == whole,
            "batches of {batch} rows, slices of {slice}"
        );
    }
}

#[derive(Default)]
struct Books {
    account: ValueState<u64, Account>,
}

impl KeyedOp<u64, Payment, (u64, u64, u64)> for Books {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u64>) -> Result<()> {
        self.account = cx.value("account")?;
        Ok(())
    }
    fn row(&mut self, key: &Key<u64>, payment: Timed<Payment>, out: &mut Out<(u64, u64, u64)>) -> Result<()> {
        let account = self.account.update(key);
        account.add(&payment.value);
        out.emit((**key, account.payments, 0));
        Ok(())
    }
}

#[test]
fn closures_that_drop_rows_and_make_more_of_them() {
    let expected = (0..ROWS).filter(|n| n % 7 != 0).map(|n| n % 3).sum::<u64>();
    same_at_every_size(expected as usize, |env| {
        env.sequence(ROWS)
            .uid("numbers")
            .filter(|n| n % 7 != 0)
            .flat_map(|n| (0..n % 3).map(move |i| (n, i)))
            .map(|(n, i)| (n, i.to_string()))
            .end_fusion()
    });
}

#[test]
fn running_values_of_keys() {
    same_at_every_size(ROWS as usize, |env| {
        env.sequence(ROWS)
            .uid("numbers")
            .map(|n| Payment::number(n, 500))
            .key_by(|payment| payment.account)
            .process(Books::default)
            .uid("books")
    });
}

#[test]
fn windows() {
    let time = || WatermarkStrategy::monotonous().with_timestamp(|reading: &Reading| Timestamp(reading.at));
    let windows: std::collections::BTreeSet<_> =
        (0..ROWS).map(|n| (splitmix64(n) % 50, n / 100 / 20)).collect();
    same_at_every_size(windows.len(), |env| {
        env.from_source(GeneratorSource::bounded(ROWS, |n| Reading::number(n, 50)), time())
            .uid("readings")
            .key_by(|reading| reading.sensor)
            .window(Tumbling::of(Duration::from_millis(20)))
            .fold(
                |(sum, count): &mut (u64, u64), reading| {
                    *sum += u64::from(reading.value);
                    *count += 1;
                },
                |sensor, window, (sum, count)| (*sensor, window.start.0, sum, count),
            )
            .uid("sums")
    });
}
