//! Values: what a source gives (a text, a list, a map) and what a key's form makes of it.

use crate::keys::{Key, Kind};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// A value as a source gave it, before a key says what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A scalar, as text.
    Text(String),
    /// A list, from YAML.
    List(Vec<String>),
    /// A map, from YAML.
    Map(BTreeMap<String, String>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => f.write_str(text),
            Value::List(items) => f.write_str(&items.join(";")),
            Value::Map(map) => {
                let pairs: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{v}")).collect();
                f.write_str(&pairs.join(","))
            }
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<Duration> for Value {
    fn from(duration: Duration) -> Value {
        match duration.subsec_nanos() % 1_000_000 {
            0 => Value::Text(format!("{} ms", duration.as_millis())),
            _ => Value::Text(format!("{} ns", duration.as_nanos())),
        }
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Value {
        Value::Text(flag.to_string())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Value {
        Value::Text(number.to_string())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Value {
        Value::Text(number.to_string())
    }
}

/// A value that has the form its key asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Typed {
    Duration(Duration),
    Memory(u64),
    Int(i64),
    Unlimited,
    Float(f64),
    Bool(bool),
    Text(String),
    List(Vec<String>),
    Map(BTreeMap<String, String>),
    Choice(&'static str),
}

/// Reads a value in the form of a key; `None` if it does not have that form.
pub(crate) fn read(key: &Key, value: &Value) -> Option<Typed> {
    let text = match (key.kind, value) {
        (Kind::List, Value::List(items)) => return Some(Typed::List(items.clone())),
        (Kind::Map, Value::Map(map)) => return Some(Typed::Map(map.clone())),
        // What Flink types as text is often a list in practice (`metrics.reporters`).
        (Kind::Text, Value::List(_)) => return Some(Typed::Text(value.to_string())),
        (_, Value::Text(text)) => text.trim(),
        (_, Value::List(_) | Value::Map(_)) => return None,
    };
    if key.unlimited && (text.eq_ignore_ascii_case("unlimited") || text == "2147483647") {
        return Some(Typed::Unlimited);
    }
    match key.kind {
        Kind::Duration => duration(text).map(Typed::Duration),
        Kind::Memory => memory(text).map(Typed::Memory),
        Kind::Int { min, max } => text
            .parse()
            .ok()
            .filter(|n| (min..=max).contains(n))
            .map(Typed::Int),
        Kind::Float { min, max } => text
            .parse()
            .ok()
            .filter(|n| (min..=max).contains(n))
            .map(Typed::Float),
        Kind::Bool => match text.to_ascii_lowercase().as_str() {
            "true" => Some(Typed::Bool(true)),
            "false" => Some(Typed::Bool(false)),
            _ => None,
        },
        Kind::Text => Some(Typed::Text(text.into())),
        Kind::List => Some(Typed::List(list(text))),
        Kind::Map => map(text).map(Typed::Map),
        Kind::Choice(words) => words
            .iter()
            .find(|word| word.eq_ignore_ascii_case(text))
            .map(|word| Typed::Choice(word)),
    }
}

fn list(text: &str) -> Vec<String> {
    text.split([';', ','])
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(String::from)
        .collect()
}

fn map(text: &str) -> Option<BTreeMap<String, String>> {
    let pair = |item: String| {
        item.split_once(':')
            .map(|(k, v)| (k.trim().to_string(), v.trim().to_string()))
    };
    list(text).into_iter().map(pair).collect()
}

/// Splits `10 min` into `10` and `min`; the number is whole.
fn number_and_unit(text: &str) -> Option<(u64, String)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim().to_ascii_lowercase()))
}

fn duration(text: &str) -> Option<Duration> {
    if text.starts_with(['P', 'p']) {
        return iso_duration(text);
    }
    let (number, unit) = number_and_unit(text)?;
    let nanos: u64 = match unit.as_str() {
        "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => 1,
        "us" | "µs" | "micro" | "micros" | "microsecond" | "microseconds" => 1_000,
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1_000_000,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000_000_000,
        "m" | "min" | "minute" | "minutes" => 60_000_000_000,
        "h" | "hour" | "hours" => 3_600_000_000_000,
        "d" | "day" | "days" => 86_400_000_000_000,
        _ => return None,
    };
    number.checked_mul(nanos).map(Duration::from_nanos)
}

/// ISO-8601 with days, hours, minutes and (fractional) seconds: `P1DT2H3M4.5S`.
fn iso_duration(text: &str) -> Option<Duration> {
    let upper = text.to_ascii_uppercase();
    let (days, time) = match upper.strip_prefix('P')?.split_once('T') {
        Some((days, time)) if !time.is_empty() => (days, time),
        Some(_) => return None,
        None => (upper.strip_prefix('P')?, ""),
    };
    if days.is_empty() && time.is_empty() {
        return None;
    }
    let total = Duration::ZERO.checked_add(iso_fields(days, &[('D', 86_400)])?)?;
    total.checked_add(iso_fields(time, &[('H', 3_600), ('M', 60), ('S', 1)])?)
}

fn iso_fields(mut text: &str, units: &[(char, u64)]) -> Option<Duration> {
    let mut total = Duration::ZERO;
    for &(letter, seconds) in units {
        let Some((number, rest)) = text.split_once(letter) else {
            continue;
        };
        text = rest;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if !fraction.is_empty() && (letter != 'S' || fraction.len() > 9) {
            return None;
        }
        let nanos: u32 = format!("{fraction:0<9}").parse().ok()?;
        let whole = whole.parse::<u64>().ok()?.checked_mul(seconds)?;
        total = total.checked_add(Duration::new(whole, nanos))?;
    }
    text.is_empty().then_some(total)
}

fn memory(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let shift = match unit.as_str() {
        "" | "b" | "bytes" => 0,
        "k" | "kb" | "kibibytes" => 10,
        "m" | "mb" | "mebibytes" => 20,
        "g" | "gb" | "gibibytes" => 30,
        "t" | "tb" | "tebibytes" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_in_every_spelling() {
        for (text, ms) in [
            ("500 ms", 500),
            ("2s", 2_000),
            ("10 min", 600_000),
            ("1 h", 3_600_000),
            ("2 d", 172_800_000),
            ("1500", 1_500),
            ("0", 0),
            ("PT2S", 2_000),
            ("PT0.25S", 250),
            ("P1DT2H3M4.5S", 93_784_500),
            ("P1D", 86_400_000),
            ("pt1m", 60_000),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(duration("7 us"), Some(Duration::from_micros(7)));
        for wrong in [
            "",
            "ms",
            "-1",
            "1.5 s",
            "3 parsecs",
            "P",
            "PT",
            "P1H",
            "PT1S1H",
            "99999999999999 d",
            "1 s s",
        ] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_in_every_spelling() {
        for (text, bytes) in [
            ("64mb", 64 << 20),
            ("1g", 1 << 30),
            ("20 kb", 20 << 10),
            ("17", 17),
            ("3 bytes", 3),
            ("1 T", 1 << 40),
        ] {
            assert_eq!(memory(text), Some(bytes), "{text}");
        }
        for wrong in ["", "mb", "-1", "1.5g", "1 xb", "99999999999 tb"] {
            assert_eq!(memory(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn lists_and_maps() {
        assert_eq!(list("a; b,,c"), ["a", "b", "c"]);
        assert_eq!(
            map("k:v, k2:v:2").unwrap().get("k2").map(String::as_str),
            Some("v:2")
        );
        assert_eq!(map("k"), None);
    }

    proptest! {
        #[test]
        fn a_duration_set_in_code_comes_back(nanos in 0..u64::MAX) {
            let value = Value::from(Duration::from_nanos(nanos)).to_string();
            prop_assert_eq!(duration(&value), Some(Duration::from_nanos(nanos)));
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in "\\PC*") {
            let _ = (duration(&text), memory(&text), map(&text));
        }

        #[test]
        fn nothing_like_iso_makes_a_parser_panic(text in "P[0-9DTHMS.]*") {
            let _ = duration(&text);
        }
    }
}
