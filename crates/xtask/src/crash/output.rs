//! The finished files of a job: read as any reader would, counted as multisets, compared.

use super::job::Entry;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What a job's output directory holds.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// Each row as it is written, and how often.
    rows: BTreeMap<String, i64>,
    pub(super) files: u64,
    /// Payments that the rows account for.
    pub(super) payments: u64,
    /// Files that no reader may see: dead attempts should leave none.
    pub(super) hidden: Vec<String>,
    /// Half and unreadable rows: there should be none.
    pub(super) flaws: Vec<String>,
}

/// How an output differs from what it should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Rows compared.
    pub(super) checked: u64,
    /// Rows missing.
    pub(super) lost: u64,
    /// Rows too many, wrong ones among them.
    pub(super) doubled: u64,
}

impl Output {
    pub(super) fn read(dir: &Path) -> Result<Output, String> {
        let mut output = Output::default();
        let problem = |error: std::io::Error| format!("{}: {error}", dir.display());
        for entry in fs::read_dir(dir).map_err(problem)? {
            let entry = entry.map_err(problem)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                output.hidden.push(name);
                continue;
            }
            output.files += 1;
            let text = fs::read_to_string(entry.path()).map_err(problem)?;
            output.take_file(&name, &text);
        }
        Ok(output)
    }

    fn take_file(&mut self, name: &str, text: &str) {
        if !text.ends_with('\n') {
            self.flaws.push(format!("{name} ends in the middle of a line"));
        }
        for line in text.lines() {
            match serde_json::from_str::<Entry>(line) {
                Ok(entry) => self.payments += entry.payments,
                Err(error) => self.flaws.push(format!("{name}: {line:?}: {error}")),
            }
            *self.rows.entry(line.to_owned()).or_default() += 1;
        }
    }

    pub(super) fn compare(&self, expected: &Output) -> Difference {
        let mut difference = Difference::default();
        let mut surplus = self.rows.clone();
        for (row, times) in &expected.rows {
            difference.checked += times.unsigned_abs();
            *surplus.entry(row.clone()).or_default() -= times;
        }
        for times in surplus.into_values() {
            match times < 0 {
                true => difference.lost += times.unsigned_abs(),
                false => difference.doubled += times.unsigned_abs(),
            }
        }
        difference
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(rows: &[&str]) -> Output {
        let mut output = Output::default();
        output.take_file(
            "part",
            &rows.iter().map(|row| format!("{row}\n")).collect::<String>(),
        );
        output
    }

    #[test]
    fn lost_and_doubled_rows_are_counted_each() {
        let expected = output(&["a", "a", "b", "c"]);
        let same = output(&["c", "b", "a", "a"]).compare(&expected);
        assert_eq!((same.checked, same.lost, same.doubled), (4, 0, 0));
        let other = output(&["a", "b", "b", "b", "x"]).compare(&expected);
        assert_eq!((other.checked, other.lost, other.doubled), (4, 2, 3));
    }

    #[test]
    fn hidden_half_and_unreadable_files_are_flaws() {
        let dir = tempfile::tempdir().unwrap();
        let row = r#"{"branch":1,"at":249,"accounts":2,"payments":3,"cents":4,"balance":5}"#;
        fs::write(dir.path().join("part-1"), format!("{row}\n{row}\n")).unwrap();
        let sound = Output::read(dir.path()).unwrap();
        assert_eq!((sound.files, sound.payments, sound.flaws.len()), (1, 6, 0));
        fs::write(dir.path().join(".part-2.inprogress"), "").unwrap();
        fs::write(dir.path().join("part-3"), &row[..20]).unwrap();
        let unsound = Output::read(dir.path()).unwrap();
        assert_eq!((unsound.hidden.len(), unsound.flaws.len()), (1, 2));
    }
}
