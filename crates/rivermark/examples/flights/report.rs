//! What the finished files hold, whether two runs agree, and the report.

use crate::model::{DAY_MS, HOUR_MS, Tally, hour_ms};
use rivermark::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Prints a line. A reader that has heard enough (`| head`) is no error.
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($words)*);
    }};
}
pub(crate) use say;

/// The job's results, by name.
const RESULTS: [&str; 3] = ["hours", "carriers", "skies"];

/// The finished rows of a run, each result sorted.
pub struct Results {
    rows: BTreeMap<&'static str, Vec<String>>,
    /// Files that are neither finished nor gone.
    leftovers: Vec<String>,
}

impl Results {
    pub fn read(dir: &Path) -> Result<Results> {
        let failed = |error: std::io::Error| Failure::external(format!("{}", dir.display())).caused_by(error);
        let mut results = Results {
            rows: BTreeMap::new(),
            leftovers: vec![],
        };
        for name in RESULTS {
            let mut rows = Vec::new();
            for entry in fs::read_dir(dir.join(name)).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let file = entry.file_name().to_string_lossy().into_owned();
                if file.starts_with('.') {
                    results.leftovers.push(format!("{name}/{file}"));
                    continue;
                }
                // The first line is the header.
                rows.extend(
                    fs::read_to_string(entry.path())
                        .map_err(failed)?
                        .lines()
                        .skip(1)
                        .map(str::to_owned),
                );
            }
            rows.sort();
            results.rows.insert(name, rows);
        }
        Ok(results)
    }

    fn of(&self, name: &str) -> impl Iterator<Item = Vec<&str>> {
        self.rows
            .get(name)
            .into_iter()
            .flatten()
            .map(|row| row.split(',').collect())
    }
}

/// Two runs' rows as multisets.
#[derive(Default)]
pub struct Comparison {
    rows: usize,
    lost: usize,
    doubled: usize,
    leftovers: Vec<String>,
}

impl Comparison {
    pub fn of(expected: &Results, found: &Results) -> Comparison {
        let mut comparison = Comparison {
            leftovers: found.leftovers.clone(),
            ..Comparison::default()
        };
        for name in RESULTS {
            let mut balance: BTreeMap<&str, isize> = BTreeMap::new();
            expected.rows[name]
                .iter()
                .for_each(|row| *balance.entry(row).or_default() -= 1);
            found.rows[name]
                .iter()
                .for_each(|row| *balance.entry(row).or_default() += 1);
            comparison.rows += expected.rows[name].len();
            comparison.lost += balance
                .values()
                .filter(|n| **n < 0)
                .map(|n| n.unsigned_abs())
                .sum::<usize>();
            comparison.doubled += balance
                .values()
                .filter(|n| **n > 0)
                .map(|n| n.unsigned_abs())
                .sum::<usize>();
        }
        comparison
    }

    pub fn is_identical(&self) -> bool {
        self.rows > 0 && self.lost + self.doubled == 0 && self.leftovers.is_empty()
    }
}

/// The parts of the report.
pub mod tell {
    use super::*;
    use crate::parent::{Kill, Run};
    use rivermark::wording::{count, size, span};

    pub fn peace(run: &Run) {
        say!("in peace    {}", speed(run));
        say!("            {}", checkpoints(run));
    }

    pub fn crash(seed: u64, kill: Kill, killed: &Run, resumed: &Run, replayed: u64) {
        let last = killed
            .checkpoints
            .last()
            .map_or_else(|| "-".to_owned(), |(id, ..)| id.to_string());
        let from = resumed
            .from
            .map_or_else(|| "the beginning".to_owned(), |id| format!("checkpoint {id}"));
        say!(
            "crash       killed (SIGKILL) {} after checkpoint {}, with {} records read (--seed {seed})",
            span(kill.delay),
            kill.after,
            count(killed.read)
        );
        say!("            the newest it had announced: {last}; a new process went on from {from}");
        say!("            {} rows replayed", count(replayed));
        say!("resumed     {}", speed(resumed));
        say!("            {}", checkpoints(resumed));
    }

    pub fn comparison(comparison: &Comparison) {
        let Comparison {
            rows,
            lost,
            doubled,
            leftovers,
        } = comparison;
        say!(
            "output      {} rows compared, {lost} lost, {doubled} doubled",
            count(*rows as u64)
        );
        leftovers
            .iter()
            .for_each(|file| say!("            left over: {file}"));
    }

    fn speed(run: &Run) -> String {
        let rate = run.read * 1000 / (run.elapsed.as_millis() as u64).max(1);
        format!(
            "{} records in {} ({}/s), late: {}",
            count(run.read),
            span(run.elapsed),
            count(rate),
            run.late
        )
    }

    fn checkpoints(run: &Run) -> String {
        let middle = |mut values: Vec<u64>| {
            values.sort();
            (
                values.get(values.len() / 2).copied().unwrap_or(0),
                values.last().copied().unwrap_or(0),
            )
        };
        let (bytes, most_bytes) = middle(run.checkpoints.iter().map(|(_, bytes, _)| *bytes).collect());
        let (ms, most_ms) = middle(run.checkpoints.iter().map(|(_, _, ms)| *ms).collect());
        format!(
            "{} checkpoints of {} in {} (the largest {}, the longest {})",
            run.checkpoints.len(),
            size(bytes),
            span(Duration::from_millis(ms)),
            size(most_bytes),
            span(Duration::from_millis(most_ms))
        )
    }

    /// What there is to learn about flying.
    pub fn insights(results: &Results) -> Result<()> {
        worst_hours(results)?;
        by_sky(results)?;
        by_carrier(results)
    }

    fn worst_hours(results: &Results) -> Result<()> {
        let mut hours = Vec::new();
        for row in results.of("hours") {
            let tally = tally(&row, 2)?;
            if tally.flights - tally.cancelled >= 10 {
                hours.push((tally.average(), new_york(row[0])?, row[1].to_owned(), tally));
            }
        }
        hours.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        say!("\nThe worst hours to fly (those with ten departures or more, New York time)");
        for (average, hour, airport, tally) in hours.iter().take(5) {
            say!(
                "  {hour}  {airport}  {average:>4} min late on average, {:>2} of {} cancelled",
                tally.cancelled,
                tally.flights
            );
        }
        Ok(())
    }

    fn by_sky(results: &Results) -> Result<()> {
        let mut skies: BTreeMap<&str, Tally> = BTreeMap::new();
        for row in results.of("skies") {
            let tally = tally(&row, 2)?;
            skies.entry(row[1]).or_default().merge(tally);
        }
        let unknown = skies.remove("").unwrap_or_default();
        let mut skies: Vec<_> = skies.into_iter().collect();
        skies.sort_by_key(|(_, tally)| tally.average());
        say!("\nWhat the sky does to a flight");
        for (sky, tally) in skies {
            let per_mille = tally.cancelled * 1000 / tally.flights.max(1);
            say!(
                "  {sky:5} {:>8} flights, {:>3} min late on average, {:>2}.{} % cancelled",
                count(tally.flights),
                tally.average(),
                per_mille / 10,
                per_mille % 10
            );
        }
        say!(
            "  {:5} {:>8} flights at hours whose weather nobody wrote down",
            "?",
            count(unknown.flights)
        );
        Ok(())
    }

    fn by_carrier(results: &Results) -> Result<()> {
        // The year so far only grows, so the last line is the one with the most flights.
        let mut years: BTreeMap<String, Tally> = BTreeMap::new();
        for row in results.of("carriers") {
            let so_far = tally(&row, 5)?;
            let year = years.entry(row[1].to_owned()).or_default();
            if so_far.flights > year.flights {
                *year = so_far;
            }
        }
        let flights: u64 = years.values().map(|year| year.flights).sum();
        let cancelled: u64 = years.values().map(|year| year.cancelled).sum();
        let mut years: Vec<_> = years
            .into_iter()
            .filter(|(_, year)| year.flights >= 1000)
            .collect();
        years.sort_by_key(|(_, year)| year.average());
        let words = |years: &[(String, Tally)]| {
            years
                .iter()
                .map(|(carrier, year)| format!("{carrier} {} min", year.average()))
                .collect::<Vec<_>>()
                .join(", ")
        };
        say!(
            "\nThe carriers: {} flights, {} of them never left",
            count(flights),
            count(cancelled)
        );
        say!("  most punctual   {}", words(&years[..years.len().min(3)]));
        say!(
            "  least punctual  {}",
            words(&years[years.len().saturating_sub(3)..])
        );
        Ok(())
    }

    /// Three numbers of a row, from a column on.
    fn tally(row: &[&str], first: usize) -> Result<Tally> {
        let wrong = || Failure::data(format!("a row that the job never writes: {}", row.join(",")));
        let number = |at: usize| {
            row.get(at)
                .and_then(|text| text.parse::<i64>().ok())
                .ok_or_else(wrong)
        };
        let (flights, cancelled, delay) = (number(first)?, number(first + 1)?, number(first + 2)?);
        Ok(Tally {
            flights: flights.unsigned_abs(),
            cancelled: cancelled.unsigned_abs(),
            delay,
        })
    }

    /// An hour in UTC as clocks in New York showed it; in 2013 summer time began on 10 March and ended on 3 November.
    fn new_york(utc: &str) -> Result<String> {
        let hour = |text: &str| hour_ms(text).map_err(Failure::data);
        let (time, summer, winter) = (hour(utc)?, hour("2013-03-10T07")?, hour("2013-11-03T06")?);
        let offset = if (summer..winter).contains(&time) { 4 } else { 5 };
        let local = time - offset * HOUR_MS;
        const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        let weekday = DAYS[local.div_euclid(DAY_MS).rem_euclid(7) as usize];
        Ok(format!(
            "{weekday} {}",
            &rivermark::wording::date(Timestamp(local))[..16]
        ))
    }
}
