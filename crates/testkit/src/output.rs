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
    /// The side output that leads here, with the type of its rows.
    pub(crate) tag: Option<(&'static str, &'static str)>,
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

/// The output of a run: on each port the rows by the watermark that they came behind.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    /// It is of a restored operator that holds marks. Those that it had not passed on came to it again, behind the rows that
    /// it had not let out: a row may have come before a watermark that it was behind, never the other way.
    pub(crate) is_ahead_of_marks: bool,
    ports: BTreeMap<u8, BTreeMap<Timestamp, Vec<Row>>>,
    /// Rows that were counted as late.
    pub(crate) late: u64,
    /// What was found outside, at the end.
    pub(crate) outside: Vec<String>,
}

impl Output {
    /// Nothing so far, behind this watermark.
    pub(crate) fn of(ports: &[Port], watermark: Timestamp) -> Output {
        let ports = ports
            .iter()
            .map(|port| (port.number, BTreeMap::from([(watermark, vec![])])));
        Output {
            is_ahead_of_marks: false,
            ports: ports.collect(),
            late: 0,
            outside: vec![],
        }
    }

    /// Takes what there is out; what follows comes behind the same watermarks.
    pub(crate) fn take(&mut self) -> Output {
        let behind = |rows: &BTreeMap<Timestamp, _>| rows.keys().next_back().copied();
        let ports = self.ports.iter().map(|(port, rows)| {
            let behind = behind(rows).unwrap_or(Timestamp::MIN);
            (*port, BTreeMap::from([(behind, vec![])]))
        });
        let rest = Output {
            is_ahead_of_marks: false,
            ports: ports.collect(),
            late: 0,
            outside: vec![],
        };
        std::mem::replace(self, rest)
    }

    pub(crate) fn rows(&mut self, port: u8, mut rows: Vec<Row>) {
        let segments = self.ports.entry(port).or_default();
        match segments.last_entry() {
            Some(mut segment) => segment.get_mut().append(&mut rows),
            None => drop(segments.insert(Timestamp::MIN, rows)),
        }
    }

    pub(crate) fn watermark(&mut self, port: u8, watermark: Timestamp) {
        self.ports.entry(port).or_default().entry(watermark).or_default();
    }

    /// This and that: of the same instance later, or of another one.
    pub(crate) fn and(mut self, other: Output) -> Output {
        for (port, segments) in other.ports {
            let ours = self.ports.entry(port).or_default();
            for (watermark, mut rows) in segments {
                ours.entry(watermark).or_default().append(&mut rows);
            }
        }
        self.is_ahead_of_marks |= other.is_ahead_of_marks;
        self.late += other.late;
        self
    }

    /// Whether it has the rows that were expected, whatever their times.
    pub(crate) fn check_expected(&self, port: &Port) -> Result<(), String> {
        let found = self
            .ports
            .get(&port.number)
            .into_iter()
            .flat_map(BTreeMap::values)
            .flatten();
        let found: Vec<&str> = found.map(|row| row.value.as_str()).collect();
        let expected: Vec<&str> = port.expected.iter().map(String::as_str).collect();
        compare(port.order, found, expected).map_err(|diff| format!("port {}:\n{diff}", port.number))
    }

    /// Whether it is what another run gave, with times and the places of watermarks.
    pub(crate) fn check_same(&self, port: &Port, order: Order, other: &Output) -> Result<(), String> {
        let none = BTreeMap::new();
        let found = self.ports.get(&port.number).unwrap_or(&none);
        let expected = other.ports.get(&port.number).unwrap_or(&none);
        if !found.keys().eq(expected.keys()) {
            let (found, expected) = (found.len(), expected.len());
            return Err(format!(
                "port {}: {} watermarks came out, {} in the undisturbed run",
                port.number,
                found.saturating_sub(1),
                expected.saturating_sub(1)
            ));
        }
        let (mut all_found, mut all_expected) = (vec![], vec![]);
        for (at, (found, expected)) in found.values().zip(expected.values()).enumerate() {
            if !self.is_ahead_of_marks {
                (all_found, all_expected) = (vec![], vec![]);
            }
            all_found.extend(found);
            all_expected.extend(expected);
            let is_fine =
                self.is_ahead_of_marks && surplus(&sorted(&all_expected), &sorted(&all_found)).is_empty();
            if !is_fine {
                compare(order, all_found.clone(), all_expected.clone())
                    .map_err(|diff| format!("port {}, behind {at} watermarks:\n{diff}", port.number))?;
            }
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

fn sorted<T: Ord + Copy>(rows: &[T]) -> Vec<T> {
    let mut rows = rows.to_vec();
    rows.sort();
    rows
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
            tag: None,
            order: Order::Exact,
            expected: vec![],
            render: Rc::new(|_| Ok(vec![])),
        };
        let row = |value: &str| Row {
            value: value.into(),
            time: None,
        };
        let run = |before: &[&str], behind: &[&str]| {
            let mut output = Output::of(std::slice::from_ref(&port), Timestamp::MIN);
            output.rows(0, before.iter().map(|value| row(value)).collect());
            output.watermark(0, Timestamp(1));
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
            cut.and(run(&["b"], &["c"]))
                .check_same(&port, Order::Exact, &whole),
            Ok(())
        );
        let mut first = Output::of(std::slice::from_ref(&port), Timestamp::MIN);
        first.rows(0, vec![row("a")]);
        assert_eq!(
            first
                .and(run(&["b"], &["c"]))
                .check_same(&port, Order::Exact, &whole),
            Ok(())
        );
    }
}
