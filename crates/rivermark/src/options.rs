//! The command line that every job has, beside the options of its own.
//!
//! Non-goal: what the options mean. [`crate::entry`] and [`crate::launch`] act on them.

use clap::{ArgAction, Args, Command, FromArgMatches};
use rivermark_config::{Config, ConfigError};
use rivermark_job::StartFrom;
use rivermark_types::CheckpointId;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The options of the engine.
#[derive(Args, Clone, Debug, Default)]
#[group(skip)]
pub(crate) struct EngineOptions {
    /// Subtasks of every operator that sets no number of its own
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=32_768))]
    pub(crate) parallelism: Option<u32>,

    /// A YAML file with configuration keys
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Sets one configuration key; may be given many times, and beats the file
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,

    /// Where to start: the newest checkpoint, a checkpoint by its number, or none of them
    ///
    /// latest: goes on where the last run of this job was, however it ended.
    /// none:   begins anew; checkpoints of earlier runs are kept.
    /// 17:     goes back to checkpoint 17; see --accept-duplicates.
    #[arg(long, value_name = "CHECKPOINT|latest|none", value_parser = start_from, verbatim_doc_comment)]
    pub(crate) from: Option<StartFrom>,

    /// Go back to an older checkpoint although sinks then publish again what came after it
    #[arg(long, requires = "from")]
    pub(crate) accept_duplicates: bool,

    /// Show tasks, exchanges and slots, and exit; `dot` for a picture by Graphviz
    #[arg(long, value_name = "text|dot", value_enum, num_args = 0..=1, default_missing_value = "text", require_equals = false)]
    pub(crate) explain_graph: Option<Explanation>,

    /// No progress, and no log but errors
    #[arg(long, short, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// More log: -v what the job does, -vv how (RUST_LOG says it in detail)
    #[arg(long, short, action = ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Write the job's phases to this file, one a line, for a program that watches it
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) announce: Option<PathBuf>,
}

/// The form in which a graph is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Explanation {
    /// Lines for people.
    Text,
    /// The language of Graphviz.
    Dot,
}

impl EngineOptions {
    /// What the command line sets, over the text of the file that it names.
    pub(crate) fn config(&self, file: Option<(&Path, &str)>) -> Result<Config, Vec<ConfigError>> {
        let mut config = Config::default();
        if let Some((path, text)) = file {
            config.add_yaml(&path.display().to_string(), text)?;
        }
        for argument in &self.set {
            config.add_argument(argument).map_err(|error| vec![error])?;
        }
        if let Some(parallelism) = self.parallelism {
            config
                .add_argument(&format!("parallelism.default={parallelism}"))
                .map_err(|error| vec![error])?;
        }
        Ok(config)
    }
}

/// No options of the job's own.
#[derive(Args, Clone, Copy, Debug)]
#[group(skip)]
pub(crate) struct NoOptions {}

/// Reads a command line, program name first. The error knows how to print itself; `--help` is one.
pub(crate) fn parse<A: Args>(arguments: &[OsString]) -> Result<(EngineOptions, A), clap::Error> {
    let program = arguments
        .first()
        .map_or_else(String::new, |path| program_name(Path::new(path)));
    let mut command = command::<A>(&program);
    let matches = command.try_get_matches_from_mut(arguments)?;
    let read = EngineOptions::from_arg_matches(&matches)
        .and_then(|engine| Ok((engine, A::from_arg_matches(&matches)?)));
    read.map_err(|error| error.format(&mut command))
}

fn program_name(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn command<A: Args>(program: &str) -> Command {
    let program = if program.is_empty() { "job" } else { program };
    // The job's own options first, and their struct's doc comment as the headline.
    let own = A::augment_args(Command::new("job"));
    let about = own
        .get_about()
        .cloned()
        .unwrap_or_else(|| "A Rivermark job".into());
    let long_about = own.get_long_about().cloned();
    let command = EngineOptions::augment_args(own.next_help_heading("Engine options"))
        .bin_name(program.to_owned())
        .about(about)
        .after_help(after_help(program));
    match long_about {
        Some(long) => command.long_about(long),
        None => command,
    }
}

fn after_help(program: &str) -> String {
    format!(
        "\
Examples:
  {program} --parallelism 4
      four subtasks of every operator; state in memory, gone with the process
  {program} --set execution.checkpointing.dir=state --set pipeline.name=mine
      a checkpoint every 10 s in state/mine; Ctrl-C takes a last one and says how to go on
  {program} --config job.yaml --from latest
      goes on where the last run was, after a stop, a crash or a power cut
  {program} --config job.yaml --from latest --parallelism 8
      the same with more subtasks
  {program} --explain-graph
      the tasks, exchanges and slots of the job, without running it
  {program} --explain-graph dot | dot -Tsvg > job.svg
      the same as a picture, by Graphviz

Keys are Flink's; the ones to know first:
  pipeline.name                      the job's name, under which its state is found again
  execution.checkpointing.dir        where checkpoints go (a directory)
  execution.checkpointing.interval   time between two, such as `500 ms` or `10 s`
  restart-strategy.type              what follows a failure: none, fixed-delay, exponential-delay

Exit codes: 0 finished or stopped, 1 the job failed, 2 wrong options, configuration, graph or checkpoint,
3 a newer start of the same job took over, 130 aborted by a second Ctrl-C."
    )
}

fn start_from(text: &str) -> Result<StartFrom, String> {
    match text {
        "latest" => Ok(StartFrom::Latest),
        "none" => Ok(StartFrom::Beginning),
        number => match number.parse() {
            Ok(id) => Ok(StartFrom::Checkpoint(CheckpointId(id))),
            Err(_) => Err("expected `latest`, `none` or the number of a checkpoint".to_owned()),
        },
    }
}

/// The command line that goes on from the newest checkpoint: this one, told to start there.
pub(crate) fn resume_line(arguments: &[OsString]) -> String {
    let mut words = Vec::new();
    let mut rest = arguments.iter().map(|argument| argument.to_string_lossy());
    while let Some(word) = rest.next() {
        match word.as_ref() {
            "--from" => drop(rest.next()),
            "--accept-duplicates" => {}
            other if other.starts_with("--from=") => {}
            other => words.push(quoted(other)),
        }
    }
    words.push("--from latest".to_owned());
    words.join(" ")
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::error::ErrorKind;

    /// Counts words.
    #[derive(Args, Debug)]
    struct WordOptions {
        /// Where the text is
        #[arg(long, default_value = "text")]
        input: String,
    }

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn read(line: &str) -> Result<(EngineOptions, WordOptions), clap::Error> {
        parse(&words(line))
    }

    #[test]
    fn the_options_of_engine_and_job_stand_side_by_side() {
        let (engine, own) =
            read("x/words --parallelism 3 --input books --set a=b --set c=d --from latest -v -v").unwrap();
        assert_eq!(own.input, "books");
        assert_eq!(
            (engine.parallelism, engine.verbose, engine.quiet),
            (Some(3), 2, false)
        );
        assert_eq!(engine.set, ["a=b", "c=d"]);
        assert_eq!(engine.from, Some(StartFrom::Latest));
        let (engine, own) = read("words").unwrap();
        assert_eq!(
            (engine.parallelism, engine.from, own.input.as_str()),
            (None, None, "text")
        );
    }

    #[test]
    fn a_start_is_latest_none_or_a_number() {
        let from = |word: &str| read(&format!("words --from {word}")).map(|(engine, _)| engine.from);
        assert_eq!(from("none").unwrap(), Some(StartFrom::Beginning));
        assert_eq!(from("17").unwrap(), Some(StartFrom::Checkpoint(CheckpointId(17))));
        let error = from("newest").unwrap_err().to_string();
        assert!(
            error.contains("expected `latest`, `none` or the number of a checkpoint"),
            "{error}"
        );
    }

    #[test]
    fn wrong_options_are_refused() {
        assert_eq!(
            read("words --paralelism 2").unwrap_err().kind(),
            ErrorKind::UnknownArgument
        );
        assert_eq!(
            read("words --parallelism 0").unwrap_err().kind(),
            ErrorKind::ValueValidation
        );
        assert_eq!(
            read("words -q -v").unwrap_err().kind(),
            ErrorKind::ArgumentConflict
        );
        assert_eq!(
            read("words --accept-duplicates").unwrap_err().kind(),
            ErrorKind::MissingRequiredArgument
        );
    }

    #[test]
    fn help_begins_with_the_job_and_shows_how_to_go_on() {
        let error = read("path/to/words --help").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DisplayHelp);
        let help = error.to_string();
        assert!(help.starts_with("Counts words"), "{help}");
        for expected in [
            "Usage: words",
            "--input",
            "Engine options:",
            "words --config job.yaml --from latest",
            "Exit codes",
        ] {
            assert!(help.contains(expected), "no {expected} in\n{help}");
        }
        assert!(!help.contains("announce"), "{help}");
    }

    #[test]
    fn the_command_line_beats_the_file() {
        let (engine, _) = read("words --set pipeline.name=b --parallelism 4").unwrap();
        let text = "pipeline.name: a\nparallelism.default: 2\nexecution.checkpointing.interval: 1 s\n";
        let config = engine.config(Some((Path::new("job.yaml"), text))).unwrap();
        assert_eq!(config.get("pipeline.name").unwrap().0, "b");
        assert_eq!(config.get("parallelism.default").unwrap().0, "4");
        assert_eq!(config.get("execution.checkpointing.interval").unwrap().0, "1 s");
    }

    #[test]
    fn the_resuming_line_is_this_one_told_to_start_at_the_newest_checkpoint() {
        let line = resume_line(&words(
            "./words --from 3 --accept-duplicates --input it's --from=none -q",
        ));
        assert_eq!(line, "./words --input 'it'\\''s' -q --from latest");
    }
}
