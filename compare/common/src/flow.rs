//! Numbered payloads, and a bound on the messages in flight.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::Failed;

/// Returns a payload that equals no other: the publisher, the number of the message, and filler.
#[must_use]
pub fn payload(publisher: usize, number: u64, size: usize) -> Vec<u8> {
    let mut payload = vec![0x5a; size];
    payload[..8].copy_from_slice(&(((publisher as u64) << 48) | number).to_be_bytes());
    payload
}

/// Returns the publisher and the number of a payload.
///
/// # Errors
///
/// Where [`payload`] has not made it.
pub fn numbered(payload: &[u8]) -> Result<(usize, u64), Failed> {
    let first = payload.first_chunk().ok_or("this is no payload")?;
    let counter = u64::from_be_bytes(*first);
    Ok(((counter >> 48) as usize, counter & ((1 << 48) - 1)))
}

/// The messages of one publisher that are in flight.
///
/// A node whose queues are full drops messages. A publisher that wants all of them delivered has to
/// know how far its subscribers are. Here they run in the same process, so it costs them little to
/// tell.
#[derive(Debug)]
pub struct Flow {
    /// For each subscriber, one more than the last number that it has received.
    heard: Vec<AtomicU64>,
    window: u64,
    moved: Notify,
    lost: AtomicU64,
}

impl Flow {
    /// Makes a flow with at most `window` messages in flight.
    #[must_use]
    pub fn new(subscribers: usize, window: u64) -> Self {
        Self {
            heard: (0..subscribers).map(|_| AtomicU64::new(0)).collect(),
            window: window.max(1),
            moved: Notify::new(),
            lost: AtomicU64::new(0),
        }
    }

    /// Notes that a subscriber has received a message.
    pub fn note(&self, subscriber: usize, number: u64) {
        let expected = self.heard[subscriber].swap(number + 1, Relaxed);
        // Messages from before its subscription are not lost.
        if expected > 0 && number > expected {
            self.lost.fetch_add(number - expected, Relaxed);
        }
        // Waking the publisher for each message would cost more than eight times a window.
        if (number + 1).is_multiple_of((self.window / 8).max(1)) {
            self.moved.notify_one();
        }
    }

    /// Returns how many messages may follow the first `sent`, of which `given_up` are no longer
    /// waited for.
    #[must_use]
    pub fn room(&self, sent: u64, given_up: u64) -> u64 {
        let heard = self.heard.iter().map(|heard| heard.load(Relaxed)).min();
        (heard.unwrap_or(0).max(given_up) + self.window).saturating_sub(sent)
    }

    /// Waits until subscribers have received more, and returns true; returns false after 500 ms, by
    /// when missing messages must be lost.
    pub async fn moved(&self) -> bool {
        timeout(Duration::from_millis(500), self.moved.notified())
            .await
            .is_ok()
    }

    /// Returns the number of messages that subscribers have missed, summed over all of them.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }
}
