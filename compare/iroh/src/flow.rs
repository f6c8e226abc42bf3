//! Payloads, and how many of them may be under way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::timeout;

/// A payload that no other is equal to: which one of which publisher it is, and filler.
pub(crate) fn payload(publisher: usize, number: u64, size: usize) -> Bytes {
    let mut payload = vec![0x5a; size];
    payload[..8].copy_from_slice(&(((publisher as u64) << 48) | number).to_be_bytes());
    payload.into()
}

/// Which publisher sent a payload, and which of its payloads it is.
pub(crate) fn numbered(payload: &[u8]) -> Option<(usize, u64)> {
    let counter = u64::from_be_bytes(payload.get(..8)?.try_into().ok()?);
    Some(((counter >> 48) as usize, counter & ((1 << 48) - 1)))
}

/// What the subscribers have heard of one publisher, so that it does not get too far ahead of them.
///
/// A node whose application is behind by more than 256 messages loses some, so a publisher that
/// wants all of it delivered has to know how far its subscribers are. Here they are in the same
/// process, and it costs them little.
#[derive(Debug)]
pub(crate) struct Flow {
    /// For each subscriber, one more than the last number that it has heard.
    heard: Vec<AtomicU64>,
    window: u64,
    moved: Notify,
    lost: AtomicU64,
}

impl Flow {
    /// At most so many messages are under way.
    pub(crate) fn new(subscribers: usize, window: u64) -> Self {
        Self {
            heard: (0..subscribers).map(|_| AtomicU64::new(0)).collect(),
            window: window.max(1),
            moved: Notify::new(),
            lost: AtomicU64::new(0),
        }
    }

    /// Notes what a subscriber has heard.
    pub(crate) fn note(&self, subscriber: usize, number: u64) {
        let expected = self.heard[subscriber].swap(number + 1, Ordering::Relaxed);
        // What was sent before it had subscribed is not lost.
        if expected > 0 && number > expected {
            self.lost.fetch_add(number - expected, Ordering::Relaxed);
        }
        // Eight times in each window is often enough, and not for each message.
        if (number + 1).is_multiple_of((self.window / 8).max(1)) {
            self.moved.notify_one();
        }
    }

    /// One more than the last number that all subscribers have heard.
    pub(crate) fn all_heard(&self) -> u64 {
        let heard = self.heard.iter().map(|heard| heard.load(Ordering::Relaxed));
        heard.min().unwrap_or(0)
    }

    /// How many more may be sent after so many, where some are no longer waited for.
    pub(crate) fn room(&self, sent: u64, given_up: u64) -> u64 {
        (self.all_heard().max(given_up) + self.window).saturating_sub(sent)
    }

    /// Waits until subscribers have heard more, or for so long that what is missing must be taken
    /// for lost.
    ///
    /// Returns whether they have.
    pub(crate) async fn moved(&self) -> bool {
        timeout(Duration::from_millis(500), self.moved.notified())
            .await
            .is_ok()
    }

    /// How many messages subscribers have missed, summed.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}
