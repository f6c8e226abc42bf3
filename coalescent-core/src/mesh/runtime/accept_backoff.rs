//! When to accept again after a failure to accept.

use std::io;
use std::time::Duration;

/// The pause after the first failure to accept: 50 ms.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause after failures to accept: 1 s.
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Decides how long to pause after a failure to accept: 50 ms, doubling up to 1 s.
///
/// If the process has run out of file descriptors, the connection stays in the kernel's queue, and
/// accepting again without a pause would fail in a busy loop.
#[derive(Debug, Default)]
pub(crate) struct AcceptBackoff {
    /// The last pause, unless a connection was accepted since.
    pause: Option<Duration>,
}

impl AcceptBackoff {
    /// Returns the pause after a failure, or `None` if the error concerns only one connection. That
    /// connection has left the kernel's queue, so the next can be accepted at once.
    pub(crate) fn failed(&mut self, error: &io::Error) -> Option<Duration> {
        if is_of_one_connection(error.kind()) {
            return None;
        }
        let pause = self
            .pause
            .map_or(ACCEPT_PAUSE, |last| (last * 2).min(ACCEPT_PAUSE_MAX));
        self.pause = Some(pause);
        self.pause
    }

    /// Resets the pause, after a connection was accepted.
    pub(crate) fn succeeded(&mut self) {
        self.pause = None;
    }
}

/// Whether an error of `accept` is one that a connection had before it was accepted. On Linux these
/// include errors of the network.
fn is_of_one_connection(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_with_each_failure_that_is_not_of_one_connection() {
        let mut backoff = AcceptBackoff::default();
        let full = io::Error::from_raw_os_error(24);
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(backoff.failed(&reset), None);
        for millis in [50, 100, 200, 400, 800, 1000, 1000] {
            assert_eq!(backoff.failed(&full), Some(Duration::from_millis(millis)));
            assert_eq!(backoff.failed(&reset), None);
        }
        backoff.succeeded();
        assert_eq!(backoff.failed(&full), Some(ACCEPT_PAUSE));
    }
}
