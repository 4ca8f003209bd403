//! What a watched directory has brought: each file once, whole, in the order of names within a look.
//!
//! A file is taken when two looks in a row find it with the same length, so one that somebody is still writing waits. What
//! was taken is remembered, by name and length, as long as it is there: a compact text in the snapshot.

use rivermark_types::{Failure, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How names end that programs give to files they have not finished.
const TEMPORARY: [&str; 7] = [
    "~",
    ".tmp",
    ".part",
    ".partial",
    ".filepart",
    ".crdownload",
    ".swp",
];

/// Whether a name says that its file is not finished yet.
pub(crate) fn is_temporary(name: &str) -> bool {
    TEMPORARY.iter().any(|end| name.ends_with(end))
}

/// The files seen so far.
#[derive(Default)]
pub(crate) struct Watched {
    /// Taken, with the length they had.
    taken: BTreeMap<String, u64>,
    /// Seen once with this length.
    settling: BTreeMap<String, u64>,
    /// `taken` as text, until it changes.
    text: Option<String>,
}

impl Watched {
    /// Takes in a look: all files that are there now, with their lengths. Gives those that are to be read, in that order.
    pub(crate) fn look(&mut self, there: Vec<(PathBuf, u64)>) -> Result<Vec<(PathBuf, u64)>> {
        let mut found = Vec::new();
        let mut settling = BTreeMap::new();
        let mut kept = BTreeMap::new();
        for (path, len) in there {
            let name = name_of(&path)?;
            match self.taken.get(name) {
                Some(taken) if *taken == len => {
                    kept.insert(name.to_owned(), len);
                }
                Some(taken) => return Err(changed(name, *taken, len)),
                None if kept.contains_key(name) => {}
                None if len > 0 && self.settling.get(name) == Some(&len) => {
                    kept.insert(name.to_owned(), len);
                    found.push((path, len));
                }
                None => {
                    settling.insert(name.to_owned(), len);
                }
            }
        }
        if kept != self.taken {
            (self.taken, self.text) = (kept, None);
        }
        self.settling = settling;
        Ok(found)
    }

    /// What was taken, for a checkpoint.
    pub(crate) fn snapshot(&self) -> Value {
        let text = self.text.clone().unwrap_or_else(|| encode(&self.taken));
        json!({ "taken": text })
    }

    /// Makes the next snapshots cheap.
    pub(crate) fn prepare_snapshot(&mut self) {
        if self.text.is_none() {
            self.text = Some(encode(&self.taken));
        }
    }

    /// As it was at a checkpoint.
    pub(crate) fn restore(&mut self, state: &Value) -> Result<()> {
        let text = state.get("taken").and_then(Value::as_str);
        let taken = text.and_then(decode).ok_or_else(|| {
            let advice = "was the source changed from reading once to watching? Give it another uid";
            Failure::invalid(format!(
                "{state} is no state of a file source that watches a directory: {advice}"
            ))
        })?;
        (self.taken, self.text) = (taken, None);
        Ok(())
    }
}

fn name_of(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        Failure::invalid(format!(
            "the path {} is not UTF-8: rename what it names",
            path.display()
        ))
    })
}

fn changed(name: &str, taken: u64, len: u64) -> Failure {
    Failure::invalid(format!(
        "{name} has changed: it had {taken} bytes when it was taken to be read, and has {len} now. Files in a watched directory \
         must come whole: move it away, and put what is new in it into a file of its own"
    ))
}

/// Sorted names share beginnings: each is written as how many bytes it shares with the one before, the length of the rest,
/// the file's length, and the rest.
fn encode(taken: &BTreeMap<String, u64>) -> String {
    let (mut text, mut before) = (String::new(), "");
    for (name, len) in taken {
        let shared = name
            .char_indices()
            .zip(before.char_indices())
            .take_while(|(a, b)| a == b)
            .map(|((at, char), _)| at + char.len_utf8())
            .last()
            .unwrap_or(0);
        let rest = &name[shared..];
        text.push_str(&format!("{shared},{},{len}:{rest}", rest.len()));
        before = name;
    }
    text
}

fn decode(mut text: &str) -> Option<BTreeMap<String, u64>> {
    let (mut taken, mut before) = (BTreeMap::new(), String::new());
    while !text.is_empty() {
        let (numbers, after) = text.split_once(':')?;
        let mut numbers = numbers.split(',');
        let mut number = || numbers.next()?.parse::<u64>().ok();
        let (shared, rest, len) = (number()?, number()?, number()?);
        let name = format!(
            "{}{}",
            before.get(..usize::try_from(shared).ok()?)?,
            after.get(..usize::try_from(rest).ok()?)?
        );
        text = after.get(usize::try_from(rest).ok()?..)?;
        taken.insert(name.clone(), len);
        before = name;
    }
    Some(taken)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn look(watched: &mut Watched, files: &[(&str, u64)]) -> Result<Vec<String>> {
        let there = files
            .iter()
            .map(|(name, len)| (PathBuf::from(name), *len))
            .collect();
        let found = watched.look(there)?;
        Ok(found
            .into_iter()
            .map(|(path, _)| path.display().to_string())
            .collect())
    }

    #[test]
    fn each_file_is_taken_once_when_it_has_settled() {
        let mut watched = Watched::default();
        let none: [String; 0] = [];
        assert_eq!(
            look(&mut watched, &[("in/a", 3), ("in/b", 1), ("in/empty", 0)]).unwrap(),
            none
        );
        // b still grows.
        assert_eq!(
            look(&mut watched, &[("in/a", 3), ("in/b", 2), ("in/empty", 0)]).unwrap(),
            ["in/a"]
        );
        assert_eq!(look(&mut watched, &[("in/a", 3), ("in/b", 2)]).unwrap(), ["in/b"]);
        assert_eq!(look(&mut watched, &[("in/a", 3), ("in/b", 2)]).unwrap(), none);

        let mut restored = Watched::default();
        restored.restore(&watched.snapshot()).unwrap();
        for _ in 0..2 {
            assert_eq!(look(&mut restored, &[("in/a", 3), ("in/b", 2)]).unwrap(), none);
        }
        // One that is gone is forgotten.
        look(&mut restored, &[("in/b", 2)]).unwrap();
        assert_eq!(restored.snapshot(), json!({"taken": "0,4,2:in/b"}));
    }

    #[test]
    fn a_file_that_changes_after_it_was_taken_is_named() {
        let mut watched = Watched::default();
        for len in [3, 3] {
            look(&mut watched, &[("in/a", len)]).unwrap();
        }
        for len in [2, 4] {
            let failure = look(&mut watched, &[("in/a", len)]).unwrap_err();
            assert!(
                failure.message.contains("in/a") && failure.message.contains("3 bytes"),
                "{failure}"
            );
        }
    }

    #[test]
    fn a_foreign_state_is_refused() {
        for state in [
            json!(true),
            json!({}),
            json!({"taken": "1,1,1:a"}),
            json!({"taken": "x"}),
        ] {
            let failure = Watched::default().restore(&state).unwrap_err();
            assert!(failure.message.contains("watches a directory"), "{failure}");
        }
    }

    proptest! {
        #[test]
        fn names_survive_the_text(names in prop::collection::btree_map("[a-cä:,0-9\n]{1,8}", 0..u64::MAX, 0..20)) {
            prop_assert_eq!(decode(&encode(&names)), Some(names));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9,:a-cä]{0,30}") {
            decode(&text);
        }
    }
}
