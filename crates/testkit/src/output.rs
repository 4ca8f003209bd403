//! What came out of an operator, and how two outputs are compared.

use rivermark_data::Batch;
use rivermark_types::Timestamp;
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::rc::Rc;

/// How the order of rows is compared. Between two watermarks of the output, in either case: no row may change its side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Row by row. Several instances are compared as [`Order::Multiset`] all the same.
    Exact,
    /// Each row as often, in any order.
    Multiset,
}

/// An output port whose rows are compared.
#[derive(Clone)]
pub(crate) struct Port {
    pub(crate) number: u8,
    pub(crate) order: Order,
    pub(crate) expected: Vec<String>,
    pub(crate) render: Rc<dyn Fn(Batch) -> Result<Vec<Row>, String>>,
}

/// A row as it is compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) value: String,
    pub(crate) time: Option<Timestamp>,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.value)?;
        self.time.map_or(Ok(()), |time| write!(f, " at {}", time.0))
    }
}

/// The output of a run: on each port the rows before, between and behind the watermarks.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    ports: BTreeMap<u8, Vec<Vec<Row>>>,
    /// Rows that were counted as late.
    pub(crate) late: u64,
    /// What was found outside, at the end.
    pub(crate) outside: Vec<String>,
}

impl Output {
    pub(crate) fn of(ports: &[Port]) -> Output {
        Output {
            ports: ports.iter().map(|port| (port.number, vec![vec![]])).collect(),
            late: 0,
            outside: vec![],
        }
    }

    pub(crate) fn rows(&mut self, port: u8, mut rows: Vec<Row>) {
        let segments = self.ports.entry(port).or_default();
        match segments.last_mut() {
            Some(segment) => segment.append(&mut rows),
            None => segments.push(rows),
        }
    }

    pub(crate) fn watermark(&mut self, port: u8) {
        self.ports.entry(port).or_default().push(vec![]);
    }

    /// This and then that.
    pub(crate) fn then(mut self, next: Output) -> Output {
        for (port, segments) in next.ports {
            for (at, segment) in segments.into_iter().enumerate() {
                if at > 0 {
                    self.watermark(port);
                }
                self.rows(port, segment);
            }
        }
        self.late += next.late;
        self
    }

    /// This and that from two instances at the same time.
    pub(crate) fn beside(mut self, other: Output) -> Output {
        for (port, segments) in other.ports {
            let ours = self.ports.entry(port).or_default();
            ours.resize_with(ours.len().max(segments.len()), Vec::new);
            for (ours, mut theirs) in ours.iter_mut().zip(segments) {
                ours.append(&mut theirs);
            }
        }
        self.late += other.late;
        self
    }

    /// Whether it has the rows that were expected, whatever their times.
    pub(crate) fn check_expected(&self, port: &Port) -> Result<(), String> {
        let found = self.ports.get(&port.number).into_iter().flatten().flatten();
        let found: Vec<&str> = found.map(|row| row.value.as_str()).collect();
        let expected: Vec<&str> = port.expected.iter().map(String::as_str).collect();
        compare(port.order, found, expected).map_err(|diff| format!("port {}:\n{diff}", port.number))
    }

    /// Whether it is what another run gave, with times and the places of watermarks.
    pub(crate) fn check_same(&self, port: &Port, order: Order, other: &Output) -> Result<(), String> {
        let none = vec![];
        let found = self.ports.get(&port.number).unwrap_or(&none);
        let expected = other.ports.get(&port.number).unwrap_or(&none);
        if found.len() != expected.len() {
            let (found, expected) = (found.len(), expected.len());
            return Err(format!(
                "port {}: {} watermarks came out, {} in the undisturbed run",
                port.number,
                found.saturating_sub(1),
                expected.saturating_sub(1)
            ));
        }
        for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
            compare(order, found.iter().collect(), expected.iter().collect())
                .map_err(|diff| format!("port {}, behind {at} watermarks:\n{diff}", port.number))?;
        }
        Ok(())
    }
}

/// Tells what differs, if anything does.
pub(crate) fn compare<T: Ord + fmt::Display>(
    order: Order,
    mut found: Vec<T>,
    mut expected: Vec<T>,
) -> Result<(), String> {
    if order == Order::Multiset {
        found.sort();
        expected.sort();
    }
    if found == expected {
        return Ok(());
    }
    let mut diff = format!("  {} rows found, {} expected\n", found.len(), expected.len());
    if let Some(at) = (0..found.len().max(expected.len())).find(|&at| found.get(at) != expected.get(at)) {
        let side = |rows: &[T]| rows.get(at).map_or("nothing".to_owned(), T::to_string);
        if order == Order::Exact {
            let _ = writeln!(
                diff,
                "  row {at}: found {}, expected {}",
                side(&found),
                side(&expected)
            );
        }
    }
    found.sort();
    expected.sort();
    list(&mut diff, "missing", &surplus(&expected, &found));
    list(&mut diff, "too many", &surplus(&found, &expected));
    Err(diff)
}

/// What the first of two sorted lists has more often than the second.
fn surplus<'a, T: Ord>(of: &'a [T], over: &[T]) -> Vec<&'a T> {
    let mut over = over.iter().peekable();
    let mut more = vec![];
    for row in of {
        while over.next_if(|other| *other < row).is_some() {}
        if over.next_if(|other| *other == row).is_none() {
            more.push(row);
        }
    }
    more
}

fn list<T: fmt::Display>(diff: &mut String, what: &str, rows: &[&T]) {
    const SHOWN: usize = 10;
    for row in rows.iter().take(SHOWN) {
        let _ = writeln!(diff, "  {what}: {row}");
    }
    if rows.len() > SHOWN {
        let _ = writeln!(diff, "  {what}: {} more", rows.len() - SHOWN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_names_what_is_missing_and_what_came_too_often() {
        assert_eq!(compare(Order::Multiset, vec![2, 1, 1], vec![1, 2, 1]), Ok(()));
        let diff = compare(Order::Exact, vec![1, 3, 3], vec![1, 2, 3]).unwrap_err();
        assert!(diff.contains("row 1: found 3, expected 2"), "{diff}");
        assert!(
            diff.contains("missing: 2") && diff.contains("too many: 3"),
            "{diff}"
        );
        let diff = compare(Order::Exact, vec![1], vec![]).unwrap_err();
        assert!(diff.contains("row 0: found 1, expected nothing"), "{diff}");
    }

    #[test]
    fn a_row_may_not_change_its_side_of_a_watermark() {
        let port = Port {
            number: 0,
            order: Order::Exact,
            expected: vec![],
            render: Rc::new(|_| Ok(vec![])),
        };
        let row = |value: &str| Row {
            value: value.into(),
            time: None,
        };
        let run = |before: &[&str], behind: &[&str]| {
            let mut output = Output::of(std::slice::from_ref(&port));
            output.rows(0, before.iter().map(|value| row(value)).collect());
            output.watermark(0);
            output.rows(0, behind.iter().map(|value| row(value)).collect());
            output
        };
        let whole = run(&["a", "b"], &["c"]);
        let cut = run(&["a"], &[]);
        assert!(
            run(&["a"], &["b", "c"])
                .check_same(&port, Order::Multiset, &whole)
                .is_err()
        );
        assert!(cut.clone().check_same(&port, Order::Multiset, &whole).is_err());
        assert_eq!(
            cut.beside(run(&["b"], &["c"]))
                .check_same(&port, Order::Exact, &whole),
            Ok(())
        );
        let mut first = Output::of(std::slice::from_ref(&port));
        first.rows(0, vec![row("a")]);
        assert_eq!(
            first
                .then(run(&["b"], &["c"]))
                .check_same(&port, Order::Exact, &whole),
            Ok(())
        );
    }
}
