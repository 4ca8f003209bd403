//! Counts the words that come from a socket.
//!
//! ```text
//! nc -l 9999                                            # one terminal: type here
//! cargo run --example socket_word_count -- 127.0.0.1:9999
//! ```

use rivermark::prelude::*;
use std::process::ExitCode;

/// Counts words until the server ends the stream.
#[derive(clap::Args)]
struct Options {
    /// The server's host and port
    address: String,
}

fn main() -> ExitCode {
    rivermark::run_with(|env, options: Options| {
        let lines = SocketSource::lines(options.address).at_most_once();
        env.from_source(lines, WatermarkStrategy::none())
            .uid("lines")
            .flat_map(|line| line.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>())
            .map(|word| (word, 1u64))
            .key_by(|(word, _)| word.clone())
            .reduce(|sum, (word, n)| (word, sum.1 + n))
            .uid("counts")
            .sink_to(PrintSink::new(|(word, n): &(String, u64)| {
                format!("{n:6} {word}")
            }));
        Ok(())
    })
}
