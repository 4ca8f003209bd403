//! A job as a process of its own: started, listened to, stopped and continued, killed, waited for.

use super::job;
use super::phase::Progress;
use super::place::JobPlace;
use rivermark::announce::Announcement;
use rivermark_env::Env;
use rivermark_types::Millis;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

/// A job that says nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);
const CHECKPOINT_INTERVAL: &str = "execution.checkpointing.interval=60 ms";

/// How a job is started.
#[derive(Clone, Copy)]
pub(super) struct Start {
    pub(super) parallelism: u32,
    /// Records a second.
    pub(super) rate: u64,
}

/// A started job. Dropping it kills it.
pub(crate) struct Process {
    env: Env,
    child: Child,
    pipe: ChildStdout,
    unread: Vec<u8>,
    errors: PathBuf,
    /// What it has said so far.
    pub(super) progress: Progress,
}

/// What came of listening.
pub(crate) enum Heard {
    Said(Announcement),
    /// Nothing in time.
    Nothing,
    /// The process has ended.
    Closed,
}

/// How a process ended by itself.
pub(crate) struct Exit {
    pub(super) status: ExitStatus,
    /// What it wrote to standard error.
    pub(super) errors: String,
    pub(super) progress: Progress,
}

impl Exit {
    /// An end that nobody asked for is a failure of the test.
    pub(crate) fn expect_success(&self) -> Result<(), String> {
        match self.status.success() {
            true => Ok(()),
            false => Err(format!(
                "the job failed by itself ({}): {}",
                self.status,
                self.errors.trim()
            )),
        }
    }
}

impl Process {
    /// Starts the job where the last start of it left off.
    pub(super) fn start(env: &Env, place: &JobPlace, number: usize, start: Start) -> Result<Process, String> {
        Process::launch(env, job::NAME, place.errors(number), |command| {
            command
                .args(["--parallelism", &start.parallelism.to_string()])
                .args(["--rate", &start.rate.to_string()])
                .args(["--set", CHECKPOINT_INTERVAL])
                .arg("--set")
                .arg(format!("execution.checkpointing.dir={}", place.state().display()))
                .arg("--input")
                .arg(&place.input)
                .arg("--output")
                .arg(place.output());
        })
    }

    /// Starts this executable under a job's name, where the job's last start left off. What it writes to standard error
    /// goes to a file.
    pub(crate) fn launch(
        env: &Env,
        name: &str,
        errors: PathBuf,
        configure: impl FnOnce(&mut Command),
    ) -> Result<Process, String> {
        let launch = || -> io::Result<(Child, Option<ChildStdout>)> {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg0(name);
            command.args(["--from", "latest", "--quiet", "--announce", "/dev/stdout"]);
            configure(&mut command);
            let mut child = command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(File::create(&errors)?)
                .spawn()?;
            let pipe = child.stdout.take();
            Ok((child, pipe))
        };
        match launch() {
            Ok((child, Some(pipe))) => Ok(Process {
                env: env.clone(),
                child,
                pipe,
                unread: Vec::new(),
                errors,
                progress: Progress::default(),
            }),
            Ok((_, None)) => Err("the job has no standard output".into()),
            Err(error) => Err(format!("the job cannot be started: {error}")),
        }
    }

    /// The next announcement, if it comes in time.
    pub(crate) fn listen(&mut self, until: Millis) -> Result<Heard, String> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                let announcement: Announcement = String::from_utf8_lossy(&line)
                    .trim_end()
                    .parse()
                    .map_err(|failure| format!("the job announces nonsense: {failure}"))?;
                self.progress.note(announcement);
                return Ok(Heard::Said(announcement));
            }
            let readable = wait_readable(&self.pipe, until.since(self.env.now()));
            if !readable.map_err(|error| format!("the job cannot be listened to: {error}"))? {
                return Ok(Heard::Nothing);
            }
            let mut bytes = [0; 4096];
            match self.pipe.read(&mut bytes) {
                Ok(0) => return Ok(Heard::Closed),
                Ok(read) => self.unread.extend_from_slice(&bytes[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("the job cannot be listened to: {error}")),
            }
        }
    }

    /// The next announcement, or `None` when the process has ended. One that hangs is an error.
    pub(crate) fn hear(&mut self) -> Result<Option<Announcement>, String> {
        match self.listen(self.env.now().after(PATIENCE))? {
            Heard::Said(announcement) => Ok(Some(announcement)),
            Heard::Closed => Ok(None),
            Heard::Nothing => Err(format!(
                "the job hangs: nothing was heard of it for {} s",
                PATIENCE.as_secs()
            )),
        }
    }

    /// Listens for a while; false if the process ended before.
    pub(super) fn hear_for(&mut self, time: Duration) -> Result<bool, String> {
        let until = self.env.now().after(time);
        loop {
            match self.listen(until)? {
                Heard::Said(_) => {}
                Heard::Nothing => return Ok(true),
                Heard::Closed => return Ok(false),
            }
        }
    }

    /// Kills it hard and hears what it still said. An end of its own before that must have been a good one: `None`.
    pub(crate) fn kill(mut self) -> Result<Option<Progress>, String> {
        self.child
            .kill()
            .map_err(|error| format!("the job cannot be killed: {error}"))?;
        let exit = self.wait()?;
        match exit.status.signal() {
            Some(_) => Ok(Some(exit.progress)),
            None => exit.expect_success().map(|()| None),
        }
    }

    /// Listens until it ends by itself.
    pub(crate) fn wait(mut self) -> Result<Exit, String> {
        while self.hear()?.is_some() {}
        let status = self.child.wait().map_err(|error| cannot_wait(&error))?;
        let errors = fs::read_to_string(&self.errors);
        Ok(Exit {
            status,
            errors: errors.map_err(|error| format!("{}: {error}", self.errors.display()))?,
            progress: self.progress.clone(),
        })
    }

    /// Its number in the operating system.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to take a last checkpoint and end.
    pub(crate) fn terminate(&self) -> Result<(), String> {
        self.signal(Signal::TERM)
    }

    /// Stops it in the middle of whatever it does.
    pub(super) fn freeze(&self) -> Result<(), String> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    pub(super) fn thaw(&self) -> Result<(), String> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<(), String> {
        kill_process(Pid::from_child(&self.child), signal)
            .map_err(|error| format!("the job cannot be sent {signal:?}: {error}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Of one that has been waited for there is nothing left to kill, and std knows.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets time pass, more exactly than the clock's milliseconds.
pub(super) fn pause(time: Duration) {
    let _ = poll(&mut [], timespec(time).as_ref());
}

fn wait_readable(pipe: &ChildStdout, within: Duration) -> io::Result<bool> {
    let mut fds = [PollFd::new(pipe, PollFlags::IN)];
    match poll(&mut fds, timespec(within).as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// `None`, which waits for ever, only for times no clock can count.
fn timespec(time: Duration) -> Option<Timespec> {
    Timespec::try_from(time).ok()
}

fn cannot_wait(error: &io::Error) -> String {
    format!("the job cannot be waited for: {error}")
}
