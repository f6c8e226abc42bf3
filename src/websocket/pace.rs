//! A limit of messages per second.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

const SECOND: Duration = Duration::from_secs(1);

/// Counts the messages of the current second.
pub(super) struct Pace {
    max: u32,
    left: u32,
    /// The end of the current second.
    until: Pin<Box<Sleep>>,
}

impl Pace {
    pub(super) fn new(max: u32) -> Self {
        let max = max.max(1);
        Self {
            max,
            left: max,
            until: Box::pin(sleep_until(Instant::now() + SECOND)),
        }
    }

    /// Waits until another message may be read.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.left == 0 {
            ready!(self.until.as_mut().poll(cx));
        }
        Poll::Ready(())
    }

    pub(super) fn count(&mut self) {
        let now = Instant::now();
        if now >= self.until.deadline() {
            self.until.as_mut().reset(now + SECOND);
            self.left = self.max;
        }
        self.left = self.left.saturating_sub(1);
    }
}
