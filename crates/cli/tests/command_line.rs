//! The command as a shell sees it: help, exit codes, errors in one line.

#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

use std::process::{Command, Output};

fn rivermark(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rivermark"));
    command.args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn help_is_no_error_and_names_the_exit_codes() {
    let output = rivermark(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = text(&output.stdout);
    assert!(
        help.contains("Exit codes: 0 all well, 1 something was found, 2 wrong usage"),
        "{help}"
    );
    assert!(help.contains("checkpoint"), "{help}");
}

#[test]
fn wrong_usage_is_exit_code_2_and_says_what_to_do() {
    for (arguments, says) in [
        (
            &["checkpoint", "lisst"][..],
            "tip: a similar subcommand exists: 'list'",
        ),
        (&["checkpoint", "list"], "<DIR>"),
        (
            &["checkpoint", "list", "/nowhere/at/all"],
            "error: there is no directory /nowhere/at/all: name a job's",
        ),
    ] {
        let output = rivermark(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let errors = text(&output.stderr);
        assert!(errors.contains(says), "{arguments:?}: {errors}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_directory_without_decisions_is_no_jobs() {
    let dir = tempfile::tempdir().unwrap();
    let output = rivermark(&["checkpoint", "list", dir.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("nothing was ever decided there"));
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "looking changed something"
    );
}
