//! The files of the workspace; those the checks read (Rust and Markdown) with their text.

use std::collections::BTreeMap;
use std::path::Path;

/// Text by path, empty for other kinds of files; paths are relative to the workspace and use `/`.
pub(super) type Tree = BTreeMap<String, String>;

/// Walks the workspace, without hidden folders and `target`.
pub(super) fn read(root: &Path) -> Result<Tree, String> {
    let mut tree = Tree::new();
    read_folder(root, "", &mut tree)?;
    Ok(tree)
}

fn read_folder(folder: &Path, prefix: &str, tree: &mut Tree) -> Result<(), String> {
    let unreadable = |error: std::io::Error| format!("{}: {error}", folder.display());
    for entry in folder.read_dir().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().map_err(unreadable)?;
        if kind.is_dir() && !name.starts_with('.') && name != "target" {
            read_folder(&entry.path(), &format!("{path}/"), tree)?;
        } else if kind.is_file() {
            let text = match name.ends_with(".rs") || name.ends_with(".md") {
                true => std::fs::read_to_string(entry.path()).map_err(|error| format!("{path}: {error}"))?,
                false => String::new(),
            };
            tree.insert(path, text);
        }
    }
    Ok(())
}

/// The Rust files.
pub(super) fn rust(tree: &Tree) -> impl Iterator<Item = (&str, &str)> {
    tree.iter()
        .filter(|(path, _)| path.ends_with(".rs"))
        .map(|(path, text)| (path.as_str(), text.as_str()))
}

/// Splits a Rust file into production code and tests, by the conventions of this workspace: a file under `tests/` or
/// called `tests.rs` is all tests, and unit tests come last in a file, after `#[cfg(test)]`.
pub(super) fn production_and_tests<'a>(path: &str, text: &'a str) -> (&'a str, &'a str) {
    if path.contains("/tests/") || path.ends_with("/tests.rs") {
        return ("", text);
    }
    match text.find("\n#[cfg(test)]\nmod ") {
        Some(at) => text.split_at(at),
        None => (text, ""),
    }
}

/// The text without line comments, so that a mention in prose is no mention.
pub(super) fn without_comments(text: &str) -> String {
    text.lines()
        .map(|line| line.split_once("//").map_or(line, |(code, _)| code))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Whether a name stands in the text as a whole word.
pub(super) fn mentions(text: &str, name: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name)
        .any(|(at, _)| !text[..at].ends_with(joins) && !text[at + name.len()..].starts_with(joins))
}
