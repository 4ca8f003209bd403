//! `rivermark explain` on the directory of a job that was cancelled, and of its next run.

#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

mod sums;

use std::path::Path;

fn explain(arguments: &[&str], dir: &Path) -> (i32, String, String) {
    sums::rivermark(&[&["explain"], arguments].concat(), dir)
}

#[test]
fn a_checkpoint_and_a_recovery_are_explained_for_people_and_for_programs() {
    let dir = tempfile::tempdir().unwrap();
    let id = sums::run(dir.path(), "none", 0);
    let (code, out, errors) = explain(&["checkpoint", &id.to_string()], dir.path());
    assert_eq!((code, errors.as_str()), (0, ""), "{out}");
    assert!(
        out.starts_with(&format!("checkpoint {id} of sums (aligned)\n\n")),
        "{out}"
    );
    let table: Vec<&str> = out
        .lines()
        .skip_while(|line| !line.starts_with("subtask"))
        .collect();
    assert!(
        table[0].contains("start  ") && table[0].ends_with("in flight"),
        "{out}"
    );
    assert_eq!(
        table.iter().filter(|line| line.starts_with("sums")).count(),
        2,
        "{out}"
    );
    // The sink is called "nowhere/", as a directory is.
    assert!(out.contains("nowhere/0") && !out.contains("//"), "{out}");
    // The newest one is the same, and so is the one in the job's own directory.
    assert_eq!(
        explain(&["checkpoint", "latest"], &dir.path().join("sums")).1,
        out
    );

    let (code, json, _) = explain(&["checkpoint", "latest", "--json"], dir.path());
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["record"]["checkpoint"]), (0, &serde_json::json!(id)));
    let path = json["explanation"]["path"].as_array().unwrap();
    let sum: u64 = path.iter().map(|piece| piece["ms"].as_u64().unwrap()).sum();
    assert_eq!(json["explanation"]["total_ms"], serde_json::json!(sum));

    let (code, _, errors) = explain(&["recovery"], dir.path());
    assert_eq!(code, 2);
    assert!(
        errors.starts_with("error: no record of recovery; there is none"),
        "{errors}"
    );
    sums::run(dir.path(), "latest", 0);
    let (code, out, _) = explain(&["recovery"], dir.path());
    assert_eq!(code, 0, "{out}");
    assert!(
        out.contains(&format!("\n\nrecovery from checkpoint {id}: ")),
        "{out}"
    );
}

#[test]
fn what_is_not_there_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let id = sums::run(dir.path(), "none", 0);
    let (code, out, errors) = explain(&["checkpoint", "4711"], dir.path());
    assert_eq!((code, out.as_str()), (2, ""));
    let says = format!("error: no record of checkpoint 4711; those there are: 1 to {id}\n");
    assert!(errors.contains(&says), "{errors}");
    let (code, _, errors) = explain(&["checkpoint", "third"], dir.path());
    assert_eq!(code, 2);
    assert!(
        errors.contains("a checkpoint's number is expected, or latest"),
        "{errors}"
    );
}
