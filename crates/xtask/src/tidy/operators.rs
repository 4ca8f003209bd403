//! Every operator passes `verify_operator`.
//!
//! The convention: for each `impl Operator for X` in production code there is a file of tests (or a file's unit tests)
//! that names both `verify_operator` and `X`, outside of comments. The simulator's own operators are instruments that fail
//! and publish on purpose, and part of no user's job: they are left out.

use super::tree::{self, Tree};
use super::{Finding, Level};

/// Where operators stand that exist to break a job.
const INSTRUMENTS: &str = "crates/sim/";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let verifying: Vec<String> = tree::rust(tree)
        .map(|(path, text)| tree::without_comments(tree::production_and_tests(path, text).1))
        .filter(|tests| tree::mentions(tests, "verify_operator"))
        .collect();
    let mut findings = Vec::new();
    for (path, text) in tree::rust(tree).filter(|(path, _)| !path.starts_with(INSTRUMENTS)) {
        let code = tree::without_comments(tree::production_and_tests(path, text).0);
        for (line, name) in operators_in(&code) {
            if !verifying.iter().any(|tests| tree::mentions(tests, &name)) {
                let place = format!("{path}:{line}");
                let problem = format!("operator `{name}` has no test that names it and `verify_operator`");
                findings.push(Finding {
                    level: Level::Error,
                    check: "operators",
                    place,
                    problem,
                });
            }
        }
    }
    findings
}

/// The types that implement `Operator`, with the line of their name.
fn operators_in(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, words) in code.match_indices("Operator for ") {
        let before = &code[..at];
        // The head of an impl: nothing but the head itself since the last block or statement.
        let head = before
            .rsplit(['{', '}', ';'])
            .next()
            .unwrap_or(before)
            .trim_start();
        let is_trait = before.ends_with([' ', ':', '\n']);
        let after = &code[at + words.len()..];
        let name: String = after
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        // A box or a reference hands on to an operator that is checked itself.
        if is_trait && is_impl(head) && !name.is_empty() && name != "Box" {
            found.push((before.lines().count().max(1), name));
        }
    }
    found
}

fn is_impl(head: &str) -> bool {
    // Attributes may stand before it.
    head.lines()
        .map(str::trim_start)
        .any(|line| line.starts_with("impl<") || line.starts_with("impl "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "use x;\n\nimpl<I: Data, P> Operator for Fused<I, P>\nwhere P: Pipe {}\n\nimpl crate::Operator for \
                        Plain {}\nimpl Operator for Box<dyn Operator> {}\nimpl AsyncOperator for Other {}\n\
                        // impl Operator for Prose {}\n\n#[cfg(test)]\nmod tests {\n impl Operator for Fake {}\n}\n";

    fn found(tests: &str) -> Vec<String> {
        let tree = Tree::from([
            ("crates/r/src/a.rs".into(), CODE.into()),
            ("crates/r/tests/verify.rs".into(), tests.into()),
        ]);
        check(&tree)
            .iter()
            .map(|finding| format!("{} {}", finding.place, finding.problem))
            .collect()
    }

    #[test]
    fn an_operator_that_no_test_verifies_is_found() {
        assert_eq!(
            found("fn t() { verify_operator(Fused::new()); } // Plain"),
            ["crates/r/src/a.rs:6 operator `Plain` has no test that names it and `verify_operator`"]
        );
        assert_eq!(
            found("fn t() { verify_operator(Fused); verify_operator(Plain) }"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn the_simulators_instruments_are_left_out() {
        let tree = Tree::from([("crates/sim/src/a.rs".into(), CODE.into())]);
        assert!(check(&tree).is_empty());
    }

    #[test]
    fn a_test_that_names_it_without_verifying_does_not_count() {
        assert_eq!(
            found("fn t() { Fused; Plain; /* no */ } // verify_operator").len(),
            2
        );
        assert_eq!(found("fn t() { verify_operator(PlainText); UnFused }").len(), 2);
    }
}
