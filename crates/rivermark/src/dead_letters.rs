//! Where dead letters go that no stream of the job takes: to files, a JSON object a line, each letter once.
//!
//! A job that keeps its state has a folder of its name for all its runs. One that keeps nothing begins anew with every
//! start, so each start has a folder of its own in it.

use rivermark_config::{Config, ConfigError, OnBadRecord};
use rivermark_connector::{Sink, Undecodable};
use rivermark_data::DeadLetter;
use rivermark_env::Env;
use rivermark_files::FileSink;
use rivermark_format::JsonLines;
use rivermark_runtime::SubtaskInfo;
use rivermark_stream::{FailingRow, GuaranteeMode, StreamEnv};
use rivermark_types::Result;
use std::path::{Path, PathBuf};

/// The uid of the sink of untaken dead letters.
const UID: &str = "rivermark-dead-letters";

/// Files of dead letters. Under at-least-once a letter may come twice, as everything may.
struct DeadLetterFiles {
    files: FileSink<JsonLines<DeadLetter>>,
    exactly_once: bool,
}

impl Sink for DeadLetterFiles {
    type Writer = <FileSink<JsonLines<DeadLetter>> as Sink>::Writer;

    fn name(&self) -> String {
        "dead letters".to_owned()
    }

    fn is_exactly_once(&self) -> bool {
        self.exactly_once
    }

    fn writer(&self, env: &Env, info: &SubtaskInfo) -> Result<Self::Writer> {
        self.files.writer(env, info)
    }
}

/// What the configuration says of bad records, for a graph whose code may say otherwise.
pub(crate) fn configure(graph: &StreamEnv, config: &Config) -> Result<(), Vec<ConfigError>> {
    let wanted = crate::launch::provisional(config)?.bad_records;
    let undecodable = match wanted.undecodable {
        OnBadRecord::Fail => Undecodable::Fail,
        OnBadRecord::Skip => Undecodable::Skip,
        OnBadRecord::DeadLetter => Undecodable::DeadLetter,
    };
    let failing_row = match wanted.failing_row {
        OnBadRecord::DeadLetter => FailingRow::DeadLetter,
        OnBadRecord::Fail | OnBadRecord::Skip => FailingRow::Fail,
    };
    graph.configure_bad_records(undecodable, failing_row);
    Ok(())
}

/// Gives a finished graph the sink for dead letters that nobody takes, if there are any.
pub(crate) fn attach(env: &Env, graph: &StreamEnv, config: &Config) -> Result<(), Vec<ConfigError>> {
    let Some(letters) = graph.untaken_dead_letters() else {
        return Ok(());
    };
    let settings = crate::launch::provisional(config)?;
    let name = graph.name();
    let name = name.as_ref().map_or(crate::launch::UNNAMED, |name| name.as_str());
    let dir = Path::new(&settings.bad_records.dead_letters_dir).join(name);
    let kept = settings.checkpoint.dir.is_some();
    let sink = DeadLetterFiles {
        files: FileSink::json(if kept { dir } else { of_this_start(env, &dir) }),
        exactly_once: graph.mode() == GuaranteeMode::ExactlyOnce,
    };
    let _ = letters.sink_to(sink).uid(UID).set_parallelism(1);
    Ok(())
}

fn of_this_start(env: &Env, dir: &Path) -> PathBuf {
    let date = crate::wording::date(env.wall_clock());
    let stamp: String = date.chars().filter(char::is_ascii_digit).collect();
    dir.join(format!("{stamp}-{:08x}", env.random_u64() as u32))
}
