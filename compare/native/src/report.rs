//! What roles print.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

/// What ends a role early: one line for the person.
pub type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Prints one object on a line of its own.
pub fn print(object: &Value) {
    let mut stdout = std::io::stdout().lock();
    // Whoever started this has gone if it fails, and will not read why.
    let _ = writeln!(stdout, "{object}");
    let _ = stdout.flush();
}

/// Says where a server can be reached, and waits until its stdin ends.
pub async fn serve(addr: impl Display) {
    print(&json!({ "listening": addr.to_string() }));
    let mut stdin = tokio::io::stdin();
    let mut nothing = [0; 64];
    while matches!(stdin.read(&mut nothing).await, Ok(read) if read > 0) {}
}

/// Runs a role in a task of its own, among those of its connections, as a server's handlers run:
/// the thread that waits for the runtime's end is no part of it, and to wake it would be measured
/// too.
///
/// # Errors
///
/// Those of the role, and its panic.
pub async fn in_task(
    role: impl Future<Output = Result<(), Failed>> + Send + 'static,
) -> Result<(), Failed> {
    tokio::spawn(role).await?
}

/// Ends a process as its role ended, and says what went wrong in one line.
pub fn exit(result: Result<(), Failed>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// How long each of many things took.
#[derive(Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        // Three digits, up to ten seconds: these bounds are always taken.
        Self(
            Histogram::new_with_bounds(1, 10_000_000_000, 3)
                .unwrap_or_else(|_| unreachable_histogram()),
        )
    }
}

fn unreachable_histogram() -> Histogram<u64> {
    Histogram::new(1).unwrap_or_else(|error| panic!("one digit is always taken: {error}"))
}

impl Latencies {
    /// Adds one.
    pub fn add(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.saturating_record(nanos);
    }

    /// The result object of a role that measures latency.
    #[must_use]
    pub fn report(&self, began: Instant) -> Value {
        let micros = |quantile| self.0.value_at_quantile(quantile) as f64 / 1e3;
        json!({
            "messages": self.0.len(),
            "seconds": began.elapsed().as_secs_f64(),
            "p50_us": micros(0.5),
            "p99_us": micros(0.99),
        })
    }
}

/// The processor time that this process has used.
#[must_use]
pub fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
