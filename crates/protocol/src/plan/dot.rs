//! The plan as a picture, in the language of Graphviz: `--explain-graph dot | dot -Tsvg`.

use super::slots::DEFAULT_GROUP;
use super::{Exchange, Plan, Vertex};
use std::collections::BTreeSet;
use std::fmt::{self, Write};

impl Plan {
    /// Tasks as boxes, exchanges as arrows; slot sharing groups framed, if there is more than the default one.
    pub fn dot(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = self.write_dot(&mut text);
        text
    }

    fn write_dot(&self, text: &mut String) -> fmt::Result {
        let name = self.name.as_ref().map_or("job", |name| name.as_str());
        writeln!(text, "digraph {} {{", quoted(name))?;
        writeln!(text, "  rankdir=LR;")?;
        writeln!(
            text,
            "  graph [fontname=\"sans-serif\", label={}, labelloc=t];",
            quoted(&format!("{name}: {}", self.summary()))
        )?;
        writeln!(
            text,
            "  node [fontname=\"sans-serif\", shape=box, style=\"rounded,filled\", fillcolor=\"#eef3f8\"];"
        )?;
        writeln!(text, "  edge [fontname=\"sans-serif\", fontsize=11];")?;
        let groups: BTreeSet<&str> = self
            .vertices
            .iter()
            .map(|vertex| vertex.slot_group.as_str())
            .collect();
        for (at, group) in groups.iter().enumerate() {
            let members = self.vertices.iter().filter(|vertex| vertex.slot_group == *group);
            if *group == DEFAULT_GROUP {
                members.for_each(|vertex| text.push_str(&task(vertex, "  ")));
                continue;
            }
            writeln!(text, "  subgraph cluster_{at} {{")?;
            writeln!(
                text,
                "    label={}; style=dashed;",
                quoted(&format!("slot sharing group {group}"))
            )?;
            members.for_each(|vertex| text.push_str(&task(vertex, "    ")));
            writeln!(text, "  }}")?;
        }
        self.exchanges
            .iter()
            .try_for_each(|exchange| self.write_arrow(text, exchange))?;
        writeln!(text, "}}")
    }

    fn write_arrow(&self, text: &mut String, exchange: &Exchange) -> fmt::Result {
        let mut label = exchange.partitioning.name().to_owned();
        let channels = self.channel_count(exchange);
        if channels > 1 {
            let _ = write!(label, "\n{channels} channels");
        }
        if exchange.port > 0 {
            let _ = write!(label, "\nside output {}", exchange.port);
        }
        if exchange.to_input.0 > 0 {
            let _ = write!(label, "\n{}", exchange.to_input);
        }
        writeln!(
            text,
            "  {} -> {} [label={}];",
            exchange.from,
            exchange.to,
            quoted(&label)
        )
    }
}

/// The operators of a task one below the other where they are in a row, and how often it runs.
fn task(vertex: &Vertex, indent: &str) -> String {
    let mut label = match vertex.name.contains('(') {
        true => vertex.name.clone(),
        false => vertex.name.replace(" -> ", "\n"),
    };
    let _ = write!(label, "\n{} x", vertex.parallelism);
    if vertex.blocking {
        label.push_str(", blocking");
    }
    let colour = if vertex.blocking {
        ", fillcolor=\"#f8e8d8\""
    } else {
        ""
    };
    format!("{indent}{} [label={}{colour}];\n", vertex.id, quoted(&label))
}

/// A string of the language; line breaks in it stay line breaks.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", escaped.replace('\n', "\\n"))
}
