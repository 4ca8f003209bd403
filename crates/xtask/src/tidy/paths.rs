//! The walks and ARCHITECTURE.md name files that exist.

use super::tree::Tree;
use super::{Finding, Level};

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let documents = tree
        .iter()
        .filter(|(path, _)| *path == "ARCHITECTURE.md" || path.starts_with("docs/walks/"));
    let mut findings = Vec::new();
    for (document, text) in documents {
        for (index, line) in text.lines().enumerate() {
            // Every second piece between backticks is code.
            for code in line.split('`').skip(1).step_by(2).filter(|code| is_path(code)) {
                if !exists(tree, code) {
                    let place = format!("{document}:{}", index + 1);
                    let problem = format!("`{code}` does not exist");
                    findings.push(Finding {
                        level: Level::Error,
                        check: "paths",
                        place,
                        problem,
                    });
                }
            }
        }
    }
    findings
}

fn is_path(code: &str) -> bool {
    (code.starts_with("crates/") || code.ends_with(".rs")) && !code.contains(['*', '<', ' '])
}

/// Whether a path is a file of the tree, a folder with files in it, or the end of a file's path (`task/mod.rs`).
fn exists(tree: &Tree, path: &str) -> bool {
    let path = path.trim_end_matches('/');
    let tail = format!("/{path}");
    tree.keys().any(|file| {
        file == path
            || file.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
            || (!path.starts_with("crates/") && file.ends_with(&tail))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_that_are_gone_are_found() {
        let walk = "See `crates/a/src/lib.rs`, `crates/a`, `lib.rs`, `crates/*` and `crates/a/src/`.\nThen `gone.rs`\n\
                    and `crates/gone`; `a.b` is no path, nor is crates/gone/x.rs outside of backticks.\n";
        let tree = Tree::from([
            ("crates/a/src/lib.rs".into(), String::new()),
            ("docs/walks/w.md".into(), walk.into()),
            ("docs/other.md".into(), "`gone.rs`".into()),
        ]);
        let found: Vec<String> = check(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "error: docs/walks/w.md:2: `gone.rs` does not exist [paths]",
                "error: docs/walks/w.md:3: `crates/gone` does not exist [paths]",
            ]
        );
    }
}
