//! The layers: what was set, by whom, under which spelling.

use crate::error::ConfigError;
use crate::keys::{self, Key};
use crate::origin::Origin;
use crate::settings::Settings;
use crate::value::{self, Typed, Value};
use crate::yaml;
use std::collections::BTreeMap;
use std::fmt;

/// Everything that was set, with its origins. Whatever the order of the calls, job code beats `--set`, and `--set`
/// beats the file.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Config {
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, PartialEq, Eq)]
struct Entry {
    value: Value,
    origin: Origin,
}

impl Config {
    /// Adds a file's values: `name` is what errors call it, `text` its content. Nothing is added if it has an error.
    pub fn add_yaml(&mut self, name: &str, text: &str) -> Result<(), Vec<ConfigError>> {
        for (key, value, origin) in yaml::read(name, text)? {
            self.insert(key, value, origin);
        }
        Ok(())
    }

    /// Adds what follows a `--set`: `key=value`.
    pub fn add_argument(&mut self, argument: &str) -> Result<(), ConfigError> {
        match argument.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                self.insert(key.trim().into(), value.into(), Origin::Set);
                Ok(())
            }
            _ => Err(ConfigError::NotAnAssignment {
                argument: argument.into(),
            }),
        }
    }

    /// Sets a value in the job's code. What is wrong with it is reported by [`Config::resolve`].
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.insert(key.into(), value.into(), Origin::Code);
    }

    /// The value a key has, as text, with its origin; `None` if nobody set it and it has no default.
    pub fn get(&self, name: &str) -> Option<(String, Origin)> {
        let key = keys::spelled(name).next()?;
        if let Some((_, entry)) = self.find(name, key.was) {
            return Some((entry.value.to_string(), entry.origin.clone()));
        }
        (!key.default.is_empty()).then(|| (key.default.to_string(), Origin::Default))
    }

    /// The error of a value that has the form of its key and cannot be used all the same.
    pub(crate) fn unfit(&self, name: &str, expected: &str) -> Option<ConfigError> {
        let (value, origin) = self.get(name)?;
        Some(ConfigError::BadValue {
            key: name.into(),
            origin,
            value,
            expected: expected.into(),
        })
    }

    /// Checks everything that was set and gives the typed view, or all that is wrong with it.
    pub fn resolve(&self) -> Result<Settings, Vec<ConfigError>> {
        Settings::resolve(self)
    }

    fn insert(&mut self, key: String, value: Value, origin: Origin) {
        if self
            .entries
            .get(&key)
            .is_none_or(|earlier| origin.beats(&earlier.origin))
        {
            self.entries.insert(key, Entry { value, origin });
        }
    }

    /// What is set under a name or one of its old spellings; the new name beats the old ones.
    fn find(&self, name: &str, was: &[&str]) -> Option<(String, &Entry)> {
        std::iter::once(name)
            .chain(was.iter().copied())
            .find_map(|spelling| Some((spelling.to_string(), self.entries.get(spelling)?)))
    }

    /// The typed value of a key with its origin: what was set, else the default, else `None`.
    pub(crate) fn typed(&self, key: &Key) -> Result<Option<(Typed, Origin)>, ConfigError> {
        if let Some((spelling, entry)) = self.find(key.name, key.was) {
            return check(key, &spelling, entry).map(|typed| Some((typed, entry.origin.clone())));
        }
        let default = (!key.default.is_empty())
            .then(|| value::read(key, &key.default.into()))
            .flatten();
        Ok(default.map(|typed| (typed, Origin::Default)))
    }

    /// The same for a key of a family under the spelling that a name gives it.
    pub(crate) fn typed_as(&self, key: &Key, spelling: &str) -> Result<Option<Typed>, ConfigError> {
        match self.entries.get(spelling) {
            Some(entry) => check(key, spelling, entry).map(Some),
            None => Ok(value::read(key, &key.default.into())),
        }
    }

    /// The names that stand behind a prefix in what was set, e.g. `prom` in `metrics.reporter.prom.port`.
    pub(crate) fn names_behind(&self, prefix: &str) -> Vec<String> {
        let names = self.entries.keys().filter_map(|key| key.strip_prefix(prefix));
        let mut names: Vec<String> = names
            .filter_map(|rest| rest.split_once('.'))
            .map(|(name, _)| name.to_owned())
            .collect();
        names.dedup();
        names
    }

    /// Everything that was set and is not read by this version, with its origin; or the errors in it.
    pub(crate) fn unread(&self) -> (Vec<(String, Origin)>, Vec<ConfigError>) {
        let (mut unread, mut errors) = (Vec::new(), Vec::new());
        for (spelling, entry) in &self.entries {
            let known: Vec<&Key> = keys::spelled(spelling).collect();
            if known.iter().any(|key| key.used) {
                continue;
            }
            let origin = entry.origin.clone();
            if let Some(error) = known.iter().find_map(|key| check(key, spelling, entry).err()) {
                errors.push(error);
            } else if known.is_empty() && !keys::in_family(spelling) {
                let (key, nearest) = (spelling.clone(), keys::nearest(spelling));
                errors.push(ConfigError::UnknownKey { key, origin, nearest });
            } else {
                unread.push((spelling.clone(), origin));
            }
        }
        (unread, errors)
    }
}

fn check(key: &Key, spelling: &str, entry: &Entry) -> Result<Typed, ConfigError> {
    value::read(key, &entry.value).ok_or_else(|| ConfigError::BadValue {
        key: spelling.into(),
        origin: entry.origin.clone(),
        value: printable(spelling, entry),
        expected: keys::expected(key),
    })
}

fn printable(spelling: &str, entry: &Entry) -> String {
    if keys::is_secret(spelling) {
        "******".into()
    } else {
        entry.value.to_string()
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self
            .entries
            .iter()
            .map(|(key, e)| (key, format!("{} ({})", printable(key, e), e.origin)));
        f.debug_map().entries(lines).finish()
    }
}
