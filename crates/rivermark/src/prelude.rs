//! What a job needs: `use rivermark::prelude::*;`.

pub use crate::local::Embedded;
pub use rivermark_files::{FileSink, FileSource};
pub use rivermark_stream::*;
pub use std::time::Duration;
