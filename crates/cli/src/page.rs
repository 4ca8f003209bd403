//! What a person reads: lines on standard output, tables, and colours where they are welcome.

use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// A colour of meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    Red,
    Yellow,
    Green,
    Bold,
}

/// Text with a colour, if standard output is a terminal and nobody set NO_COLOR (<https://no-color.org>).
pub(crate) fn paint(colour: Colour, text: &str) -> String {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if unwanted || dumb || !io::stdout().is_terminal() {
        return text.to_owned();
    }
    let code = match colour {
        Colour::Red => 31,
        Colour::Yellow => 33,
        Colour::Green => 32,
        Colour::Bold => 1,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// Writes text to standard output. A reader that has seen enough is no error.
pub(crate) fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// Writes one JSON document to standard output.
pub(crate) fn print_json(document: &impl Serialize) -> Result<(), String> {
    let text = serde_json::to_string_pretty(document).map_err(|error| error.to_string())?;
    print(&format!("{text}\n"));
    Ok(())
}

/// Rows as a table: the first is the head, in bold; columns are as wide as their widest cell; all but the last column are padded.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:width$}"))
            .collect();
        let line = cells.join("  ");
        match at {
            0 => text.push_str(&paint(Colour::Bold, line.trim_end())),
            _ => text.push_str(line.trim_end()),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned() {
        let rows = [vec!["id", "size"], vec!["1", "17 B"], vec!["1000", "2 B"]];
        let rows: Vec<Vec<String>> = rows
            .iter()
            .map(|row| row.iter().map(|&cell| cell.to_owned()).collect())
            .collect();
        assert_eq!(table(&rows), "id    size\n1     17 B\n1000  2 B\n");
    }
}
