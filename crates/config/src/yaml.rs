//! Reads a YAML file into flat keys: `a.b.c: v` and nested maps mean the same, and may be mixed.
//!
//! The parser reports no positions, so the line of a key is looked up in the text afterwards; a key whose line is not
//! found (flow style, aliases) is reported with its file alone.

use crate::error::ConfigError;
use crate::keys::{self, Kind};
use crate::origin::Origin;
use crate::value::Value;
use serde_yaml_ng::Value as Yaml;
use std::collections::BTreeMap;

/// A key with its value and its place.
pub(crate) type Entry = (String, Value, Origin);

/// All entries of a file, or everything that is wrong with it.
pub(crate) fn read(name: &str, text: &str) -> Result<Vec<Entry>, Vec<ConfigError>> {
    let root: Yaml = serde_yaml_ng::from_str(text).map_err(|error| {
        let line = error.location().map(|at| at.line());
        let problem = format!("this is not YAML: {error}");
        vec![ConfigError::Syntax {
            place: Origin::File {
                name: name.into(),
                line,
            },
            problem,
        }]
    })?;
    let mut reader = Reader {
        name,
        lines: lines_of_keys(text),
        entries: Vec::new(),
        errors: Vec::new(),
    };
    match root {
        Yaml::Null => {}
        Yaml::Mapping(_) => reader.flatten("", root),
        _ => reader.wrong("", "expected keys and values, as in `parallelism.default: 2`"),
    }
    reader.find_twins();
    if reader.errors.is_empty() {
        Ok(reader.entries)
    } else {
        Err(reader.errors)
    }
}

struct Reader<'a> {
    name: &'a str,
    lines: BTreeMap<String, Vec<usize>>,
    entries: Vec<Entry>,
    errors: Vec<ConfigError>,
}

impl Reader<'_> {
    fn flatten(&mut self, path: &str, node: Yaml) {
        let wants_map = keys::spelled(path).any(|key| key.kind == Kind::Map);
        match node {
            Yaml::Mapping(map) if !wants_map => {
                for (key, child) in map {
                    match scalar(&key) {
                        Some(key) if path.is_empty() => self.flatten(&key, child),
                        Some(key) => self.flatten(&format!("{path}.{key}"), child),
                        None => self.wrong(path, "a key must be a text"),
                    }
                }
            }
            Yaml::Mapping(map) => {
                let pairs: Option<_> = map.iter().map(|(k, v)| Some((scalar(k)?, scalar(v)?))).collect();
                self.add(path, pairs.map(Value::Map));
            }
            Yaml::Sequence(items) => {
                let items: Option<_> = items.iter().map(scalar).collect();
                self.add(path, items.map(Value::List));
            }
            // A heading with everything below it commented out is no mistake; a key without its value is one.
            Yaml::Null if keys::spelled(path).next().is_none() => {}
            other => self.add(path, scalar(&other).map(Value::Text)),
        }
    }

    fn add(&mut self, path: &str, value: Option<Value>) {
        match value {
            Some(value) => self.entries.push((path.into(), value, self.place(path, 0))),
            None => self.wrong(path, "expected a value: one word or number, or a list of them"),
        }
    }

    /// The same key, once flat and once nested, is two entries to YAML and one to us.
    fn find_twins(&mut self) {
        let mut seen = BTreeMap::new();
        for index in 0..self.entries.len() {
            let key = self.entries[index].0.clone();
            let nth = *seen.entry(key.clone()).and_modify(|n| *n += 1).or_insert(0);
            if nth > 0 {
                let (first, second) = (self.place(&key, 0), self.place(&key, nth));
                self.errors.push(ConfigError::Twice { key, first, second });
            }
        }
    }

    fn wrong(&mut self, path: &str, problem: &str) {
        let problem = if path.is_empty() {
            problem.into()
        } else {
            format!("`{path}`: {problem}")
        };
        self.errors.push(ConfigError::Syntax {
            place: self.place(path, 0),
            problem,
        });
    }

    fn place(&self, path: &str, nth: usize) -> Origin {
        let line = self.lines.get(path).and_then(|lines| lines.get(nth)).copied();
        Origin::File {
            name: self.name.into(),
            line,
        }
    }
}

fn scalar(node: &Yaml) -> Option<String> {
    match node {
        Yaml::String(text) => Some(text.clone()),
        Yaml::Number(number) => Some(number.to_string()),
        Yaml::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// The lines on which each dotted path stands, in block style.
fn lines_of_keys(text: &str) -> BTreeMap<String, Vec<usize>> {
    let mut lines: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut open: Vec<(usize, String)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let content = line.trim_start();
        if content.is_empty() || content.starts_with(['#', '-']) {
            continue;
        }
        let Some((key, rest)) = content.split_once(':') else {
            continue;
        };
        if !rest.is_empty() && !rest.starts_with([' ', '\t']) {
            continue;
        }
        let indent = line.len() - content.len();
        open.retain(|(of_parent, _)| *of_parent < indent);
        let key = key.trim().trim_matches(['"', '\'']);
        let path = match open.last() {
            Some((_, parent)) => format!("{parent}.{key}"),
            None => key.to_string(),
        };
        lines.entry(path.clone()).or_default().push(index + 1);
        open.push((indent, path));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(entries: &[Entry], key: &str) -> String {
        let (_, value, origin) = entries.iter().find(|(k, _, _)| k == key).unwrap();
        format!("{value} @ {origin}")
    }

    #[test]
    fn nested_and_flat_keys_mean_the_same_and_keep_their_lines() {
        let text = "# a comment\nparallelism.default: 4\nexecution:\n  checkpointing:\n    interval: 5 s\n\n    mode: \
                    at_least_once\nio.tmp.dirs:\n  - /a\n  - /b\nrest:\n  # port: 1\n";
        let entries = read("c.yaml", text).unwrap();
        assert_eq!(text_of(&entries, "parallelism.default"), "4 @ c.yaml:2");
        assert_eq!(
            text_of(&entries, "execution.checkpointing.interval"),
            "5 s @ c.yaml:5"
        );
        assert_eq!(
            text_of(&entries, "execution.checkpointing.mode"),
            "at_least_once @ c.yaml:7"
        );
        assert_eq!(text_of(&entries, "io.tmp.dirs"), "/a;/b @ c.yaml:8");
        assert_eq!(entries.len(), 4, "an empty heading sets nothing");
    }

    #[test]
    fn flow_style_is_read_without_a_line() {
        let entries = read("c.yaml", "rest: {port: 80}").unwrap();
        assert_eq!(text_of(&entries, "rest.port"), "80 @ c.yaml");
    }

    #[test]
    fn a_map_stays_a_map_where_a_map_is_asked_for() {
        let text = "metrics.reporter.prom.scope.variables.additional:\n  region: eu\n  tier: 1\n";
        let entries = read("c.yaml", text).unwrap();
        let key = "metrics.reporter.prom.scope.variables.additional";
        assert_eq!(text_of(&entries, key), "region:eu,tier:1 @ c.yaml:1");
    }

    fn problem(text: &str) -> String {
        read("c.yaml", text).unwrap_err()[0].to_string()
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        assert!(problem("a: [1").starts_with("c.yaml:"), "{}", problem("a: [1"));
        assert!(problem("just words").contains("expected keys and values"));
        assert!(problem("pipeline.name:\n").starts_with("c.yaml:1: `pipeline.name`: expected a value"));
        let twice = "rest.port: 1\nrest:\n  port: 2\n";
        assert_eq!(
            problem(twice),
            "c.yaml:3: `rest.port` is set twice, first at c.yaml:1: keep one of the two"
        );
    }

    #[test]
    fn an_empty_file_is_an_empty_configuration() {
        assert_eq!(read("c.yaml", "").unwrap(), vec![]);
        assert_eq!(read("c.yaml", "# only a comment\n").unwrap(), vec![]);
    }
}
