//! Large state with uniform updates: few wide rows, or many narrow ones.

use super::records::splitmix64;
use crate::clock::now_ns;
use rivermark::prelude::*;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};

/// A row of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// A key and a document: 1,000 bytes.
    Wide,
    /// A key and a count: 16 bytes.
    Narrow,
}

impl Shape {
    /// Its name in results.
    pub fn name(self, rows: u64) -> String {
        let count = match rows {
            0..1_000 => rows.to_string(),
            1_000..1_000_000 => format!("{}k", rows / 1_000),
            _ => format!("{}M", rows / 1_000_000),
        };
        match self {
            Shape::Wide => format!("{count}x1000B"),
            Shape::Narrow => format!("{count}x16B"),
        }
    }
}

/// So many outputs of a subtask lie between two marks.
pub const ROWS_PER_MARK: u64 = 1024;

/// When outputs came: for each subtask a time every [`ROWS_PER_MARK`] of them.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<[Mutex<Vec<u64>>; 2]>);

impl Pulse {
    /// The times so far, in nanoseconds, of each subtask.
    pub fn marks(&self) -> Vec<Vec<u64>> {
        let marks = |marks: &Mutex<Vec<u64>>| marks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.0.iter().map(marks).collect()
    }
}

/// One subtask's side of a pulse.
#[derive(Default)]
struct Beat {
    pulse: Pulse,
    subtask: usize,
    rows: u64,
}

impl Beat {
    #[inline(always)]
    fn row(&mut self) {
        self.rows += 1;
        if self.rows.is_multiple_of(ROWS_PER_MARK) {
            self.mark();
        }
    }

    #[inline(never)]
    fn mark(&self) {
        if let Some(marks) = self.pulse.0.get(self.subtask) {
            marks
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(now_ns());
        }
    }
}

/// Counts by number.
struct Counts {
    count: ValueState<u64, u64>,
    beat: Beat,
}

impl KeyedOp<u64, u64, (u64, u64)> for Counts {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u64>) -> Result<()> {
        self.count = cx.value("count")?;
        self.beat.subtask = cx.info().subtask.index as usize;
        Ok(())
    }
    fn row(&mut self, key: &Key<u64>, _: Timed<u64>, out: &mut Out<(u64, u64)>) -> Result<()> {
        let count = self.count.update(key);
        *count += 1;
        out.emit((**key, *count));
        self.beat.row();
        Ok(())
    }
}

/// What is kept of a customer: with its key 1,000 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Changes so far.
    pub version: u64,
    /// A document of 960 letters.
    pub document: String,
}

/// The length of a document: with the two numbers and what says where it is, 1,000 bytes.
const DOCUMENT: usize = 1_000 - 8 - 8 - size_of::<String>();

/// Keeps documents.
struct Profiles {
    profile: ValueState<u64, Profile>,
    beat: Beat,
}

impl KeyedOp<u64, u64, (u64, u64)> for Profiles {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u64>) -> Result<()> {
        self.profile = cx.value("profile")?;
        self.beat.subtask = cx.info().subtask.index as usize;
        Ok(())
    }
    fn row(&mut self, key: &Key<u64>, _: Timed<u64>, out: &mut Out<(u64, u64)>) -> Result<()> {
        let profile = self.profile.update_or_else(key, || Profile {
            version: 0,
            document: "0".repeat(DOCUMENT),
        });
        profile.version += 1;
        let letter = (b'a' + (profile.version % 26) as u8) as char;
        let mut buffer = [0; 4];
        profile
            .document
            .replace_range(..1, letter.encode_utf8(&mut buffer));
        out.emit((**key, profile.version));
        self.beat.row();
        Ok(())
    }
}

/// The key of event `number`: each key once, then uniformly drawn ones.
#[inline(always)]
fn key(number: u64, rows: u64) -> u64 {
    if number < rows {
        number
    } else {
        splitmix64(number) % rows
    }
}

/// Builds up `rows` rows, then updates them. `seen` sees every output.
pub fn large(
    env: &StreamEnv,
    shape: Shape,
    rows: u64,
    pulse: &Pulse,
    seen: impl Fn() + Clone + Send + Sync + 'static,
) {
    let keys = env
        .from_source(endless_sequence(), WatermarkStrategy::none())
        .uid("numbers")
        .map(move |number| key(number, rows))
        .key_by(|key| *key);
    let pulse = pulse.clone();
    let beat = move || Beat {
        pulse: pulse.clone(),
        ..Beat::default()
    };
    let outputs = match shape {
        Shape::Narrow => keys.process(move || Counts {
            count: ValueState::default(),
            beat: beat(),
        }),
        Shape::Wide => keys.process(move || Profiles {
            profile: ValueState::default(),
            beat: beat(),
        }),
    };
    outputs
        .uid("state")
        .map(move |output| {
            seen();
            output
        })
        .discard();
}
