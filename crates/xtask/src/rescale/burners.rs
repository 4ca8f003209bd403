//! Processes that do nothing but take the cores' time away from the jobs.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The name under which this executable is a burner.
pub(crate) const NAME: &str = "rivermark-burner";

/// Burns until its standard input is closed: it goes with the command that started it, however that ends.
pub(crate) fn main() -> ExitCode {
    let is_over = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            is_over.store(true, Ordering::Relaxed);
        });
        while !is_over.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    });
    ExitCode::SUCCESS
}

/// One burner a core. Dropping it stops them.
pub(super) struct Burners(Vec<Child>);

impl Burners {
    /// Starts them.
    pub(super) fn start() -> Result<Burners, String> {
        let why = |error: std::io::Error| format!("a process that burns a core cannot be started: {error}");
        let executable = std::env::current_exe().map_err(why)?;
        let cores = std::thread::available_parallelism().map_err(why)?.get();
        let mut burners = Burners(Vec::new());
        for _ in 0..cores {
            let mut command = Command::new(&executable);
            let child = command.arg0(NAME).stdin(Stdio::piped()).spawn();
            burners.0.push(child.map_err(why)?);
        }
        Ok(burners)
    }
}

impl Drop for Burners {
    fn drop(&mut self) {
        for burner in &mut self.0 {
            drop(burner.stdin.take());
            let _ = burner.wait();
        }
    }
}
