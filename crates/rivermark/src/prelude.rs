//! What a job needs: `use rivermark::prelude::*;`.

pub use crate::local::{CollectedRows, Embedded, LocalJob};
pub use rivermark_config::Config;
pub use rivermark_files::{FileSink, FileSource};
pub use rivermark_job::{JobControl, JobEnd};
pub use rivermark_sockets::{SocketSink, SocketSource};
pub use rivermark_stream::*;
pub use std::time::Duration;
