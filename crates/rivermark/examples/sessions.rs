//! Visits to a shop: the clicks of a visitor until there is none for half an hour. `cargo run --example sessions`

use rivermark::prelude::*;
use std::process::ExitCode;

/// Who, and at which minute.
type Click = (String, i64);

const MINUTE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    rivermark::run(|env| {
        // Out of order by up to ten minutes: Ann's third click closes the gap between the two before it.
        let clicks = [
            ("Ann", 0),
            ("Bob", 3),
            ("Ann", 35),
            ("Ann", 28),
            ("Bob", 40),
            ("Ann", 90),
        ];
        let clicks = clicks.map(|(who, minute)| (who.to_owned(), minute));
        let times = WatermarkStrategy::bounded_out_of_orderness(10 * MINUTE)
            .with_timestamp(|click: &Click| Timestamp(click.1 * 60_000));
        env.from_source(CollectionSource::new(clicks), times)
            .uid("clicks")
            .key_by(|click| click.0.clone())
            .window(Session::gap(30 * MINUTE))
            .fold_merging(
                |clicks: &mut u64, _: Click| *clicks += 1,
                |clicks, others| *clicks += others,
                |who: &String, visit: Window, clicks| {
                    let (from, to) = (visit.start.0 / 60_000, visit.end.0 / 60_000 - 30);
                    format!("{who} came at minute {from}, clicked last at {to}: {clicks} clicks")
                },
            )
            .uid("visits")
            .sink_to(PrintSink::new(String::clone));
        Ok(())
    })
}
