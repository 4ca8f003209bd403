//! The log: `tracing` events on standard error, above the live line.

use crate::console::Console;
use tracing_subscriber::EnvFilter;

/// What is logged, unless `RUST_LOG` says it in detail.
pub(crate) fn level(quiet: bool, verbose: u8) -> &'static str {
    match (quiet, verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "info",
        (false, 2) => "debug",
        (false, _) => "trace",
    }
}

/// Starts logging. A program that has set up a log of its own keeps it.
pub(crate) fn start(console: &Console, level: &str) {
    let wanted = std::env::var("RUST_LOG").ok().filter(|wanted| !wanted.is_empty());
    let filter = wanted.as_deref().unwrap_or(level).parse::<EnvFilter>();
    let filter = filter.unwrap_or_else(|error| {
        console.line(&format!("note: RUST_LOG is ignored: {error}"));
        EnvFilter::new(level)
    });
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(console.clone())
        .with_ansi(Console::has_colours())
        .without_time()
        .try_init();
}
