//! Waits that end with their condition, or fail the test.

use std::time::Duration;

/// How long a condition may take before a test fails. Only failures take this long.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Waits for what must happen.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    soon(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
