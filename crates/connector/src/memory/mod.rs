//! Sources and sinks without a system behind them: for tests, examples and measurements.
//!
//! Layout: [`collection`] (a vector), [`generator`] (numbers, and what a function makes of them), [`collect`] (rows back
//! to the program, exactly once), [`print`](mod@print) (standard output), [`discard`] (nowhere).

pub mod collect;
pub mod collection;
pub mod discard;
pub mod generator;
pub mod print;

pub use collect::{CollectSink, Collected};
pub use collection::CollectionSource;
pub use discard::DiscardNode;
pub use generator::{GeneratorSource, endless_sequence, sequence};
pub use print::PrintSink;
