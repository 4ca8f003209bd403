//! Counts words, and goes on counting where it was after a stop or a crash.
//!
//! ```text
//! cargo run --example word_count -- README.md
//! cargo run --example word_count -- README.md --out counts --rate 20 \
//!     --set pipeline.name=words --set execution.checkpointing.dir=state
//! ```
//!
//! Stop the second with Ctrl-C: it takes a last checkpoint and prints the line that goes on from there. In the end `counts`
//! holds each count of each word exactly once, however often the job was stopped or killed in between.

use rivermark::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::process::ExitCode;

/// Counts the words of text files.
#[derive(clap::Args)]
struct Options {
    /// A file, or a directory of files
    input: PathBuf,
    /// Write the counts to files in this directory, instead of standard output
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Read so many lines a second; as fast as it goes if not given
    #[arg(long, value_name = "LINES")]
    rate: Option<u64>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Count {
    word: String,
    n: u64,
}

fn main() -> ExitCode {
    rivermark::run_with(|env, options: Options| {
        let mut lines = SourceNode::new(FileSource::lines(options.input), WatermarkStrategy::none());
        if let Some(rate) = options.rate {
            lines = lines.rate(rate);
        }
        let counts = env
            .from_source_node(lines)
            .uid("lines")
            .flat_map(|line| line.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>())
            .map(|word| Count { word, n: 1 })
            .key_by(|count| count.word.clone())
            .reduce(|sum, count| Count {
                n: sum.n + count.n,
                ..count
            })
            .uid("counts");
        match options.out {
            Some(dir) => counts.sink_to(FileSink::csv(dir)).uid("files"),
            None => counts
                .sink_to(PrintSink::new(|count: &Count| {
                    format!("{:6} {}", count.n, count.word)
                }))
                .uid("print"),
        };
        Ok(())
    })
}
