//! Results: a row for each workload, as JSON and for people.

use serde_json::{Map, Value, json};

/// A row. What all rows have is named as in the JSON; what only some have stands in `own`.
#[derive(Clone, Debug)]
pub struct Row {
    /// The workload.
    pub name: &'static str,
    /// Subtasks of every operator.
    pub parallelism: u32,
    /// `off` or `1s`.
    pub checkpoints: String,
    /// The job's events in a second.
    pub events_per_s: f64,
    /// The job's CPU time of an event.
    pub cpu_ns_per_event: f64,
    /// The limit's events in a second.
    pub limit_events_per_s: f64,
    /// The limit's CPU time of an event.
    pub limit_cpu_ns_per_event: f64,
    /// The limit's CPU time over the job's: the median of the rounds.
    pub ratio: f64,
    /// The state's shape, for the workloads that have one.
    pub shape: Option<String>,
    /// What only this workload has, in the order in which it is shown.
    pub own: Vec<(&'static str, f64)>,
}

impl Row {
    /// The row as an object.
    pub fn json(&self) -> Value {
        let mut object = Map::from_iter([
            ("name".to_owned(), json!(self.name)),
            ("parallelism".to_owned(), json!(self.parallelism)),
            ("checkpoints".to_owned(), json!(self.checkpoints)),
        ]);
        if let Some(shape) = &self.shape {
            object.insert("shape".to_owned(), json!(shape));
        }
        let common = [
            ("events_per_s", self.events_per_s),
            ("cpu_ns_per_event", self.cpu_ns_per_event),
            ("limit_events_per_s", self.limit_events_per_s),
            ("limit_cpu_ns_per_event", self.limit_cpu_ns_per_event),
            ("ratio", self.ratio),
        ];
        let numbers = common.into_iter().chain(self.own.iter().copied());
        object.extend(numbers.map(|(field, number)| (field.to_owned(), json!(rounded(number)))));
        Value::Object(object)
    }

    /// The row as a line under [`HEAD`]; what only it has follows in words.
    pub fn text(&self) -> String {
        let name = match &self.shape {
            Some(shape) => format!("{} {shape}", self.name),
            None => self.name.to_owned(),
        };
        let mut line = format!(
            "{name:<22} {:>2} {:>4} {:>10} {:>10.1} {:>10} {:>10.1} {:>6.2}",
            self.parallelism,
            self.checkpoints,
            people(self.events_per_s),
            self.cpu_ns_per_event,
            people(self.limit_events_per_s),
            self.limit_cpu_ns_per_event,
            self.ratio
        );
        for (field, number) in &self.own {
            line.push_str(&format!("  {field} {}", rounded(*number)));
        }
        line
    }
}

/// What stands over the lines of [`Row::text`].
pub const HEAD: &str = "workload                p  ckp   events/s     cpu ns  limit ev/s     cpu ns  ratio";

/// Four digits are more than a measurement has.
fn rounded(number: f64) -> f64 {
    if number == 0.0 || !number.is_finite() {
        return 0.0;
    }
    let digits = 3 - number.abs().log10().floor() as i32;
    if digits <= 0 {
        return number.round();
    }
    let scale = 10f64.powi(digits);
    (number * scale).round() / scale
}

fn people(number: f64) -> String {
    match number {
        1e6.. => format!("{:.1} M", number / 1e6),
        1e3.. => format!("{:.1} k", number / 1e3),
        _ => format!("{number:.0}"),
    }
}

/// The middle of some numbers.
pub fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match numbers.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => numbers[middle],
        _ => f64::midpoint(numbers[middle - 1], numbers[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median([]), 0.0);
    }

    #[test]
    fn numbers_keep_four_digits() {
        assert_eq!(rounded(12.345678), 12.35);
        assert_eq!(rounded(123_456_789.4), 123_456_789.0);
        assert_eq!(rounded(0.000_123_456), 0.000_123_5);
    }
}
