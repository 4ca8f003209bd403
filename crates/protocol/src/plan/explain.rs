//! The plan as text, for `--explain-graph` and logs. Machines read the plan's JSON instead (it is plain data).

use super::slots::DEFAULT_GROUP;
use super::{Exchange, Plan, Slot, Vertex};
use std::fmt::{self, Display, Write};

impl Plan {
    /// Tasks, exchanges and slots, counted and named.
    pub fn explain(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = self.write_explanation(&mut text);
        text
    }

    /// `"3 tasks, 7 subtasks, 4 slots"`.
    pub fn summary(&self) -> String {
        let (tasks, subtasks, slots) = (self.vertices.len(), self.subtasks().count(), self.slots.len());
        let counted = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
        [
            counted(tasks, "task"),
            counted(subtasks, "subtask"),
            counted(slots, "slot"),
        ]
        .join(", ")
    }

    fn write_explanation(&self, text: &mut String) -> fmt::Result {
        match &self.name {
            Some(name) => writeln!(text, "job \"{name}\": {}", self.summary())?,
            None => writeln!(text, "job: {}", self.summary())?,
        }
        writeln!(text, "tasks")?;
        let width = self
            .vertices
            .iter()
            .map(|vertex| vertex.name.chars().count())
            .max()
            .unwrap_or(0);
        self.vertices
            .iter()
            .try_for_each(|vertex| writeln!(text, "  {}", TaskLine { vertex, width }))?;
        if !self.exchanges.is_empty() {
            writeln!(text, "exchanges")?;
        }
        self.exchanges
            .iter()
            .try_for_each(|exchange| self.write_exchange(text, exchange))?;
        writeln!(text, "slots")?;
        self.slots.iter().try_for_each(|slot| write_slot(text, slot))
    }

    fn write_exchange(&self, text: &mut String, exchange: &Exchange) -> fmt::Result {
        let channels = self.channel_count(exchange);
        write!(text, "  {}  {} -> {}", exchange.id, exchange.from, exchange.to)?;
        if exchange.to_input.0 > 0 {
            write!(text, " {}", exchange.to_input)?;
        }
        write!(
            text,
            "  {}, {channels} channel{}",
            exchange.partitioning.name(),
            if channels == 1 { "" } else { "s" }
        )?;
        if exchange.port > 0 {
            write!(text, ", from side output {}", exchange.port)?;
        }
        writeln!(text)
    }
}

struct TaskLine<'a> {
    vertex: &'a Vertex,
    width: usize,
}

impl Display for TaskLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Vertex {
            id,
            name,
            parallelism,
            ..
        } = self.vertex;
        write!(f, "{id}  {name:width$}  {parallelism} x  ", width = self.width)?;
        let names = self.vertex.subtasks().map(|subtask| subtask.to_string());
        match parallelism {
            // More would be noise: the middle ones follow.
            5.. => write!(f, "{id}/0 .. {id}/{}", parallelism - 1),
            _ => f.write_str(&names.collect::<Vec<_>>().join(" ")),
        }
    }
}

fn write_slot(text: &mut String, slot: &Slot) -> fmt::Result {
    let names: Vec<String> = slot.subtasks.iter().map(|subtask| subtask.to_string()).collect();
    write!(text, "  {}  {}", slot.id, names.join(" "))?;
    match slot.group.as_deref() {
        Some(DEFAULT_GROUP) => writeln!(text),
        Some(group) => writeln!(text, "  group \"{group}\""),
        None => writeln!(text, "  blocking, alone"),
    }
}
