//! The table of keys: what each is called, what form its value has, what it is when nobody sets it.
//!
//! `used` holds the keys this version reads, `accepted` those of Flink's that it knows and leaves alone. A name may
//! contain `<name>`, which stands for any one segment (`metrics.reporter.<name>.port`).

mod accepted;
mod used;

use std::fmt::Write;

/// The form of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// `500 ms`, `2s`, `10 min`, `1 h`, a bare number of milliseconds, or ISO-8601 (`PT2S`).
    Duration,
    /// `64mb`, `1g`, or a bare number of bytes.
    Memory,
    /// A whole number within bounds.
    Int {
        /// Smallest value.
        min: i64,
        /// Greatest value.
        max: i64,
    },
    /// A decimal number within bounds.
    Float {
        /// Smallest value.
        min: f64,
        /// Greatest value.
        max: f64,
    },
    /// `true` or `false`.
    Bool,
    /// Any text.
    Text,
    /// `a;b`, `a,b` or a YAML list.
    List,
    /// `k:v,k2:v2` or a YAML map.
    Map,
    /// One of these words, in any case.
    Choice(&'static [&'static str]),
}

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Key {
    /// The name, as Flink spells it, or ours under `rivermark.`.
    pub name: &'static str,
    /// The form of its value.
    pub kind: Kind,
    /// Its value when nobody sets it, as a user would write it; empty = none.
    pub default: &'static str,
    /// Flink's default where ours differs on purpose.
    pub flink_default: Option<&'static str>,
    /// Whether `unlimited` may stand for the number.
    pub unlimited: bool,
    /// Older spellings that are still read; the first that is set counts, and the new one beats them all.
    pub was: &'static [&'static str],
    /// Whether this version reads it.
    pub used: bool,
    /// What it does, in a line; empty for keys that are not read.
    pub about: &'static str,
}

impl Key {
    const fn new(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Key {
        Key {
            name,
            kind,
            default,
            flink_default: None,
            unlimited: false,
            was: &[],
            used: false,
            about,
        }
    }
    const fn used(mut self) -> Key {
        self.used = true;
        self
    }
    const fn was(mut self, older: &'static [&'static str]) -> Key {
        self.was = older;
        self
    }
    const fn here(mut self, default: &'static str) -> Key {
        self.flink_default = Some(self.default);
        self.default = default;
        self
    }
    const fn or_unlimited(mut self) -> Key {
        self.unlimited = true;
        self
    }

    /// Whether a spelling, new or old, means this key.
    fn is_spelled(&self, spelling: &str) -> bool {
        matches_pattern(self.name, spelling) || self.was.contains(&spelling)
    }
}

/// All keys, those that are read first.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    used::KEYS.iter().chain(accepted::KEYS)
}

/// The keys that a spelling sets: one as a rule, several for an old spelling that was split up, none if unknown.
pub(crate) fn spelled(spelling: &str) -> impl Iterator<Item = &'static Key> {
    keys().filter(move |key| key.is_spelled(spelling))
}

/// Whether a spelling belongs to a family of Flink's keys that is accepted unread.
pub(crate) fn in_family(spelling: &str) -> bool {
    accepted::FAMILIES
        .iter()
        .any(|family| spelling.starts_with(family))
}

/// The known key that a mistyped one most likely means, if any is near enough.
pub(crate) fn nearest(spelling: &str) -> Option<String> {
    let third = spelling.split('.').nth(2).unwrap_or("<name>");
    let near = |name: String| (strsim::normalized_damerau_levenshtein(&name, spelling), name);
    keys()
        .map(|key| near(key.name.replace("<name>", third)))
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

/// Whether a key's value may hold a secret, and so must not be printed.
pub(crate) fn is_secret(spelling: &str) -> bool {
    let lower = spelling.to_ascii_lowercase();
    [
        "password",
        "secret",
        "token",
        "credential",
        "apikey",
        "api-key",
        "auth-params",
        "account.key",
    ]
    .iter()
    .any(|word| lower.contains(word))
}

fn matches_pattern(pattern: &str, spelling: &str) -> bool {
    if !pattern.contains('<') {
        return pattern == spelling;
    }
    let mut theirs = spelling.split('.');
    pattern.split('.').all(|part| {
        theirs
            .next()
            .is_some_and(|t| part == t || (part == "<name>" && !t.is_empty()))
    }) && theirs.next().is_none()
}

/// The keys this version reads, as a Markdown table for the guide and for `--help`.
pub fn describe() -> String {
    let mut text = String::from("| key | value | default | meaning |\n| --- | --- | --- | --- |\n");
    for key in keys().filter(|key| key.used) {
        let default = if key.default.is_empty() {
            "(none)"
        } else {
            key.default
        };
        let flink = match key.flink_default {
            Some(theirs) => format!(" (Flink: `{theirs}`)"),
            None => String::new(),
        };
        let was = match key.was {
            [] => String::new(),
            was => format!(" (was: `{}`)", was.join("`, `")),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| `{}` | {} | `{default}`{flink} | {}{was} |",
            key.name,
            expected(key),
            key.about
        );
    }
    text
}

/// What a key's value must look like, in words; for the table and for errors.
pub(crate) fn expected(key: &Key) -> String {
    let form = match key.kind {
        Kind::Duration => "a duration such as `500 ms`, `10 s` or `5 min`".into(),
        Kind::Memory => "a size such as `64 mb` or `1 gb`".into(),
        Kind::Int { min, max } if max >= i64::from(i32::MAX) && min <= i64::from(i32::MIN) => {
            "a whole number".into()
        }
        Kind::Int { min, max } if max == i64::from(i32::MAX) => format!("a whole number from {min}"),
        Kind::Int { min, max } => format!("a whole number from {min} to {max}"),
        Kind::Float { min, max } if max == f64::MAX => format!("a number from {min}"),
        Kind::Float { min, max } => format!("a number from {min} to {max}"),
        Kind::Bool => "`true` or `false`".into(),
        Kind::Text => "a text".into(),
        Kind::List => "a list such as `a;b`".into(),
        Kind::Map => "a map such as `k:v,k2:v2`".into(),
        Kind::Choice(words) => format!("one of `{}`", words.join("`, `")),
    };
    if key.unlimited {
        form + " or `unlimited`"
    } else {
        form
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_name_is_there_once_and_no_old_spelling_is_a_new_one() {
        let mut seen = BTreeSet::new();
        for key in keys() {
            assert!(seen.insert(key.name), "{} is there twice", key.name);
            assert_eq!(key.used, !key.about.is_empty(), "{}", key.name);
        }
        for old in keys().flat_map(|key| key.was) {
            assert!(!seen.contains(old), "{old} is an old and a new spelling");
        }
    }

    #[test]
    fn a_pattern_stands_for_one_segment() {
        assert_eq!(spelled("metrics.reporter.prom.port").count(), 1);
        assert_eq!(spelled("metrics.reporter.port").count(), 0);
        assert_eq!(spelled("metrics.reporter.a.b.port").count(), 0);
    }

    #[test]
    fn the_nearest_key_is_what_was_meant() {
        assert_eq!(
            nearest("paralelism.default").as_deref(),
            Some("parallelism.default")
        );
        assert_eq!(
            nearest("execution.checkpoint.interval").as_deref(),
            Some("execution.checkpointing.interval")
        );
        assert_eq!(
            nearest("metrics.reporter.prom.prt").as_deref(),
            Some("metrics.reporter.prom.port")
        );
        assert_eq!(nearest("zzz"), None);
    }

    #[test]
    fn the_description_names_our_default_and_flinks() {
        let text = describe();
        assert!(
            text.contains("| `execution.checkpointing.num-retained` |"),
            "{text}"
        );
        assert!(text.contains("`3` (Flink: `1`)"), "{text}");
        assert!(
            !text.contains("rest.port"),
            "keys that are not read are not described"
        );
    }
}
