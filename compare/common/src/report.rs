//! What roles print, and when servers end.

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// Prints an object on a line of its own.
pub fn print(object: &Value) {
    let mut stdout = io::stdout().lock();
    // This fails only if the reader has gone.
    let _ = writeln!(stdout, "{object}");
    let _ = stdout.flush();
}

/// Prints where a server can be reached, and waits until its stdin ends.
pub async fn serve(addr: impl Display) {
    print(&json!({ "listening": addr.to_string() }));
    stdin_ends().await;
}

/// Waits until stdin ends.
pub async fn stdin_ends() {
    let (ended, wait) = oneshot::channel();
    thread::spawn(move || {
        let mut discarded = [0; 64];
        while matches!(io::stdin().read(&mut discarded), Ok(read) if read > 0) {}
        let _ = ended.send(());
    });
    // An error would mean that the thread has gone, and so nobody reads stdin any more.
    let _ = wait.await;
}

/// A histogram of latencies: up to 10 s, to three digits.
#[derive(Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, 10_000_000_000, 3);
        Self(histogram.unwrap_or_else(|error| panic!("these bounds are valid: {error}")))
    }
}

impl Latencies {
    /// Adds one latency.
    pub fn add(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.saturating_record(nanos);
    }

    /// Returns the number of latencies.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Returns the result object of a role that measures latency.
    #[must_use]
    pub fn result(&self) -> Value {
        let micros = |quantile| self.0.value_at_quantile(quantile) as f64 / 1e3;
        json!({ "messages": self.count(), "p50_us": micros(0.5), "p99_us": micros(0.99) })
    }
}

/// Returns the CPU time that this process has used.
#[must_use]
pub fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(time.tv_sec.unsigned_abs(), nanos)
}
