//! Records that a source cannot decode, in files of text lines, CSV and JSON lines: passed over, in the dead letters, or
//! failing the job until the user has corrected the line that the failure names.

use super::{Part, same};
use crate::draw::mix;
use crate::scenario::job::Builder;
use crate::scenario::plan::Scenario;
use crate::scenario::rows::{Input, Output};
use crate::{Draw, Machine};
use rivermark_files::FileSource;
use rivermark_format::csv::CsvDecoder;
use rivermark_format::json::JsonDecoder;
use rivermark_format::lines::LineDecoder;
use rivermark_format::{Csv, Decode, DecodeRows, FormatError, JsonLines, Lines};
use rivermark_stream::{
    DataStream, DeadLetter, Failure, SourceNode, Timestamp, Undecodable, WatermarkStrategy,
};
use std::path::Path;

/// Files with damaged records.
#[derive(Debug)]
struct Damaged {
    format: Format,
    policy: Undecodable,
    /// One record in so many is damaged; which ones and how, by `salt`.
    one_in: u64,
    salt: u64,
    files: usize,
    split_bytes: u64,
    line_end: &'static str,
    /// Whether the last record of a file has a line end.
    is_closed: bool,
}

pub(super) fn draw(draw: &mut Draw) -> Box<dyn Part> {
    let policies = [Undecodable::Fail, Undecodable::Skip, Undecodable::DeadLetter];
    let policy = policies[draw.index(3)];
    Box::new(Damaged {
        format: [Format::Lines, Format::Csv, Format::Json][draw.index(3)],
        policy,
        one_in: match policy {
            Undecodable::Fail => draw.between(100, 400),
            _ => draw.between(1, 40),
        },
        salt: draw.bits(),
        files: draw.between(1, 4) as usize,
        split_bytes: [64, 900, 1 << 20][draw.index(3)],
        line_end: ["\n", "\r\n"][draw.index(2)],
        is_closed: draw.coin(),
    })
}

/// Where the files are.
const DIR: &str = "/damaged";

/// A record in a file.
struct Record<'a> {
    row: &'a Input,
    file: usize,
    /// Its first byte.
    position: u64,
    /// From 1.
    line: usize,
    whole: Vec<u8>,
    /// What stands there if it is damaged: just as many bytes.
    damaged: Option<Vec<u8>>,
}

fn path(file: usize) -> String {
    format!("{DIR}/{file}.txt")
}

impl Damaged {
    /// The files' text, and all records in it.
    fn write<'a>(&self, scenario: &'a Scenario) -> (Vec<Vec<u8>>, Vec<Record<'a>>) {
        let rows = &scenario.rows[0];
        let (mut texts, mut records) = (Vec::new(), Vec::new());
        for (file, rows) in rows.chunks(rows.len().div_ceil(self.files).max(1)).enumerate() {
            let mut text = Vec::new();
            let mut line = 1;
            if let Some(header) = self.format.header() {
                text.extend(header.bytes().chain(self.line_end.bytes()));
                line += 1;
            }
            for (at, row) in rows.iter().enumerate() {
                if at > 0 {
                    text.extend(self.line_end.bytes());
                }
                let whole = self.format.record(row);
                let damaged = self.damage(row.id, &whole);
                let position = text.len() as u64;
                text.extend(damaged.as_ref().unwrap_or(&whole));
                records.push(Record {
                    row,
                    file,
                    position,
                    line: line + at,
                    whole,
                    damaged,
                });
            }
            if self.is_closed {
                text.extend(self.line_end.bytes());
            }
            texts.push(text);
        }
        (texts, records)
    }

    fn damage(&self, id: u64, whole: &[u8]) -> Option<Vec<u8>> {
        let chance = mix(self.salt ^ mix(id));
        if !chance.is_multiple_of(self.one_in) {
            return None;
        }
        let (how, at) = (mix(chance), mix(chance + 1) as usize % whole.len());
        let mut bytes = whole.to_vec();
        match how % 4 {
            0 => bytes[at] = 0xff,
            1 => bytes[0] = b'x',
            2 => bytes[0] = b'"',
            _ => bytes
                .iter_mut()
                .filter(|byte| b", ".contains(byte))
                .for_each(|byte| *byte = b';'),
        }
        Some(bytes)
    }
}

/// How rows are written, and read by the engine's own formats; one type, so that there is one source to compile.
#[derive(Clone, Copy, Debug)]
enum Format {
    /// Numbers with spaces between.
    Lines,
    Csv,
    Json,
}

enum Decoder {
    Lines(LineDecoder),
    Csv(CsvDecoder<Input>),
    Json(JsonDecoder<Input>),
}

impl Format {
    fn header(self) -> Option<&'static str> {
        matches!(self, Format::Csv).then_some("key,time,value,id")
    }

    fn record(self, row: &Input) -> Vec<u8> {
        let Input { key, time, value, id } = row;
        let text = match self {
            Format::Lines => format!("{key} {time} {value} {id}"),
            Format::Csv => format!("{key},{time},{value},{id}"),
            Format::Json => format!("{{\"key\":{key},\"time\":{time},\"value\":{value},\"id\":{id}}}"),
        };
        text.into_bytes()
    }
}

impl Decode for Format {
    type Row = Input;
    type Decoder = Decoder;

    fn has_header(&self) -> bool {
        self.header().is_some()
    }

    fn decoder(&self, header: Option<&[u8]>) -> Result<Decoder, FormatError> {
        Ok(match self {
            Format::Lines => Decoder::Lines(Lines.decoder(header)?),
            Format::Csv => Decoder::Csv(Csv::default().decoder(header)?),
            Format::Json => Decoder::Json(JsonLines::default().decoder(header)?),
        })
    }
}

impl DecodeRows for Decoder {
    type Row = Input;

    fn decode(&mut self, record: &[u8]) -> Result<Option<Input>, FormatError> {
        match self {
            Decoder::Lines(lines) => lines.decode(record)?.map(|line| row_of(&line)).transpose(),
            Decoder::Csv(csv) => csv.decode(record),
            Decoder::Json(json) => json.decode(record),
        }
    }
}

fn row_of(line: &str) -> Result<Input, FormatError> {
    let numbers: Option<Vec<i64>> = line.split(' ').map(|number| number.parse().ok()).collect();
    match numbers.as_deref() {
        Some(&[key, time, value, id]) => Ok(Input {
            key: key as u32,
            time,
            value,
            id: id as u64,
        }),
        _ => Err(FormatError::Shape {
            what: format!("{line:?} are not four numbers"),
            columns: "key time value id".to_owned(),
        }),
    }
}

fn good(row: &Input) -> Output {
    Output {
        key: row.key,
        time: row.time,
        sum: row.value,
        count: row.id,
    }
}

/// A record that was given up: its file, its place and its bytes, in place of an event time a number that no row has.
fn given_up(file: usize, position: u64, bytes: &[u8]) -> Output {
    let (record, hex) = DeadLetter::texts(bytes);
    Output {
        key: file as u32,
        time: -1,
        sum: position as i64,
        count: sum_of(&record, hex.as_deref()),
    }
}

fn sum_of(record: &str, hex: Option<&str>) -> u64 {
    let bytes = record.bytes().chain(hex.unwrap_or("no digits").bytes());
    bytes.fold(0, |sum, byte| mix(sum ^ u64::from(byte)))
}

/// A letter as an output; what it says besides has to be right.
fn told(letter: &DeadLetter) -> Result<Output, String> {
    let split = letter.split.as_deref().unwrap_or_default();
    let file = (0..4).find(|file| split.starts_with(&path(*file)));
    match (file, letter.position) {
        (Some(file), Some(position))
            if letter.operator == "source" && letter.error.starts_with(&path(file)) =>
        {
            Ok(Output {
                key: file as u32,
                time: -1,
                sum: position as i64,
                count: sum_of(&letter.record, letter.hex.as_deref()),
            })
        }
        _ => Err(format!(
            "a letter that says where it is from was expected: {letter:?}"
        )),
    }
}

impl Part for Damaged {
    fn build(&self, builder: &Builder<'_>) -> DataStream<Output> {
        let strategy = WatermarkStrategy::bounded_out_of_orderness(builder.job.disorder)
            .with_timestamp(|row: &Input| Timestamp(row.time));
        let source = FileSource::new([DIR.into()], self.format)
            .with_split_bytes(self.split_bytes)
            .on_undecodable(self.policy);
        let rows = builder.paced(0, SourceNode::new(source, strategy)).uid("source");
        let rows = rows.set_parallelism(builder.parallelism(0));
        let places = builder.parallelism(3);
        if self.policy != Undecodable::DeadLetter {
            return rows.rebalance().map(|row| good(&row)).set_parallelism(places);
        }
        let (rows, letters) = rows.with_dead_letters();
        let rows = rows.rebalance().map(|row| good(&row)).set_parallelism(places);
        let letters = letters.try_map(|letter| told(&letter));
        rows.union(letters.set_parallelism(builder.parallelism(4)))
    }

    fn put_files(&self, scenario: &Scenario, machine: &Machine) -> Result<(), String> {
        let (texts, _) = self.write(scenario);
        let put = |(file, text)| machine.put_file(path(file), text);
        let mut all = texts.into_iter().enumerate().map(put);
        all.try_for_each(|done| done.map_err(|error| error.to_string()))
    }

    fn may_fail(&self) -> bool {
        self.policy == Undecodable::Fail
    }

    fn mend(&self, scenario: &Scenario, failure: &Failure, machine: &Machine) -> Result<bool, String> {
        let failure = failure.to_string();
        let is_named = |record: &&Record<'_>| {
            let (path, Record { line, position, .. }) = (path(record.file), record);
            let places = [format!("{path}:{line}: "), format!("{path} at byte {position}: ")];
            record.damaged.is_some() && places.iter().any(|place| failure.contains(place))
        };
        let (_, records) = self.write(scenario);
        let Some(record) = records.iter().find(is_named) else {
            return Ok(false);
        };
        let path = path(record.file);
        let mut text = machine.tree().remove(Path::new(&path)).unwrap_or_default();
        let place = record.position as usize..record.position as usize + record.whole.len();
        if text.get(place.clone()) != record.damaged.as_deref() {
            return Err(format!("it failed at a record that was corrected: {failure}"));
        }
        text.splice(place, record.whole.iter().copied());
        let put = machine.put_file(path, text);
        put.map(|()| true).map_err(|error| error.to_string())
    }

    fn check(&self, scenario: &Scenario, found: &[Output]) -> Result<(), String> {
        let (_, records) = self.write(scenario);
        let outputs = records
            .iter()
            .filter_map(|record| match (&record.damaged, self.policy) {
                (Some(_), Undecodable::Skip) => None,
                (Some(bytes), Undecodable::DeadLetter) => Some(given_up(record.file, record.position, bytes)),
                _ => Some(good(record.row)),
            });
        same(outputs.collect(), found)
    }
}
