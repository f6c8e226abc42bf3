//! How long an address pauses after a failure or a loss.

use std::time::Duration;

/// The shortest pause before an address is dialled again, whatever the jitter is: 50 ms. Without
/// it, an address that refuses at once could be dialled in a busy loop.
pub(crate) const MIN_DELAY: Duration = Duration::from_millis(50);

/// The default of [`Backoff::soon`]: 5 s.
pub(crate) const SOON: Duration = Duration::from_secs(5);

/// The default of [`Backoff::soon_for`]: 3 min.
pub(crate) const SOON_FOR: Duration = Duration::from_secs(3 * 60);

/// Exponential backoff with full jitter.
///
/// The pause is a random time of at most `initial` after the first failure, of at most `factor`
/// times that after the second, and so on. For a while after a connection was lost, it is at most
/// `soon`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    /// The longest pause after one failure. Default: 0.5 s.
    pub(crate) initial: Duration,
    /// The factor by which the longest pause grows with each further failure. Default: 2.
    pub(crate) factor: u32,
    /// The upper bound of all pauses. Default: 60 s.
    pub(crate) max: Duration,
    /// The longest pause while a lost connection is likely to come back. Default: 5 s.
    pub(crate) soon: Duration,
    /// How long that is, from the loss. Default: 3 min.
    pub(crate) soon_for: Duration,
    /// How long a connection must have been up to reset the number of failures. One that ends
    /// earlier counts as a failure, so that an address that accepts and closes is not dialled too
    /// often. Default: 30 s.
    pub(crate) reset_after: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(500),
            factor: 2,
            max: Duration::from_secs(60),
            soon: SOON,
            soon_for: SOON_FOR,
            reset_after: Duration::from_secs(30),
        }
    }
}

impl Backoff {
    /// Returns the longest pause after `failures` failures in a row. After none it is that of one
    /// failure: if a peer restarts, those that it drops must not all come back at once.
    pub(super) fn cap(&self, failures: u32) -> Duration {
        let factor = self
            .factor
            .checked_pow(failures.saturating_sub(1))
            .unwrap_or(u32::MAX);
        self.initial.saturating_mul(factor).min(self.max)
    }
}
