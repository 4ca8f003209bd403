//! No file is too long to be read in one go.

use super::tree::{self, Tree};
use super::{Finding, Level};

const WARN_OVER: usize = 600;
const FAIL_OVER: usize = 1_000;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let finding = |(path, text): (&str, &str)| {
        let lines = text.lines().count();
        let (level, limit) = match lines {
            _ if lines > FAIL_OVER => (Level::Error, FAIL_OVER),
            _ if lines > WARN_OVER => (Level::Warning, WARN_OVER),
            _ => return None,
        };
        let problem = format!("{lines} lines, over {limit}: split it by concern");
        Some(Finding {
            level,
            check: "sizes",
            place: path.into(),
            problem,
        })
    };
    tree::rust(tree).filter_map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_are_warned_about_and_very_long_ones_refused() {
        let file = |lines| "x\n".repeat(lines);
        let tree = Tree::from([
            ("a.rs".into(), file(600)),
            ("b.rs".into(), file(601)),
            ("c.rs".into(), file(1_000)),
            ("d.rs".into(), file(1_001)),
            ("e.md".into(), file(5_000)),
        ]);
        let found: Vec<_> = check(&tree)
            .into_iter()
            .map(|finding| (finding.place, finding.level))
            .collect();
        let expected = [
            ("b.rs", Level::Warning),
            ("c.rs", Level::Warning),
            ("d.rs", Level::Error),
        ]
        .map(|(p, l)| (p.into(), l));
        assert_eq!(found, expected);
    }
}
