//! A job that keeps 500 sums and never ends, and the command that looks at what it leaves.

use rivermark::prelude::*;
use std::path::Path;
use std::process::Command;

/// Runs the job until a checkpoint has all keys, takes `more` after that, and cancels it. The number of the first of these.
pub fn run(dir: &Path, from: &str, more: u64) -> u64 {
    let env = StreamEnv::new();
    env.set_parallelism(2);
    env.generate(u64::MAX / 2, |n| n)
        .uid("numbers")
        .key_by(|n| n % 500)
        .reduce(|sum, n| sum ^ n)
        .name("sums")
        .uid("sums")
        .filter(|_| false)
        .sink_to(CollectSink::new(Collected::bounded(1)))
        .name("nowhere/")
        .uid("nowhere");
    let mut config = Config::default();
    config.set("execution.checkpointing.dir", dir.display().to_string());
    config.set("execution.checkpointing.interval", "10 h");
    config.set("execution.checkpointing.num-retained", "2");
    config.set("execution.state-recovery.path", from);
    config.set("pipeline.name", "sums");
    let job = env.start_with(config).unwrap();
    let control = job.control();
    let id = loop {
        let id = job.block_on(control.checkpoint_now()).unwrap();
        if control.stats().checkpoints.last().unwrap().rows == 500 {
            break id.0;
        }
    };
    for next in 1..=more {
        assert_eq!(job.block_on(control.checkpoint_now()).unwrap().0, id + next);
    }
    control.cancel();
    job.wait().unwrap();
    id
}

/// A subcommand on a directory: exit code, standard output, standard error.
pub fn rivermark(arguments: &[&str], dir: &Path) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rivermark"));
    let output = command.args(arguments).arg(dir).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}
