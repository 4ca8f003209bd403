//! What every subtask did for a checkpoint or a recovery, as a table for people. Pure.

use super::record::{CheckpointRecord, SubtaskRecord};
use super::recovery::RecoveryRecord;
use super::sentence::ms;
use crate::wording::{count, size};

/// Longer names are cut in the middle: their index is at their end.
const LONGEST_NAME: usize = 40;

/// A row for each subtask, in the order of the stream.
pub fn checkpoint_table(record: &CheckpointRecord) -> String {
    let head = [
        "subtask",
        "start",
        "align",
        "freeze",
        "capture",
        "encode",
        "upload",
        "ack",
        "rows",
        "bytes",
        "in flight",
    ];
    let rows = record.subtasks.iter().map(|subtask| row(record, subtask));
    table(&head, rows.collect())
}

fn row(record: &CheckpointRecord, subtask: &SubtaskRecord) -> Vec<String> {
    let moments = [
        record.barriers_sent,
        subtask.first_barrier,
        subtask.last_barrier,
        subtask.cut,
        subtask.captured,
        subtask.encoded,
        subtask.stored,
        subtask.acked,
    ];
    let spans = moments.windows(2).map(|pair| match (pair[0], pair[1]) {
        (Some(from), Some(to)) => ms(to.saturating_sub(from)),
        (Some(from), None) => format!("> {}", ms(record.ended.saturating_sub(from))),
        (None, _) => "-".to_owned(),
    });
    let numbers = [
        count(subtask.rows),
        size(subtask.bytes),
        size(subtask.in_flight_bytes),
    ];
    std::iter::once(cut(&subtask.name))
        .chain(spans)
        .chain(numbers)
        .collect()
}

/// A row for each subtask of a recovery.
pub fn recovery_table(record: &RecoveryRecord) -> String {
    let head = [
        "subtask",
        "read",
        "bytes",
        "of it local",
        "decode and open",
        "read in flight",
        "records in flight",
        "open after",
        "worked off after",
    ];
    let moment = |at: Option<u64>| at.map_or_else(|| "-".to_owned(), ms);
    let rows = record.subtasks.iter().map(|subtask| {
        vec![
            cut(&subtask.name),
            ms(subtask.download_ms),
            size(subtask.bytes),
            size(subtask.local_bytes),
            ms(subtask.decode_ms),
            ms(subtask.in_flight_ms),
            count(subtask.in_flight_rows),
            moment(subtask.opened),
            moment(subtask.worked_off),
        ]
    });
    table(&head, rows.collect())
}

fn cut(name: &str) -> String {
    let length = name.chars().count();
    if length <= LONGEST_NAME {
        return name.to_owned();
    }
    let half = (LONGEST_NAME - 3) / 2;
    let start: String = name.chars().take(half).collect();
    let end: String = name.chars().skip(length - half).collect();
    format!("{start}...{end}")
}

/// Names to the left, numbers to the right.
fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let head: Vec<String> = head.iter().map(|&name| name.to_owned()).collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&head).chain(&rows).collect();
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &Vec<String>| {
        let cells = cells.iter().zip(&widths).enumerate();
        let cells = cells.map(|(at, (cell, width))| match at {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    lines.into_iter().map(line).collect()
}
