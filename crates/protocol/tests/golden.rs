//! Golden scripts: `tests/golden/*.txt` holds events, one a line, each followed by the actions that answer it.
//!
//! The first line that is no comment names the machine and its settings; an event line starts with its time in milliseconds; an
//! indented line is an expected action; `show ...` asks for what the machine tells about itself. With `UPDATE_GOLDEN=1` in
//! the environment the expected lines are written anew, to be read and judged in the diff.

mod script;

use std::path::{Path, PathBuf};

fn scripts() -> std::io::Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let entries: std::io::Result<Vec<_>> = std::fs::read_dir(folder)?.collect();
    let mut paths: Vec<_> = entries?.into_iter().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    Ok(paths)
}

#[test]
fn scripts_play_as_written() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    let paths = scripts().unwrap();
    assert!(paths.len() >= 12, "only {} scripts found", paths.len());
    for path in paths {
        let written = std::fs::read_to_string(&path).unwrap();
        let played = script::play(&written).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        if played == written {
            continue;
        }
        if update {
            std::fs::write(&path, &played).unwrap();
        }
        let line = written.lines().zip(played.lines()).position(|(a, b)| a != b);
        let line = line.unwrap_or(written.lines().count().min(played.lines().count()));
        let [expected, got] =
            [&written, &played].map(|text| text.lines().nth(line).unwrap_or("(end)").to_owned());
        wrong.push(format!(
            "{}:{}: expected `{expected}`, got `{got}`",
            path.display(),
            line + 1
        ));
    }
    assert!(wrong.is_empty() || update, "\n{}\n", wrong.join("\n"));
}

#[test]
fn a_script_with_a_wrong_line_is_told_apart() {
    let right = "aligner exactly-once 2\n\n10 barrier 0 1\n    block channel 0\n";
    assert_eq!(script::play(right).unwrap(), right);
    let wrong = right.replace("block channel 0", "block channel 1");
    assert_eq!(script::play(&wrong).unwrap(), right);
    assert!(script::play("aligner exactly-once 2\n10 dance 0 1\n").is_err());
}
