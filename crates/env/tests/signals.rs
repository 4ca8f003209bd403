//! Signals are told one by one instead of ending the process. Alone in its binary: signals belong to the whole process.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use rivermark_env::RealEnv;
use std::process::Command;

fn send_to_self(signal: &str) {
    let status = Command::new("kill")
        .args([signal, &std::process::id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn each_request_to_end_is_told() {
    let real = RealEnv::start().unwrap();
    let mut signals = real.shutdown_signals().unwrap();
    real.block_on(async {
        send_to_self("-TERM");
        assert!(signals.next().await);
        send_to_self("-INT");
        assert!(signals.next().await);
    });
}
