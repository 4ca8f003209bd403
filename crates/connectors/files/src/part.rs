//! The names of a sink's files: `part-g<generation>-a<attempt>-s<subtask>-<counter>.<extension>` once finished, hidden as
//! `.<name>.inprogress` before. No two writers ever share a name: each has its own generation, attempt and subtask.

use rivermark_runtime::SubtaskInfo;

const HIDDEN: &str = ".inprogress";

/// Which writer a file is of. Orders by age: a later writer is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PartOwner {
    pub(crate) generation: u64,
    pub(crate) attempt: u32,
}

impl PartOwner {
    pub(crate) fn new(info: &SubtaskInfo) -> PartOwner {
        PartOwner {
            generation: info.generation.0,
            attempt: info.attempt.0,
        }
    }

    /// The final name of a subtask's file.
    pub(crate) fn part_name(self, subtask: u32, counter: u64, extension: &str) -> String {
        format!(
            "part-g{}-a{}-s{subtask}-{counter}.{extension}",
            self.generation, self.attempt
        )
    }
}

/// The hidden name of a file.
pub(crate) fn hidden_name(part: &str) -> String {
    format!(".{part}{HIDDEN}")
}

/// What a name in the directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A file that readers may not see.
    Hidden(PartOwner),
    /// A finished file.
    Finished(PartOwner),
}

/// Whose file a name is; `None` if it is none of a sink's.
pub(crate) fn classify(name: &str) -> Option<Found> {
    match name.strip_prefix('.') {
        Some(rest) => owner(rest.strip_suffix(HIDDEN)?).map(Found::Hidden),
        None => owner(name).map(Found::Finished),
    }
}

fn owner(part: &str) -> Option<PartOwner> {
    let (name, _extension) = part.strip_prefix("part-g")?.split_once('.')?;
    let (generation, rest) = name.split_once("-a")?;
    let (attempt, rest) = rest.split_once("-s")?;
    let (subtask, counter) = rest.split_once('-')?;
    subtask.parse::<u32>().ok()?;
    counter.parse::<u64>().ok()?;
    Some(PartOwner {
        generation: generation.parse().ok()?,
        attempt: attempt.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_recognised_and_others_left_alone() {
        let owner = PartOwner {
            generation: 12,
            attempt: 3,
        };
        let name = owner.part_name(4, 56, "csv");
        assert_eq!(name, "part-g12-a3-s4-56.csv");
        assert_eq!(classify(&name), Some(Found::Finished(owner)));
        assert_eq!(classify(&hidden_name(&name)), Some(Found::Hidden(owner)));
        for foreign in [
            "",
            ".",
            "part-g1",
            "part-gx-a1-s1-1.csv",
            ".part-g1-a1-s1-1.csv",
            "part-1.csv",
            "notes.txt",
        ] {
            assert_eq!(classify(foreign), None, "{foreign}");
        }
        assert!(
            PartOwner {
                generation: 1,
                attempt: 9
            } < PartOwner {
                generation: 2,
                attempt: 1
            }
        );
    }
}
