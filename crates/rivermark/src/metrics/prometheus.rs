//! Series as the text that a Prometheus server reads (format 0.0.4), named and labelled as Flink's reporter does.

use rivermark_job::metrics::{Series, SeriesValue};
use std::collections::BTreeMap;
use std::fmt::Write;

/// What the answer to a scrape is declared as.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The text. With `filter`, characters of label values that may trouble some systems become `_`.
pub(crate) fn text(series: &[Series], filter: bool) -> String {
    // All series of one name have to stand together, behind one header.
    let mut by_name: BTreeMap<String, Vec<&Series>> = BTreeMap::new();
    for series in series {
        let name = filtered(&format!("flink_{}_{}", series.scope, series.name));
        by_name.entry(name).or_default().push(series);
    }
    let mut text = String::new();
    for (name, series) in by_name {
        let Some(first) = series.first() else { continue };
        let kind = match first.value {
            SeriesValue::Number(_) => "gauge",
            SeriesValue::Summary(..) => "summary",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "# HELP {name} {} (scope: {})\n# TYPE {name} {kind}",
            first.name.replace(['\\', '\n'], "_"),
            first.scope
        );
        series
            .iter()
            .for_each(|series| one(&name, series, filter, &mut text));
    }
    text
}

fn one(name: &str, series: &Series, filter: bool, text: &mut String) {
    let labels = labels(series, filter);
    match &series.value {
        SeriesValue::Number(value) => {
            let _ = writeln!(text, "{name}{{{labels}}} {}", number(*value));
        }
        SeriesValue::Summary(quantiles, count) => {
            let _ = writeln!(text, "{name}_count{{{labels}}} {count}");
            for (quantile, value) in quantiles {
                let _ = writeln!(
                    text,
                    "{name}{{{labels},quantile=\"{quantile}\"}} {}",
                    number(*value)
                );
            }
        }
    }
}

fn labels(series: &Series, filter: bool) -> String {
    let labels = series.labels.iter().map(|(label, value)| {
        let value = match filter {
            true => filtered(value),
            false => value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n"),
        };
        format!("{label}=\"{value}\"")
    });
    labels.collect::<Vec<_>>().join(",")
}

/// What is no letter, digit, `:` or `_` becomes `_`.
fn filtered(text: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || c == ':' || c == '_';
    text.chars().map(|c| if keep(c) { c } else { '_' }).collect()
}

fn number(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".to_owned(),
        value if value == f64::INFINITY => "+Inf".to_owned(),
        value if value == f64::NEG_INFINITY => "-Inf".to_owned(),
        value => format!("{value:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, job: &str, value: SeriesValue) -> Series {
        Series {
            scope: "jobmanager_job",
            name: name.to_owned(),
            labels: vec![("host", "h".to_owned()), ("job_name", job.to_owned())],
            value,
        }
    }

    #[test]
    fn the_text_is_as_flinks_reporter_writes_it() {
        let all = [
            series("numRestarts", "keyed-count", SeriesValue::Number(3.0)),
            series("my size", "a\"b", SeriesValue::Summary(vec![("0.5", 7.0)], 2)),
            series("numRestarts", "other", SeriesValue::Number(-1.0)),
        ];
        let expected = "\
# HELP flink_jobmanager_job_my_size my size (scope: jobmanager_job)
# TYPE flink_jobmanager_job_my_size summary
flink_jobmanager_job_my_size_count{host=\"h\",job_name=\"a_b\"} 2
flink_jobmanager_job_my_size{host=\"h\",job_name=\"a_b\",quantile=\"0.5\"} 7.0
# HELP flink_jobmanager_job_numRestarts numRestarts (scope: jobmanager_job)
# TYPE flink_jobmanager_job_numRestarts gauge
flink_jobmanager_job_numRestarts{host=\"h\",job_name=\"keyed_count\"} 3.0
flink_jobmanager_job_numRestarts{host=\"h\",job_name=\"other\"} -1.0
";
        assert_eq!(text(&all, true), expected);
        let unfiltered = text(&all[1..2], false);
        assert!(unfiltered.contains("job_name=\"a\\\"b\""), "{unfiltered}");
    }

    #[test]
    fn numbers_are_those_of_the_format() {
        let numbers = [0.0, 0.5, -9_223_372_036_854_775_808.0, f64::NAN, f64::INFINITY].map(number);
        assert_eq!(numbers, ["0.0", "0.5", "-9.223372036854776e18", "NaN", "+Inf"]);
    }
}
