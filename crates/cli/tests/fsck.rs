//! `rivermark checkpoint fsck` and `list` on the directory of a job that was stopped: sound, damaged, with things left over.

#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

mod sums;

use std::path::{Path, PathBuf};

/// A checkpoint directory in which a job was cancelled after its two newest checkpoints, of 500 keys each.
struct Stopped {
    dir: tempfile::TempDir,
    /// The number of the older one; the newer is the next.
    older: u64,
}

impl Stopped {
    fn new() -> Stopped {
        let dir = tempfile::tempdir().unwrap();
        let older = sums::run(dir.path(), "none", 1);
        Stopped { dir, older }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A file of the older checkpoint, or of the newer.
    fn object(&self, newer: bool, name: &str) -> PathBuf {
        let wanted = format!("chk-{}/{name}", self.older + u64::from(newer));
        files(self.path())
            .into_iter()
            .find(|path| path.ends_with(&wanted))
            .unwrap()
    }
}

fn checkpoint(arguments: &[&str], dir: &Path) -> (i32, String, String) {
    sums::rivermark(&[&["checkpoint"], arguments].concat(), dir)
}

fn fsck(dir: &Path) -> (i32, String) {
    let (code, out, errors) = checkpoint(&["fsck"], dir);
    assert_eq!(errors, "");
    (code, out)
}

/// All files below a directory, sorted.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

#[test]
fn a_sound_directory_is_clean_and_stays_as_it_is() {
    let dir = Stopped::new();
    let before = files(dir.path());
    let (code, out) = fsck(dir.path());
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("job \"sums\", generation 1, "), "{out}");
    assert_eq!(out.matches(": sound, ").count(), 2, "{out}");
    assert!(out.contains("500 rows in "), "{out}");
    assert!(out.ends_with("\nclean\n"), "{out}");
    // The job's own directory will do as well, and says the same.
    assert_eq!(fsck(&dir.path().join("sums")), (0, out));
    assert_eq!(files(dir.path()), before);
}

#[test]
fn the_list_names_both_checkpoints() {
    let dir = Stopped::new();
    let (code, out, _) = checkpoint(&["list"], dir.path());
    assert_eq!(code, 0);
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("id  kind        decided (UTC)"), "{out}");
    assert!(lines.len() == 3 && lines[1].contains("  checkpoint  "), "{out}");
    let (_, out, _) = checkpoint(&["list", "--json"], dir.path());
    let listing: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(listing["checkpoints"][1]["rows"], 500);
}

#[test]
fn a_flipped_byte_is_found_and_the_way_out_is_named() {
    let dir = Stopped::new();
    let path = dir.object(true, "part-0.rows");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[200] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (code, out) = fsck(dir.path());
    assert_eq!(code, 1, "{out}");
    assert!(
        out.contains(&format!(
            "damaged: objects/g1/a1/chk-{0}/part-0.rows (checkpoint {0})",
            dir.older + 1
        )),
        "{out}"
    );
    assert!(
        out.contains("  expected: checksum ") && out.contains("  found:    checksum "),
        "{out}"
    );
    assert!(
        out.contains(&format!(
            "or go back to checkpoint {0}, the newest sound one, with --from {0}",
            dir.older
        )),
        "{out}"
    );
    let (code, out, _) = checkpoint(&["fsck", "--json"], dir.path());
    assert_eq!(code, 1);
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(found["clean"], false);
    assert_eq!(
        found["damage"][0]["object"],
        format!("g1/a1/chk-{}/part-0.rows", dir.older + 1)
    );
    assert_eq!(found["checkpoints"][0]["sound"], true);
}

#[test]
fn a_missing_object_is_found() {
    let dir = Stopped::new();
    std::fs::remove_file(dir.object(false, "part-0.rows")).unwrap();
    let (code, out) = fsck(dir.path());
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("found:    no such object"), "{out}");
    assert!(
        out.contains(&format!(
            "a start with --from latest takes checkpoint {}, which is sound",
            dir.older + 1
        )),
        "{out}"
    );
    std::fs::remove_file(dir.object(true, "manifest.json")).unwrap();
    let (code, out) = fsck(dir.path());
    assert_eq!(code, 1);
    assert!(out.contains("no checkpoint is sound"), "{out}");
    assert!(
        !out.contains("left:"),
        "objects of an unreadable manifest are no orphans: {out}"
    );
    assert_eq!(checkpoint(&["list"], dir.path()).0, 1);
}

#[test]
fn orphans_of_the_owning_run_are_a_note_and_others_are_left() {
    let dir = Stopped::new();
    let objects = dir.path().join("sums/objects");
    let plant = |path: &str| {
        let path = objects.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"12345").unwrap();
    };
    plant("g1/a1/chk-99999/part-0.rows");
    let (code, out) = fsck(dir.path());
    assert_eq!(code, 0, "{out}");
    assert!(
        out.contains("note: 1 object (5 B) of the run that owns the job"),
        "{out}"
    );
    plant("g0/a1/chk-99999/part-0.rows");
    plant("g1/a1/chk-99999/.tmp-0123-1");
    let (code, out) = fsck(dir.path());
    assert_eq!(code, 1, "{out}");
    assert!(
        out.contains(
            "left: 1 object (5 B) that no decided checkpoint names:\n  objects/g0/a1/chk-99999/part-0.rows"
        ),
        "{out}"
    );
    assert!(out.contains("note: 1 unfinished file"), "{out}");
    assert!(out.contains("\n  objects/g1/a1/chk-99999/.tmp-0123-1\n"), "{out}");
}

#[test]
fn a_damaged_decision_is_found() {
    let dir = Stopped::new();
    let decision = files(&dir.path().join("sums")).into_iter().rfind(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("decision-")
    });
    let decision = decision.unwrap();
    let mut bytes = std::fs::read(&decision).unwrap();
    let last = bytes.len() - 5;
    bytes[last] ^= 1;
    std::fs::write(&decision, bytes).unwrap();
    let (code, out) = fsck(dir.path());
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("damaged: decision-*"), "{out}");
    assert!(
        out.contains("put an undamaged copy of the newest decision-* file back"),
        "{out}"
    );
}

#[test]
fn of_several_jobs_one_has_to_be_named() {
    let dir = Stopped::new();
    let other = dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    for path in files(&dir.path().join("sums"))
        .iter()
        .filter(|path| path.parent().unwrap().ends_with("sums"))
    {
        std::fs::copy(path, other.join(path.file_name().unwrap())).unwrap();
    }
    let (code, out, errors) = checkpoint(&["fsck"], dir.path());
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(
        errors.contains("several jobs (other, sums): name one of these"),
        "{errors}"
    );
}

#[test]
fn nothing_there_is_wrong_usage() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().to_owned(), dir.path().join("missing")] {
        let (code, out, errors) = checkpoint(&["fsck"], &path);
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(errors.starts_with("error: "), "{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
}
