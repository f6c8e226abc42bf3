//! What roles print, and when servers end.

use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;

/// What ends a role early: one line for the person.
pub(crate) type Failed = Box<dyn std::error::Error + Send + Sync>;

/// How long a role waits for what should take no time before it gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Prints one object on a line of its own.
pub(crate) fn print(object: &Value) {
    let mut stdout = std::io::stdout().lock();
    // Whoever started this has gone if it fails, and will not read why.
    let _ = writeln!(stdout, "{object}");
    let _ = stdout.flush();
}

/// Is done once stdin has ended.
pub(crate) fn stdin_ends() -> oneshot::Receiver<()> {
    let (ended, wait) = oneshot::channel();
    std::thread::spawn(move || {
        let mut nothing = [0; 64];
        while matches!(std::io::stdin().read(&mut nothing), Ok(read) if read > 0) {}
        let _ = ended.send(());
    });
    wait
}

/// Says what is wrong with the arguments.
pub(crate) fn refuse(wrong: &str) -> ExitCode {
    eprintln!("gossipsub: {wrong}");
    ExitCode::from(2)
}

/// The exit status of a role, after one line about what went wrong, if anything did.
pub(crate) fn exit(result: Result<(), Failed>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gossipsub: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The value that so much of the sorted values is below.
pub(crate) fn percentile(sorted: &[f64], part: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted
        .get((last as f64 * part).round() as usize)
        .copied()
        .unwrap_or(0.0)
}

/// How much processor time this process has used, in seconds.
pub(crate) fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
