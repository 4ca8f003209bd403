//! What happened, as a hash that two equal runs share and, if asked for, as lines for a person.

use crate::draw::mix;
use std::fmt::{self, Write};

/// The record of a run.
#[derive(Default)]
pub(crate) struct Trace {
    hash: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    pub(crate) fn keep_lines(&mut self) {
        self.lines.get_or_insert_default();
    }

    pub(crate) fn take_lines(&mut self) -> Vec<String> {
        self.lines.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// A task was polled; `tag` stands for its name.
    pub(crate) fn polled(&mut self, now_ns: u64, tag: u64, name: &str) {
        self.hash = mix(self.hash ^ tag).wrapping_add(mix(now_ns));
        self.line(now_ns, format_args!("poll {name}"));
    }

    /// Anything else that happened; it counts for the hash.
    pub(crate) fn event(&mut self, now_ns: u64, what: fmt::Arguments<'_>) {
        let mut hasher = TextHash(self.hash ^ now_ns);
        // A hash takes any text.
        let _ = hasher.write_fmt(what);
        self.hash = mix(hasher.0);
        self.line(now_ns, what);
    }

    /// A remark for the reader alone.
    pub(crate) fn remark(&mut self, now_ns: u64, what: fmt::Arguments<'_>) {
        self.line(now_ns, what);
    }

    fn line(&mut self, now_ns: u64, what: fmt::Arguments<'_>) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>12.6} ms  {what}", now_ns as f64 / 1e6));
        }
    }
}

/// Stands for a name in the hash.
pub(crate) fn name_tag(name: &str) -> u64 {
    let mut hasher = TextHash(0);
    let _ = hasher.write_str(name);
    mix(hasher.0)
}

struct TextHash(u64);

impl fmt::Write for TextHash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte))
                .wrapping_mul(0x0100_0000_01b3)
                .rotate_left(5);
        }
        Ok(())
    }
}
