//! Rows survive a way out and back; what is wrong is named.

#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use rivermark_format::decode::without_line_end;
use rivermark_format::{Csv, Decode, DecodeRows, Encode, JsonLines, Lines};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flight {
    carrier: String,
    delay: Option<i32>,
    distance: f64,
    cancelled: bool,
}

/// All rows of a file's bytes.
fn read<D: Decode>(format: &D, bytes: &[u8]) -> Result<Vec<D::Row>, String> {
    let mut at = 0;
    let mut record = || {
        let len = format.record_len(&bytes[at..], 0).unwrap_or(bytes.len() - at);
        at += len;
        (len > 0).then(|| &bytes[at - len..at])
    };
    let header = if format.has_header() { record() } else { None };
    let mut decoder = format.decoder(header).map_err(|error| error.to_string())?;
    let mut rows = Vec::new();
    while let Some(record) = record() {
        rows.extend(
            decoder
                .decode(without_line_end(record))
                .map_err(|error| error.to_string())?,
        );
    }
    Ok(rows)
}

fn written<E: Encode>(format: &E, rows: &[E::Row], batch: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (nth, rows) in rows.chunks(batch).enumerate() {
        format.encode(rows, nth == 0, &mut bytes).unwrap();
    }
    bytes
}

fn flights() -> impl Strategy<Value = Vec<Flight>> {
    let flight = (
        "[ -~äß\"\n,]{0,8}",
        any::<Option<i32>>(),
        -1e6..1e6f64,
        any::<bool>(),
    );
    let flight = flight.prop_map(|(carrier, delay, distance, cancelled)| Flight {
        carrier,
        delay,
        distance,
        cancelled,
    });
    prop::collection::vec(flight, 0..20)
}

proptest! {
    #[test]
    fn rows_survive(rows in flights(), batch in 1..5usize) {
        let csv = Csv::default().with_quoted_newlines();
        prop_assert_eq!(&read(&csv, &written(&csv, &rows, batch)).unwrap(), &rows);
        let csv = Csv::default().with_delimiter(b';').with_quoted_newlines();
        prop_assert_eq!(&read(&csv, &written(&csv, &rows, batch)).unwrap(), &rows);
        let json = JsonLines::default();
        prop_assert_eq!(&read(&json, &written(&json, &rows, batch)).unwrap(), &rows);
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&Csv::<Flight>::default(), &bytes);
        let _ = read(&Csv::<Flight>::default().with_quoted_newlines(), &bytes);
        let _ = read(&JsonLines::<Flight>::default(), &bytes);
        let _ = read(&Lines, &bytes);
    }
}

#[test]
fn lines_survive_and_line_breaks_are_refused() {
    let rows = vec!["a".to_owned(), String::new(), "ü b".to_owned()];
    assert_eq!(read(&Lines, &written(&Lines, &rows, 2)).unwrap(), rows);
    assert_eq!(read(&Lines, b"a\r\n\r\nb").unwrap(), ["a", "", "b"]);
    assert!(Lines.encode(&["a\nb".to_owned()], true, &mut Vec::new()).is_err());
}

#[test]
fn csv_reads_by_name_with_crlf_bom_and_blank_lines() {
    let text = "\u{feff}cancelled,extra,distance,delay,carrier\r\ntrue,x,1.5,,UA\r\n\r\nfalse,,2,-3,\"A, \"\"B\"\"\"";
    let rows = read(&Csv::<Flight>::default(), text.as_bytes()).unwrap();
    let flight = |carrier: &str, delay, distance, cancelled| Flight {
        carrier: carrier.into(),
        delay,
        distance,
        cancelled,
    };
    assert_eq!(
        rows,
        [
            flight("UA", None, 1.5, true),
            flight("A, \"B\"", Some(-3), 2.0, false)
        ]
    );
}

#[test]
fn what_is_wrong_is_named() {
    let header = "carrier,delay,distance,cancelled\n";
    let error =
        |line: &str| read(&Csv::<Flight>::default(), format!("{header}{line}").as_bytes()).unwrap_err();
    let message = error("UA,late,1.5,true");
    assert!(
        message.contains("column delay") && message.contains("integer") && message.contains("\"late\""),
        "{message}"
    );
    assert!(error("UA,1,far,true").contains("column distance: expected a number"));
    assert!(error("UA,1,1,maybe").contains("true or false"));
    assert_eq!(error("UA,1"), "found 2 columns where the header has 4");
    assert!(error("\"UA,1,2,true").contains("with_quoted_newlines"));
    let missing = read(&Csv::<Flight>::default(), b"carrier,delay\nUA,1").unwrap_err();
    assert!(
        missing.contains("distance") && missing.contains("carrier, delay"),
        "{missing}"
    );
    assert!(
        read(&JsonLines::<Flight>::default(), b"{\"carrier\":1}")
            .unwrap_err()
            .contains("expected a string")
    );
}
